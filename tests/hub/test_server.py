"""The Hub of these tests refuses what the real one refuses; what it accepted blindly would prove nothing."""

import base64
import hashlib
import http.client
import json
from urllib.parse import urlsplit

import pytest
from repositories import MAX_REGULAR, Repository
from server import EXPIRED, READER, STRANGER, WRITER

ID = "hepfm/any"
API = f"/api/datasets/{ID}"
LARGE = b"large" * 1000
SHA256 = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def ask(hub):
    hub.repositories["datasets", ID] = Repository("hepfm", private=False)

    def send(method, url, body=b"", *, token=WRITER, kind="application/json"):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", hub.server_port, timeout=10)
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
        parts = urlsplit(url)
        connection.request(method, f"{parts.path}?{parts.query}", content, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    return send


@pytest.fixture
def commit(ask):
    def send(*operations, parent=None, branch="main", token=WRITER):
        header = {"key": "header", "value": {"summary": "a commit", **({"parentCommit": parent} if parent else {})}}
        lines = [header, *({"key": key, "value": value} for key, value in operations)]
        body = "\n".join(map(json.dumps, lines)).encode()
        return ask("POST", f"{API}/commit/{branch}", body, token=token, kind="application/x-ndjson")

    return send


def regular(path, content=b"text"):
    return "file", {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}


def upload_address(ask, oid=SHA256):
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(LARGE)}]}
    status, text = ask("POST", f"/datasets/{ID}.git/info/lfs/objects/batch", body)
    assert status == 200
    return json.loads(text)["objects"][0]["actions"]["upload"]["href"]


def test_large_object_whose_sha256_is_wrong_is_refused(ask, hub):
    status, text = ask("PUT", upload_address(ask), LARGE + b"!", token=None)

    assert (status, hub.storage.sizes) == (400, {})
    assert "not what its sha256 says" in text


def test_storage_takes_a_signature_and_no_token(ask, hub):
    address = upload_address(ask)

    assert ask("PUT", address, LARGE, token=WRITER)[0] == 400
    assert ask("PUT", address.replace(SHA256, "0" * 64), LARGE, token=None)[0] == 403
    assert ask("GET", address, token=None)[0] == 403
    assert hub.storage.sizes == {}
    assert ask("PUT", address, LARGE, token=None)[0] == 200
    assert hub.storage.sizes == {SHA256: len(LARGE)}


def test_commit_on_a_parent_that_is_no_longer_the_newest_is_refused(commit, hub):
    repository = hub.repositories["datasets", ID]
    parent = repository.branches["main"]

    assert commit(regular("a.txt"), parent=parent)[0] == 200
    assert commit(regular("b.txt"), parent=parent)[0] == 412
    assert set(repository.tree()) == {".gitattributes", "a.txt"}


def test_commit_of_a_large_object_that_is_not_stored_is_refused(ask, commit):
    pointer = ("lfsFile", {"path": "a.parquet", "algo": "sha256", "oid": SHA256, "size": len(LARGE)})

    assert "points to no such object" in commit(pointer)[1]
    ask("PUT", upload_address(ask), LARGE, token=None)
    assert "points to no such object" in commit((pointer[0], pointer[1] | {"size": 1}))[1]
    assert commit(pointer)[0] == 200


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (regular("a.parquet"), "has to be sent by LFS"),
        (regular("a.txt", b"x" * (MAX_REGULAR + 1)), "has to be sent by LFS"),
        *(
            (regular(path), "Invalid path")
            for path in ("/a", "../a", "a/../b", "a//b", "a/.git/b", ".", "a\n", "x" * 256)
        ),
        (("deletedFile", {"path": "a.txt"}), "it is not there"),
        (("copyFile", {"path": "a.txt"}), "unknown operation"),
    ],
)
def test_commit_of_what_git_or_the_hub_cannot_have_is_refused_whole(commit, hub, operation, message):
    status, text = commit(regular("good.txt"), operation)

    assert (status, message in text) == (400, True)
    assert set(hub.repositories["datasets", ID].tree()) == {".gitattributes"}


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("license: [", "YAML: while parsing"),
        ("- a list", "must be a mapping"),
        ("license: my own", '"license" must be one of'),
        ("license: 3", '"license" must be one of'),
        ("size_categories: ['some']", '"size_categories" must be of'),
        ("tags: jets", '"tags" must be a list of words'),
        ("configs: [{data_files: x}]", 'each with a "config_name" of its own'),
        ("configs: [{config_name: a}, {config_name: a}]", 'each with a "config_name" of its own'),
        ("configs: [{config_name: a, data_files: [{split: train}]}]", '"data_files" must have "split" and "path"'),
        ("configs: [{config_name: a, default: true}, {config_name: b, default: true}]", 'may be "default"'),
    ],
)
def test_card_with_wrong_metadata_is_refused(ask, commit, card, message):
    text = f"---\n{card}\n---\n# A card\n"
    status, answer = ask("POST", "/api/validate-yaml", {"content": text, "repoType": "dataset"})

    assert status == 400
    assert message in json.loads(answer)["errors"][0]["message"]
    assert commit(regular("README.md", text.encode()))[0] == 400


@pytest.mark.parametrize("name", ["a--b", "a..b", ".a", "a.git", "a b", "x" * 97, ""])
def test_repositories_of_impossible_names_are_refused(ask, name):
    assert ask("POST", "/api/repos/create", {"name": name, "type": "dataset"})[0] == 400


def test_only_the_owner_writes_and_sees_what_is_private(ask, commit, hub):
    hub.repositories["datasets", ID].private = True

    assert [commit(regular("a.txt"), token=t)[0] for t in (None, EXPIRED, READER, STRANGER)] == [401, 401, 403, 404]
    assert [ask("GET", API, token=t)[0] for t in (None, EXPIRED, READER, STRANGER)] == [401, 401, 200, 404]
    hub.repositories["datasets", ID].private = False
    assert [commit(regular("a.txt"), token=t)[0] for t in (None, STRANGER, WRITER)] == [401, 403, 200]


def test_versions_and_branches_do_not_move_by_being_made_again(ask, commit):
    assert ask("POST", f"{API}/tag/main", {"tag": "v1"})[0] == 200
    assert commit(regular("a.txt"))[0] == 200
    assert ask("POST", f"{API}/tag/main", {"tag": "v1"})[0] == 409
    assert ask("POST", f"{API}/tag/main", {"tag": "v 1"})[0] == 400
    assert ask("POST", f"{API}/tag/gone", {"tag": "v2"})[0] == 404
    assert commit(regular("a.txt"), branch="v1")[0] == 400
    assert commit(regular("a.txt"), branch="gone")[0] == 404
