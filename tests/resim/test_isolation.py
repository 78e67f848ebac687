"""Events that kill the generator: found, recorded and left out, and nothing else is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hepfm import manifest
from hepfm.errors import CampaignError, InputError
from hepfm.formats.hdf5 import read_shard
from hepfm.resim import Campaign, isolation, plan, run
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import prepare
from hepfm.resim.frozen import hard_events
from hepfm.resim.hard import read_block, write_block
from hepfm.resim.isolation import run_isolated
from hepfm.summary import summarise

# Pythia 8.317 looks for the antiparticle of this id, which no 32-bit integer can hold, and ends in a segmentation
# fault.
KILLER = -(2**31)


def poison(campaign: Campaign, folder: Path, *rows: int) -> list[int]:
    """Freeze the events of a campaign, some of them such that they kill Pythia; gives the ids of these."""
    hard_events(campaign, folder, 0, 0, 1)
    path = folder / campaign.block_path(0, 0)
    events = read_block(path)
    pdg_id = events.pdg_id.copy()
    pdg_id[events.offsets[list(rows)] + 2] = KILLER
    write_block(path, replace(events, pdg_id=pdg_id))
    return events.event_id[list(rows)].tolist()


@pytest.fixture(scope="module")
def campaign(quick_variations: str) -> Campaign:
    both = plan(8, quick_variations, "Hbb", seed=7, chunk_events=4)
    return replace(both, variations=both.variations[:1])


def test_event_that_kills_its_worker_is_recorded_and_skipped(campaign: Campaign, tmp_path: Path) -> None:
    sound = {r.path: r for r in run(campaign, tmp_path / "sound", workers=2)}
    prepare(campaign, tmp_path / "c")
    [killer] = poison(campaign, tmp_path / "c", 6)
    records = run(campaign, tmp_path / "c", workers=2)
    assert len(records) == campaign.n_shards
    for record in records:
        ours, theirs = (read_shard(tmp_path / folder / record.path) for folder in ("c", "sound"))
        if "000001" in record.path:
            assert record.crashed == [killer]
            assert record.n_missing == sound[record.path].n_missing + 1
            theirs = theirs.select(theirs.columns["event_id"] != killer)
            assert ours.columns["jet_pt"].tolist() == theirs.columns["jet_pt"].tolist()
        else:
            assert record.crashed == []
            assert record.sha256 == sound[record.path].sha256
    assert manifest.read(tmp_path / "c") == records
    assert {v["n_crashed"] for v in summarise(records, ["quick"])["variations"].values()} == {1}
    assert check_campaign(tmp_path / "c").problems == []


def test_several_events_that_kill_are_all_found(campaign: Campaign, tmp_path: Path) -> None:
    prepare(campaign, tmp_path)
    killers = poison(campaign, tmp_path, 0, 1)
    task = next(iter(campaign.tasks()))
    records = run_isolated(campaign, str(tmp_path), task)
    assert [r.crashed for r in records] == [killers] * len(task.views)
    assert set(read_shard(tmp_path / records[0].path).columns["event_id"]) <= set(range(4)) - set(killers)


def test_variation_that_kills_too_often_is_one_clear_error(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_MAX_CRASHES", 0)
    one_by_one = replace(campaign, chunk_events=1)
    prepare(one_by_one, tmp_path)
    poison(one_by_one, tmp_path, 0)
    with pytest.raises(CampaignError, match="more than 0 events of one chunk kill the generator, such as event 0"):
        run_isolated(one_by_one, str(tmp_path), next(iter(one_by_one.tasks())))


def test_isolated_task_gives_the_bytes_of_any_other(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = small_campaign
    prepare(campaign, tmp_path / "c")
    task = next(iter(campaign.tasks()))
    [record] = run_isolated(campaign, str(tmp_path / "c"), task)
    expected = {r.path: r.sha256 for r in manifest.read(folder)}
    assert record.sha256 == expected[record.path]


def test_what_a_library_prints_is_no_part_of_the_answer(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, _ = small_campaign
    prepare(campaign, tmp_path / "c")
    noise = 'import atexit, os\nos.write(1, b"early")\natexit.register(os.write, 1, b"late")\n'
    (tmp_path / "sitecustomize.py").write_text(noise)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert len(run_isolated(campaign, str(tmp_path / "c"), next(iter(campaign.tasks())))) == 1


def test_fault_of_the_program_is_blamed_on_no_event(campaign: Campaign, tmp_path: Path) -> None:
    prepare(campaign, tmp_path)
    task = next(iter(campaign.tasks()))
    with pytest.raises(RuntimeError, match=r"Traceback[\s\S]*IndexError"):
        run_isolated(campaign, str(tmp_path), replace(task, views=(7,)))


def test_error_of_an_isolated_task_is_that_of_the_task(campaign: Campaign, tmp_path: Path) -> None:
    prepare(campaign, tmp_path)
    path = tmp_path / campaign.block_path(0, 0)
    path.parent.mkdir()
    path.write_bytes(b"no frozen events")
    with pytest.raises(InputError, match="not a Les Houches event file"):
        run_isolated(campaign, str(tmp_path), next(iter(campaign.tasks())))
    assert np.array_equal(sorted(p.name for p in path.parent.iterdir()), [path.name])
