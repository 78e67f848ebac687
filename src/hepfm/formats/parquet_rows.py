"""Rows of a Parquet file, local or in a store, some at a time: each is decoded once where they are read in order."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hepfm.atomic import is_local, location, open_file
from hepfm.errors import InputError

# Rows decoded at a time: half a row group of ours.
_BATCH = 8192
# Of each column this much is read at a time, instead of all that a row group has of it.
_BUFFER_BYTES = 1 << 16
# Readers that wait for the next rows to be asked for: of several files, for views are read side by side.
_MOST_READERS = 4
_readers: dict[tuple[object, ...], "_Reader"] = {}


def opened(path: Path | str, *, text: Sequence[str] = (), buffer_bytes: int = 0) -> pq.ParquetFile:
    """Open a file; one in a store is fetched whole. Columns in `text` are read as words and their places.

    Raises:
        pyarrow.ArrowException, OSError: it does not exist, is damaged or no Parquet file.
        StorageError: the store cannot be reached.
    """
    place = location(path)
    source = str(place) if is_local(place) else pa.BufferReader(open_file(place).read())
    return pq.ParquetFile(source, read_dictionary=text, buffer_size=buffer_bytes, page_checksum_verification=True)


def read_rows(
    path: Path | str, names: Sequence[str], start: int, stop: int, *, text: Sequence[str] = ()
) -> tuple[pa.Table, int]:
    """Read the rows `start` to `stop` (not included) of some columns; also gives the number of rows in the file.

    The file stays open until its last row is read, or other files were: whoever goes on where he stopped has nothing
    decoded twice, however large the file's row groups are. A file in a store that somebody replaces meanwhile may
    therefore be read as it was.

    Raises:
        pyarrow.ArrowException, OSError: the file is damaged.
        StorageError: the store cannot be reached.
    """
    # A process that was forked must not go on with what its parent opened.
    key = (os.getpid(), str(path), _state(location(path)), tuple(names), tuple(text))
    # Taken out while it is in use, for threads may read the same file.
    reader = _readers.pop(key, None) or _Reader(path, names, text)
    table = reader.read(start, stop)
    if reader.row < reader.n_rows:
        _readers[key] = reader
        for oldest in list(_readers)[:-_MOST_READERS]:
            _readers.pop(oldest, None)
    return table, reader.n_rows


def must_be_there(values: pa.Array | pa.ChunkedArray, path: Path | str, name: str, *, or_nan: bool) -> None:
    """Refuse missing values; numbers that can be NaN are read as that, for pandas writes NaN as missing.

    Raises:
        InputError: a value is missing; names file and column.
    """
    if values.null_count and not or_nan:
        msg = (
            f"{path}: column {name!r} has missing values (null); expected a value in every place. Fill them, or leave "
            "out their rows, and write the file again."
        )
        raise InputError(msg)


def _state(place: Path) -> tuple[int, ...]:
    """What differs where a file was replaced; of one in a store nothing."""
    if not is_local(place):
        return ()
    found = place.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


class _Reader:
    """An open file, the columns wanted of it, and the next row that it would give without a step back."""

    def __init__(self, path: Path | str, names: Sequence[str], text: Sequence[str]) -> None:
        self._file = opened(path, text=text, buffer_bytes=_BUFFER_BYTES)
        self._names = list(names)
        metadata = self._file.metadata
        self._ends = np.cumsum([0] + [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        self.n_rows: int = metadata.num_rows
        self.row = self.n_rows

    def read(self, start: int, stop: int) -> pa.Table:
        group = int(np.searchsorted(self._ends[1:], start, side="right"))
        if start < stop and not self._ends[group] <= self.row <= start:
            self._batches, self._rest, self.row = self._decoded(group), None, int(self._ends[group])
        found = []
        while self.row < stop and (batch := self._rest or next(self._batches, None)) is not None:
            low, high = (min(max(row - self.row, 0), len(batch)) for row in (start, stop))
            found.append(batch.slice(low, high - low))
            self._rest = batch.slice(high)
            self.row += high
        if self.row < min(stop, self.n_rows):
            msg = f"has no row {self.row} of {self.n_rows}"
            raise pa.ArrowInvalid(msg)
        return pa.Table.from_batches(found) if found else self._file.read_row_groups([], columns=self._names)

    def _decoded(self, group: int) -> Iterator[pa.RecordBatch]:
        """The rows from a row group on. Arrow ends a damaged one early, which must not shift those after it."""
        for number in range(group, self._file.num_row_groups):
            n_left = self._ends[number + 1] - self._ends[number]
            for batch in self._file.iter_batches(_BATCH, [number], self._names):
                n_left -= len(batch)
                yield batch
            if n_left:
                msg = f"row group {number} has not as many rows as it should"
                raise pa.ArrowInvalid(msg)
