"""The card of a published dataset, from the campaign's own records and the schema; nothing in it is written by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hepfm.cards.citations import citation
from hepfm.cards.facts import (
    Facts,
    Table,
    efficiencies_table,
    markdown,
    processes_table,
    provenance_table,
    read_facts,
    variations_table,
)
from hepfm.cards.pictures import Picture
from hepfm.cards.texts import distributions, efficiencies, limitations, views
from hepfm.dataset import Dataset
from hepfm.formats.hub_layout import PublishedFile
from hepfm.resim.campaign import Campaign
from hepfm.schema import COLUMNS, GROUPS, JET_CLASSES, JET_FLAVOURS, SPLIT_RULE, SPLITS

# The Hub's names for numbers of rows.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGER = (10**8, "10M<n<100M"), (10**9, "100M<n<1B")
_LARGEST = "n>1B"


def dataset_card(
    folder: Path,
    dataset: Dataset,
    files: Sequence[PublishedFile],
    *,
    repo: str,
    license: str,
    pictures: Sequence[Picture] = (),
) -> str:
    """Write the README.md of a dataset.

    Args:
        folder: the campaign's.
        dataset: the campaign, opened.
        files: its Parquet files.
        repo: what the examples load: OWNER/NAME, or a folder.
        license: by the Hub's name, such as "cc-by-4.0".
        pictures: as `hepfm.cards.pictures.write_pictures` gives them; the first is shown at the top.

    Raises:
        CampaignError: the folder is no campaign, or damaged.
    """
    facts, n_variations = read_facts(folder), len(dataset.variations)
    sections = {
        "": _introduction(facts, dataset, repo) + _shown(pictures[:1]),
        "Reading": _examples(files, repo),
        "Variations": f"{views(n_variations)}\n" + markdown(variations_table(facts)),
        "Processes": markdown(processes_table(facts)),
        "Selection efficiencies": f"{efficiencies(n_variations)}\n" + markdown(efficiencies_table(facts)),
        **({"Distributions": distributions(n_variations) + _shown(pictures[1:])} if pictures[1:] else {}),
        "Splits": _splits(files),
        "Columns": _columns(),
        "How it was made": _provenance(facts),
        "Limitations": limitations(facts.campaign, n_variations),
        "Licence": _licence(license),
        "Citation": citation(facts, repo),
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
    several = len({file.variation for file in files}) > 1
    known = {
        "license": license_name,
        "pretty_name": repo.rsplit("/", 1)[-1],
        "tags": ["physics", "high-energy-physics", "jets", *["re-simulation"] * several, "hepfm"],
        "task_categories": ["other"],
        "size_categories": [size],
        "configs": configurations(files),
    }
    # A JSON value is YAML, and needs no library to be right.
    return "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in known.items()) + "---\n\n"


def _shown(pictures: Sequence[Picture]) -> str:
    return "".join(f"\n![{picture.text}]({picture.path})\n\n*{picture.text}.*\n" for picture in pictures)


def _licence(name: str) -> str:
    known = {"cc-by-4.0": "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/)", "cc0-1.0": "CC0 1.0"}
    return f"{known.get(name.lower(), name)}. The software that made it, hepfm, is BSD-3-Clause.\n"


def _introduction(facts: Facts, dataset: Dataset, repo: str) -> str:
    n_jets, n_frozen, variations = f"{len(dataset):,}", f"{facts.n_frozen:,}", dataset.variations
    if len(variations) == 1:
        what = f"""\
{n_jets} simulated jets of {n_frozen} hard collisions, each in one view, `{variations[0]}`. One row is one jet; jets of
the same collision have the same `event_id`."""
    else:
        what = f"""\
{n_jets} simulated jets: {n_frozen} hard collisions, each frozen and simulated again under {len(variations)} variations
of the physics (the method of RS3L, arXiv:2403.07066). One row is one jet in one view; the views of a jet have the same
`event_id` and `jet_index`."""
    return f"""\
# {repo.rsplit("/", 1)[-1]}

{what} Names and conventions are JetClass's (arXiv:2202.03772): GeV, mm, radians.
"""


def _examples(files: Sequence[PublishedFile], repo: str) -> str:
    first, other = files[0].variation, files[-1].variation
    if first == other:
        others, what = "", "as Awkward arrays of four-momenta"
        read = "jets = data.jets\nprint(jets.p4.mass, jets.particles.pt)"
    else:
        others = f'others = load_dataset("{repo}", "{other}", split="{_first_split(files, other)}")\n'
        what = "as Awkward arrays of four-momenta, and views side by side"
        read = f"""\
first, second = data.pairs("{first}", "{other}")  # row i of both: the same jet of the same frozen event
print(first.p4.mass, second.particles.pt)"""
    return f"""\
```python
from datasets import load_dataset

jets = load_dataset("{repo}", split="{_first_split(files, first)}")  # the variation {first!r}
{others}print(jets[0]["jet_pt"], len(jets[0]["part_px"]))
```

With hepfm, {what}:

```python
import hepfm

data = hepfm.open("{repo}")
{read}
```
"""


def _first_split(files: Sequence[PublishedFile], variation: str) -> str:
    """The first split that a variation has jets in."""
    return next(split for split in SPLITS if any((f.variation, f.split) == (variation, split) for f in files))


def _splits(files: Sequence[PublishedFile]) -> str:
    counts: dict[str, dict[str, int]] = {}
    for file in files:
        own = counts.setdefault(file.variation, dict.fromkeys(SPLITS, 0))
        own[file.split] += file.n_jets
    rows = tuple((f"`{name}`", *(f"{own[split]:,}" for split in SPLITS)) for name, own in counts.items())
    return f"Jets by a hash of the event: {SPLIT_RULE}.\n\n" + markdown(Table(("variation", *SPLITS), rows))


def _columns() -> str:
    rows = tuple(
        (f"`{c.name}`", f"list of {c.dtype}" if name == "constituents" else c.dtype, c.unit, c.meaning)
        for name, group in GROUPS.items()
        for c in group
    )
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(JET_CLASSES))
    flavours = ", ".join(f"{code} {name}" for name, code in JET_FLAVOURS.items())
    text = f"{len(COLUMNS)} columns; constituents are ordered by falling transverse momentum.\n\n"
    table = markdown(Table(("column", "type", "unit", "meaning"), rows, n_text=4))
    return f"{text}{table}\nClasses: {classes}.\n\nFlavours: {flavours}.\n"


def _provenance(facts: Facts) -> str:
    again = "`hepfm-data resim --config campaign.toml` makes it again, bit for bit, with the same versions:\n"
    return f"{markdown(provenance_table(facts))}\n{again}\n```toml\n{_portable(facts.campaign).to_toml()}```\n"


def _portable(campaign: Campaign) -> Campaign:
    """The campaign without the folders of the machine that it was made on."""
    processes = [replace(p, lhe=_name(p.lhe), hepmc=_name(p.hepmc)) for p in campaign.processes]
    variations = [replace(v, hepmc=_name(v.hepmc) or "") for v in campaign.variations]
    return replace(campaign, processes=tuple(processes), variations=tuple(variations))


def _name(path: str | None) -> str | None:
    return Path(path).name if path else path
