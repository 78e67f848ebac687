"""Jets in the formats of other tools: a file a variation, written in constant memory."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from hepfm import __version__
from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.formats import omnilearned, padded, parquet, root, rs3l
from hepfm.opening import open as open_jets
from hepfm.schema import SPLITS, is_plain_name, unknown_name
from hepfm.table import JetTable

_TABLE_JETS = 8192
# Of jets with all their views side by side.
_ALIGNED_JETS = 1024


@dataclass(frozen=True)
class Exported:
    """What was written, the number of jets in it (of all views), and in sentences what was left out."""

    paths: tuple[Path, ...]
    n_jets: int
    left_out: tuple[str, ...]


def export(
    source: str | os.PathLike[str], out: Path, to: str, *, columns: str | os.PathLike[str] | None = None
) -> Exported:
    """Convert jets.

    Args:
        source: whatever `hepfm.open` opens.
        out: folder of the files; made if it does not exist.
        to: one of `FORMATS`: "parquet", "root" (JetClass), "rs3l" (one file, all views of a jet side by side),
            "omnilearned" (folders train, val and test) or "padded" HDF5.
        columns: a column map, as `hepfm.open` takes it.

    Raises:
        InputError: no such format or source, jets without what the format needs, or a file that is read would be
            replaced.
        StorageError: a file could not be written.
    """
    if to not in FORMATS:
        raise InputError(unknown_name("format", to, list(FORMATS)))
    dataset = open_jets(source, columns=columns)
    left_out, write = FORMATS[to]
    if not len(dataset):
        msg = f"{source}: there are no jets to write."
        raise InputError(msg)
    count = _Count()
    paths = tuple(write(dataset, out, count))
    notes = [*dataset.notes, *left_out(dataset.columns)]
    if n_lost := len(dataset) - count.n_jets:
        notes.append(f"{n_lost} of {len(dataset)} jets were left out, for not all views have them")
    if to == "omnilearned" and not dataset.knows_events:
        notes.append("not divided into train, val and test, for the jets have no event_id: choose the file's folder")
    return Exported(paths, count.n_jets, tuple(notes))


class _Count:
    """Number of jets in the tables that went through to a writer."""

    n_jets = 0

    def through(self, tables: Iterable[JetTable]) -> Iterator[JetTable]:
        for table in tables:
            self.n_jets += table.n_jets
            yield table


def _write_parquet(dataset: Dataset, out: Path, count: _Count) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = _target(dataset, out / f"{name}.parquet")
        metadata = {"source": one.name, "hepfm": __version__}
        parquet.write_parquet(path, count.through(one.tables(_TABLE_JETS)), metadata, one.classes)
        yield path


def _write_rs3l(dataset: Dataset, out: Path, count: _Count) -> Iterator[Path]:
    path = _target(dataset, out / "jets.h5")
    blocks = dataset.aligned_tables(_ALIGNED_JETS) if dataset.variations else ([t] for t in dataset.tables(_TABLE_JETS))
    rs3l.write_rs3l(path, (tuple(count.through(views)) for views in blocks), classes=dataset.classes)
    yield path


def _write_root(dataset: Dataset, out: Path, count: _Count) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = _target(dataset, out / f"{name}.root")
        root.write_root(path, count.through(one.tables(_TABLE_JETS)), one.classes)
        yield path


def _write_padded(dataset: Dataset, out: Path, count: _Count) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = _target(dataset, out / f"{name}.h5")
        padded.write_padded(path, count.through(one.tables(_TABLE_JETS)), classes=one.classes)
        yield path


def _write_omnilearned(dataset: Dataset, out: Path, count: _Count) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        if not one.knows_events:
            path = _target(dataset, out / f"{name}.h5")
            omnilearned.write_omnilearned(path, count.through(one.tables(_TABLE_JETS)), classes=one.classes)
            yield path
            continue
        for split in SPLITS:
            tables = one.tables(_TABLE_JETS, split=split)
            if (first := next(tables, None)) is not None:
                path = _target(dataset, out / omnilearned.FOLDERS[split] / f"{name}.h5")
                omnilearned.write_omnilearned(path, count.through(chain([first], tables)), classes=one.classes)
                yield path


def _target(dataset: Dataset, path: Path) -> Path:
    """The path of a file that is written, which replaces none of those that are read."""
    dataset.check_target(path)
    return path


def _by_variation(dataset: Dataset) -> Iterator[tuple[str, Dataset]]:
    """The jets of each variation that has some; all of them together where files do not say whose views they hold."""
    if not all(len(file.variations) == 1 for file in dataset.files):
        yield "jets", dataset
        return
    if strange := [name for name in dataset.variations if not is_plain_name(name)]:
        msg = (
            f"{dataset.name}: variation {strange[0]!r} cannot name a file. Expected letters, digits, -, _, + and dots."
        )
        raise InputError(msg)
    for name in dataset.variations:
        one = Dataset([file for file in dataset.files if file.variations == (name,)], name)
        if len(one):
            yield name, one


FORMATS: MappingProxyType[
    str, tuple[Callable[[Iterable[str]], tuple[str, ...]], Callable[[Dataset, Path, _Count], Iterator[Path]]]
] = MappingProxyType(
    {
        "parquet": (parquet.left_out, _write_parquet),
        "root": (root.left_out, _write_root),
        "rs3l": (rs3l.left_out, _write_rs3l),
        "omnilearned": (omnilearned.left_out, _write_omnilearned),
        "padded": (padded.left_out, _write_padded),
    }
)
"""How each format is written, and what says what it cannot carry."""
