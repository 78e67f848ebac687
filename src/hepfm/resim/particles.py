"""What travels between the steps of the simulation: ragged arrays of particles, kept flat with offsets."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class _Ragged:
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
        columns = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name != "offsets"}
        return type(self)(offsets=offsets, **columns)


@dataclass(frozen=True)
class Particles(_Ragged):
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
class Candidates(_Ragged):
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
