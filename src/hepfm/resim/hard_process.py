"""The hard process that a finished event came from, as far as its HepMC record shows it.

Generators agree on little: a resonance is found by what it is, its decay by the graph, and the collision
by the signal vertex or by status codes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepfm.formats.hepmc import HepmcEvent

_RESONANCES = (6, 23, 24, 25)
_LAST_PARTON = 22  # quarks, leptons, gluons and photons have lower ids
_INCOMING_PYTHIA8 = 21
_DOCUMENTATION = 3


@dataclass(frozen=True)
class HardProcess:
    """Particles of a record that make its hard process: their indices, and status and mother as in HardEvents."""

    particle: NDArray[np.int64]
    status: NDArray[np.int32]
    mother1: NDArray[np.int32]


def find_hard_process(event: HepmcEvent) -> HardProcess:
    """Find the incoming partons, what leaves the collision, and the resonances with their decays.

    A resonance (t, W, Z, H) is taken as it decays, after its own radiation; its decay products as they are
    born, before theirs. The collision is the record's signal vertex, or else where Pythia 8's incoming
    partons (status 21) or two documented ones (status 3) meet; where none is found there are resonances only.
    """
    rows: list[tuple[int, int, int]] = []
    collision = _collision(event)
    if collision is not None:
        rows += [(i, -1, 0) for i in np.flatnonzero(event.end == collision).tolist()]
        outgoing = np.flatnonzero((event.production == collision) & ~_is_resonance(event.pdg_id)).tolist()
        rows += [(i, 1, 1) for i in outgoing]
    mother = 1 if rows else 0
    taken: set[int] = set()
    for i in np.flatnonzero(_is_resonance(event.pdg_id)).tolist():
        if not _is_resonance(event.pdg_id[event.parents(i)]).any():
            _add_decay(event, i, mother, rows, taken)
    particle, status, mother1 = np.array(rows, np.int64).reshape(-1, 3).T
    return HardProcess(particle, status.astype(np.int32), mother1.astype(np.int32))


def _is_resonance(pdg_id: NDArray[np.int32]) -> NDArray[np.bool_]:
    return np.isin(np.abs(pdg_id), _RESONANCES)


def _collision(event: HepmcEvent) -> int | None:
    """The vertex in which two partons or leptons meet to make the hard process."""
    is_parton = (np.abs(event.pdg_id) <= _LAST_PARTON) & (event.end >= 0)
    for entering in (
        event.end == event.signal_vertex,
        event.status == _INCOMING_PYTHIA8,
        event.status == _DOCUMENTATION,
    ):
        vertices, n_entering = np.unique(event.end[is_parton & entering], return_counts=True)
        pairs = vertices[n_entering == 2]
        if len(pairs):
            # Of several, the one whose partons come first in the record.
            return int(event.end[np.flatnonzero(np.isin(event.end, pairs))[0]])
    return None


def _add_decay(event: HepmcEvent, i: int, mother: int, rows: list[tuple[int, int, int]], taken: set[int]) -> None:
    """Add a resonance as it decays, and its decay, unless the record leads back to one that is there."""
    last = _last_copy(event, i)
    products = event.children(last)
    if last in taken or not len(products):
        return
    taken.add(last)
    rows.append((last, 2, mother))
    own_row = len(rows)
    for product in products.tolist():
        if _is_resonance(event.pdg_id[product]):
            _add_decay(event, product, own_row, rows, taken)
        elif abs(event.pdg_id[product]) <= _LAST_PARTON:
            rows.append((product, 1, own_row))


def _last_copy(event: HepmcEvent, i: int) -> int:
    for _ in range(len(event.pdg_id)):  # a damaged record may go round in circles
        copies = [child for child in event.children(i).tolist() if event.pdg_id[child] == event.pdg_id[i]]
        if not copies:
            break
        i = copies[0]
    return i
