"""Events of external generators, as HepMC records: their stable particles, and their hard processes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.hepmc import HepmcEvent, HepmcReader, read_hepmc
from hepfm.resim.alignment import Traces, align, leaves_collision
from hepfm.resim.generator import Beams
from hepfm.resim.hard import CrossSection, HardEvents
from hepfm.resim.hard_process import find_hard_process
from hepfm.resim.particles import Particles, charges
from hepfm.resim.shower import Gluons, Showered
from hepfm.schema import JET_FLAVOURS

_BEAM = 4
_LAST_ELEMENTARY = 39
# Relative, of weights that may be written with seven digits.
_SAME_WEIGHT = 1e-5
_UNKNOWN_SPIN = 9.0  # as the Les Houches accord has it


def read_showered(path: Path, events: HardEvents) -> Showered:
    """Read a HepMC file that was made from these frozen events, in their order; some may be missing.

    Events of weight 0 are left out. Other weights may differ from the frozen events' by one factor, as a unit does.

    The record of another generator has no standard history of gluons: their flavour is `g`, whatever they
    branched into.

    Args:
        path: the file, plain or compressed.
        events: E frozen events.

    Raises:
        InputError: the file is damaged, holds no events although there are frozen ones, its events are not of these
            (see `align`), or have weights other than these.
    """
    particles, traces, numbers, marked, weights = [], [_no_traces()], [], [], []
    for record in read_hepmc(path):
        particles.append(_stable(record))
        traces.append(_traces(record))
        numbers.append(record.number)
        marked.append(bool(((record.status > 20) & (record.status < 30)).any()))
        weights.append(record.weights[0])
    if not numbers and events.n_events:
        msg = f"the HepMC file {path} holds no events. Expected events made from the {events.n_events} frozen ones."
        raise InputError(msg)
    rows = align(
        events,
        Traces.concatenate(traces),
        np.array(numbers, np.int64),
        np.array(marked, bool),
        f"the HepMC file {path}",
    )
    # Where jets are merged with matrix elements, a weight of 0 is a veto.
    kept = np.flatnonzero(weights)
    rows = rows[kept]
    weighted = events.weight[rows] != 0
    shares = np.array(weights)[kept][weighted] / events.weight[rows][weighted]
    if len(shares) and np.ptp(shares) > _SAME_WEIGHT * np.abs(shares).max():
        msg = (
            f"the HepMC file {path} gives its events weights of their own, from {shares.min():g} to {shares.max():g} "
            "times those of the frozen ones, and views of an event have one weight. Let the generator unweight them."
        )
        raise InputError(msg)
    stable = Particles.concatenate([_no_particles(), *(particles[number] for number in kept)])
    return Showered(rows, stable, _gluons(events.take(rows)), 0)


def finished_events(reader: HepmcReader, ids: NDArray[np.int64], start: int, stop: int) -> tuple[HardEvents, Showered]:
    """Read events `start` to `stop` of a HepMC file of which no frozen events exist.

    Their hard processes, as far as the records show them, become the frozen events (see
    `find_hard_process`): without colours and scales, so that they cannot be showered again. The first
    weight is the event's, the others keep their names.

    Args:
        reader: the open file; see `HepmcReader`.
        ids: event ids for them, shape (stop - start,).
        start: the first event, from 0.
        stop: the event behind the last.

    Returns:
        The hard processes, and the stable particles of every one.

    Raises:
        InputError: the file is damaged or ends before `stop`.
    """
    records = list(reader.read(start, stop))
    if len(records) < stop - start:
        msg = f"{reader.path} ends after {start + len(records)} events. Expected at least {stop}."
        raise InputError(msg)
    events = _hard_events(records, ids)
    particles = Particles.concatenate([_no_particles(), *map(_stable, records)])
    return events, Showered(np.arange(len(records)), particles, _gluons(events), 0)


def _hard_events(records: list[HepmcEvent], ids: NDArray[np.int64]) -> HardEvents:
    processes = [find_hard_process(record) for record in records]
    counts = [len(process.particle) for process in processes]
    pairs = list(zip(records, processes, strict=True))

    def column(name: str) -> NDArray[np.float64]:
        return np.concatenate([np.empty(0), *(getattr(record, name)[process.particle] for record, process in pairs)])

    status, mother1 = (
        np.concatenate([np.empty(0), *(getattr(process, name) for process in processes)]).astype(np.int32)
        for name in ("status", "mother1")
    )
    nothing = np.zeros(sum(counts))
    names = records[0].weight_names if records else ("0",)
    if any(record.weight_names != names for record in records):
        msg = f"event {records[0].index + 1} and later ones have different weights. Expected the same names in all."
        raise InputError(msg)
    weights = np.array([record.weights for record in records]).reshape(len(records), len(names))
    section = next((record.cross_section for record in reversed(records) if record.cross_section), (0.0, 0.0))
    return HardEvents(
        beams=_beams(records),
        cross_section=CrossSection(*section),
        weight_names=names[1:],
        event_id=ids,
        weight=weights[:, 0],
        weights=weights[:, 1:],
        scale=np.zeros(len(records)),
        alpha_qed=np.zeros(len(records)),
        alpha_qcd=np.zeros(len(records)),
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        pdg_id=column("pdg_id").astype(np.int32),
        status=status,
        mother1=mother1,
        mother2=np.zeros_like(mother1),
        colour1=np.zeros_like(mother1),
        colour2=np.zeros_like(mother1),
        px=column("px"),
        py=column("py"),
        pz=column("pz"),
        energy=column("energy"),
        mass=column("mass"),
        lifetime=nothing,
        spin=nothing + _UNKNOWN_SPIN,
    )


def _beams(records: list[HepmcEvent]) -> Beams:
    """The beams as the first event has them; the default where it does not say."""
    beams = np.flatnonzero(records[0].status == _BEAM) if records else ()
    if len(beams) != 2:
        return Beams()
    ids, energies = records[0].pdg_id[beams].tolist(), records[0].energy[beams].tolist()
    return Beams(*ids, *energies)


def _stable(record: HepmcEvent) -> Particles:
    stable = record.status == 1
    names = ("px", "py", "pz", "energy", "mass", "x", "y", "z")
    return Particles(
        offsets=np.array([0, stable.sum()]),
        pdg_id=record.pdg_id[stable],
        charge=charges(record.pdg_id[stable]),
        **{name: getattr(record, name)[stable] for name in names},
    )


def _traces(record: HepmcEvent) -> Traces:
    kept = np.abs(record.pdg_id) <= _LAST_ELEMENTARY
    columns = {name: getattr(record, name)[kept] for name in ("pdg_id", "px", "py", "pz")}
    return Traces(offsets=np.array([0, kept.sum()]), **columns)


def _gluons(events: HardEvents) -> Gluons:
    """The gluons that leave each collision, in the order that `find_targets` counts them in."""
    is_gluon = leaves_collision(events) & (events.status == 1) & (events.pdg_id == 21)
    offsets = np.concatenate([[0], np.cumsum(is_gluon)])[events.offsets]
    return Gluons(offsets, np.full(offsets[-1], JET_FLAVOURS["g"], np.int8))


def _no_particles() -> Particles:
    return Particles(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int8), *(np.empty(0),) * 8)


def _no_traces() -> Traces:
    return Traces(np.zeros(1, np.int64), np.empty(0, np.int32), *(np.empty(0),) * 3)
