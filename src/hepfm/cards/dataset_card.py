"""The card of a published dataset, from the campaign's own records and the schema; nothing in it is written by hand."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hepfm import manifest
from hepfm.dataset import Dataset
from hepfm.formats.hub_layout import PublishedFile
from hepfm.resim.campaign import Campaign
from hepfm.resim.folder import CAMPAIGN_FILE
from hepfm.schema import COLUMNS, GROUPS, JET_CLASSES, JET_FLAVOURS, SPLIT_RULE, SPLITS
from hepfm.summary import summarise

# The Hub's names for numbers of rows.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGER = (10**8, "10M<n<100M"), (10**9, "100M<n<1B")
_LARGEST = "n>1B"

_LIMITATIONS = """\
* Leading order with a parton shower; no pile-up; a fast, parametrised detector, not a full simulation.
* Labels are those of the frozen hard process: a view may have lost what its label promises.
* Views of an event are not independent of each other: errors of comparisons between them must not be added as if they
  were. All views of an event are in the same split.
* A view that fails the selection is a missing row: selections differ between variations, as they would in an analysis.
"""

_CITATION = """\
```bibtex
@article{Harris:2024sra,
  author = {Harris, Philip and Kagan, Michael and Krupa, Jeffrey and Maier, Benedikt and Woodward, Nathaniel},
  title = {Re-Simulation-based Self-Supervised Learning for Pre-Training Foundation Models},
  eprint = {2403.07066}, archivePrefix = {arXiv}, year = {2024}
}
@article{Bierlich:2022pfr,
  author = {Bierlich, Christian and others},
  title = {A comprehensive guide to the physics and usage of PYTHIA 8.3},
  eprint = {2203.11601}, archivePrefix = {arXiv}, year = {2022}
}
```
"""


def dataset_card(
    folder: Path,
    dataset: Dataset,
    files: Sequence[PublishedFile],
    *,
    repo: str,
    license: str,
) -> str:
    """Write the README.md of a dataset.

    Args:
        folder: the campaign's.
        dataset: the campaign, opened.
        files: its Parquet files.
        repo: what the examples load: OWNER/NAME, or a folder.
        license: by the Hub's name, such as "cc-by-4.0".

    Raises:
        CampaignError: the folder is no campaign, or damaged.
    """
    campaign = Campaign.from_toml(folder / CAMPAIGN_FILE)
    header = manifest.read_header(folder)
    summary = summarise(manifest.read(folder), dataset.variations)
    sections = {
        "": _introduction(campaign, dataset, repo),
        "Reading": _examples(dataset, repo),
        "Variations": _variations(campaign, summary),
        "Processes": _processes(campaign, summary),
        "Splits": _splits(files),
        "Columns": _columns(),
        "How it was made": _provenance(campaign, header),
        "Limitations": _LIMITATIONS,
        "Licence": f"{license}. The software that made it, hepfm, is BSD-3-Clause.\n",
        "Citation": _CITATION,
    }
    body = "\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items())
    return _front_matter(files, len(dataset), repo, license) + body


def configurations(files: Sequence[PublishedFile]) -> list[dict[str, object]]:
    """What the card's YAML says of the files: one configuration a variation, the first one the default, and `all`."""
    variations = list(dict.fromkeys(file.variation for file in files))
    found: list[dict[str, object]] = []
    for name in [*variations, "all"]:
        folders = variations if name == "all" else [name]
        present = {file.split for file in files if file.variation in folders}
        data_files = [
            {"split": split, "path": [f"data/{folder}/{split}-*.parquet" for folder in folders]}
            for split in SPLITS
            if split in present
        ]
        default = {"default": True} if name == variations[0] else {}
        found.append({"config_name": name, **default, "data_files": data_files})
    return found


def _front_matter(files: Sequence[PublishedFile], n_jets: int, repo: str, license_name: str) -> str:
    size = next((name for limit, name in (*_SIZES, *_LARGER) if n_jets < limit), _LARGEST)
    known = {
        "license": license_name,
        "pretty_name": repo.rsplit("/", 1)[-1],
        "tags": ["physics", "high-energy-physics", "jets", "re-simulation", "hepfm"],
        "task_categories": ["other"],
        "size_categories": [size],
        "configs": configurations(files),
    }
    # A JSON value is YAML, and needs no library to be right.
    return "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in known.items()) + "---\n\n"


def _introduction(campaign: Campaign, dataset: Dataset, repo: str) -> str:
    return f"""\
# {repo.rsplit("/", 1)[-1]}

{len(dataset):,} simulated jets: {campaign.n_events:,} hard collisions, each frozen and simulated again under
{len(dataset.variations)} variations of the physics (the method of RS3L, arXiv:2403.07066). One row is one jet in one
view; the views of a jet have the same `event_id` and `jet_index`. Names and conventions are JetClass's
(arXiv:2202.03772): GeV, mm, radians.
"""


def _examples(dataset: Dataset, repo: str) -> str:
    first, other = dataset.variations[0], dataset.variations[-1]
    return f"""\
```python
from datasets import load_dataset

jets = load_dataset("{repo}", split="train")  # the variation {first!r}
others = load_dataset("{repo}", "{other}", split="train")
print(jets[0]["jet_pt"], len(jets[0]["part_px"]))
```

With hepfm, as Awkward arrays of four-momenta, and views side by side:

```python
import hepfm

data = hepfm.open("{repo}")
first, second = data.pairs("{first}", "{other}")  # row i of both: the same jet of the same frozen event
print(first.p4.mass, second.particles.pt)
```
"""


def _variations(campaign: Campaign, summary: dict[str, Any]) -> str:
    rows = []
    for variation in campaign.variations:
        counts = summary["variations"].get(variation.name)
        if counts is None:
            continue
        n_views = counts["n_events"] - counts["n_missing"]
        passed = (n_views - counts["n_without_jet"]) / n_views if n_views else 0.0
        kept = "" if variation.is_independent else f"keeps the {variation.freeze} of `{variation.base}`; "
        made = variation.external or variation.hepmc or "; ".join(variation.settings) or "Pythia's defaults"
        numbers = (f"{counts['n_jets']:,}", f"{passed:.1%}", f"{counts['n_missing']:,}")
        rows.append((f"`{variation.name}`", variation.description, f"{kept}`{made}`", *numbers))
    names = ("variation", "what is different", "settings", "jets", "events with a jet", "events not made")
    return _table(names, rows)


def _processes(campaign: Campaign, summary: dict[str, Any]) -> str:
    rows = []
    for process in campaign.processes:
        counts = summary["processes"].get(process.name, {})
        value, error = counts.get("cross_section"), counts.get("cross_section_error", 0.0)
        cross_section = "" if value is None else f"{value:.4g} ± {error:.2g}"
        events = f"{int(counts.get('n_events', 0)):,}"
        settings = "; ".join((*process.settings, *process.shower_settings)) or "from a file"
        rows.append((f"`{process.name}`", process.description, events, cross_section, f"`{settings}`"))
    return _table(("process", "what it is", "frozen events", "cross-section [pb]", "settings"), rows)


def _splits(files: Sequence[PublishedFile]) -> str:
    counts: dict[str, dict[str, int]] = {}
    for file in files:
        own = counts.setdefault(file.variation, dict.fromkeys(SPLITS, 0))
        own[file.split] += file.n_jets
    rows = [(f"`{name}`", *(f"{own[split]:,}" for split in SPLITS)) for name, own in counts.items()]
    return f"By a hash of the event: {SPLIT_RULE}.\n\n" + _table(("variation", *SPLITS), rows)


def _columns() -> str:
    rows = [
        (f"`{c.name}`", f"list of {c.dtype}" if name == "constituents" else c.dtype, c.unit, c.meaning)
        for name, group in GROUPS.items()
        for c in group
    ]
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(JET_CLASSES))
    flavours = ", ".join(f"{code} {name}" for name, code in JET_FLAVOURS.items())
    text = f"{len(COLUMNS)} columns; constituents are ordered by falling transverse momentum.\n\n"
    return (
        text + _table(("column", "type", "unit", "meaning"), rows) + f"\nClasses: {classes}.\n\nFlavours: {flavours}.\n"
    )


def _provenance(campaign: Campaign, header: dict[str, Any]) -> str:
    versions = header.get("versions", {})
    facts = {
        "seed": campaign.seed,
        "detector": campaign.detector,
        "digest of the campaign": f"`{campaign.digest}`",
        **({"software": ", ".join(f"{n} {v}" for n, v in versions.items())} if isinstance(versions, dict) else {}),
    }
    again = "`hepfm-data resim --config campaign.toml` makes it again, bit for bit, with the same versions.\n"
    return _table(("", ""), [(name, str(value)) for name, value in facts.items()]) + "\n" + again


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # A bar in a cell would end it.
    lines = [names, ["---"] * len(names), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
