"""What is damaged is found, named and made again; the rest is left alone."""

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hepfm import manifest
from hepfm.errors import CampaignError, InputError
from hepfm.resim import Campaign, run
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import locked
from hepfm.resim.repair import repair


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE: dict[str, Callable[[Path], None]] = {"flipped": flip, "truncated": cut, "gone": Path.unlink}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for pattern in ("shards/*/*.h5", "hard/*.lhe.gz")
        for p in folder.glob(pattern)
    }


@pytest.fixture
def copy(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> tuple[Campaign, Path]:
    campaign, folder = small_campaign
    return campaign, shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("path", ["shards/quick/QCD-000001.h5", "hard/Hbb-000000.lhe.gz"])
def test_damaged_file_is_named_and_made_again_to_the_same_bytes(
    copy: tuple[Campaign, Path], how: str, path: str
) -> None:
    campaign, folder = copy
    before = digests(folder)
    records = sorted(manifest.read(folder), key=lambda r: r.path)
    DAMAGE[how](folder / path)
    assert any(problem.startswith(path) for problem in check_campaign(folder).problems)
    again, damaged = repair(folder)
    assert again == campaign
    assert damaged == [path]
    with ThreadPoolExecutor(1) as executor:
        run(again, folder, executor, workers=1)
    assert digests(folder) == before
    assert [r.sha256 for r in sorted(manifest.read(folder), key=lambda r: r.path)] == [r.sha256 for r in records]
    assert check_campaign(folder).problems == []


def test_sound_campaign_needs_no_repair(copy: tuple[Campaign, Path]) -> None:
    _, folder = copy
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert repair(folder)[1] == []
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_unfinished_campaign_is_repaired_as_far_as_it_goes(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    before = digests(folder)
    manifest.forget(folder, ["shards/quick/QCD-000000.h5"])
    flip(folder / "shards/quick/Hbb-000001.h5")
    assert repair(folder)[1] == ["shards/quick/Hbb-000001.h5"]
    with ThreadPoolExecutor(1) as executor:
        run(campaign, folder, executor, workers=1)
    assert digests(folder) == before


def test_campaign_that_runs_is_not_repaired(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    flip(folder / "shards/quick/QCD-000001.h5")
    with locked(folder), pytest.raises(CampaignError, match="another process is running"):
        repair(folder)
    assert len(manifest.read(folder)) == campaign.n_shards


def test_folder_that_is_no_campaign_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises((InputError, CampaignError), match=str(tmp_path)) as raised:
        repair(tmp_path)
    assert "\n" not in str(raised.value)
