"""The Hub's own clients, without hepfm: the command `hf`, huggingface_hub, and @huggingface/hub for JavaScript."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from conftest import REPO, Client
from server import SECRETS, WRITER, Fault

import hepfm
from hepfm.formats.hdf5 import content_digest

KEY = ("datasets", REPO)
JAVASCRIPT = Path(__file__).parent / "javascript"


@pytest.fixture
def client(published, tmp_path) -> Client:
    """A client of the Hub that has REPO, with a folder and a cache of its own."""
    return Client(published.hub, tmp_path)


def test_the_hf_command_downloads_a_version_that_opens_like_the_campaign(client, small_campaign):
    client("hf", "download", REPO, "--repo-type", "dataset", "--revision", "v1", "--local-dir", "copy", token=None)
    ours, copy = hepfm.open(small_campaign[1]), hepfm.open(client.folder / "copy")

    for variation in ours.variations:
        for split in ("train", "test"):
            read = [content_digest(d.read_table(variation=variation, split=split)) for d in (ours, copy)]
            assert read[0] == read[1]
    assert 'license: "mit"' in (client.folder / "copy" / "README.md").read_text()


def test_the_hf_command_says_who_one_is_and_what_a_dataset_has(client):
    user = client("hf", "auth", "whoami")
    info = client("hf", "datasets", "info", REPO, token=None)
    tags = client("hf", "repos", "tag", "list", REPO, "--repo-type", "dataset", token=None)

    assert "hepfm" in user.stdout
    assert client.hub.repositories[KEY].branches["main"] in info.stdout
    assert {"v1", "v2"} <= set(tags.stdout.split())
    assert not any(secret in done.stdout + done.stderr for done in (user, info, tags) for secret in SECRETS)


def test_the_hf_command_uploads_a_staged_folder_that_hepfm_opens(client, published, small_campaign):
    mine = "hepfm/uploaded-by-hf"
    client("hf", "upload", mine, published.folder / "staged", ".", "--repo-type", "dataset")
    client("hf", "repos", "tag", "create", mine, "first", "--repo-type", "dataset")
    opened = client(f"import hepfm; print(len(hepfm.open({mine!r}, revision='first')))", token=None)

    assert int(opened.stdout) == len(hepfm.open(small_campaign[1]))
    uploaded = client.hub.repositories["datasets", mine].tree()
    assert uploaded.keys() == client.hub.repositories[KEY].tree().keys()


def test_huggingface_hub_uploads_snapshots_and_reads_ranges(client):
    """Also of a file larger than what a connection holds, cut in the middle and sent again."""
    program = f"""
import hashlib, json, pathlib
import numpy as np
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, hf_hub_url, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from huggingface_hub.utils import get_session
import pyarrow.parquet as pq

api, mine = HfApi(), "hepfm/uploaded-by-python"
folder = pathlib.Path("folder/data")
folder.mkdir(parents=True)
content = np.random.default_rng(1).bytes(8_000_000)
(folder / "large.parquet").write_bytes(content)
(folder / "small.txt").write_text("small")
api.create_repo(mine, repo_type="dataset")
commit = api.upload_folder(repo_id=mine, folder_path="folder", repo_type="dataset")
stale = api.repo_info(mine, repo_type="dataset", revision="main").siblings
refused = []
try:
    operations = [CommitOperationAdd("late.txt", b"late")]
    api.create_commit(mine, operations, commit_message="late", repo_type="dataset", parent_commit="0" * 40)
except HfHubHTTPError as error:
    refused.append(error.response.status_code)
try:
    snapshot_download(mine, repo_type="dataset", revision="none")
except RevisionNotFoundError:
    refused.append("no revision")

old = pathlib.Path(snapshot_download("{REPO}", repo_type="dataset", revision="v1"))
new = pathlib.Path(snapshot_download("{REPO}", repo_type="dataset", revision="v2", allow_patterns=["README.md"]))
system = HfFileSystem()
name = "data/quick/train-00000-of-00001.parquet"
with system.open(f"datasets/{REPO}@v1/{{name}}", block_size=1024) as file:
    file.seek(-4, 2)
    magic = file.read().decode()
    names = pq.read_table(file, columns=["jet_pt"]).column_names
part = get_session().get(hf_hub_url("{REPO}", name, repo_type="dataset"), headers={{"Range": "bytes=0-3"}},
                         follow_redirects=True)
print(json.dumps({{
    "commit": commit.oid,
    "files": sorted(file.rfilename for file in stale),
    "back": hashlib.sha256(system.cat(f"datasets/{{mine}}/data/large.parquet")).hexdigest(),
    "refused": refused,
    "old": sorted(str(path.relative_to(old)) for path in old.rglob("*") if path.is_file()),
    "licenses": [path.joinpath("README.md").read_text().splitlines()[1] for path in (old, new)],
    "new": sorted(path.name for path in new.iterdir()),
    "listed": sorted(system.ls("datasets/{REPO}/data", detail=False)),
    "magic": magic, "names": names, "range": [part.status_code, part.text],
}}))
"""
    fault = Fault("PUT", "/storage/", after=4_000_000)
    client.hub.faults.append(fault)
    found = json.loads(client(program).stdout)
    repository = client.hub.repositories["datasets", "hepfm/uploaded-by-python"]

    assert fault.times == 0
    assert found["commit"] == repository.branches["main"]
    assert found["files"] == [".gitattributes", "data/large.parquet", "data/small.txt"]
    assert found["back"] == repository.tree()["data/large.parquet"].sha256
    assert found["refused"] == [412, "no revision"]
    assert found["old"] == sorted(client.hub.repositories[KEY].tree("v1"))
    assert found["licenses"] == ['license: "mit"', 'license: "cc-by-4.0"']
    assert found["new"] == ["README.md"]
    assert found["listed"] == [f"datasets/{REPO}/data/quick", f"datasets/{REPO}/data/quick-fsr-up"]
    assert (found["magic"], found["names"], found["range"]) == ("PAR1", ["jet_pt"], [206, "PAR1"])


def test_the_javascript_client_reads_ranges_and_commits(client):
    if shutil.which("node") is None or not (JAVASCRIPT / "node_modules").is_dir():
        pytest.skip("the JavaScript client is not installed: npm ci --prefix tests/hub/javascript (needs Node.js 20)")
    mine = "hepfm/uploaded-by-javascript"
    found = json.loads(client("node", JAVASCRIPT / "client.mjs", client.hub.url, WRITER, REPO, mine).stdout)
    published, own = client.hub.repositories[KEY], client.hub.repositories["datasets", mine]

    assert (found["user"], found["id"], found["index"]) == ("hepfm", REPO, "hepfm-jets")
    assert found["files"] == {path: entry.size for path, entry in published.tree("v1").items()}
    entry = published.tree("v1")[found["parquet"]["path"]]
    assert found["parquet"]["size"] == entry.size
    assert hashlib.sha256(bytes.fromhex(found["parquet"]["whole"])).hexdigest() == entry.sha256
    assert found["parquet"]["ends"] == [b"PAR1".hex()] * 2
    assert found["missing"] is None
    assert found["commits"] == ["one less", "two files", "initial commit"]
    assert found["head"] == own.branches["main"]
    assert sorted(found["own"]) == sorted(own.tree()) == [".gitattributes", "data/large.parquet"]
    assert (found["same"], found["slice"], own.private) == (True, "fa000102", True)
    assert found["refused"] == {"anonymous": 401, "stranger": 404, "stale": 412, "path": 400}
