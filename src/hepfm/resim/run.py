"""Running a campaign: tasks on any `concurrent.futures` executor, results into the campaign folder."""

import signal
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from hepfm import manifest
from hepfm.errors import CampaignError, HepfmError
from hepfm.resim.campaign import Campaign, Task
from hepfm.resim.executors import local_executor, n_cores
from hepfm.resim.folder import locked, prepare
from hepfm.resim.tasks import run_task, tasks_with_frozen_events

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
        CampaignError: the folder holds another campaign, another process runs it, or a worker died.
        InputError: a Les Houches file is damaged; what was simulated before stays.
    """
    folder = Path(folder)
    workers = workers or n_cores()
    prepare(campaign, folder)
    with locked(folder), nullcontext(executor) if executor else local_executor(workers) as pool:
        return _run_in(pool, campaign, folder, workers * _TASKS_AHEAD, report)


def _run_in(
    pool: Executor, campaign: Campaign, folder: Path, ahead: int, report: Callable[[Progress], None] | None
) -> list[manifest.ShardRecord]:
    done = {record.path: record for record in manifest.read(folder)}
    progress = Progress(
        n_tasks=campaign.n_tasks,
        n_tasks_done=len(done),
        n_views=sum(r.n_events for r in done.values()),
        n_jets=sum(r.n_jets for r in done.values()),
        n_missing=sum(r.n_missing for r in done.values()),
    )
    for record in _results(pool, campaign, folder, done.keys(), ahead):
        manifest.append(folder, record)
        done[record.path] = record
        progress.n_tasks_done += 1
        progress.n_views += record.n_events
        progress.n_jets += record.n_jets
        progress.n_missing += record.n_missing
        if report is not None:
            report(progress)
    return list(done.values())


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
