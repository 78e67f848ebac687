"""What travels between the steps of the simulation: ragged arrays of particles, kept flat with offsets."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from particle import Particle

from hepfm.table import ragged_rows


@dataclass(frozen=True)
class Ragged:
    """Flat arrays of which event `i` owns the slice `offsets[i]:offsets[i + 1]`."""

    offsets: NDArray[np.int64]

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of entries of each event, shape (n_events,)."""
        return np.diff(self.offsets)

    def select(self, keep: NDArray[np.bool_]) -> Self:
        """Keep the entries for which `keep`, shape (offsets[-1],), is true; the events stay the same."""
        offsets = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        return type(self)(offsets=offsets, **{name: values[keep] for name, values in self._columns().items()})

    def take(self, rows: NDArray[np.int64]) -> Self:
        """The events `rows`, in that order."""
        offsets, flat = ragged_rows(self.offsets, rows)
        return type(self)(offsets=offsets, **{name: values[flat] for name, values in self._columns().items()})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The events of all parts, one after the other; at least one part."""
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([p.counts for p in parts]))])
        columns = [p._columns() for p in parts]
        return cls(offsets=offsets, **{name: np.concatenate([c[name] for c in columns]) for name in columns[0]})

    def _columns(self) -> dict[str, NDArray[Any]]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "offsets"}


def charges(pdg_id: NDArray[np.int32]) -> NDArray[np.int8]:
    """Electric charges in units of e, shape of `pdg_id`; 0 for ids that the PDG does not define."""
    known, charge = _charge_table()
    place = np.searchsorted(known, pdg_id).clip(max=len(known) - 1)
    return np.where(known[place] == pdg_id, charge[place], 0).astype(np.int8)


@cache
def _charge_table() -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """All ids that the PDG defines, ascending, and their charges."""
    table = sorted((int(p.pdgid), int((p.three_charge or 0) / 3)) for p in Particle.all() if abs(int(p.pdgid)) < 2**31)
    ids, charge = zip(*table, strict=True)
    return np.array(ids, np.int32), np.array(charge, np.int8)


@dataclass(frozen=True)
class Particles(Ragged):
    """Stable generated particles of some events.

    Four-momenta in GeV, production vertices in mm, electric charge in units of e.
    """

    pdg_id: NDArray[np.int32]
    charge: NDArray[np.int8]
    px: NDArray[np.float64]
    py: NDArray[np.float64]
    pz: NDArray[np.float64]
    energy: NDArray[np.float64]
    mass: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]


@dataclass(frozen=True)
class Candidates(Ragged):
    """What a detector makes of the particles of some events: particle-flow candidates.

    `pdg_id` is that of the generated particle for tracks, 22 for photons and 0 for neutral hadrons.
    `source` is the index of a track's generated particle within its event's slice of `Particles`, else -1.
    Four-momenta in GeV; impact parameters and their errors in mm, zero for neutrals.
    """

    pdg_id: NDArray[np.int32]
    charge: NDArray[np.int8]
    source: NDArray[np.int32]
    px: NDArray[np.float64]
    py: NDArray[np.float64]
    pz: NDArray[np.float64]
    energy: NDArray[np.float64]
    d0: NDArray[np.float32]
    d0err: NDArray[np.float32]
    dz: NDArray[np.float32]
    dzerr: NDArray[np.float32]
