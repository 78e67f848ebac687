"""Put a finished training into the package, as src/hepfm/zoo/NAME: python recipes/bundle.py RUN NAME.

A tokenizer goes as it is. Weights of a transformer are stored with 16 bits; means and widths of its inputs keep their
32, and everything is 32 bits again when it is loaded. `--check DATA` says how far the vectors of jets move by that, in
multiples of their widths. A graph network keeps 32 bits: the smallest change gives some constituent another neighbour.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save

import hepfm
from hepfm.atomic import write_whole
from hepfm.cards.model_card import write_model_card
from hepfm.cards.tokenizer_card import write_tokenizer_card
from hepfm.models import AutoModel, EdgeConvBackbone
from hepfm.tokenizers import TokenizerConfig
from hepfm.training.batches import PaddedJets
from hepfm.training.probe import pooled
from hepfm.zoo import OWNER

ZOO = Path(__file__).parents[1] / "src" / "hepfm" / "zoo"


def bundle(run: Path, name: str) -> Path:
    """Write the network, a transformer halved, and its card; returns the folder."""
    folder = ZOO / name
    folder.mkdir(exist_ok=True)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] == TokenizerConfig.model_type:
        write_tokenizer_card(run, name=OWNER + name)
        for file in ("config.json", "model.safetensors", "README.md"):
            shutil.copy(run / file, folder / file)
        return folder
    model = AutoModel.from_pretrained(run)
    halved = () if isinstance(model, EdgeConvBackbone) else dict(model.named_parameters())
    weights = {name: (v.half() if name in halved else v).contiguous() for name, v in model.state_dict().items()}
    write_whole(folder / "model.safetensors", save(weights, {"format": "pt"}))
    text = json.dumps({**config, "dtype": "float32"}, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    write_model_card(run, repo=OWNER + name)
    for old in folder.glob("*.png"):
        old.unlink()
    for file in (run / "README.md", *run.glob("*.png")):
        shutil.copy(file, folder / file.name)
    return folder


def check(run: Path, folder: Path, data: str, n_jets: int = 2_000) -> float:
    """Largest change of any vector's feature by halving, in multiples of that feature's width over jets."""
    whole, half = (AutoModel.from_pretrained(path).eval() for path in (run, folder))
    table = hepfm.open(data).read_table(split="test")
    table = table.slice(0, min(n_jets, table.n_jets))
    jets = PaddedJets(table, whole.config.inputs, trim=True)
    before, after = pooled(whole, jets), pooled(half, jets)
    assert next(half.parameters()).dtype == torch.float32
    return float(((after - before).abs() / before.std(0)).max())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--check", metavar="DATA")
    asked = parser.parse_args()
    folder = bundle(asked.run, asked.name)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")
    if asked.check:
        moved = check(asked.run, folder, asked.check)
        print(f"vectors of jets move by at most {moved:.2g} of their widths")


if __name__ == "__main__":
    main()
