"""Parton shower, underlying event and hadronisation of frozen events, under one variation."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import awkward as ak
import numpy as np
from numba import njit
from numpy.typing import NDArray

from hepfm.resim.generator import (
    Beams,
    EventFeed,
    PartonKeeper,
    PartonReplacer,
    make_pythia,
    pythia_seeds,
    replacing_settings,
)
from hepfm.resim.hard import HardEvents, feed_entries
from hepfm.resim.particles import Particles, Ragged, charges
from hepfm.schema import JET_FLAVOURS

if TYPE_CHECKING:
    import pythia8mc

# Events handed to Pythia at once. The event records of a batch live in memory together
# (0.25 MB an event), and Ctrl-C waits for the end of a batch.
_BATCH_EVENTS = 50
# Pythia's advice for an event it rejects is to try again; almost every retry succeeds.
_MAX_ATTEMPTS = 5
# Frozen events are taken exactly as they are.
_AS_FROZEN = ("LesHouches:setLeptonMass = 0", "LesHouches:setQuarkMass = 0", "LesHouches:matchInOut = off")
# A gluon's branching counts as resolved as soft drop (z = 0.1, beta = 0) would within a jet of R = 0.8.
_RESOLVED_Z = 0.1
_RESOLVED_RADIUS = 0.8
_FIRST_HADRONISATION_STATUS = 71
_UNSPLIT = JET_FLAVOURS["g"]
_GLUON_PAIR = JET_FLAVOURS["ggg"]
_FLAVOUR_OF_PAIR = (0, *[JET_FLAVOURS["gqq"]] * 3, JET_FLAVOURS["gcc"], JET_FLAVOURS["gbb"])


_Longs = NDArray[np.int64]
_Ints = NDArray[np.int32]
_Floats = NDArray[np.float64]


# The threads of a process share its generators, and take turns.
_TURN = threading.Lock()


@dataclass(frozen=True)
class Gluons(Ragged):
    """The outgoing gluons of each hard process, in its order.

    `flavour` is the RS3L code of a gluon's first resolved branching in the shower: gqq, gcc, gbb or
    ggg, and g where it did not branch.
    """

    flavour: NDArray[np.int8]


@dataclass(frozen=True)
class Showered:
    """What the shower made of the events that it accepted.

    Attributes:
        rows: indices of those events within the HardEvents, ascending, shape (S,).
        particles: their stable particles.
        gluons: the fate of their outgoing gluons.
        n_retried: how many more attempts than events were needed.
        partons: the events before their hadronisation, if they were to be kept.
    """

    rows: NDArray[np.int64]
    particles: Particles
    gluons: Gluons
    n_retried: int
    partons: "Partons | None" = None

    def of(self, rows: NDArray[np.int64]) -> Self:
        """What became of the HardEvents `rows` (ascending), as if there were no others; without `partons`."""
        taken = np.flatnonzero(np.isin(self.rows, rows))
        places = np.searchsorted(rows, self.rows[taken])
        return type(self)(places, self.particles.take(taken), self.gluons.take(taken), 0)


@dataclass(frozen=True)
class Partons:
    """Parton showers that were kept, for hadronising them again in the same process.

    Attributes:
        hard: the frozen events, S of them.
        records: Pythia's event records at the end of the parton level.
        origin: the Pythia that made them, whose particle data they point to.
    """

    hard: HardEvents
    records: "list[pythia8mc.Event]"
    origin: "pythia8mc.Pythia"


def shower(
    events: HardEvents, settings: tuple[str, ...], campaign_seed: int, stage: str, *, keep_partons: bool = False
) -> Showered:
    """Shower and hadronise frozen events.

    The outcome of an event depends on the event, the settings, `campaign_seed` and `stage` alone,
    not on the events around it.

    Args:
        events: E frozen events.
        settings: Pythia settings of the variation.
        campaign_seed: the campaign's seed.
        stage: the variation's name, from which its random numbers derive.
        keep_partons: also keep the events as they are before the hadronisation.

    Raises:
        GeneratorError: Pythia does not start with these settings.
    """
    pythia, feed, keeper = start_generator(settings, events.beams)
    records: dict[int, pythia8mc.Event] = {}

    def attempt(rows: NDArray[np.int64], seeds: NDArray[np.int64]) -> ak.Array:
        with _TURN:
            feed.load(feed_entries(events.take(rows), seeds))
            keeper.wanted = keep_partons
            made = pythia.nextBatch(len(rows), "none")
            records.update(zip(rows.tolist(), keeper.take(len(rows)), strict=True))
        return made

    showered = _repeat(attempt, events.event_id, campaign_seed, stage)
    if not keep_partons:
        return showered
    kept = [records[row] for row in showered.rows.tolist()]
    return replace(showered, partons=Partons(events.take(showered.rows), kept, pythia))


def hadronise(partons: Partons, settings: tuple[str, ...], campaign_seed: int, stage: str) -> Showered:
    """Hadronise kept parton showers again, with other random numbers and perhaps other settings.

    Args:
        partons: S kept events; the rows of the result count them.
        settings: those that the showers were made with, and those of the hadronisation.
        campaign_seed: the campaign's seed.
        stage: the variation's name, from which its random numbers derive.

    Raises:
        GeneratorError: Pythia does not start with these settings.
    """
    pythia, feed, replacer = start_hadroniser(settings, partons.hard.beams)

    def attempt(rows: NDArray[np.int64], seeds: NDArray[np.int64]) -> ak.Array:
        with _TURN:
            feed.load(feed_entries(partons.hard.take(rows), seeds))
            replacer.load(zip(seeds.tolist(), (partons.records[row] for row in rows.tolist()), strict=True))
            return pythia.nextBatch(len(rows), "none")

    return _repeat(attempt, partons.hard.event_id, campaign_seed, stage)


def _repeat(
    attempt: Callable[[NDArray[np.int64], NDArray[np.int64]], ak.Array],
    event_id: NDArray[np.int64],
    campaign_seed: int,
    stage: str,
) -> Showered:
    """Let Pythia try all events, and those that it rejects again with other random numbers."""
    rows, particles, gluons = [], [], []
    n_attempts = 0
    for start in range(0, max(len(event_id), 1), _BATCH_EVENTS):
        pending = np.arange(start, min(start + _BATCH_EVENTS, len(event_id)))
        for number in range(_MAX_ATTEMPTS):
            records = attempt(pending, pythia_seeds(campaign_seed, stage, event_id[pending], number))
            failed, stable, fates = _read(records)
            rows.append(pending[~failed])
            particles.append(stable)
            gluons.append(fates)
            n_attempts += len(pending)
            pending = pending[failed]
            if not len(pending):
                break
    accepted = np.concatenate(rows)
    order = np.argsort(accepted)
    return Showered(
        accepted[order],
        Particles.concatenate(particles).take(order),
        Gluons.concatenate(gluons).take(order),
        n_attempts - len(event_id),
    )


@lru_cache(maxsize=16)
def start_generator(settings: tuple[str, ...], beams: Beams) -> "tuple[pythia8mc.Pythia, EventFeed, PartonKeeper]":
    """Start Pythia for a variation, or give the one that this process has; starting takes as long as 80 events.

    Raises:
        GeneratorError: Pythia does not start with these settings.
    """
    feed = EventFeed(beams)
    keeper = PartonKeeper(feed)
    return make_pythia((*_AS_FROZEN, *settings), feed, keeper), feed, keeper


@lru_cache(maxsize=16)
def start_hadroniser(settings: tuple[str, ...], beams: Beams) -> "tuple[pythia8mc.Pythia, EventFeed, PartonReplacer]":
    """Start Pythia for hadronising kept showers, or give the one that this process has.

    Raises:
        GeneratorError: Pythia does not start with these settings.
    """
    feed = EventFeed(beams)
    replacer = PartonReplacer(feed)
    return make_pythia((*_AS_FROZEN, *replacing_settings(settings)), feed, replacer), feed, replacer


def _read(records: ak.Array) -> tuple[NDArray[np.bool_], Particles, Gluons]:
    """Which of some event records are missing, and the stable particles and gluons of the others.

    The arrays are taken out of the layout as they are: Awkward's own operations on so many columns take
    longer than the jets.
    """
    failed = records.layout.index.data < 0
    if failed.all():
        return failed, *_nothing()  # records of no event do not even know their columns
    events = records.layout.content["prt"]
    columns = events.content
    offsets = events.offsets.data
    pdg_id, status = columns["id"].data, columns["status"].data
    px, py, pz, energy = (columns["p"][axis].data for axis in ("px", "py", "pz", "e"))
    mother, daughter1, daughter2 = (columns[name].data for name in ("mother1", "daughter1", "daughter2"))
    gluon_offsets, flavours = _gluon_fates(offsets, pdg_id, status, mother, daughter1, daughter2, px, py, pz)
    stable = np.flatnonzero(status > 0)
    vertex, displaced = columns["vProd"].content, columns["vProd"].index.data[stable]
    # Particles from the collision point carry no vertex.
    x, y, z = (np.where(displaced < 0, 0.0, vertex[axis].data[displaced]) for axis in ("px", "py", "pz"))
    particles = Particles(
        offsets=np.searchsorted(stable, offsets),
        pdg_id=pdg_id[stable],
        charge=charges(pdg_id[stable]),
        px=px[stable],
        py=py[stable],
        pz=pz[stable],
        energy=energy[stable],
        mass=columns["m"].data[stable],
        x=x,
        y=y,
        z=z,
    )
    return failed, particles, Gluons(gluon_offsets, flavours)


def _nothing() -> tuple[Particles, Gluons]:
    """Particles and gluons of no events."""
    offsets, floats = np.zeros(1, np.int64), (np.empty(0),) * 8
    return (
        Particles(offsets, np.empty(0, np.int32), np.empty(0, np.int8), *floats),
        Gluons(offsets, np.empty(0, np.int8)),
    )


@njit(cache=True)
def _gluon_fates(
    offsets: _Longs,
    pdg_id: _Ints,
    status: _Ints,
    mother: _Ints,
    daughter1: _Ints,
    daughter2: _Ints,
    px: _Floats,
    py: _Floats,
    pz: _Floats,
) -> tuple[_Longs, NDArray[np.int8]]:
    """Offsets and flavour codes of every event's outgoing hard gluons."""
    counts = np.zeros(len(offsets), np.int64)
    flavours = np.empty(len(pdg_id), np.int8)
    n = 0
    for event in range(len(offsets) - 1):
        first = offsets[event]
        for i in range(first, offsets[event + 1]):
            outgoing = pdg_id[i] == 21 and abs(status[i]) == 23
            if outgoing and status[first + mother[i]] == -21:  # from the collision, not from a resonance
                flavours[n] = _first_branching(i, first, pdg_id, status, daughter1, daughter2, px, py, pz)
                n += 1
        counts[event + 1] = n
    return counts, flavours[:n].copy()


@njit(cache=True)
def _first_branching(
    gluon: int,
    first: int,
    pdg_id: _Ints,
    status: _Ints,
    daughter1: _Ints,
    daughter2: _Ints,
    px: _Floats,
    py: _Floats,
    pz: _Floats,
) -> int:
    """RS3L code of a gluon's first resolved branching, following the harder gluon past soft emissions."""
    i = gluon
    while True:
        a, b = first + daughter1[i], first + daughter2[i]
        if daughter1[i] == 0 or abs(status[a]) >= _FIRST_HADRONISATION_STATUS:
            return _UNSPLIT
        if daughter2[i] == 0 or a == b:  # a recoil leaves one child
            i = a
            continue
        pt_a, pt_b = np.hypot(px[a], py[a]), np.hypot(px[b], py[b])
        delta_phi = (np.arctan2(py[a], px[a]) - np.arctan2(py[b], px[b]) + np.pi) % (2 * np.pi) - np.pi
        delta_eta = np.arcsinh(pz[a] / pt_a) - np.arcsinh(pz[b] / pt_b)
        z = min(pt_a, pt_b) / (pt_a + pt_b)
        is_resolved = z > _RESOLVED_Z and np.hypot(delta_eta, delta_phi) < _RESOLVED_RADIUS
        if pdg_id[a] == -pdg_id[b]:
            return int(_FLAVOUR_OF_PAIR[abs(pdg_id[a])]) if is_resolved else _UNSPLIT
        if is_resolved:
            return _GLUON_PAIR
        i = a if pt_a > pt_b else b
