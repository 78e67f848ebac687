import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizer_samples import KINDS_OF_TOKENIZERS, started

from hepfm.errors import InputError
from hepfm.tokenizers import ParticleTokenizer


@pytest.fixture(scope="module")
def tokenizer(jets):
    return started("ema", jets)


@pytest.fixture
def folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("name", KINDS_OF_TOKENIZERS)
def test_a_saved_tokenizer_loads_and_gives_the_same(name, jets, tmp_path):
    tokenizer = started(name, jets)
    tokenizer.save_pretrained(tmp_path)
    loaded = ParticleTokenizer.from_pretrained(tmp_path)

    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert loaded.settings == tokenizer.settings
    assert not loaded.training
    ids, decoded = tokenizer.reconstruct(jets)
    np.testing.assert_array_equal(loaded.reconstruct(jets)[0], ids)
    np.testing.assert_array_equal(loaded.reconstruct(jets)[1], decoded)


def test_cells_of_a_grid_that_no_constituent_needs_are_given_up(jets, tmp_path):
    tokenizer = started("fsq", jets)
    few, others = jets.slice(0, 3), jets.slice(3, jets.n_jets)
    ids, decoded = tokenizer.reconstruct(few)
    tokenizer.drop_unused_codes(few)
    fewer, same = tokenizer.reconstruct(few)

    assert tokenizer.n_codes == len(np.unique(ids)) < 60
    # Numbered anew in the same order; what they stand for is the same.
    np.testing.assert_array_equal(fewer, np.unique(ids, return_inverse=True)[1])
    np.testing.assert_array_equal(same, decoded)
    tokenizer.save_pretrained(tmp_path)
    loaded = ParticleTokenizer.from_pretrained(tmp_path)
    assert loaded.n_codes == tokenizer.n_codes
    of_others = loaded.encode(others)
    assert 0 <= of_others.min() <= of_others.max() < loaded.n_codes
    np.testing.assert_array_equal(of_others, tokenizer.encode(others))


def test_a_cell_that_is_given_up_goes_to_its_nearest_neighbour(jets):
    tokenizer = started("fsq", jets)
    quantiser = tokenizer.network.quantiser
    before = quantiser.decode(torch.arange(60))
    tokenizer.drop_unused_codes(jets.slice(0, 3))
    kept = quantiser.decode(torch.arange(tokenizer.n_codes))

    after = quantiser.decode(quantiser.ids(before))
    nearest = torch.cdist(before.double(), kept.double()).min(1).values
    torch.testing.assert_close((after - before).double().norm(dim=1), nearest, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", [-1, 60, 7])
def test_cells_that_stand_for_what_there_is_not_are_one_clear_line(jets, tmp_path, cell):
    started("fsq", jets).save_pretrained(tmp_path)
    # Cell 7 itself is given to another.
    change_weights(tmp_path, lambda weights: _give(weights, cell))
    with pytest.raises(InputError, match="cells of its grid stand for cells that there are not"):
        ParticleTokenizer.from_pretrained(tmp_path)


def _give(weights, cell):
    weights["network.quantiser.stands"][7] = 8
    weights["network.quantiser.stands"][3] = cell


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("network.write.bias"), "lacks weight 'network.write.bias'. It belongs to another tokenizer"),
        (lambda w: w.update(extra=torch.ones(1)), "has an unexpected weight 'extra'"),
        (lambda w: w.update({"network.write.bias": torch.ones(7)}), r"shape \(7,\), expected \(3,\)"),
        (lambda w: w["network.write.bias"].fill_(torch.nan), "'network.write.bias' has values that are no numbers"),
    ],
    ids=["missing", "unexpected", "another shape", "no numbers"],
)
def test_weights_that_do_not_fit_are_one_clear_line(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(InputError, match=message):
        ParticleTokenizer.from_pretrained(folder)


def test_a_weights_file_that_is_cut_off_is_one_clear_line(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="no whole safetensors file"):
        ParticleTokenizer.from_pretrained(folder)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


def test_pickled_weights_are_never_opened(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"no model.safetensors. pytorch_model.bin is not opened"):
        ParticleTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "type 'bert'; expected hepfm-tokenizer"),
        ({"settings": None}, "no table of settings"),
        ({"settings": {"n_codes": "many"}}, "n_codes must be of type int"),
        ({"settings": {"n_codes": 10**15}}, "n_codes from 2"),
        ({"settings": {"nonsense": 1}}, "unknown setting of a tokenizer 'nonsense'"),
        ({"settings": {"width": 32, "heads": 2, "n_codes": 32, "latent": 4}}, "It belongs to another tokenizer"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map"),
    ],
)
def test_a_config_of_something_else_is_one_clear_line(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=message) as error:
        ParticleTokenizer.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_a_folder_that_does_not_exist_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        ParticleTokenizer.from_pretrained(tmp_path / "nothing")
