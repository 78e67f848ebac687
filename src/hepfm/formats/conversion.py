"""Columns of other origin brought to the schema's types and order."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.schema import Column
from hepfm.table import JetTable


def as_column(values: NDArray[Any], column: Column, path: Path | str) -> NDArray[Any]:
    """Bring values to a column's type.

    Integers and truth values stay what they are; numbers of the schema that are single precision may come as double.

    Raises:
        InputError: a value does not fit, for instance a charge of 0.5, a class number of 40,000 or a pt of 1e39.
    """
    if column.dtype == "str":
        return values.astype(str)
    wanted = column.numpy_dtype
    if values.dtype == wanted:
        return values
    if values.dtype.kind in "biuf" and _in_range(values, wanted):
        with np.errstate(invalid="ignore", over="ignore"):
            converted = values.astype(wanted)
            if wanted.kind == "f":
                fits = not _overflows(values, converted)
            else:
                fits = np.array_equal(converted.astype(values.dtype), values)
        if fits:
            return converted
    msg = f"{path}: column {column.name!r} holds values that are no {column.dtype} (its type is {values.dtype})"
    raise InputError(msg)


def fits_single(values: NDArray[Any]) -> bool:
    """Whether single precision holds numbers: integers exactly, others but for their rounding."""
    if np.can_cast(values.dtype, np.float32):
        return True
    with np.errstate(invalid="ignore", over="ignore"):
        converted = values.astype(np.float32)
        if values.dtype.kind == "f":
            return not _overflows(values, converted)
        # Compared in the integers' own type: NumPy would compare in double precision, which is not exact either.
        return _in_range(converted, values.dtype) and np.array_equal(converted.astype(values.dtype), values)


def check_names(path: Path, names: Collection[str], taken: Collection[str] = ()) -> None:
    """Check that each column can be an HDF5 dataset of its name, in which "/" divides groups.

    Args:
        path: of the file, for errors.
        names: of the columns.
        taken: names that the format has datasets of its own for.

    Raises:
        InputError: one of them cannot.
    """
    for name in names:
        parts = name.split("/")
        groups = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if name in taken or {"", "."} & set(parts) or groups & {*names, *taken}:
            raise InputError(name_taken(path, name))


def check_branches(path: Path, names: Iterable[str]) -> None:
    """Check that each column can be a branch of its name, in which ROOT takes "[2]" for the shape of an array.

    Raises:
        InputError: one of them cannot.
    """
    for name in names:
        if re.search(r"\[\d+\]", name):
            raise InputError(name_taken(path, name))


def name_taken(path: Path, name: str) -> str:
    """Word the error for a column that cannot be written under its name."""
    return (
        f"{path}: column {name!r} cannot be written: its name is one of the format's own, or none that a dataset or "
        "branch can have. Give it another one, for instance by [further] in a column map (--columns)."
    )


def datasets(group: h5py.Group | None) -> list[str]:
    """Names of the datasets in a group; those with "/" lie in groups within it."""
    found: list[str] = []
    if group is not None:
        group.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


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


def _overflows(values: NDArray[Any], converted: NDArray[Any]) -> bool:
    """Whether a finite number became infinite."""
    return values.dtype.kind == "f" and bool(np.any(np.isinf(converted) & np.isfinite(values)))


def _in_range(values: NDArray[Any], wanted: np.dtype[Any]) -> bool:
    """Whether a type's limits hold the least and greatest value; a round trip does not tell, for it wraps both ways."""
    if wanted.kind not in "iu" or not values.size:
        return True
    limits = np.iinfo(wanted)
    # Numbers of Python compare exactly, whatever their types.
    return bool(limits.min <= values.min().item() and values.max().item() <= limits.max)
