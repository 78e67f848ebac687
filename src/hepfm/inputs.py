"""What networks are given of a constituent: columns of the schema, and its transverse momentum."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.schema import GROUPS, unknown_name
from hepfm.table import JetTable

PT = "part_pt"
"""Transverse momentum in GeV: no column of its own, but made of `part_px` and `part_py`."""

INPUTS = (PT, *(column.name for column in GROUPS["constituents"]))
"""Names that a network may ask for; units are the schema's."""


def check_inputs(names: Sequence[str]) -> tuple[str, ...]:
    """Give the names back.

    Raises:
        InputError: one of them is no input, or is there twice.
    """
    for name in names:
        if name not in INPUTS:
            raise InputError(unknown_name("input of a network", name, INPUTS))
        if list(names).count(name) > 1:
            msg = f"input {name!r} of a network appears twice. Name each once."
            raise InputError(msg)
    return tuple(names)


def columns_for(names: Sequence[str]) -> tuple[str, ...]:
    """Columns to read from a dataset for some inputs."""
    wanted = [c for name in check_inputs(names) for c in (("part_px", "part_py") if name == PT else (name,))]
    return tuple(dict.fromkeys(wanted))


def constituent_inputs(table: JetTable, names: Sequence[str], *, allow_missing: bool = False) -> NDArray[np.float32]:
    """Arrange a network's inputs so that those of a constituent lie together.

    Args:
        table: jets with M constituents.
        names: F of `INPUTS`.
        allow_missing: whether inputs that the table lacks become NaN, which networks take for unknown; momenta are
            never allowed to miss.

    Returns:
        float32, shape (M, F).

    Raises:
        InputError: the table lacks a column, or holds infinite numbers.
    """
    values = np.empty((table.n_constituents, len(names)), np.float32)
    for feature, name in enumerate(check_inputs(names)):
        missing = [column for column in columns_for([name]) if column not in table.constituents]
        if missing and (name == PT or not allow_missing):
            msg = f"the jets have no {' or '.join(missing)}, which the network takes. They have: "
            raise InputError(msg + ", ".join(table.constituents) + ".")
        if missing:
            values[:, feature] = np.nan
        elif name == PT:
            values[:, feature] = np.hypot(table.constituents["part_px"], table.constituents["part_py"])
        else:
            values[:, feature] = table.constituents[name]
        if n_infinite := int(np.isinf(values[:, feature]).sum()):
            msg = f"{name} of {n_infinite:,} constituents is infinite. Leave their jets out; NaN stands for unknown."
            raise InputError(msg)
    return values
