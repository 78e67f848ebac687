"""Random choices that depend on the numbers of events alone, not on where they are stored."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def hashed(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Mix the bits of numbers, another way for every seed; that of the splits of a dataset is 0.

    Source: splitmix64's output function, Steele, Lea and Flood, OOPSLA 2014, doi:10.1145/2660193.2660195.
    """
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15) * np.uint64((2 * seed + 1) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def unit_hash(events: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """A number from 0 to below 1 for each event, shape (N,): an event with the same seed always has the same."""
    bits = hashed(events.astype(np.int64).astype(np.uint64), seed) >> np.uint64(11)
    return bits.astype(np.float64) / 2**53
