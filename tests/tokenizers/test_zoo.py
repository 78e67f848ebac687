"""What is part of the package: tokenizers that load without a network and keep jets."""

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


# How many codes; and errors that are allowed on jets of another selection and another detector than those that it
# learned from: of jet pt, constituent pt and angle.
BUNDLED = {
    "vqvae-512": (512, 0.08, 0.25, 0.05),
    "vqvae-8192": (7_974, 0.03, 0.12, 0.04),
    "vqvae-16200": (15_512, 0.03, 0.08, 0.03),
}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_tokenizer_loads_without_a_network_and_keeps_jets(name, jets, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    tokenizer = ParticleTokenizer.from_pretrained(f"hepfm/{name}")
    made = read_reconstruction(tokenizer, jets, constituent_inputs(jets, tokenizer.inputs))
    found = measure(made)
    n_codes, of_jets, of_pt, of_angle = BUNDLED[name]

    assert f"hepfm/{name}" in bundled()
    assert tokenizer.n_codes == n_codes
    assert found["jets"]["jet_pt"]["sigma"] < of_jets
    assert abs(found["jets"]["jet_pt"]["median"]) < 0.05
    assert found["constituents"]["part_pt"]["sigma"] < of_pt
    assert found["constituents"]["part_deta"]["sigma"] < of_angle


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_tokenizer_has_a_card_and_is_small(name):
    folder = resources.files("hepfm") / "zoo" / name

    card = (folder / "README.md").read_text()
    assert f"# hepfm/{name}" in card
    assert f"{BUNDLED[name][0]:,} of them" in card
    assert sum(len(entry.read_bytes()) for entry in folder.iterdir()) < 4_000_000


@pytest.mark.parametrize("path", TOKENIZER_RECIPES, ids=lambda path: path.stem)
def test_recipes_of_tokenizers_are_understood(path):
    recipe = read_recipe(TokenizerRecipe, path)

    assert recipe.optimisation.n_steps >= 1
    assert recipe.tokenizer.n_codes >= 2
    words = path.read_text(encoding="utf-8").splitlines()[1]
    assert words == f"# hepfm-data tokenizer train recipes/{path.name} --data resim-jets --out runs/{path.stem}"
