"""Open a campaign or some shards as jets, read what is asked for, and pair the views of events."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepfm import manifest
from hepfm.atomic import exists, is_folder, location
from hepfm.errors import CampaignError, InputError
from hepfm.formats.hdf5 import count_jets, read_shard
from hepfm.jets import lazy_jets, to_awkward
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, SPLITS, column, split_of, unknown_name
from hepfm.table import JetTable, matching_rows

# Jets read at a time from a large shard: some 100 MB.
_PIECE = 32768


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a dataset (a path or URL), and the variations and processes of the jets in it."""

    path: str
    variations: tuple[str, ...]
    processes: tuple[str, ...]
    n_jets: int


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


def open(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> "Dataset":
    """Open jets for reading.

    Args:
        source: a campaign folder, a shard (.h5), or a list of shards; paths or URLs such as s3://bucket/resim-jets.

    Raises:
        CampaignError: a folder that holds no campaign, or a damaged one.
        InputError: a file that does not exist or is no shard.
        StorageError: the store cannot be reached.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        paths = [location(path) for path in source]
        return Dataset([_loose_shard(path) for path in paths], f"{len(paths)} files")
    path = location(source)
    if is_folder(path):
        return _open_campaign(path)
    if not exists(path):
        msg = f"{path}: no such file or folder; expected a campaign folder or a shard (.h5)"
        raise InputError(msg)
    return Dataset([_loose_shard(path)], str(path))


class Dataset:
    """Jets in shards on disk. Nothing is read before it is asked for.

    `dataset.jets` loads each column when it is first used, `read` loads what it is told to, `batches` goes
    through more jets than fit in memory. Jets come by variation, in the campaign's order, then by chunk of
    events.
    """

    def __init__(self, shards: Sequence[Shard], name: str) -> None:
        """Use `hepfm.open` instead.

        Args:
            shards: the files, in order.
            name: what the dataset is called when printed.
        """
        self.shards = tuple(shards)
        self.name = name
        self._ends = np.cumsum([0] + [shard.n_jets for shard in self.shards])

    def __len__(self) -> int:
        """Number of jets in all views."""
        return int(self._ends[-1])

    def __repr__(self) -> str:
        """Number of jets, variations and processes."""
        return (
            f"Dataset {self.name!r}\n"
            f"  jets        {len(self):,} in {len(self.shards):,} shards\n"
            f"  variations  {', '.join(self.variations)}\n"
            f"  processes   {', '.join(self.processes)}"
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(COLUMNS)

    @cached_property
    def variations(self) -> tuple[str, ...]:
        """Names of the variations that there are jets of, in the campaign's order."""
        return tuple(dict.fromkeys(name for shard in self.shards for name in shard.variations))

    @cached_property
    def processes(self) -> tuple[str, ...]:
        """Names of the hard processes that there are jets of."""
        return tuple(dict.fromkeys(name for shard in self.shards for name in shard.processes))

    @property
    def jets(self) -> ak.Array:
        """All jets, as an Awkward array whose columns are read when they are first used.

        Columns stay in memory as long as the array does: keep it in a variable to use them again.
        """
        return lazy_jets(len(self), self._load, self._load_offsets)

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
        if name in COLUMNS:
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
        names = _column_names(columns)
        wanted = self._filter(**selection)
        return _join(list(self._pieces(names, wanted)), names)

    def iter_shards(
        self,
        columns: Sequence[str] | None = None,
        **selection: Unpack[Selection],
    ) -> Iterator[ak.Array]:
        """Read one shard after another; shards without a wanted jet are left out. Arguments as for `read`."""
        names = _column_names(columns)
        wanted = self._filter(**selection)
        for shard in self.shards:
            if pieces := list(self._shard_pieces(shard, names, wanted)):
                yield to_awkward(_join(pieces, names))

    def batches(
        self,
        size: int,
        columns: Sequence[str] | None = None,
        **selection: Unpack[Selection],
    ) -> Iterator[ak.Array]:
        """Go through the jets, `size` at a time (the last batch may be smaller), in constant memory.

        The other arguments are those of `read`.
        """
        if size < 1:
            msg = f"the size of a batch must be at least 1, got {size}"
            raise InputError(msg)
        names = _column_names(columns)
        wanted = self._filter(**selection)
        held: list[JetTable] = []
        n_held = 0
        for piece in self._pieces(names, wanted):
            held.append(piece)
            n_held += piece.n_jets
            if n_held < size:
                continue
            table = _join(held, names)
            n_whole = n_held - n_held % size
            for start in range(0, n_whole, size):
                yield to_awkward(table.slice(start, start + size))
            held = [table.slice(n_whole, n_held)]
            n_held -= n_whole
        if n_held:
            yield to_awkward(_join(held, names))

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
        names = _column_names(columns)
        with_identity = tuple(dict.fromkeys((*names, "event_id", "jet_index")))
        tables = [
            self.read_table(with_identity, variation=variation, process=process, split=split)
            for variation in (first, second)
        ]
        rows = matching_rows(tables[0], tables[1])
        one, two = (to_awkward(table.only(names).select(r)) for table, r in zip(tables, rows, strict=True))
        return one, two

    def views(self, event_id: int) -> ak.Array:
        """Read all jets of one frozen event, under all variations."""
        found = []
        for shard in self.shards:
            rows = np.flatnonzero(read_shard(shard.path, ["event_id"]).columns["event_id"] == event_id)
            if len(rows):
                table = read_shard(shard.path, start=int(rows[0]), stop=int(rows[-1]) + 1)
                found.append(table.select(rows - rows[0]))
        return to_awkward(_join(found, tuple(COLUMNS)))

    def _filter(
        self,
        variation: str | Sequence[str] | None = None,
        process: str | Sequence[str] | None = None,
        split: str | None = None,
    ) -> _Filter:
        if split is not None and split not in SPLITS:
            raise InputError(unknown_name("split", split, SPLITS))
        return _Filter(
            variations=None if variation is None else _known_names("variation", variation, self.variations),
            processes=None if process is None else _known_names("process", process, self.processes),
            split=split,
        )

    def _pieces(self, names: Sequence[str], wanted: _Filter) -> Iterator[JetTable]:
        for shard in self.shards:
            yield from self._shard_pieces(shard, names, wanted)

    def _shard_pieces(self, shard: Shard, names: Sequence[str], wanted: _Filter) -> Iterator[JetTable]:
        for start in range(0, shard.n_jets, _PIECE):
            stop = min(start + _PIECE, shard.n_jets)
            keep = _kept_rows(shard, wanted, start, stop)
            if not keep.any():
                continue
            table = _read_rows(shard, names, start, stop)
            yield table if keep.all() else table.select(keep)

    def _rows(self, start: int, stop: int) -> JetTable:
        found = []
        for shard, first in zip(self.shards, self._ends[:-1].tolist(), strict=True):
            low, high = max(start - first, 0), min(stop - first, shard.n_jets)
            if low < high:
                found.append(_read_rows(shard, tuple(COLUMNS), low, high))
        return _join(found, tuple(COLUMNS))

    def _load(self, name: str) -> NDArray[Any]:
        table = _join([_read_rows(shard, (name,), 0, shard.n_jets) for shard in self.shards], (name,))
        return table.constituents[name] if name in CONSTITUENT_COLUMNS else table.columns[name]

    def _load_offsets(self) -> NDArray[np.int64]:
        return _join([_read_rows(shard, (), 0, shard.n_jets) for shard in self.shards], ()).offsets


def _open_campaign(folder: Path) -> Dataset:
    records = manifest.read(folder)
    # Shards are recorded as they finish; the dataset's order must not depend on that.
    listed = manifest.read_header(folder).get("variations")
    order = {name: position for position, name in enumerate(listed if isinstance(listed, list) else ())}
    records.sort(key=lambda r: (order.get(r.variation, len(order)), r.variation, r.chunk, r.path))
    shards = [Shard(f"{folder}/{r.path}", (r.variation,), (r.process,), r.n_jets) for r in records]
    return Dataset(shards, str(folder))


def _loose_shard(path: Path) -> Shard:
    table = read_shard(path, ["variation", "process"])
    variations, processes = (tuple(np.unique(table.columns[c]).tolist()) for c in ("variation", "process"))
    return Shard(str(path), variations, processes, table.n_jets)


def _column_names(columns: Sequence[str] | None) -> tuple[str, ...]:
    if columns is None:
        return tuple(COLUMNS)
    names = [columns] if isinstance(columns, str) else columns
    return tuple(column(name).name for name in names)


def _known_names(what: str, given: str | Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in known:
            raise InputError(unknown_name(what, name, known))
    return names


def _join(tables: Sequence[JetTable], names: Sequence[str]) -> JetTable:
    if not tables:
        return JetTable.empty().only(names)
    return tables[0] if len(tables) == 1 else JetTable.concatenate(tables)


def _read_rows(shard: Shard, names: Sequence[str], start: int, stop: int) -> JetTable:
    table = read_shard(shard.path, names, start=start, stop=stop)
    if table.n_jets != stop - start:
        msg = f"{shard.path}: holds {count_jets(shard.path)} jets, but the manifest says {shard.n_jets}"
        raise CampaignError(msg)
    return table


def _kept_rows(shard: Shard, wanted: _Filter, start: int, stop: int) -> NDArray[np.bool_]:
    """Tell which jets pass, reading only the columns that decide."""
    keep = np.ones(stop - start, bool)
    named = {
        "variation": (shard.variations, wanted.variations),
        "process": (shard.processes, wanted.processes),
    }
    for name, (present, chosen) in named.items():
        if chosen is None or set(present) <= set(chosen):
            continue
        # A campaign's shard holds one variation and one process; a loose file may hold several.
        if set(present).isdisjoint(chosen):
            return np.zeros_like(keep)
        keep &= np.isin(_read_rows(shard, [name], start, stop).columns[name], chosen)
    if wanted.split is not None:
        event_id = _read_rows(shard, ["event_id"], start, stop).columns["event_id"]
        keep &= split_of(event_id) == SPLITS.index(wanted.split)
    return keep
