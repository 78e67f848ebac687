"""From what a user asks for to a campaign."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from hepfm.errors import InputError
from hepfm.formats.hepmc import count_events
from hepfm.formats.lhe import scan
from hepfm.resim.campaign import BLOCK_EVENTS, Campaign, check, digest_of
from hepfm.resim.clustering import JetSelection
from hepfm.resim.processes import FILES, Process, resolve_processes
from hepfm.resim.variations import Variation, resolve_variations

# Of Pythia's default shower, and of Vincia.
_BELOW_SCALUP = ("SpaceShower:pTmaxMatch = 1", "TimeShower:pTmaxMatch = 1", "Vincia:pTmaxMatch = 1")
# What MC@NLO subtracted is this shower (Pythia 8.3 manual, aMC@NLO matching).
_SUBTRACTED = (
    *_BELOW_SCALUP,
    "SpaceShower:pTmaxFudge = 1",
    "TimeShower:pTmaxFudge = 1",
    "SpaceShower:MEcorrections = off",
    "TimeShower:MEcorrections = off",
    "TimeShower:globalRecoil = on",
    "TimeShower:weightGluonToQuark = 1",
)
_MERGED = "the file was made for multi-jet merging, which is not applied: samples of different multiplicity overlap."
_MATCHED = (
    "aMC@NLO events are showered with a global recoil from SCALUP down and without corrections, as they were made for; "
    "Vincia is not what was subtracted."
)
_FROM_POWHEG = "POWHEG events are showered from SCALUP down, without POWHEG's own veto on harder emissions."


def plan(
    n_events: int | None = None,
    variations: str | Sequence[Variation] = "8",
    processes: str = "rs3l",
    *,
    lhe: Sequence[Path | str] = (),
    hepmc: Sequence[Path | str] = (),
    detector: str = "cms",
    seed: int = 1,
    chunk_events: int | None = None,
    jet_pt: tuple[float | None, float | None] = (None, None),
) -> Campaign:
    """Resolve what a user asks for into a campaign, and check all of it.

    Args:
        n_events: frozen events in all; by default 10,000, or all events of the files.
        variations: a number of the default list, names, or TOML files, separated by commas; or the variations
            themselves.
        processes: `rs3l`, `jetclass`, or names of the catalogue; not used with `lhe`.
        lhe: Les Houches files that hold the frozen events.
        hepmc: HepMC files of finished events: those that another generator has already hadronised.
        detector: `none`, `cms` or `jetclass`.
        seed: of all random numbers.
        chunk_events: events a task; by default chosen from `n_events`.
        jet_pt: least and largest jet pt in GeV, instead of the preset's; the least pt of the hard process follows.

    Raises:
        InputError: something in it is unknown, out of range or unreadable; the message says what to do.
    """
    low, high = jet_pt
    if lhe and hepmc:
        msg = "Les Houches and HepMC files do not go into one campaign: their events are frozen at different points."
        raise InputError(msg)
    if lhe or hepmc:
        preset = FILES
        sources = (*(_lhe_file(Path(p)) for p in lhe), *(_hepmc_file(Path(p)) for p in hepmc))
        available = sum(p.n_available or 0 for p in sources)
        n_events = available if n_events is None else n_events
        if n_events > available:
            held = "the file holds" if len(sources) == 1 else f"the {len(sources)} files hold"
            note = f"{held} {available:,} events, fewer than the {n_events:,} asked for."
            sources = (replace(sources[0], note=f"{note} {sources[0].note}".rstrip()), *sources[1:])
            n_events = available
    else:
        sources, preset = resolve_processes(processes)
        # As far below the jets' threshold as in the preset: what is lost there would sculpt the sample.
        below = 1.0 if low is None else low / preset.selection.pt_min
        pt_hat = f"PhaseSpace:pTHatMin = {preset.pt_hat_min * below:g}"
        sources = tuple(replace(p, settings=(*p.settings, pt_hat)) for p in sources)
        n_events = 10_000 if n_events is None else n_events
    selection = {
        **asdict(preset.selection),
        **({} if low is None else {"pt_min": low}),
        **({} if high is None else {"pt_max": high}),
    }
    campaign = Campaign(
        n_events=n_events,
        processes=sources,
        variations=resolve_variations(variations) if isinstance(variations, str) else tuple(variations),
        seed=seed,
        detector=detector,
        selection=JetSelection(**selection),
        match_radius=preset.match_radius,
        chunk_events=_chunk_events(n_events) if chunk_events is None else chunk_events,
    )
    check(campaign)
    return campaign


def _chunk_events(n_events: int) -> int:
    """Tasks of some seconds, yet enough of them to keep the workers of a small campaign busy."""
    return min(BLOCK_EVENTS, max(50, n_events // 16))


def _lhe_file(path: Path) -> Process:
    summary = scan(path)
    matched = summary.matched_to
    notes = {
        _MERGED: summary.is_merged,
        _FROM_POWHEG: summary.from_powheg,
        _MATCHED: matched == "PYTHIA8",
        f"aMC@NLO made these events for {matched}: what Pythia showers is not what was subtracted.": matched
        not in ("", "PYTHIA8"),
    }
    return Process(
        _stem(path),
        # The hardest emission of a POWHEG event is its own: the shower must start below it.
        shower_settings=_SUBTRACTED if matched == "PYTHIA8" else _BELOW_SCALUP if summary.from_powheg else (),
        lhe=str(path.resolve()),
        n_available=_some(summary.n_events, path, "Les Houches"),
        sha256=digest_of(path),
        description=f"events of {path.name}",
        note=" ".join(note for note, applies in notes.items() if applies),
    )


def _hepmc_file(path: Path) -> Process:
    return Process(
        _stem(path),
        hepmc=str(path.resolve()),
        n_available=_some(count_events(path), path, "HepMC"),
        sha256=digest_of(path),
        description=f"finished events of {path.name}",
    )


def _stem(path: Path) -> str:
    """The file's name without what says how it is written."""
    return re.sub(r"\.(lhe|hepmc[23]?)$", "", re.sub(r"\.(gz|bz2|xz|zst)$", "", path.name))


def _some(n_events: int, path: Path, kind: str) -> int:
    if n_events == 0:
        msg = f"{path} holds no events. Expected a {kind} file, plain or packed."
        raise InputError(msg)
    return n_events
