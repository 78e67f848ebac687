"""What workers load before their first task, two seconds of it: the process that they are forks of imports this.

Nothing here may start a generator, or threads other than those that wait in OpenBLAS and Arrow: they do not survive a
fork.
"""

import numba
import numpy as np

import hepfm.resim.tasks  # noqa: F401 (loaded for the workers)
from hepfm.resim.particles import charges

charges(np.zeros(1, np.int32))


@numba.njit(cache=True)
def _nothing() -> None:
    pass


# numba reads all that it knows of types and functions before the first compiled function runs.
_nothing()
