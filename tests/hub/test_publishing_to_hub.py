"""Publish a campaign to the Hub on loopback by the command line: what arrives there, and what is sent again."""

import json
import re

import pytest
from conftest import REPO
from repositories import Repository
from server import EXPIRED, READER, SECRETS, WRITER

KEY = ("datasets", REPO)


@pytest.fixture
def publish(client, campaign):
    def run(*options, repo=REPO, **more):
        return client("hepfm-data", "publish", campaign, "--out", "staged", "--repo", repo, *options, **more)

    return run


def test_published_campaign_is_one_commit_with_a_version_and_a_second_run_sends_nothing(hub, publish):
    hub.page = 3  # of the files that the Hub lists at once
    first = json.loads(publish("--json").stdout)
    (repository,) = hub.repositories.values()
    sent = hub.count("PUT", "/storage/")
    second = json.loads(publish("--json").stdout)

    assert len(repository.trees) == 2  # the Hub's own first commit, and ours
    assert first["commit"] == second["commit"] == repository.branches["main"]
    assert list(repository.tags.values()) == [first["commit"]]
    assert set(first["new"]) == set(second["unchanged"]) == set(repository.tree()) - {".gitattributes"}
    assert second["new"] == {}
    assert hub.count("PUT", "/storage/") == sent == sum(name.endswith((".parquet", ".png")) for name in first["new"])
    assert hub.count("POST", "/commit/") == 1


def test_version_stays_what_it_was(published, small_campaign):
    ways = [{"tag": "v2"}, {"tag": "v1", "license": "cc0-1.0"}]
    n_commits = published.hub.count("POST", "/commit/")
    again, refused = published.publish(small_campaign[1], [(WRITER, {"repo": REPO, **how}) for how in ways])
    tags = dict(published.hub.repositories[KEY].tags)
    n_refused = published.hub.count("POST", "/commit/")
    ways = [{"license": license} for license in ("cc0-1.0", "cc-by-4.0", "cc0-1.0")]
    published.publish(small_campaign[1], [(WRITER, {"repo": REPO, **how}) for how in ways])

    assert again == ("done", "")
    assert refused[0] == "InputError"
    assert "version 'v1' exists, of other files" in refused[1]
    assert (set(tags), len(set(tags.values()))) == ({"v1", "v2"}, 2)
    assert n_refused == n_commits
    # Without a name, another licence is another version, and the old one can come back.
    assert len(published.hub.repositories[KEY].tags) == len(tags) + 2
    assert published.hub.count("POST", "/commit/") == n_commits + 3


def test_dry_run_lists_what_would_be_sent_and_sends_nothing(hub, publish):
    answer = publish("--dry-run").stdout

    assert "data/quick/train-00000-of-00001.parquet" in answer
    assert re.search(r"\d+ files to send, \d+\.\d MB; 0 unchanged", answer)
    assert hub.repositories == {}


def test_files_of_somebody_else_are_never_deleted(hub, client, publish):
    (client.folder / "theirs").mkdir()
    for name in ("README.md", "thesis.csv", "weights.safetensors"):
        (client.folder / "theirs" / name).write_text("mine")
    client("hf", "upload", REPO, "theirs", ".", "--repo-type", "dataset")
    repository = hub.repositories[KEY]
    before = repository.tree()
    for options in ((), ("--dry-run",)):
        refused = publish(*options, ok=False)
        assert refused.stderr.splitlines()[-1] == (
            f"hepfm-data: {REPO}: holds thesis.csv and 1 more files, which hepfm did not publish, and would delete. "
            "Choose another name."
        )
    assert repository.tree() == before


def test_what_a_new_state_lacks_is_deleted_and_that_is_said(published, small_campaign):
    (published.folder / "extra").mkdir()
    (published.folder / "extra" / "notes.csv").write_text("mine")
    published("hf", "upload", REPO, "extra", ".", "--repo-type", "dataset")
    command = ("hepfm-data", "publish", small_campaign[1], "--repo", REPO, "--out", "staged")
    planned, done = published(*command, "--dry-run").stdout, published(*command).stdout

    assert "    to delete  notes.csv" in planned.splitlines()
    assert "      deleted  notes.csv" in done.splitlines()
    assert "notes.csv" not in published.hub.repositories[KEY].tree()


def test_what_is_public_is_not_published_as_private(hub, client, publish, campaign):
    private = {"private": True, "license": "cc0-1.0"}
    made, refused = client.publish(campaign, [(WRITER, REPO), (WRITER, {"repo": REPO, **private})])
    n_commits = hub.count("POST", "/commit/")
    secret = publish("--private", repo="hepfm/secret")

    assert made == ("done", "")
    assert refused[0] == "InputError" and "exists, and is public" in refused[1]
    assert (n_commits, hub.count("POST", "/commit/")) == (1, 2)
    assert hub.repositories["datasets", "hepfm/secret"].private and "hepfm/secret" in secret.stdout


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_damaged_campaign_is_not_published(hub, publish, campaign, options):
    shard = next(campaign.glob("shards/quick/*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1])
    refused = publish(*options, ok=False)

    assert refused.returncode == 1
    assert shard.name in refused.stderr
    assert "--repair" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("token", "options", "words"),
    [
        (None, (), "hf auth login"),
        (WRITER, ("--license", "my own"), 'does not accept the card: "license" must be one of'),
    ],
)
def test_refused_command_is_one_clear_line(hub, publish, token, options, words):
    refused = publish(*options, token=token, ok=False)

    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith(f"hepfm-data: {REPO}: ")
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert hub.storage.sizes == {}


def test_what_may_not_be_written_is_one_clear_line_without_the_token(hub, client, campaign):
    for name in ("public", "private"):
        hub.repositories["datasets", f"someone/{name}"] = Repository("someone", private=name == "private")
    expected = {
        (EXPIRED, REPO): "hf auth login",
        (READER, REPO): "may not write",
        (WRITER, "resim jets"): "expected OWNER/NAME",
        # Names that are taken: by nobody yet, by somebody's public and by somebody's private dataset.
        (WRITER, "someone/new"): "may not write",
        (WRITER, "someone/public"): "may not write",
        (WRITER, "someone/private"): "may not write",
    }
    answers = client.publish(campaign, expected)

    for ((_, repo), words), (error, message) in zip(expected.items(), answers, strict=True):
        assert error == "InputError"
        assert message.startswith(f"{repo}: ")
        assert words in message
        assert "\n" not in message
        assert not any(secret in message for secret in SECRETS)
    assert hub.storage.sizes == {}
    assert all(len(repository.trees) == 1 for repository in hub.repositories.values())
