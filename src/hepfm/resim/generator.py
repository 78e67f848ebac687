"""Pythia: the one module that imports it. Settings, seeds, and frozen events fed from memory."""

import difflib
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pythia8mc
from numpy.typing import NDArray

from hepfm.errors import GeneratorError, InputError

# What hepfm itself sets: a variation that changed them would no longer be a view of the frozen event.
_RESERVED = (
    *("beams:", "random:", "main:", "leshouches:", "next:", "init:", "print:"),
    *("processlevel:", "partonlevel:all"),
)
# What gives events weights of their own: all views of an event have that of its hard process.
_WEIGHTED = ("enhancements:", "enhancedsplittings:", "vincia:enhancefac")
# What acts after the parton level, from the event record alone. Ropewalk and ClosePacking look back at the
# multiparton interactions, which a kept shower no longer knows.
_HADRONISATION = (
    *("stringz:", "stringpt:", "stringflav:", "stringfragmentation:", "ministringfragmentation:"),
    *("fragmentationsystems:", "fragmentation:", "hadronlevel:", "boseeinstein:", "deuteronproduction:"),
    *("particledecays:", "taudecays:", "particledata:"),
)
_NEEDS_PARTON_LEVEL = ("ropewalk:", "closepacking:")
# The least that lets Pythia come to the hadron level, where the kept partons take the place of these.
_NO_PARTON_LEVEL = (
    *("PartonLevel:MPI = off", "PartonLevel:ISR = off", "PartonLevel:FSR = off", "PartonLevel:Remnants = off"),
    "PartonShowers:model = 1",
)
_QUIET = ("Print:quiet = on", "Print:verbosity = 0")
# Particles with c·tau above 10 mm reach the detector undecayed, as in CMS; the jetclass preset decays them.
_STABLE = ("ParticleDecays:limitTau0 = on", "ParticleDecays:tau0Max = 10.")
_FLAG_VALUES = {"on", "off", "true", "false", "yes", "no", "ok", "0", "1"}
# Pythia takes seeds from 1 to 900,000,000; a prime modulus keeps the seeds of a stage distinct.
_SEED_MODULUS = 899_999_963
_SEED_STEP = 556_230_542  # near modulus / golden ratio, so that neighbours lie far apart


@dataclass(frozen=True)
class Beams:
    """The colliding beams: PDG ids and energies in GeV."""

    id_a: int = 2212
    id_b: int = 2212
    energy_a: float = 6500.0
    energy_b: float = 6500.0


def pythia_seeds(campaign_seed: int, stage: str, event_id: NDArray[np.int64], attempt: int = 0) -> NDArray[np.int64]:
    """One seed for Pythia's random generator an event, between 1 and 899,999,963.

    A pure function of its arguments. Within a stage (a variation's name) and an attempt no two
    events share a seed below 9e8 events.
    """
    base = int.from_bytes(_digest(campaign_seed, stage, attempt)[:8], "little") % _SEED_MODULUS
    # event_id is reduced first, so that the product stays within 64 bits.
    steps = (np.asarray(event_id) % _SEED_MODULUS) * _SEED_STEP
    return 1 + (base + steps) % _SEED_MODULUS


def detector_seeds(campaign_seed: int, stage: str, event_id: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit seed an event for the detector's random numbers."""
    base = np.uint64(int.from_bytes(_digest(campaign_seed, stage + "/detector", 0)[:8], "little"))
    # 2^64 / golden ratio, which is splitmix64's increment, too: of the four words that a stream starts from an event
    # shares three with the next one, at other places. Their numbers are as independent as any (tests look at them).
    return base + np.asarray(event_id).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def _digest(campaign_seed: int, stage: str, attempt: int) -> bytes:
    return hashlib.sha256(f"{campaign_seed}/{stage}/{attempt}".encode()).digest()


def check_settings(settings: Iterable[str], owner: str) -> None:
    """Check Pythia settings one by one, before the first event.

    Args:
        settings: lines `Name = value`, as Pythia reads them.
        owner: what they belong to, for the message ("variation 'mine'").

    Raises:
        InputError: a name that Pythia does not have, a value of the wrong kind or out of range, or a
            setting that hepfm keeps for itself.
    """
    for line in settings:
        problem = _problem_with(_book_of_settings(), line)
        if problem:
            msg = f"{owner}: setting '{line}' {problem}"
            raise InputError(msg)


def check_hadronisation(settings: Iterable[str], base: Iterable[str], owner: str) -> None:
    """Check that a kept parton shower can be hadronised under other settings.

    Args:
        settings: what differs from the settings that the shower was made with.
        base: the settings that the shower was made with.
        owner: what the settings belong to, for the message.

    Raises:
        InputError: a setting that acts before the hadronisation, and so would do nothing, or a model of
            hadronisation that needs more than the partons.
    """
    for line in settings:
        name = line.strip().lower()
        if not name.startswith(_HADRONISATION) and not name.partition(":")[0].lstrip("-").isdigit():
            msg = (
                f"{owner}: setting '{line}' has no effect on a kept shower. Leave it out, or start from the hard "
                'process (freeze = "hard").'
            )
            raise InputError(msg)
    for line in base:
        if line.strip().lower().startswith(_NEEDS_PARTON_LEVEL):
            msg = f"{owner}: a shower under '{line}' cannot be kept. Start from the hard process (freeze = \"hard\")."
            raise InputError(msg)


@cache
def _book_of_settings() -> pythia8mc.Pythia:
    """A Pythia that only ever reads settings; making one takes longer than checking a campaign."""
    return pythia8mc.Pythia("", False)


def _problem_with(pythia: pythia8mc.Pythia, line: str) -> str | None:
    """What is wrong with one setting, or None."""
    name, equals, value = (part.strip() for part in line.partition("="))
    if not equals or not value:
        return "is not of the form 'Name = value'."
    if name.lower().startswith(_RESERVED):  # Pythia does not mind the case
        return "belongs to hepfm (beams, seeds, input, printing); remove it."
    if name.lower().startswith(_WEIGHTED):
        return "weights events, and a view has no weight of its own; remove it."
    book = pythia.settings
    kinds = ("Flag", "Mode", "Parm", "Word", "FVec", "MVec", "PVec", "WVec")
    kind = next((k for k in kinds if getattr(book, f"is{k}")(name)), None)
    if kind is None and not name.partition(":")[0].lstrip("-").isdigit():
        return f"is unknown to Pythia. {_similar_settings(book, name)}"
    wrong = _wrong_value(book, kind, name, value)
    if wrong:
        return wrong
    return None if pythia.readString(line, False) else "was refused by Pythia; see its manual for the values."


def _wrong_value(book: "pythia8mc.Settings", kind: str | None, name: str, value: str) -> str | None:
    if kind == "Flag" and value.lower() not in _FLAG_VALUES:
        return "expects on or off."
    if kind not in ("Mode", "Parm"):
        return None
    convert = int if kind == "Mode" else float
    try:
        number = convert(value)
    except ValueError:
        return f"expects {'an integer' if kind == 'Mode' else 'a number'}."
    entry = getattr(book, f"get{kind}Map")(name.lower())[name.lower()]
    low = entry.valMin if entry.hasMin else -math.inf
    high = entry.valMax if entry.hasMax else math.inf
    if not low <= number <= high:
        return f"is out of range: expected {low:g} to {high:g}."
    return None


def _similar_settings(book: "pythia8mc.Settings", name: str) -> str:
    kinds = ("Flag", "Mode", "Parm", "Word")
    known = {entry.name for kind in kinds for entry in getattr(book, f"get{kind}Map")("").values()}
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else "See Pythia's manual for the names."


def make_pythia(
    settings: Sequence[str], feed: "EventFeed | None" = None, hook: "PartonHook | None" = None
) -> pythia8mc.Pythia:
    """An initialised, silent Pythia, with events of its own or those of `feed`.

    Raises:
        GeneratorError: Pythia refused a setting or could not start.
    """
    pythia = pythia8mc.Pythia("", False)
    lines = [*_QUIET, *_STABLE, *settings]
    if feed is not None:
        lines.append("Beams:frameType = 5")
    for line in lines:
        if not pythia.readString(line):
            msg = f"Pythia refuses the setting '{line}'. `hepfm-data list variations` shows valid ones."
            raise GeneratorError(msg)
    if feed is not None:
        feed.pythia = pythia
        pythia.setLHAupPtr(feed)
    if hook is not None:
        hook.pythia = pythia
        pythia.setUserHooksPtr(hook)
    if not pythia.init():
        msg = f"Pythia cannot start with the settings {list(settings)}. Check the process, the beams and the PDF set."
        raise GeneratorError(msg)
    return pythia


class EventFeed(pythia8mc.LHAup):
    """Hands frozen events to Pythia, and sets the random state before each.

    An event's outcome therefore depends on the event and its seed alone.
    """

    def __init__(self, beams: Beams) -> None:
        """Feed events of these beams."""
        super().__init__()
        self.pythia: pythia8mc.Pythia | None = None
        self.place = -1
        """Which of the queued events Pythia is at."""
        self._beams = beams
        self._queue: list[tuple[int, tuple[float, ...], list[tuple[float, ...]]]] = []

    def load(self, events: Iterable[tuple[int, tuple[float, ...], list[tuple[float, ...]]]]) -> None:
        """Queue events: (seed, (scale, alpha_qed, alpha_qcd), particle rows in `addParticle`'s order)."""
        self._queue = list(events)[::-1]
        self.place = -1

    def setInit(self) -> bool:  # noqa: N802 (Pythia's name)
        """Declare the beams; every event has unit weight here, its own weight travels beside."""
        beams = self._beams
        self.setBeamA(beams.id_a, beams.energy_a)
        self.setBeamB(beams.id_b, beams.energy_b)
        self.setStrategy(3)
        self.addProcess(1, 1.0, 0.0, 1.0)
        return True

    def setEvent(self, idProcess: int = 0) -> bool:  # noqa: N802, N803 (Pythia's names)
        """Give Pythia the next event; False when there is none."""
        if not self._queue or self.pythia is None:
            return False
        self.place += 1
        seed, couplings, rows = self._queue.pop()
        self.pythia.rndm.init(seed)
        self.setProcess(1, 1.0, *couplings)
        for row in rows:
            self.addParticle(*row)
        return True


class PartonHook(pythia8mc.UserHooks):
    """Stands between the parton level and the hadronisation of the events of a feed."""

    def __init__(self, feed: EventFeed) -> None:
        """Follow the events of a feed."""
        super().__init__()
        self.pythia: pythia8mc.Pythia | None = None
        self._feed = feed

    def canVetoPartonLevel(self) -> bool:  # noqa: N802 (Pythia's name)
        """Ask to be called."""
        return True


class PartonKeeper(PartonHook):
    """Keeps a copy of each event as it is before its hadronisation; changes nothing."""

    def __init__(self, feed: EventFeed) -> None:
        """Keep nothing yet."""
        super().__init__(feed)
        self.wanted = False
        self._kept: dict[int, pythia8mc.Event] = {}

    def take(self, n_events: int) -> "list[pythia8mc.Event | None]":
        """The copies of the feed's last events; None for those without a parton level. They are then forgotten."""
        kept = [self._kept.get(place) for place in range(n_events)]
        self._kept.clear()
        return kept

    def doVetoPartonLevel(self, event: pythia8mc.Event) -> bool:  # noqa: N802 (Pythia's name)
        """Copy the event. If its hadronisation fails, Pythia comes back with another parton level."""
        if self.wanted:
            self._kept[self._feed.place] = pythia8mc.Event(event)
        return False


class PartonReplacer(PartonHook):
    """Replaces each event by one that was kept before its hadronisation, and sets the random state."""

    def __init__(self, feed: EventFeed) -> None:
        """Nothing to replace yet."""
        super().__init__(feed)
        self._kept: list[tuple[int, pythia8mc.Event]] = []
        self._seeded = -1

    def load(self, events: Iterable[tuple[int, pythia8mc.Event]]) -> None:
        """Take (seed, event) for each of the events that the feed is loaded with."""
        self._kept = list(events)
        self._seeded = -1

    def doVetoPartonLevel(self, event: pythia8mc.Event) -> bool:  # noqa: N802 (Pythia's names)
        """Put the kept event in the place of Pythia's own."""
        if self.pythia is None:
            return True
        place = self._feed.place
        seed, kept = self._kept[place]
        record = self.pythia.event
        record.assign(kept)
        # The copy still points to the particle data, and so to the random numbers, of the Pythia that made it.
        record.init("(complete event)", self.pythia.particleData)
        record.restorePtrs()
        if place != self._seeded:  # not when Pythia only tries the same hadronisation again
            self.pythia.rndm.init(seed)
            self._seeded = place
        return False


def replacing_settings(settings: Sequence[str]) -> tuple[str, ...]:
    """Settings for a Pythia that does nothing before the hadron level but to wait for its PartonReplacer."""
    return (*settings, *_NO_PARTON_LEVEL)
