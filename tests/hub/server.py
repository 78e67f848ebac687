"""A Hub on loopback, for the tests: repositories in memory, the protocol of the Hub's clients over HTTP.

Strict: it refuses what the real Hub would refuse. It shows that clients work with this reading of the protocol
(client-verified), not that the real Hub agrees.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER, EXPIRED = "hf_writer", "hf_reader", "hf_expired"
OWNER = "hepfm"
LARGE = ("*.parquet", "*.png", "*.h5", "*.safetensors")
GITATTRIBUTES = "".join(f"{p} filter=lfs diff=lfs merge=lfs -text\n" for p in LARGE).encode()
MAX_REGULAR = 10 * 2**20
REPO = r"/(?P<kind>datasets/|models/|)(?P<id>[\w.-]+/[\w.-]+)"
API = r"/api/(?P<kind>datasets|models)/(?P<id>[\w.-]+/[\w.-]+)"


class RefusalError(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its git oid, size, and the sha256 of a large one."""

    oid: str
    size: int
    sha256: str | None = None


@dataclass
class Repository:
    private: bool
    trees: dict[str, dict[str, Entry]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str:
        revision = unquote(revision)
        found = self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.trees else None)
        if found is None:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found


@dataclass
class Fault:
    """An accident: the next `times` requests of that method whose path contains the text fail."""

    method: str
    path: str
    status: int | None = None
    times: int = 1


class Hub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.contents: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.log: list[tuple[str, str, int]] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def count(self, method: str, part: str) -> int:
        return sum(m == method and part in path for m, path, _ in self.log)


def blob_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        try:
            with self.server.lock:
                self._accident(url.path)
                answer = self._route(url.path, parse_qs(url.query), body)
        except RefusalError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)} if refused.code else {}
            answer = refused.status, json.dumps({"error": str(refused)}).encode(), headers
        except ConnectionAbortedError:
            self.close_connection = True
            self.server.log.append((self.command, url.path, 0))
            return
        status, content, headers = answer
        self.server.log.append((self.command, url.path, status))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _accident(self, path: str) -> None:
        for fault in self.server.faults:
            if fault.times and fault.method == self.command and fault.path in path:
                fault.times -= 1
                if fault.status is None:
                    raise ConnectionAbortedError
                raise RefusalError(fault.status, "an accident")

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        routes = {
            ("GET", r"/api/whoami-v2"): self._whoami,
            ("POST", r"/api/repos/create"): self._create,
            ("POST", r"/api/validate-yaml"): self._validate,
            ("POST", API + r"/preupload/(?P<rev>[^/]+)"): self._preupload,
            ("POST", REPO + r"\.git/info/lfs/objects/batch"): self._batch,
            ("PUT", r"/upload/(?P<oid>[0-9a-f]{64})"): self._put,
            ("POST", API + r"/commit/(?P<rev>[^/]+)"): self._commit,
            ("POST", API + r"/tag/(?P<rev>[^/]+)"): self._tag,
            ("GET", API + r"/refs"): self._refs,
            ("GET", API + r"/commits/(?P<rev>[^/]+)"): self._commits,
            ("GET", API + r"/tree/(?P<rev>[^/]+)/?(?P<path>.*)"): self._tree,
            ("POST", API + r"/paths-info/(?P<rev>[^/]+)"): self._paths_info,
            ("GET", API + r"(?:/revision/(?P<rev>[^/]+))?"): self._info,
            ("GET", REPO + r"/resolve/(?P<rev>[^/]+)/(?P<path>.+)"): self._resolve,
        }
        method = "GET" if self.command == "HEAD" else self.command
        for (verb, pattern), handle in routes.items():
            if verb == method and (match := re.fullmatch(pattern, path)):
                self._query, self._body = query, body
                return handle(**{k: unquote(v) for k, v in match.groupdict(default="").items()})
        raise RefusalError(404, f"no route for {self.command} {path}")

    def _user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in (WRITER, READER):
            raise RefusalError(401, "Invalid credentials in Authorization header")
        return token or None

    def _may_write(self, owner: str) -> None:
        user = self._user()
        if user is None:
            raise RefusalError(401, "Authentication is required")
        if user == READER or owner != OWNER:
            raise RefusalError(403, f"You don't have the rights to write to {owner}")

    def _repository(self, kind: str, name: str, *, write: bool = False) -> Repository:
        user = self._user()
        repository = self.server.repositories.get((kind.rstrip("/") or "models", name))
        if repository is None or (repository.private and user is None):
            raise RefusalError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self._may_write(name.split("/")[0])
        return repository

    def _json(self, *required: str) -> Any:
        try:
            sent = json.loads(self._body)
        except ValueError:
            raise RefusalError(400, "not JSON") from None
        if missing := [name for name in required if name not in sent]:
            raise RefusalError(400, f"{missing[0]} is required")
        return sent

    @staticmethod
    def _answer(answer: object, status: int = 200) -> tuple[int, bytes, dict[str, str]]:
        return status, json.dumps(answer).encode(), {}

    def _whoami(self) -> Any:
        if self._user() is None:
            raise RefusalError(401, "Authentication is required")
        role = "write" if self._user() == WRITER else "read"
        access = {"displayName": "test", "role": role}
        return self._answer({"type": "user", "name": OWNER, "orgs": [], "auth": {"accessToken": access}})

    def _create(self) -> Any:
        sent = self._json("name")
        owner, name = sent.get("organization") or OWNER, sent["name"]
        self._may_write(owner)
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,94}", name) or ".." in name or "--" in name:
            raise RefusalError(400, "Invalid repository name")
        kind = f"{sent.get('type') or 'model'}s"
        key, url = (kind, f"{owner}/{name}"), f"{self.server.url}/{kind}/{owner}/{name}"
        if key in self.server.repositories:
            return self._answer({"error": "You already created this repo", "url": url}, 409)
        repository = self.server.repositories[key] = Repository(
            bool(sent.get("private")) or sent.get("visibility") == "private"
        )
        self._add_commit(repository, "main", "initial commit", {".gitattributes": self._store(GITATTRIBUTES)})
        return self._answer({"url": url, "name": f"{owner}/{name}", "id": f"{owner}/{name}"})

    def _validate(self) -> Any:
        sent = self._json("content")
        import yaml

        match = re.match(r"---\n(.*?)\n---", sent["content"], re.DOTALL)
        try:
            card = yaml.safe_load(match[1]) if match else {}
        except yaml.YAMLError as error:
            return self._answer({"errors": [{"message": f"YAML: {error}"}], "warnings": []}, 400)
        wrong = [c for c in card.get("configs", []) if not isinstance(c, dict) or "config_name" not in c]
        if wrong or not isinstance(card.get("license", ""), str):
            return self._answer({"errors": [{"message": "configs or license of the wrong type"}], "warnings": []}, 400)
        return self._answer({"errors": [], "warnings": []})

    def _preupload(self, kind: str, id: str, rev: str) -> Any:
        repository = self._repository(kind, id, write=True)
        tree = repository.trees[repository.commit_of(rev)]
        files = []
        for file in self._json("files")["files"]:
            if not {"path", "sample", "size"} <= file.keys():
                raise RefusalError(400, "files need path, sample and size")
            large = file["size"] >= MAX_REGULAR or self._is_large(file["path"])
            known = tree.get(file["path"])
            mode = "lfs" if large or b"\0" in base64.b64decode(file["sample"]) else "regular"
            files.append(
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known.oid if known else None}
            )
        return self._answer({"files": files})

    def _batch(self, kind: str, id: str) -> Any:
        self._repository(kind, id, write=True)
        sent = self._json("operation", "objects")
        if sent["operation"] != "upload" or "basic" not in sent.get("transfers", ["basic"]):
            raise RefusalError(422, "only uploads by basic transfer")
        objects = []
        for item in sent["objects"]:
            action = {"upload": {"href": f"{self.server.url}/upload/{item['oid']}", "header": {}}}
            done = item["oid"] in self.server.stored
            objects.append({"oid": item["oid"], "size": item["size"], **({} if done else {"actions": action})})
        return self._answer({"transfer": "basic", "objects": objects})

    def _put(self, oid: str) -> Any:
        if hashlib.sha256(self._body).hexdigest() != oid:
            raise RefusalError(400, "the content is not what its sha256 says")
        self.server.stored[oid] = self._body
        return self._answer({})

    def _commit(self, kind: str, id: str, rev: str) -> Any:
        repository = self._repository(kind, id, write=True)
        lines = [json.loads(line) for line in self._body.splitlines() if line]
        if not lines or lines[0]["key"] != "header" or not lines[0]["value"].get("summary"):
            raise RefusalError(400, "the first line must be a header with a summary")
        head = repository.commit_of(rev)
        if lines[0]["value"].get("parentCommit", head) != head:
            raise RefusalError(412, "A commit has happened since")
        tree = dict(repository.trees[head])
        for line in lines[1:]:
            value = line["value"]
            path = value["path"]
            if path.startswith("/") or ".." in path.split("/"):
                raise RefusalError(400, f"invalid path {path}")
            match line["key"]:
                case "file":
                    content = base64.b64decode(value["content"])
                    if self._is_large(path) or len(content) > MAX_REGULAR:
                        raise RefusalError(400, f"{path} has to be sent by LFS")
                    tree[path] = self._store(content)
                case "lfsFile":
                    stored = self.server.stored.get(value["oid"])
                    if stored is None or len(stored) != value.get("size", len(stored)):
                        raise RefusalError(400, f"LFS pointer of {path} points to no such object")
                    pointer = (
                        f"version https://git-lfs.github.com/spec/v1\noid sha256:{value['oid']}\nsize {len(stored)}\n"
                    )
                    tree[path] = Entry(blob_oid(pointer.encode()), len(stored), value["oid"])
                case "deletedFile":
                    if path not in tree:
                        raise RefusalError(400, f"cannot delete {path}: it is not there")
                    del tree[path]
                case "deletedFolder":
                    tree = {name: entry for name, entry in tree.items() if not name.startswith(f"{path.rstrip('/')}/")}
                case other:
                    raise RefusalError(400, f"unknown operation {other}")
        oid = self._add_commit(repository, rev, lines[0]["value"]["summary"], tree)
        url = f"{self.server.url}/{kind}/{id}/commit/{oid}"
        return self._answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _tag(self, kind: str, id: str, rev: str) -> Any:
        repository, name = self._repository(kind, id, write=True), self._json("tag")["tag"]
        if name in repository.tags:
            raise RefusalError(409, "Tag already exists")
        repository.tags[name] = repository.commit_of(rev)
        return self._answer({})

    def _refs(self, kind: str, id: str) -> Any:
        repository = self._repository(kind, id)
        refs = {
            "branches": [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repository.branches.items()
            ],
            "tags": [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in repository.tags.items()],
        }
        return self._answer({**refs, "converts": []})

    def _commits(self, kind: str, id: str, rev: str) -> Any:
        repository = self._repository(kind, id)
        repository.commit_of(rev)
        stamp = {"date": "2026-01-01T00:00:00.000Z", "authors": [], "message": ""}
        return self._answer([{"id": c, "title": t, **stamp} for c, t in reversed(repository.titles.items())])

    def _info(self, kind: str, id: str, rev: str) -> Any:
        repository = self._repository(kind, id)
        commit = repository.commit_of(rev or "main")
        files = [{"rfilename": path} for path in sorted(repository.trees[commit])]
        info = {"id": id, "sha": commit, "siblings": files, "private": repository.private, "tags": []}
        return self._answer({"_id": commit[:24], **info, "lastModified": "2026-01-01T00:00:00.000Z", "downloads": 0})

    def _tree(self, kind: str, id: str, rev: str, path: str) -> Any:
        repository = self._repository(kind, id)
        tree = repository.trees[repository.commit_of(rev)]
        prefix = f"{path.rstrip('/')}/" if path else ""
        inside = {name: entry for name, entry in tree.items() if name.startswith(prefix)}
        if path and not inside:
            raise RefusalError(404, f"{path} does not exist", "EntryNotFound")
        deep = self._query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {"/".join(n.split("/")[:i]) for n in inside for i in range(1, n.count("/") + 1)}
        shown = [f for f in sorted(folders) if f.startswith(prefix) and (deep or "/" not in f[len(prefix) :])]
        listed = [{"type": "directory", "oid": blob_oid(f.encode()), "size": 0, "path": f} for f in shown]
        listed += [self._described(n, e) for n, e in sorted(inside.items()) if deep or "/" not in n[len(prefix) :]]
        return self._answer(listed)

    def _paths_info(self, kind: str, id: str, rev: str) -> Any:
        repository = self._repository(kind, id)
        tree = repository.trees[repository.commit_of(rev)]
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = self._json("paths")["paths"]
        else:
            paths = parse_qs(self._body.decode()).get("paths", [])
        found = []
        for path in [paths] if isinstance(paths, str) else paths:
            if path in tree:
                found.append(self._described(path, tree[path]))
            elif any(name.startswith(f"{path}/") for name in tree):
                found.append({"type": "directory", "oid": blob_oid(path.encode()), "size": 0, "path": path})
        return self._answer(found)

    def _resolve(self, kind: str, id: str, rev: str, path: str) -> Any:
        repository = self._repository(kind, id)
        commit = repository.commit_of(rev)
        entry = repository.trees[commit].get(path)
        if entry is None:
            raise RefusalError(404, "Entry not found", "EntryNotFound")
        content = self.server.stored[entry.sha256] if entry.sha256 else self.server.contents[entry.oid]
        tag = f'"{entry.sha256 or entry.oid}"'
        headers = {"X-Repo-Commit": commit, "ETag": tag, "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/octet-stream"
        if entry.sha256:
            headers |= {"X-Linked-Etag": tag, "X-Linked-Size": str(entry.size)}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return 200, content, headers
        size = len(content)
        first = int(wanted[1]) if wanted[1] else size - int(wanted[2])
        last = min(int(wanted[2]) if wanted[1] and wanted[2] else size - 1, size - 1)
        if first > last:
            raise RefusalError(416, "Range Not Satisfiable")
        return 206, content[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}

    @staticmethod
    def _is_large(path: str) -> bool:
        return any(fnmatch(path.rsplit("/", 1)[-1], pattern) for pattern in LARGE)

    @staticmethod
    def _described(path: str, entry: Entry) -> dict[str, Any]:
        large = {"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 130}} if entry.sha256 else {}
        return {"type": "file", "oid": entry.oid, "size": entry.size, "path": path, **large}

    def _store(self, content: bytes) -> Entry:
        oid = blob_oid(content)
        self.server.contents[oid] = content
        return Entry(oid, len(content))

    @staticmethod
    def _add_commit(repository: Repository, branch: str, title: str, tree: dict[str, Entry]) -> str:
        parent = repository.branches.get(branch, "")
        oid = hashlib.sha1(repr((parent, title, sorted(tree.items()))).encode()).hexdigest()
        repository.trees[oid], repository.titles[oid], repository.branches[branch] = tree, title, oid
        return oid
