"""Running a campaign: tasks on any `concurrent.futures` executor, results into the campaign folder."""

import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepfm import manifest
from hepfm.errors import CampaignError, HepfmError
from hepfm.formats.atomic import atomic_path
from hepfm.formats.hdf5 import write_shard
from hepfm.resim.campaign import Campaign, Chunk, Task, check, check_files
from hepfm.resim.generator import pythia_seeds
from hepfm.resim.hard import HardEvents, concatenate, freeze_lhe, generate, read_block, write_block
from hepfm.resim.labels import find_targets
from hepfm.resim.views import simulate_view
from hepfm.schema import FORMAT_VERSION, SPLIT_RULE

CAMPAIGN_FILE = "campaign.toml"
_VERSIONED = ("hepfm", "pythia8mc", "fastjet", "numpy", "numba", "awkward", "h5py", "pylhe")
# Tasks handed to the executor ahead of time: enough that no worker waits, few enough to stay small.
_TASKS_AHEAD = 4


@dataclass
class Progress:
    """How far a run has come; given to the `report` function after each task."""

    n_tasks: int
    n_tasks_done: int
    n_views: int
    n_jets: int
    n_missing: int


def run(
    campaign: Campaign,
    folder: Path | str,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    report: Callable[[Progress], None] | None = None,
) -> list[manifest.ShardRecord]:
    """Run a campaign, or what is left of it, into a folder.

    Args:
        campaign: what to simulate.
        folder: the campaign folder; made if it is not there.
        executor: runs the tasks; by default `workers` local processes.
        workers: number of processes, by default the number of cores; with an executor of your own, how
            many tasks it runs at a time.
        report: called after each task.

    Returns:
        The records of all shards.

    Raises:
        CampaignError: the folder holds another campaign, or a worker died.
        InputError: a Les Houches file is damaged; what was simulated before stays.
    """
    folder = Path(folder)
    workers = workers or n_cores()
    prepare(campaign, folder)
    done = {record.path: record for record in manifest.read(folder)}
    progress = Progress(
        n_tasks=campaign.n_tasks,
        n_tasks_done=len(done),
        n_views=sum(r.n_events for r in done.values()),
        n_jets=sum(r.n_jets for r in done.values()),
        n_missing=sum(r.n_missing for r in done.values()),
    )
    with _using(executor, workers) as pool:
        for record in _results(pool, campaign, folder, done.keys(), workers * _TASKS_AHEAD):
            manifest.append(folder, record)
            done[record.path] = record
            progress.n_tasks_done += 1
            progress.n_views += record.n_events
            progress.n_jets += record.n_jets
            progress.n_missing += record.n_missing
            if report is not None:
                report(progress)
    return list(done.values())


def n_cores() -> int:
    """Cores that this process may use."""
    # Where the operating system does not say (macOS), those that there are.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(campaign: Campaign, folder: Path) -> None:
    """Make the campaign folder, or check that it holds this very campaign.

    Raises:
        CampaignError: the folder holds something else.
        HepfmError: the folder cannot be written, or the campaign makes no sense.
    """
    settings = folder / CAMPAIGN_FILE
    if settings.exists():
        theirs = Campaign.from_toml(settings)
        if theirs.digest != campaign.digest:
            names = ", ".join(campaign.differences(theirs))
            msg = (
                f"{folder} holds another campaign: {names} differ. Choose another folder, or repeat that one "
                f"with `--config {settings}`."
            )
            raise CampaignError(msg)
        return
    check(campaign)
    check_files(campaign)
    if folder.exists() and (not folder.is_dir() or not all(map(_is_unfinished, folder.iterdir()))):
        msg = f"{folder} exists and is not a campaign folder. Choose another name."
        raise CampaignError(msg)
    header = {
        "format_version": FORMAT_VERSION,
        "digest": campaign.digest,
        "n_events": campaign.n_events,
        "seed": campaign.seed,
        "detector": campaign.detector,
        "processes": [p.name for p in campaign.processes],
        "variations": [v.name for v in campaign.variations],
        "split": SPLIT_RULE,
        "versions": {name: version(name) for name in _VERSIONED} | {"python": platform.python_version()},
    }
    # campaign.toml comes last: a folder that has it is complete.
    with atomic_path(folder / manifest.HEADER) as path:
        path.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    with atomic_path(settings) as path:
        path.write_text(campaign.to_toml(), encoding="utf-8")


def _is_unfinished(path: Path) -> bool:
    """Whether a file is what a run leaves that was killed while it made its folder."""
    return path.name == manifest.HEADER or path.name.endswith(".tmp")


def _results(
    pool: Executor, campaign: Campaign, folder: Path, done: Collection[str], ahead: int
) -> Iterator[manifest.ShardRecord]:
    """Results of the tasks that are not done, as they finish; at most `ahead` are in flight."""
    tasks = (task for task in tasks_with_frozen_events(campaign, folder) if campaign.shard_path(task) not in done)
    pending: set[Future[manifest.ShardRecord]] = set()
    failure: HepfmError | None = None
    while True:
        try:
            while failure is None and len(pending) < ahead and (task := next(tasks, None)):
                pending.add(_submit(pool, campaign, folder, task))
        except HepfmError as error:
            failure = error  # what is in flight is still worth having
        if not pending:
            break
        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in finished:
            yield _result(future)
    if failure is not None:
        raise failure


def _submit(pool: Executor, campaign: Campaign, folder: Path, task: Task) -> "Future[manifest.ShardRecord]":
    """Hand a task over; a worker that starts with it is out of Ctrl-C's reach while it imports its libraries."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(run_task, campaign, str(folder), task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _result(future: "Future[manifest.ShardRecord]") -> manifest.ShardRecord:
    try:
        return future.result()
    except (BrokenProcessPool, CancelledError) as error:
        msg = "a worker process died (killed, or out of memory?). Run the same command again to go on."
        raise CampaignError(msg) from error


def tasks_with_frozen_events(campaign: Campaign, folder: Path) -> Iterator[Task]:
    """Tasks, each once the frozen events that it needs are on disk or can be made by the worker itself."""
    if not campaign.from_files:
        yield from campaign.tasks()
        return
    frozen = [0] * len(campaign.processes)
    blocks = [_freeze(campaign, folder, process) for process in range(len(campaign.processes))]
    for task in campaign.tasks():
        chunk = task.chunk
        while frozen[chunk.process] < chunk.stop:
            frozen[chunk.process] += next(blocks[chunk.process])
        yield task


def _freeze(campaign: Campaign, folder: Path, process: int) -> Iterator[int]:
    """Write a file's events as blocks, giving the number of events that each covers.

    Reading a file is a matter of one process: half a millisecond an event, against five a view.
    """
    source = campaign.processes[process]
    size, total = campaign.block_events, campaign.events_of(process)
    sizes = [min(size, total - start) for start in range(0, total, size)]
    paths = [folder / campaign.block_path(process, block) for block in range(len(sizes))]
    if all(path.exists() for path in paths):
        yield from sizes
        return
    check_files(campaign)
    first = int(campaign.event_ids(process, 0, 1)[0])
    events = freeze_lhe(Path(str(source.lhe)), source.settings, campaign.seed, range(first, first + total), size)
    for path, block, n in zip(paths, events, sizes, strict=True):
        if not path.exists():
            write_block(path, block)
        yield n


def run_task(campaign: Campaign, folder: str, task: Task) -> manifest.ShardRecord:
    """Simulate one chunk under one variation and write its shard; a pure function but for the files it leaves."""
    start = time.perf_counter()
    chunk, variation = task.chunk, campaign.variations[task.view]
    events = hard_events(campaign, folder, chunk.process, chunk.start, chunk.stop)
    frozen = time.perf_counter() - start
    table, counts = simulate_view(events, campaign, chunk.process, task.view)
    name = campaign.shard_path(task)
    path = Path(folder) / name
    provenance = {
        "campaign": campaign.digest,
        "seed": campaign.seed,
        "variation": variation.name,
        "settings": list(variation.settings),
        "process": campaign.processes[chunk.process].name,
        "detector": campaign.detector,
        "first_event": int(campaign.event_ids(chunk.process, chunk.start, chunk.start + 1)[0]),
        "n_events": chunk.stop - chunk.start,
    }
    with counts.timed("write"):
        sha256 = write_shard(path, table, provenance)
    return manifest.ShardRecord(
        path=name,
        sha256=sha256,
        variation=variation.name,
        process=campaign.processes[chunk.process].name,
        chunk=chunk.number,
        n_events=chunk.stop - chunk.start,
        n_jets=table.n_jets,
        n_missing=chunk.stop - chunk.start - events.n_events + len(counts.missing),
        n_retried=counts.n_retried,
        n_without_jet=counts.n_without_jet,
        n_bytes=path.stat().st_size,
        cross_sections=_cross_sections(campaign, folder, chunk),
        missing=counts.missing,
        seconds={"freeze": frozen, **counts.seconds},
    )


def hard_events(campaign: Campaign, folder: Path | str, process: int, start: int, stop: int) -> HardEvents:
    """Frozen events `start` to `stop` of one process, from the campaign folder; made there if they are not yet.

    At least the block of `start` is read, so that even no events have beams and a cross-section.

    Raises:
        InputError: a block of frozen events is damaged.
    """
    size = campaign.block_events
    blocks = [_block(campaign, str(folder), process, b) for b in range(start // size, max(start, stop - 1) // size + 1)]
    events = concatenate(blocks)
    wanted = campaign.event_ids(process, start, stop)
    # A file's event that Pythia cannot use leaves a gap in the ids.
    return events.take(np.flatnonzero(np.isin(events.event_id, wanted)))


def _cross_sections(campaign: Campaign, folder: str, chunk: Chunk) -> dict[str, list[float]]:
    """Value and error in pb by independent estimate: one a block that Pythia made, one a file from outside."""
    name, size = campaign.processes[chunk.process].name, campaign.block_events
    estimates = {}
    for block in range(chunk.start // size, (chunk.stop - 1) // size + 1):
        section = _block(campaign, folder, chunk.process, block).cross_section
        estimates[name if campaign.from_files else f"{name}-{block:06d}"] = [section.value, section.error]
    return estimates


def _block(campaign: Campaign, folder: str, process: int, block: int) -> HardEvents:
    events = _known_block(campaign, folder, process, block)
    path = Path(folder) / campaign.block_path(process, block)
    if not path.exists():
        # Just made, or deleted since. Two workers may do this at the same time: they write the same bytes.
        write_block(path, events)
    return events


@lru_cache(maxsize=4)
def _known_block(campaign: Campaign, folder: str, process: int, block: int) -> HardEvents:
    path = Path(folder) / campaign.block_path(process, block)
    if path.exists() or campaign.from_files:
        return read_block(path)
    source = campaign.processes[process]
    start = block * campaign.block_events
    stop = min(start + campaign.block_events, campaign.events_of(process))
    ids = campaign.event_ids(process, start, stop)

    def accept(events: HardEvents) -> NDArray[np.bool_]:
        return np.asarray(find_targets(events, source.label).counts == source.n_targets)

    seed = pythia_seeds(campaign.seed, f"hard/{source.name}", np.array([block]))
    return generate(source.settings, campaign.beams, int(seed[0]), ids, accept)


@contextmanager
def _using(executor: Executor | None, workers: int) -> Iterator[Executor]:
    """The given executor, or local processes that end with the run, however it ends."""
    if executor is not None:
        yield executor
        return
    # Spawned, not forked: Pythia and numba threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which then ends the workers, and end with the parent if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a shard that is being written stays a temporary file
