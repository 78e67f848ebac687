"""The card of a tokenizer, from its run's folder; nothing in it is written by hand."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepfm import __version__
from hepfm.atomic import write_whole
from hepfm.markdown import markdown_table

EVALUATION = "evaluation"
"""The folder in a run's folder where its card looks for an evaluation."""

_NAMES = {
    "part_pt": "constituent pt, relative",
    "part_deta": "constituent deta",
    "part_dphi": "constituent dphi",
    "jet_pt": "jet pt, relative",
    "jet_mass": "jet mass, GeV",
    "jet_sdmass": "soft-drop mass, GeV",
    "jet_tau21": "tau21",
    "jet_tau32": "tau32",
}


def write_tokenizer_card(folder: Path, *, name: str | None = None) -> tuple[str, ...]:
    """Write README.md beside a trained tokenizer.

    Args:
        folder: of the run: recipe.toml, training.json and, if it was evaluated with `--out FOLDER/evaluation`,
            evaluation/evaluation.json.
        name: under which it can be loaded; the folder's by default.

    Returns:
        In sentences, what the card could not say.
    """
    recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
    origin = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    evaluation = _evaluation(folder)
    settings = recipe["tokenizer"]
    n_codes = evaluation["n_codes"] if evaluation else settings["n_codes"]
    parts = [
        _front_matter(),
        f"# {name or folder.name}",
        f"Codes of the constituents of jets: {n_codes:,} of them, made of {', '.join(settings['inputs'])}; "
        f"context: {settings['context']}, quantiser: {settings['quantiser']}. Made by hepfm {__version__}.",
        f'```python\nfrom hepfm.tokenizers import ParticleTokenizer\n\ntokenizer = ParticleTokenizer.from_pretrained("'
        f'{name or folder.name}")\nids = tokenizer.encode(jets)  # or (constituents, mask)\n'
        "restored = tokenizer.decode(ids)\n```",
        "The order of constituents does not matter, nor what else is in a batch. Units are GeV, mm and radians.",
        f"## Data\n\n{_data(origin['data'])}",
        "## What the codes keep\n\n" + (_table(evaluation) if evaluation else "Not evaluated yet."),
        f"## Recipe\n\n```toml\n{(folder / 'recipe.toml').read_text(encoding='utf-8').strip()}\n```",
        "## Limits\n\nTrained on the jets above; for other momenta, detectors or pile-up, evaluate before use. "
        "Masses are those of massless constituents.",
        "Source of the method: Masked Particle Modeling, arXiv:2401.13537 and arXiv:2409.12589.",
    ]
    write_whole(folder / "README.md", ("\n\n".join(parts) + "\n").encode())
    command = f"hepfm-data tokenizer evaluate {folder} DATA --out {folder / EVALUATION}"
    return () if evaluation else (f"{folder}: not evaluated: {command}",)


def _front_matter() -> str:
    return "---\nlicense: cc-by-4.0\nlibrary_name: hepfm\ntags: [particle-physics, jets, tokenizer]\n---"


def _evaluation(folder: Path) -> Mapping[str, Any] | None:
    path = folder / EVALUATION / "evaluation.json"
    found: Mapping[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


def _data(data: Mapping[str, Any]) -> str:
    name = Path(str(data["name"])).name
    return (
        f"{data['n_train']:,} jets of the training split of `{name}` ({data['n_jets']:,} jets in all; variations: "
        f"{', '.join(data['variations']) or 'none named'}; digest `{data['digest'][:16]}`)."
    )


def _table(found: Mapping[str, Any]) -> str:
    errors = {**found["constituents"], **found["jets"]}
    rows = []
    for name, values in errors.items():
        figures = (values[key] for key in ("median", "sigma", "within95"))
        rows.append([_NAMES.get(name, name), *("" if figure is None else f"{figure:.3g}" for figure in figures)])
    lines = [markdown_table(("error of", "median", "robust σ", "95 % within"), rows).rstrip()]
    lines += [f"\n{name} right: {share:.2%}." for name, share in found["accuracy"].items()]
    use = found["codes"]
    lines.append(
        f"\nMeasured on {found['n_jets']:,} jets of the {found['data']['split'] or 'whole'} split. "
        f"{use['used']:.1%} of the codes used, perplexity {use['perplexity']:.0f}, entropy {use['entropy']:.2f} bits."
    )
    if (test := found.get("two_sample")) and test["auc"] is not None:
        lines.append(f"A classifier tells decoded from true jets with AUC {test['auc']:.3f} ± {test['error']:.3f}.")
    return "\n".join(lines)
