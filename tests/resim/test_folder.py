"""The campaign folder: extended with more variations, and kept to one process."""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import IO

import pytest

from hepfm import manifest
from hepfm.atomic import write_whole
from hepfm.cards.citations import citation
from hepfm.cards.facts import markdown, provenance_table, read_facts
from hepfm.errors import CampaignError, InputError
from hepfm.resim import Campaign, extend, plan, run
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import locked, prepare, withdraw
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


@pytest.mark.parametrize(
    ("part", "chunk_events"),
    [(13, 7), (40, 20), (41, 20), (1, 100)],
    ids=["in the middle of chunks", "between chunks", "one process ahead", "a process without events"],
)
def test_grown_campaign_equals_one_that_had_the_events_from_the_start(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, part: int, chunk_events: int
) -> None:
    whole = replace(small_campaign[0], chunk_events=chunk_events)
    run(whole, tmp_path / "whole", workers=1)
    run(replace(whole, n_events=part), tmp_path / "c", workers=1)
    before = digests(tmp_path / "c")
    run(extend(tmp_path / "c", n_events=whole.n_events), tmp_path / "c", workers=1)
    assert digests(tmp_path / "c") == digests(tmp_path / "whole")
    assert before.keys() < digests(tmp_path / "c").keys() or part == 1
    for name in ("campaign.toml", "manifest.json", "hard/QCD-000000.lhe.gz", "hard/Hbb-000000.lhe.gz"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ours, theirs = (
        {r.path: (r.chunk, r.n_events, r.n_jets, r.cross_sections) for r in manifest.read(tmp_path / name)}
        for name in ("c", "whole")
    )
    assert ours == theirs
    assert check_campaign(tmp_path / "c").problems == []


def test_growing_makes_only_those_shards_again_that_were_cut_short(small_campaign: tuple[Campaign, Path]) -> None:
    campaign = replace(small_campaign[0], n_events=4600, chunk_events=500)
    blocks, shards = campaign.outgrown(5002)
    assert blocks == ["hard/QCD-000002.lhe.gz", "hard/Hbb-000002.lhe.gz"]
    assert shards == [
        f"shards/{view}/{process}-000004.h5" for process in ("QCD", "Hbb") for view in ("quick", "quick-fsr-up")
    ]
    assert replace(campaign, n_events=4000).outgrown(4001) == ([], [])
    blocks, shards = replace(campaign, n_events=3400).outgrown(3401)
    assert blocks == ["hard/QCD-000001.lhe.gz"]
    # The first of them is whole, but its cross-section is of a block that is not.
    assert shards == [f"shards/{view}/QCD-00000{n}.h5" for n in (2, 3) for view in ("quick", "quick-fsr-up")]


def test_growth_that_was_killed_can_be_repeated_or_left(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, folder = small_campaign
    shutil.copytree(folder, tmp_path / "c")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hepfm.resim.folder.write_whole", _killed)
        extend(tmp_path / "c", n_events=80)
    assert manifest.read(tmp_path / "c") == []
    run(campaign, tmp_path / "c", workers=1)
    assert digests(tmp_path / "c") == digests(folder)


def test_campaign_does_not_shrink_and_says_how_it_grows(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = small_campaign
    shutil.copytree(folder, tmp_path / "c")
    with pytest.raises(InputError, match="expected more than its 60 events, got 59"):
        extend(tmp_path / "c", n_events=59)
    with pytest.raises(CampaignError, match=re.escape(f"`--extend {tmp_path / 'c'} --n-events 80`")):
        prepare(replace(campaign, n_events=80), tmp_path / "c")
    assert digests(tmp_path / "c") == digests(folder)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


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


def test_extension_without_views_can_be_taken_back_and_repeated(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    """Also by the command that made the campaign, where the extension was killed before it had taken it back."""
    campaign, folder = small_campaign
    copy = shutil.copytree(folder, tmp_path / "c")
    settings, header = ((copy / name).read_bytes() for name in ("campaign.toml", "manifest.json"))
    broken = Variation("broken", external="false {lhe} {hepmc}")
    for _ in range(2):
        larger = extend(copy, (broken,))
        assert extend(copy, (broken,)) == larger
        assert withdraw(copy, {"broken"}) == campaign
        extend(copy, (broken, EXTRA))
        run(campaign, copy, workers=1)
        assert ((copy / "campaign.toml").read_bytes(), (copy / "manifest.json").read_bytes()) == (settings, header)


def test_extension_with_views_is_not_taken_back(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = small_campaign
    part = replace(campaign, variations=campaign.variations[:1])
    copy = shutil.copytree(folder, tmp_path / "c")
    with pytest.raises(CampaignError, match="variations differ"):
        run(part, copy, workers=1)
    # A view's number is its place: what stands before it stays, too.
    assert withdraw(copy, {v.name for v in campaign.variations}) == campaign
    assert digests(copy) == digests(folder)


def test_refused_campaign_takes_nothing_back(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    """Though the last variation of the folder has no view yet, one before it has: the rest is not what is asked for."""
    campaign, folder = small_campaign
    copy = shutil.copytree(folder, tmp_path / "c")
    larger = extend(copy, (EXTRA,))
    before = [(copy / name).read_bytes() for name in ("campaign.toml", "manifest.json")]
    with pytest.raises(CampaignError, match="variations differ"):
        prepare(replace(campaign, variations=campaign.variations[:1]), copy)
    assert [(copy / name).read_bytes() for name in ("campaign.toml", "manifest.json")] == before
    prepare(larger, copy)


def test_extension_that_another_process_runs_is_not_taken_back(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    copy = shutil.copytree(folder, tmp_path / "c")
    larger = extend(copy, (EXTRA,))
    with locked(copy), pytest.raises(CampaignError, match="another process"):
        run(campaign, copy, workers=1)
    assert Campaign.from_toml(copy / "campaign.toml") == larger


def test_other_versions_are_noticed_and_both_are_kept(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    campaign, folder = small_campaign
    copy = shutil.copytree(folder, tmp_path / "c")
    now = manifest.read_header(copy)["versions"]
    header = (copy / manifest.HEADER).read_text(encoding="utf-8")
    older = header.replace(f'"pythia8mc": "{now["pythia8mc"]}"', '"pythia8mc": "8.1"')
    assert older != header
    (copy / manifest.HEADER).write_text(older, encoding="utf-8")
    run(campaign, copy, workers=1)
    assert (copy / manifest.HEADER).read_text(encoding="utf-8") == older, "nothing was made with other versions"
    for _ in range(2):
        extend(copy, (EXTRA,))
        assert manifest.read_header(copy)["versions"] == now | {"pythia8mc": f"8.1, {now['pythia8mc']}"}
        run(extend(copy, (EXTRA,)), copy, workers=1)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        f"the campaign was made with pythia8mc 8.1 until now and goes on with pythia8mc {now['pythia8mc']}: "
        "its shards may differ for that alone"
    ]
    facts = read_facts(copy)
    assert f"pythia8mc 8.1, {now['pythia8mc']}" in markdown(provenance_table(facts))
    assert f"made with hepfm {now['hepfm']}, campaign" in citation(facts, "me/jets")


def test_campaign_of_files_is_not_told_to_grow(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign = plan(4, "1", lhe=[small_campaign[1] / "hard" / "Hbb-000000.lhe.gz"])
    prepare(campaign, tmp_path / "c")
    with pytest.raises(CampaignError, match=r"n_events differ\. Choose another folder, or repeat that one"):
        prepare(replace(campaign, n_events=8), tmp_path / "c")


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
