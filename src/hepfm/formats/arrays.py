"""HDF5 files of plain arrays with one row a jet or event: what the formats of the neighbours share."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hepfm.atomic import growing_file
from hepfm.errors import InputError
from hepfm.table import JetTable

# As in shards (docs/data-format.md): higher levels gain little on mantissas, for padding's zeros any will do.
_GZIP_LEVEL = 1
_CHUNK_BYTES = 1 << 18
# Wider than any name of a variation or a process; the rest compresses to nothing.
_TEXT_WIDTH = 64
# Padded jets take some 10 kB each: these are some 40 MB, which become a tenth without the padding.
_PIECE = 4096


class GrowingArrays:
    """An HDF5 file whose arrays grow along their first axis."""

    def __init__(self, file: h5py.File, path: Path, sink: "_Sink") -> None:
        """Wrap a file open for writing to a sink, which errors call `path`."""
        self.attributes = file.attrs
        self._file, self._path, self._sink = file, path, sink

    def append(self, name: str, values: NDArray[Any], **attributes: object) -> None:
        """Add rows to an array, which is made, with attributes, when it is first named. Text is stored as ASCII."""
        if values.dtype.kind == "U":
            values = _ascii(self._path, name, values)
        if name not in self._file:
            width = values.dtype.itemsize * int(np.prod(values.shape[1:]))
            rows = max(1, min(len(values), _CHUNK_BYTES // max(1, width)))
            dataset = self._file.create_dataset(
                name,
                (0, *values.shape[1:]),
                values.dtype,
                maxshape=(None, *values.shape[1:]),
                chunks=(rows, *(max(1, n) for n in values.shape[1:])),
                shuffle=True,
                compression=_GZIP_LEVEL,
                track_times=False,
            )
            dataset.attrs.update(attributes)
        dataset = self._file[name]
        start = len(dataset)
        dataset.resize(start + len(values), axis=0)
        dataset[start:] = values
        self._sink.check()


@contextmanager
def writing(path: Path) -> Iterator[GrowingArrays]:
    """Make a file of arrays, which has its name only when it is whole.

    Raises:
        StorageError: the file could not be written.
    """
    with growing_file(path) as temporary, _Sink(temporary, "w+") as sink:
        # HDF5 1.10's format (2016) has checksums on its metadata, and gzip on the data.
        with h5py.File(sink, "w", libver=("v110", "v110")) as file:
            yield GrowingArrays(file, path, sink)
        sink.check()


def array(file: h5py.File, path: Path | str, name: str, n_axes: int) -> h5py.Dataset:
    """Find an array of numbers or text.

    Raises:
        InputError: there is none of that name with so many axes.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim != n_axes or found.dtype.kind not in "biufS":
        is_there = f"shape {found.shape}, type {found.dtype}" if isinstance(found, h5py.Dataset) else "no array"
        msg = f"{path}: /{name} must be an array of numbers with {n_axes} axes; it is {is_there}"
        raise InputError(msg)
    return found


def rows(file: h5py.File, path: Path | str, name: str, selection: Any, n_axes: int = 1) -> NDArray[Any]:  # noqa: ANN401
    """Read a part of an array.

    Raises:
        InputError: it does not exist, is damaged, or has fewer rows.
    """
    dataset = array(file, path, name, n_axes)
    try:
        values: NDArray[Any] = dataset[selection]
    except (OSError, RuntimeError, ValueError, IndexError, TypeError) as error:
        msg = f"{path}: damaged: /{name} cannot be read ({_first_line(error)})"
        raise InputError(msg) from error
    part = selection[0] if isinstance(selection, tuple) else selection
    if len(values) != part.stop - part.start:
        msg = f"{path}: damaged: /{name} has {len(dataset)} rows, too few"
        raise InputError(msg)
    return values.astype(f"U{values.dtype.itemsize}") if values.dtype.kind == "S" else values


def texts(attributes: h5py.AttributeManager, name: str) -> tuple[str, ...]:
    """A list of words from the attributes; empty where there is none."""
    value = attributes.get(name, ())
    return tuple(str(word) for word in np.atleast_1d(np.asarray(value, dtype=object)))


def piecewise(read: Callable[[int, int], JetTable], start: int, stop: int) -> JetTable:
    """Read rows a few at a time, so that no more of the padding is in memory at once."""
    starts = range(start, stop, _PIECE) or [start]
    return JetTable.concatenate([read(first, min(first + _PIECE, stop)) for first in starts])


class _Sink(io.FileIO):
    """A file that takes everything and tells later that it could not.

    HDF5 cannot close a file that it cannot write: on a full disk it would bring the process down when that ends.
    """

    _error: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self._error = self._error or error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0


def _ascii(path: Path, name: str, values: NDArray[Any]) -> NDArray[Any]:
    if np.char.str_len(values).max(initial=0) > _TEXT_WIDTH:
        msg = f"{path}: column {name!r} holds text of more than {_TEXT_WIDTH} letters"
        raise InputError(msg)
    try:
        return values.astype(f"S{_TEXT_WIDTH}")
    except UnicodeEncodeError:
        msg = f"{path}: column {name!r} holds text that is not ASCII"
        raise InputError(msg) from None


def _first_line(error: Exception) -> str:
    lines = str(error.args[0] if len(error.args) == 1 else error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
