"""Files that are either whole or absent, on a file system or in an object store such as s3://bucket.

A path of an object store is a `upath.UPath`, which has the methods of `pathlib.Path` and is typed as one here.
What a store raises becomes a StorageError, but for files that are missing or there already: those are the
FileNotFoundError and FileExistsError of the file system.
"""

import errno
import hashlib
import io
import os
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from hepfm.errors import InputError, StorageError

# Requests to a store at a time.
_CONCURRENT = 32

# A file open for reading its bytes.
Opened = io.BufferedReader | io.BytesIO

# What file systems without hard links say.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_PACKAGES = {"s3": '"hepfm[s3]"', "gs": "universal-pathlib gcsfs", "root": "universal-pathlib fsspec-xrootd"}


def location(folder: str | os.PathLike[str]) -> Path:
    """The path that a name or URL stands for.

    Args:
        folder: a path, or a URL that fsspec understands, such as `s3://bucket/resim-jets`.

    Raises:
        InputError: a URL of an unknown kind, or of one whose package is not installed.
    """
    match = _URL.match(folder) if isinstance(folder, str) else None
    if match is None:
        return Path(folder) if isinstance(folder, str | os.PathLike) else folder  # a UPath stays one
    url, scheme = str(folder), match[1].lower()
    if scheme == "file":
        return Path(unquote(urlsplit(url).path))
    try:
        from upath import UPath

        # Another process may have written since the last look: listings must not be remembered.
        path = UPath(url, use_listings_cache=False)
        _ = path.fs
    except ImportError as error:
        package = _PACKAGES.get(scheme, "universal-pathlib, and what fsspec needs for it")
        msg = f"{url}: {scheme}:// needs a package that is not installed: pip install {package}"
        raise InputError(msg) from error
    except (ValueError, TypeError) as error:
        msg = f"{url}: fsspec knows no {scheme}://. Expected a local folder, or a URL such as s3://bucket/folder."
        raise InputError(msg) from error
    return cast(Path, path)


def is_local(path: Path) -> bool:
    """Whether a path is one of the file system."""
    return isinstance(path, Path)


def exists(path: Path) -> bool:
    """Whether there is a file or folder of that name."""
    with _errors_of(path):
        return path.exists()


def is_folder(path: Path) -> bool:
    """Whether a path is that of a folder; in a store, whether names begin with it."""
    with _errors_of(path):
        return path.is_dir()


def open_file(path: Path) -> Opened:
    """Open a file to read its bytes; one in a store is fetched whole, at once."""
    if is_local(path):
        return path.open("rb")
    with _errors_of(path):
        return io.BytesIO(_store(path).cat_file(_key(path)))


def file_digest(path: Path | str) -> str:
    """sha256 of a file's bytes, in hexadecimal; the file may be given by its URL."""
    with open_file(location(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def names(folder: Path, pattern: str = "*") -> list[str]:
    """Sorted names of the files and folders in a folder; none if it does not exist."""
    if is_local(folder):
        return sorted(path.name for path in folder.glob(pattern))
    with _errors_of(folder):
        try:
            # The first entry may be the folder itself, where somebody made it with a tool that marks folders.
            listed = {entry.rstrip("/").removeprefix(_key(folder)) for entry in _store(folder).ls(_key(folder), False)}
        except FileNotFoundError:
            return []
    return sorted(name for name in (entry.strip("/") for entry in listed) if name and fnmatch(name, pattern))


def open_files(folder: Path, pattern: str) -> Iterator[tuple[str, Opened]]:
    """Open the files whose name matches, in the order of their names; those of a store are fetched concurrently."""
    found = names(folder, pattern)
    if is_local(folder):
        for name in found:
            with open_file(folder / name) as file:
                yield name, file
    else:
        with ThreadPoolExecutor(_CONCURRENT) as threads:
            yield from zip(found, threads.map(lambda name: open_file(folder / name), found), strict=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it, so that there is never a part of it under its name.

    When this returns, the file survives a power cut. On any error `path` stays as it was.

    Raises:
        StorageError: the disk is full, the folder read-only, the store out of reach or without permission.
    """
    if not is_local(path):
        _put(path, content, "overwrite")
        return
    with growing_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def growing_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, for a library to write a large file to; at the end it becomes `path`.

    Only for local paths. On any error `path` stays as it was, and the temporary file is deleted.

    Raises:
        InputError: `path` is in an object store.
        StorageError: the disk is full, the folder read-only.
    """
    if not is_local(path):
        msg = f"{path}: files of this kind are written to local folders only. Write to one, then copy."
        raise InputError(msg)
    with _temporary_of(path) as temporary:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def _temporary_of(path: Path) -> Iterator[Path]:
    """A name beside `path`, whose folder is made; the file of that name is deleted at the end, if it is there still."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}. Free space or choose another folder, then run again."
        raise StorageError(msg) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def create(path: Path, content: bytes) -> None:
    """Write a file that must not exist, as `write_whole` does; of several processes that try, one succeeds.

    Raises:
        FileExistsError: it exists.
        StorageError: the disk is full, the folder read-only, the store out of reach or without permission.
    """
    if not is_local(path):
        _put(path, content, "create")
        return
    with _temporary_of(path) as temporary:
        temporary.write_bytes(content)
        sync(temporary)
        is_new = _link(temporary, path)
        sync(path.parent)
    if not is_new:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _link(temporary: Path, path: Path) -> bool:
    """Give a file a second name; whether there was none of that name."""
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Then the file may be cut off by a power cut.
            with path.open("xb") as file:
                file.write(temporary.read_bytes())
    except FileExistsError:
        return False
    return True


def remove(path: Path) -> None:
    """Delete a file, if it is there."""
    with _errors_of(path):
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make sure that what a file holds, or which files a folder has, is still so after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(path: Path, content: bytes, mode: str) -> None:
    try:
        with _errors_of(path):
            _store(path).pipe_file(_key(path), content, mode=mode)
    except FileNotFoundError as error:
        msg = f"cannot write {path}: there is no such bucket. Make it, or correct the address, then run again."
        raise StorageError(msg) from error


def _store(path: Path) -> Any:  # noqa: ANN401 - an fsspec file system, which has no types
    return cast(Any, path).fs


def _key(path: Path) -> str:
    """The name under which the store itself knows a file."""
    return str(cast(Any, path).path)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn what a store raises into one clear line; every store has errors of its own, most of them no OSError."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "No such file or bucket", str(path)) from error
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, "File exists", str(path)) from error
    except Exception as error:
        if is_local(path):
            raise
        text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        msg = f"cannot reach {path}: {text}. Check the address, the credentials and the connection, then run again."
        raise StorageError(msg) from error
