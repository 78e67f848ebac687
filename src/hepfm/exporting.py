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
from hepfm.schema import SPLITS, unknown_name

_TABLE_JETS = 8192
# Of jets with all their views side by side.
_ALIGNED_JETS = 1024


@dataclass(frozen=True)
class Exported:
    """What was written, and in sentences what the format could not carry."""

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
    paths = tuple(write(dataset, out))
    notes = [*dataset.notes, *left_out(dataset.columns)]
    if to == "omnilearned" and not dataset.knows_events:
        notes.append("not divided into train, val and test, for the jets have no event_id: choose the file's folder")
    return Exported(paths, len(dataset), tuple(notes))


def _write_parquet(dataset: Dataset, out: Path) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = _target(dataset, out / f"{name}.parquet")
        parquet.write_parquet(path, one.tables(_TABLE_JETS), {"source": one.name, "hepfm": __version__}, one.classes)
        yield path


def _write_rs3l(dataset: Dataset, out: Path) -> Iterator[Path]:
    path = _target(dataset, out / "jets.h5")
    blocks = dataset.aligned_tables(_ALIGNED_JETS) if dataset.variations else ([t] for t in dataset.tables(_TABLE_JETS))
    rs3l.write_rs3l(path, blocks, classes=dataset.classes)
    yield path


def _write_root(dataset: Dataset, out: Path) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = _target(dataset, out / f"{name}.root")
        root.write_root(path, one.tables(_TABLE_JETS), one.classes)
        yield path


def _write_padded(dataset: Dataset, out: Path) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = _target(dataset, out / f"{name}.h5")
        padded.write_padded(path, one.tables(_TABLE_JETS), classes=one.classes)
        yield path


def _write_omnilearned(dataset: Dataset, out: Path) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        if not one.knows_events:
            path = _target(dataset, out / f"{name}.h5")
            omnilearned.write_omnilearned(path, one.tables(_TABLE_JETS), classes=one.classes)
            yield path
            continue
        for split in SPLITS:
            tables = one.tables(_TABLE_JETS, split=split)
            if (first := next(tables, None)) is not None:
                path = _target(dataset, out / omnilearned.FOLDERS[split] / f"{name}.h5")
                omnilearned.write_omnilearned(path, chain([first], tables), classes=one.classes)
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
    for name in dataset.variations:
        one = Dataset([file for file in dataset.files if file.variations == (name,)], name)
        if len(one):
            yield name, one


FORMATS: MappingProxyType[
    str, tuple[Callable[[Iterable[str]], tuple[str, ...]], Callable[[Dataset, Path], Iterator[Path]]]
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
