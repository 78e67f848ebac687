"""The card of a network, from its run's folder; nothing in it is written by hand.

What a folder holds is in `hepfm.training.run`; `evaluation.json` is what `hepfm-data evaluate` writes.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepfm import __version__
from hepfm.atomic import write_whole
from hepfm.cards.run_figures import write_evaluation_figures, write_training_figure
from hepfm.cards.studies import is_published, shown_name, study_sections
from hepfm.errors import InputError
from hepfm.hub import is_repo_id
from hepfm.markdown import markdown_table
from hepfm.run_folder import EVALUATION, ORIGIN, RECIPE, read_metrics, read_object

CARD = "README.md"
LICENSE = "cc-by-4.0"
_MOST_CLASSES = 20
_MAP_TEXT = "Test jets in the plane in which the network, which never saw a label, spreads them most; dots: medians"
_TRUE = ("jet_label", "jet_flavour", "truth_")  # begin the names of columns that only simulated jets have
_PATHS = re.compile(r'"([^"\n]*/[^"\n]*)"')

_OBJECTIVES = {
    "mpm": " by masked particle modelling (arXiv:2401.13537)",
    "rs3l": " by RS3L, the contrast of re-simulated views (arXiv:2403.07066)",
    "mpm+rs3l": " by masked particle modelling (arXiv:2401.13537) and RS3L (arXiv:2403.07066) at once",
}

_SIMULATED = """\
* Trained on simulation: leading order with a parton shower, a parametrised detector, no pile-up unless its data say
  otherwise. Scores on data of a detector need a calibration there.
"""

_UNKNOWN = """\
* Nothing that is recorded of the jets that trained it tells whether they are simulated. Scores on jets of another
  origin need a calibration there.
"""

_LIMITS = """\
* Scores are no probabilities of a sample whose classes are mixed otherwise than those that it was trained on.
* Figures of merit hold for jets selected as those of the data above; for other transverse momenta, jet radii or
  detectors, evaluate again.
"""

_CITATION = """\
```bibtex
@article{Golling:2024abg,
  author = {Golling, Tobias and Heinrich, Lukas and Kagan, Michael and Klein, Samuel and Leigh, Matthew
            and Osadchy, Margarita and Raine, John Andrew},
  title = {Masked Particle Modeling on Sets: Towards Self-Supervised High Energy Physics Foundation Models},
  eprint = {2401.13537}, archivePrefix = {arXiv}, year = {2024}
}
@article{Harris:2024sra,
  author = {Harris, Philip and Kagan, Michael and Krupa, Jeffrey and Maier, Benedikt and Woodward, Nathaniel},
  title = {Re-Simulation-based Self-Supervised Learning for Pre-Training Foundation Models},
  eprint = {2403.07066}, archivePrefix = {arXiv}, year = {2024}
}
```
"""


@dataclass(frozen=True)
class ModelCard:
    """The card that was written, and in sentences what could not be."""

    path: Path
    notes: tuple[str, ...]


def write_model_card(folder: Path, *, repo: str | None = None, license: str = LICENSE) -> ModelCard:
    """Write README.md, and the figures that it shows, into the folder of a finished run.

    Args:
        folder: with config.json, recipe.toml and training.json. What else it holds goes into the card, too:
            evaluation.json, map.png of `study map --out FOLDER`, and studies, `study labels --out FOLDER/studies/NAME`.
        repo: OWNER/NAME that the examples load; by default the folder's name.
        license: of the weights, by the Hub's name.

    Raises:
        InputError: the folder is no finished run.
        StorageError: a file cannot be written.
    """
    run = _read_run(folder)
    notes = (*write_training_figure(folder), *write_evaluation_figures(folder))
    text = _card(run, folder, repo or folder.name, license)
    write_whole(folder / CARD, text.encode())
    return ModelCard(folder / CARD, tuple(dict.fromkeys(notes)))


@dataclass(frozen=True)
class _Run:
    """A run's folder, read: `config` and `training` are JSON, `recipe` the text of its TOML."""

    config: dict[str, Any]
    training: dict[str, Any]
    recipe: str
    evaluation: dict[str, Any] | None

    @property
    def is_tagger(self) -> bool:
        return any(name.endswith("ForSequenceClassification") for name in self.config.get("architectures") or ())

    @property
    def sources(self) -> list[dict[str, Any]]:
        return list(self.training["data"]["sources"])

    @property
    def base(self) -> str | None:
        """The network whose weights it began with; None from scratch, whatever network it is compared with."""
        how = tomllib.loads(self.recipe)
        if how.get("mode") == "scratch":
            return None
        return how.get("checkpoint") or how.get("backbone", {}).get("checkpoint") or None

    @property
    def is_simulated(self) -> bool:
        """Whether the jets that trained it are known to be simulated: views under variations, or with a true label."""
        if all(source.get("variations") for source in self.sources):
            return True
        label = tomllib.loads(self.recipe).get("labels", {}).get("column", "")
        # Of two samples that are told apart, nobody reads the label.
        return len(self.sources) == 1 and label.startswith(_TRUE)

    @property
    def published(self) -> frozenset[str]:
        """Names that were found to be the Hub's when they were used."""
        described = (*self.sources, *([] if self.evaluation is None else [self.evaluation["data"]]))
        return frozenset((*self.training.get("published", ()), *(d["name"] for d in described if d.get("published"))))

    def is_published(self, name: str) -> bool:
        return is_published(name, self.published)

    def shown(self, name: str) -> str:
        return shown_name(name, self.published)

    @property
    def classes(self) -> list[str]:
        names = self.config.get("id2label") or {}
        return [names[key] for key in sorted(names, key=int)]


def _read_run(folder: Path) -> _Run:
    config, training = read_object(folder / "config.json"), read_object(folder / ORIGIN)
    recipe = folder / RECIPE
    if config is None or training is None or not recipe.exists():
        msg = (
            f"{folder}: no finished run; expected config.json, training.json and recipe.toml, as training leaves them."
        )
        raise InputError(msg)
    return _Run(config, training, recipe.read_text(encoding="utf-8"), read_object(folder / EVALUATION))


def _card(run: _Run, folder: Path, repo: str, license_name: str) -> str:
    title = repo.rsplit("/", 1)[-1]
    worth = _merit(run, folder), *study_sections(folder, run.published, repo)
    sections = {
        "": f"# {title}\n\n{_introduction(run)}",
        "Use": _use(run, folder, repo),
        "What it is worth": "\n".join(filter(None, worth)),
        "Data": _data(run),
        "Training": _training(run, folder),
        "Limits": (_SIMULATED if run.is_simulated else _UNKNOWN) + _LIMITS,
        "Licence": f"{license_name}. hepfm, the software, is BSD-3-Clause.\n",
        "Citation": _CITATION,
    }
    body = "\n".join(f"## {name}\n\n{text}" if name else text for name, text in sections.items() if text)
    return _front_matter(run, title, license_name) + body


def _front_matter(run: _Run, title: str, license_name: str) -> str:
    known: dict[str, Any] = {
        "library_name": "transformers",
        "license": license_name,
        "tags": ["physics", "high-energy-physics", "jets", "hepfm", str(run.config.get("model_type", ""))],
    }
    if datasets := [source["name"] for source in run.sources if run.is_published(source["name"])]:
        known["datasets"] = datasets
    if run.base is not None and run.is_published(run.base):
        known["base_model"] = run.base
    if run.evaluation is not None and run.evaluation.get("accuracy"):
        known["metrics"] = ["accuracy", "roc_auc"]
        data = run.evaluation["data"]["name"]
        values = {"accuracy": run.evaluation["accuracy"]["value"], "roc_auc": run.evaluation["auc"]}
        result = {
            "task": {"type": "other", "name": "jet classification"},
            "dataset": {"type": run.shown(data), "name": run.shown(data)},
            "metrics": [{"type": name, "value": value} for name, value in values.items() if value is not None],
        }
        known["model-index"] = [{"name": title, "results": [result]}]
    # A JSON value is YAML, and needs no library to be right.
    return "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in known.items()) + "---\n\n"


def _introduction(run: _Run) -> str:
    inputs = ", ".join(f"`{name}`" for name in run.config.get("inputs", ()))
    reads = f"It reads of each constituent of a jet, in GeV, mm and radians: {inputs}.\n"
    how = tomllib.loads(run.recipe)
    if not run.is_tagger:
        way = _OBJECTIVES.get(str(how.get("objective")), "")
        return f"A backbone for jets, pre-trained without labels{way}.\n\n{reads}"
    made = {
        "scratch": "trained from new weights",
        "linear": f"one layer on the frozen backbone `{run.shown(str(run.base))}`",
        "frozen": f"a head on the frozen backbone `{run.shown(str(run.base))}`",
        "full": f"fine-tuned from the backbone `{run.shown(str(run.base))}`",
    }.get(str(how.get("mode")), "fine-tuned")
    if how.get("task") == "regression":
        return f"Predicts `{how['labels']['column']}` of jets; {made}. {reads}"
    names = run.classes
    listed = ", ".join(names[:_MOST_CLASSES]) + (", ..." if len(names) > _MOST_CLASSES else "")
    if len(run.sources) > 1 or how.get("labels", {}).get("signal_fraction"):
        return f"Tells jets of two mixed samples apart (CWoLa, arXiv:1708.02949): {listed}; {made}. {reads}"
    return f"Tells {len(names)} classes of jets apart: {listed}; {made}. {reads}"


def _use(run: _Run, folder: Path, repo: str) -> str:
    # The folder may lie elsewhere tomorrow: the example is run from the one above it.
    name = repo if is_repo_id(repo) else folder.name
    where = "" if is_repo_id(repo) else f"From the folder that holds `{name}`:\n"
    given = {"n_constituents": 128, **run.config.get("finetuning", {})}
    kind = "AutoModelForSequenceClassification" if run.is_tagger else "AutoModel"
    command = ""
    if run.is_tagger:
        result = "scores = output.logits" + (".softmax(-1)" if run.config.get("problem_type") != "regression" else "")
        command = f"""
```bash
hepfm-data predict {name} my_jets.root --out scores.parquet
```

Scored from Python:
"""
        shown = "print(model.config.id2label, scores.shape)"
    else:
        result, shown = "embedding = output.pooler_output", "print(embedding.shape)"
        command = f"""
```bash
hepfm-data finetune {name} my_jets.root --label jet_label
```

Its view of jets, from Python:
"""
    return f"""{(where + command).lstrip()}
```python
import torch

from hepfm.models import {kind}

model = {kind}.from_pretrained("{name}").eval()
# Two jets of {given["n_constituents"]} places, of which the first 30 hold a constituent; here of nonsense.
constituents = torch.rand(2, {given["n_constituents"]}, len(model.config.inputs))
mask = torch.arange({given["n_constituents"]}).expand(2, -1) < 30
with torch.inference_mode():
    output = model(constituents, mask)
{result}
{shown}
```

`hepfm.training.batches.PaddedJets` makes `constituents` and `mask` of anything that `hepfm.open` opens.
"""


def _merit(run: _Run, folder: Path) -> str:
    found = run.evaluation
    if found is None:
        there = (folder / "map.png").exists()
        return _validation(run, folder) + there * f"\n![jets as points of a plane](map.png)\n\n*{_MAP_TEXT}.*\n"
    trained = "; jets that trained it are among them" if found.get("has_training_jets") else ""
    n_out = f"; {found['n_left_out']:,} of other classes were left out" if found["n_left_out"] else ""
    alike = "; their weights are not used" if found.get("has_weights") else ""
    data = f"{run.shown(found['data']['name'])} (split: {found['split']})"
    parts = [f"On {found['n_jets']:,} jets of {data}{n_out}{trained}{alike}.\n"]
    rows = [
        ("accuracy", _with_error(found.get("accuracy"))),
        ("area under the ROC curve, mean", _plain(found.get("auc"))),
    ]
    if "bias" in found:
        rows = [(n, _plain(found[n])) for n in ("resolution", "median", "mean_absolute_error", "explained")]
        rows.insert(0, ("bias", _with_error(found["bias"])))
    parts.append(markdown_table(("", ""), [row for row in rows if row[1]]))
    if rejection := found.get("rejection"):
        efficiencies = list(next(iter(rejection.values())))
        head = ("signal", "AUC", *(f"rejection at {e}" for e in efficiencies))
        cells = [
            (n, _with_error(found["auc_against_background"][n]), *(_with_error(v) for v in by_efficiency.values()))
            for n, by_efficiency in list(rejection.items())[:_MOST_CLASSES]
        ]
        parts.append(f"Against {', '.join(found['background'])}:\n\n" + markdown_table(head, cells))
    if "robustness" in found:
        parts.append(_robustness(found["robustness"]))
    pictures = {
        "roc.png": "background rejection over signal efficiency",
        "confusion.png": "which classes are taken for which",
        "scores.png": "scores under each variation",
    }
    parts += [f"![{text}]({name})\n" for name, text in pictures.items() if (folder / name).exists()]
    return "\n".join(parts)


def _validation(run: _Run, folder: Path) -> str:
    """What the evaluation during the training found whose weights the network has."""
    entries = [{n: v for n, v in entry.items() if n.startswith("validation_")} for entry in read_metrics(folder)]
    found = [entry for entry in entries if entry]
    if not found:
        return ""
    kept, where = found[-1], "On jets that trained nothing, at the end of the training"
    if run.is_tagger:
        # No number, null here, is worse than any; of equal ones the first is kept.
        kept = min(found, key=lambda entry: math.inf if (loss := entry["validation_loss"]) is None else loss)
        where = "On the jets that decided which weights are kept"
    rows = [(name.removeprefix("validation_").replace("_", " "), _plain(value)) for name, value in kept.items()]
    return f"{where}:\n\n{markdown_table(('', ''), rows)}"


def _robustness(robustness: Mapping[str, Any]) -> str:
    kinds = ("wasserstein", "jensen_shannon")
    rows = [
        (variation, name, *(_with_error(d[kind]) for kind in kinds), *(_plain(d[kind]["by_chance"]) for kind in kinds))
        for variation, by_class in robustness["variations"].items()
        for name, d in list(by_class.items())[:_MOST_CLASSES]
        if d is not None
    ]
    spread = [
        (name, f"{s['value']:.3g}", f"{s['relative']:.2f}", f"{s['n_jets']:,}")
        for name, s in list(robustness["spread"].items())[:_MOST_CLASSES]
        if s is not None
    ]
    parts = []
    if rows:
        between = f"between `{robustness['nominal']}` and the other variations"
        head = ("variation", "class", "Wasserstein", "Jensen-Shannon", "by chance", "by chance")
        parts.append(f"Distances of the score of each true class {between}:\n\n{markdown_table(head, rows)}")
        parts.append("By chance: what finite samples show if the variation changes nothing.\n")
    if spread:
        columns = ("class", "spread of a jet's score over its views", "in multiples of that over jets", "jets")
        parts.append(markdown_table(columns, spread))
    return "\n".join(parts)


def _data(run: _Run) -> str:
    data = run.training["data"]
    rows = [
        (f"`{run.shown(source['name'])}`", f"{source.get('n_jets', 0):,}", f"`{source.get('digest', '')}`")
        for source in run.sources
    ]
    facts = [("jets that trained", data.get("n_training", data.get("n_train")))]
    facts += [("jets that decided when to stop", data.get("n_validation") or None)]
    facts += [("inputs that they lack", ", ".join(data.get("missing_inputs", ())) or None)]
    text = markdown_table(("data", "jets", "digest"), rows)
    text += "\n" + markdown_table(
        ("", ""), [(n, f"{v:,}" if isinstance(v, int) else str(v)) for n, v in facts if v is not None]
    )
    notes = [
        note.replace(str(s["name"]), run.shown(s["name"])) for note in data.get("notes", ()) for s in run.sources[:1]
    ]
    return text + ("\n" + "".join(f"* {note}\n" for note in notes) if notes else "")


def _training(run: _Run, folder: Path) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.training.get("versions", {}).items())
    recipe = _PATHS.sub(lambda found: f'"{run.shown(found[1])}"', run.recipe.strip())
    picture = "![loss over steps](training.png)\n\n" if (folder / "training.png").exists() else ""
    what = versions or f"hepfm {__version__}"
    return f"With {what}; this is the recipe:\n\n```toml\n{recipe}\n```\n\n{picture}".rstrip() + "\n"


def _with_error(measured: Mapping[str, float | None] | None) -> str:
    if measured is None or measured["value"] is None:
        return "" if measured is None else "no background left"
    return f"{measured['value']:.4g}" + ("" if not measured["error"] else f" ± {measured['error']:.2g}")


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
