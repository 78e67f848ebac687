"""The campaign folder: extended with more variations, and kept to one process."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import IO

import pytest

from hepfm import manifest
from hepfm.atomic import write_whole
from hepfm.errors import CampaignError, InputError
from hepfm.resim import Campaign, extend, run
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import locked, prepare
from hepfm.resim.variations import Variation

EXTRA = Variation("extra", ("PartonLevel:MPI = off", "PartonLevel:ISR = off"))


def digests(folder: Path) -> dict[str, str]:
    return {record.path: record.sha256 for record in manifest.read(folder)}


def test_extended_campaign_equals_one_that_had_the_variations_from_the_start(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    whole, folder = small_campaign
    part = replace(whole, variations=whole.variations[:1])
    run(part, tmp_path / "c", workers=1)
    larger = extend(tmp_path / "c", whole.variations[1:])
    run(larger, tmp_path / "c", workers=1)
    assert larger == whole
    assert digests(tmp_path / "c") == digests(folder)
    for name in ("campaign.toml", "manifest.json"):
        assert (tmp_path / "c" / name).read_bytes() == (folder / name).read_bytes()
    assert check_campaign(tmp_path / "c").problems == []


def test_extending_twice_is_extending_once(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign = replace(small_campaign[0], variations=(EXTRA,))
    run(campaign, tmp_path / "c", workers=1)
    assert extend(tmp_path / "c", (EXTRA,)) == campaign
    assert run(campaign, tmp_path / "c", workers=1) == manifest.read(tmp_path / "c")


@pytest.mark.parametrize(
    ("variation", "error", "words"),
    [
        (replace(EXTRA, settings=()), CampaignError, "other settings"),
        (Variation("wrong", ("PartonLevel:MPPI = off",)), InputError, "Did you mean 'PartonLevel:MPI'"),
    ],
)
def test_extension_that_cannot_be_leaves_the_campaign_as_it_was(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, variation: Variation, error: type[Exception], words: str
) -> None:
    campaign = replace(small_campaign[0], variations=(EXTRA,))
    run(campaign, tmp_path / "c", workers=1)
    with pytest.raises(error, match=words):
        extend(tmp_path / "c", (variation,))
    assert Campaign.from_toml(tmp_path / "c" / "campaign.toml").digest == campaign.digest


def test_only_a_campaign_can_be_extended(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="not a campaign folder"):
        extend(tmp_path, (EXTRA,))


def test_second_process_is_refused_while_the_first_runs(small_campaign: tuple[Campaign, Path]) -> None:
    campaign, folder = small_campaign
    with locked(folder), pytest.raises(CampaignError, match="another process"):
        run(campaign, folder, workers=1)
    run(campaign, folder, workers=1)


def test_of_processes_that_begin_at_once_one_has_the_folder(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    """Also if they want different campaigns, and each has looked at the folder before the other wrote."""
    campaign, _ = small_campaign
    for trial in range(20):
        folder, wanted = tmp_path / str(trial), [replace(campaign, seed=seed) for seed in (1, 2, 1, 2)]
        begin, end = Barrier(len(wanted)), Barrier(len(wanted))

        def hold(mine: Campaign, folder: Path = folder, begin: Barrier = begin, end: Barrier = end) -> bool:
            begin.wait()
            try:
                prepare(mine, folder)
                with locked(folder):
                    end.wait()
                    return Campaign.from_toml(folder / "campaign.toml") == mine
            except CampaignError:
                end.wait()
                return False

        with ThreadPoolExecutor(len(wanted)) as threads:
            assert sum(threads.map(hold, wanted)) == 1


def test_a_lock_of_a_file_that_was_replaced_keeps_nobody_out_and_is_not_taken(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, _ = small_campaign
    prepare(campaign, tmp_path)
    opened = []

    def lock_late(file: IO[str], how: int) -> None:
        if not opened:  # somebody extends the campaign in between
            write_whole(tmp_path / "campaign.toml", campaign.to_toml().encode())
        opened.append(os.fstat(file.fileno()).st_ino)

    monkeypatch.setattr("fcntl.flock", lock_late)
    with locked(tmp_path):
        assert opened[-1] == (tmp_path / "campaign.toml").stat().st_ino
    assert len(opened) == 2


def test_what_killed_processes_left_half_written_is_gone_at_the_end(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    copy = shutil.copytree(folder, tmp_path / "c")
    shard = next(copy.glob("shards/quick/*.h5"))
    lines = (copy / manifest.SHARDS).read_text().splitlines()
    (copy / manifest.SHARDS).write_text("".join(f"{line}\n" for line in lines if shard.name not in line))
    left = shard.with_name(f".{shard.name}.0123456789abcdef.tmp")
    left.write_bytes(b"half")
    with ThreadPoolExecutor(1) as executor:
        run(campaign, copy, executor, workers=1)
    assert not left.exists()
    assert len(list(copy.glob("shards/*/*.h5"))) == campaign.n_shards
