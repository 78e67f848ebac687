"""Ragged columns as arrays of a fixed number of constituents a jet, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hepfm.errors import InputError
from hepfm.schema import unknown_name
from hepfm.table import JetTable


def pad(values: NDArray[Any], offsets: NDArray[np.int64], length: int, fill: float = 0) -> NDArray[Any]:
    """Give every jet the same number of constituents.

    Args:
        values: one value a constituent, shape (M,).
        offsets: jet `i` owns `values[offsets[i]:offsets[i + 1]]`, shape (N + 1,).
        length: constituents a jet, L. Of longer jets the first L are kept: those of highest pt.
        fill: what stands where a jet has fewer.

    Returns:
        Shape (N, L), of the type of `values`.
    """
    places, kept = _places(offsets, length)
    result = np.full((len(offsets) - 1, length), fill, values.dtype)
    result.reshape(-1)[places] = values[kept]
    return result


def padded(
    table: JetTable, names: Sequence[str], length: int, dtype: DTypeLike = np.float32
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give several columns of constituents as one array, as networks take them.

    Args:
        table: N jets.
        names: of F columns of constituents.
        length: constituents a jet, L; see `pad`.
        dtype: of the array. float32 holds charges and flags exactly.

    Returns:
        The values, shape (N, L, F), zero where a jet has fewer constituents; and where there is one, shape (N, L).

    Raises:
        InputError: the table lacks a column.
    """
    for name in names:
        if name not in table.constituents:
            raise InputError(unknown_name("column of constituents", name, table.constituents))
    places, kept = _places(table.offsets, length)
    result = np.zeros((table.n_jets, length, len(names)), dtype)
    flat = result.reshape(-1, len(names))
    for feature, name in enumerate(names):
        flat[places, feature] = table.constituents[name][kept]
    return result, np.arange(length) < table.counts[:, np.newaxis]


def ragged(array: NDArray[Any], mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Drop the padding again.

    Args:
        array: shape (N, L, F), or (N, L) for a single column.
        mask: where there is a constituent, shape (N, L). Jets may have gaps.

    Returns:
        Offsets, shape (N + 1,), and the values, shape (M, F) or (M,).
    """
    offsets = np.zeros(len(mask) + 1, np.int64)
    np.cumsum(mask.sum(axis=1), out=offsets[1:])
    return offsets, array[mask]


def _places(offsets: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_] | slice]:
    """Where the constituents that are kept stand in the flattened array, and which they are."""
    counts = np.diff(offsets)
    starts = np.arange(len(counts)) * length - offsets[:-1]
    places = np.repeat(starts, counts) + np.arange(offsets[-1])
    if not np.any(counts > length):
        return places, slice(None)
    kept = places < np.repeat((np.arange(len(counts)) + 1) * length, counts)
    return places[kept], kept
