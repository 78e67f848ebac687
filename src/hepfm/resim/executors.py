"""Where tasks run: processes of this machine, or a Dask cluster."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING

from hepfm.errors import HepfmError, InputError
from hepfm.schema import unknown_name

if TYPE_CHECKING:
    from distributed import Client

EXECUTORS = ("local", "dask")


def n_cores() -> int:
    """Cores that this process may use."""
    # Where the operating system does not say (macOS), those that there are.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def local_executor(workers: int) -> Iterator[Executor]:
    """Processes of this machine, which end with the run, however it ends."""
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


@contextmanager
def executor_named(name: str, scheduler: str | None, workers: int | None) -> Iterator[tuple[Executor, int]]:
    """The executor that a user asks for, and how many tasks it runs at a time.

    Args:
        name: `local` or `dask`.
        scheduler: address of a running Dask scheduler; without one, `dask` is a cluster on this machine.
        workers: processes of this machine, by default one a core.

    Raises:
        InputError: an unknown executor, or no scheduler at the address.
        HepfmError: Dask is not installed.
    """
    if name not in EXECUTORS:
        raise InputError(unknown_name("executor", name, EXECUTORS))
    if name == "local" and scheduler is not None:
        msg = "--scheduler goes with `--executor dask` only. Add it, or leave the scheduler out."
        raise InputError(msg)
    n_workers = workers or n_cores()
    if name == "local":
        with local_executor(n_workers) as pool:
            yield pool, n_workers
    else:
        with _dask_client(scheduler, n_workers) as client:
            yield client.get_executor(pure=False), max(1, sum(client.nthreads().values()))


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


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which then ends the workers, and end with the parent if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a shard that is being written stays a temporary file
