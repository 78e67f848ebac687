"""The list of a campaign's finished shards: one JSON line a shard, written as they finish."""

import gc
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hepfm.atomic import (
    create,
    exists,
    is_local,
    location,
    names,
    open_file,
    open_files,
    sync,
    write_whole,
)
from hepfm.errors import CampaignError

SHARDS = "shards.jsonl"
HEADER = "manifest.json"
_SEGMENTS = "shards-[0-9][0-9][0-9][0-9][0-9][0-9].jsonl"
_RECORDS = "shards*.jsonl"
# A segment of this many is 0.1 MB, written again with every record; 100,000 records are 500 files to read.
_SEGMENT_RECORDS = 200


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One finished shard: a variation of one chunk of frozen events.

    `path` is relative to the campaign folder. `n_missing` counts views that were not made: `missing` has the event
    ids of those that the generator could not make, `crashed` of events that killed it and were skipped. `n_retried`
    counts its further attempts, `n_without_jet` the views without a jet that passed. `cross_sections` are independent
    estimates of the process' cross-section by name: value and error in pb, and how many of the shard's events it covers
    (not in records of older versions). Shards of the same frozen events share them. `seconds` is the time spent in
    each stage.
    """

    path: str
    sha256: str
    variation: str
    process: str
    chunk: int
    n_events: int
    n_jets: int
    n_missing: int
    n_retried: int
    n_without_jet: int
    n_bytes: int
    cross_sections: dict[str, list[float]] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    crashed: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


_FIELDS = frozenset(f.name for f in fields(ShardRecord))


@contextmanager
def recorder(folder: Path | str) -> Iterator[Callable[[ShardRecord], None]]:
    """Give the function that records a finished shard; when it returns, the record survives a crash.

    On a file system a record is a line appended by a single call, so that several processes may record at the same
    time. An object store cannot append: there the process that has the campaign's lock collects its records in
    numbered segments, each written again as a whole with every record.

    Raises:
        CampaignError: the line could not be written, for instance because the disk is full.
        StorageError: the store cannot be reached.
    """
    place = location(folder)
    with _appending(place / SHARDS) if is_local(place) else nullcontext(_Segments(place).add) as add:
        yield lambda record: add(json.dumps(asdict(record), separators=(",", ":")).encode() + b"\n")


@contextmanager
def _appending(path: Path) -> Iterator[Callable[[bytes], None]]:
    def add(line: bytes) -> None:
        # The empty line tells the reader that the line before it was cut off by a crash.
        content = b"\n\n" * _ends_torn(descriptor) + line
        try:
            written = os.write(descriptor, content)
            os.fsync(descriptor)
        except OSError as error:
            msg = f"{path}: cannot record a shard: {error.strerror}"
            raise CampaignError(msg) from error
        if written < len(content):
            msg = f"{path}: only {written} of {len(content)} bytes could be written; is the disk full?"
            raise CampaignError(msg)

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        msg = f"{path}: cannot record shards: {error.strerror}"
        raise CampaignError(msg) from error
    try:
        sync(path.parent)
        yield add
    finally:
        os.close(descriptor)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


class _Segments:
    """Records in an object store, some of them a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[bytes] = []
        known = [int(name[7:13]) for name in names(folder, _SEGMENTS)]
        self.number = max(known, default=0)

    def add(self, line: bytes) -> None:
        if self.lines and len(self.lines) < _SEGMENT_RECORDS:
            self.lines.append(line)
            write_whole(self._path, b"".join(self.lines))
            return
        self.lines = [line]
        while True:
            self.number += 1
            # Never over another run's segment, even if that one took the lock while this process was asleep.
            with suppress(FileExistsError):
                create(self._path, line)
                return

    @property
    def _path(self) -> Path:
        return self.folder / f"shards-{self.number:06d}.jsonl"


def read(folder: Path | str) -> list[ShardRecord]:
    """Read the records of all finished shards, in the order in which their paths first appear.

    Where a path appears twice the later line holds. A line that a crash cut off counts as never written.

    Raises:
        CampaignError: the folder holds no campaign, or a line is damaged.
        StorageError: the store cannot be reached.
    """
    place = location(folder)
    with _without_garbage_collection():
        records = {record.path: record for _, lines in _record_files(place) for _, record in lines}
    if not records and not names(place, _RECORDS) and not exists(place / HEADER):
        msg = f"not a campaign folder: {folder} (it has neither {HEADER} nor {SHARDS}). Give the folder of a campaign."
        raise CampaignError(msg)
    return list(records.values())


def forget(folder: Path | str, paths: Collection[str]) -> None:
    """Remove the records of some shards, so that the next run makes these again.

    To be called with the campaign's lock. Interrupted, it has forgotten some of them; the others stay recorded.

    Args:
        folder: the campaign folder.
        paths: of the shards, relative to the folder.

    Raises:
        CampaignError: a line is damaged.
        StorageError: the records cannot be written.
    """
    place, unwanted = location(folder), frozenset(paths)
    for name, lines in _record_files(place):
        kept, n_lines = [], 0
        for line, record in lines:
            n_lines += 1
            if record.path not in unwanted:
                kept.append(line)
        if len(kept) < n_lines:
            write_whole(place / name, b"".join(kept))


def read_header(folder: Path | str) -> dict[str, object]:
    """Read `manifest.json`: the campaign's settings, versions, variations and processes; empty if not there.

    Raises:
        CampaignError: the file is not a JSON object.
    """
    path = location(folder) / HEADER
    try:
        with open_file(path) as file:
            header = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise CampaignError(msg) from error
    if not isinstance(header, dict):
        msg = f"{path}: expected a JSON object, got {type(header).__name__}"
        raise CampaignError(msg)
    return header


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Make millions of objects of which none is garbage, without looking for it again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _record_files(folder: Path) -> Iterator[tuple[str, Iterator[tuple[bytes, ShardRecord]]]]:
    """Names of the files of records, each with its lines. Segments come first: a copied campaign goes on locally."""
    try:
        for name, file in open_files(folder, _RECORDS):
            yield name, _parsed(file, folder / name)
    except OSError as error:
        msg = f"{folder}: {error.strerror}"
        raise CampaignError(msg) from error


def _parsed(lines: Iterable[bytes], path: Path) -> Iterator[tuple[bytes, ShardRecord]]:
    """The lines that hold a record, and what they hold."""
    damaged = 0
    for number, line in enumerate(lines, 1):
        is_empty = line == b"\n"
        if damaged and not is_empty:
            break
        damaged = 0
        if is_empty:
            continue
        try:
            # Decoded here: to find out the encoding of bytes takes json a fifth of its time.
            record = _record(json.loads(line.decode()))
        except (ValueError, TypeError, AttributeError):
            if line.endswith(b"\n"):
                damaged = number
            continue
        yield line, record
    if damaged:
        msg = f"{path}, line {damaged}: damaged, not the record of a shard"
        raise CampaignError(msg)


def _record(entry: dict[str, Any]) -> ShardRecord:
    """A record from its JSON object, without fields that a later version added."""
    try:
        return ShardRecord(**entry)
    except TypeError:
        return ShardRecord(**{name: value for name, value in entry.items() if name in _FIELDS})
