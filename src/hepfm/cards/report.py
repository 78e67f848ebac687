"""A dataset as one HTML page that needs nothing else: facts, distributions, and a viewer of jets in all their views."""

import os
from dataclasses import dataclass
from pathlib import Path
from string import Template

from hepfm import __version__
from hepfm.atomic import exists, location, write_whole
from hepfm.cards.distributions import draw_distribution, drawn_classes
from hepfm.cards.facts import (
    Facts,
    Table,
    efficiencies_table,
    efficiency,
    measured,
    processes_table,
    provenance_table,
    read_facts,
    variations_table,
)
from hepfm.cards.gallery import Gallery
from hepfm.cards.histograms import ALL, Histograms
from hepfm.cards.page import data_block, html_figure, html_figures, html_table, page, prose, section, template
from hepfm.cards.prongs import frozen_prongs_of
from hepfm.cards.style import FAINT, KINDS, why_no_plots
from hepfm.cards.survey import Report, Survey, survey
from hepfm.cards.texts import distributions, efficiencies, views
from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.opening import open as open_jets
from hepfm.resim.folder import CAMPAIGN_FILE

DEFAULT_EVENTS = 60
_MAX_TILES = 4  # processes whose cross-sections are among the headline facts
_MAX_FIGURE = 12.0  # inches


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        path: of the page.
        n_jets: that it sums up.
        n_shown: jets, with all their views, in the viewer.
        left_out: in sentences what the page does not have, and why.
    """

    path: Path
    n_jets: int
    n_shown: int
    left_out: tuple[str, ...]


def write_report(
    source: str | os.PathLike[str],
    out: Path,
    *,
    n_events: int = DEFAULT_EVENTS,
    columns: str | os.PathLike[str] | None = None,
    report: Report | None = None,
) -> Written:
    """Write the page of a dataset. The same dataset gives the same page.

    Args:
        source: whatever `hepfm.open` opens; of a campaign folder the page knows more.
        out: the page's file, replaced if it is there.
        n_events: jets in the viewer, at most; each adds some 10 kB for eight views.
        columns: a column map, as `hepfm.open` takes it.
        report: told how the reading proceeds.

    Raises:
        CampaignError: a folder that holds no campaign, or a damaged one.
        InputError: no such source, a damaged file, no jets in it, or `out` is one of the files that are read.
        StorageError: the page could not be written.
    """
    dataset = open_jets(source, columns=columns)
    dataset.check_target(out)
    if not len(dataset):
        msg = f"{source}: has no jets yet. Run the campaign first, then write its report."
        raise InputError(msg)
    place = location(os.fspath(source))
    facts = read_facts(place) if exists(place / CAMPAIGN_FILE) else None
    seen = survey(dataset, n_events, report)
    prongs = {} if facts is None or facts.campaign.is_finished else frozen_prongs_of(place, seen.gallery.keys)
    jets = seen.gallery.entries(prongs)
    left_out = _left_out(dataset, facts, seen, bool(prongs))
    sections = {}
    if jets:
        text = _viewer_text(dataset, seen.gallery, len(jets), bool(prongs))
        title = "One jet, all its views" if seen.gallery.has_views else "Jets"
        sections["Jets"] = Template(template("viewer.html")).substitute(title=title, text=text)
    sections |= _sections(dataset, facts, seen)
    if remarks := (*left_out, *dataset.notes):
        sections["About this page"] = section("about", "About this page", *map(prose, remarks))
    frame = seen.gallery.frame(facts.campaign.selection.radius if facts else None)
    kinds = [{"name": name, "colour": colour} for name, colour in KINDS.values()]
    data = {
        "jets": jets,
        "variations": frame.variations,
        "radius": frame.radius,
        "reach": frame.reach,
        "kinds": kinds,
        "other": {"name": "constituent", "colour": FAINT},
    }
    html = page(
        title=Path(dataset.name).name,
        lead=_lead(dataset, facts),
        headline=_headline(dataset, facts, seen),
        sections=sections,
        data=data_block("gallery", data) if jets else "",
        footer=f"Written by hepfm {__version__}. The page needs no network, and loads nothing.",
    )
    write_whole(out, html.encode())
    return Written(out, len(dataset), len(jets), left_out)


def _lead(dataset: Dataset, facts: Facts | None) -> str:
    if facts is None:
        under = f" under {len(dataset.variations)} variations" if len(dataset.variations) > 1 else ""
        return f"{len(dataset):,} jets{under}, read from `{Path(dataset.name).name}`."
    if len(dataset.variations) == 1:
        return (
            f"{facts.n_frozen:,} hard collisions, each in one view, `{dataset.variations[0]}`: {len(dataset):,} jets."
        )
    return (
        f"{facts.n_frozen:,} hard collisions, each frozen and simulated again under {len(dataset.variations)} "
        f"variations of the physics: {len(dataset):,} jets."
    )


def _headline(dataset: Dataset, facts: Facts | None, seen: Survey) -> dict[str, str]:
    known = {"jets": f"{len(dataset):,}", "constituents": f"{seen.n_constituents:,}"}
    if dataset.variations:
        known["variations"] = f"{len(dataset.variations):,}"
    if seen.histograms is not None and dataset.classes:
        known["classes"] = f"{int((seen.histograms.n_jets.sum(axis=1) > 0).sum()):,}"
    if facts is None:
        return known
    processes = facts.summary["processes"].items()
    versions = facts.header.get("versions")
    generator = versions.get("pythia8mc", "") if isinstance(versions, dict) else ""
    more = {
        "frozen events": f"{facts.n_frozen:,}",
        "views simulated": f"{facts.n_views:,}",
        **known,
        **{
            f"cross-section of {name} [pb]": measured(p["cross_section"], p["cross_section_error"])
            for name, p in processes
            if "cross_section" in p and len(processes) <= _MAX_TILES
        },
        f"events with a jet, {dataset.variations[0]}": efficiency(facts, dataset.variations[0]),
        "Pythia": generator,
        "detector": facts.campaign.detector,
        "seed": f"{facts.campaign.seed}",
    }
    return {name: value for name, value in more.items() if value}


def _viewer_text(dataset: Dataset, gallery: Gallery, n_shown: int, has_prongs: bool) -> str:
    """What the viewer shows."""
    each = "each with all its views; " if gallery.has_views else ""
    of_class = ", about as many of each class" if dataset.classes else ""
    marks = (
        " Crosses mark the frozen quarks and leptons, the same in all views."
        if has_prongs
        else " A cross marks the frozen particle, the same in all views."
        if {"truth_eta", "truth_phi"} <= set(dataset.columns)
        else ""
    )
    n_all = "" if gallery.has_views else f" of {len(dataset):,}"
    return (
        f"{n_shown}{n_all} jets drawn at random{of_class}; {each}the area of a disc is the transverse momentum of a "
        f"constituent.{marks}"
    )


def _sections(dataset: Dataset, facts: Facts | None, seen: Survey) -> dict[str, str]:
    """What is known besides the viewer, as HTML by name."""
    found: dict[str, str] = {}
    if seen.histograms is not None and seen.histograms.observables:
        text = distributions(len(seen.histograms.variations))
        found["Distributions"] = section(
            "distributions", "Distributions", prose(_drawn(seen.histograms)), prose(text), _figures(seen.histograms)
        )
    if facts is not None:
        found["Variations"] = section(
            "variations",
            "Variations",
            prose(views(len(dataset.variations))),
            html_table(variations_table(facts)),
        )
        found["Processes"] = section(
            "processes",
            "Processes",
            html_table(processes_table(facts)),
            "<h3>Selection efficiencies</h3>",
            prose(efficiencies(len(dataset.variations))),
            html_table(efficiencies_table(facts)),
        )
    if seen.histograms is not None:
        found["Numbers of jets"] = section("numbers", "Numbers of jets", html_table(_counts(seen.histograms)))
    if facts is not None:
        found["How it was made"] = section("provenance", "How it was made", html_table(provenance_table(facts)))
    return found


def _figures(histograms: Histograms) -> str:
    width, figures = 0.0, []
    for o in histograms.observables:
        figure = draw_distribution(histograms, o)
        width = max(width, figure.get_figwidth())
        figures.append(html_figure(figure, o.name, o.title, f"Distribution of the {o.title} by class and variation"))
    return html_figures(figures, min(width, _MAX_FIGURE))


def _drawn(histograms: Histograms) -> str:
    """Which classes the figures show."""
    drawn = drawn_classes(histograms)
    there = [name for name, n in zip(histograms.classes, histograms.n_jets.sum(axis=1), strict=True) if n]
    if set(drawn) >= set(there):
        return f"Of all {int(histograms.n_jets.sum()):,} jets."
    if drawn == (ALL,):
        return f"Of all {len(there)} classes together: most of them have few jets."
    return f"Of {len(drawn)} of {len(there)} classes, those of most jets."


def _counts(histograms: Histograms) -> Table:
    rows = [
        (f"`{name}`", *(f"{n:,}" for n in counts))
        for name, counts in zip(histograms.classes, histograms.n_jets.tolist(), strict=True)
        if any(counts)
    ]
    return Table(("class", *(f"`{name}`" for name in histograms.variations)), tuple(rows))


def _left_out(dataset: Dataset, facts: Facts | None, seen: Survey, has_prongs: bool) -> tuple[str, ...]:
    """What the page has no data for, in sentences."""
    found = []
    if facts is None:
        found.append("No settings, cross-sections and efficiencies: they are known of campaign folders only.")
    if (why := why_no_plots()) is not None:
        found.append(f"No distributions: {why}.")
    if seen.histograms is not None and seen.histograms.missing:
        names = ", ".join(o.title for o in seen.histograms.missing)
        found.append(f"No distributions of: {names}. The jets lack the columns for them.")
    if not seen.gallery.is_possible:
        found.append("No pictures of jets: they need the axis of a jet and the momenta of its constituents.")
    elif not seen.gallery.has_views:
        found.append("Jets are shown one by one: nothing says which of them are views of the same event.")
    if facts is not None and not has_prongs and seen.gallery.keys:
        found.append("No frozen quarks are marked: the campaign's folder does not hold the frozen events.")
    return tuple(found)
