"""How the hot loops are compiled, and the array types they take."""

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
RandomStates: TypeAlias = NDArray[np.uint64]

# Compiled at the first call and kept on disk. No fast-math: results must not depend on the machine's mood.
# The disk cache watches a function's own file only: after editing `random_numbers.py` or this file,
# delete `__pycache__` so that the loops which call it are compiled again.
compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
inlined = numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)


@inlined
def lower_bound(edges: Floats, value: float) -> int:
    """Count the ascending `edges` below `value`: the bin (lo, hi] that holds it, plus one."""
    first, last = 0, len(edges)
    while first < last:
        middle = (first + last) // 2
        if edges[middle] < value:
            first = middle + 1
        else:
            last = middle
    return first
