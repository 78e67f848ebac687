"""Jets in the formats of other tools: a file a variation, written in constant memory."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.formats import omnilearned, padded, root
from hepfm.opening import open as open_jets
from hepfm.schema import SPLITS, unknown_name

_TABLE_JETS = 8192


@dataclass(frozen=True)
class Exported:
    """What was written, and in sentences what the format could not carry."""

    paths: tuple[Path, ...]
    n_jets: int
    left_out: tuple[str, ...]


def export(source: str | os.PathLike[str], out: Path, to: str) -> Exported:
    """Convert jets.

    Args:
        source: whatever `hepfm.open` opens.
        out: folder of the files; made if it does not exist.
        to: one of `FORMATS`: "root" (JetClass), "omnilearned" (folders train, val and test) or "padded" HDF5.

    Raises:
        InputError: no such format or source, or jets without what the format needs.
        StorageError: a file could not be written.
    """
    if to not in FORMATS:
        raise InputError(unknown_name("format", to, ["parquet", *FORMATS]))
    dataset = open_jets(source)
    left_out, write = FORMATS[to]
    paths = tuple(write(dataset, out))
    return Exported(paths, len(dataset), (*dataset.notes, *left_out(dataset.columns)))


def _write_root(dataset: Dataset, out: Path) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = out / f"{name}.root"
        root.write_root(path, one.tables(_TABLE_JETS), one.classes)
        yield path


def _write_padded(dataset: Dataset, out: Path) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        path = out / f"{name}.h5"
        padded.write_padded(path, one.tables(_TABLE_JETS), classes=one.classes)
        yield path


def _write_omnilearned(dataset: Dataset, out: Path) -> Iterator[Path]:
    for name, one in _by_variation(dataset):
        for split in SPLITS:
            tables = one.tables(_TABLE_JETS, split=split)
            if (first := next(tables, None)) is not None:
                path = out / omnilearned.FOLDERS[split] / f"{name}.h5"
                omnilearned.write_omnilearned(path, chain([first], tables), classes=one.classes)
                yield path


def _by_variation(dataset: Dataset) -> Iterator[tuple[str, Dataset]]:
    """The files of each variation; all of them together where they do not say whose views they hold."""
    if not all(len(file.variations) == 1 for file in dataset.files):
        yield "jets", dataset
        return
    for name in dataset.variations:
        yield name, Dataset([file for file in dataset.files if file.variations == (name,)], name)


FORMATS: MappingProxyType[
    str, tuple[Callable[[Iterable[str]], tuple[str, ...]], Callable[[Dataset, Path], Iterator[Path]]]
] = MappingProxyType(
    {
        "root": (root.left_out, _write_root),
        "omnilearned": (omnilearned.left_out, _write_omnilearned),
        "padded": (padded.left_out, _write_padded),
    }
)
"""How each format is written, and what says what it cannot carry."""
