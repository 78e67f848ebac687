"""Jets in memory: flat NumPy columns, constituents kept flat with offsets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, JET_COLUMNS, Column, is_constituent, unknown_name


@dataclass(frozen=True, eq=False)
class JetTable:
    """N jets with M constituents in all; jet `i` owns the constituents `offsets[i]:offsets[i + 1]`.

    `columns` holds arrays of N values and `constituents` arrays of M values, by the names of `hepfm.schema`.
    Text columns are NumPy unicode arrays. A table may hold some of the columns only, and others besides.
    """

    columns: dict[str, NDArray[Any]]
    offsets: NDArray[np.int64]
    constituents: dict[str, NDArray[Any]]

    @classmethod
    def empty(cls, columns: Iterable[Column] = tuple(COLUMNS.values())) -> Self:
        """Make a table of no jets, by default with every column of the format."""
        arrays = {c.name: np.empty(0, np.dtype("U1") if c.dtype == "str" else c.numpy_dtype) for c in columns}
        return cls(
            columns={name: values for name, values in arrays.items() if not is_constituent(name)},
            offsets=np.zeros(1, np.int64),
            constituents={name: values for name, values in arrays.items() if is_constituent(name)},
        )

    @classmethod
    def concatenate(cls, tables: Sequence[Self]) -> Self:
        """Join tables, in order.

        Raises:
            InputError: there is nothing to join, or the tables differ in their columns.
        """
        if not tables:
            msg = "no tables to concatenate"
            raise InputError(msg)
        first = tables[0]
        for table in tables[1:]:
            for ours, theirs in (
                (first.columns, table.columns),
                (first.constituents, table.constituents),
            ):
                if differing := sorted(ours.keys() ^ theirs.keys()):
                    msg = f"cannot concatenate tables of different columns: only some have {differing[0]!r}"
                    raise InputError(msg)
        ends = np.cumsum([0] + [table.offsets[-1] - table.offsets[0] for table in tables])
        shifted = [t.offsets[1:] - t.offsets[0] + end for t, end in zip(tables, ends[:-1], strict=True)]
        return cls(
            columns={name: np.concatenate([t.columns[name] for t in tables]) for name in first.columns},
            offsets=np.concatenate([np.zeros(1, np.int64), *shifted]).astype(np.int64),
            constituents={name: np.concatenate([t.constituents[name] for t in tables]) for name in first.constituents},
        )

    @property
    def n_jets(self) -> int:
        """Number of jets, N."""
        return len(self.offsets) - 1

    @property
    def n_constituents(self) -> int:
        """Number of constituents of all jets together, M."""
        return int(self.offsets[-1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of constituents of each jet, shape (N,)."""
        return np.diff(self.offsets)

    def slice(self, start: int, stop: int) -> Self:
        """Take the jets `start` to `stop` (not included); the arrays are views, nothing is copied."""
        begin, end = self.offsets[start], self.offsets[stop]
        return type(self)(
            columns={name: values[start:stop] for name, values in self.columns.items()},
            offsets=self.offsets[start : stop + 1] - begin,
            constituents={name: values[begin:end] for name, values in self.constituents.items()},
        )

    def select(self, which: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> Self:
        """Take some jets, by a mask of shape (N,) or by their indices in the order wanted."""
        rows = np.flatnonzero(which) if which.dtype == bool else which
        offsets, source = ragged_rows(self.offsets, rows)
        return type(self)(
            columns={name: values[rows] for name, values in self.columns.items()},
            offsets=offsets,
            constituents={name: values[source] for name, values in self.constituents.items()},
        )

    def only(self, names: Sequence[str]) -> Self:
        """Keep the named columns; the offsets stay, whether or not constituents do."""
        return type(self)(
            columns={name: self.columns[name] for name in names if name in self.columns},
            offsets=self.offsets,
            constituents={name: self.constituents[name] for name in names if name in self.constituents},
        )

    def validate(self, *, complete: bool = False) -> None:
        """Check types, lengths and offsets.

        Args:
            complete: also ask for every column of the format, and no other.

        Raises:
            InputError: naming the first column that is missing, unknown, of another type or length.
        """
        self._validate_offsets()
        if complete:
            self._validate_complete()
        for values, known, length in (
            (self.columns, JET_COLUMNS, self.n_jets),
            (self.constituents, CONSTITUENT_COLUMNS, self.n_constituents),
        ):
            for name, array in values.items():
                if name in COLUMNS and name not in known:
                    kind = "constituent" if name in CONSTITUENT_COLUMNS else "jet"
                    msg = f"column {name!r} is in the wrong place: it has one value a {kind}"
                    raise InputError(msg)
                if array.shape != (length,):
                    msg = f"column {name!r} has the wrong length: shape {array.shape}, expected ({length},)"
                    raise InputError(msg)
                if name in known and not _has_dtype(array, known[name]):
                    msg = f"column {name!r} has the wrong type: {array.dtype}, expected {known[name].dtype}"
                    raise InputError(msg)

    def _validate_offsets(self) -> None:
        offsets = self.offsets
        if offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) == 0:
            msg = (
                "'offsets' must be a one-dimensional int64 array of at least one value, "
                f"got {offsets.dtype} of shape {offsets.shape}"
            )
            raise InputError(msg)
        if offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            msg = "'offsets' must start at 0 and never fall"
            raise InputError(msg)

    def _validate_complete(self) -> None:
        for values, known in ((self.columns, JET_COLUMNS), (self.constituents, CONSTITUENT_COLUMNS)):
            for name in known:
                if name not in values:
                    msg = f"column {name!r} is missing"
                    raise InputError(msg)
            for name in values:
                if name not in COLUMNS:
                    raise InputError(unknown_name("column", name, COLUMNS))


def ragged_rows(offsets: NDArray[np.int64], rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and flat indices of a ragged array's `rows`, in that order; of M rows, of shapes (M + 1,) and (K,)."""
    counts = np.diff(offsets)[rows]
    taken = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=taken[1:])
    return taken, np.repeat(offsets[:-1][rows] - taken[:-1], counts) + np.arange(taken[-1])


def jet_keys(event_id: NDArray[Any], jet_index: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each jet, shape (N,): alike for views of a jet, and ordered by event_id and jet_index."""
    # Event numbers may use all 64 bits; their ranks leave room for the 8 of jet_index.
    ranks = np.unique(event_id, return_inverse=True)[1].astype(np.int64)
    return ranks * 256 + jet_index.astype(np.int64) + 128


def matching_rows(first: JetTable, second: JetTable) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the jets that two views have in common, by event_id and jet_index.

    Returns:
        Rows of the first table and rows of the second: of equal length, both ordered by event_id and
        jet_index.

    Raises:
        InputError: a table holds a jet twice.
    """
    events, index = (np.concatenate([first.columns[name], second.columns[name]]) for name in ("event_id", "jet_index"))
    keys = jet_keys(events, index)
    ours, theirs = keys[: first.n_jets], keys[first.n_jets :]
    for table, table_keys in ((first, ours), (second, theirs)):
        _, places, counts = np.unique(table_keys, return_index=True, return_counts=True)
        if np.any(counts > 1):
            row = places[np.argmax(counts > 1)]
            event, jet = table.columns["event_id"][row], table.columns["jet_index"][row]
            msg = f"event {event}, jet {jet} appears twice in one variation: cannot pair its views"
            raise InputError(msg)
    _, rows, other_rows = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    return rows, other_rows


def _has_dtype(values: NDArray[Any], column: Column) -> bool:
    return values.dtype.kind == "U" if column.dtype == "str" else values.dtype == column.numpy_dtype
