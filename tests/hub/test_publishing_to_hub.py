"""Publish a campaign to the Hub on loopback, and read it back with clients that are not ours."""

import json
import re
import shutil
from pathlib import Path

import pytest
from server import EXPIRED, READER, WRITER, Fault

import hepfm
from hepfm.formats.hdf5 import content_digest

REPO = "hepfm/resim-jets"
KEY = ("datasets", REPO)


@pytest.fixture
def campaign(small_campaign, tmp_path) -> Path:
    return shutil.copytree(small_campaign[1], tmp_path / "resim-jets")


@pytest.fixture
def publish(client, campaign):
    def run(*options, **more):
        return client("hepfm-data", "publish", campaign, "--repo", REPO, *options, **more)

    return run


def test_published_campaign_is_one_commit_with_a_version_and_a_second_run_sends_nothing(hub, publish):
    first = json.loads(publish("--json").stdout)
    (repository,) = hub.repositories.values()
    sent = hub.count("PUT", "/upload/")
    second = json.loads(publish("--json").stdout)

    assert len(repository.trees) == 2  # the Hub's own first commit, and ours
    assert first["commit"] == second["commit"] == repository.branches["main"]
    assert list(repository.tags.values()) == [first["commit"]]
    assert set(first["new"]) == set(second["unchanged"]) == set(repository.trees[first["commit"]]) - {".gitattributes"}
    assert second["new"] == {}
    assert hub.count("PUT", "/upload/") == sent == sum(name.endswith(".parquet") for name in first["new"])
    assert hub.count("POST", "/commit/") == 1


def test_strangers_load_it_by_the_line_of_the_card_and_get_the_campaigns_jets(hub, publish, client, campaign):
    publish()
    card = hub.contents[hub.repositories[KEY].trees[hub.repositories[KEY].branches["main"]]["README.md"].oid].decode()
    codes = re.findall(r"```python\n(.*?)```", card, re.DOTALL)

    assert len(codes) == 2
    assert f'load_dataset("{REPO}"' in codes[0]
    for code in codes:
        client(code, token=None)
    program = f"""
import hepfm, datasets, json
from hepfm.formats.hdf5 import content_digest
data = hepfm.open("{REPO}")
streamed = datasets.load_dataset("{REPO}", "quick-fsr-up", split="train", streaming=True)
narrow = datasets.load_dataset("{REPO}", "all", split="test", columns=["jet_pt"])
parts = [(v, s) for v in data.variations for s in ("train", "test")]
print(json.dumps([content_digest(data.read_table(variation=v, split=s)) for v, s in parts]
    + [len(list(streamed)), len(narrow), narrow.column_names]))
"""
    *digests, n_streamed, n_narrow, columns = json.loads(client(program, token=None).stdout)
    ours = hepfm.open(campaign)
    parts = [(v, s) for v in ours.variations for s in ("train", "test")]
    assert digests == [content_digest(ours.read_table(variation=v, split=s)) for v, s in parts]
    assert n_streamed == len(ours.read(["jet_pt"], variation="quick-fsr-up", split="train"))
    assert (n_narrow, columns) == (len(ours.read(["jet_pt"], split="test")), ["jet_pt"])


def test_files_are_fetched_when_they_are_needed_and_kept(hub, publish, client):
    publish()
    hub.log.clear()
    program = (
        f"import hepfm; d = hepfm.open('{REPO}'); print(d.read(['jet_pt'], variation='quick', split='test').jet_pt)"
    )
    first = client(program, token=None).stdout
    fetched = {path for method, path, _ in hub.log if method == "GET" and path.endswith(".parquet")}
    hub.log.clear()
    second = client(program, token=None).stdout
    offline = client(program, token=None, HF_HUB_OFFLINE="1").stdout

    assert len(fetched) == 1
    assert first == second == offline
    assert not any(path.endswith(".parquet") for _, path, _ in hub.log)


def test_version_stays_what_it_was(hub, publish, client):
    publish("--tag", "v1")
    publish("--tag", "v1")
    refused = publish("--tag", "v1", "--license", "mit", ok=False)
    publish("--tag", "v2", "--license", "mit")
    tags = hub.repositories[KEY].tags
    opened = client(f"import hepfm; print(*(len(hepfm.open('{REPO}', revision=r)) for r in ('v1', 'v2', None)))")
    wrong = client(f"import hepfm; hepfm.open('{REPO}', revision='v3')", ok=False)

    assert refused.returncode == 2
    assert "version 'v1' exists, of other files" in refused.stderr
    assert set(tags) == {"v1", "v2"}
    assert len(set(tags.values())) == 2
    assert len(set(opened.stdout.split())) == 1
    assert "has no such revision" in wrong.stderr.splitlines()[-1]


def test_dry_run_lists_what_would_be_sent_and_sends_nothing(hub, publish):
    answer = publish("--dry-run").stdout

    assert "data/quick/train-00000-of-00001.parquet" in answer
    assert re.search(r"\d+ files to send, \d+\.\d MB; 0 unchanged", answer)
    assert hub.repositories == {}


def test_damaged_campaign_is_not_published(hub, publish, campaign):
    shard = next(campaign.glob("shards/quick/*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1])
    refused = publish(ok=False)

    assert refused.returncode == 1
    assert shard.name in refused.stderr
    assert "--repair" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("token", "repo", "words", "status"),
    [
        (None, REPO, "hf auth login", 2),
        (EXPIRED, REPO, "hf auth login", 2),
        (READER, REPO, "may not write", 2),
        (WRITER, "someone/resim-jets", "may not write", 2),
        (WRITER, "resim jets", "expected OWNER/NAME", 2),
    ],
)
def test_who_may_not_write_gets_one_clear_line_without_the_token(client, campaign, token, repo, words, status):
    refused = client("hepfm-data", "publish", campaign, "--repo", repo, token=token, ok=False)

    assert refused.returncode == status, refused.stderr
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1
    for secret in (WRITER, READER, EXPIRED):
        assert secret not in refused.stdout + refused.stderr


@pytest.mark.parametrize("status", [None, 500])
def test_upload_that_breaks_is_finished_by_the_same_command(hub, publish, status):
    publish("--dry-run")
    hub.faults.append(Fault("POST", "/commit/", status, times=50))
    broken = publish(ok=False)
    sent = hub.count("PUT", "/upload/")
    hub.faults.clear()
    publish()

    assert broken.returncode == 1
    assert broken.stderr.strip().splitlines()[-1].startswith(f"hepfm-data: {REPO}: ")
    assert WRITER not in broken.stderr
    # What was stored before the accident is not sent again.
    assert hub.count("PUT", "/upload/") == sent > 0
    assert len(hub.repositories[KEY].trees) == 2


def test_short_accidents_are_not_noticed(hub, publish):
    hub.faults += [Fault("PUT", "/upload/", None), Fault("PUT", "/upload/", 500), Fault("POST", "objects/batch", 429)]
    publish()

    assert all(fault.times == 0 for fault in hub.faults)
    assert len(hub.repositories[KEY].tags) == 1


def test_unknown_and_private_datasets_and_a_hub_out_of_reach_are_one_clear_line(hub, publish, client):
    publish("--private")
    opened = f"import hepfm; print(len(hepfm.open('{REPO}')))"
    private = client(opened, token=None, ok=False).stderr.splitlines()[-1]
    unknown = client(opened.replace(REPO, "hepfm/nothing"), ok=False).stderr.splitlines()[-1]
    away = client(opened, ok=False, HF_HUB_OFFLINE="1", HF_HOME="elsewhere").stderr.splitlines()[-1]

    assert int(client(opened).stdout) > 0
    assert "no such dataset on the Hub, or it is private" in private
    assert "no such dataset on the Hub, or it is private" in unknown
    assert "cannot be reached" in away
