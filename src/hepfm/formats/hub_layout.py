"""A published dataset: Parquet files, a card, and an index of the files; on disk or on the Hub.

README.md  hepfm.json  data/<variation>/<split>-00000-of-000NN.parquet
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hepfm.atomic import open_file, write_whole
from hepfm.errors import InputError
from hepfm.formats.jet_file import JetFile
from hepfm.formats.parquet import ParquetFile
from hepfm.hub import fetch_file
from hepfm.schema import FORMAT_VERSION, SPLITS, is_plain_name
from hepfm.table import JetTable

INDEX = "hepfm.json"
_FORMAT = "hepfm-jets"


@dataclass(frozen=True)
class PublishedFile:
    """One Parquet file: `path` below the dataset's folder, and what is in it."""

    path: str
    variation: str
    split: str
    processes: tuple[str, ...]
    n_jets: int
    sha256: str


def data_path(variation: str, split: str, number: int, n_files: int) -> str:
    """Name of a file, relative to the dataset's folder."""
    return f"data/{variation}/{split}-{number:05}-of-{n_files:05}.parquet"


def write_index(folder: Path, files: Sequence[PublishedFile], provenance: dict[str, Any]) -> None:
    """Write the index of a published dataset: its files in order, and where they come from."""
    index = {"format": _FORMAT, "format_version": FORMAT_VERSION, **provenance, "files": [asdict(f) for f in files]}
    write_whole(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())


def open_folder(folder: Path) -> list[JetFile]:
    """Open the files of a dataset on disk; nothing but the index is read.

    Raises:
        InputError: the index is damaged, or of a newer version of the format.
    """
    return [
        ParquetFile(
            f"{folder}/{file.path}",
            file.n_jets,
            variations=(file.variation,),
            processes=file.processes,
            split=file.split,
            sha256=file.sha256,
            ordered=True,
        )
        for file in _read_index(folder / INDEX, str(folder))
    ]


def open_repository(repo: str, revision: str | None) -> list[JetFile]:
    """Open a dataset of the Hub; each file is fetched, and kept, when the first of its jets is read.

    Raises:
        InputError: there is no such dataset or revision, or it was not published by hepfm.
        StorageError: the Hub cannot be reached.
    """
    index = fetch_file(repo, INDEX, revision=revision)
    # The cache's folder is named by the commit. All files have to be of one, however the branch moves on.
    commit = index.parent.name
    return [
        HubFile(
            file.path,
            file.n_jets,
            variations=(file.variation,),
            processes=file.processes,
            split=file.split,
            sha256=file.sha256,
            repo=repo,
            commit=commit,
        )
        for file in _read_index(index, repo)
    ]


@dataclass(frozen=True, kw_only=True)
class HubFile(JetFile):
    """A Parquet file of a dataset on the Hub, at one commit."""

    repo: str
    commit: str

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets, from the copy that the Hub's client keeps."""
        local = fetch_file(self.repo, self.path, revision=self.commit)
        return ParquetFile(str(local), self.n_jets, self.columns, ordered=True).read(names, start, stop)


def _read_index(path: Path, name: str) -> list[PublishedFile]:
    try:
        with open_file(path) as file:
            index = json.load(file)
        version = index["format_version"] if index["format"] == _FORMAT else None
        files = [_published(entry) for entry in index["files"]]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{name}: {INDEX} is damaged, or not a dataset that hepfm published"
        raise InputError(msg) from error
    if version != FORMAT_VERSION:
        msg = f"{name}: has version {version} of the format; this hepfm reads {FORMAT_VERSION}. Update hepfm."
        raise InputError(msg)
    return files


def _published(entry: dict[str, Any]) -> PublishedFile:
    """An entry of an index, which may be anybody's.

    Raises:
        ValueError, KeyError, TypeError: it is not one that `write_index` wrote.
    """
    file = PublishedFile(**{**entry, "processes": tuple(entry["processes"])})
    words = (file.path, file.variation, file.sha256, *file.processes)
    typed = all(isinstance(word, str) for word in words) and isinstance(entry["processes"], list)
    counted = type(file.n_jets) is int and file.n_jets >= 0
    if not typed or not counted or file.split not in SPLITS or not _is_below(file.path):
        raise ValueError(entry)
    if not is_plain_name(file.variation) or not all(map(_is_file_name, file.processes)):
        raise ValueError(entry)
    return file


def _is_below(path: str) -> bool:
    """Whether a path is relative and stays in its folder."""
    place = PurePosixPath(path)
    return bool(place.parts) and not place.is_absolute() and ".." not in place.parts


def _is_file_name(name: str) -> bool:
    """Whether a process has the name of the file that its events came from, which may have blanks."""
    return name.isprintable() and "/" not in name and name[:1] not in ("", ".")
