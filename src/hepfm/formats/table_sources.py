"""Tables of other origin, read by the names of their columns: ROOT, Parquet, HDF5 (plain, structured, pandas), npz.

A column has one number a row, an array of fixed shape a row, or a list of any length a row.
"""

import pickletools
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import uproot
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.damage import clear_errors, opened_hdf5, opened_root
from hepfm.formats.parquet_rows import must_be_there, opened, read_rows

NUMBERS = "biuf"
"""Kinds of NumPy types that are numbers."""


@dataclass(frozen=True)
class Field:
    """What a column holds: `shape` of one row's values (empty for a number), or None for a list of any length.

    One that holds neither numbers nor words has the type object, and in `unusable` what the file calls its type: no key
    of a map takes it.
    """

    dtype: np.dtype[Any]
    n_rows: int
    shape: tuple[int, ...] | None = ()
    unusable: str = ""


@dataclass(frozen=True)
class Ragged:
    """Lists: row `i` has the values `offsets[i]` to `offsets[i + 1]`."""

    offsets: NDArray[np.int64]
    values: NDArray[Any]


Values = NDArray[Any] | Ragged


@dataclass(frozen=True)
class Source(ABC):
    """A table in a file; `fields` are its columns by name."""

    path: str
    table: str
    fields: Mapping[str, Field]

    @abstractmethod
    def _read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Values]: ...

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, Values]:
        """Read columns of the rows `start` to `stop` (not included).

        Raises:
            InputError: the file is damaged; names file and column.
        """
        found = self._read(list(dict.fromkeys(names)), start, stop)
        for name, values in found.items():
            n_rows = len(values.offsets) - 1 if isinstance(values, Ragged) else len(values)
            if n_rows != stop - start:
                msg = f"{self.path}: damaged: column {name!r} holds {n_rows} of the rows {start} to {stop}"
                raise InputError(msg)
        return found

    def _damaged(self, name: str) -> str:
        return f"{self.path}: damaged: column {name!r} cannot be read"


def open_source(path: Path, table: str | None) -> Source:
    """Open a table, whatever kind of file it is in.

    Args:
        path: a ROOT, Parquet, HDF5 or npz file.
        table: name of the TTree or HDF5 group; not needed where there is only one.

    Raises:
        InputError: the file does not exist, is damaged or of another kind, or has no such table.
    """
    if not path.is_file():
        msg = f"{path}: no such file"
        raise InputError(msg)
    with path.open("rb") as file:
        magic = file.read(4)
    openers = {b"root": _open_root, b"PAR1": _open_parquet, b"\x89HDF": _open_hdf5, b"PK\x03\x04": _open_npz}
    if magic not in openers:
        msg = f"{path}: no table that a column map can read; expected a ROOT, Parquet, HDF5 or npz file"
        raise InputError(msg)
    return openers[magic](path, table)


class _RootSource(Source):
    def _read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Values]:
        found: dict[str, Values] = {}
        with opened_root(self.path) as file:
            for name in names:
                with clear_errors(self._damaged(name)):
                    found[name] = _of_awkward(file[self.table][name].array(entry_start=start, entry_stop=stop))
        return found


def _open_root(path: Path, table: str | None) -> Source:
    with opened_root(path) as file:
        trees = list(file.keys(filter_classname="TTree", cycle=False))
        if not trees and (tuples := file.keys(filter_classname="ROOT::RNTuple", cycle=False)):
            msg = (
                f"{path}: {tuples[0]!r} is an RNTuple; a column map reads TTrees. Write it as one: by `mktree` and "
                "`extend` in uproot, or a Snapshot of RDataFrame in ROOT."
            )
            raise InputError(msg)
        name = _chosen(path, "TTree", trees, table)
        tree = file[name]
        counters = {branch.count_branch.name for branch in tree.branches if branch.count_branch is not None}
        n_rows = int(tree.num_entries)
        fields = {b.name: _root_field(b, n_rows) for b in tree.branches if b.name not in counters}
    return _RootSource(str(path), name, fields)


def _root_field(branch: Any, n_rows: int) -> Field:  # noqa: ANN401 - uproot has no types
    ragged = isinstance(branch.interpretation, uproot.AsJagged)
    content = branch.interpretation.content if ragged else branch.interpretation
    if isinstance(content, uproot.AsDtype):
        base, shape = content.to_dtype.subdtype or (content.to_dtype, ())
        if not (ragged and shape):
            return Field(base, n_rows, None if ragged else shape)
    if isinstance(content, uproot.AsStrings) and not ragged:
        return Field(np.dtype(str), n_rows)
    return _unusable(branch.typename, n_rows)


def _unusable(kind: object, n_rows: int) -> Field:
    return Field(np.dtype(object), n_rows, (), str(kind))


class _ParquetSource(Source):
    def _read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Values]:
        with clear_errors(f"{self.path}: damaged: {', '.join(map(repr, names[:3]))} cannot be read"):
            table, _ = read_rows(self.path, names, start, stop)
            return {name: self._values(name, table[name]) for name in names}

    def _values(self, name: str, column: pa.ChunkedArray) -> Values:
        kind = column.type
        array = (column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column).combine_chunks()
        flat = array.flatten() if _is_list(array.type) else array
        for part in (array, flat):
            must_be_there(part, self.path, name, or_nan=pa.types.is_floating(part.type))
        if pa.types.is_fixed_size_list(array.type):
            return np.asarray(flat).reshape(len(array), array.type.list_size)
        if _is_list(array.type):
            offsets = np.asarray(array.offsets, np.int64) if len(array) else np.zeros(1, np.int64)
            return Ragged(offsets - offsets[0], np.asarray(flat))
        return np.asarray(flat).astype(str) if _is_text(array.type) else np.asarray(flat)


def _open_parquet(path: Path, table: str | None) -> Source:
    del table  # a Parquet file is one
    with clear_errors(f"{path}: damaged, cut off or no Parquet file"), opened(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    return _ParquetSource(str(path), "", {column.name: _parquet_field(column.type, n_rows) for column in schema})


def _parquet_field(kind: pa.DataType, n_rows: int) -> Field:
    if _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        return Field(np.dtype(str), n_rows)
    inner = kind.value_type if _is_list(kind) else kind
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)):
        return _unusable(kind, n_rows)
    shape = (kind.list_size,) if pa.types.is_fixed_size_list(kind) else None if _is_list(kind) else ()
    return Field(np.dtype(inner.to_pandas_dtype()), n_rows, shape)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


@dataclass(frozen=True)
class _Hdf5Source(Source):
    """`places` says for each column its dataset, its member of a structured one, and its place in a pandas block."""

    places: Mapping[str, tuple[str, str | None, int | None]]

    def _read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Values]:
        blocks: dict[tuple[str, str | None], NDArray[Any]] = {}
        found: dict[str, Values] = {}
        with opened_hdf5(self.path) as file:
            for name in names:
                dataset, member, index = self.places[name]
                with clear_errors(self._damaged(name)):
                    if (dataset, member) not in blocks:
                        whole = file[dataset]
                        blocks[dataset, member] = (whole if member is None else whole.fields(member))[start:stop]
                block = blocks[dataset, member]
                values = block if index is None else block[:, index]
                # Text of any length comes as objects, each of them bytes.
                values = values.astype(bytes) if values.dtype.kind == "O" else values
                found[name] = np.char.decode(values) if values.dtype.kind == "S" else values
        return found


def _open_hdf5(path: Path, table: str | None) -> Source:
    fields: dict[str, Field] = {}
    places: dict[str, tuple[str, str | None, int | None]] = {}
    with opened_hdf5(path) as file:
        group = file if table is None else file.get(table)
        if not isinstance(group, h5py.Group):
            msg = f"{path}: no group {table!r}; it has {', '.join(file) or 'nothing'}"
            raise InputError(msg)
        pandas = [g for g in (group, *group.values()) if _is_pandas(g)]
        if len(pandas) > 1:
            names = [g.name.lstrip("/") for g in pandas]
            _chosen(path, "pandas table", names, None)
        datasets: list[h5py.Dataset] = [pandas[0]["table"]] if pandas else _datasets(group)
        for dataset in datasets:
            _must_decode(path, dataset)
            prefix = "" if pandas else dataset.name.removeprefix(group.name).lstrip("/")
            for member in dataset.dtype.names or (None,):
                dtype = dataset.dtype if member is None else dataset.dtype[member]
                base, inner = dtype.subdtype or (dtype, ())
                if dataset.ndim == 0:
                    continue
                shape = (*dataset.shape[1:], *inner)
                if pandas and str(member).startswith("values_block_"):
                    for index, name in enumerate(_pickled_names(path, dataset.attrs[f"{member}_kind"])):
                        fields[name] = _hdf5_field(base, len(dataset), shape[1:])
                        places[name] = (dataset.name, member, index)
                elif not (pandas and member == "index"):
                    name = "/".join(filter(None, (prefix, member)))
                    fields[name] = _hdf5_field(base, len(dataset), shape)
                    places[name] = (dataset.name, member, None)
    return _Hdf5Source(str(path), table or "", fields, places)


def _hdf5_field(dtype: np.dtype[Any], n_rows: int, shape: tuple[int, ...]) -> Field:
    if h5py.check_string_dtype(dtype) is not None:
        return Field(np.dtype(str), n_rows, shape)
    if dtype.kind in NUMBERS:
        return Field(dtype, n_rows, shape)
    lists = h5py.check_vlen_dtype(dtype)
    return _unusable(dtype if lists is None else f"lists of {lists}, of any length", n_rows)


def _datasets(group: h5py.Group) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    group.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _is_pandas(item: object) -> bool:
    """Whether a group is what pandas' `to_hdf(format="table")` makes, with PyTables."""
    return isinstance(item, h5py.Group) and item.attrs.get("pandas_type") == b"frame_table" and "table" in item


def _must_decode(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse compressions that the HDF5 library at hand does not know, such as PyTables' blosc."""
    settings = dataset.id.get_create_plist()
    for position in range(settings.get_nfilters()):
        number, _, _, name = settings.get_filter(position)
        if not h5py.h5z.filter_avail(number):
            with suppress(ImportError):
                import_module("hdf5plugin")  # which registers them
        if not h5py.h5z.filter_avail(number):
            msg = (
                f"{path}: {dataset.name} is compressed with {name.decode(errors='replace') or number}, which h5py "
                "cannot read alone: pip install hdf5plugin, then run again."
            )
            raise InputError(msg)


_NAME_OPCODES = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_LIST_OPCODES = {"PROTO", "FRAME", "MARK", "LIST", "EMPTY_LIST", "APPEND", "APPENDS", "STOP"}
_MEMO_OPCODES = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}


def _pickled_names(path: Path, pickled: object) -> list[str]:
    """Names of the columns in a pandas block. PyTables pickles the list: its words are read, nothing is executed."""
    names: list[str] = []
    with clear_errors(f"{path}: damaged: the names of its pandas columns cannot be read"):
        for opcode, argument, _ in pickletools.genops(bytes(pickled)):  # type: ignore[call-overload]
            if opcode.name in _NAME_OPCODES:
                names.append(str(argument))
            elif opcode.name not in _LIST_OPCODES | _MEMO_OPCODES:
                msg = f"{path}: the names of its pandas columns are no plain list of words ({opcode.name})"
                raise InputError(msg)
    return names


class _NpzSource(Source):
    def _read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Values]:
        found: dict[str, Values] = {}
        for name in names:
            # Read whole, for only at the end of an array does zip verify it.
            with clear_errors(self._damaged(name)), np.load(self.path, allow_pickle=False) as file:
                found[name] = file[name][start:stop]
        return found


def _open_npz(path: Path, table: str | None) -> Source:
    del table  # an npz file is one
    fields = {}
    with clear_errors(f"{path}: damaged, cut off or no npz file"), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = header(file)
            if shape:
                known = Field(dtype, shape[0], tuple(shape[1:]))
                usable = dtype.kind in NUMBERS + "U"
                fields[member.removesuffix(".npy")] = known if usable else _unusable(dtype, shape[0])
    return _NpzSource(str(path), "", fields)


def _chosen(path: Path, what: str, there: Sequence[str], wanted: str | None) -> str:
    if wanted in there or (wanted is None and len(there) == 1):
        return wanted or there[0]
    if wanted is not None:
        msg = f"{path}: no {what} {wanted!r}; it has {', '.join(there) or 'none'}"
    else:
        msg = (
            f"{path}: expected one {what}; it has {', '.join(there) or 'none'}. Say which by `table` in the column map."
        )
    raise InputError(msg)


def _of_awkward(array: ak.Array) -> Values:
    if array.layout.parameter("__array__") == "string":
        return np.asarray(ak.to_numpy(array)).astype(str)
    layout = ak.to_packed(array).layout
    if isinstance(layout, ak.contents.ListOffsetArray):
        return Ragged(np.asarray(layout.offsets, np.int64), np.asarray(layout.content.data))
    return np.asarray(ak.to_numpy(array))
