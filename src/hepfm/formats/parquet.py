"""Jets as Parquet, the form of the Hub: one row a jet, constituents as lists; docs/data-format.md has the layout."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hepfm.atomic import growing_file
from hepfm.errors import InputError
from hepfm.formats.blocks import in_blocks
from hepfm.formats.conversion import as_column, falling_pt
from hepfm.formats.jet_file import EXPECTED, UNNAMED_CLASSES, JetFile
from hepfm.formats.jetclass2 import known_classes
from hepfm.formats.parquet_rows import must_be_there, opened, read_rows
from hepfm.schema import COLUMNS, JET_CLASSES, Column, is_constituent
from hepfm.table import JetTable

# 16,384 jets are some 40 MB in memory: few enough to stream, enough to compress well.
_ROW_GROUP = 16384
# Measured on simulated jets (docs/formats.md): level 3 gains 0.2 % and takes 20 % longer.
_ZSTD_LEVEL = 1
ARROW_VERSION = pa.__version__
"""What the bytes of a file depend on besides its content."""

_TEXT = ("variation", "process")
# By which constituents are ordered.
_MOMENTA = ("part_px", "part_py")
_LABEL = "jet_label"


@contextmanager
def parquet_writer(
    path: Path, metadata: Mapping[str, str], classes: Sequence[str] = JET_CLASSES
) -> Iterator[Callable[[JetTable], None]]:
    """Give the function that adds jets to a new file, in constant memory.

    The file has its name only when it is whole. Its bytes depend on the jets, the metadata and the version of Arrow
    alone. All tables must have the same columns; one of no jets will do if there are none.

    Args:
        path: where the file goes; an existing one is replaced.
        metadata: provenance, stored in the file's footer.
        classes: names of what `jet_label` is an index of.

    Raises:
        InputError: no table was added, their columns differ, or one is of a type that Parquet does not have.
        StorageError: the file could not be written.
    """
    with growing_file(path) as temporary, _errors_of(path), ExitStack() as stack:
        held: list[JetTable] = []
        file: pq.ParquetWriter | None = None

        def write(blocks: Iterable[JetTable]) -> None:
            nonlocal file
            for block in blocks:
                if file is None:
                    _check_types(path, block)
                    file = stack.enter_context(_new_file(temporary, block, metadata, classes))
                file.write_table(_to_arrow(block, file.schema), row_group_size=max(1, block.n_jets))

        def add(table: JetTable) -> None:
            nonlocal held
            held.append(table)
            if sum(t.n_jets for t in held) >= _ROW_GROUP:
                *whole, last = in_blocks(held, _ROW_GROUP)
                held = [last]
                write(whole)

        yield add
        if file is None or any(table.n_jets for table in held):
            write(in_blocks(held, _ROW_GROUP))


def write_parquet(
    path: Path, tables: Iterable[JetTable], metadata: Mapping[str, str], classes: Sequence[str] = JET_CLASSES
) -> None:
    """Write jets that come some at a time; see `parquet_writer`."""
    with parquet_writer(path, metadata, classes) as add:
        for table in tables:
            add(table)


def open_parquet(path: Path) -> JetFile:
    """Open a Parquet file of jets: our own, or any other whose columns have our names, such as JetClass-II's.

    One in a store is fetched whole, now and again when its jets are read.

    Raises:
        InputError: the file is damaged, no Parquet file, or has no constituents.
        StorageError: the store cannot be reached.
    """
    with _errors_of(path), opened(path) as file:
        schema, n_jets = file.schema_arrow, file.metadata.num_rows
        ours = b"hepfm" in (schema.metadata or {})
        columns, left_out = _known_columns(schema)
        names = {c.name for c in columns}
        if missing := [name for name in _MOMENTA if name not in names]:
            there = ", ".join(f"{known.name} ({known.type})" for known in list(schema)[:8])
            msg = f"{path}: no {' and '.join(missing)} with a list of any length a jet, but {there}. {EXPECTED}"
            raise InputError(msg)
        text = {name: _distinct(file, name, path) for name in _TEXT if name in names}
    classes = _classes(schema)
    notes = [f"left out, for {why}: {', '.join(those)}" for why, those in left_out.items()]
    if _LABEL in names and not classes:
        notes.append(UNNAMED_CLASSES)
    return ParquetFile(
        str(path),
        n_jets,
        columns,
        text.get("variation", ()),
        text.get("process", ()),
        classes,
        tuple(notes),
        ordered=ours,
    )


def left_out(columns: Iterable[str]) -> tuple[str, ...]:
    """Say in sentences what of some columns does not come back from a file: nothing is lost."""
    del columns
    return ()


def read_metadata(path: Path) -> dict[str, str]:
    """The provenance that `write_parquet` stored.

    Raises:
        InputError: the file is damaged, or not ours.
    """
    with _errors_of(path):
        stored = (pq.read_schema(path).metadata or {}).get(b"hepfm")
    if stored is None:
        msg = f"{path}: has no provenance; expected a Parquet file that hepfm wrote"
        raise InputError(msg)
    return dict(json.loads(stored))


@dataclass(frozen=True)
class ParquetFile(JetFile):
    """A Parquet file of jets; `ordered` says that constituents are known to come by falling transverse momentum."""

    ordered: bool = field(default=False, kw_only=True)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets, and of these the columns wanted."""
        known = {c.name: c for c in self.columns}
        lists = [name for name in known if is_constituent(name)]
        order = () if self.ordered else _MOMENTA
        wanted = list(dict.fromkeys((*names, *order)))
        # Offsets come with any list; the smallest one will do.
        extra = [] if any(map(is_constituent, wanted)) else [min(lists, key=lambda n: known[n].numpy_dtype.itemsize)]
        text = [name for name in _TEXT if name in known]
        with _errors_of(self.path):
            table, n_jets = read_rows(self.path, [*wanted, *extra], start, stop, text=text)
            if n_jets != self.n_jets:
                msg = (
                    f"{self.path}: holds {n_jets} jets, expected {self.n_jets}: the file was replaced, or a conversion "
                    "interrupted. Export or publish again."
                )
                raise InputError(msg)
            offsets: NDArray[np.int64] | None = None
            columns, constituents = {}, {}
            for name in (*wanted, *extra):
                if not is_constituent(name):
                    columns[name] = as_column(_values(table[name], known[name], self.path), known[name], self.path)
                    continue
                own, values = _ragged(table[name], known[name], self.path)
                if offsets is not None and not np.array_equal(own, offsets):
                    msg = f"{self.path}: damaged: column {name!r} has other numbers of constituents than the others"
                    raise InputError(msg)
                offsets = own
                constituents[name] = as_column(values, known[name], self.path)
        result = JetTable(columns, np.zeros(1, np.int64) if offsets is None else offsets, constituents)
        return (result if self.ordered else falling_pt(result)).only(names)


def _check_types(path: Path, table: JetTable) -> None:
    for name, values in {**table.columns, **table.constituents}.items():
        if values.dtype.kind == "f" and values.dtype.itemsize > 8:
            msg = f"{path}: a Parquet file cannot hold column {name!r}, of type {values.dtype}"
            raise InputError(msg)


def _new_file(path: Path, first: JetTable, metadata: Mapping[str, str], classes: Sequence[str]) -> pq.ParquetWriter:
    decimals = [f"{name}.list.element" if is_constituent(name) else name for name in _float_names(first)]
    return pq.ParquetWriter(
        path,
        _arrow_schema(first, metadata, classes),
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=False,
        use_byte_stream_split=decimals,
        # Nobody looks for jets by the least and greatest value of all constituents of some thousand jets.
        write_statistics=list(first.columns),
        write_page_index=True,
        write_page_checksum=True,
    )


def _float_names(table: JetTable) -> list[str]:
    arrays = {**table.columns, **table.constituents}
    return [name for name, values in arrays.items() if values.dtype.kind == "f"]


def _arrow_schema(table: JetTable, metadata: Mapping[str, str], classes: Sequence[str]) -> pa.Schema:
    fields = [
        # `datasets` takes a column for classes only if it has the type that it would give it itself.
        pa.field(name, pa.int64()) if name == _LABEL else pa.field(name, _arrow_type(values.dtype), nullable=False)
        for name, values in table.columns.items()
    ]
    fields += [
        pa.field(name, pa.list_(pa.field("element", _arrow_type(values.dtype), nullable=False)), nullable=False)
        for name, values in table.constituents.items()
    ]
    # `datasets` takes the types of columns from here; it knows classes by their names only by this.
    features = {f.name: _feature(f, classes) for f in fields}
    stored = {"hepfm": json.dumps(dict(metadata)), "huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=stored)


def _arrow_type(dtype: np.dtype[Any]) -> pa.DataType:
    return pa.string() if dtype.kind == "U" else pa.from_numpy_dtype(dtype)


def _feature(known: pa.Field, classes: Sequence[str]) -> dict[str, Any]:
    if known.name == _LABEL and classes:
        return {"names": list(classes), "_type": "ClassLabel"}
    if pa.types.is_list(known.type):
        # Published files say "float" and "double" here, which `datasets` knows too: their bytes stay what they are.
        name = str(known.type.value_type).replace("halffloat", "float16")
        return {"feature": {"dtype": name, "_type": "Value"}, "_type": "List"}
    return {"dtype": _datasets_name(known.type), "_type": "Value"}


def _datasets_name(kind: pa.DataType) -> str:
    # Arrow has names of its own for floating numbers; `datasets` knows NumPy's.
    return {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(kind), str(kind))


def _to_arrow(table: JetTable, schema: pa.Schema) -> pa.Table:
    offsets = pa.array(table.offsets.astype(np.int32))
    arrays = [pa.array(values, schema.field(name).type) for name, values in table.columns.items()]
    for name, values in table.constituents.items():
        arrays.append(pa.ListArray.from_arrays(offsets, pa.array(values), type=schema.field(name).type))
    return pa.table(arrays, schema=schema)


def _known_columns(schema: pa.Schema) -> tuple[tuple[Column, ...], dict[str, list[str]]]:
    """Columns that jets can have, the format's own first, and the names of others by why they cannot."""
    found: dict[str, Column] = {}
    left_out: dict[str, list[str]] = {}
    for arrow in schema:
        ragged = pa.types.is_list(arrow.type) or pa.types.is_large_list(arrow.type)
        kind = arrow.type.value_type if ragged else arrow.type
        text = arrow.name in _TEXT and _is_text(kind)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        if not (text if arrow.name in _TEXT else number) or ragged != is_constituent(arrow.name):
            why = "it is no text" if arrow.name in _TEXT else "a jet or a constituent has no single number there"
            left_out.setdefault(why, []).append(arrow.name)
            continue
        dtype = "str" if text else np.dtype(kind.to_pandas_dtype()).name
        found[arrow.name] = COLUMNS.get(arrow.name, Column(arrow.name, dtype, "", "as in the file"))
    ours = [found.pop(name) for name in COLUMNS if name in found]
    return (*ours, *found.values()), left_out


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _classes(schema: pa.Schema) -> tuple[str, ...]:
    if _LABEL not in schema.names:
        return ()
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(features[_LABEL]["names"])
    except (KeyError, ValueError, TypeError):
        return known_classes(schema.names)


def _distinct(file: pq.ParquetFile, name: str, path: Path) -> tuple[str, ...]:
    """The words of a text column, in the order of the jets.

    The least and greatest one of a row group tell, where they are the same.
    """
    leaves = [file.schema.column(i).path for i in range(len(file.schema))]
    place = leaves.index(name)
    found: dict[str, None] = {}
    for number in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(number).column(place).statistics
        complete = statistics is not None and statistics.null_count == 0
        if complete and statistics.has_min_max and statistics.min == statistics.max:
            found[statistics.min] = None
        else:
            values = file.read_row_group(number, columns=[name])[name]
            must_be_there(values, path, name, or_nan=False)
            found.update(dict.fromkeys(values.unique().to_pylist()))
    return tuple(found)


def _values(column: pa.ChunkedArray, known: Column, path: str) -> NDArray[Any]:
    must_be_there(column, path, known.name, or_nan=known.numpy_dtype.kind == "f")
    if pa.types.is_dictionary(column.type):
        pieces = [_words(chunk) for chunk in column.chunks]
        return np.concatenate(pieces) if pieces else np.empty(0, "U1")
    values: NDArray[Any] = column.to_numpy()
    return values


def _words(chunk: pa.DictionaryArray) -> NDArray[Any]:
    words = np.array(chunk.dictionary.to_pylist() or [""], dtype=str)
    chosen: NDArray[Any] = words[chunk.indices.to_numpy(zero_copy_only=False)]
    return chosen


def _ragged(column: pa.ChunkedArray, known: Column, path: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    must_be_there(column, path, known.name, or_nan=False)
    counts = [np.zeros(1, np.int64)]
    values = []
    for chunk in column.chunks:
        own = chunk.offsets.to_numpy()
        counts.append(np.diff(own).astype(np.int64))
        part = chunk.values.slice(own[0], own[-1] - own[0]) if len(own) else chunk.values
        must_be_there(part, path, known.name, or_nan=known.numpy_dtype.kind == "f")
        values.append(part.to_numpy(zero_copy_only=False))
    offsets = np.cumsum(np.concatenate(counts), dtype=np.int64)
    if not values:
        return offsets, np.empty(0, column.type.value_type.to_pandas_dtype())
    return offsets, values[0] if len(values) == 1 else np.concatenate(values)


@contextmanager
def _errors_of(path: Path | str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system's own words say it better
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path}: damaged or no Parquet file: {first}"
        raise InputError(msg) from error
