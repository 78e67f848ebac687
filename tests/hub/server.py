"""A Hub on loopback, for the tests and benchmarks: the protocol of the Hub's clients over HTTP.

It shows that clients work with this reading of the protocol (client-verified), not that the real Hub agrees. Large
files lie in a storage of another host name, to whose addresses clients have to send no token, as with the real one.

    python tests/hub/server.py          prints its address, and serves until it is killed; keeps no large files
"""

import base64
import hashlib
import json
import re
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from repositories import MAX_PREUPLOAD, MAX_REGULAR, RefusalError, Repository, Storage, check_card, check_name, is_large

WRITER, READER, STRANGER, EXPIRED = "hf_writer", "hf_reader", "hf_stranger", "hf_expired"
SECRETS = (WRITER, READER, STRANGER, EXPIRED, "signature=")
REPO = r"/(?P<kind>datasets/|models/|)(?P<id>[\w.-]+/[\w.-]+)"
API = r"/api/(?P<kind>datasets|models)/(?P<id>[\w.-]+/[\w.-]+)"
PIECE = 1 << 20
Answer = tuple[int, bytes, dict[str, str]]


@dataclass
class Fault:
    """An accident: what happens to the next `times` requests of that method whose path contains the text.

    They are answered with `status` (and `headers`); or the connection is cut, before an answer or when `after` bytes
    of the request's body have come; or the token `expires` is no longer known from then on.
    """

    method: str
    path: str
    status: int | None = None
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    expires: str = ""


class CutError(Exception):
    pass


class Hub(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *, keep: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.storage_url = f"http://localhost:{self.server_port}/storage"
        self.tokens = {WRITER: ("hepfm", "write"), READER: ("hepfm", "read"), STRANGER: ("someone", "write")}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.storage = Storage(keep=keep)
        self.page = 1000
        self.log: list[tuple[str, str, int]] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._key = secrets.token_hex(8)

    def count(self, method: str, part: str) -> int:
        """How many such requests have been answered well."""
        return sum(m == method and part in path and 0 < status < 400 for m, path, status in self.log)

    def sign(self, method: str, oid: str) -> str:
        """An address of the storage that is good for one object and method, whoever has it."""
        signature = hashlib.sha256(f"{self._key} {method} {oid}".encode()).hexdigest()
        return f"{self.storage_url}/{oid}?signature={signature}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _serve(self) -> None:
        path = urlsplit(self.path).path
        try:
            answer = self._answered(path)
        except RefusalError as refused:
            # A header is one line of Latin letters.
            headers = {name: value.encode("unicode_escape").decode() for name, value in refused.headers.items()}
            answer = refused.status, json.dumps({"error": str(refused)}).encode(), headers
        except CutError:
            self.server.log.append((self.command, path, 0))
            self.close_connection = True
            # Reset, so that the client cannot take it for a slow answer.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        status, content, headers = answer
        self.server.log.append((self.command, path, status))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _answered(self, path: str) -> Answer:
        with self.server.lock:
            fault = next(
                (f for f in self.server.faults if f.times and f.method == self.command and f.path in path), None
            )
            if fault is not None:
                fault.times -= 1
                self.server.tokens.pop(fault.expires, None)
        pieces = self._pieces(fault.after if fault else None)
        if self.command == "PUT" and fault is None:
            return self._put(path, pieces)
        self._body = b"".join(pieces)
        if fault is not None and not fault.expires:
            if fault.status is None:
                raise CutError
            raise RefusalError(fault.status, "an accident", headers=fault.headers)
        with self.server.lock:
            return self._route(path)

    def _pieces(self, n_until_cut: int | None) -> Iterator[bytes]:
        """The body as it comes."""
        n_read = 0
        for piece in self._whole_pieces():
            n_read += len(piece)
            if n_until_cut is not None and n_read >= n_until_cut:
                raise CutError
            yield piece

    def _whole_pieces(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            piece = self.rfile.read1(min(PIECE, left))  # type: ignore[attr-defined]
            if not piece:
                raise CutError
            left -= len(piece)
            yield piece

    def _route(self, path: str) -> Answer:
        routes = {
            ("GET", r"/api/whoami-v2"): self._whoami,
            ("POST", r"/api/repos/create"): self._create,
            ("DELETE", r"/api/repos/delete"): self._delete,
            ("POST", r"/api/validate-yaml"): self._validate,
            ("POST", API + r"/preupload/(?P<rev>[^/]+)"): self._preupload,
            ("POST", REPO + r"\.git/info/lfs/objects/batch"): self._batch,
            ("POST", API + r"/commit/(?P<rev>[^/]+)"): self._commit,
            ("POST", API + r"/tag/(?P<rev>[^/]+)"): self._tag,
            ("POST", API + r"/branch/(?P<rev>[^/]+)"): self._branch,
            ("GET", API + r"/refs"): self._refs,
            ("GET", API + r"/commits/(?P<rev>[^/]+)"): self._commits,
            ("GET", API + r"/tree/(?P<rev>[^/]+)/?(?P<path>.*)"): self._tree,
            ("POST", API + r"/paths-info/(?P<rev>[^/]+)"): self._paths_info,
            ("GET", API + r"(?:/revision/(?P<rev>[^/]+))?"): self._info,
            ("GET", REPO + r"/resolve/(?P<rev>[^/]+)/(?P<path>.+)"): self._resolve,
            ("GET", r"/storage/(?P<oid>[0-9a-f]{64})"): self._get,
        }
        method = "GET" if self.command == "HEAD" else self.command
        self._query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        for (verb, pattern), handle in routes.items():
            if verb == method and (match := re.fullmatch(pattern, path)):
                return handle(**{k: unquote(v) for k, v in match.groupdict(default="").items()})
        raise RefusalError(404, f"no route for {self.command} {path}")

    # --- who asks, and for what

    def _user(self) -> tuple[str, str] | None:
        """Name and role of who asks."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.tokens:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        return self.server.tokens.get(token)

    def _may_write(self, owner: str) -> None:
        user = self._user()
        if user is None:
            raise RefusalError(401, "Invalid username or password.")
        if user != (owner, "write"):
            raise RefusalError(403, f"You don't have the rights to write to the namespace {owner!r}")

    def _repository(self, kind: str, name: str, *, write: bool = False) -> Repository:
        user = self._user()
        repository = self.server.repositories.get((kind.rstrip("/") or "models", name))
        if repository is None or (repository.private and (user is None or user[0] != repository.owner)):
            raise RefusalError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self._may_write(repository.owner)
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
    def _answer(answer: object, status: int = 200, **headers: str) -> Answer:
        return status, json.dumps(answer).encode(), headers

    def _whoami(self) -> Answer:
        user = self._user()
        if user is None:
            raise RefusalError(401, "Invalid username or password.")
        access = {"displayName": "test", "role": user[1], "createdAt": "2026-01-01T00:00:00.000Z"}
        auth = {"type": "access_token", "accessToken": access}
        return self._answer({"type": "user", "name": user[0], "fullname": user[0], "orgs": [], "auth": auth})

    def _key_of(self, sent: dict[str, Any]) -> tuple[str, str]:
        user = self._user()
        return f"{sent.get('type') or 'model'}s", f"{sent.get('organization') or (user or '?')[0]}/{sent['name']}"

    def _create(self) -> Answer:
        sent = self._json("name")
        key = kind, name = self._key_of(sent)
        owner = name.split("/")[0]
        self._may_write(owner)
        check_name(sent["name"])
        url = f"{self.server.url}/{kind}/{name}"
        if key in self.server.repositories:
            return self._answer({"error": "You already created this dataset repo", "url": url}, 409)
        private = bool(sent.get("private")) or sent.get("visibility") == "private"
        self.server.repositories[key] = Repository(owner, private)
        return self._answer({"url": url, "name": name, "id": name})

    def _delete(self) -> Answer:
        key = self._key_of(self._json("name"))
        self._repository(*key, write=True)
        del self.server.repositories[key]
        return self._answer({})

    def _validate(self) -> Answer:
        errors, warnings = check_card(self._json("content")["content"])
        found = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
        return self._answer(found, 400 if errors else 200)

    # --- what is sent

    def _preupload(self, kind: str, id: str, rev: str) -> Answer:
        tree = self._repository(kind, id, write=True).tree(rev)
        sent = self._json("files")["files"]
        if len(sent) > MAX_PREUPLOAD:
            raise RefusalError(413, f"more than {MAX_PREUPLOAD} files")
        files = []
        for file in sent:
            if not {"path", "sample", "size"} <= file.keys():
                raise RefusalError(400, "files need path, sample and size")
            path = file["path"]
            large = file["size"] >= MAX_REGULAR or is_large(path) or b"\0" in base64.b64decode(file["sample"])
            oid = tree[path].oid if path in tree else None
            files.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
        return self._answer({"files": files})

    def _batch(self, kind: str, id: str) -> Answer:
        self._repository(kind, id, write=True)
        sent = self._json("operation", "objects")
        if sent["operation"] != "upload" or "basic" not in sent.get("transfers", ["basic"]):
            raise RefusalError(422, "only uploads by basic transfer")
        objects = []
        for item in sent["objects"]:
            if not re.fullmatch(r"[0-9a-f]{64}", item["oid"]) or not isinstance(item["size"], int):
                raise RefusalError(422, "objects need a sha256 and a size")
            actions = {"upload": {"href": self.server.sign("PUT", item["oid"]), "header": {}}}
            done = item["oid"] in self.server.storage.sizes
            objects.append({"oid": item["oid"], "size": item["size"], **({} if done else {"actions": actions})})
        return self._answer({"transfer": "basic", "objects": objects})

    def _signed(self, oid: str) -> None:
        """Refuse what a storage refuses: another method or object than what was signed, and tokens beside."""
        if f"{self.server.storage_url}/{oid}" + "?" + urlsplit(self.path).query != self.server.sign(self.command, oid):
            raise RefusalError(403, "SignatureDoesNotMatch")
        if "Authorization" in self.headers:
            raise RefusalError(400, "Only one auth mechanism allowed; only the signature should be specified")

    def _put(self, path: str, pieces: Iterator[bytes]) -> Answer:
        oid = path.removeprefix("/storage/")
        self._signed(oid)
        self.server.storage.receive(oid, pieces)
        return self._answer({}, ETag=f'"{oid}"')

    def _commit(self, kind: str, id: str, rev: str) -> Answer:
        repository = self._repository(kind, id, write=True)
        if self.headers["Content-Type"] != "application/x-ndjson":
            raise RefusalError(415, "commits are sent as application/x-ndjson")
        lines = [json.loads(line) for line in self._body.splitlines() if line]
        oid = repository.commit(rev, lines, self.server.storage)
        url = f"{self.server.url}/{kind}/{id}/commit/{oid}"
        return self._answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _tag(self, kind: str, id: str, rev: str) -> Answer:
        repository = self._repository(kind, id, write=True)
        repository.point(repository.tags, self._json("tag")["tag"], rev)
        return self._answer({})

    def _branch(self, kind: str, id: str, rev: str) -> Answer:
        repository = self._repository(kind, id, write=True)
        repository.point(repository.branches, rev, self._json().get("startingPoint") or "main")
        return self._answer({})

    # --- what is read

    def _refs(self, kind: str, id: str) -> Answer:
        repository = self._repository(kind, id)
        both = (("branches", "heads", repository.branches), ("tags", "tags", repository.tags))
        refs = {
            name: [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": c} for n, c in known.items()]
            for name, folder, known in both
        }
        return self._answer({**refs, "converts": []})

    def _commits(self, kind: str, id: str, rev: str) -> Answer:
        repository = self._repository(kind, id)
        repository.commit_of(rev)
        stamp = {"date": "2026-01-01T00:00:00.000Z", "authors": [], "message": ""}
        return self._answer([{"id": c, "title": t, **stamp} for c, t in reversed(repository.titles.items())])

    def _info(self, kind: str, id: str, rev: str) -> Answer:
        repository = self._repository(kind, id)
        commit = repository.commit_of(rev)
        files = [{"rfilename": path} for path in sorted(repository.trees[commit])]
        info = {"id": id, "sha": commit, "siblings": files, "private": repository.private, "tags": [], "likes": 0}
        stamp = {"lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z"}
        return self._answer({"_id": commit[:24], **info, **stamp, "downloads": 0, "gated": False})

    def _tree(self, kind: str, id: str, rev: str, path: str) -> Answer:
        deep = self._query.get("recursive", "").lower() in ("true", "1")
        listed = self._repository(kind, id).listing(rev, path, deep=deep)
        start = int(self._query.get("cursor", 0))
        stop = start + self.server.page
        following = f"{self.server.url}{urlsplit(self.path).path}?{urlencode({**self._query, 'cursor': stop})}"
        more = {"Link": f'<{following}>; rel="next"'} if stop < len(listed) else {}
        return self._answer(listed[start:stop], **more)

    def _paths_info(self, kind: str, id: str, rev: str) -> Answer:
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = self._json("paths")["paths"]
        else:
            paths = parse_qs(self._body.decode()).get("paths", [])
        return self._answer(self._repository(kind, id).described(rev, [paths] if isinstance(paths, str) else paths))

    def _resolve(self, kind: str, id: str, rev: str, path: str) -> Answer:
        repository = self._repository(kind, id)
        commit = repository.commit_of(rev)
        entry = repository.trees[commit].get(path)
        if entry is None:
            raise RefusalError(404, "Entry not found", "EntryNotFound")
        if not entry.sha256:
            return self._ranged(repository.contents[entry.oid], entry.oid, {"X-Repo-Commit": commit})
        linked = {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size), "X-Repo-Commit": commit}
        return 302, b"", {"Location": self.server.sign("GET", entry.sha256), **linked}

    def _get(self, oid: str) -> Answer:
        self._signed(oid)
        return self._ranged(self.server.storage.contents[oid], oid, {})

    def _ranged(self, content: bytes, tag: str, headers: dict[str, str]) -> Answer:
        """A file, or the part of it that was asked for."""
        headers = {**headers, "ETag": f'"{tag}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return 200, content, headers
        size = len(content)
        first = int(wanted[1]) if wanted[1] else size - int(wanted[2])
        last = min(int(wanted[2]) if wanted[1] and wanted[2] else size - 1, size - 1)
        if first > last:
            raise RefusalError(416, "Range Not Satisfiable")
        return 206, content[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}


if __name__ == "__main__":
    hub = Hub(keep=False)
    print(hub.url, flush=True)
    hub.serve_forever()
