"""What there is to know about a campaign, as tables that a card prints in Markdown and a report in HTML."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepfm import manifest
from hepfm.markdown import markdown_table
from hepfm.resim.campaign import Campaign
from hepfm.resim.detector import DETECTORS
from hepfm.resim.folder import read_campaign
from hepfm.resim.variations import Variation
from hepfm.summary import summarise

# Where a campaign's software says what version it has, and what it does.
_SOFTWARE = {"pythia8mc": "generator", "fastjet": "jet clustering", "hepfm": "frozen events, detector, labels"}


_PLAIN_POWERS = 4  # powers of ten that are written out
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; what is between two backticks is code. `n_text` columns come before the numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_text: int = 1


@dataclass(frozen=True)
class Facts:
    """A campaign, what its folder says of how it was made, and sums over its shards.

    Attributes:
        campaign: as it was asked for.
        header: `manifest.json`.
        records: of the finished shards.
        summary: as `hepfm.summary.summarise` gives it.
    """

    campaign: Campaign
    header: dict[str, Any]
    records: tuple[manifest.ShardRecord, ...]
    summary: dict[str, Any]

    @property
    def n_frozen(self) -> int:
        """Frozen events that there are views of; of a campaign that is not finished, fewer than were asked for."""
        return sum({record.chunk: record.n_events for record in self.records}.values())

    @property
    def n_views(self) -> int:
        """Views that were made, whether or not a jet passed in them."""
        return sum(record.n_events - record.n_missing for record in self.records)


def read_facts(folder: Path) -> Facts:
    """Read what a campaign folder says about itself.

    Raises:
        CampaignError, InputError: the folder is no campaign, or damaged.
    """
    campaign = read_campaign(folder)
    records = manifest.read(folder)
    return Facts(
        campaign,
        manifest.read_header(folder),
        tuple(records),
        summarise(records, [v.name for v in campaign.variations]),
    )


def variations_table(facts: Facts) -> Table:
    """Name, description, exact settings and counts of every variation that has views."""
    campaign = facts.campaign
    rows = []
    for view, variation in enumerate(campaign.variations):
        counts = facts.summary["variations"].get(variation.name)
        if counts is not None:
            cells = (f"`{variation.name}`", variation.description, _settings(campaign, view), variation.citation)
            rows.append((*cells, f"{counts['n_jets']:,}", f"{counts['n_missing']:,}"))
    headings = ("variation", "what is different", "settings", "source", "jets", "views not made")
    return Table(headings, tuple(rows), n_text=4)


def processes_table(facts: Facts) -> Table:
    """Name, description, settings, number of events and cross-section of every process."""
    rows = []
    for process in facts.campaign.processes:
        counts = facts.summary["processes"].get(process.name, {})
        value, error = counts.get("cross_section"), counts.get("cross_section_error", 0.0)
        cross_section = "" if value is None else measured(value, error)
        settings = "; ".join((*process.settings, *process.shower_settings))
        made = f"`{settings}`" if settings else "from a file"
        rows.append(
            (
                *(f"`{process.name}`", process.description, made, process.citation),
                f"{int(counts.get('n_events', 0)):,}",
                cross_section,
            )
        )
    headings = ("process", "what it is", "settings", "source", "frozen events", "cross-section [pb]")
    return Table(headings, tuple(rows), n_text=4)


def efficiencies_table(facts: Facts) -> Table:
    """The share of views with a jet that passes, by variation and process, with its statistical error."""
    processes = [p.name for p in facts.campaign.processes if p.name in facts.summary["processes"]]
    rows = [
        (f"`{name}`", *(efficiency(facts, name, process) for process in processes))
        for name in facts.summary["variations"]
    ]
    return Table(("variation", *(f"`{name}`" for name in processes)), tuple(rows))


def provenance_table(facts: Facts) -> Table:
    """Seed, beams, detector, selection, digest and the versions of the software."""
    campaign, selection = facts.campaign, facts.campaign.selection
    upper = f" to {selection.pt_max:g}" if math.isfinite(selection.pt_max) else ""
    beams = campaign.beams
    versions = facts.header.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    rows = [
        ("seed", f"{campaign.seed}; the random numbers of a view follow from it, the event and the variation alone"),
        (
            "beams",
            "as in the files"
            if campaign.from_files
            else f"{beams.energy_a + beams.energy_b:g} GeV, particles {beams.id_a} and {beams.id_b}",
        ),
        ("detector", f"`{campaign.detector}`: {DETECTORS[campaign.detector].description}"),
        (
            "jets",
            f"anti-kT, R = {selection.radius:g}, of candidates above {selection.candidate_pt_min:g} GeV; "
            f"pt {'above ' if not upper else ''}{selection.pt_min:g}{upper} GeV, |eta| < {selection.abs_eta_max:g}; "
            f"soft drop z_cut {selection.soft_drop_zcut:g}, beta {selection.soft_drop_beta:g}",
        ),
        ("labels", f"of the frozen particle within {campaign.match_radius:g} of the jet's axis"),
        *((what, f"{name} {versions[name]}") for name, what in _SOFTWARE.items() if name in versions),
        ("further software", ", ".join(f"{n} {v}" for n, v in versions.items() if n not in _SOFTWARE)),
        ("digest of the campaign", f"`{campaign.digest}`"),
    ]
    return Table(("", ""), tuple(row for row in rows if row[1]), n_text=2)


def markdown(table: Table) -> str:
    """A table in Markdown."""
    return markdown_table(table.headings, table.rows, n_text=table.n_text)


def measured(value: float, error: float) -> str:
    """A number with its error, both to the error's second digit; small and large ones with a power of ten."""
    power = math.floor(math.log10(abs(value))) if value else 0
    power = 0 if -_PLAIN_POWERS < power < _PLAIN_POWERS else power
    value, error = value / 10**power, error / 10**power
    n_digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else _PLAIN_POWERS
    text = f"{value:.{n_digits}f} ± {error:.{n_digits}f}"
    return text if not power else f"({text}) × 10{str(power).translate(_SUPERSCRIPTS)}"


def efficiency(facts: Facts, variation: str, process: str | None = None) -> str:
    """The share of a variation's views with a jet that passes, of one process or of all, with its statistical error."""
    mine = [r for r in facts.records if r.variation == variation and process in (None, r.process)]
    n = sum(record.n_events - record.n_missing for record in mine)
    if not n:
        return ""
    k = n - sum(record.n_without_jet for record in mine)
    # The error of the Bayesian estimate with a flat prior: never 0, unlike that of k / n.
    variance = (k + 1) * (k + 2) / ((n + 2) * (n + 3)) - ((k + 1) / (n + 2)) ** 2
    return f"{measured(100 * k / n, 100 * math.sqrt(variance))} %"


def _settings(campaign: Campaign, view: int) -> str:
    variation: Variation = campaign.variations[view]
    kept = "" if variation.is_independent else f"keeps the {variation.kept} of `{variation.base}`"
    detector = f"detector `{variation.detector}`" if variation.detector else ""
    made = variation.external or ("HepMC files of another generator" if variation.hepmc else "")
    settings = made or "; ".join(variation.settings)
    parts = [kept, f"`{settings}`" if settings else "", detector]
    return "; ".join(part for part in parts if part) or "Pythia's defaults"
