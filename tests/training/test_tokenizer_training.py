"""Tokenizers from end to end through the command line, on a small campaign."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import hepfm
from hepfm.cli import cli
from hepfm.errors import CampaignError, InputError
from hepfm.run_folder import read_metrics
from hepfm.tokenizers import ParticleTokenizer, TokenizerSettings
from hepfm.training.batches import PaddedJets
from hepfm.training.recipes import Optimisation, read_recipe, write_recipe
from hepfm.training.tokenizer import TokenizerRecipe, add_tokens, prepare, train_tokenizer

N_STEPS = 24


def recipe(n_steps=N_STEPS, **settings):
    small = {"n_codes": 32, "latent": 4, "width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2}
    how = Optimisation(n_steps=n_steps, batch_size=8, learning_rate=3e-3, save_every=8)
    return TokenizerRecipe(how, TokenizerSettings(**(small | settings)))


@pytest.fixture(scope="module")
def campaign(small_campaign):
    return small_campaign[1]


@pytest.fixture(scope="module")
def trained(campaign, tmp_path_factory):
    """The folder of a finished training."""
    out = tmp_path_factory.mktemp("trained") / "vqvae-32"
    train_tokenizer(recipe(), hepfm.open(campaign), out)
    return out


def loss(tokenizer, table):
    """Of all jets of a table at once."""
    batch = PaddedJets(table, tokenizer.inputs, trim=True).__getitems__(range(table.n_jets))
    with torch.no_grad():
        return float(tokenizer.eval()(**batch).loss)


def test_training_makes_the_loss_smaller_and_leaves_a_tokenizer_with_its_curves(trained, campaign):
    measured = [entry for entry in read_metrics(trained) if "validation_jet_pt" in entry]
    tokenizer = ParticleTokenizer.from_pretrained(trained)

    table = hepfm.open(campaign).read_table(variation="quick", split="train")
    # It begins at K-means: 24 steps on two dozen jets gain 4 %.
    assert loss(tokenizer, table) < 0.98 * loss(prepare(recipe(), hepfm.open(campaign)).model, table)
    assert all(np.isfinite(entry["loss"]) for entry in read_metrics(trained) if "loss" in entry)
    assert measured[-1]["step"] == N_STEPS
    assert 0 < measured[-1]["validation_codes_used"] <= 1
    assert tokenizer.n_codes == 32
    assert read_recipe(TokenizerRecipe, trained / "recipe.toml") == recipe()


def test_the_same_training_gives_the_same_weights_and_a_finished_one_is_left_alone(trained, campaign, tmp_path):
    train_tokenizer(recipe(), hepfm.open(campaign), tmp_path)
    one, other = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)

    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    train_tokenizer(recipe(), hepfm.open(campaign), tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


def test_a_training_that_is_killed_goes_on_to_the_same_weights(trained, campaign, tmp_path):
    (tmp_path / "recipe.toml").write_text(write_recipe(recipe()))
    words = ["tokenizer", "train", tmp_path / "recipe.toml", "--data", campaign, "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "hepfm.cli", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("run/checkpoint-*/whole")):
        assert process.poll() is None, "the training ended before a checkpoint was seen"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "model.safetensors").exists()
    # A kill a little later, while the next checkpoint is written.
    torn = tmp_path / "run" / f"checkpoint-{N_STEPS}"
    torn.mkdir(exist_ok=True)
    (torn / "trainer_state.json").write_text("")
    (torn / "whole").unlink(missing_ok=True)

    train_tokenizer(recipe(), hepfm.open(campaign), tmp_path / "run")

    one, other = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_recipe_does_not_go_on_in_the_same_folder(trained, campaign):
    with pytest.raises(CampaignError, match="holds a training with other recipe"):
        train_tokenizer(recipe(n_steps=N_STEPS + 1), hepfm.open(campaign), trained)


def test_every_kind_of_tokenizer_trains(campaign, tmp_path):
    kinds = (
        {"context": "none", "quantiser": "kmeans"},
        {"context": "particle"},
        {"quantiser": "cosine"},
        {"quantiser": "fsq", "levels": (4, 4, 4), "n_codes": 64},
        {"quantiser": "residual", "stages": 2, "n_codes": 64},
    )
    for number, settings in enumerate(kinds):
        out = tmp_path / str(number)
        train_tokenizer(recipe(n_steps=2, **settings), hepfm.open(campaign), out)
        ids = ParticleTokenizer.from_pretrained(out).encode(hepfm.open(campaign).read())
        assert len(ids) == len(hepfm.open(campaign))


def run(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_train_measure_compare_and_encode(campaign, tmp_path):
    (tmp_path / "recipe.toml").write_text(write_recipe(recipe(n_steps=4)))
    trained, measured = tmp_path / "run", tmp_path / "run" / "evaluation"
    told = run("tokenizer", "train", tmp_path / "recipe.toml", "--data", campaign, "--out", trained, "--codes", 16)
    assert "Not evaluated yet" in (trained / "README.md").read_text()
    shown = run("tokenizer", "evaluate", trained, campaign, "--split", "all", "--out", measured)
    # What is told twice, in the note and at the end, is what the card looks for.
    assert told.count(f"--out {measured}\n") == 2
    assert "A classifier tells decoded from true jets" in (trained / "README.md").read_text()
    found = json.loads((measured / "evaluation.json").read_text())
    compared = run("tokenizer", "compare", measured / "evaluation.json", "--out", tmp_path, "--json")
    out = tmp_path / "with-tokens.parquet"
    encoded = json.loads(run("tokenizer", "encode", campaign, "--tokenizer", trained, "--out", out, "--json"))

    assert "jet_mass" in shown and "16 codes, 4.0 bits" in shown and "AUC" in shown
    assert found["n_codes"] == 16
    assert set(found["by_class"]) == {"QCD", "Hbb"}
    assert {p.name for p in measured.iterdir()} == {"evaluation.json", "residuals.png", "jet.png", "codes.png"}
    assert (tmp_path / "rate-distortion.png").exists()
    assert json.loads(compared)[0]["bits"] == 4
    assert "16 of them" in (trained / "README.md").read_text()
    jets, source = hepfm.open(out).read_table(), hepfm.open(campaign).read_table()
    assert jets.n_jets == encoded["n_jets"] == source.n_jets
    tokens = ParticleTokenizer.from_pretrained(trained).encode(source)
    np.testing.assert_array_equal(jets.constituents["part_token"], tokens)
    np.testing.assert_array_equal(jets.constituents["part_px"], source.constituents["part_px"])
    with pytest.raises(InputError, match="is read here, and would be replaced"):
        run("tokenizer", "encode", out, "--tokenizer", trained, "--out", out)
    assert hepfm.open(out).read_table().n_jets == source.n_jets


def test_a_tokenizer_is_not_measured_for_a_folder_that_cannot_be(campaign, trained, tmp_path):
    """There is no such variation: the work does not get as far."""
    (tmp_path / "file").write_text("mine")
    words = ["tokenizer", "evaluate", trained, campaign, "--variation", "nothing", "--out"]
    with pytest.raises(NotADirectoryError):
        run(*words, tmp_path / "file" / "evaluation")
    assert "is a file" in CliRunner().invoke(cli, [*map(str, words), str(tmp_path / "file")]).output


def test_jets_without_an_input_and_wrong_names_are_one_clear_line(campaign, trained, tmp_path):
    tokenizer = ParticleTokenizer.from_pretrained(trained)
    with pytest.raises(InputError, match=r"a name that ends in .parquet"):
        add_tokens(tokenizer, hepfm.open(campaign), tmp_path / "tokens.h5")
    with pytest.raises(InputError, match="unknown variation 'nothing'"):
        run("tokenizer", "evaluate", trained, campaign, "--variation", "nothing")
    with pytest.raises(InputError, match=r"no such file; expected the evaluation.json"):
        run("tokenizer", "compare", tmp_path / "nothing.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="lacks 'context'"):
        run("tokenizer", "compare", tmp_path / "other.json")


@pytest.mark.parametrize("quantiser", ["ema", "cosine", "residual"])  # a grid does not move
def test_codes_that_would_follow_one_process_of_several_are_refused(campaign, monkeypatch, quantiser):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=f"quantiser '{quantiser}' would follow the jets of one process only"):
        prepare(recipe(quantiser=quantiser, n_codes=64, stages=1 + (quantiser == "residual")), hepfm.open(campaign))
    prepare(recipe(quantiser="fsq", n_codes=64, latent=2, levels=(8, 8)), hepfm.open(campaign))
