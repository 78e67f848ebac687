"""What is part of the package: the 512-code tokenizer, which loads without a network and keeps jets."""

from importlib import resources
from pathlib import Path

import pytest

from hepfm.inputs import constituent_inputs
from hepfm.tokenizers import ParticleTokenizer
from hepfm.training.recipes import read_recipe
from hepfm.training.reconstruction import measure, read_reconstruction
from hepfm.training.tokenizer import TokenizerRecipe
from hepfm.zoo import bundled

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TOKENIZER_RECIPES = sorted([*RECIPES.glob("vq*.toml"), *RECIPES.glob("kmeans*.toml")])


def test_the_bundled_tokenizer_loads_without_a_network_and_keeps_jets(jets, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    tokenizer = ParticleTokenizer.from_pretrained("hepfm/vqvae-512")
    made = read_reconstruction(tokenizer, jets, constituent_inputs(jets, tokenizer.inputs))
    found = measure(made)

    assert "hepfm/vqvae-512" in bundled()
    assert tokenizer.n_codes == 512
    # Jets of another selection and another detector than those that it learned from.
    assert found["jets"]["jet_pt"]["sigma"] < 0.08
    assert abs(found["jets"]["jet_pt"]["median"]) < 0.05
    assert found["constituents"]["part_pt"]["sigma"] < 0.25
    assert found["constituents"]["part_deta"]["sigma"] < 0.05


def test_the_bundled_tokenizer_has_a_card_and_is_small():
    folder = resources.files("hepfm") / "zoo" / "vqvae-512"

    assert "# hepfm/vqvae-512" in (folder / "README.md").read_text()
    assert sum(len(entry.read_bytes()) for entry in folder.iterdir()) < 4_000_000


@pytest.mark.parametrize("path", TOKENIZER_RECIPES, ids=lambda path: path.stem)
def test_recipes_of_tokenizers_are_understood(path):
    recipe = read_recipe(TokenizerRecipe, path)

    assert recipe.optimisation.n_steps >= 1
    assert recipe.tokenizer.n_codes >= 2
    words = path.read_text(encoding="utf-8").splitlines()[1]
    assert words == f"# hepfm-data tokenizer train recipes/{path.name} --data resim-jets --out runs/{path.stem}"
