"""What a campaign withstands, and what it gains or loses by running elsewhere; all of it from times of this run.

python benchmarks/chaos.py                # everything, some ten minutes on two cores
python benchmarks/chaos.py --only kills   # a part: dask, kills, freeze or shards

Exit status 1 if the killed campaign is not, to the byte, what the undisturbed one is.
"""

import argparse
import hashlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import psutil
from distributed import LocalCluster
from scale import STEPS, measure, write_records

from hepfm import manifest
from hepfm.resim.campaign import Campaign
from hepfm.resim.executors import executor_named
from hepfm.resim.frozen import hard_events
from hepfm.resim.hard import HardEvents
from hepfm.resim.planning import plan
from hepfm.resim.run import run
from hepfm.resim.variations import VARIATIONS, Variation, freeze_at
from hepfm.resim.views import simulate_views

# Quick: without underlying event a view costs a quarter, so that many tasks fit into the minutes of a benchmark.
_QUICK = """
[[variation]]
name = "quick"
settings = ["PartonLevel:MPI = off"]

[[variation]]
name = "quick-fsr-up"
settings = ["PartonLevel:MPI = off", "TimeShower:renormMultFac = 0.5"]
"""
_STRINGS = Variation("harder-strings", ("StringZ:aLund = 0.3", "StringPT:sigma = 0.4"))
_DASK_CHUNK = 250  # events a task: a quarter of what a large campaign has by default
_MIN_DELAY, _MAX_DELAY = 0.2, 7.0  # seconds from one kill to the next


def line(what: str, asked: str, measured: str) -> None:
    print(f"{what:58} {asked:>16}   {measured}", flush=True)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


# Dask.


def dask(n_events: int, repetitions: int) -> None:
    """Steady state of two workers each, which are there already: neither start-up nor the last tasks count."""
    campaign = plan(n_events, "nominal", "Hbb", seed=21, chunk_events=_DASK_CHUNK)
    rates: dict[str, list[float]] = {"local": [], "dask": []}
    with (
        tempfile.TemporaryDirectory() as name,
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, protocol="tcp://", dashboard_address=None
        ) as cluster,
        executor_named("local", None, 2) as local,
        executor_named("dask", cluster.scheduler_address, None) as remote,
    ):
        remote_workers = [psutil.Process(nanny.pid) for nanny in cluster.workers.values()]
        for repetition in range(-1, repetitions):
            order = [("local", local), ("dask", remote)]
            for kind, (pool, size) in order if repetition % 2 else order[::-1]:
                for worker in remote_workers:  # even idle ones take some per cent of a core
                    worker.resume() if kind == "dask" else worker.suspend()
                rate = steady_rate(campaign, f"{name}/{kind}{repetition}", pool, size)
                if repetition >= 0:  # the first of each starts Pythia
                    rates[kind].append(rate)
        for worker in remote_workers:
            worker.resume()
    ratios = [there / here for there, here in zip(rates["dask"], rates["local"], strict=True)]
    line("speed of Dask (TCP, 2 workers) by that of local processes", ">= 0.93", spread(ratios))
    print(
        f"  steady state of {repetitions} x {n_events:,} views each, tasks of {_DASK_CHUNK} events: "
        f"{statistics.median(rates['local']):.0f} views/s local, {statistics.median(rates['dask']):.0f} Dask"
    )


def steady_rate(campaign: Campaign, folder: str, pool: Executor, size: int) -> float:
    """Views a second from the first task of both workers to the last but two."""
    marks: list[tuple[float, int]] = []
    run(campaign, folder, pool, workers=size, report=lambda p: marks.append((time.perf_counter(), p.n_views)))
    (t0, v0), (t1, v1) = marks[2], marks[-3]
    return (v1 - v0) / (t1 - t0)


# Kills.


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every shard and of all frozen events."""
    paths = [*folder.glob("shards/*/*.h5"), *folder.glob("hard/*.lhe.gz")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def workers_of(parent: psutil.Popen) -> list[psutil.Process]:
    """The processes that simulate, those in which tasks are repeated too; not Python's own resource tracker."""
    found = []
    for process in parent.children(recursive=True):
        try:
            words, of = " ".join(process.cmdline()), process.ppid()
        except psutil.NoSuchProcess:
            continue
        # Workers are children of the process that starts them, which has the same command line.
        if ("forkserver" in words and of != parent.pid) or "hepfm.resim.isolation" in words:
            found.append(process)
    return found


def killed_again_and_again(command: list[str], n_kills: int, seed: int) -> tuple[int, dict[str, int], str]:
    """Run a command to its end, killing it and its workers on the way and doing nothing but starting it again.

    Returns:
        How often it was started; how many of whom were killed before it ended; what it said last.
    """
    numbers = random.Random(seed)
    victims = ["parent", "worker"] * (n_kills // 2) + ["parent"] * (n_kills % 2)
    numbers.shuffle(victims)
    killed = {"parent": 0, "worker": 0}
    n_starts = 0
    with tempfile.TemporaryFile("w+") as log:
        while True:
            parent = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
            n_starts += 1
            while victims and parent.poll() is None:
                time.sleep(numbers.uniform(_MIN_DELAY, _MAX_DELAY))
                victim = victims[-1]
                try:
                    target = parent if victim == "parent" else numbers.choice(workers_of(parent))
                    target.kill()
                except (IndexError, psutil.NoSuchProcess):
                    continue  # no worker yet, or over
                killed[victims.pop()] += 1
                if victim == "parent":
                    break
            if parent.wait() == 0 or n_starts > 10 * (n_kills + 1):
                break
        log.seek(0)
        said = log.read().splitlines()
    return n_starts, killed, said[-1] if said else ""


def kills(n_events: int, n_kills: int, seed: int) -> bool:
    """Whether a campaign that is killed over and over ends as one that is left alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "quick.toml").write_text(_QUICK, encoding="utf-8")
        hepfm_data = [sys.executable, "-m", "hepfm.cli"]
        settings = ["--n-events", str(n_events), "--variations", str(folder / "quick.toml"), "--chunk-events", "250"]

        def resim(out: str) -> list[str]:
            return [*hepfm_data, "resim", str(folder / out), *settings, "--workers", "2"]

        start = time.perf_counter()
        subprocess.run(resim("alone"), check=True, stdout=subprocess.DEVNULL)
        alone = time.perf_counter() - start
        start = time.perf_counter()
        n_starts, killed, said = killed_again_and_again(resim("killed"), n_kills, seed)
        disturbed = time.perf_counter() - start
        ours, theirs = digests(folder / "killed"), digests(folder / "alone")
        records = manifest.read(folder / "killed")
        n_shards = plan(n_events, str(folder / "quick.toml"), chunk_events=250).n_shards
        n_temporary = sum(1 for _ in (folder / "killed").rglob("*.tmp"))
        checked = subprocess.run(
            [*hepfm_data, "check", str(folder / "killed")], capture_output=True, text=True, check=False
        )
        found = checked.stdout.strip().splitlines()[-1]
        right = {
            f"all {n_kills} kills fell within the campaign": sum(killed.values()) == n_kills,
            "the same files with the same sha256": ours == theirs,
            "each shard recorded once, as it is": len(records) == n_shards
            and {r.path: r.sha256 for r in records} == {p: d for p, d in ours.items() if p.startswith("shards/")},
            "no event recorded as crashed": not any(r.crashed for r in records),
            "check finds nothing": checked.returncode == 0,
        }
    line(
        f"{killed['parent']} SIGKILLs of the parent, {killed['worker']} of workers, {n_shards} shards",
        "same digests",
        "yes" if ours == theirs else "NO",
    )
    print(
        f"  {alone:.0f} s undisturbed, {disturbed:.0f} s with kills (seed {seed}) and {n_starts} starts of the same "
        f"command; {len(ours)} files compared, {n_temporary} *.tmp left behind; check: {found}"
    )
    for what, is_so in right.items():
        print(f"  {'yes' if is_so else 'NO '} {what}")
    if not all(right.values()) and said:
        print(f"  last said: {said}")
    return all(right.values())


# Freeze points.


def seconds_of(events: HardEvents, campaign: Campaign, views: list[int]) -> tuple[float, list[float]]:
    """Seconds of views that are simulated together, and of each of them."""
    start = time.perf_counter()
    made = simulate_views(events, campaign, 0, views)
    whole = time.perf_counter() - start
    return whole, [sum(view.counts.seconds.values()) for view in made]


def freeze(n_events: int, repetitions: int) -> None:
    """Four hadronisation views of one shower, against four showers; Pythia started before."""
    variations = (VARIATIONS["nominal"], VARIATIONS["reseed"], VARIATIONS["hadronisation"], _STRINGS)
    full = plan(n_events, variations, "Hbb", seed=22)
    shared = replace(full, variations=freeze_at("shower", variations))
    redetected = replace(full, variations=(VARIATIONS["nominal"], VARIATIONS["redetect"]))
    ratios, added, again = [], {"full": [], "shower": []}, []
    with tempfile.TemporaryDirectory() as folder:
        events = hard_events(full, folder, 0, 0, n_events)
    for repetition in range(-1, repetitions):
        taken = events if repetition >= 0 else events.take(range(20))  # the first time starts and compiles
        separate = [seconds_of(taken, full, [view]) for view in range(4)]
        together, by_view = seconds_of(taken, shared, [0, 1, 2, 3])
        _, (_, once_more) = seconds_of(taken, redetected, [0, 1])
        if repetition >= 0:
            ratios.append(sum(whole for whole, _ in separate) / together)
            added["full"] += [whole for whole, _ in separate[1:]]
            added["shower"] += by_view[1:]
            again.append(once_more)
    line("nominal and 3 hadronisation views, --freeze shower", ">= 2 x faster", f"x {spread(ratios)}")
    milliseconds = 1000 / n_events
    print(
        f"  {repetitions} x {n_events} events of Hbb, underlying event, detector cms; one more view in ms: "
        f"full {milliseconds * statistics.median(added['full']):.2f}, "
        f"shared shower {milliseconds * statistics.median(added['shower']):.2f}, "
        f"redetect {milliseconds * statistics.median(again):.2f}"
    )


# Many shards.


def shards(n_shards: int) -> None:
    """Resuming and summing up a campaign of many shards, each in a fresh process."""
    campaign = plan(1000 * (n_shards // 8), "8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "c"
        n_records = write_records(campaign, folder)
        for step in ("decide what is missing", "hepfm-data info"):
            seconds, megabytes = measure(STEPS[step], folder)
            line(f"{n_records:,} shards: {step}", "<= 5 s, 500 MB", f"{seconds:.2f} s, {megabytes:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=("dask", "kills", "freeze", "shards"))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--dask-events", type=int, default=3000)
    parser.add_argument("--freeze-events", type=int, default=250)
    parser.add_argument("--kill-events", type=int, default=32_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kill-seed", type=int, default=1)
    parser.add_argument("--shards", type=int, default=100_000)
    arguments = parser.parse_args()
    parts = arguments.only or ("dask", "kills", "freeze", "shards")
    line("what", "asked", "measured")
    is_right = True
    if "dask" in parts:
        dask(arguments.dask_events, arguments.repetitions)
    if "kills" in parts:
        is_right = kills(arguments.kill_events, arguments.kills, arguments.kill_seed)
    if "freeze" in parts:
        freeze(arguments.freeze_events, arguments.repetitions)
    if "shards" in parts:
        shards(arguments.shards)
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
