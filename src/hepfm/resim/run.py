"""Running a campaign: tasks on any `concurrent.futures` executor, results into the campaign folder."""

import logging
import signal
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from hepfm import manifest
from hepfm.atomic import exists, is_local, location, names
from hepfm.errors import CampaignError, HepfmError
from hepfm.resim.campaign import Campaign, Task
from hepfm.resim.executors import check_alive, is_loss, leaving_none, local_executor, n_cores
from hepfm.resim.folder import check_holds, describe, locked, prepare, sweep
from hepfm.resim.frozen import tasks_with_frozen_events
from hepfm.resim.isolation import run_isolated
from hepfm.resim.tasks import run_task

# Tasks handed to the executor ahead of time: enough that no worker waits, few enough to stay small.
_TASKS_AHEAD = 4
# So often may a task be lost while no other one finishes; then something is wrong with the machine.
_MAX_LOSSES = 5

_log = logging.getLogger("hepfm.resim")


@dataclass
class Progress:
    """How far a campaign has come; given to the `report` function at the start and after each task."""

    n_shards: int
    n_shards_done: int = 0
    n_views: int = 0
    n_jets: int = 0
    n_missing: int = 0

    def add(self, record: manifest.ShardRecord) -> None:
        """Count a finished shard."""
        self.n_shards_done += 1
        self.n_views += record.n_events
        self.n_jets += record.n_jets
        self.n_missing += record.n_missing


def run(
    campaign: Campaign,
    folder: Path | str,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    report: Callable[[Progress], None] | None = None,
) -> list[manifest.ShardRecord]:
    """Run a campaign, or what is left of it, into a folder.

    Events that kill the generator's process are found, recorded and skipped.

    Args:
        campaign: what to simulate.
        folder: the campaign folder, or its fsspec URL; made if it is not there.
        executor: runs the tasks; by default `workers` local processes.
        workers: number of processes, by default the number of cores; with an executor of your own, how
            many tasks it runs at a time.
        report: called at the start and after each task.

    Returns:
        The records of all shards.

    Raises:
        CampaignError: the folder holds another campaign, another process runs it, workers do not see it, or
            they die again and again.
        InputError: a Les Houches file is damaged; what was simulated before stays.
    """
    workers = workers or n_cores()
    place = location(folder)
    prepare(campaign, place)
    with locked(place):
        check_holds(campaign, place)  # somebody may have extended it in between
        describe(campaign, place)
        done = {record.path: record for record in manifest.read(place)}
        progress = Progress(campaign.n_shards)
        for record in done.values():
            progress.add(record)
        if report is not None:
            report(progress)
        facts = {"folder": str(folder), "n_shards": progress.n_shards, "n_shards_done": progress.n_shards_done}
        if progress.n_shards_done == progress.n_shards:
            _log.info("the campaign is finished: nothing is left to do", extra={"data": facts})
            return list(done.values())
        _log.debug("campaign starts", extra={"data": facts})
        # Workers open the folder from their own working directory.
        tasks = _Tasks(campaign, str(place.absolute() if is_local(place) else folder), frozenset(done))
        n_before = progress.n_shards_done
        with (
            nullcontext(executor) if executor else local_executor(workers) as pool,
            manifest.recorder(place) as keep,
            leaving_none(pool, tasks.pending),
        ):
            for records in tasks.results(pool, workers * _TASKS_AHEAD):
                for record in records:
                    # In a store, where every look is a request, once a run: its name is the same everywhere.
                    if is_local(place) or progress.n_shards_done == n_before:
                        _check_seen(place, record.path)
                    keep(record)
                    done[record.path] = record
                    progress.add(record)
                    _log_shard(record)
                if report is not None:
                    report(progress)
        sweep(place)
    _log.debug("campaign ends", extra={"data": asdict(progress)})
    return list(done.values())


def _check_seen(place: Path, shard: str) -> None:
    """Check that what a worker wrote is here, before it counts as done.

    Raises:
        CampaignError: it is not.
    """
    path = place / shard
    # A network file system may still remember that there was no such file; to list the folder, it looks again.
    if not exists(path) and path.name not in names(path.parent):
        msg = (
            f"the workers do not see this folder: one finished {path}, which is not there. Choose a folder on a file "
            "system that all of them share, or in an object store such as s3://bucket/folder."
        )
        raise CampaignError(msg)


def _log_shard(record: manifest.ShardRecord) -> None:
    known = ("path", "n_events", "n_jets", "n_missing", "n_without_jet", "n_bytes")
    facts = {name: getattr(record, name) for name in known} | {"seconds": round(sum(record.seconds.values()), 3)}
    _log.debug("shard finished", extra={"data": facts})
    if record.crashed:
        events = ", ".join(map(str, record.crashed))
        facts = {"path": record.path, "events": record.crashed}
        _log.warning("%s: event %s kills the generator and is left out", record.path, events, extra={"data": facts})


@dataclass
class _Tasks:
    """The tasks of a campaign that are not done, on their way through an executor.

    `done` has the paths of the shards that there are; `losses` counts how often a task was lost with its worker
    since another one finished.
    """

    campaign: Campaign
    folder: str
    done: Collection[str]
    pending: "dict[Future[list[manifest.ShardRecord]], Task]" = field(default_factory=dict)
    losses: dict[Task, int] = field(default_factory=dict)

    def results(self, pool: Executor, ahead: int) -> Iterator[list[manifest.ShardRecord]]:
        """Records of the tasks as they finish; at most `ahead` tasks are in flight."""
        tasks = self._missing()
        lost: deque[Task] = deque()
        failure: HepfmError | None = None
        while True:
            try:
                while len(self.pending) < ahead and (lost or failure is None):
                    if (task := lost.popleft() if lost else next(tasks, None)) is None:
                        break
                    self._submit(pool, task)
            except HepfmError as error:
                failure = error  # what is in flight is still worth having
            if not self.pending:
                break
            finished, _ = wait(self.pending, return_when=FIRST_COMPLETED)
            losses: list[BaseException] = []
            for future in finished:
                task = self.pending.pop(future)
                # A cancelled future has no exception to look at: it raises.
                try:
                    yield future.result()
                    self.losses = dict.fromkeys(self.losses, 0)
                except BaseException as error:
                    if not is_loss(error):
                        raise
                    losses.append(error)
                    lost.append(task)
                    self.losses[task] = self.losses.get(task, 0) + 1
            if losses:
                self._look_into(losses)
        if failure is not None:
            raise failure

    def _missing(self) -> Iterator[Task]:
        for task in tasks_with_frozen_events(self.campaign, location(self.folder)):
            views = tuple(v for v in task.views if self.campaign.shard_path(task.chunk, v) not in self.done)
            if views:
                yield replace(task, views=views)

    def _submit(self, pool: Executor, task: Task) -> None:
        """Hand a task over; a worker that starts with it is out of Ctrl-C's reach while it imports its libraries."""
        check_alive(pool)
        work = run_isolated if task in self.losses else run_task
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.pending[pool.submit(work, self.campaign, self.folder, task)] = task
        except RuntimeError as error:  # what executors raise that are broken or shut down
            msg = f"the executor takes no more tasks ({error}). Run the same command again to go on."
            raise CampaignError(msg) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _look_into(self, losses: list[BaseException]) -> None:
        """Say that tasks were lost with their worker; give up when that goes on and on."""
        facts = {"n_tasks": len(losses), "cause": str(losses[0])}
        _log.warning(
            "a worker died; %d tasks that were in flight are repeated, each in a process of its own",
            len(losses),
            extra={"data": facts},
        )
        if max(self.losses.values()) > _MAX_LOSSES:
            msg = (
                "worker processes die again and again (killed, or out of memory?). Use fewer --workers, then run the "
                "same command again to go on."
            )
            raise CampaignError(msg) from losses[0]
