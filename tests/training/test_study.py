import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from toy_jets import tiny_backbone, toys, write_toys

import hepfm
from hepfm import cli
from hepfm.cards.run_figures import write_study_figures
from hepfm.cards.studies import study_command, study_sections
from hepfm.errors import InputError
from hepfm.models import AutoModel, JetBackbone, JetBackboneConfig
from hepfm.training import study as module
from hepfm.training.embedding import map_jets
from hepfm.training.study import Study, plan, run_study, study_table


@pytest.fixture(scope="module")
def wanted(backbone, data):
    return Study((str(backbone),), str(data), labels=(20, 60), n_seeds=2, modes=("scratch", "full"), n_epochs=1)


@pytest.fixture(scope="module")
def finished(wanted, folder):
    return folder / "out", run_study(wanted, folder / "out")


def trained(folder):
    """When each network of a study was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/model.safetensors")}


def test_a_study_has_a_row_for_every_mode_and_number_of_labels(finished):
    _, result = finished
    rows = {(row["mode"], row["n_labels"]): row for row in result["rows"]}
    assert rows.keys() == {(mode, n) for mode in ("scratch", "full") for n in (20, 60)}
    for row in rows.values():
        values = row["accuracy"]["values"]
        assert len(values) == row["n_runs"] == 2
        assert row["accuracy"]["mean"] == pytest.approx(np.mean(values))
        assert row["accuracy"]["spread"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))


def test_every_network_is_tested_on_the_same_jets(finished):
    folder, _ = finished
    evaluations = [json.loads(path.read_text()) for path in folder.glob("runs/*/evaluation.json")]
    assert len(evaluations) == 8
    assert len({json.dumps([e["data"], e["n_jets"]]) for e in evaluations}) == 1
    assert evaluations[0]["data"]["split"] == "test"


def test_a_finished_study_trains_nothing_again(finished, wanted):
    folder, first = finished
    before = trained(folder)
    assert run_study(wanted, folder) == first
    assert trained(folder) == before


def test_a_larger_study_trains_only_what_is_new(finished, wanted):
    folder, _ = finished
    before = trained(folder)
    run_study(replace(wanted, n_seeds=3, labels=(20,)), folder)
    after = trained(folder)
    assert before.items() <= after.items()
    scratch, full = sorted(after.keys() - before.keys(), key=lambda name: name.startswith("backbone"))
    assert full == "backbone-full-20-s3"
    assert re.fullmatch("[0-9a-f]{8}-scratch-20-s3", scratch)


def test_a_study_that_was_interrupted_goes_on(finished, wanted, tmp_path):
    _, whole = finished

    def interrupt(name, done, n_runs):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(wanted, tmp_path, report=interrupt)
    before = trained(tmp_path)
    assert len(before) == 3
    result = run_study(wanted, tmp_path)
    assert before.items() <= trained(tmp_path).items()
    assert result["rows"] == whole["rows"]


def test_networks_are_tested_again_on_other_data_without_training(finished, wanted, folder):
    """Another simulation: jets twice as wide."""
    out, first = finished
    other = write_toys(folder / "wide.parquet", toys(seed=21, stretch=1.6))
    before = trained(out)
    result = run_study(replace(wanted, test_data=str(other)), out)
    assert trained(out) == before
    assert result["test"]["name"] == str(other)
    assert result["rows"] != first["rows"]
    run_study(wanted, out)


def test_two_networks_of_one_architecture_share_what_is_trained_from_scratch(wanted, folder):
    second = tiny_backbone(folder / "second", seed=1)
    runs = plan(replace(wanted, checkpoints=(*wanted.checkpoints, str(second)), labels=(20,), n_seeds=1))
    assert [run.recipe.mode for run in runs] == ["scratch", "full", "full"]
    assert [run.name for run in runs[1:]] == ["backbone-full-20-s1", "second-full-20-s1"]


def test_a_study_that_grows_by_networks_keeps_what_is_trained_from_scratch(wanted, folder, tmp_path):
    """Whichever network is named first, and whether or not it was tested."""
    alike = tiny_backbone(folder / "alike", seed=1)
    JetBackbone(JetBackboneConfig(width=16, depth=1, heads=4, head_width=16)).save_pretrained(folder / "unlike")
    one = replace(wanted, labels=(20,), n_seeds=1, modes=("scratch",))
    more = replace(one, checkpoints=(str(alike), *one.checkpoints, str(folder / "unlike")))
    first = run_study(one, tmp_path)
    before = trained(tmp_path)
    grown = run_study(more, tmp_path)
    assert before.items() <= trained(tmp_path).items()
    assert len(trained(tmp_path)) == 2
    assert [row["network"] for row in grown["rows"]] == ["alike", "unlike"]
    assert grown["rows"][0] == first["rows"][0] | {"network": "alike"}

    for path in tmp_path.glob("runs/*/evaluation.json"):
        path.unlink()
    after = trained(tmp_path)
    assert run_study(more, tmp_path)["rows"] == grown["rows"]
    assert trained(tmp_path) == after


def test_networks_of_one_name_in_two_folders_are_told_apart(wanted, folder):
    second = tiny_backbone(folder / "other" / "backbone", seed=1)
    study = replace(wanted, checkpoints=(*wanted.checkpoints, str(second)), labels=(20,), n_seeds=1, modes=("full",))
    assert len({run.name for run in plan(study)}) == 2


def test_weak_supervision_is_studied_over_the_share_of_signal(wanted, tmp_path):
    study = replace(
        wanted,
        classes=("QCD", "Hbb"),
        labels=(60,),
        signal_fractions=(0.2, 0.9),
        n_seeds=1,
        modes=("full",),
        n_epochs=4,
    )
    result = run_study(study, tmp_path)
    assert [row["signal_fraction"] for row in result["rows"]] == [0.2, 0.9]
    assert all("accuracy" not in row for row in result["rows"])
    assert result["rows"][1]["auc"]["mean"] > result["rows"][0]["auc"]["mean"]


def test_views_of_the_test_jets_are_compared(wanted, tmp_path):
    """A variation that widens every jet moves scores; the same jets again do not."""
    data = write_toys(
        tmp_path / "views.parquet",
        toys(),
        toys(variation="again"),
        toys(variation="wide", stretch=2.0),
    )
    views = ("nominal", "again", "wide")
    study = replace(wanted, data=str(data), labels=(200,), n_seeds=1, modes=("full",), n_epochs=4, variations=views)
    result = run_study(study, tmp_path / "out")
    (row,), (histogram,), test = (result[name] for name in ("rows", "histograms", "test"))
    assert row["wasserstein_again"]["mean"] == row["by_chance_again"]["mean"] == 0
    assert row["wasserstein_wide"]["mean"] > 0.02
    assert row["by_chance_wide"]["mean"] < row["wasserstein_wide"]["mean"]
    evaluation = json.loads((tmp_path / "out" / "runs" / "backbone-full-200-s1" / "evaluation.json").read_text())
    assert histogram["counts"] == evaluation["robustness"]["histograms"]["counts"]
    spreads = [spread["value"] for spread in evaluation["robustness"]["spread"].values()]
    assert row["spread_over_views"]["mean"] == pytest.approx(sum(spreads) / 2)
    assert write_study_figures(tmp_path / "out", result) == ()
    assert (tmp_path / "out" / "scores.png").stat().st_size > 10_000
    assert row["auc"]["mean"] > 0.6
    assert test["split"] == "test"
    every = run_study(replace(study, split="all", data=str(data), n_test=10**6), tmp_path / "out")
    assert every["test"]["split"] == "all"
    evaluation = json.loads((tmp_path / "out" / "runs" / "backbone-full-200-s1" / "evaluation.json").read_text())
    assert evaluation["n_jets"] == 400


def test_histograms_of_all_seeds_are_added():
    def of(counts):
        return {"robustness": {"histograms": {"edges": [0.0, 0.5, 1.0], "counts": {"nominal": {"QCD": counts}}}}}

    (found,) = module._histograms(list(zip(_two_runs(), (of([1, 2]), of([30, 40])), strict=True)))
    assert found["counts"] == {"nominal": {"QCD": [31, 42]}}
    assert (found["network"], found["mode"]) == ("a", "full")


def test_a_mean_is_not_taken_of_the_lucky_runs_only():
    """Rejection is infinite where no background is left: such a run has no number."""
    found = [
        (r, {"auc": 0.9, "rejection": {"Hbb": {e: {"value": v} for e in ("0.3", "0.5", "0.7")}}})
        for r, v in zip(_two_runs(), (None, 8.0), strict=True)
    ]
    (row,) = module._rows(found)
    assert "rejection_at_0.5" not in row
    assert row["auc"]["values"] == [0.9, 0.9]


def _two_runs():
    recipes = [module.Finetuning("a", ("b",), seed=seed) for seed in (1, 2)]
    return [module.Run("a", "a", recipe) for recipe in recipes]


def test_the_table_has_a_line_for_every_row(finished):
    folder, result = finished
    text = (folder / "study.md").read_text()
    assert text == study_table(json.loads((folder / "study.json").read_text()))
    assert len(text.splitlines()) == 2 + len(result["rows"])


def test_jets_that_trained_are_pointed_out_in_table_and_card(wanted, tmp_path):
    study = replace(wanted, labels=(20,), n_seeds=1, modes=("full",))
    for split in ("all", "test"):
        result = run_study(replace(study, split=split), tmp_path / "studies" / "any")
        (section,) = study_sections(tmp_path)
        for text in (study_table(result), section):
            assert ("Jets that trained the networks are among those of the test" in text) is (split == "all")


def test_one_command_runs_the_study_and_draws_it(backbone, data, tmp_path):
    words = ["study", "labels", backbone, "--data", data, "--labels", "20", "--seeds", "1", "--modes", "full,frozen"]
    words += ["--epochs", "1", "--out", tmp_path]
    done = CliRunner().invoke(cli.cli, list(map(str, words)), catch_exceptions=False)
    assert "| backbone | full | 20 |" in done.stdout
    assert (tmp_path / "study.png").stat().st_size > 10_000


def test_the_command_of_a_study_has_its_less_usual_settings_too(wanted):
    more = {"columns": "my/own/mine.toml", "allow_missing": True, "validation_share": 0.2, "backbone_rate": 0.02}
    study = replace(wanted, column="truth", **more)
    words = f"{study_command(asdict(study))} "
    for said in ("--label truth ", "--columns mine.toml ", "--allow-missing ", "--validation-share 0.2 "):
        assert said in words
    assert "--backbone-rate 0.02 " in words


def test_a_rate_of_the_backbone_is_for_networks_trained_whole(wanted):
    runs = {run.recipe.mode: run.recipe for run in plan(replace(wanted, learning_rate=3e-4, backbone_rate=0.02))}
    assert {recipe.learning_rate for recipe in runs.values()} == {3e-4}
    assert runs["full"].backbone_rate == 0.02
    assert runs["scratch"].backbone_rate is None
    with pytest.raises(InputError, match="goes with the mode full; got linear"):
        replace(wanted, modes=("linear",), backbone_rate=0.02)


def test_the_card_of_a_network_has_its_studies(finished, tmp_path):
    """Pictures lie beside the card, and the command of the card is the study's."""
    folder, result = finished
    run = tmp_path / Path(result["study"]["checkpoints"][0]).name
    for name in ("study.json", "study.md"):
        (run / "studies" / "few-labels").mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, run / "studies" / "few-labels" / name)
    write_study_figures(run / "studies" / "few-labels", result)
    (section,), (published,) = study_sections(run), study_sections(run, repo="hepfm/mine")

    assert section.startswith("### Few labels")
    assert published == section.replace(f"study labels {run.name} ", "study labels hepfm/mine ") != section
    assert study_table(result) in section
    assert (run / re.findall(r"!\[.*\]\((.*)\)", section)[0]).stat().st_size > 10_000
    (command,) = re.findall("^hepfm-data study labels (.*)$", section, re.MULTILINE)
    asked = cli.cli.commands["study"].commands["labels"].make_context("labels", command.split()).params
    study = {name: value for name, value in asked.items() if value and name in result["study"]}
    said = {name: value for name, value in json.loads(json.dumps(result["study"])).items() if value}
    assert json.loads(json.dumps(study)) | {"patience": 10} == said | {
        "checkpoints": [Path(name).name for name in said["checkpoints"]],
        "data": Path(said["data"]).name,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modes": ("fulll",)}, "Did you mean 'full'"),
        ({"signal_fractions": (0.1,)}, "two classes"),
        ({"labels": (10_000,)}, "Ask for fewer"),
        ({"checkpoints": ("nowhere",)}, "nowhere: no such folder"),
    ],
    ids=["mode", "fractions without classes", "too many labels", "no such network"],
)
def test_a_study_that_cannot_be_says_so_before_it_trains(wanted, change, words, tmp_path):
    with pytest.raises(InputError, match=words):
        run_study(replace(wanted, **change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_map_spreads_jets_and_shows_views_of_the_same_events(backbone, tmp_path):
    data = write_toys(tmp_path / "views.parquet", toys(), toys(variation="wide", stretch=2.0))
    jets = map_jets(AutoModel.from_pretrained(backbone), hepfm.open(data), variations=("nominal", "wide"), n_jets=30)
    first, second = (jets.points[jets.views == view] for view in (0, 1))
    assert len(first) == len(second) > 10
    assert set(jets.classes) == {"QCD", "Hbb"}
    assert np.array_equal(jets.labels[jets.views == 0], jets.labels[jets.views == 1])
    assert jets.points.std(0) == pytest.approx(1, rel=0.05)
    assert abs(np.corrcoef(jets.points.T)[0, 1]) < 1e-6
    assert 1 > jets.explained[0] > jets.explained[1] > 0
    assert np.abs(first - second).mean() > 0.1


def test_views_on_a_map_are_of_the_same_events_where_one_has_fewer(backbone, tmp_path):
    views = toys(), toys(variation="again").select(np.arange(200))
    data = write_toys(tmp_path / "views.parquet", *views)
    jets = map_jets(AutoModel.from_pretrained(backbone), hepfm.open(data), variations=("nominal", "again"), n_jets=20)
    first, second = (jets.points[jets.views == view] for view in (0, 1))
    distances = np.abs(second[:, np.newaxis] - first).max(axis=2).min(axis=1)
    assert len(second) > 3
    assert distances.max() < 1e-3


def test_a_map_has_a_folder_before_it_is_made(backbone, data, tmp_path):
    """The jets have no label that the work would find: it does not get as far."""
    (tmp_path / "file").write_text("mine")
    words = ["study", "map", str(backbone), "--data", str(data), "--label", "nothing", "--out"]
    with pytest.raises(NotADirectoryError):
        CliRunner().invoke(cli.cli, [*words, str(tmp_path / "file" / "map")], catch_exceptions=False)
    assert "is a file" in CliRunner().invoke(cli.cli, [*words, str(tmp_path / "file")]).output


def test_one_command_draws_the_map(backbone, data, tmp_path):
    words = ["study", "map", str(backbone), "--data", str(data), "--out", str(tmp_path)]
    done = CliRunner().invoke(cli.cli, words, catch_exceptions=False)
    assert "of the variance" in done.stdout
    assert (tmp_path / "map.png").stat().st_size > 10_000
