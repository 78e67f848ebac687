"""Columns of other origin brought to the schema's types and order."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.schema import Column
from hepfm.table import JetTable


def as_column(values: NDArray[Any], column: Column, path: Path | str) -> NDArray[Any]:
    """Bring values to a column's type.

    Integers and truth values stay what they are; numbers of the schema that are single precision may come as double.

    Raises:
        InputError: a value does not fit, for instance a charge of 0.5 or a class number of 40,000.
    """
    if column.dtype == "str":
        return values.astype(str)
    wanted = column.numpy_dtype
    if values.dtype == wanted:
        return values
    if values.dtype.kind in "biuf" and _in_range(values, wanted):
        with np.errstate(invalid="ignore", over="ignore"):
            converted = values.astype(wanted)
            if wanted.kind == "f" or np.array_equal(converted.astype(values.dtype), values):
                return converted
    msg = f"{path}: column {column.name!r} holds values that are no {column.dtype} (its type is {values.dtype})"
    raise InputError(msg)


def falling_pt(table: JetTable) -> JetTable:
    """Order the constituents of each jet by falling transverse momentum; needs `part_px` and `part_py`.

    A table that is in order already is returned as it is.
    """
    pt = np.hypot(table.constituents["part_px"], table.constituents["part_py"])
    jet = np.repeat(np.arange(table.n_jets), table.counts)
    if not np.any((np.diff(pt) > 0) & (np.diff(jet) == 0)):
        return table
    order = np.lexsort((-pt, jet))
    return JetTable(table.columns, table.offsets, {name: v[order] for name, v in table.constituents.items()})


def numbered(words: NDArray[Any], known: dict[str, int]) -> NDArray[np.int32]:
    """Numbers of words, in the order in which they first come; `known` grows by those that are new."""
    return np.array([known.setdefault(word, len(known)) for word in words.tolist()], np.int32)


def _in_range(values: NDArray[Any], wanted: np.dtype[Any]) -> bool:
    """Whether a type's limits hold the least and greatest value; a round trip does not tell, for it wraps both ways."""
    if wanted.kind not in "iu" or not values.size:
        return True
    limits = np.iinfo(wanted)
    # Numbers of Python compare exactly, whatever their types.
    return bool(limits.min <= values.min().item() and values.max().item() <= limits.max)
