"""A campaign in the Hub's layout, on disk and on the Hub: Parquet files by variation and split, an index, a card."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from hepfm import __version__, manifest
from hepfm.atomic import file_digest, location, names, remove, write_whole
from hepfm.cards.dataset_card import dataset_card
from hepfm.cards.pictures import FOLDER as PICTURES
from hepfm.cards.pictures import write_pictures
from hepfm.dataset import Dataset
from hepfm.errors import CampaignError, InputError
from hepfm.formats.hub_layout import INDEX, PublishedFile, data_path, open_folder, write_index
from hepfm.formats.parquet import ARROW_VERSION, parquet_writer, read_metadata
from hepfm.hub import Published, Upload, compare, publish_folder
from hepfm.opening import open as open_jets
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import is_campaign, read_campaign
from hepfm.schema import FORMAT_VERSION, SPLIT_RULE, SPLITS, split_of
from hepfm.table import JetTable

CARD = "README.md"
_TABLE_JETS = 16384
_FILE_JETS = 10 * _TABLE_JETS
"""Files of some 200 MB, of ten row groups."""

Report = Callable[[str, int, int], None]
"""Called with a variation's name, the number of jets written so far, and of all."""


@dataclass(frozen=True)
class Publication:
    """How a dataset is published.

    Attributes:
        repo: its name, OWNER/NAME.
        tag: of the version; by default one made of the content's digest.
        private: only the owner may see it.
        license: by the Hub's name.
    """

    repo: str
    tag: str | None = None
    private: bool = False
    license: str = "cc-by-4.0"


def publish(folder: Path | str, out: Path | str, how: Publication, *, report: Report | None = None) -> Published:
    """Check a campaign, convert it into a folder in the Hub's layout, and make a dataset on the Hub equal to it.

    One commit holds everything; if nothing has changed there is none. What an interruption left is finished by the
    same call.

    Args:
        folder: a campaign folder, or its URL.
        out: where the converted files go, and stay.
        how: name, version, licence.
        report: told how the conversion proceeds.

    Raises:
        CampaignError: the campaign is damaged, which `hepfm-data check` explains.
        InputError, StorageError: as `stage` and `hepfm.hub.publish_folder`.
    """
    _stage_checked(folder, out, how, report)
    # Whatever differs, be it the licence in the card, is another version and not a refused upload.
    tag = how.tag or f"data-{_digest([file_digest(Path(out) / name) for name in (INDEX, CARD)])[:12]}"
    message = f"Jets of {Path(folder).name}, {tag}"
    return publish_folder(Path(out), how.repo, sign=INDEX, tag=tag, private=how.private, message=message)


def preview(folder: Path | str, out: Path | str, how: Publication, *, report: Report | None = None) -> Upload:
    """Check and convert a campaign as `publish` does, and say what that would send and delete.

    Raises:
        CampaignError, InputError, StorageError: as `publish`.
    """
    _stage_checked(folder, out, how, report)
    return compare(Path(out), how.repo, sign=INDEX)


def _stage_checked(folder: Path | str, out: Path | str, how: Publication, report: Report | None) -> None:
    findings = check_campaign(folder)
    if findings.problems:
        n_more = len(findings.problems) - 1
        more = f" (and {n_more} more)" if n_more else ""
        msg = f"{folder}: not sound: {findings.problems[0]}{more}. Run resim, or resim --repair, then publish again."
        raise CampaignError(msg)
    stage(folder, out, report=report, repo=how.repo, license=how.license)


def stage(
    folder: Path | str,
    out: Path | str,
    *,
    report: Report | None = None,
    repo: str | None = None,
    license: str = Publication.license,
) -> list[PublishedFile]:
    """Convert a campaign into a folder in the Hub's layout, in constant memory: jets, an index, a card with pictures.

    Files that are there already, of the same shards, stay as they are: after an interruption only what is missing is
    converted. `datasets.load_dataset(out)` and `hepfm.open(out)` read the folder.

    Args:
        folder: a campaign folder, or its URL.
        out: where the files go; made if it does not exist.
        report: told how it proceeds.
        repo: what the card's examples load; by default `out`.
        license: for the card, by the Hub's name.

    Returns:
        The Parquet files, in the order of the campaign's variations.

    Raises:
        CampaignError: the folder is no campaign, is damaged, or has no jets.
        InputError: `out` is a campaign's folder, or holds other files than a campaign that was converted.
        StorageError: a file could not be written.
    """
    source, target = location(folder), Path(out)
    read_campaign(source)  # before anything is written
    dataset = open_jets(str(folder))
    _check_target(target)
    if not len(dataset):
        msg = f"{folder}: has no jets yet. Run the campaign first: hepfm-data resim {folder}"
        raise CampaignError(msg)
    # A variation may have no jet at all: in the beginning of a campaign, or above a high threshold.
    with_jets = {name for file in dataset.files if file.n_jets for name in file.variations}
    dataset = Dataset([file for file in dataset.files if with_jets.issuperset(file.variations)], dataset.name)
    published: list[PublishedFile] = []
    recorded = _recorded(target)
    n_done = 0
    for variation in dataset.variations:
        one = Dataset([file for file in dataset.files if file.variations == (variation,)], variation)
        source_digest = _digest([file.sha256 for file in one.files])
        splits = split_of(np.concatenate([t.columns["event_id"] for t in one.tables(1 << 20, ["event_id"])]))
        counts = np.bincount(splits, minlength=len(SPLITS)).tolist()
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(_SplitFiles(target, variation, split, n_jets, source_digest, recorded))
                for split, n_jets in zip(SPLITS, counts, strict=True)
            ]
            if any(not sink.is_there for sink in sinks):
                _forget_index(target)
                for table in one.tables(_TABLE_JETS):
                    split_numbers = split_of(table.columns["event_id"])
                    for number, sink in enumerate(sinks):
                        sink.add(table.select(split_numbers == number))
                    n_done += table.n_jets
                    if report is not None:
                        report(variation, n_done, len(dataset))
            else:
                n_done += len(one)
                if report is not None:
                    report(variation, n_done, len(dataset))
        for sink in sinks:
            published += [
                PublishedFile(name, variation, sink.split, one.processes, size, file_digest(target / name))
                for name, size in sink.files.items()
            ]
    _remove_others(target, published)
    header = manifest.read_header(source)
    pictures = write_pictures(target, source, dataset, _digest([file.sha256 for file in published]))
    provenance = {
        "campaign": header.get("digest", ""),
        "hepfm": __version__,
        "split_rule": SPLIT_RULE,
        "figures": {picture.path: file_digest(target / picture.path) for picture in pictures},
    }
    write_index(target, published, provenance)
    card = dataset_card(source, dataset, published, repo=repo or str(out), license=license, pictures=pictures)
    write_whole(target / CARD, card.encode())
    return published


def _digest(shards: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([str(FORMAT_VERSION), SPLIT_RULE, *shards]).encode()).hexdigest()


class _SplitFiles:
    """The files of one split of a variation; jets are added in order, and each file is closed when it is full."""

    def __init__(
        self, folder: Path, variation: str, split: str, n_jets: int, source: str, recorded: Mapping[str, str]
    ) -> None:
        self.folder, self.variation, self.split, self.source = folder, variation, split, source
        self._recorded = recorded
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
        path = self.folder / name
        with suppress(InputError, OSError):
            is_ours = read_metadata(path) == self._provenance(name, size)
            return is_ours and (name not in self._recorded or file_digest(path) == self._recorded[name])
        return False


def _check_target(folder: Path) -> None:
    """Check that a folder is empty, or of a campaign that was converted, the last time perhaps in part.

    Raises:
        InputError: it holds anything else, which converted files would mix with, or replace.
    """
    if is_campaign(folder):
        msg = f"{folder}: is a campaign itself. Choose another folder for the files."
        raise InputError(msg)
    if (folder / INDEX).exists():
        return
    ours = {"data", PICTURES}
    strangers = [name for name in names(folder) if name not in ours and not name.startswith(".")]
    strangers += [str(path) for path in folder.glob("data/*/*.parquet") if not _is_ours(path)]
    if strangers:
        msg = f"{folder}: holds {strangers[0]}, which is not of a converted campaign. Choose an empty or a new folder."
        raise InputError(msg)


def _recorded(folder: Path) -> dict[str, str]:
    """Digests of the files as they were when the index was written: one that has another since then is damaged."""
    with suppress(InputError, OSError):
        return {file.path.removeprefix(f"{folder}/"): file.sha256 for file in open_folder(folder)}
    return {}


def _is_ours(path: Path) -> bool:
    """Whether a Parquet file is one that was written by `stage`."""
    with suppress(InputError, OSError):
        return {"name", "source", "split"} <= read_metadata(path).keys()
    return False


def _forget_index(folder: Path) -> None:
    """Delete what says which jets the files hold, before one of them changes: an interruption must not leave it."""
    # The card first, which without an index would be somebody else's.
    for name in (CARD, INDEX):
        remove(folder / name)


def _remove_others(folder: Path, files: Sequence[PublishedFile]) -> None:
    """Delete Parquet files of an earlier state of the campaign, which `datasets` would read too."""
    known = {folder / file.path for file in files}
    for path in folder.glob("data/*/*.parquet"):
        if path not in known and _is_ours(path):
            path.unlink()
