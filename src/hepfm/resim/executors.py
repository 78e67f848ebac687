"""Where tasks run: processes of this machine, or a Dask cluster."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, TypeVar

from hepfm.errors import CampaignError, HepfmError, InputError
from hepfm.schema import unknown_name

if TYPE_CHECKING:
    from distributed import Client

EXECUTORS = ("local", "dask")
# How often Dask itself repeats a task that failed, perhaps because of a file system that was busy.
_DASK_RETRIES = 2
_T = TypeVar("_T")


def n_cores() -> int:
    """Cores that this process may use."""
    # Where the operating system does not say (macOS), those that there are.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalPool(Executor):
    """Processes of this machine. When one dies, all are replaced, and the tasks in flight fail as lost."""

    def __init__(self, workers: int) -> None:
        """Start no process yet."""
        self._workers = workers
        self._pool = self._new_pool()

    def submit(self, task: Callable[..., _T], /, *args: Any, **kwargs: Any) -> "Future[_T]":  # noqa: ANN401
        """Run `task` in a worker."""
        try:
            return self._pool.submit(task, *args, **kwargs)
        except BrokenProcessPool:
            self._pool.shutdown(wait=True)
            self._pool = self._new_pool()
            return self._pool.submit(task, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the tasks in flight finish, and end."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def terminate(self) -> None:
        """End at once."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self.shutdown(cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._workers, mp_context=_processes(), initializer=_start_worker, initargs=(dict(os.environ),)
        )


def _processes() -> BaseContext:
    """How workers start: never as forks of this process, for Pythia and the threads of numba do not survive that.

    On Linux they are forks of a process that has imported what they need and starts nothing: 1.5 s less for each.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["hepfm.resim.preload"])
    return context


@contextmanager
def local_executor(workers: int) -> Iterator[Executor]:
    """Processes of this machine, which end with the run, however it ends."""
    pool = LocalPool(workers)
    try:
        yield pool
    except BaseException:
        pool.terminate()
        raise
    pool.shutdown()


def check_alive(pool: Executor) -> None:
    """Refuse to hand tasks to a Dask client without a scheduler, which would keep them for ever.

    Raises:
        CampaignError: the scheduler is gone.
    """
    client = getattr(pool, "_client", None)
    if getattr(client, "status", "running") != "running":
        msg = "the connection to the Dask scheduler is lost. Start it anew, then run the same command again to go on."
        raise CampaignError(msg)


@contextmanager
def leaving_none(pool: Executor, tasks: Collection[Future[Any]]) -> Iterator[None]:
    """Take back the tasks that are left at the end, and stay until those of them that have begun are done.

    They must not write into a campaign folder that somebody else may have by then. Processes of this machine end with
    `local_executor`; Dask lets go of tasks that have begun, too, and they write what nobody records.
    """
    try:
        yield
    finally:
        if not isinstance(pool, LocalPool):
            wait([task for task in tasks if not task.cancel()])


def is_loss(error: BaseException) -> bool:
    """Whether a task failed because its worker died, not because of what it did."""
    # Dask's KilledWorker, by its name: Dask is imported only where it is used.
    return isinstance(error, BrokenExecutor | CancelledError) or type(error).__name__ == "KilledWorker"


def check_executor(name: str, scheduler: str | None, workers: int | None) -> None:
    """Check that what a user asks for goes together; arguments as of `executor_named`.

    Raises:
        InputError: an unknown executor, a scheduler of another one than Dask, or workers beside a scheduler.
    """
    if name not in EXECUTORS:
        raise InputError(unknown_name("executor", name, EXECUTORS))
    if scheduler is not None and name != "dask":
        msg = "--scheduler goes with `--executor dask` only. Add it, or leave the scheduler out."
        raise InputError(msg)
    if scheduler is not None and workers is not None:
        msg = f"--workers is for this machine: the scheduler at '{scheduler}' has its own. Leave one of the two out."
        raise InputError(msg)


@contextmanager
def executor_named(name: str, scheduler: str | None, workers: int | None) -> Iterator[tuple[Executor, int]]:
    """The executor that a user asks for, and how many tasks it runs at a time.

    Args:
        name: `local` or `dask`.
        scheduler: address of a running Dask scheduler; without one, `dask` is a cluster on this machine.
        workers: processes of this machine, by default one a core.

    Raises:
        InputError: as `check_executor`, or no scheduler at the address.
        HepfmError: Dask is not installed.
    """
    check_executor(name, scheduler, workers)
    n_workers = workers or n_cores()
    if name == "local":
        with local_executor(n_workers) as pool:
            yield pool, n_workers
    else:
        with _dask_client(scheduler, n_workers) as client:
            yield client.get_executor(pure=False, retries=_DASK_RETRIES), max(1, sum(client.nthreads().values()))


@contextmanager
def _dask_client(scheduler: str | None, workers: int) -> "Iterator[Client]":
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        msg = 'the Dask executor needs a package that is not installed: pip install "hepfm[dask]"'
        raise HepfmError(msg) from error
    with ExitStack() as stack:
        if scheduler is None:
            # One thread a worker: the threads of a process would share one Pythia.
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            address = stack.enter_context(cluster)
        else:
            address = scheduler
        try:
            client = Client(address, timeout="10s")
        except (OSError, ValueError) as error:
            msg = f"no Dask scheduler answers at '{scheduler}'. Expected an address such as tcp://host:8786."
            raise InputError(msg) from error
        yield stack.enter_context(client)


def _start_worker(environment: dict[str, str]) -> None:
    """Leave Ctrl-C to the parent, which then ends the workers, and end with the parent if it is killed.

    The environment is that of the parent now: keys of a store may be newer than the process whose fork this is. What a
    library prints, as Vincia does, goes where messages go: standard output is the command's answer.
    """
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a shard that is being written stays a temporary file
