"""Accidents while a campaign is published: short ones are not noticed, lasting ones end in one line and go on later."""

from conftest import REPO
from server import SECRETS, WRITER, Fault

KEY = ("datasets", REPO)

# Accidents that last, by the name of the dataset that they happen to; what is said of each.
LASTING = {
    "hepfm/cut": (Fault("POST", "hepfm/cut/commit", times=50), "StorageError", "cannot be reached"),
    "hepfm/500": (Fault("POST", "hepfm/500/commit", 500, times=50), "StorageError", "answers with an error (500)"),
    "hepfm/429": (Fault("POST", "hepfm/429/commit", 429, times=50), "StorageError", "asks to slow down"),
    "hepfm/412": (Fault("POST", "hepfm/412/commit", 412, times=50), "StorageError", "somebody else has changed it"),
    "hepfm/400": (Fault("POST", "hepfm/400/commit", 400, times=50), "InputError", "refuses what was sent: an accident"),
    "hepfm/expired": (Fault("POST", "hepfm/expired/commit", expires=WRITER), "InputError", "hf auth login"),
}


def test_short_accidents_are_not_noticed(hub, client, campaign):
    hub.faults += [
        Fault("PUT", "/storage/", after=1000),  # cut when a kilobyte of the file has come
        Fault("PUT", "/storage/"),
        Fault("PUT", "/storage/", 500),
        Fault("PUT", "/storage/", 429, headers={"Retry-After": "0"}),
        Fault("POST", "objects/batch", 429, headers={"Retry-After": "0"}),
    ]
    done = client("hepfm-data", "publish", campaign, "--out", "staged", "--repo", REPO)

    assert all(fault.times == 0 for fault in hub.faults)
    assert len(hub.repositories[KEY].tags) == 1
    files = {entry.sha256 for entry in hub.repositories[KEY].tree().values() if entry.sha256}
    assert files == set(hub.storage.sizes)
    # The client says that it tries again, and where, but not with which signature.
    assert "/storage/" in done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)


def test_accidents_that_last_are_one_clear_line_and_the_same_call_finishes(hub, client, campaign):
    hub.faults += [fault for fault, _, _ in LASTING.values()]
    broken = client.publish(campaign, [(WRITER, name) for name in LASTING])
    sent = hub.count("PUT", "/storage/")
    for name, (error, message) in zip(LASTING, broken, strict=True):
        assert error == LASTING[name][1]
        assert message.startswith(f"{name}: ")
        assert LASTING[name][2] in message
        assert "\n" not in message
        assert not any(secret in message for secret in SECRETS)
    assert all(len(repository.trees) == 1 for repository in hub.repositories.values())

    hub.faults.clear()
    hub.tokens["hf_new"] = ("hepfm", "write")
    again = client.publish(campaign, [("hf_new", name) for name in LASTING])

    assert set(again) == {("done", "")}
    # What was stored before the accident is not sent again.
    assert hub.count("PUT", "/storage/") == sent > 0
    assert all(len(repository.trees) == 2 for repository in hub.repositories.values())


def test_command_that_an_accident_ends_says_so_in_its_last_line(hub, client, campaign):
    hub.faults.append(Fault("POST", "/commit/", 500, times=50))
    broken = client("hepfm-data", "publish", campaign, "--out", "staged", "--repo", REPO, ok=False)

    assert broken.returncode == 1
    assert broken.stderr.strip().splitlines()[-1].startswith(f"hepfm-data: {REPO}: ")


def test_nothing_that_is_published_or_logged_has_a_token_in_it(published):
    contents = [
        *published.hub.storage.contents.values(),
        *(content for repository in published.hub.repositories.values() for content in repository.contents.values()),
    ]
    addresses = [path for _, path, _ in published.hub.log]
    titles = published.hub.repositories[KEY].titles.values()

    assert len(contents) > 8
    for secret in SECRETS:
        assert not any(secret.encode() in content for content in contents)
        assert not any(secret in text for text in (*addresses, *titles))
