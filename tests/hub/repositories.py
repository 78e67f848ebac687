"""What a Hub holds, and what it refuses: repositories with their commits, large files, names and cards.

Strict, as the real Hub is; nothing here speaks HTTP, which server.py does.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import yaml

LARGE = ("*.parquet", "*.png", "*.h5", "*.safetensors")
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE).encode()
MAX_REGULAR = 10 * 2**20
MAX_PREUPLOAD = 256
LICENSES = ("apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "mit", "other")
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B")


class RefusalError(Exception):
    """What a client is told instead of an answer: an HTTP status, a sentence, and headers such as the Hub's code."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | (headers or {})


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its git oid, size, and the sha256 of a large one."""

    oid: str
    size: int
    sha256: str | None = None


class Storage:
    """Large files by their sha256; without `keep` their sizes alone, for measurements."""

    def __init__(self, *, keep: bool = True) -> None:
        self.keep = keep
        self.sizes: dict[str, int] = {}
        self.contents: dict[str, bytes] = {}

    def receive(self, oid: str, pieces: Iterable[bytes]) -> None:
        digest, size, kept = hashlib.sha256(), 0, []
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            if self.keep:
                kept.append(piece)
        if digest.hexdigest() != oid:
            raise RefusalError(400, "XAmzContentSHA256Mismatch: the content is not what its sha256 says")
        self.sizes[oid] = size
        self.contents[oid] = b"".join(kept)


@dataclass
class Repository:
    owner: str
    private: bool
    trees: dict[str, dict[str, Entry]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._add("main", "initial commit", {".gitattributes": self._store(GITATTRIBUTES)})

    def commit_of(self, revision: str) -> str:
        name = "main" if revision in ("", "HEAD") else revision
        found = self.branches.get(name) or self.tags.get(name) or (name if name in self.trees else None)
        if found is None:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def tree(self, revision: str = "main") -> dict[str, Entry]:
        return self.trees[self.commit_of(revision)]

    def text(self, path: str, revision: str = "main") -> str:
        return self.contents[self.tree(revision)[path].oid].decode()

    def point(self, kind: dict[str, str], name: str, revision: str) -> None:
        """Make a tag or a branch."""
        if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", name) or ".." in name or name.endswith(".lock"):
            raise RefusalError(400, f"Invalid name of a reference: {name}")
        if name in kind:
            raise RefusalError(409, "Reference already exists")
        kind[name] = self.commit_of(revision)

    def commit(self, branch: str, lines: list[dict[str, Any]], storage: Storage) -> str:
        """Add a commit of the operations that a client sends, all of them or none."""
        if branch not in self.branches:
            raise RefusalError(404 if branch not in self.tags else 400, f"{branch} is no branch", "RevisionNotFound")
        header = lines[0] if lines else {}
        if header.get("key") != "header" or not header["value"].get("summary"):
            raise RefusalError(400, "the first line must be a header with a summary")
        if header["value"].get("parentCommit") not in (None, self.branches[branch]):
            raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(self.tree(branch))
        for line in lines[1:]:
            self._apply(tree, line["key"], line["value"], storage)
        if "README.md" in tree and (errors := check_card(self.contents[tree["README.md"].oid].decode())[0]):
            raise RefusalError(400, f"Invalid metadata in README.md: {errors[0]}")
        return self._add(branch, header["value"]["summary"], tree)

    def _apply(self, tree: dict[str, Entry], key: str, value: dict[str, Any], storage: Storage) -> None:
        path = value["path"]
        check_path(path)
        match key:
            case "file":
                content = base64.b64decode(value["content"], validate=True)
                if is_large(path) or len(content) > MAX_REGULAR:
                    raise RefusalError(400, f"{path} has to be sent by LFS: it is large, or binary by .gitattributes")
                tree[path] = self._store(content)
            case "lfsFile":
                size = storage.sizes.get(value["oid"])
                if value.get("algo") != "sha256" or size is None or size != value.get("size", size):
                    raise RefusalError(400, f"LFS pointer of {path} points to no such object")
                pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{value['oid']}\nsize {size}\n"
                tree[path] = Entry(blob_oid(pointer.encode()), size, value["oid"])
            case "deletedFile":
                if path not in tree:
                    raise RefusalError(400, f"cannot delete {path}: it is not there")
                del tree[path]
            case "deletedFolder":
                for name in [name for name in tree if name.startswith(f"{path.rstrip('/')}/")]:
                    del tree[name]
            case _:
                raise RefusalError(400, f"unknown operation {key}")

    def listing(self, revision: str, path: str, *, deep: bool) -> list[dict[str, Any]]:
        """Files and folders below a folder, folders first."""
        prefix = f"{path.rstrip('/')}/" if path else ""
        inside = {name: entry for name, entry in self.tree(revision).items() if name.startswith(prefix)}
        if path and not inside:
            raise RefusalError(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        folders = {"/".join(n.split("/")[:i]) for n in inside for i in range(1, n.count("/") + 1)}
        shown = [f for f in sorted(folders) if f.startswith(prefix) and (deep or "/" not in f[len(prefix) :])]
        files = [(n, e) for n, e in sorted(inside.items()) if deep or "/" not in n[len(prefix) :]]
        return [*map(_folder, shown), *(_file(name, entry) for name, entry in files)]

    def described(self, revision: str, paths: Iterable[str]) -> list[dict[str, Any]]:
        """What there is of some paths."""
        tree = self.tree(revision)
        found = [_file(path, tree[path]) for path in paths if path in tree]
        return found + [_folder(p) for p in paths if any(name.startswith(f"{p.rstrip('/')}/") for name in tree)]

    def _store(self, content: bytes) -> Entry:
        entry = Entry(blob_oid(content), len(content))
        self.contents[entry.oid] = content
        return entry

    def _add(self, branch: str, title: str, tree: dict[str, Entry]) -> str:
        parent = self.branches.get(branch, "")
        oid = hashlib.sha1(repr((parent, title, sorted(tree.items()))).encode()).hexdigest()
        self.trees[oid], self.titles[oid], self.branches[branch] = tree, title, oid
        return oid


def _file(path: str, entry: Entry) -> dict[str, Any]:
    large = {"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 130}} if entry.sha256 else {}
    return {"type": "file", "oid": entry.oid, "size": entry.size, "path": path, **large}


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": blob_oid(path.encode()), "size": 0, "path": path}


def blob_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return any(fnmatch(path.rsplit("/", 1)[-1], pattern) for pattern in LARGE)


def check_name(name: str) -> None:
    """Refuse names of repositories that the Hub does not have."""
    if not re.fullmatch(r"[A-Za-z0-9]([\w.-]{0,94}[A-Za-z0-9])?", name) or re.search(r"\.\.|--|\.git$", name):
        raise RefusalError(400, f"Invalid repository name: {name}")


def check_path(path: str) -> None:
    """Refuse paths that git cannot have, or that lead out of the repository."""
    for part in path.split("/"):
        if part.lower() in ("", ".", "..", ".git") or len(part.encode()) > 255 or not part.isprintable():
            raise RefusalError(400, f"Invalid path: {path!r}")


def check_card(text: str) -> tuple[list[str], list[str]]:
    """Errors and warnings about the YAML at the head of a dataset's README.md."""
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    if match is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        card = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"YAML: {error}"], []
    if not isinstance(card, dict):
        return ["the metadata must be a mapping"], []
    errors = [f'"{name}" must be a list of words' for name in ("tags", "task_categories") if not _words(card, name)]
    licenses = card.get("license", "other")
    if not {*(licenses if isinstance(licenses, list) else [licenses])} <= {*LICENSES}:
        errors.append(f'"license" must be one of {", ".join(LICENSES)}')
    if not _words(card, "size_categories") or not {*card.get("size_categories", ())} <= {*SIZES}:
        errors.append(f'"size_categories" must be of {", ".join(SIZES)}')
    configs = card.get("configs", [])
    names = [c.get("config_name") for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []
    if len(names) != len(configs) or not all(isinstance(n, str) for n in names) or len({*names}) != len(names):
        errors.append('"configs" must be a list of mappings, each with a "config_name" of its own')
    elif not all(map(_has_files, configs)) or sum(c.get("default") is True for c in configs) > 1:
        errors.append('"configs": "data_files" must have "split" and "path", and one configuration may be "default"')
    return errors, []


def _words(card: dict[str, Any], name: str) -> bool:
    values = card.get(name, [])
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _has_files(config: dict[str, Any]) -> bool:
    files = config.get("data_files", [])
    paths = [f.get("path") for f in files if isinstance(f, dict) and isinstance(f.get("split"), str)]
    lists = [[path] if isinstance(path, str) else path for path in paths]
    return len(lists) == len(files) and all(isinstance(p, list) and all(isinstance(x, str) for x in p) for p in lists)
