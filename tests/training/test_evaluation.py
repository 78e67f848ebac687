import json
import math
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import uproot
from click.testing import CliRunner
from scipy.stats import mannwhitneyu
from toy_jets import WIDE, toys, write_toys

import hepfm
from hepfm import cli
from hepfm.errors import InputError
from hepfm.inputs import constituent_inputs
from hepfm.table import JetTable
from hepfm.training.evaluation import Question, default_split, evaluate
from hepfm.training.finetune import finetune
from hepfm.training.finetuning import Finetuning
from hepfm.training.labels import Labels
from hepfm.training.prediction import predict, score_columns
from hepfm.training.robustness import View, compare_views
from hepfm.training.scoring import Tagger
from hepfm.training.source import Source
from hepfm.training.wording import report_lines


@pytest.fixture(scope="module")
def recipe(backbone, data):
    # Short of perfect, so that there is something to measure.
    return Finetuning(str(backbone), (str(data),), n_epochs=6, batch_size=32, learning_rate=2e-3, seed=4)


@pytest.fixture(scope="module")
def run(recipe, folder):
    finetune(recipe, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def tagger(run):
    return Tagger.load(str(run))


def hepfm_data(*arguments):
    return CliRunner().invoke(cli.cli, [str(word) for word in arguments], catch_exceptions=False)


def scores_by_hand(tagger, table):
    """One jet at a time, without padding."""
    values = constituent_inputs(table, tagger.inputs)
    found = []
    with torch.inference_mode():
        for start, stop in zip(table.offsets[:-1], table.offsets[1:], strict=True):
            jet = torch.from_numpy(values[None, start:stop])
            found.append(tagger.model(jet, torch.ones(1, stop - start, dtype=torch.bool)).logits.softmax(-1)[0].numpy())
    return np.array(found)


# --- scores beside jets ---


def test_scores_are_the_networks_own_in_the_order_of_the_jets(tagger):
    table = toys(60, seed=9)
    np.testing.assert_allclose(tagger.scores(table), scores_by_hand(tagger, table), atol=2e-6)


def read_back(path):
    if path.suffix == ".parquet":
        return {name: np.asarray(values) for name, values in pq.read_table(path).to_pydict().items()}
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: values[()] for name, values in file["jets"].items()}
    with uproot.open(path) as file:
        return file["jets"].arrays(library="np")


@pytest.mark.parametrize("suffix", [".parquet", ".h5", ".root"])
def test_scores_are_written_beside_what_identifies_the_jets(run, tagger, data, tmp_path, suffix):
    out = tmp_path / f"scores{suffix}"
    done = hepfm_data("predict", run, data, "--out", out)
    assert f"{out}: 400 jets, with score_QCD, score_Hbb" in done.stdout
    found, table = read_back(out), toys()
    np.testing.assert_allclose(found["score_Hbb"], tagger.scores(table)[:, 1], atol=1e-6)
    np.testing.assert_array_equal(found["event_id"], table.columns["event_id"])
    np.testing.assert_array_equal(found["jet_label"], table.columns["jet_label"])
    assert "variation" in found
    assert not any(name.startswith("part_") for name in found)


def test_text_beside_scores_can_be_read_in_every_format(run, small_campaign, tmp_path):
    names = {}
    for suffix in (".parquet", ".h5", ".root"):
        hepfm_data("predict", run, small_campaign[1], "--out", tmp_path / f"s{suffix}")
        names[suffix] = read_back(tmp_path / f"s{suffix}")["variation"]
    with uproot.open(tmp_path / "s.root") as file:
        words = json.loads(str(file["hepfm"]))["variation"]
    expected = hepfm.open(small_campaign[1]).read_table(["variation"]).columns["variation"].tolist()
    assert names[".parquet"].tolist() == expected
    assert [word.decode() for word in names[".h5"]] == expected
    assert [words[code] for code in names[".root"]] == expected


@pytest.mark.parametrize("suffix", [".parquet", ".root"])
def test_scored_jets_with_constituents_are_jets_again(run, tagger, data, tmp_path, suffix):
    out = tmp_path / f"jets{suffix}"
    hepfm_data("predict", run, data, "--out", out, "--constituents")
    again = hepfm.open(out).read_table()
    np.testing.assert_array_equal(again.constituents["part_deta"], toys().constituents["part_deta"])
    np.testing.assert_allclose(again.columns["score_Hbb"], tagger.scores(toys())[:, 1], atol=1e-6)


def test_jets_are_not_scored_over_older_scores(run, data, tmp_path):
    hepfm_data("predict", run, data, "--out", tmp_path / "once.parquet", "--constituents")
    with pytest.raises(InputError, match="has a column 'score_QCD' already"):
        hepfm_data("predict", run, tmp_path / "once.parquet", "--out", tmp_path / "twice.parquet")


def test_jets_are_not_replaced_by_their_scores(run, tmp_path):
    path = write_toys(tmp_path / "mine.parquet")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is read here, and would be replaced"):
        hepfm_data("predict", run, path, "--out", path)
    assert path.read_bytes() == before


def test_scores_go_to_a_format_that_is_known(run, data, tmp_path):
    with pytest.raises(InputError, match=r"unknown format '.csv'. Known: .parquet, .h5, .root"):
        hepfm_data("predict", run, data, "--out", tmp_path / "scores.csv")


def test_a_failed_prediction_leaves_no_file(run, tmp_path):
    table = toys(20)
    broken = JetTable(table.columns, table.offsets, {k: v for k, v in table.constituents.items() if k != "part_charge"})
    path = write_toys(tmp_path / "broken.parquet", broken)
    with pytest.raises(InputError, match="part_charge"):
        hepfm_data("predict", run, path, "--out", tmp_path / "scores.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["broken.parquet"]


def test_names_of_score_columns_are_names_everywhere(tagger):
    tagger.model.config.id2label = {0: "t→bqq′", 1: "QCD light"}
    try:
        assert score_columns(tagger) == ("score_t_bqq_", "score_QCD_light")
        tagger.model.config.id2label = {0: "W+", 1: "W-"}
        assert score_columns(tagger) == ("score_W_", "score_W__2")
    finally:
        tagger.model.config.id2label = {0: "QCD", 1: "Hbb"}


# --- figures of merit ---


def test_an_evaluation_agrees_with_scores_and_an_independent_library(tagger, data):
    found = evaluate(tagger, hepfm.open(data), Question(split=None))
    table = toys()
    score, is_wide = tagger.scores(table)[:, 1].astype(float), table.columns["jet_label"] == WIDE
    n_pairs = is_wide.sum() * (~is_wide).sum()
    assert found["auc"] == pytest.approx(mannwhitneyu(score[is_wide], score[~is_wide]).statistic / n_pairs, abs=1e-6)
    assert found["accuracy"]["value"] == pytest.approx(np.mean((score > 0.5) == is_wide))
    assert found["confusion"][0][1] == int(np.sum((score > 0.5) & ~is_wide))
    cut = np.sort(score[is_wide])[::-1][is_wide.sum() // 2 - 1]
    passing = np.mean(score[~is_wide] >= cut)
    assert (found["rejection"]["Hbb"]["0.5"]["value"] or math.inf) == pytest.approx(
        1 / passing if passing else math.inf
    )


def test_only_jets_of_the_test_split_are_measured(tagger, data):
    dataset = hepfm.open(data)
    found = evaluate(tagger, dataset, Question())
    assert found["n_jets"] == len(Source(dataset, "test").events())


def test_an_evaluation_is_json(run, data):
    done = hepfm_data("evaluate", run, data, "--json")
    assert json.loads(done.stdout)["n_jets"] > 0


def test_jets_of_classes_that_the_tagger_does_not_know_are_left_out_and_counted(tagger, tmp_path):
    table = toys(60)
    label = np.where(np.arange(60) < 10, 5, table.columns["jet_label"]).astype(np.int16)
    path = write_toys(
        tmp_path / "a.parquet", JetTable({**table.columns, "jet_label": label}, table.offsets, table.constituents)
    )
    found = evaluate(tagger, hepfm.open(path), Question(split=None))
    assert (found["n_jets"], found["n_left_out"]) == (50, 10)


def test_jets_without_a_class_of_the_tagger_are_an_error(tagger, tmp_path):
    table = toys(20)
    label = np.full(20, 7, np.int16)
    path = write_toys(
        tmp_path / "a.parquet", JetTable({**table.columns, "jet_label": label}, table.offsets, table.constituents)
    )
    with pytest.raises(InputError, match="no jet whose jet_label is a class QCD, Hbb"):
        evaluate(tagger, hepfm.open(path), Question(split=None))


def test_a_tagger_of_mixed_samples_is_measured_by_what_is_called_signal(recipe, folder, data, tmp_path):
    labels = Labels(classes=("QCD", "Hbb"), n_jets=200, signal_fraction=0.8)
    done = finetune(replace(recipe, labels=labels, n_epochs=6), tmp_path / "weak")
    question = Question(signal=("Hbb",), background=("QCD",), split="test")
    found = evaluate(Tagger(done.model), hepfm.open(data), question)
    assert found["auc_against_background"].keys() == {"Hbb"}
    assert found["auc"] > 0.8
    assert "confusion" not in found


def test_a_tagger_of_mixed_samples_without_a_signal_says_what_is_missing(recipe, data, tmp_path):
    labels = Labels(classes=("QCD", "Hbb"), n_jets=60, signal_fraction=0.8)
    done = finetune(replace(recipe, labels=labels, n_epochs=1), tmp_path / "weak")
    with pytest.raises(InputError, match=r"less_signal.*with --signal.*jet_label has QCD, Hbb"):
        evaluate(Tagger(done.model), hepfm.open(data), Question())


def test_classes_are_joined_to_signal_and_background(data, backbone, tmp_path):
    """Of three classes, one against the two others together."""
    table = toys()
    label = np.where(np.arange(400) % 4 == 0, 2, table.columns["jet_label"]).astype(np.int16)  # QCD, Hbb, Hcc
    three = JetTable({**table.columns, "jet_label": label}, table.offsets, table.constituents)
    path = write_toys(tmp_path / "three.parquet", three)
    done = finetune(Finetuning(str(backbone), (str(path),), n_epochs=3, learning_rate=3e-3), tmp_path / "run")
    tagger = Tagger(done.model)
    found = evaluate(tagger, hepfm.open(path), Question(signal=("Hbb",), background=("QCD", "Hcc"), split=None))
    score, is_signal = tagger.scores(three)[:, 1].astype(float), label == WIDE
    n_pairs = is_signal.sum() * (~is_signal).sum()
    assert found["classes"] == ["QCD+Hcc", "Hbb"]
    assert found["auc"] == pytest.approx(
        mannwhitneyu(score[is_signal], score[~is_signal]).statistic / n_pairs, abs=1e-4
    )


def test_a_background_that_the_tagger_calls_otherwise_is_what_is_not_signal(tagger, data, tmp_path):
    table = toys()
    renamed = np.where(table.columns["jet_label"] == WIDE, WIDE, WIDE + 1).astype(np.int16)  # QCD as Hcc
    path = write_toys(tmp_path / "a.parquet", replace(table, columns=table.columns | {"jet_label": renamed}))
    known = evaluate(tagger, hepfm.open(data), Question(signal=("Hbb",), background=("QCD",), split=None))
    other = evaluate(tagger, hepfm.open(path), Question(signal=("Hbb",), background=("Hcc",), split=None))

    assert known["auc"] > 0.6
    assert other["auc"] == pytest.approx(known["auc"], abs=1e-9)
    with pytest.raises(InputError, match="unknown class of the tagger 'Hcc'"):
        evaluate(tagger, hepfm.open(path), Question(signal=("Hcc",), background=("Hbb",), split=None))
    with pytest.raises(InputError, match="--signal names all classes of the tagger"):
        evaluate(tagger, hepfm.open(data), Question(signal=("Hbb", "QCD"), background=("QCD",), split=None))


def test_weights_that_differ_are_said_to_be_ignored(tagger, tmp_path):
    table = toys(60)
    for values, said in ((np.ones(60), False), (np.arange(60.0), True)):
        path = write_toys(tmp_path / f"{said}.parquet", replace(table, columns=table.columns | {"weight": values}))
        found = evaluate(tagger, hepfm.open(path), Question(split=None))
        assert found["has_weights"] is said
        assert any("weights are not used" in line for line in report_lines(found)) is said


def test_a_class_may_have_a_plus_in_its_name(data, backbone, tmp_path):
    table = toys()
    names = np.array(["Z+jets", "Hbb"])[table.columns["is_wide"].astype(int)]
    path = write_toys(tmp_path / "a.parquet", replace(table, columns=table.columns | {"process": names}))
    wanted = Finetuning(str(backbone), (str(path),), labels=Labels("process"), n_epochs=2, seed=1)
    tagger = Tagger(finetune(wanted, tmp_path / "run").model)
    asked = Question("process", signal=("Hbb",), background=("Z+jets",), split=None)
    found, alike = (
        evaluate(tagger, hepfm.open(path), asked),
        evaluate(tagger, hepfm.open(path), Question("process", split=None)),
    )

    assert (found["classes"], found["n_jets"], found["n_left_out"]) == (["Z+jets", "Hbb"], 400, 0)
    assert found["auc"] == pytest.approx(alike["auc_against_rest"]["Hbb"], abs=1e-4)


def test_a_predicted_number_is_measured_by_its_residuals(recipe, data, tmp_path):
    done = finetune(replace(recipe, task="regression", labels=Labels("jet_sdmass"), n_epochs=6), tmp_path / "run")
    tagger = Tagger(done.model)
    found = evaluate(tagger, hepfm.open(data), Question("jet_sdmass", split=None))
    residual = tagger.scores(toys())[:, 0] - toys().columns["jet_sdmass"]
    assert found["bias"]["value"] == pytest.approx(residual.mean(), rel=1e-4)
    assert found["mean_absolute_error"] == pytest.approx(np.abs(residual).mean(), rel=1e-4)
    assert score_columns(tagger) == ("predicted_jet_sdmass",)


# --- which jets ---


def test_data_that_trained_nothing_and_know_no_events_are_measured_whole(data, tmp_path):
    table = toys(50, seed=11)
    path = write_toys(
        tmp_path / "a.parquet", JetTable({"jet_label": table.columns["jet_label"]}, table.offsets, table.constituents)
    )
    assert default_split(hepfm.open(path), ["other"]) is None
    assert default_split(hepfm.open(data), ["other"]) == "test"


def test_data_that_trained_are_only_tested_on_their_test_split(recipe, tmp_path):
    table = toys()
    path = write_toys(
        tmp_path / "a.parquet", JetTable({"jet_label": table.columns["jet_label"]}, table.offsets, table.constituents)
    )
    finetune(replace(recipe, data=(str(path),), n_epochs=1), tmp_path / "run")
    tagger = Tagger.load(str(tmp_path / "run"))
    assert default_split(hepfm.open(path), tagger.digests) == "test"


def test_some_of_the_files_that_trained_are_not_taken_for_jets_that_did_not(recipe, tmp_path):
    """Without events a jet's split goes by its place in all files: of one of them nothing is known."""
    paths = []
    for seed in (1, 2):
        table = toys(60, seed=seed)
        columns = {"jet_label": table.columns["jet_label"]}
        paths.append(write_toys(tmp_path / f"{seed}.parquet", replace(table, columns=columns)))
    finetune(replace(recipe, data=(str(tmp_path / "*.parquet"),), n_epochs=1), tmp_path / "run")
    tagger, one = Tagger.load(str(tmp_path / "run")), hepfm.open(paths[0])

    with pytest.raises(InputError, match="shares files with the jets that trained"):
        default_split(one, tagger.digests)
    assert default_split(hepfm.open(paths), tagger.digests) == "test"
    assert evaluate(tagger, one, Question(split="test"))["has_training_jets"]
    assert not evaluate(tagger, hepfm.open(paths), Question(split="test"))["has_training_jets"]


def test_jets_of_one_class_have_an_accuracy_and_no_curve(tagger, tmp_path):
    path = write_toys(tmp_path / "a.parquet", toys(60).select(np.arange(1, 60, 2)))
    found = evaluate(tagger, hepfm.open(path), Question(split=None))
    assert found["n_jets"] == 30
    assert 0 <= found["accuracy"]["value"] <= 1
    assert (found["auc"], found["roc"]) == (None, {})
    assert "AUC" not in "".join(report_lines(found))


def test_jets_of_which_the_network_makes_no_number_are_an_error(recipe, tmp_path):
    broken = finetune(replace(recipe, n_epochs=1), tmp_path / "run").model
    with torch.no_grad():
        broken.head.output.bias.fill_(float("inf"))
    with pytest.raises(InputError, match="makes no number of 10 of 10 jets"):
        Tagger(broken).scores(toys(10))


@pytest.mark.parametrize(("split", "trained"), [("all", True), ("train", True), ("test", False)])
def test_jets_that_trained_are_pointed_out(run, data, split, trained):
    done = hepfm_data("evaluate", run, data, "--split", split)
    assert ("jets that trained the tagger are among them" in done.stdout) is trained


@pytest.mark.parametrize("n_constituents", [0, 10**12, "many", None])
def test_a_damaged_configuration_is_refused(run, tmp_path, n_constituents):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["finetuning"]["n_constituents"] = n_constituents
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="constituents"):
        Tagger.load(str(tmp_path / "run"))


# --- robustness ---


def views_of(tagger, tmp_path, **changes):
    """Two views of the same events in one file: as they are, and changed."""
    path = write_toys(tmp_path / "views.parquet", toys(), toys(**{"variation": "other", **changes}))
    return evaluate(tagger, hepfm.open(path), Question(split=None, n_bootstrap=20))["robustness"]


def test_equal_views_are_at_no_distance_and_have_no_spread(tagger, tmp_path):
    found = views_of(tagger, tmp_path)
    for name in ("QCD", "Hbb"):
        assert found["variations"]["other"][name]["wasserstein"]["value"] == 0
        assert found["variations"]["other"][name]["jensen_shannon"]["value"] == 0
        assert found["spread"][name]["value"] == pytest.approx(0, abs=1e-9)
        assert found["spread"][name]["n_jets"] == 200


def test_a_variation_that_changes_jets_moves_scores_beyond_chance(tagger, tmp_path):
    distance = views_of(tagger, tmp_path, stretch=2.0)["variations"]["other"]["QCD"]["wasserstein"]
    assert distance["value"] > distance["by_chance"] + 3 * distance["error"] > 0


def test_other_jets_of_the_same_kind_differ_as_much_as_by_chance(tagger, tmp_path):
    found = views_of(tagger, tmp_path, seed=12)
    for distance in found["variations"]["other"]["Hbb"].values():
        assert 0.4 < distance["value"] / distance["by_chance"] < 2.5
    assert found["spread"]["Hbb"]["relative"] == pytest.approx(1, abs=0.2)


def test_jets_that_nothing_identifies_are_no_views_of_each_other(tagger, tmp_path):
    tables = []
    for variation in ("nominal", "other"):
        table = toys(variation=variation)
        columns = {name: table.columns[name] for name in ("jet_label", "variation")}
        tables.append(JetTable(columns, table.offsets, table.constituents))
    path = write_toys(tmp_path / "views.parquet", *tables)
    found = evaluate(tagger, hepfm.open(path), Question(split=None, n_bootstrap=5))["robustness"]
    assert found["spread"] == {"QCD": None, "Hbb": None}
    assert found["variations"]["other"]["QCD"]["wasserstein"]["value"] == 0


def test_each_variation_is_measured_too(tagger, tmp_path):
    merit = views_of(tagger, tmp_path, stretch=2.0)["merit"]
    assert merit["other"]["accuracy"]["value"] < merit["nominal"]["accuracy"]["value"]


def test_a_class_of_few_jets_has_no_distance():
    few = View(np.full(5, 0.5), np.zeros(5, np.int64), np.arange(5), np.zeros(5, np.int64))
    found = compare_views({"a": few, "b": few}, ("QCD",), np.linspace(0, 1, 11), 5)
    assert found["variations"]["b"]["QCD"] is None


def test_a_part_of_the_jets_is_of_the_same_events_in_every_view(tagger, tmp_path):
    path = write_toys(tmp_path / "views.parquet", toys(), toys(variation="other"))
    found = evaluate(tagger, hepfm.open(path), Question(split=None, n_jets=100, n_bootstrap=2))
    assert 60 < found["n_jets"] < 140
    assert sum(s["n_jets"] for s in found["robustness"]["spread"].values()) == found["n_jets"]


def test_a_part_of_the_jets_is_of_the_same_events_where_a_view_has_fewer(tagger, tmp_path):
    path = write_toys(tmp_path / "views.parquet", toys(), toys(variation="other").select(np.arange(200)))
    found = evaluate(tagger, hepfm.open(path), Question(split=None, n_jets=100, n_bootstrap=2))["robustness"]
    n_other = sum(sum(counts) for counts in found["histograms"]["counts"]["other"].values())
    assert 30 < n_other < 70
    assert sum(spread["n_jets"] for spread in found["spread"].values()) == n_other


def test_a_campaign_of_two_variations_is_evaluated_by_one_command(run, small_campaign, tmp_path):
    done = hepfm_data("evaluate", run, small_campaign[1], "--split", "all", "--out", tmp_path / "evaluation")
    assert "quick-fsr-up to quick, Wasserstein / Jensen-Shannon" in done.stdout
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "evaluation.json",
        "roc.png",
        "confusion.png",
        "scores.png",
    }


@pytest.mark.parametrize(("out", "words"), [("file", "is a file"), ("file/folder", "Not a directory")])
def test_a_folder_that_cannot_be_is_refused_before_the_work(run, data, tmp_path, out, words):
    """The jets have no label that the work would find: it does not get as far."""
    (tmp_path / "file").write_text("mine")
    command = ["evaluate", str(run), str(data), "--label", "nothing", "--out", str(tmp_path / out)]
    done = CliRunner().invoke(cli.cli, command)
    assert words in done.output + str(done.exception)
    assert (tmp_path / "file").read_text() == "mine"


def test_scores_do_not_depend_on_how_many_jets_are_read_at_a_time(tagger, data, tmp_path, monkeypatch):
    source = Source(hepfm.open(data), None)
    monkeypatch.setattr("hepfm.training.scoring._PIECE", 33)
    done = predict(tagger, source, tmp_path / "s.parquet")
    assert done.n_jets == 400
    np.testing.assert_allclose(read_back(tmp_path / "s.parquet")["score_Hbb"], tagger.scores(toys())[:, 1], atol=2e-6)
