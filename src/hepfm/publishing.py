"""A campaign in the Hub's layout: Parquet files by variation and split, an index, and what `datasets` asks for."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from hepfm import __version__, manifest
from hepfm.atomic import location, write_whole
from hepfm.dataset import Dataset
from hepfm.errors import CampaignError, InputError
from hepfm.formats.hdf5 import file_digest
from hepfm.formats.hub_layout import PublishedFile, data_path, write_index
from hepfm.formats.parquet import ARROW_VERSION, parquet_writer, read_metadata
from hepfm.opening import open as open_jets
from hepfm.schema import FORMAT_VERSION, SPLIT_RULE, SPLITS, split_of
from hepfm.table import JetTable

_TABLE_JETS = 16384
_FILE_JETS = 10 * _TABLE_JETS
"""Files of some 200 MB, of ten row groups."""

Report = Callable[[str, int, int], None]
"""Called with a variation's name, the number of jets written so far, and of all."""


def stage(folder: Path | str, out: Path | str, *, report: Report | None = None) -> list[PublishedFile]:
    """Convert a campaign into a folder in the Hub's layout, in constant memory.

    Files that are there already, of the same shards, stay as they are: after an interruption only what is missing is
    converted. `datasets.load_dataset(out)` and `hepfm.open(out)` read the folder.

    Args:
        folder: a campaign folder, or its URL.
        out: where the files go; made if it does not exist.
        report: told how it proceeds.

    Returns:
        The Parquet files, in the order of the campaign's variations.

    Raises:
        CampaignError: the folder is no campaign, is damaged, or has no jets.
        InputError: `out` is the campaign's own folder.
        StorageError: a file could not be written.
    """
    source, target = location(folder), Path(out)
    dataset = open_jets(str(folder))
    if str(source) == str(target):
        msg = f"{out}: is the campaign itself. Choose another folder for the files."
        raise InputError(msg)
    if not len(dataset):
        msg = f"{folder}: has no jets yet. Run the campaign first: hepfm-data resim {folder}"
        raise CampaignError(msg)
    records = {f"{source}/{record.path}": record.sha256 for record in manifest.read(source)}
    published: list[PublishedFile] = []
    n_done = 0
    for variation in dataset.variations:
        one = Dataset([file for file in dataset.files if file.variations == (variation,)], variation)
        source_digest = _digest([records[file.path] for file in one.files])
        splits = split_of(np.concatenate([t.columns["event_id"] for t in one.tables(1 << 20, ["event_id"])]))
        counts = np.bincount(splits, minlength=len(SPLITS)).tolist()
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(_SplitFiles(target, variation, split, n_jets, source_digest))
                for split, n_jets in zip(SPLITS, counts, strict=True)
            ]
            if any(not sink.is_there for sink in sinks):
                for table in one.tables(_TABLE_JETS):
                    split_numbers = split_of(table.columns["event_id"])
                    for number, sink in enumerate(sinks):
                        sink.add(table.select(split_numbers == number))
                    n_done += table.n_jets
                    if report is not None:
                        report(variation, n_done, len(dataset))
        for sink in sinks:
            published += [
                PublishedFile(name, variation, sink.split, one.processes, size, file_digest(target / name))
                for name, size in sink.files.items()
            ]
    _remove_others(target, published)
    header = manifest.read_header(source)
    write_index(
        target, published, {"campaign": header.get("digest", ""), "hepfm": __version__, "split_rule": SPLIT_RULE}
    )
    write_whole(target / "README.md", _front_matter(published).encode())
    return published


def configurations(files: Sequence[PublishedFile]) -> list[dict[str, object]]:
    """What the card's YAML says of the files: one configuration a variation, the first one the default, and `all`."""
    variations = list(dict.fromkeys(file.variation for file in files))
    found: list[dict[str, object]] = []
    for name in [*variations, "all"]:
        folders = variations if name == "all" else [name]
        present = {file.split for file in files if file.variation in folders}
        data_files = [
            {"split": split, "path": [f"data/{folder}/{split}-*.parquet" for folder in folders]}
            for split in SPLITS
            if split in present
        ]
        default = {"default": True} if name == variations[0] else {}
        found.append({"config_name": name, **default, "data_files": data_files})
    return found


def _front_matter(files: Sequence[PublishedFile]) -> str:
    # JSON is YAML, and needs no library to be right.
    return f"---\nconfigs: {json.dumps(configurations(files), indent=1)}\n---\n"


def _digest(shards: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([str(FORMAT_VERSION), SPLIT_RULE, *shards]).encode()).hexdigest()


class _SplitFiles:
    """The files of one split of a variation; jets are added in order, and each file is closed when it is full."""

    def __init__(self, folder: Path, variation: str, split: str, n_jets: int, source: str) -> None:
        self.folder, self.variation, self.split, self.source = folder, variation, split, source
        whole, rest = divmod(n_jets, _FILE_JETS)
        sizes = [_FILE_JETS] * whole + [rest] * bool(rest)
        self.files = {data_path(variation, split, i, len(sizes)): size for i, size in enumerate(sizes)}
        self.missing = [name for name, size in self.files.items() if not self._is_written(name, size)]
        self._waiting = list(self.files)
        self._n_added = 0
        self._stack = ExitStack()
        self._add: Callable[[JetTable], None] | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is nothing to write."""
        return not self.missing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401 (an exception's type, value and traceback)
        # A file that is not full when an error comes must not get its name.
        self._stack.__exit__(*error)

    def add(self, table: JetTable) -> None:
        while table.n_jets:
            name = self._waiting[0]
            if self._n_added == 0 and name in self.missing:
                provenance = self._provenance(name, self.files[name])
                self._add = self._stack.enter_context(parquet_writer(self.folder / name, provenance))
            n_now = min(table.n_jets, self.files[name] - self._n_added)
            if self._add is not None:
                self._add(table.slice(0, n_now))
            self._n_added += n_now
            table = table.slice(n_now, table.n_jets)
            if self._n_added == self.files[name]:
                self._stack.close()
                self._add, self._n_added = None, 0
                self._waiting.pop(0)

    def _provenance(self, name: str, size: int) -> dict[str, str]:
        # The name says of how many files this is which: with the shards' digest that tells the jets in it.
        return {
            "name": name,
            "source": self.source,
            "variation": self.variation,
            "split": self.split,
            "jets": str(size),
            "hepfm": __version__,
            "arrow": ARROW_VERSION,
        }

    def _is_written(self, name: str, size: int) -> bool:
        with suppress(InputError, OSError):
            return read_metadata(self.folder / name) == self._provenance(name, size)
        return False


def _remove_others(folder: Path, files: Sequence[PublishedFile]) -> None:
    """Delete Parquet files of an earlier state of the campaign, which `datasets` would read too."""
    known = {folder / file.path for file in files}
    for path in folder.glob("data/*/*.parquet"):
        if path not in known:
            path.unlink()
