"""Running a campaign: always the same result, whatever happens on the way."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest

from hepfm import manifest
from hepfm.errors import CampaignError, HepfmError, InputError
from hepfm.formats.hdf5 import read_attributes, read_shard
from hepfm.manifest import ShardRecord
from hepfm.resim import Campaign, plan, run
from hepfm.resim.campaign import Task
from hepfm.resim.check import check_campaign
from hepfm.resim.folder import CAMPAIGN_FILE
from hepfm.resim.frozen import hard_events
from hepfm.resim.hard import EVENT_COLUMNS, PARTICLE_COLUMNS, read_block, write_block
from hepfm.resim.repair import repair
from hepfm.resim.run import Progress
from hepfm.resim.views import simulate_views
from hepfm.schema import COLUMNS, JET_CLASSES
from hepfm.summary import summarise
from hepfm.table import JetTable


def run_here(campaign: Campaign, folder: Path, report: Callable[[Progress], None] | None = None) -> list[ShardRecord]:
    """Run in this process, which starts at once."""
    with ThreadPoolExecutor(1) as executor:
        return run(campaign, folder, executor, workers=1, report=report)


def contents(folder: Path) -> JetTable:
    """All jets of a campaign, whatever its shards, in the order of event, view and jet."""
    table = JetTable.concatenate([read_shard(path) for path in sorted(folder.glob("shards/*/*.h5"))])
    return table.select(np.lexsort([table.columns[name] for name in ("jet_index", "view", "event_id")]))


def assert_identical(first: JetTable, second: JetTable) -> None:
    assert first.n_jets == second.n_jets > 0
    np.testing.assert_array_equal(first.offsets, second.offsets)
    for ours, theirs in ((first.columns, second.columns), (first.constituents, second.constituents)):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name].tolist() == theirs[name].tolist(), name


def shard_paths(campaign: Campaign) -> list[str]:
    """The paths of all shards, by chunk and view."""
    return [campaign.shard_path(chunk, view) for chunk in campaign.chunks() for view in range(len(campaign.variations))]


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every shard and every block of frozen events."""
    paths = [*folder.glob("shards/*/*.h5"), *folder.glob("hard/*.lhe.gz")]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def forget(folder: Path, shard: str) -> None:
    """Delete a shard and its record."""
    (folder / shard).unlink()
    path = folder / manifest.SHARDS
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["path"] != shard), encoding="utf-8")


@pytest.fixture
def copy(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> tuple[Campaign, Path]:
    """The small campaign in a folder of one's own."""
    campaign, folder = small_campaign
    return campaign, shutil.copytree(folder, tmp_path / "copy")


# What a campaign leaves.


def test_finished_campaign_has_every_shard_recorded_as_it_is(small_campaign: tuple[Campaign, Path]) -> None:
    campaign, folder = small_campaign
    records = manifest.read(folder)
    assert {r.path for r in records} == set(shard_paths(campaign))
    on_disk = digests(folder)
    for record in records:
        assert record.sha256 == on_disk[record.path]
        assert record.n_bytes == (folder / record.path).stat().st_size
        table = read_shard(folder / record.path)
        assert record.n_jets == table.n_jets
        assert set(table.columns["variation"]) == {record.variation}
        assert set(table.columns["process"]) == {record.process}
        with_jet = len(np.unique(table.columns["event_id"]))
        assert with_jet + record.n_without_jet + record.n_missing == record.n_events
        assert record.n_missing == len(record.missing)
        value, error, n_events = record.cross_sections[f"{record.process}-000000"]
        assert 0 < error < value
        assert n_events == record.n_events
        assert {"start", "shower", "detector", "jets", "labels", "write", "freeze"} <= record.seconds.keys()


def test_records_say_how_many_of_their_events_each_cross_section_covers(tmp_path: Path, quick_variations: str) -> None:
    campaign = plan(1002, quick_variations, "QCD", chunk_events=700, detector="none")
    records = run_here(replace(campaign, variations=campaign.variations[:1]), tmp_path / "c")
    sections = [read_block(tmp_path / "c" / campaign.block_path(0, block)).cross_section for block in (0, 1)]
    [(large, _), (small, _)] = [(s.value, s.error) for s in sections]
    covered = [{name: n for name, (_, _, n) in r.cross_sections.items()} for r in sorted(records, key=lambda r: r.path)]
    assert covered == [{"QCD-000000": 700}, {"QCD-000000": 300, "QCD-000001": 2}]
    found = summarise(records, ["quick"])["processes"]["QCD"]
    assert found["cross_section"] == pytest.approx((1000 * large + 2 * small) / 1002)


def test_a_files_cross_section_covers_all_events_of_a_chunk(
    shared: Path, tmp_path: Path, quick_variations: str
) -> None:
    campaign = plan(10, quick_variations, lhe=[shared / "data" / "pythia6_ttbar.lhe"], chunk_events=6, detector="none")
    records = run_here(campaign, tmp_path / "c")
    assert {(r.n_events, r.cross_sections["pythia6_ttbar"][2]) for r in records} == {(6, 6), (4, 4)}


def test_folder_holds_what_the_design_says_and_no_temporary_file(small_campaign: tuple[Campaign, Path]) -> None:
    campaign, folder = small_campaign
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {
        "campaign.toml",
        "manifest.json",
        "shards.jsonl",
        "hard/QCD-000000.lhe.gz",
        "hard/Hbb-000000.lhe.gz",
        *shard_paths(campaign),
    }
    header = manifest.read_header(folder)
    assert header["digest"] == campaign.digest
    assert header["n_events"] == 60
    assert header["variations"] == ["quick", "quick-fsr-up"]
    assert {"pythia8mc", "fastjet", "hepfm", "numpy", "python"} <= header["versions"].keys()


def test_shards_hold_every_column_and_say_where_they_come_from(small_campaign: tuple[Campaign, Path]) -> None:
    campaign, folder = small_campaign
    table = contents(folder)
    table.validate(complete=True)
    assert {*table.columns, *table.constituents} == set(COLUMNS)
    for view, path in enumerate(shard_paths(campaign)[: len(campaign.variations)]):
        attributes = read_attributes(folder / path)
        assert attributes["frozen_events"] == campaign.frozen_digest
        assert attributes["settings"] == list(campaign.variations[view].settings)
        assert attributes["detector"] == "cms"


def test_jets_are_those_of_the_selection_and_of_their_class(small_campaign: tuple[Campaign, Path]) -> None:
    campaign, folder = small_campaign
    columns = contents(folder).columns
    assert (columns["jet_pt"] >= campaign.selection.pt_min).all()
    assert (np.abs(columns["jet_eta"]) <= campaign.selection.abs_eta_max).all()
    for name in ("QCD", "Hbb"):
        of_process = columns["process"] == name
        assert of_process.sum() > 20
        assert set(columns["jet_label"][of_process]) == {JET_CLASSES.index(name)}
    assert (columns["weight"] == 1.0).all()
    assert (columns["truth_pdg_id"][columns["process"] == "Hbb"] == 25).all()
    higgs = (columns["process"] == "Hbb") & (columns["variation"] == "quick")
    assert abs(np.median(columns["jet_sdmass"][higgs]) - 125) < 15


def test_views_of_an_event_share_the_frozen_particle_and_differ_in_the_jet(
    small_campaign: tuple[Campaign, Path],
) -> None:
    table = contents(small_campaign[1])
    columns = table.columns
    keys = columns["event_id"] * 100 + columns["jet_index"]
    first, second = (np.flatnonzero(columns["view"] == view) for view in (0, 1))
    common, a, b = np.intersect1d(keys[first], keys[second], return_indices=True)
    assert len(common) > 15
    for name in ("truth_pt", "truth_eta", "truth_phi", "truth_pdg_id", "jet_label", "process", "weight"):
        assert (columns[name][first[a]] == columns[name][second[b]]).all()
    assert (columns["jet_pt"][first[a]] != columns["jet_pt"][second[b]]).all()


# The same result, whatever the way.


@pytest.fixture(scope="module")
def two_processes_two_variations() -> Campaign:
    return plan(250, "nominal,fsr-up", "QCD,Hbb", seed=11, chunk_events=250)


@pytest.fixture(scope="module")
def in_one_chunk(two_processes_two_variations: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "campaign"
    run_here(two_processes_two_variations, folder)
    return folder


def test_two_workers_and_small_chunks_give_the_same_arrays(
    two_processes_two_variations: Campaign, in_one_chunk: Path, tmp_path: Path
) -> None:
    run(replace(two_processes_two_variations, chunk_events=100), tmp_path / "campaign", workers=2)
    assert_identical(contents(tmp_path / "campaign"), contents(in_one_chunk))
    ours, theirs = digests(tmp_path / "campaign"), digests(in_one_chunk)
    assert {n: d for n, d in ours.items() if n.startswith("hard/")} == {
        n: d for n, d in theirs.items() if n.startswith("hard/")
    }


def test_single_event_alone_gives_the_rows_of_the_campaign(
    two_processes_two_variations: Campaign, in_one_chunk: Path
) -> None:
    campaign, whole = two_processes_two_variations, contents(in_one_chunk)
    for process, row, view in ((0, 17, 0), (0, 124, 1), (1, 3, 1), (1, 60, 0)):
        event = hard_events(campaign, in_one_chunk, process, row, row + 1)
        [made] = simulate_views(event, campaign, process, [view])
        table, counts = made.table, made.counts
        event_id = campaign.event_ids(process, row, row + 1)[0]
        expected = whole.select((whole.columns["event_id"] == event_id) & (whole.columns["view"] == view))
        assert event.n_events == 1
        if expected.n_jets == 0:
            assert counts.n_without_jet + len(counts.missing) == 1
        else:
            assert_identical(table, expected)


def test_campaign_file_repeats_the_campaign_bit_for_bit(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    _, folder = small_campaign
    again = Campaign.from_toml(folder / CAMPAIGN_FILE)
    run(again, tmp_path / "again", workers=1)
    assert digests(tmp_path / "again") == digests(folder)
    for name in (CAMPAIGN_FILE, manifest.HEADER):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_view_does_not_depend_on_the_other_variations_of_the_campaign(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    renamed = replace(campaign.variations[0], name="other-name")
    three = replace(campaign, variations=(renamed, campaign.variations[1], campaign.variations[0]))
    run_here(three, tmp_path / "three")
    ours, theirs = contents(tmp_path / "three"), contents(folder)
    same = ours.select(ours.columns["variation"] == "quick")
    reference = theirs.select(theirs.columns["variation"] == "quick")
    assert set(same.columns["view"]) == {2}
    same.columns["view"] = reference.columns["view"]
    assert_identical(same, reference)
    other = ours.select(ours.columns["variation"] == "other-name")
    assert not np.isin(other.columns["jet_pt"], reference.columns["jet_pt"]).any(), "the name decides on the seeds"
    assert digests(tmp_path / "three")["hard/QCD-000000.lhe.gz"] == digests(folder)["hard/QCD-000000.lhe.gz"]


def test_other_seed_gives_other_frozen_events_and_views(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = small_campaign
    run_here(replace(campaign, n_events=10, seed=8), tmp_path / "other")
    for name in ("QCD", "Hbb"):
        ours, theirs = (read_block(f / f"hard/{name}-000000.lhe.gz") for f in (tmp_path / "other", folder))
        assert not np.isin(ours.px[ours.px != 0], theirs.px).any()


def test_larger_campaign_keeps_the_views_of_the_smaller_one(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    run_here(replace(campaign, n_events=20), tmp_path / "small")
    whole = contents(folder)
    assert_identical(contents(tmp_path / "small"), whole.select(whole.columns["event_id"] < 20))


def test_any_executor_will_do(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = small_campaign
    with ThreadPoolExecutor(1) as executor:
        run(campaign, tmp_path / "thread", executor, workers=1)
        assert executor.submit(int).result() == 0, "an executor of one's own stays open"
    assert digests(tmp_path / "thread") == digests(folder)


def test_workers_in_another_directory_find_a_relative_folder(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, folder = small_campaign
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=os.chdir, initargs=(tmp_path / "elsewhere",)) as executor:
        run(campaign, "jets", executor, workers=1)
    assert digests(tmp_path / "jets") == digests(folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []


class Elsewhere(ThreadPoolExecutor):
    """A machine on which the folder's name means another folder, as one of its own disk does."""

    def __init__(self, disk: Path) -> None:
        super().__init__(1)
        self.disk = disk

    def submit(self, work: Callable, campaign: Campaign, _: str, task: Task) -> Future:  # type: ignore[override]
        return super().submit(work, campaign, str(self.disk), task)


def test_workers_that_write_to_a_folder_of_their_own_are_found_out_before_a_record_is_kept(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, _ = small_campaign
    with (
        Elsewhere(tmp_path / "disk") as executor,
        pytest.raises(CampaignError, match=rf"the workers do not see this folder: .*{tmp_path / 'ours'}") as raised,
    ):
        run(campaign, tmp_path / "ours", executor, workers=1)
    assert "\n" not in str(raised.value)
    assert manifest.read(tmp_path / "ours") == []


def test_processes_that_have_a_memory_each_are_found_out_too(small_campaign: tuple[Campaign, Path]) -> None:
    campaign = replace(small_campaign[0], n_events=2)
    url = "memory://resim-jets-of-each"
    with pytest.raises(CampaignError, match=f"the workers do not see this folder: .*{url}"):
        run(campaign, url, workers=1)
    assert manifest.read(url) == []


def test_threads_take_turns_with_the_generator(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = small_campaign
    with ThreadPoolExecutor(2) as executor:
        run(campaign, tmp_path / "threads", executor, workers=2)
    assert digests(tmp_path / "threads") == digests(folder)


def test_frozen_events_read_from_the_folder_are_those_that_were_made(
    small_campaign: tuple[Campaign, Path],
) -> None:
    campaign, folder = small_campaign
    block = read_block(folder / campaign.block_path(1, 0))
    assert block.event_id.tolist() == list(range(1, 60, 2))
    part = hard_events(campaign, folder, 1, 5, 9)
    assert part.event_id.tolist() == [11, 13, 15, 17]
    for name in (*EVENT_COLUMNS, *PARTICLE_COLUMNS):
        assert getattr(part, name).tobytes() == getattr(block.take(np.arange(5, 9)), name).tobytes()


def test_report_comes_at_the_start_and_after_every_task_and_adds_up(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign = replace(small_campaign[0], n_events=20, chunk_events=5)
    seen: list[tuple[int, int, int]] = []
    records = run_here(campaign, tmp_path / "c", lambda p: seen.append((p.n_shards_done, p.n_views, p.n_shards)))
    assert [s[0] for s in seen] == list(range(campaign.n_shards + 1))
    assert seen[-1] == (campaign.n_shards, 40, campaign.n_shards)
    assert sum(r.n_events for r in records) == 40


# Going on.


def test_finished_campaign_is_left_alone(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    reports: list[Progress] = []
    records = run(campaign, folder, workers=2, report=reports.append)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before
    assert [(r.n_shards_done, r.n_shards) for r in reports] == [(campaign.n_shards, campaign.n_shards)]
    assert len(records) == campaign.n_shards


def test_only_the_missing_shard_is_made_again_with_the_same_bytes(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    before = digests(folder)
    lost = "shards/quick-fsr-up/Hbb-000001.h5"
    forget(folder, lost)
    times = {p: p.stat().st_mtime_ns for p in folder.glob("shards/*/*.h5")}
    reports: list[int] = []
    run_here(campaign, folder, lambda p: reports.append(p.n_shards_done))
    assert reports == [campaign.n_shards - 1, campaign.n_shards]
    assert digests(folder) == before
    assert all(p.stat().st_mtime_ns == time for p, time in times.items())
    assert len(manifest.read(folder)) == campaign.n_shards


def test_shard_that_was_written_but_not_recorded_is_made_again(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    before = digests(folder)
    lines = (folder / manifest.SHARDS).read_text(encoding="utf-8").splitlines(keepends=True)
    torn = lines[-1][: len(lines[-1]) // 2]
    (folder / manifest.SHARDS).write_text("".join(lines[:-1]) + torn, encoding="utf-8")
    run_here(campaign, folder)
    assert digests(folder) == before
    assert len(manifest.read(folder)) == campaign.n_shards


def test_frozen_events_that_were_lost_are_made_again(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    before = digests(folder)
    (folder / "hard" / "QCD-000000.lhe.gz").unlink()
    forget(folder, "shards/quick/QCD-000000.h5")
    run_here(campaign, folder)
    assert digests(folder) == before


def workers() -> list[psutil.Process]:
    """The worker processes of this one: on Linux children of a child that only starts them."""
    if sys.platform != "linux":
        return [c for c in psutil.Process().children() if any("spawn_main" in word for word in c.cmdline())]
    servers = [c for c in psutil.Process().children() if any("forkserver" in word for word in c.cmdline())]
    return [worker for server in servers for worker in server.children()]


def test_killed_workers_are_replaced_and_change_nothing(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    campaign, folder = small_campaign

    def kill_a_worker(progress: Progress) -> None:
        if progress.n_shards_done == 5:
            os.kill(workers()[0].pid, signal.SIGKILL)

    records = run(campaign, tmp_path / "c", workers=2, report=kill_a_worker)
    assert len(records) == campaign.n_shards
    assert not any(record.crashed for record in records), "no event is to blame"
    assert digests(tmp_path / "c") == digests(folder)
    assert not list((tmp_path / "c").rglob("*.tmp"))


def test_workers_that_die_again_and_again_are_one_clear_error(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    stop = threading.Event()

    def kill_all() -> None:
        while not stop.wait(0.05):
            for process in workers():
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(CampaignError, match="worker processes die again and again") as raised:
            run(small_campaign[0], tmp_path / "c", workers=1)
    finally:
        stop.set()
        killer.join()
    assert "run the same command again" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert manifest.read(tmp_path / "c") == []


def test_interrupted_run_leaves_no_worker_behind_and_goes_on(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(campaign, tmp_path / "c", workers=1, report=interrupt)
    assert workers() == []
    run_here(campaign, tmp_path / "c")
    assert digests(tmp_path / "c") == digests(folder)


def test_interrupted_run_leaves_nothing_to_do_to_an_executor_of_ones_own(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    """Its tasks would write into the folder when somebody else may have it."""
    campaign = replace(small_campaign[0], n_events=20, chunk_events=5)

    def interrupt(progress: Progress) -> None:
        if progress.n_shards_done == 1:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            run(campaign, tmp_path / "c", executor, workers=1, report=interrupt)
        left = digests(tmp_path / "c")
        executor.submit(int).result()
    assert digests(tmp_path / "c") == left


def test_frozen_events_of_another_number_are_refused(copy: tuple[Campaign, Path]) -> None:
    """A late task of a smaller campaign may have written them; the others would only seem to have no jets."""
    campaign, folder = copy
    path = folder / campaign.block_path(0, 0)
    write_block(path, read_block(path).take(np.arange(20)))
    forget(folder, "shards/quick/QCD-000001.h5")
    with pytest.raises(InputError, match=rf"{path} holds 20 frozen events, expected 30") as raised:
        run_here(campaign, folder)
    assert "\n" not in str(raised.value)
    path.unlink()
    run_here(campaign, folder)
    assert check_campaign(folder).problems == []


def test_run_killed_while_it_made_its_folder_can_start_again(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    (tmp_path / "c").mkdir()
    shutil.copy(folder / manifest.HEADER, tmp_path / "c")
    (tmp_path / "c" / ".campaign.toml.123.tmp").touch()
    run_here(replace(campaign, n_events=2), tmp_path / "c")
    assert manifest.read_header(tmp_path / "c")["n_events"] == 2


# What cannot be run.


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 8}, "seed"),
        ({"n_events": 61}, "n_events"),
        ({"detector": "jetclass"}, "detector"),
        ({"chunk_events": 21, "seed": 9}, "seed, chunk_events"),
    ],
)
def test_folder_of_another_campaign_is_refused_with_what_differs(
    copy: tuple[Campaign, Path], change: dict[str, object], named: str
) -> None:
    campaign, folder = copy
    with pytest.raises(CampaignError) as raised:
        run_here(replace(campaign, **change), folder)
    assert f"another campaign: {named} differ" in str(raised.value)
    assert str(folder / CAMPAIGN_FILE) in str(raised.value)
    assert digests(folder)


def test_folder_that_is_no_campaign_is_refused_and_left_alone(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious", encoding="utf-8")
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    for name in ("thesis", "file"):
        with pytest.raises(CampaignError, match="is not a campaign folder"):
            run_here(small_campaign[0], tmp_path / name)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["chapter1.tex", "file", "thesis"]


def test_empty_folder_may_be_used(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    run_here(replace(small_campaign[0], n_events=2), tmp_path / "c")
    assert (tmp_path / "c" / CAMPAIGN_FILE).is_file()


def test_folder_that_cannot_be_written_is_one_clear_error(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "campaign", Path("/proc/hepfm-campaign")):
        with pytest.raises(HepfmError, match="cannot write") as raised:
            run_here(small_campaign[0], folder)
        assert str(folder) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_damaged_campaign_file_is_one_clear_error(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    (folder / CAMPAIGN_FILE).write_text("n_events = ", encoding="utf-8")
    with pytest.raises(InputError, match="is not TOML"):
        run_here(campaign, folder)


def test_damaged_frozen_events_are_one_clear_error(copy: tuple[Campaign, Path]) -> None:
    campaign, folder = copy
    block = folder / "hard" / "QCD-000000.lhe.gz"
    block.write_bytes(block.read_bytes()[:-100])
    forget(folder, "shards/quick/QCD-000000.h5")
    with pytest.raises(InputError, match=r"QCD-000000\.lhe\.gz: event \d+ is truncated"):
        run_here(campaign, folder)


def test_campaign_that_makes_no_sense_is_refused_before_the_folder_is_made(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    for change in ({"detector": "cmss"}, {"n_events": 0}, {"variations": ()}):
        with pytest.raises(InputError):
            run_here(replace(small_campaign[0], **change), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))


def test_full_disk_is_one_clear_error_and_running_again_completes(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    # A limit on the size of files, which stops writing the way a full disk does.
    script = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from pathlib import Path\n"
        "from hepfm.errors import HepfmError\n"
        "from hepfm.resim import Campaign, run\n"
        "campaign = Campaign.from_toml(Path(sys.argv[1]))\n"
        "try:\n"
        "    run(campaign, sys.argv[2], ThreadPoolExecutor(1), workers=1)\n"
        "except HepfmError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / CAMPAIGN_FILE), str(tmp_path / "c")],
        capture_output=True,
        text=True,
        preexec_fn=limit_file_size,
    )
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "Free space" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "c").rglob("*.tmp"))
    assert manifest.read(tmp_path / "c") == []
    run_here(campaign, tmp_path / "c")
    assert digests(tmp_path / "c") == digests(folder)


# Events from files.


@pytest.mark.parametrize("name", ["powheg_hvq.lhe", "pythia6_ttbar.lhe", "madgraph5_pp_to_jj.lhe.gz"])
def test_real_file_runs_through_the_whole_chain(shared: Path, tmp_path: Path, quick_variations: str, name: str) -> None:
    campaign = plan(40, quick_variations, lhe=[shared / "data" / name], seed=5)
    run_here(campaign, tmp_path / "c")
    records = manifest.read(tmp_path / "c")
    assert len(records) == campaign.n_shards
    assert sum(r.n_missing for r in records) == 0
    if name.startswith("powheg"):
        return  # six events, none with a jet above 20 GeV within the acceptance for sure
    columns = contents(tmp_path / "c").columns
    assert set(columns["view"]) == {0, 1}
    block = read_block(next((tmp_path / "c" / "hard").iterdir()))
    weight_of = dict(zip(block.event_id.tolist(), block.weight.tolist(), strict=True))
    assert columns["weight"].tolist() == [weight_of[i] for i in columns["event_id"].tolist()]
    labels = {JET_CLASSES[i] for i in columns["jet_label"]}
    assert labels <= ({"QCD"} if "jj" in name else {"QCD", "Tbqq", "Tbl", "Wqq"})


def test_several_files_follow_one_another(shared: Path, tmp_path: Path, quick_variations: str) -> None:
    paths = [shared / "data" / n for n in ("powheg_hvq.lhe", "pythia6_ttbar.lhe")]
    campaign = plan(30, quick_variations, lhe=paths, chunk_events=10)
    run_here(campaign, tmp_path / "c")
    columns = contents(tmp_path / "c").columns
    ids = columns["event_id"]
    assert ids.max() < 30
    assert (columns["process"][ids >= 6] == "pythia6_ttbar").all()
    assert (columns["process"][ids < 6] == "powheg_hvq").all()


def test_events_of_a_file_do_not_depend_on_the_chunks(shared: Path, tmp_path: Path, quick_variations: str) -> None:
    for chunk in (7, 40):
        campaign = plan(
            40, quick_variations, lhe=[shared / "data" / "pythia6_ttbar.lhe"], chunk_events=chunk, detector="none"
        )
        run_here(campaign, tmp_path / str(chunk))
    assert_identical(contents(tmp_path / "7"), contents(tmp_path / "40"))


def test_finished_campaign_needs_its_files_no_more_and_an_unfinished_one_says_so(
    shared: Path, tmp_path: Path, quick_variations: str
) -> None:
    source = Path(shutil.copy(shared / "data" / "pythia6_ttbar.lhe", tmp_path))
    campaign = plan(10, quick_variations, lhe=[source])
    run_here(campaign, tmp_path / "c")
    source.unlink()
    assert len(run_here(Campaign.from_toml(tmp_path / "c" / CAMPAIGN_FILE), tmp_path / "c")) == campaign.n_shards
    assert check_campaign(tmp_path / "c").problems == []
    with pytest.raises(InputError, match="cannot read"):
        run_here(campaign, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    next((tmp_path / "c" / "hard").iterdir()).unlink()
    before = digests(tmp_path / "c")
    with pytest.raises(InputError, match="cannot read"):
        repair(tmp_path / "c")
    assert digests(tmp_path / "c") == before


def test_truncated_file_names_the_event_and_what_was_simulated_stays(
    shared: Path, tmp_path: Path, quick_variations: str
) -> None:
    content = (shared / "data" / "madgraph_zjets_mlm.lhe.gz").read_bytes()
    path = tmp_path / "cut.lhe.gz"
    path.write_bytes(content[: len(content) // 8])
    campaign = plan(10_000, quick_variations, lhe=[path], chunk_events=500, detector="none")
    campaign = replace(campaign, variations=campaign.variations[:1])
    assert 1000 < campaign.n_events < 2000
    for _ in range(2):
        with pytest.raises(InputError, match=r"event 1\d\d\d is truncated"):
            run_here(campaign, tmp_path / "c")
        records = manifest.read(tmp_path / "c")
        assert sorted(r.path for r in records) == [f"shards/quick/cut-{i:06d}.h5" for i in (0, 1)]
        assert sum(r.n_events for r in records) == 1000
        assert (tmp_path / "c" / "hard" / "cut-000000.lhe.gz").is_file()


def test_corrupted_number_in_a_file_stops_with_the_number_of_the_event(
    shared: Path, tmp_path: Path, quick_variations: str
) -> None:
    text = (shared / "data" / "pythia6_ttbar.lhe").read_text(encoding="utf-8")
    events = text.split("<event>")
    events[50] = events[50].replace("E+0", "E+O")
    path = tmp_path / "bad.lhe"
    path.write_text("<event>".join(events), encoding="utf-8")
    with pytest.raises(InputError, match="event 50 is truncated or malformed") as raised:
        run_here(plan(100, quick_variations, lhe=[path]), tmp_path / "c")
    assert "\n" not in str(raised.value)


def test_process_pool_of_ones_own_runs_a_second_campaign(small_campaign: tuple[Campaign, Path], tmp_path: Path) -> None:
    # Workers outlive a campaign then, and must not take the first one's frozen events for the second's.
    campaign, folder = small_campaign
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        run(campaign, tmp_path / "c", executor, workers=1)
        assert digests(tmp_path / "c") == digests(folder)
        shutil.rmtree(tmp_path / "c")
        run(campaign, tmp_path / "c", executor, workers=1)
    assert digests(tmp_path / "c") == digests(folder)
