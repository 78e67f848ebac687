"""Which frozen event each event of an external generator's file was made from."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.resim.hard import HardEvents
from hepfm.resim.particles import Ragged

# Generators rescale energies to masses of their own but leave the momenta of the hard process as they
# are; files of eight digits still agree to 1e-8.
_RELATIVE_TOLERANCE = 1e-5
_ABSOLUTE_TOLERANCE = 1e-4  # GeV

_Longs = NDArray[np.int64]
_Ints = NDArray[np.int32]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Traces(Ragged):
    """The particles of some events among which their hard processes may be found; momenta in GeV."""

    pdg_id: _Ints
    px: _Floats
    py: _Floats
    pz: _Floats


def align(events: HardEvents, traces: Traces, numbers: _Longs, marked: NDArray[np.bool_], name: str) -> _Longs:
    """Find the frozen events that some events were made from; both come in the same order.

    1. By content: where the events hold the particles that leave the hard collision, with their momenta.
       Events may be missing. Content speaks for all events or for none.
    2. In order, where there are as many.
    3. By the numbers that the events carry, where these count the frozen events from 0 or from 1, and
       nothing else. Numbers without a gap may as well count what was written, and say nothing.

    Args:
        events: E frozen events.
        traces: R events made from them.
        numbers: the numbers that those carry, shape (R,).
        marked: which of them say by status codes that they hold their hard process, shape (R,).
        name: of the file, for messages.

    Returns:
        A row of `events` for each of the R events, strictly ascending.

    Raises:
        InputError: the events are not of these frozen events, or cannot be told apart.
    """
    n, n_frozen = traces.n_events, events.n_events
    if n > n_frozen:
        msg = f"{name} holds {n} events, more than the {n_frozen} frozen ones. Expected events made from these."
        raise InputError(msg)
    rows = _by_content(events, traces)
    unmatched = np.flatnonzero(rows < 0)
    if not len(unmatched):
        return rows
    if len(unmatched) < n or marked.any():
        msg = (
            f"{name}: the hard process of event {unmatched[0] + 1} is none of the frozen events that are left for it. "
            "Expected events made from these frozen events, in their order."
        )
        raise InputError(msg)
    if n == n_frozen:
        return np.arange(n)
    gaps = np.diff(numbers)
    first = 0 if numbers[0] == 0 else 1 if numbers[-1] == n_frozen else None
    if first is not None and (gaps > 0).all() and (gaps > 1).any() and numbers[-1] - first < n_frozen:
        return numbers - first
    msg = (
        f"{name} holds {n} of {n_frozen} frozen events, and nothing says which: no hard process in the record, "
        f"and event numbers {numbers[0]} to {numbers[-1]} that may count what was written. Write the hard process "
        "(status 21 to 29), number the events by their place in the LHE file, or keep them all."
    )
    raise InputError(msg)


def _by_content(events: HardEvents, traces: Traces) -> _Longs:
    """The first frozen event behind the one found last that each event holds, -1 for none, shape (R,)."""
    return _match(
        events.offsets,
        leaves_collision(events),
        events.pdg_id,
        np.stack([events.px, events.py, events.pz], axis=1),
        traces.offsets,
        traces.pdg_id,
        np.stack([traces.px, traces.py, traces.pz], axis=1),
    )


def leaves_collision(events: HardEvents) -> NDArray[np.bool_]:
    """Which frozen particles, decayed or not, come from the hard collision itself and no resonance, shape (P,)."""
    first = np.repeat(events.offsets[:-1], np.diff(events.offsets))
    mother = first + events.mother1 - 1
    return np.asarray((events.status > 0) & (events.mother1 > 0) & (events.status[mother] == -1))


@njit(cache=True)
def _match(
    offsets: _Longs,
    wanted: NDArray[np.bool_],
    pdg_id: _Ints,
    momentum: _Floats,
    trace_offsets: _Longs,
    trace_pdg_id: _Ints,
    trace_momentum: _Floats,
) -> _Longs:
    rows = np.full(len(trace_offsets) - 1, -1)
    next_row = 0
    for i in range(len(rows)):
        a, b = trace_offsets[i], trace_offsets[i + 1]
        for row in range(next_row, len(offsets) - 1):
            n_found = n_wanted = 0
            for k in range(offsets[row], offsets[row + 1]):
                if wanted[k]:
                    n_wanted += 1
                    if not _holds(trace_pdg_id[a:b], trace_momentum[a:b], pdg_id[k], momentum[k]):
                        break
                    n_found += 1
            if 0 < n_found == n_wanted:
                rows[i] = row
                next_row = row + 1
                break
    return rows


@njit(cache=True)
def _holds(pdg_id: _Ints, momentum: _Floats, wanted_id: int, wanted: _Floats) -> bool:
    tolerance = _ABSOLUTE_TOLERANCE + _RELATIVE_TOLERANCE * np.sqrt(np.sum(wanted**2))
    for i in np.flatnonzero(pdg_id == wanted_id):  # noqa: SIM110 (numba knows no any())
        if np.abs(momentum[i] - wanted).max() <= tolerance:
            return True
    return False
