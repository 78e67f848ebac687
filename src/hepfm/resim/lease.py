"""A lock in an object store: a file that its owner renews for as long as it lives.

No clocks are compared: whoever wants the lock watches whether it still changes. A process that wakes up after others
thought it dead does no harm: it writes the same bytes under the same names, and its records into its own segments.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hepfm.atomic import create, open_file, remove, write_whole
from hepfm.errors import StorageError

# Seconds between two renewals. A lock that stays the same three times as long has lost its owner.
RENEWAL = 5.0


@contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold the lock `path` of an object store.

    A lock that a killed process left is taken over, after some 15 s of watching that it is dead.

    Raises:
        BlockingIOError: another process holds it.
        StorageError: the store cannot be reached.
    """
    owner = uuid.uuid4().hex
    _take(path, owner)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, owner, ended), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        if _owner(_read(path)) == owner:
            remove(path)


def _take(path: Path, owner: str) -> None:
    while True:
        with suppress(FileExistsError):
            create(path, _content(owner, 0))
            return
        found = _read(path)
        deadline = time.monotonic() + 3 * RENEWAL
        while found is not None and time.monotonic() < deadline:
            time.sleep(RENEWAL / 5)
            now = _read(path)
            if now is not None and now != found:
                raise BlockingIOError
            found = now
        if found is not None:
            break
        # Removed by its owner, which has finished: try again.
    write_whole(path, _content(owner, 0))
    # Others may take it over at the same moment; the last one to write has it.
    time.sleep(RENEWAL / 5)
    if _owner(_read(path)) != owner:
        raise BlockingIOError


def _renew(path: Path, owner: str, ended: threading.Event) -> None:
    count = 0
    while not ended.wait(RENEWAL):
        # The store may be out of reach for a while.
        with suppress(StorageError):
            if _owner(_read(path)) != owner:
                return
            count += 1
            write_whole(path, _content(owner, count))


def _content(owner: str, count: int) -> bytes:
    return json.dumps({"owner": owner, "host": platform.node(), "pid": os.getpid(), "renewals": count}).encode()


def _read(path: Path) -> bytes | None:
    try:
        with open_file(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def _owner(content: bytes | None) -> object:
    try:
        return json.loads(content or b"{}")["owner"]
    except (ValueError, TypeError, KeyError):
        return None
