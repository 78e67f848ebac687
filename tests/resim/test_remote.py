"""A campaign in an object store is the same campaign."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import hepfm
from hepfm import manifest
from hepfm.atomic import exists, location, names
from hepfm.errors import CampaignError
from hepfm.resim import Campaign, extend, lease, run
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import locked
from hepfm.resim.repair import repair


def digests(folder: Path | str) -> dict[str, str]:
    return {record.path: record.sha256 for record in manifest.read(folder)}


@pytest.fixture
def remote(small_campaign: tuple[Campaign, Path], bucket: str) -> str:
    """The small campaign, copied into a bucket."""
    url = f"{bucket}/campaign"
    location(url).fs.put(f"{small_campaign[1]}/", f"{url}/", recursive=True)
    return url


@pytest.mark.parametrize("own_threads", [True, False], ids=["threads", "processes"])
def test_campaign_in_a_store_has_the_same_shards(
    small_campaign: tuple[Campaign, Path], bucket: str, own_threads: bool
) -> None:
    campaign, folder = small_campaign
    url = f"{bucket}/jets/small"
    if own_threads:
        with ThreadPoolExecutor(2) as executor:
            run(campaign, url, executor, workers=2)
    else:
        run(campaign, url, workers=2)
    assert digests(url) == digests(folder)
    assert names(location(url)) == ["campaign.toml", "hard", "manifest.json", "shards", "shards-000001.jsonl"]
    assert check_campaign(url).problems == []
    ours, theirs = hepfm.open(location(url)), hepfm.open(folder)
    assert len(ours) == len(theirs)
    columns = ["event_id", "part_px"]
    assert ours.read(columns, split="train").tolist() == theirs.read(columns, split="train").tolist()
    assert hepfm.open(ours.files[0].path).jets.jet_pt.tolist() == theirs[: ours.files[0].n_jets].jet_pt.tolist()


def test_campaign_goes_on_in_new_segments_and_can_be_extended(
    small_campaign: tuple[Campaign, Path], bucket: str
) -> None:
    whole, folder = small_campaign
    url = f"{bucket}/campaign"
    part = replace(whole, variations=whole.variations[:1])
    with ThreadPoolExecutor(1) as executor:
        run(part, url, executor, workers=1)
        larger = extend(url, whole.variations[1:])
        run(larger, url, executor, workers=1)
    assert larger == whole
    assert digests(url) == digests(folder)
    assert names(location(url), "*.jsonl") == ["shards-000001.jsonl", "shards-000002.jsonl"]


def test_campaign_copied_from_a_store_goes_on_locally(
    small_campaign: tuple[Campaign, Path], bucket: str, tmp_path: Path
) -> None:
    whole, folder = small_campaign
    url = f"{bucket}/campaign"
    with ThreadPoolExecutor(1) as executor:
        run(replace(whole, variations=whole.variations[:1]), url, executor, workers=1)
        location(url).fs.get(url, str(tmp_path / "copy"), recursive=True)
        run(extend(tmp_path / "copy", whole.variations[1:]), tmp_path / "copy", executor, workers=1)
    assert digests(tmp_path / "copy") == digests(folder)
    assert sorted(p.name for p in (tmp_path / "copy").glob("*.jsonl")) == ["shards-000001.jsonl", "shards.jsonl"]


def test_damaged_and_missing_files_of_a_store_are_repaired(small_campaign: tuple[Campaign, Path], remote: str) -> None:
    campaign, folder = small_campaign
    place = location(remote)
    gone, damaged, block = "shards/quick/QCD-000000.h5", "shards/quick/Hbb-000001.h5", "hard/QCD-000000.lhe.gz"
    (place / gone).unlink()
    (place / damaged).write_bytes((place / damaged).read_bytes()[:-1])
    (place / block).write_bytes((place / block).read_bytes()[:-100])
    findings = check_campaign(remote)
    assert set(findings.damaged_shards) == {gone, damaged}
    assert findings.damaged_blocks == [block]
    repair(remote)
    assert digests(folder).keys() - digests(remote).keys() == {gone, damaged}
    with ThreadPoolExecutor(1) as executor:
        run(campaign, remote, executor, workers=1)
    assert digests(remote) == digests(folder)
    assert check_campaign(remote).problems == []


def test_bucket_that_holds_something_else_is_refused(small_campaign: tuple[Campaign, Path], bucket: str) -> None:
    (location(bucket) / "thesis" / "chapter1.tex").write_bytes(b"precious")
    with pytest.raises(CampaignError, match="is not a campaign folder"):
        run(small_campaign[0], f"{bucket}/thesis", workers=1)


# The lock of an object store; a renewal every 0.2 s instead of every 5 s.


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWAL", 0.2)


def test_second_process_is_refused_while_the_first_runs(
    small_campaign: tuple[Campaign, Path], remote: str, quickly: None
) -> None:
    campaign, _ = small_campaign
    with locked(location(remote)), pytest.raises(CampaignError, match="another process is running"):
        run(campaign, remote, workers=1)
    assert "running.json" not in names(location(remote))
    run(campaign, remote, workers=1)


def test_lock_of_a_killed_process_is_taken_over(remote: str, quickly: None) -> None:
    code = (
        "import sys; from hepfm.atomic import location; from hepfm.resim import folder, lease\n"
        "lease.RENEWAL = 0.2\n"
        "with folder.locked(location(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, remote], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "locked\n"
        with pytest.raises(CampaignError, match="another process"), locked(location(remote)):
            pass
        os.kill(owner.pid, signal.SIGKILL)
    assert exists(location(remote) / "running.json")
    with locked(location(remote)):
        pass
    assert not exists(location(remote) / "running.json")


def test_of_many_that_want_a_dead_lock_one_has_it(bucket: str, quickly: None) -> None:
    path = location(f"{bucket}/running.json")
    path.write_bytes(b'{"owner": "dead"}')
    held, refused, all_tried = [], [], threading.Barrier(4)

    def want() -> None:
        try:
            with lease.lease(path):
                held.append(1)
                all_tried.wait(60)
        except BlockingIOError:
            refused.append(1)
            all_tried.wait(60)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(want)
    assert (len(held), len(refused)) == (1, 3)


def test_owner_that_lost_its_lock_leaves_the_new_one_alone(bucket: str, quickly: None) -> None:
    path = location(f"{bucket}/running.json")
    with lease.lease(path):
        path.write_bytes(b'{"owner": "another"}')
    assert path.read_bytes() == b'{"owner": "another"}'
