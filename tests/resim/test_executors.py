"""Where tasks run: processes of this machine, and a real Dask cluster, which gives what they give."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import LocalCluster

from hepfm import manifest
from hepfm.errors import HepfmError, InputError
from hepfm.resim import Campaign, run
from hepfm.resim.executors import executor_named, local_executor
from hepfm.resim.run import Progress


def digests(folder: Path) -> dict[str, str]:
    return {record.path: record.sha256 for record in manifest.read(folder)}


def test_dask_cluster_gives_the_same_bytes_as_local_processes(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    with executor_named("dask", None, 2) as (executor, size):
        assert size == 2
        run(campaign, tmp_path / "c", executor, workers=size)
    assert digests(tmp_path / "c") == digests(folder)


@pytest.mark.parametrize(
    ("name", "scheduler", "workers", "words"),
    [
        ("dsk", None, 1, "Did you mean 'dask'?"),
        ("local", "tcp://127.0.0.1:1", None, "goes with `--executor dask` only"),
        ("dask", "tcp://127.0.0.1:1", 1, "the scheduler at 'tcp://127.0.0.1:1' has its own"),
        ("dask", "nonsense://here", None, "no Dask scheduler answers"),
    ],
)
def test_executor_that_cannot_be_is_one_clear_error(
    name: str, scheduler: str | None, workers: int | None, words: str
) -> None:
    with pytest.raises(InputError, match=words) as raised, executor_named(name, scheduler, workers):
        pass
    assert "\n" not in str(raised.value)


def test_dask_worker_killed_in_the_middle_changes_nothing(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    killed: list[int] = []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        executor_named("dask", cluster.scheduler_address, None) as (executor, size),
    ):

        def kill_a_worker(progress: Progress) -> None:
            if progress.n_shards_done == 3:
                pid = next(nanny.pid for nanny in cluster.workers.values() if nanny.pid)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        assert size == 2
        records = run(campaign, tmp_path / "c", executor, workers=size, report=kill_a_worker)
    assert len(killed) == 1
    assert not any(record.crashed for record in records)
    assert digests(tmp_path / "c") == digests(folder)


def test_dask_scheduler_that_goes_away_is_one_clear_error_and_what_is_finished_stays(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    campaign, folder = small_campaign
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:

        def close(progress: Progress) -> None:
            if progress.n_shards_done == 2:
                cluster.close()

        with (
            pytest.raises(HepfmError, match="again") as raised,
            executor_named("dask", cluster.scheduler_address, None) as (executor, size),
        ):
            run(campaign, tmp_path / "c", executor, workers=size, report=close)
    assert "\n" not in str(raised.value)
    done = digests(tmp_path / "c")
    assert len(done) >= 2
    assert done.items() <= digests(folder).items()


def test_workers_see_the_environment_as_it_is_when_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of a store, set after a first campaign."""
    for value in ("first", "second"):
        monkeypatch.setenv("HEPFM_TEST_KEY", value)
        with local_executor(1) as pool:
            assert pool.submit(os.getenv, "HEPFM_TEST_KEY").result() == value


def test_what_a_library_prints_in_a_worker_is_no_answer_of_the_command() -> None:
    code = """
import os
from hepfm.resim.executors import local_executor
with local_executor(1) as pool:
    pool.submit(os.write, 1, b"noise").result()
print("answer")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == "answer\n"
    assert done.stderr == "noise"
