"""A campaign in the Hub's layout: Parquet files by variation and split, an index, and what `datasets` asks for."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from hepfm import __version__, manifest
from hepfm.atomic import location, write_whole
from hepfm.dataset import Dataset
from hepfm.errors import CampaignError, InputError
from hepfm.formats.hdf5 import file_digest
from hepfm.formats.hub_layout import PublishedFile, data_path, write_index
from hepfm.formats.parquet import ARROW_VERSION, read_metadata, write_parquet
from hepfm.opening import open as open_jets
from hepfm.schema import FORMAT_VERSION, SPLIT_RULE, SPLITS, split_of
from hepfm.table import JetTable

# Ten tables of a row group's size: files of some 200 MB.
_TABLE_JETS = 16384
_FILE_TABLES = 10

Report = Callable[[str, int, int], None]
"""Called with a file's name, the number of jets written so far, and of all."""


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
        files = [file for file in dataset.files if file.variations == (variation,)]
        one = Dataset(files, variation)
        digest = _digest([records[file.path] for file in files])
        splits = split_of(np.concatenate([t.columns["event_id"] for t in one.tables(1 << 20, ["event_id"])]))
        for number, split in enumerate(SPLITS):
            n_jets = int(np.count_nonzero(splits == number))
            sizes = _sizes(n_jets)
            tables = one.tables(_TABLE_JETS, split=split)
            for position, size in enumerate(sizes):
                name = data_path(variation, split, position, len(sizes))
                provenance = {
                    "source": digest,
                    "variation": variation,
                    "split": split,
                    "first_jet": str(sum(sizes[:position])),
                    "jets": str(size),
                    "hepfm": __version__,
                    "arrow": ARROW_VERSION,
                }
                if _is_there(target / name, provenance):
                    _skip(tables)
                else:
                    write_parquet(target / name, islice(tables, _FILE_TABLES), provenance)
                n_done += size
                if report is not None:
                    report(name, n_done, len(dataset))
                digest_of_file = file_digest(target / name)
                published.append(PublishedFile(name, variation, split, one.processes, size, digest_of_file))
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


def _sizes(n_jets: int) -> list[int]:
    """Numbers of jets of the files of a split."""
    whole, rest = divmod(n_jets, _TABLE_JETS * _FILE_TABLES)
    return [_TABLE_JETS * _FILE_TABLES] * whole + [rest] * bool(rest)


def _is_there(path: Path, provenance: dict[str, str]) -> bool:
    with suppress(InputError, OSError):
        return read_metadata(path) == provenance
    return False


def _skip(tables: Iterator[JetTable]) -> None:
    for _ in islice(tables, _FILE_TABLES):
        pass


def _remove_others(folder: Path, files: Sequence[PublishedFile]) -> None:
    """Delete Parquet files of an earlier state of the campaign, which `datasets` would read too."""
    known = {folder / file.path for file in files}
    for path in folder.glob("data/*/*.parquet"):
        if path not in known:
            path.unlink()
