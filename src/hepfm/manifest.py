"""The list of a campaign's finished shards: `shards.jsonl`, one JSON line a shard, written as they finish."""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from hepfm.atomic import sync_folder
from hepfm.errors import CampaignError

SHARDS = "shards.jsonl"
HEADER = "manifest.json"


@dataclass(frozen=True)
class ShardRecord:
    """One finished shard: a variation of one chunk of frozen events.

    `path` is relative to the campaign folder. `n_missing` counts views that the generator could not make and
    `missing` has their event ids; `n_retried` counts its further attempts, `n_without_jet` the views without
    a jet that passed. `cross_sections` are independent estimates of the process' cross-section with their
    errors, in pb, by name: shards of the same frozen events share them. `seconds` is the time spent in each
    stage.
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
    seconds: dict[str, float] = field(default_factory=dict)


_FIELDS = frozenset(f.name for f in fields(ShardRecord))


def append(folder: Path | str, record: ShardRecord) -> None:
    """Record a finished shard. When this returns, the record is on the disk.

    The line is written by a single call to a file opened for appending, so that several processes may append
    at the same time.

    Raises:
        CampaignError: the line could not be written, for instance because the disk is full.
    """
    path = Path(folder) / SHARDS
    line = json.dumps(asdict(record), separators=(",", ":")).encode() + b"\n"
    try:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if _ends_torn(descriptor):
                # The empty line tells the reader that the line before it was cut off by a crash.
                line = b"\n\n" + line
            written = os.write(descriptor, line)
            if written < len(line):
                msg = f"{path}: only {written} of {len(line)} bytes could be written; is the disk full?"
                raise CampaignError(msg)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        msg = f"{path}: cannot record shard {record.path}: {error.strerror}"
        raise CampaignError(msg) from error


def read(folder: Path | str) -> list[ShardRecord]:
    """Read the records of all finished shards, in the order in which their paths first appear.

    Where a path appears twice the later line holds. A line that a crash cut off counts as never written.

    Raises:
        CampaignError: the folder holds no campaign, or a line is damaged.
    """
    folder = Path(folder)
    path = folder / SHARDS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if not (folder / HEADER).is_file():
            msg = f"not a campaign folder: {folder} (it has neither {HEADER} nor {SHARDS})"
            raise CampaignError(msg) from None
        return []
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise CampaignError(msg) from error
    lines = content.split(b"\n")
    records: dict[str, ShardRecord] = {}
    for number, line in enumerate(lines):
        if not line:
            continue
        # A complete last line ends with a newline, which leaves an empty string after it.
        is_last = number == len(lines) - 1
        try:
            entry = json.loads(line)
            record = ShardRecord(**{key: value for key, value in entry.items() if key in _FIELDS})
        except (ValueError, TypeError, AttributeError):
            if is_last or (not lines[number + 1] and number + 2 < len(lines)):
                continue
            msg = f"{path}, line {number + 1}: damaged, not the record of a shard"
            raise CampaignError(msg) from None
        records[record.path] = record
    return list(records.values())


def read_header(folder: Path | str) -> dict[str, object]:
    """Read `manifest.json`: the campaign's settings, versions, variations and processes; empty if not there.

    Raises:
        CampaignError: the file is not a JSON object.
    """
    path = Path(folder) / HEADER
    try:
        header = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise CampaignError(msg) from error
    if not isinstance(header, dict):
        msg = f"{path}: expected a JSON object, got {type(header).__name__}"
        raise CampaignError(msg)
    return header


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
