import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from scipy.stats import spearmanr
from toy_jets import KINEMATICS, NARROW, WIDE, toys, write_toys

import hepfm
from hepfm import cli
from hepfm.errors import CampaignError, InputError
from hepfm.models import AutoModel, AutoModelForSequenceClassification
from hepfm.run_folder import read_metrics
from hepfm.schema import split_of
from hepfm.table import JetTable
from hepfm.training.batches import PaddedJets
from hepfm.training.best import BestWeights
from hepfm.training.evaluation import Question, evaluate
from hepfm.training.finetune import TrainingJets, finetune
from hepfm.training.finetuning import Finetuning
from hepfm.training.labels import Labels, choose
from hepfm.training.metrics import auc
from hepfm.training.origin import describe_data
from hepfm.training.recipes import read_recipe
from hepfm.training.scoring import Tagger
from hepfm.training.source import Source, open_source, short_name


@pytest.fixture(scope="module")
def recipe(backbone, data):
    """Quick, and the same for every mode."""
    return Finetuning(
        str(backbone),
        (str(data),),
        labels=Labels(validation_share=0.2),
        n_epochs=3,
        batch_size=32,
        learning_rate=3e-3,
        backbone_rate=1.0,
        weight_decay=0.01,
        dropout=0.0,
    )


@pytest.fixture(scope="module")
def finished(recipe, folder):
    """A network fine-tuned by the recipe. Do not change its folder."""
    return finetune(recipe, folder / "finished")


def weights(model, part=""):
    return {name: value.clone() for name, value in model.state_dict().items() if name.startswith(part)}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def assert_near(first, second):
    """The same but for steps of a learning rate that is next to nothing."""
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-20, rtol=0, msg=name)


def hepfm_data(*arguments):
    return CliRunner().invoke(cli.cli, [str(word) for word in arguments], catch_exceptions=False)


# --- origin ---


def test_a_run_says_which_of_its_names_are_the_hubs(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toys.parquet").write_bytes(data.read_bytes())
    recipe = Finetuning("hepfm/mpm-tiny", ("data/toys.parquet",), mode="linear", n_epochs=1)
    finetune(recipe, tmp_path / "run")
    written = json.loads((tmp_path / "run" / "training.json").read_text())
    assert written["published"] == ["hepfm/mpm-tiny"]
    assert "published" not in written["data"]["sources"][0]


def test_data_are_published_only_if_no_path_has_their_name(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = hepfm.open(data).files
    assert describe_data(hepfm.Dataset(files, "someone/jets"))["published"]
    (tmp_path / "someone" / "jets").mkdir(parents=True)
    assert "published" not in describe_data(hepfm.Dataset(files, "someone/jets"))


# --- labels ---


def test_other_labels_of_jets_for_testing_change_no_weight(recipe, finished, tmp_path):
    table = toys()
    held_out = split_of(table.columns["event_id"]) > 0
    wrong = np.where(held_out, NARROW + WIDE - table.columns["jet_label"], table.columns["jet_label"])
    table = JetTable({**table.columns, "jet_label": wrong.astype(np.int16)}, table.offsets, table.constituents)
    path = write_toys(tmp_path / "wrong.parquet", table)
    other = finetune(replace(recipe, data=(str(path),)), tmp_path / "other")
    assert held_out.sum() > 50
    assert_same(weights(finished.model), weights(other.model))


def test_all_views_train_if_that_is_wanted(recipe, tmp_path):
    path = write_toys(tmp_path / "views.parquet", toys(60), toys(60, variation="other"))
    one = finetune(replace(recipe, data=(str(path),), n_epochs=1), tmp_path / "one")
    both = finetune(replace(recipe, data=(str(path),), n_epochs=1, variation="all"), tmp_path / "both")
    assert both.n_training == 2 * one.n_training


def test_a_truth_value_is_a_label_too(recipe, tmp_path):
    done = finetune(replace(recipe, labels=Labels("is_wide", n_jets=40)), tmp_path / "run")
    assert Tagger(done.model).classes == ("not_is_wide", "is_wide")


def test_truth_values_that_are_all_the_same_are_one_class(recipe, tmp_path):
    table = toys(60)
    path = write_toys(tmp_path / "a.parquet", replace(table, columns=table.columns | {"is_signal": np.ones(60, bool)}))
    with pytest.raises(InputError, match=r"is_signal has 1 class \(is_signal\); two are needed"):
        finetune(replace(recipe, data=(str(path),), labels=Labels("is_signal")), tmp_path / "run")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Labels("jet_lable"), "Did you mean 'jet_label'"),
        (Labels("jet_sdmass"), "--task regression"),
        (Labels("part_px"), "unknown column of jets 'part_px'"),
        (Labels(classes=("QCD", "Hbbb")), "Did you mean 'Hbb'"),
        (Labels(classes=("QCD",)), "two are needed"),
        (Labels(n_jets=10_000), "Ask for fewer"),
        (Labels(classes=("QCD", "Hbb"), n_jets=600, signal_fraction=0.5), "Ask for fewer"),
    ],
    ids=["no such column", "decimals", "constituents", "no such class", "one class", "too many", "too many to mix"],
)
def test_labels_that_cannot_be_are_refused(recipe, labels, words, tmp_path):
    with pytest.raises(InputError, match=words):
        finetune(replace(recipe, labels=labels), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- modes ---


@pytest.mark.parametrize("mode", ["frozen", "linear"])
def test_a_frozen_backbone_keeps_every_bit(recipe, backbone, mode, tmp_path):
    done = finetune(replace(recipe, mode=mode), tmp_path / "run")
    head = {name.split(".")[0] for name, _ in done.model.head.named_parameters()}
    assert head == ({"norm", "output"} if mode == "linear" else {"query", "norm", "hidden", "output"})
    assert_same(weights(done.model.backbone), weights(AutoModel.from_pretrained(backbone)))
    assert any("validation_loss" in entry for entry in read_metrics(tmp_path / "run"))


def test_a_full_fine_tuning_moves_the_backbone(finished, backbone):
    before, after = AutoModel.from_pretrained(backbone).state_dict(), finished.model.backbone.state_dict()
    # What the network knows of the data's scales stays what it was pre-trained with.
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name, _ in finished.model.backbone.named_parameters()} - moved <= {"registers"}
    assert not moved & {name for name, _ in finished.model.backbone.named_buffers()}


def test_scratch_and_full_differ_only_in_the_weights_of_the_backbone_at_the_start(recipe, backbone, tmp_path):
    still = replace(recipe, learning_rate=1e-30, n_epochs=1)
    full = finetune(still, tmp_path / "full")
    scratch = finetune(replace(still, mode="scratch"), tmp_path / "scratch")
    assert_near(weights(full.model, "head."), weights(scratch.model, "head."))
    assert_near(weights(full.model.backbone), weights(AutoModel.from_pretrained(backbone)))
    pretrained, fresh = full.model.backbone.state_dict(), scratch.model.backbone.state_dict()
    assert not torch.equal(pretrained["embedding.0.weight"], fresh["embedding.0.weight"])
    assert replace(scratch.recipe, mode="full") == full.recipe
    origins = [json.loads((tmp_path / name / "training.json").read_text())["data"] for name in ("full", "scratch")]
    assert origins[0] == origins[1]


def test_what_is_left_open_is_decided_by_mode_and_number_of_labels(backbone, data):
    bare = Finetuning(str(backbone), (str(data),), mode="scratch")
    few, many = bare.resolved(80), bare.resolved(1_000_000)
    assert (few.learning_rate, few.dropout, few.weight_decay) == (5e-4, 0.2, 0.05)
    assert few.batch_size < many.batch_size
    assert few.n_epochs > many.n_epochs
    assert replace(bare, dropout=0.0).resolved(80).dropout == 0.0


@pytest.mark.parametrize("mode", ["linear", "frozen"])
def test_a_rate_for_a_backbone_that_stays_is_refused(mode):
    words = ["finetune", "hepfm/mpm-tiny", "jets.root", "--mode", mode, "--backbone-rate", "0.1"]
    done = CliRunner().invoke(cli.cli, words)
    assert done.exit_code == 2
    assert f"no effect with --mode {mode}" in done.stderr


def test_the_backbone_moves_as_far_as_its_rate_lets_it(recipe, backbone, tmp_path):
    """Steps of AdamW are as long as their rate."""
    start = AutoModel.from_pretrained(str(backbone)).state_dict()["embedding.0.weight"]
    moved = {}
    for rate in (0.1, 0.01):
        slow = replace(recipe, mode="full", learning_rate=1e-3, backbone_rate=rate, n_epochs=1, weight_decay=0.0)
        end = finetune(slow, tmp_path / str(rate)).model.backbone.state_dict()["embedding.0.weight"]
        moved[rate] = float((end - start).abs().mean())
    assert moved[0.1] == pytest.approx(10 * moved[0.01], rel=0.3)


def test_a_fine_tuned_network_tells_easy_classes_apart(finished, data):
    found = evaluate(Tagger(finished.model), hepfm.open(data), Question(split="test"))
    assert found["auc"] > 0.95


def test_transformers_itself_loads_the_result(finished):
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(finished.folder)
    assert_same(weights(loaded), weights(finished.model))
    assert loaded.config.id2label == {0: "QCD", 1: "Hbb"}


def test_the_recipe_in_the_folder_repeats_the_training(recipe, tmp_path):
    first = finetune(replace(recipe, learning_rate=None, dropout=None), tmp_path / "first")
    again = finetune(read_recipe(Finetuning, tmp_path / "first" / "recipe.toml"), tmp_path / "again")
    assert first.recipe == again.recipe
    assert_same(weights(first.model), weights(again.model))


# --- other tasks ---


def truth_auc(tagger, table):
    return auc(tagger.scores(table)[:, 1], table.columns["jet_label"] == WIDE)


def test_two_mixed_samples_teach_what_their_difference_is(recipe, tmp_path):
    """CWoLa: no label is ever used, only which sample a jet comes from."""
    table, rng = toys(800), np.random.default_rng(5)
    is_wide = table.columns["jet_label"] == WIDE
    in_first = rng.random(800) < np.where(is_wide, 0.75, 0.25)
    paths = [write_toys(tmp_path / f"{n}.parquet", table.select(side)) for n, side in enumerate((in_first, ~in_first))]
    done = finetune(replace(recipe, data=tuple(map(str, paths)), n_epochs=6), tmp_path / "run")
    assert Tagger(done.model).classes == ("less_signal", "more_signal")
    assert truth_auc(Tagger(done.model), toys(400, seed=8)) > 0.9


def test_a_mixed_signal_fraction_teaches_the_signal(recipe, tmp_path):
    labels = Labels(classes=("QCD", "Hbb"), n_jets=200, signal_fraction=0.8)
    done = finetune(replace(recipe, labels=labels, n_epochs=8), tmp_path / "run")
    assert truth_auc(Tagger(done.model), toys(400, seed=8)) > 0.9


def test_a_number_can_be_learned(recipe, tmp_path):
    labels = Labels("jet_sdmass")
    done = finetune(replace(recipe, task="regression", labels=labels, n_epochs=12), tmp_path / "run")
    table = toys(200, seed=8)
    predicted = Tagger(done.model).scores(table)[:, 0]
    assert spearmanr(predicted, table.columns["jet_sdmass"]).statistic > 0.7
    assert np.median(predicted) == pytest.approx(np.median(table.columns["jet_sdmass"]), rel=0.5)
    assert done.model.config.id2label == {0: "jet_sdmass"}


# --- missing inputs ---


@pytest.fixture(scope="module")
def kinematics(folder):
    table = toys()
    constituents = {name: table.constituents[name] for name in KINEMATICS}
    return write_toys(folder / "kinematics.parquet", JetTable(table.columns, table.offsets, constituents))


def test_jets_that_lack_inputs_are_refused_with_one_line(recipe, kinematics, tmp_path):
    with pytest.raises(InputError, match=r"the jets have no part_d0val.*part_isMuon.*--allow-missing") as error:
        finetune(replace(recipe, data=(str(kinematics),)), tmp_path / "run")
    assert "\n" not in str(error.value)


def test_jets_that_lack_inputs_are_learned_from_if_that_is_wanted(recipe, kinematics, tmp_path):
    done = finetune(replace(recipe, data=(str(kinematics),), allow_missing=True), tmp_path / "run")
    assert any("unknown to the network" in note for note in done.notes)
    found = evaluate(Tagger.load(str(tmp_path / "run")), hepfm.open(kinematics), Question())
    assert found["auc"] > 0.9


def test_what_was_missing_is_unknown_and_not_zero_even_where_jets_have_it(recipe, kinematics, tmp_path):
    done = finetune(replace(recipe, data=(str(kinematics),), allow_missing=True), tmp_path / "run")
    tagger, table = Tagger.load(str(tmp_path / "run")), hepfm.open(kinematics).read_table()
    filled = {name: np.ones(table.n_constituents, np.float32) for name in tagger.unseen}
    with_it = JetTable(table.columns, table.offsets, filled | table.constituents)
    assert set(KINEMATICS).isdisjoint(tagger.unseen) and "part_d0val" in tagger.unseen
    assert tagger.scores(table).tobytes() == tagger.scores(with_it).tobytes()

    zero = {name: np.zeros(table.n_constituents, np.float32) for name in tagger.inputs} | table.constituents
    batches = [
        PaddedJets(JetTable({}, table.offsets, parts), tagger.inputs, allow_missing=True).__getitems__(range(9))
        for parts in (table.constituents, zero)
    ]
    unknown, as_zero = (done.model.eval()(**batch).logits for batch in batches)
    assert (unknown - as_zero).abs().max() > 1e-3


def test_a_tagger_that_knew_an_input_wants_it_again(finished, kinematics):
    with pytest.raises(InputError, match="part_d0val"):
        evaluate(Tagger.load(str(finished.folder)), hepfm.open(kinematics), Question())


# --- sources ---


@pytest.mark.parametrize("name", ["my-jets/*.root", "my-jets/*/[ab].root", "my-jets", "elsewhere/my-jets.root"])
def test_results_are_called_after_jets_or_the_folder_of_their_pattern(name):
    assert short_name(name) == "my-jets"


def test_the_command_needs_no_name_for_the_result_of_a_pattern(backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toys").mkdir()
    write_toys(tmp_path / "toys" / "a.parquet")
    done = hepfm_data("finetune", backbone, "toys/*.parquet", "--mode", "linear", "--epochs", 1, "--json")
    assert json.loads(done.stdout)["folder"] == "runs/backbone-toys-linear"


def test_jets_without_a_label_are_one_line_of_what_to_name(recipe, tmp_path):
    table = toys(20)
    numbers = {f"{kind}_{n}": np.zeros(20, np.float32) for kind in ("event", "jet") for n in range(30)}
    path = write_toys(tmp_path / "a.parquet", replace(table, columns=numbers))
    with pytest.raises(InputError, match=r"the jets have no column 'jet_label'.*--label: jet_.*and 48 more") as error:
        finetune(replace(recipe, data=(str(path),)), tmp_path / "run")
    assert "event_" not in str(error.value)


def test_files_are_named_by_a_pattern(tmp_path):
    for part, name in enumerate(("b", "a")):
        write_toys(tmp_path / f"{name}.parquet", toys(20 + part))
    dataset = open_source(str(tmp_path / "*.parquet"))
    assert [file.n_jets for file in dataset.files] == [21, 20]
    assert dataset.classes == hepfm.open(tmp_path / "a.parquet").classes


def test_a_pattern_that_matches_nothing_says_so(tmp_path):
    with pytest.raises(InputError, match="no file matches"):
        open_source(str(tmp_path / "*.root"))


# --- stopping and going on ---


def test_without_a_validation_share_all_labels_train_to_the_end(recipe, data, tmp_path):
    done = finetune(replace(recipe, labels=Labels(), patience=1), tmp_path / "run")

    assert (done.n_training, done.n_validation) == (len(Source(hepfm.open(data), "train").events()), 0)
    assert not any("validation" in note for note in done.notes)
    metrics = read_metrics(tmp_path / "run")
    assert max(entry["step"] for entry in metrics) == 3 * (done.n_training // 32)
    assert not any("validation_loss" in entry for entry in metrics)


def test_training_stops_when_validation_gets_no_better(recipe, tmp_path):
    finetune(replace(recipe, learning_rate=1e-30, n_epochs=20, patience=2), tmp_path / "run")
    evaluated = [entry["step"] for entry in read_metrics(tmp_path / "run") if "validation_loss" in entry]
    # The first evaluation is the best; two that are no better are enough.
    assert len(evaluated) == 3


def test_the_best_weights_are_kept_and_not_the_last(backbone, tmp_path):
    model = AutoModel.from_pretrained(backbone)
    best = BestWeights(tmp_path, "loss", 2, {})
    stops = []
    for step, loss in enumerate([3.0, 1.0, 2.0, 1.0]):
        with torch.no_grad():
            model.embedding[0].bias.fill_(step)
        stops.append(best.see(model, step, {"loss": loss}))
    assert stops == [False, False, False, True]
    best.restore(model)
    assert set(model.embedding[0].bias.tolist()) == {1.0}


def test_a_loss_that_is_no_number_is_never_the_best(backbone, tmp_path):
    model = AutoModel.from_pretrained(backbone)
    best = BestWeights(tmp_path, "loss", 0, {})
    for step, loss in enumerate([float("nan"), 5.0, float("nan")]):
        best.see(model, step, {"loss": loss})
    assert best.step == 1


def test_a_killed_fine_tuning_goes_on_to_the_same_weights(recipe, tmp_path):
    recipe = replace(recipe, n_epochs=8, save_every=10, dropout=0.1)
    whole = finetune(recipe, tmp_path / "whole")

    code = f"""
import os, signal, torch
from pathlib import Path
from hepfm.training.finetune import Finetuning, finetune
from hepfm.training.recipes import read_recipe

def kill(step, n_steps, values):
    if step >= 30:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads({torch.get_num_threads()})
finetune(read_recipe(Finetuning, Path({str(tmp_path / "whole" / "recipe.toml")!r})), Path("parts"), report=kill)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert sorted(p.name for p in (tmp_path / "parts").glob("checkpoint-*"))
    seen = []
    resumed = finetune(recipe, tmp_path / "parts", report=lambda step, n_steps, values: seen.append(step))
    assert min(seen) > 20
    assert_same(weights(whole.model), weights(resumed.model))
    curves = [
        [(e["step"], e["validation_loss"]) for e in read_metrics(tmp_path / name) if "validation_loss" in e]
        for name in ("whole", "parts")
    ]
    assert curves[0] == curves[1]
    assert not list((tmp_path / "parts").glob("checkpoint-*"))


def test_a_fine_tuning_goes_on_after_a_loss_that_was_no_number(recipe, tmp_path):
    def interrupt(step, n_steps, values):
        if step == 20:
            raise KeyboardInterrupt

    recipe = replace(recipe, labels=Labels(n_jets=100, validation_share=0.2), batch_size=16, n_epochs=5, save_every=10)
    with pytest.raises(KeyboardInterrupt):
        finetune(recipe, tmp_path, report=interrupt)
    metrics = tmp_path / "metrics.jsonl"
    lost, n_lost = re.subn(r'"validation_loss": [^,}]+', '"validation_loss": null', metrics.read_text(), count=1)
    assert n_lost == 1
    metrics.write_text(lost)
    assert finetune(recipe, tmp_path).n_validation > 0


def test_a_finished_fine_tuning_is_not_run_again(recipe, finished):
    seen = []
    second = finetune(recipe, finished.folder, report=lambda *progress: seen.append(progress))
    assert seen == []
    assert_same(weights(finished.model), weights(second.model))


def test_a_folder_of_another_training_is_not_overwritten(recipe, finished):
    with pytest.raises(CampaignError, match="other recipe"):
        finetune(replace(recipe, seed=2), finished.folder)


@pytest.mark.parametrize("name", ["campaign.toml", "README.md", "model.safetensors", "checkpoint-10"])
def test_a_folder_of_something_else_is_left_as_it_is(recipe, name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(CampaignError, match=f"holds {name}, but no training that was begun there") as error:
        finetune(recipe, tmp_path)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_a_downloaded_network_is_not_taken_for_a_finished_training(recipe, backbone, tmp_path):
    shutil.copytree(backbone, tmp_path / "downloaded")
    with pytest.raises(CampaignError, match=r"holds config\.json"):
        finetune(recipe, tmp_path / "downloaded")
    assert not (tmp_path / "downloaded" / "training.json").exists()


def test_a_training_begins_beside_studies_and_after_a_kill_before_its_recipe(recipe, finished, tmp_path):
    (tmp_path / "studies" / "few-labels").mkdir(parents=True)
    (tmp_path / "evaluation").mkdir()
    shutil.copy(finished.folder / "training.json", tmp_path)
    finetune(replace(recipe, n_epochs=1), tmp_path)
    assert {"recipe.toml", "model.safetensors", "studies"} <= {path.name for path in tmp_path.iterdir()}


def test_a_tagger_is_no_checkpoint_and_names_the_backbone_that_is_one(recipe, finished, backbone, tmp_path):
    with pytest.raises(InputError, match="is a tagger already; give the backbone") as error:
        finetune(replace(recipe, checkpoint=str(finished.folder)), tmp_path / "run")
    assert f"({backbone})" in str(error.value)


def test_jets_read_for_several_trainings_are_those_that_each_would_read(recipe):
    jets, alone = TrainingJets(recipe), TrainingJets(recipe)
    choices = [choose(jets.sources, Labels(n_jets=n), regression=False, seed=n) for n in (20, 60)]
    jets.keep(choices, ["part_deta"])
    for chosen in choices:
        kept, read = (j.read(chosen, ["part_deta"]) for j in (jets, alone))
        np.testing.assert_array_equal(kept.offsets, read.offsets)
        np.testing.assert_array_equal(kept.constituents["part_deta"], read.constituents["part_deta"])


# --- the command ---


def test_a_hundred_jets_of_jetclass_ii_and_a_bundled_backbone_become_a_tagger(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    data, out = shared / "data" / "jetclass2_example.root", tmp_path / "run"
    words = ("--label", "jet_label", "--epochs", 5, "--out", out, "--json")
    done = hepfm_data("finetune", "hepfm/mpm-tiny", data, *words)
    answer = json.loads(done.stdout)
    assert answer["n_training"] + answer["n_validation"] == len(Source(hepfm.open(data), "train").events())
    assert "QCD_light" in answer["classes"]
    assert any(f"{len(answer['classes'])} of the 188 classes" in note for note in answer["notes"])
    assert {"README.md", "recipe.toml", "training.json", "metrics.jsonl", "training.png"} <= {
        path.name for path in out.iterdir()
    }
    assert AutoModelForSequenceClassification.from_pretrained(out).config.num_labels == len(answer["classes"])


def test_a_campaign_becomes_a_tagger_by_one_command(backbone, small_campaign, tmp_path):
    out = tmp_path / "run"
    done = hepfm_data("finetune", backbone, small_campaign[1], "--labels", 20, "--epochs", 2, "--out", out)
    assert done.exit_code == 0
    assert "accuracy" in done.stdout
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["split"] == "test"
    assert evaluation["classes"] == ["QCD", "Hbb"]


def test_a_table_of_another_layout_becomes_a_tagger_by_its_map(backbone, tmp_path):
    """EnergyFlow's layout: transverse momentum, rapidity, azimuth and particle code, padded with zeros."""
    rng = np.random.default_rng(3)
    is_quark = np.arange(200) % 2
    jets = np.zeros((200, 8, 4))
    jets[..., 0] = rng.exponential(40, (200, 8)) + 1
    jets[..., 1:3] = rng.normal(1, np.where(is_quark, 0.05, 0.3)[:, None, None], (200, 8, 2))
    jets[..., 3] = 211
    np.savez(tmp_path / "QG_jets.npz", X=jets, y=is_quark.astype(float))
    out = tmp_path / "run"
    words = ("finetune", backbone, tmp_path / "QG_jets.npz", "--columns", "quark-gluon", "--epochs", 4, "--out", out)
    with pytest.raises(InputError, match=r"part_d0val.*--allow-missing"):
        hepfm_data(*words)
    answer = json.loads(hepfm_data(*words, "--allow-missing", "--learning-rate", 0.01, "--json").stdout)
    assert answer["classes"] == ["gluon", "quark"]
    assert json.loads((out / "evaluation.json").read_text())["auc"] > 0.8


def test_two_mixed_samples_become_a_tagger_by_one_command(backbone, data, kinematics, tmp_path):
    out = tmp_path / "run"
    done = hepfm_data(
        "finetune", backbone, "--weak", data, kinematics, "--allow-missing", "--epochs", 1, "--out", out, "--json"
    )
    assert json.loads(done.stdout)["classes"] == ["less_signal", "more_signal"]
    assert not (out / "evaluation.json").exists()


@pytest.mark.parametrize("given", [[], ["toys.parquet", "--weak", "a", "b"]], ids=["no data", "both kinds of data"])
def test_the_command_takes_jets_or_mixed_samples(backbone, given, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hepfm-data", "finetune", str(backbone), *given])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2
    assert "expected DATA, or --weak" in capsys.readouterr().err
