"""The Hugging Face Hub: publish a folder, fetch a file. The only code that talks to it."""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hepfm.errors import InputError, StorageError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

Kind = Literal["dataset", "model"]
# The Hub makes it with the repository, and needs it to know large files.
_HUBS_OWN = (".gitattributes",)
# What a repository may have that nothing was put into yet.
_OF_NEW_ONES = (*_HUBS_OWN, "README.md")
# Says on stderr what it tries again, with the address.
_CLIENTS_LOGGER = "huggingface_hub.utils._http"


@dataclass(frozen=True)
class Upload:
    """What publishing a folder has to send: files by their names in the repository, with their sizes in bytes."""

    new: Mapping[str, int]
    unchanged: Mapping[str, int]
    deleted: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """Where a dataset or model lies now: `commit` is the one that holds it, whether or not it was made just now."""

    url: str
    commit: str
    upload: Upload


def is_repo_id(text: str) -> bool:
    """Whether a text could be the name of a repository on the Hub, OWNER/NAME."""
    if text.count("/") != 1:
        return False
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return True


def local_files(folder: Path, patterns: Sequence[str] = ("**/*",)) -> dict[str, int]:
    """Names and sizes of the files that would be published: all but hidden ones, such as temporary files."""
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    relative = {path.relative_to(folder): path.stat().st_size for path in paths}
    return {path.as_posix(): size for path, size in relative.items() if not any(p.startswith(".") for p in path.parts)}


def publish_folder(
    folder: Path,
    repo: str,
    *,
    sign: str,
    kind: Kind = "dataset",
    patterns: Sequence[str] = ("**/*",),
    tag: str | None = None,
    private: bool = False,
    message: str = "Update",
) -> Published:
    """Make a dataset, or a model, on the Hub equal to a folder, in one commit.

    Only what differs is sent; if nothing does, there is no commit. Large files that were sent before an interruption
    are not sent again. Files on the Hub that the folder does not have are deleted, if what is there was published by
    hepfm.

    Args:
        folder: what to publish; hidden files are left out.
        repo: OWNER/NAME; made if there is no such dataset or model.
        sign: name of a file that whatever hepfm published has.
        kind: which of the two it is.
        patterns: names of the files that are published, such as "*.json".
        tag: name of the version, which from now on stands for this state.
        private: only the owner may see it.
        message: of the commit.

    Raises:
        InputError: not allowed, not logged in, a wrong name, a card that the Hub refuses, the tag stands for another
            state already, there are files of somebody else, or what shall be private is public.
        StorageError: the Hub cannot be reached, or fails again and again.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    api = HfApi()
    with _errors_of(repo, kind):
        url = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        info = api.repo_info(repo, repo_type=kind)
        if private and not info.private:
            msg = f"{repo}: exists, and is public. Make it private on the Hub, or choose another name."
            raise InputError(msg)
        head = info.sha or ""
        tags = {t.name: t.target_commit for t in api.list_repo_refs(repo, repo_type=kind).tags}
        local = local_files(folder, patterns)
        remote = _remote_files(repo, kind=kind)
        _check_ours(repo, remote, sign)
        upload = _compare(folder, local, remote)
        if tag in tags:
            old = upload if tags[tag] == head else _compare(folder, local, _remote_files(repo, tags[tag], kind=kind))
            if old.new or old.deleted:
                msg = (
                    f"{repo}: version {tag!r} exists, of other files. Versions never change: choose a new one (--tag)."
                )
                raise InputError(msg)
        commit = head
        if upload.new or upload.deleted:
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
                *(CommitOperationAdd(name, folder / name) for name in upload.new),
                *(CommitOperationDelete(name) for name in upload.deleted),
            ]
            done = api.create_commit(
                repo, operations, commit_message=message, repo_type=kind, parent_commit=head or None
            )
            commit = done.oid
        if tag is not None and tag not in tags:
            api.create_tag(repo, tag=tag, revision=commit, repo_type=kind)
    return Published(str(url), commit, upload)


def compare(folder: Path, repo: str, *, sign: str) -> Upload:
    """Say what `publish_folder` would send and delete; everything is sent, if there is no such dataset.

    Raises:
        InputError, StorageError: as `publish_folder`.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    with _errors_of(repo, "dataset"):
        try:
            remote = _remote_files(repo)
        except RepositoryNotFoundError:
            return Upload(local_files(folder), {}, ())
    _check_ours(repo, remote, sign)
    return _compare(folder, local_files(folder), remote)


def fetch_file(
    repo: str,
    path: str,
    *,
    kind: Kind = "dataset",
    revision: str | None = None,
    **more: Any,  # noqa: ANN401
) -> Path:
    """Fetch a file of a dataset or a model, or find the copy that was fetched before.

    Args:
        repo: OWNER/NAME.
        path: of the file in the repository.
        kind: which of the two it is.
        revision: branch, tag or commit; by default the newest state. A commit's file is never asked for twice.
        more: arguments of `huggingface_hub.hf_hub_download`, such as token and cache_dir.

    Returns:
        Where the copy lies. Do not change it.

    Raises:
        InputError: there is no such dataset or model, revision or file, or it is private.
        StorageError: the Hub cannot be reached, or the copy not written.
    """
    from huggingface_hub import hf_hub_download

    with _errors_of(repo, kind):
        return Path(hf_hub_download(repo, path, repo_type=kind, revision=revision, **more))


def _remote_files(repo: str, revision: str | None = None, *, kind: Kind = "dataset") -> "dict[str, RepoFile]":
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(repo, recursive=True, revision=revision, repo_type=kind)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _check_ours(repo: str, remote: "Mapping[str, RepoFile]", sign: str) -> None:
    """Check that nothing of somebody else's would be deleted."""
    theirs = sorted(name for name in remote if name not in _OF_NEW_ONES)
    if theirs and sign not in remote:
        more = f" and {len(theirs) - 1} more files" * (len(theirs) > 1)
        msg = f"{repo}: holds {theirs[0]}{more}, which hepfm did not publish, and would delete. Choose another name."
        raise InputError(msg)


def _compare(folder: Path, local: Mapping[str, int], remote: "Mapping[str, RepoFile]") -> Upload:
    same = {name for name in local if name in remote and _is_same(folder / name, local[name], remote[name])}
    return Upload(
        new={name: size for name, size in local.items() if name not in same},
        unchanged={name: size for name, size in local.items() if name in same},
        deleted=tuple(sorted(name for name in remote if name not in local and name not in _HUBS_OWN)),
    )


def _is_same(path: Path, size: int, remote: "RepoFile") -> bool:
    if remote.size != size:
        return False
    with path.open("rb") as file:
        if remote.lfs is not None:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote.lfs.sha256
        # git's own way to name contents
        return hashlib.sha1(b"blob %d\0" % size + file.read(), usedforsecurity=False).hexdigest() == remote.blob_id


@contextmanager
def _errors_of(repo: str, kind: Kind) -> Iterator[None]:
    """Turn what the Hub's client raises into one clear line, without the address of a request or a token."""
    import httpx2
    from huggingface_hub import errors

    signatures = _WithoutSignatures()
    logging.getLogger(_CLIENTS_LOGGER).addFilter(signatures)
    try:
        yield
    except errors.HFValidationError as error:
        msg = f"{repo}: not a name of a repository; expected OWNER/NAME of letters, digits, '-', '_' and '.'"
        raise InputError(msg) from error
    except errors.LocalEntryNotFoundError as error:
        msg = f"{repo}: neither here nor in the cache, and the Hub cannot be reached. Check name and connection."
        raise StorageError(msg) from error
    except errors.RevisionNotFoundError as error:
        msg = f"{repo}: has no such revision. Choose a branch, tag or commit that it has."
        raise InputError(msg) from error
    except errors.EntryNotFoundError as error:
        command = {"dataset": "publish", "model": "pretrain --push"}[kind]
        msg = f"{repo}: lacks a file that hepfm's {kind}s have; was it published with hepfm-data {command}?"
        raise InputError(msg) from error
    except errors.RepositoryNotFoundError as error:
        msg = f"{repo}: no such {kind} on the Hub, or it is private and you are not logged in (hf auth login)"
        raise InputError(msg) from error
    except errors.HfHubHTTPError as error:
        raise _refusal(repo, error.response.status_code, error.server_message or "") from error
    except ValueError as error:
        # What the client makes of the Hub's answer about the card.
        what, *reasons = str(error).splitlines()
        if "Invalid metadata" not in what:
            raise
        msg = f"{repo}: the Hub does not accept the card: {'; '.join(reason.lstrip('- ') for reason in reasons)}"
        raise InputError(msg) from error
    except (httpx2.HTTPError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        msg = f"{repo}: the Hub cannot be reached ({type(error).__name__}). Check the connection, then run again."
        raise StorageError(msg) from error
    except OSError as error:
        msg = f"{repo}: its files cannot be read or kept here: {error}. Mend that, or set HF_HOME to another folder."
        raise StorageError(msg) from error
    finally:
        logging.getLogger(_CLIENTS_LOGGER).removeFilter(signatures)


class _WithoutSignatures(logging.Filter):
    """Cuts the query off addresses: for a storage it is as good as a token while it lasts."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"(?<=://)(\S+?)\?\S+", r"\1", record.getMessage()), ()
        return True


def _refusal(repo: str, status: int, reason: str) -> InputError | StorageError:
    if status == 400:
        return InputError(f"{repo}: the Hub refuses what was sent: {' '.join(reason.split()) or 'it gives no reason'}")
    if status == 401:
        return InputError(f"{repo}: the Hub does not know you: no token, or an expired one. Log in: hf auth login")
    if status == 403:
        return InputError(f"{repo}: you may not write there. Use a token with write access, or another name.")
    if status in (409, 412):
        return StorageError(f"{repo}: somebody else has changed it at the same time. Run again.")
    if status == 429:
        return StorageError(f"{repo}: the Hub asks to slow down (429). Wait some minutes, then run again.")
    return StorageError(f"{repo}: the Hub answers with an error ({status}). What was sent is kept; run again later.")
