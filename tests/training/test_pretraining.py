"""Pre-training from end to end, in miniature."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from toy_jets import KINEMATICS, toys, write_toys

import hepfm
from hepfm.cli import cli
from hepfm.errors import CampaignError, InputError
from hepfm.models import AutoModel, EdgeConvBackbone, JetBackbone
from hepfm.run_folder import read_metrics
from hepfm.tokenizers import TokenizerSettings
from hepfm.training import pretraining
from hepfm.training.pretraining import PretrainingRecipe, prepare, pretrain
from hepfm.training.recipes import Optimisation, make_recipe, read_recipe
from hepfm.training.run import _arguments
from hepfm.training.source import Source
from hepfm.training.tokenizer import TokenizerRecipe, train_tokenizer

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
VARIATIONS = ("quick", "quick-fsr-up")


def recipe(objective="mpm", **changes):
    tables = {
        "objective": objective,
        "optimisation": {"n_steps": 12, "batch_size": 8, "save_every": 4, "evaluate_every": 6, "warmup_steps": 2},
        "mpm": {"targets": ["inputs", "type", "displacement", "jet"]},
        "data": {"variations": list(VARIATIONS), "n_constituents": 40, "n_probe": 50},
    }
    return make_recipe(PretrainingRecipe, tables, "test", **changes)


@pytest.fixture
def campaign(small_campaign):
    return hepfm.open(small_campaign[1])


def losses(out):
    return {entry["step"]: entry["loss"] for entry in read_metrics(out) if "loss" in entry}


@pytest.mark.parametrize(
    ("objective", "kind", "measured"),
    [
        ("mpm", "transformer", set()),
        ("rs3l", "transformer", {"pair_accuracy", "pair_cosine"}),
        ("rs3l", "edgeconv", {"pair_accuracy", "pair_cosine"}),
        ("mpm+rs3l", "transformer", {"pair_accuracy", "pair_cosine"}),
    ],
)
def test_each_objective_ends_with_a_backbone_that_automodel_loads(campaign, tmp_path, objective, kind, measured):
    pretrain(recipe(objective, **{"backbone.kind": kind}), [campaign], tmp_path)
    last = [entry for entry in read_metrics(tmp_path) if "validation_loss" in entry][-1]
    backbone = AutoModel.from_pretrained(tmp_path)

    assert type(backbone) is (EdgeConvBackbone if kind == "edgeconv" else JetBackbone)
    assert last["step"] == 12
    assert {f"validation_{name}" for name in measured | {"loss", "probe_accuracy"}} <= last.keys()
    assert all(np.isfinite(value) for value in last.values())
    assert backbone.features.standardise.width.std() > 0.01
    assert json.loads((tmp_path / "training.json").read_text())["data"]["sources"][0]["variations"] == list(VARIATIONS)
    assert read_recipe(PretrainingRecipe, tmp_path / "recipe.toml") == recipe(objective, **{"backbone.kind": kind})


def test_only_the_processes_that_are_named_enter(campaign):
    one, *others = campaign.processes
    wanted = campaign.read_table(["process"], process=one, variation=VARIATIONS, split="train")
    settings = {"data.processes": [one], "data.n_probe": 0}
    training = prepare(recipe(**settings), [campaign])

    assert others
    assert 0 < training.data["n_train"] <= wanted.n_jets
    assert training.data["n_train"] < prepare(recipe(**{"data.n_probe": 0}), [campaign]).data["n_train"]
    with pytest.raises(InputError, match="another"):
        prepare(recipe(**{"data.processes": ["another"]}), [campaign])


def test_views_of_two_campaigns_are_no_views_of_one_event(campaign):
    """The same campaign twice: twice the jets and pairs, each of them of one copy; no jet is found twice."""
    changes = {"objective": "rs3l", "rs3l.pairs": "any", "data.n_probe": 0}
    once, twice = (prepare(recipe(**changes), [campaign] * n) for n in (1, 2))

    assert twice.data["n_train"] == 2 * once.data["n_train"]
    assert twice.data["sources"] == 2 * once.data["sources"]
    assert twice.stream.batches_an_epoch >= 2 * once.stream.batches_an_epoch


def test_of_each_dataset_those_views_enter_that_it_has(campaign):
    first, second = (
        hepfm.open([file.path for file in campaign.files if file.variations == (name,)]) for name in VARIATIONS
    )
    both = prepare(recipe(), [second, first])  # the probe is of jets of the second variation

    assert both.data["n_train"] == prepare(recipe(**{"data.n_probe": 0}), [campaign]).data["n_train"]
    with pytest.raises(InputError, match="unknown variation 'quik'"):
        prepare(recipe(**{"data.variations": ["quick", "quik"]}), [first, second])
    with pytest.raises(InputError, match="unknown variation 'quick-fsr-up'"):
        prepare(recipe(**{"data.variations": ["quick-fsr-up"]}), [second, first])


@pytest.mark.parametrize("objective", ["rs3l", "mpm+rs3l"])
def test_a_dataset_without_pairs_beside_one_with_pairs_is_refused(campaign, objective):
    files = [file.path for file in campaign.files if file.variations == ("quick-fsr-up",)]
    with pytest.raises(InputError, match=r"no jet has two views to compare \(pairs = 'nominal' of quick, quick-fsr-up"):
        prepare(recipe(objective), [campaign, hepfm.open(files)])


@pytest.mark.parametrize("kind", ["transformer", "edgeconv"])
def test_a_pretraining_begins_with_the_weights_of_a_checkpoint(campaign, tmp_path, kind):
    first, second = tmp_path / "first", tmp_path / "second"
    pretrain(recipe("rs3l", **{"backbone.kind": kind}), [campaign], first)
    further = recipe("rs3l", **{"backbone.checkpoint": str(first)})
    before, now = load_file(first / "model.safetensors"), prepare(further, [campaign]).model.backbone.state_dict()

    assert before.keys() == now.keys()
    assert all(torch.equal(before[name], now[name]) for name in before)
    pretrain(further, [campaign], second)
    after = load_file(second / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    shutil.rmtree(first)
    pretrain(recipe("rs3l", **{"backbone.kind": kind, "optimisation.seed": 2}), [campaign], first)
    (second / "model.safetensors").unlink()
    with pytest.raises(CampaignError):
        pretrain(further, [campaign], second)


@pytest.fixture(scope="module", params=["none", "jet"])
def tokenizer(request, small_campaign, tmp_path_factory):
    """The folder of a tokenizer of 16 codes: K-means, and a VQ-VAE that sees the jet."""
    quantiser = "kmeans" if request.param == "none" else "ema"
    sizes = {"width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2, "latent": 4}
    settings = TokenizerSettings(n_codes=16, context=request.param, quantiser=quantiser, **sizes)
    how = Optimisation(n_steps=1 if quantiser == "kmeans" else 4, batch_size=8, save_every=4)
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerRecipe(how, settings), hepfm.open(small_campaign[1]), out)
    return out


@pytest.mark.parametrize("rotate", [True, False])
def test_codes_of_a_tokenizer_are_found_better_than_by_guessing(campaign, tmp_path, tokenizer, rotate):
    changes = {"mpm.targets": ["codes"], "mpm.tokenizer": str(tokenizer), "data.rotate": rotate}
    pretrain(recipe(**changes, **{"optimisation.n_steps": 30}), [campaign], tmp_path)
    last = [entry for entry in read_metrics(tmp_path) if "validation_loss" in entry][-1]

    assert 1 < last["validation_perplexity"] < 16
    assert last["validation_code_accuracy"] > 1 / 16
    assert len(json.loads((tmp_path / "training.json").read_text())["data"]["tokenizer"]) == 64


def test_a_tokenizer_that_reads_more_than_the_network_cannot_go_with_turned_jets(campaign, tokenizer):
    changes = {"mpm.targets": ["codes"], "mpm.tokenizer": str(tokenizer), "backbone.inputs": ["part_pt", "part_energy"]}
    with pytest.raises(InputError, match="the tokenizer reads part_deta, the network does not"):
        prepare(recipe(**changes), [campaign])
    assert prepare(recipe(**changes, **{"data.rotate": False}), [campaign]).stream[0]["hidden_codes"].max() < 16


def test_labels_change_nothing_but_the_probe(campaign, tmp_path):
    """Shuffle all labels: the trained weights are the same to the last bit."""
    shards = [tmp_path / f"{number}.h5" for number in range(len(campaign.files))]
    for file, copy in zip(campaign.files, shards, strict=True):
        shutil.copy(file.path, copy)
    pretrain(recipe(), [hepfm.open(shards)], tmp_path / "true")
    for copy in shards:
        with h5py.File(copy, "r+") as file:
            for name in ("jet_label", "jet_flavour", "truth_pdg_id"):
                values = file["jets"][name][()]
                file["jets"][name][...] = (values + 1 + np.arange(len(values))) % 7
    pretrain(recipe(), [hepfm.open(shards)], tmp_path / "false")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("true", "false"))

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_pretraining_goes_on_with_the_same_loss_curve(small_campaign, campaign, tmp_path):
    steps = {"optimisation.n_steps": 80, "optimisation.save_every": 10, "optimisation.evaluate_every": 0}
    wanted = recipe(**steps, **{"backbone.dropout": 0.1, "data.forget": 0.1, "data.n_probe": 0})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    pretrain(wanted, [campaign], whole)
    code = (
        "import sys; from pathlib import Path; import hepfm\n"
        "from hepfm.training.pretraining import PretrainingRecipe, pretrain\n"
        "from hepfm.training.recipes import read_recipe\n"
        "pretrain(read_recipe(PretrainingRecipe, Path(sys.argv[1])), [hepfm.open(sys.argv[2])], Path(sys.argv[3]))"
    )
    arguments = [str(whole / "recipe.toml"), str(small_campaign[1]), str(killed)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=os.environ | threads)
    while process.poll() is None and max(losses(killed), default=0) < 30:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = losses(killed)
    assert max(before) < 80
    pretrain(wanted, [campaign], killed)

    assert losses(killed) == losses(whole)
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_train_as_one_does(small_campaign, tmp_path):
    """No random number but the order of the jets: both halves of each batch together are the batch."""
    path = tmp_path / "recipe.toml"
    path.write_text(
        'objective = "rs3l"\n[data]\nrotate = false\nn_constituents = 40\nn_probe = 0\n'
        "[optimisation]\nn_steps = 10\nbatch_size = 8\nsave_every = 10\nlearning_rate = 1e-4\n"
    )
    pretrain(read_recipe(PretrainingRecipe, path), [hepfm.open(small_campaign[1])], tmp_path / "one")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "hepfm.cli", "pretrain", str(path), "--data", str(small_campaign[1]), "--out"]
    done = subprocess.run(
        [*launcher, *command, str(tmp_path / "two"), "--json"], capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["folder"] == str(tmp_path / "two")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys()
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=2e-3)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=2e-4)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists() or torch.cuda.is_available(), reason="for CPUs of Linux")
def test_bf16_is_taken_where_the_processor_has_instructions_for_it(campaign, tmp_path, caplog):
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    has_bf16 = not flags.isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})
    for wanted in ("fp32", "bf16"):
        pretrain(recipe(**{"optimisation.precision": wanted}), [campaign], tmp_path / wanted)
        pretrain(recipe(**{"optimisation.precision": wanted}), [campaign], tmp_path / wanted)  # finished: says nothing
    taken = [json.loads((tmp_path / name / "training.json").read_text())["precision"] for name in ("fp32", "bf16")]

    assert taken == ["fp32", "bf16" if has_bf16 else "fp32"]
    assert (losses(tmp_path / "fp32") == losses(tmp_path / "bf16")) is not has_bf16
    said = [record.getMessage() for record in caplog.records if record.name == "hepfm.training"]
    assert ["no instructions for bf16" in message for message in said] == [True] * (not has_bf16)


def test_a_finished_run_is_left_as_it_is(campaign, tmp_path):
    pretrain(recipe(), [campaign], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    pretrain(recipe(), [campaign], tmp_path)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_data_or_another_recipe_is_refused(campaign, tmp_path):
    pretrain(recipe(), [campaign], tmp_path)
    with pytest.raises(CampaignError, match="holds a training with other recipe"):
        pretrain(recipe(**{"optimisation.learning_rate": 2e-3}), [campaign], tmp_path)
    fewer = hepfm.open([file.path for file in campaign.files[:-1]])
    with pytest.raises(CampaignError, match="holds a training with other data"):
        pretrain(recipe(), [fewer], tmp_path)


def test_a_training_whose_loss_is_no_number_stops_and_saves_no_network(campaign, tmp_path):
    with pytest.raises(InputError, match=r"is no number at step \d+"):
        pretrain(recipe(**{"optimisation.learning_rate": 1e30}), [campaign], tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_one_process_takes_one_gpu(tmp_path):
    """Of two, each would have half of a batch: the first views or the second ones."""
    settings = _arguments(Optimisation(n_steps=1), tmp_path)
    assert settings.device.type in ("cpu", "cuda")
    settings._n_gpu = 2  # what transformers finds on a machine with two
    assert settings.n_gpu == 1
    assert settings.train_batch_size == settings.per_device_train_batch_size


def test_jets_that_know_no_events_have_no_views_to_compare(tmp_path):
    table = toys(100)
    columns = {name: table.columns[name] for name in ("jet_label", "jet_index")}
    jets = hepfm.open(write_toys(tmp_path / "a.parquet", replace(table, columns=columns)))
    with pytest.raises(InputError, match=r"no event_id, variation. RS3L needs jets in several views") as caught:
        prepare(recipe("rs3l", **{"data.variations": []}), [jets])
    assert "\n" not in str(caught.value)


def test_jets_without_what_a_target_asks_for_are_refused(tmp_path):
    table = toys(100)
    parts = {name: values for name, values in table.constituents.items() if not name.startswith("part_is")}
    jets = hepfm.open(write_toys(tmp_path / "a.parquet", replace(table, constituents=parts)))
    with pytest.raises(InputError, match="targets has 'type', but the jets have no part_isChargedHadron"):
        prepare(recipe(**{"mpm.targets": ["type"], "data.variations": []}), [jets])
    found = prepare(recipe(**{"mpm.targets": ["inputs"], "data.variations": []}), [jets])
    assert found.data["missing_inputs"][0] == "part_isChargedHadron"


@pytest.mark.parametrize("identity", [None, 0])
def test_a_part_of_the_jets_is_of_all_files(tmp_path, identity):
    """Files hold one class after another."""
    files = []
    for number in range(2):
        table = toys(400, seed=number).select(np.arange(number, 400, 2))
        columns = table.columns | {"event_id": table.columns["event_id"] + 1000 * number}
        files.append(write_toys(tmp_path / f"{number}.parquet", replace(table, columns=columns)))
    part = pretraining._read(hepfm.open(files), ("part_px",), "train", {}, 60, identity=identity, label="jet_label")

    assert part.n_jets == 60
    assert np.unique(part.columns["jet_label"], return_counts=True)[1].min() > 15


def test_jets_that_lack_inputs_train_beside_jets_that_have_them(campaign, tmp_path):
    table = toys(100)
    kinematics = replace(table, constituents={name: table.constituents[name] for name in KINEMATICS})
    known = {"data.variations": [], "mpm.targets": ["inputs"]}
    training = prepare(recipe(**known), [campaign, hepfm.open(write_toys(tmp_path / "a.parquet", kinematics))])
    place = training.model.config.inputs.index("part_d0val")
    unknown = [training.stream[step]["constituents"][..., place].isnan().all(1) for step in range(12)]

    assert "part_d0val" in training.data["missing_inputs"]
    assert 0 < torch.cat(unknown).float().mean() < 1


@pytest.mark.parametrize("processes", [(), ("Hbb",)])
def test_jets_without_events_are_split_alike_by_all_that_trains(tmp_path, processes):
    table = toys(200)
    columns = {name: table.columns[name] for name in ("variation", "process", "jet_sdmass")}
    dataset = hepfm.open(write_toys(tmp_path / "a.parquet", replace(table, columns=columns)))
    jets_of = {"variation": ("nominal",), "process": processes or None}
    trained = pretraining._read(dataset, ("part_px", "jet_sdmass"), "train", jets_of, 0)
    tested = Source(dataset, "test", "nominal").column("jet_sdmass")

    assert trained.n_jets > 60
    assert set(trained.columns["jet_sdmass"]).isdisjoint(tested)


def test_an_evaluation_gives_the_same_numbers_again(campaign, tmp_path):
    training = prepare(recipe("mpm+rs3l"), [campaign])
    training.model.eval()
    with torch.no_grad():
        assert training.evaluate(training.model) == training.evaluate(training.model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "rs3l", "data.variations": ["quick"]}, "no jet has two views to compare"),
        ({"objective": "mpm", "backbone.kind": "edgeconv"}, "needs backbone.kind 'transformer', got 'edgeconv'"),
        ({"mpm.targets": ["codes"]}, "'codes': give mpm.tokenizer"),
        ({"data.variations": ["nominal"]}, "unknown variation 'nominal'"),
        ({"backbone.inputs": ["part_pt", "part_px", "part_py"], "mpm.targets": ["inputs"]}, "cannot be turned"),
        ({"backbone.inputs": ["part_pt", "part_deta", "part_dphi"], "mpm.targets": ["type"]}, "have no particle types"),
        ({"mpm.share": 1.5}, "must lie between 0 and 1, got 1.5"),
        ({"objective": "both"}, "unknown objective 'both'"),
        ({"backbone.derived": ["delta_r"]}, "goes with backbone.inputs: give both"),
        ({"backbone.checkpoint": "hepfm/mpm-tiny", "backbone.dropout": 0.1}, "dropout goes with new weights"),
        ({"objective": "rs3l", "mpm.tokenizer": "nowhere"}, "a tokenizer is given, but no codes are to be found"),
        ({"optimisation.rate": 1}, "unknown key in optimisation 'rate'"),
        ({"optimisation.save_every": 0}, "optimisation.save_every must be at least 1, got 0"),
        ({"optimisation.n_steps": -5}, "optimisation.n_steps must be at least 1, got -5"),
        ({"optimisation.learning_rate": 0.0}, "learning_rate must be larger than 0, got 0.0"),
        ({"optimisation.clip": float("nan")}, "optimisation.clip must be at least 0, got nan"),
    ],
)
def test_recipes_that_do_not_work_are_one_clear_line(campaign, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        prepare(recipe(**changes), [campaign])
    assert "\n" not in str(caught.value)


def test_command_pretrains_and_says_what_to_do_next(small_campaign, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'objective = "mpm"\n[mpm]\ntargets = ["type"]\n[optimisation]\nn_steps = 500\nbatch_size = 8\nsave_every = 2\n'
    )
    out = tmp_path / "run"
    command = ["pretrain", str(path), "--data", str(small_campaign[1]), "--out", str(out), "--steps", "4"]
    done = CliRunner().invoke(cli, [*command, "--variations", "quick", "--tensorboard"], catch_exceptions=False)

    assert done.exit_code == 0
    assert f"hepfm-data finetune {out} DATA" in done.stdout
    assert "probe accuracy" in done.stdout
    assert len(list((out / "tensorboard").iterdir())) == 1
    assert "A backbone for jets, pre-trained without labels" in (out / "README.md").read_text()
    kept = read_recipe(PretrainingRecipe, out / "recipe.toml")
    assert (kept.optimisation.n_steps, kept.data.variations) == (4, ("quick",))
    assert AutoModel.from_pretrained(out).config.width == 128


@pytest.mark.parametrize(
    "path",
    [path for pattern in ("mpm-*.toml", "rs3l-*.toml") for path in sorted(RECIPES.glob(pattern))],
    ids=lambda path: path.stem,
)
def test_recipes_of_the_project_can_be_read(path):
    wanted = read_recipe(PretrainingRecipe, path)
    # Weights that are loaded need a place; new ones of a large network need not be made.
    with torch.device("cpu" if wanted.backbone.checkpoint else "meta"):
        wanted.backbone.make()
