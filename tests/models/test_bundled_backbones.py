"""The backbones that are part of the package: they load without a network and know jets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_jets import toys

from hepfm.models import AutoModel, EdgeConvBackbone, JetBackbone
from hepfm.training.batches import PaddedJets
from hepfm.training.probe import pooled
from hepfm.zoo import OWNER, bundled, description_of, folder_of

BACKBONES = tuple(name for name in bundled() if name.startswith((f"{OWNER}mpm-", f"{OWNER}rs3l-")))
KINDS = dict.fromkeys(("mpm-tiny", "rs3l-tiny", "mpm-rs3l-tiny"), JetBackbone) | {"rs3l-edgeconv": EdgeConvBackbone}


def test_there_are_backbones_of_both_methods_and_kinds():
    assert set(BACKBONES) == {OWNER + name for name in KINDS}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_loads_in_full_precision_without_a_network(name, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model = AutoModel.from_pretrained(name).eval()
    vectors = pooled(model, PaddedJets(toys(64), model.config.inputs, trim=True))

    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert type(model) is KINDS[name.removeprefix(OWNER)]
    # Each jet has a vector of its own, of which no part is idle.
    assert vectors.isfinite().all()
    assert vectors.std(0).min() > 0.005


@pytest.mark.parametrize("name", BACKBONES)
def test_its_card_says_how_it_was_made(name):
    folder = folder_of(name)
    card = (folder / "README.md").read_text(encoding="utf-8")

    assert f'AutoModel.from_pretrained("{name}")' in card
    assert "pre-trained without labels by" in description_of(name)
    assert 'objective = "' in card
    for line in card.splitlines():
        assert "/tmp" not in line
        if line.startswith("!["):
            assert (folder / line.split("(")[1].rstrip(")")).is_file()


def test_all_of_it_is_small():
    sizes = [path.stat().st_size for name in bundled() for path in Path(folder_of(name)).iterdir()]
    assert np.sum(sizes) < 16_000_000
