"""Shards: jets as plain HDF5 datasets that any reader understands; the layout is in docs/data-format.md."""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hepfm.atomic import is_local, location, open_file, write_whole
from hepfm.errors import CampaignError, InputError
from hepfm.formats.jet_file import JetFile
from hepfm.schema import (
    COLUMNS,
    CONSTITUENT_COLUMNS,
    FORMAT_VERSION,
    JET_CLASSES,
    JET_COLUMNS,
    JET_FLAVOURS,
    Column,
    column,
)
from hepfm.table import JetTable

OFFSETS = "constituents/offsets"

# Measured (docs/data-format.md): higher levels take more time and gain 1 to 4 %, for a mantissa is noise.
_GZIP_LEVEL = 1
_CHUNK = 32768
_MEMORY_INCREMENT = 1 << 20
_MAX_ATTRIBUTES = 1000


def write_shard(path: Path | str, table: JetTable, attributes: Mapping[str, object]) -> tuple[str, int]:
    """Write a shard so that under its name there is either nothing or the complete file.

    The bytes depend on the table and the attributes alone (and on the version of the HDF5 library): no times,
    no paths.

    Args:
        path: where the shard goes, or its URL; an existing file is replaced.
        table: jets with all columns of the format.
        attributes: provenance. Text, numbers and lists of them are stored as they are, anything else as JSON.

    Returns:
        The sha256 of the file, in hexadecimal, and its size in bytes.

    Raises:
        InputError: the table does not fit the format.
        StorageError: the file could not be written, for instance because the disk is full.
    """
    table.validate(complete=True)
    content = _file_image(table, attributes)
    write_whole(location(path), content)
    return hashlib.sha256(content).hexdigest(), len(content)


def read_shard(
    path: Path | str,
    columns: Sequence[str] | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
) -> JetTable:
    """Read a shard, or a part of it.

    Args:
        path: a file written by `write_shard`, or its URL.
        columns: which columns, by default all. Of a local file, the datasets of others are not touched; a file of an
            object store is fetched whole: for a shard one request takes longer than its megabyte.
        start: the first jet.
        stop: the jet to stop before, by default the last one's successor.

    Raises:
        InputError: the file is damaged or no shard, or a column does not exist.
    """
    wanted = [column(name) for name in (COLUMNS if columns is None else columns)]
    with _open(path) as file:
        n_jets = _dataset(file, path, OFFSETS).shape[0] - 1
        if n_jets < 0:
            msg = f"{path}: damaged: /{OFFSETS} is empty"
            raise InputError(msg)
        start, stop, _ = slice(start, stop).indices(n_jets)
        stop = max(start, stop)
        offsets = _read(file, path, OFFSETS, slice(start, stop + 1), n_jets + 1)
        n_constituents = int(_read(file, path, OFFSETS, slice(n_jets, n_jets + 1), n_jets + 1)[0])
        jets, constituents = slice(start, stop), slice(int(offsets[0]), int(offsets[-1]))
        table = JetTable(
            columns={
                c.name: _read(file, path, f"jets/{c.name}", jets, n_jets) for c in wanted if c.name in JET_COLUMNS
            },
            offsets=offsets - offsets[0],
            constituents={
                c.name: _read(file, path, f"constituents/{c.name}", constituents, n_constituents)
                for c in wanted
                if c.name in CONSTITUENT_COLUMNS
            },
        )
    try:
        table.validate()
    except InputError as error:
        msg = f"{path}: damaged: {error}"
        raise InputError(msg) from None
    return table


def open_shard(path: Path) -> JetFile:
    """Open a shard, of any variations and processes.

    Raises:
        InputError: the file is damaged or no shard.
    """
    table = read_shard(path, ["variation", "process"])
    variations, processes = (tuple(dict.fromkeys(table.columns[name].tolist())) for name in ("variation", "process"))
    return ShardFile(str(path), table.n_jets, variations=variations, processes=processes)


@dataclass(frozen=True)
class ShardFile(JetFile):
    """A shard of a campaign, or one by itself."""

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets; raises CampaignError where there are fewer of them than were announced."""
        table = read_shard(self.path, names, start=start, stop=stop)
        if table.n_jets != stop - start:
            msg = f"{self.path}: holds {count_jets(self.path)} jets, but the manifest says {self.n_jets}"
            raise CampaignError(msg)
        return table


def read_attributes(path: Path | str) -> dict[str, Any]:
    """Read a shard's provenance; lists for arrays, and what was stored as JSON as its text.

    Raises:
        InputError: the file is damaged or no HDF5 file.
    """
    with _open(path) as file:
        try:
            return {name: _plain(value) for name, value in file.attrs.items()}
        except (OSError, RuntimeError, KeyError) as error:
            msg = f"{path}: damaged: its attributes cannot be read ({_first_line(error)})"
            raise InputError(msg) from error


def count_jets(path: Path | str) -> int:
    """Number of jets in a shard, without reading them.

    Raises:
        InputError: the file is damaged or no shard.
    """
    with _open(path) as file:
        return max(0, int(_dataset(file, path, OFFSETS).shape[0]) - 1)


def content_digest(table: JetTable) -> str:
    """Digest of what a table holds (names, types and values), whatever file and compression it comes from.

    Returns:
        A sha256 in hexadecimal.
    """
    digest = hashlib.sha256()
    arrays = {"offsets": table.offsets, **table.columns, **table.constituents}
    for name, values in sorted(arrays.items()):
        stored = np.ascontiguousarray(_encode(name, values))
        digest.update(f"{name}\0{stored.dtype.str}\0{len(stored)}\0".encode())
        digest.update(stored.data.cast("B") if stored.size else b"")
    return digest.hexdigest()


def _file_image(table: JetTable, attributes: Mapping[str, object]) -> bytes:
    # Made in memory: on a full disk HDF5 cannot close its file cleanly, while a plain write just fails.
    with _memory_file() as file:
        jets, constituents = file.create_group("jets"), file.create_group("constituents")
        for name, known in JET_COLUMNS.items():
            _create(jets, name, table.columns[name], known)
        offsets = Column("offsets", "int64", "", "jet i owns the constituents offsets[i] to offsets[i + 1]")
        _create(constituents, "offsets", table.offsets, offsets)
        for name, known in CONSTITUENT_COLUMNS.items():
            _create(constituents, name, table.constituents[name], known)
        jets["jet_label"].attrs["names"] = list(JET_CLASSES)
        jets["jet_flavour"].attrs["names"] = list(JET_FLAVOURS)
        jets["jet_flavour"].attrs["codes"] = np.array(list(JET_FLAVOURS.values()), np.int8)
        file.attrs["format"] = "hepfm-jets"
        file.attrs["format_version"] = FORMAT_VERSION
        for name, value in attributes.items():
            file.attrs[name] = _attribute(value)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _memory_file() -> h5py.File:
    """An HDF5 file in memory, readable by HDF5 1.10 (2016) and later: the first whose metadata carry checksums."""
    access, creation = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access.set_fapl_core(_MEMORY_INCREMENT, False)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Beyond eight attributes HDF5 would keep them in a heap, and when that is written depends on when Python
    # drops its last reference to one: the same content would have different bytes.
    creation.set_attr_phase_change(_MAX_ATTRIBUTES, _MAX_ATTRIBUTES)
    # HDF5 knows open files by name, even in memory, and threads may write shards at the same time.
    name = uuid.uuid4().hex.encode()
    return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def _create(group: h5py.Group, name: str, values: NDArray[Any], known: Column) -> None:
    stored = _encode(name, values)
    # An empty dataset has no chunks to compress.
    layout = {"chunks": (min(_CHUNK, len(stored)),), "shuffle": True, "compression": _GZIP_LEVEL} if len(stored) else {}
    dataset = group.create_dataset(name, data=stored, track_times=False, **layout)
    if known.unit:
        dataset.attrs["unit"] = known.unit
    dataset.attrs["meaning"] = known.meaning
    # Written now, not when the last reference goes: a profiler, such as Dask's, may hold one for a while.
    dataset.flush()


def _encode(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Text as ASCII of the shortest fixed width, so that the same words always give the same bytes."""
    if values.dtype.kind != "U":
        return values
    try:
        width = int(np.char.str_len(values).max(initial=1))
        return values.astype(f"S{width}")
    except UnicodeEncodeError:
        msg = f"column {name!r} holds text that is not ASCII"
        raise InputError(msg) from None


def _attribute(value: object) -> object:
    if isinstance(value, str | int | float | np.generic | np.ndarray):
        return value
    if isinstance(value, list | tuple) and value:
        for kind in (str, bool, int, float):
            if all(type(item) is kind for item in value):
                return list(value)
    return json.dumps(value, sort_keys=True)


def _plain(value: Any) -> Any:  # noqa: ANN401 - what HDF5 attributes can hold
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


@contextmanager
def _open(path: Path | str) -> Iterator[h5py.File]:
    place = location(path)
    try:
        file = h5py.File(place if is_local(place) else open_file(place), "r")
    except (FileNotFoundError, IsADirectoryError) as error:
        msg = f"{path}: no such file"
        raise InputError(msg) from error
    except (OSError, RuntimeError) as error:
        msg = f"{path}: not an HDF5 file, or cut off ({_first_line(error)})"
        raise InputError(msg) from error
    with file:
        yield file


def _dataset(file: h5py.File, path: Path | str, name: str) -> h5py.h5d.DatasetID:
    """Open a dataset by HDF5's own functions: h5py's objects take a fifth of the time of reading a shard."""
    try:
        found = h5py.h5d.open(file.id, name.encode())
    except (KeyError, OSError, RuntimeError) as error:
        msg = f"{path}: damaged, or no shard of hepfm: /{name} cannot be opened ({_first_line(error)})"
        raise InputError(msg) from error
    if found.rank != 1:
        msg = f"{path}: no shard of hepfm: /{name} is no one-dimensional dataset"
        raise InputError(msg)
    return found


def _read(file: h5py.File, path: Path | str, name: str, part: slice, length: int) -> NDArray[Any]:
    dataset = _dataset(file, path, name)
    if dataset.shape[0] != length or not 0 <= part.start <= part.stop <= length:
        msg = f"{path}: damaged: /{name} has {dataset.shape[0]} values, which the offsets do not fit"
        raise InputError(msg)
    try:
        values: NDArray[Any] = np.empty(part.stop - part.start, dataset.dtype)
        if len(values):
            where = dataset.get_space()
            where.select_hyperslab((part.start,), values.shape)
            dataset.read(h5py.h5s.create_simple(values.shape), where, values)
        # Text is ASCII on disk.
        return values.astype(f"U{values.dtype.itemsize}") if values.dtype.kind == "S" else values
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        msg = f"{path}: damaged: /{name} cannot be read ({_first_line(error)})"
        raise InputError(msg) from error


def _first_line(error: Exception) -> str:
    """What HDF5 says, without the quotes that a KeyError puts around it."""
    lines = str(error.args[0] if len(error.args) == 1 else error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
