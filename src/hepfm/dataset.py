"""Jets in files: read what is asked for, go through them in batches, pair the views of events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict, Unpack

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.blocks import in_blocks
from hepfm.formats.jet_file import JetFile
from hepfm.jets import lazy_jets, to_awkward
from hepfm.schema import COLUMNS, SPLITS, Column, is_constituent, split_of, unknown_name
from hepfm.table import JetTable, matching_rows

# Jets read at a time from a large file: some 100 MB.
_PIECE = 32768


class Selection(TypedDict, total=False):
    """Which jets to read, as explained at `Dataset.read`."""

    variation: str | Sequence[str] | None
    process: str | Sequence[str] | None
    split: str | None


@dataclass(frozen=True)
class _Filter:
    """Which jets to keep; None keeps all."""

    variations: tuple[str, ...] | None
    processes: tuple[str, ...] | None
    split: str | None


class Dataset:
    """Jets in files. Nothing is read before it is asked for.

    `dataset.jets` loads each column when it is first used, `read` loads what it is told to, `batches` goes
    through more jets than fit in memory. Jets come in the order of the files; those of a campaign by variation, in
    the campaign's order, then by chunk of events.
    """

    def __init__(self, files: Sequence[JetFile], name: str) -> None:
        """Use `hepfm.open` instead.

        Args:
            files: in order.
            name: what the dataset is called when printed.

        Raises:
            InputError: files number their classes differently, or have no column in common.
        """
        self.files = tuple(files)
        self.name = name
        self.classes = _common_classes(self.files)
        """Names of the classes that `jet_label` is an index of; none where jets have no labels."""
        self._columns = _common_columns(self.files)
        self._ends = np.cumsum([0] + [file.n_jets for file in self.files])

    def __len__(self) -> int:
        """Number of jets in all views."""
        return int(self._ends[-1])

    def __repr__(self) -> str:
        """Number of jets, variations, processes, and what else is to know about the files."""
        lines = [
            f"Dataset {self.name!r}",
            f"  jets        {len(self):,} in {len(self.files):,} files",
            f"  variations  {', '.join(self.variations) or '-'}",
            f"  processes   {', '.join(self.processes) or '-'}",
            *(f"  note        {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that all files have."""
        return tuple(self._columns)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, converted or left out when the files were understood, a sentence each.

        One that is not of all files says of how many, and names the first.
        """
        paths: dict[str, list[str]] = {}
        for file in self.files:
            for note in dict.fromkeys(file.notes):
                paths.setdefault(note, []).append(file.path)
        n_files = len(self.files)
        return tuple(
            note if len(those) == n_files else f"{note} ({len(those)} of {n_files} files, first {those[0]})"
            for note, those in paths.items()
        )

    @cached_property
    def variations(self) -> tuple[str, ...]:
        """Names of the variations that there are jets of, in the campaign's order."""
        return tuple(dict.fromkeys(name for file in self.files for name in file.variations))

    @cached_property
    def processes(self) -> tuple[str, ...]:
        """Names of the hard processes that there are jets of."""
        return tuple(dict.fromkeys(name for file in self.files for name in file.processes))

    @property
    def knows_events(self) -> bool:
        """Whether jets are in splits by their events, or by what the files say."""
        return "event_id" in self.columns or all(file.split is not None for file in self.files)

    def check_target(self, path: Path) -> None:
        """Check that a file that will be written is none of those that the jets are read from.

        Raises:
            InputError: it is one of them.
        """
        if path.exists() and path.resolve() in {Path(file.path).resolve() for file in self.files}:
            msg = f"{path}: is read here, and would be replaced. Choose another name or folder for what is written."
            raise InputError(msg)

    @property
    def jets(self) -> ak.Array:
        """All jets, as an Awkward array whose columns are read when they are first used.

        Columns stay in memory as long as the array does: keep it in a variable to use them again.
        """
        return lazy_jets(len(self), self._columns.values(), self._load, self._load_offsets)

    def __getitem__(self, which: slice | int | str | list[str]) -> ak.Array:
        """Read some jets (a slice), one (an index), or some columns (one name, or a list of them)."""
        if isinstance(which, str):
            return self.read([which])[which]
        if isinstance(which, list):
            return self.read(which)
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            rows = range(start, stop, step)
            low, high = (min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1) if rows else (0, 0)
            table = self._rows(low, high)
            if step != 1:
                table = table.select(np.arange(start, stop, step) - low)
            return to_awkward(table)
        row = which + len(self) if which < 0 else which
        if not 0 <= row < len(self):
            msg = f"jet {which} is out of range: there are {len(self)}"
            raise IndexError(msg)
        return to_awkward(self._rows(row, row + 1))[0]

    def __iter__(self) -> Iterator[ak.Record]:
        """Go through the jets one by one, in constant memory; whole arrays are far faster."""
        for batch in self.batches(_PIECE):
            yield from batch

    def __getattr__(self, name: str) -> ak.Array:
        """Give a column of all jets: `dataset.part_px` is `dataset["part_px"]`."""
        # `_columns` itself is asked for here while the object is being made or unpickled.
        if name in self.__dict__.get("_columns", ()):
            return self[name]
        msg = f"Dataset has no attribute {name!r}"
        raise AttributeError(msg, name=name, obj=self)

    def read(
        self,
        columns: Sequence[str] | None = None,
        *,
        variation: str | Sequence[str] | None = None,
        process: str | Sequence[str] | None = None,
        split: str | None = None,
    ) -> ak.Array:
        """Read jets into memory.

        Args:
            columns: names of the columns wanted, by default all.
            variation: only the views under this variation, or these.
            process: only jets of this hard process, or these.
            split: only "train", "validation" or "test".

        Raises:
            InputError: a name that does not exist, or a damaged shard.
        """
        return to_awkward(self.read_table(columns, variation=variation, process=process, split=split))

    def read_table(
        self,
        columns: Sequence[str] | None = None,
        **selection: Unpack[Selection],
    ) -> JetTable:
        """Do what `read` does, with flat NumPy arrays as the result. Arguments as for `read`."""
        names = self._names(columns)
        wanted = self._filter(**selection)
        return self._join([piece for file in self.files for piece in self._whole(file, names, wanted)], names)

    def iter_files(
        self,
        columns: Sequence[str] | None = None,
        **selection: Unpack[Selection],
    ) -> Iterator[ak.Array]:
        """Read one file after another; files without a wanted jet are left out. Arguments as for `read`."""
        names = self._names(columns)
        wanted = self._filter(**selection)
        for file in self.files:
            if pieces := list(self._whole(file, names, wanted)):
                yield to_awkward(self._join(pieces, names))

    def batches(
        self,
        size: int,
        columns: Sequence[str] | None = None,
        **selection: Unpack[Selection],
    ) -> Iterator[ak.Array]:
        """Go through the jets, `size` at a time (the last batch may be smaller), in constant memory.

        The other arguments are those of `read`.
        """
        for table in self.tables(size, columns, **selection):
            yield to_awkward(table)

    def tables(
        self,
        size: int,
        columns: Sequence[str] | None = None,
        **selection: Unpack[Selection],
    ) -> Iterator[JetTable]:
        """Do what `batches` does, with flat NumPy arrays as the result."""
        if size < 1:
            msg = f"the size of a batch must be at least 1, got {size}"
            raise InputError(msg)
        pieces = self._pieces(self._names(columns), self._filter(**selection))
        for first in pieces:
            yield from in_blocks(chain([first], pieces), size)

    def pairs(
        self,
        first: str,
        second: str,
        columns: Sequence[str] | None = None,
        *,
        process: str | Sequence[str] | None = None,
        split: str | None = None,
    ) -> tuple[ak.Array, ak.Array]:
        """Read two views of the same jets.

        Args:
            first: a variation.
            second: another one.
            columns: as for `read`.
            process: as for `read`.
            split: as for `read`.

        Returns:
            Jets under each variation, the same number: row i of both is the same frozen event and parton. A
            jet that is missing under one of the two is left out. Ordered by event_id and jet_index.

        Raises:
            InputError: a name that does not exist, or a jet that appears twice in one variation.
        """
        names = self._names(columns)
        self._names(["event_id", "jet_index"])
        with_identity = tuple(dict.fromkeys((*names, "event_id", "jet_index")))
        tables = [
            self.read_table(with_identity, variation=variation, process=process, split=split)
            for variation in (first, second)
        ]
        rows = matching_rows(tables[0], tables[1])
        one, two = (to_awkward(table.only(names).select(r)) for table, r in zip(tables, rows, strict=True))
        return one, two

    def aligned_tables(
        self, size: int, columns: Sequence[str] | None = None, *, variations: Sequence[str] | None = None
    ) -> Iterator[tuple[JetTable, ...]]:
        """Go through all views of jets side by side, in constant memory where files keep events in the same order.

        Args:
            size: jets at a time.
            columns: as for `read`.
            variations: which views; by default all that there are.

        Yields:
            A table a variation: row i of all of them is the same frozen event and parton. Jets that are missing under
            one of the variations are left out; the others come in the order of the first variation.

        Raises:
            InputError: a name that does not exist, or a jet that appears twice in one variation.
        """
        chosen = _known_names("variation", variations or self.variations, self.variations)
        names = self._names(columns)
        keys = [self.read_table(["event_id", "jet_index"], variation=name) for name in chosen]
        common, rows = keys[0], [np.arange(keys[0].n_jets)]
        for other in keys[1:]:
            mine, theirs = matching_rows(common, other)
            common, rows = common.select(mine), [*(r[mine] for r in rows), theirs]
        order = np.argsort(rows[0])
        places = [self._places(name)[r[order]] for name, r in zip(chosen, rows, strict=True)]
        for start in range(0, len(order), size):
            yield tuple(self._at(place[start : start + size], names) for place in places)

    def views(self, event_id: int) -> ak.Array:
        """Read all jets of one frozen event, under all variations."""
        self._names(["event_id"])
        found = []
        for file in self.files:
            rows = np.flatnonzero(file.read(["event_id"], 0, file.n_jets).columns["event_id"] == event_id)
            if len(rows):
                table = file.read(self.columns, int(rows[0]), int(rows[-1]) + 1)
                found.append(table.select(rows - rows[0]))
        return to_awkward(self._join(found, self.columns))

    def _filter(
        self,
        variation: str | Sequence[str] | None = None,
        process: str | Sequence[str] | None = None,
        split: str | None = None,
    ) -> _Filter:
        if split is not None and split not in SPLITS:
            raise InputError(unknown_name("split", split, SPLITS))
        if split is not None and not self.knows_events:
            msg = (
                f"{self.name}: these jets lack the event_id, by which jets are split. Leave split out; finetune and "
                "evaluate split them by their places."
            )
            raise InputError(msg)
        return _Filter(
            variations=None if variation is None else _known_names("variation", variation, self.variations),
            processes=None if process is None else _known_names("process", process, self.processes),
            split=split,
        )

    def _names(self, columns: Sequence[str] | None) -> tuple[str, ...]:
        """Names of the columns wanted, all of which the files have."""
        if columns is None:
            return self.columns
        names = [columns] if isinstance(columns, str) else columns
        for name in names:
            if name in self._columns:
                continue
            if name in COLUMNS:
                msg = f"{self.name}: has no column {name!r}. It has: {', '.join(self.columns)}."
                raise InputError(msg)
            raise InputError(unknown_name("column", name, self.columns))
        return tuple(names)

    def _pieces(self, names: Sequence[str], wanted: _Filter) -> Iterator[JetTable]:
        for file in self.files:
            yield from self._file_pieces(file, names, wanted)

    def _whole(self, file: JetFile, names: Sequence[str], wanted: _Filter) -> Iterator[JetTable]:
        """Read a file into memory: at once if all of it is wanted, for joining pieces is a copy more."""
        if file.n_jets and _kept_rows(file, wanted, 0, file.n_jets).all():
            yield file.read(names, 0, file.n_jets)
        else:
            yield from self._file_pieces(file, names, wanted)

    def _file_pieces(self, file: JetFile, names: Sequence[str], wanted: _Filter) -> Iterator[JetTable]:
        for start in range(0, file.n_jets, _PIECE):
            stop = min(start + _PIECE, file.n_jets)
            keep = _kept_rows(file, wanted, start, stop)
            if not keep.any():
                continue
            table = file.read(names, start, stop)
            yield table if keep.all() else table.select(keep)

    def _places(self, variation: str) -> NDArray[np.int64]:
        """The row in the dataset of each of a variation's jets."""
        wanted = self._filter(variation=variation)
        found = [
            first + np.flatnonzero(_kept_rows(file, wanted, 0, file.n_jets))
            for file, first in zip(self.files, self._ends[:-1], strict=True)
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _at(self, places: NDArray[np.int64], names: Sequence[str]) -> JetTable:
        low, high = int(places.min()), int(places.max()) + 1
        return self._rows(low, high, names).select(places - low)

    def _rows(self, start: int, stop: int, names: Sequence[str] | None = None) -> JetTable:
        names = self.columns if names is None else names
        found = []
        for file, first in zip(self.files, self._ends[:-1].tolist(), strict=True):
            low, high = max(start - first, 0), min(stop - first, file.n_jets)
            if low < high:
                found.append(file.read(names, low, high))
        return self._join(found, names)

    def _load(self, name: str) -> NDArray[Any]:
        table = self._join([file.read([name], 0, file.n_jets) for file in self.files], (name,))
        return table.constituents[name] if is_constituent(name) else table.columns[name]

    def _load_offsets(self) -> NDArray[np.int64]:
        return self._join([file.read([], 0, file.n_jets) for file in self.files], ()).offsets

    def _join(self, tables: Sequence[JetTable], names: Sequence[str]) -> JetTable:
        if not tables:
            return JetTable.empty([self._columns[name] for name in names])
        return tables[0] if len(tables) == 1 else JetTable.concatenate(tables)


def _common_columns(files: Sequence[JetFile]) -> dict[str, Column]:
    if not files:
        return dict(COLUMNS)
    first, *others = ({c.name: c for c in file.columns} for file in files)
    common: dict[str, Column] = {}
    for name, column in first.items():
        if all(name in other for other in others):
            # Columns that are not the format's may have other types in other files.
            dtypes = {column.dtype, *(other[name].dtype for other in others)}
            common[name] = column if len(dtypes) == 1 else replace(column, dtype=np.result_type(*dtypes).name)
    if not common:
        msg = f"{files[0].path} and {len(others)} further files have no column in common. Open them one by one."
        raise InputError(msg)
    return common


def _common_classes(files: Sequence[JetFile]) -> tuple[str, ...]:
    known = {file.classes: file.path for file in files}
    if len(known) > 1:
        (one, first), (two, second), *_ = known.items()
        names = [", ".join(classes[:4]) + (", ..." if len(classes) > 4 else "") or "none" for classes in (one, two)]
        msg = f"{first} and {second} have different classes ({names[0]}; {names[1]}). Open them one by one."
        raise InputError(msg)
    return next(iter(known), ())


def _known_names(what: str, given: str | Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in known:
            raise InputError(unknown_name(what, name, known))
    return names


def _kept_rows(file: JetFile, wanted: _Filter, start: int, stop: int) -> NDArray[np.bool_]:
    """Tell which jets pass, reading only the columns that decide."""
    keep = np.ones(stop - start, bool)
    named = {
        "variation": (file.variations, wanted.variations),
        "process": (file.processes, wanted.processes),
    }
    for name, (present, chosen) in named.items():
        if chosen is None or (present and set(present) <= set(chosen)):
            continue
        # A campaign's shard holds one variation and one process; a loose file may hold several.
        if set(present).isdisjoint(chosen):
            return np.zeros_like(keep)
        keep &= np.isin(file.read([name], start, stop).columns[name], chosen)
    if wanted.split is None or wanted.split == file.split:
        return keep
    if file.split is not None:
        return np.zeros_like(keep)
    event_id = file.read(["event_id"], start, stop).columns["event_id"]
    keep &= split_of(event_id) == SPLITS.index(wanted.split)
    return keep
