"""How the hot loops are compiled, and the arrays they take."""

from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
RandomStates: TypeAlias = NDArray[np.uint64]


def forget_stale(folder: Path) -> None:
    """Delete what numba compiled of a folder's files before one of them changed.

    Its cache watches a function's own file only, and the functions of this package are inlined across files.
    """
    changed = max((path.stat().st_mtime for path in folder.glob("*.py")), default=0.0)
    for index in (folder / "__pycache__").glob("*.nbi"):
        with suppress(OSError):  # another process does the same, or the folder is not ours
            if index.stat().st_mtime < changed:
                index.unlink()


forget_stale(Path(__file__).parent)
# Compiled at the first call and kept on disk. No fast-math, which could change results with the machine.
compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
# For the functions the loops call. Without inlining, every call would count references of its arrays, and
# the calorimeters would take twice as long.
inlined: Any = numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)


def as_floats(array: ArrayLike) -> Floats:
    """Prepare an array for a compiled loop: of one type, contiguous and writable, lest it compile again."""
    return np.require(array, np.float64, ["C", "W"])


def as_ints(array: ArrayLike) -> Ints:
    """Do the same with integers."""
    return np.require(array, np.int64, ["C", "W"])


@inlined
def lower_bound(edges: Floats, value: float) -> int:
    """Count the ascending `edges` below `value`: the number of the bin (lo, hi] that holds it, plus one."""
    first, last = 0, len(edges)
    while first < last:
        middle = (first + last) // 2
        if edges[middle] < value:
            first = middle + 1
        else:
            last = middle
    return first
