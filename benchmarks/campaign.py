"""What a campaign costs beside Pythia's own time; every ratio is of times taken in this run.

python benchmarks/campaign.py             # share of Pythia, other time, two workers, the usual chain
python benchmarks/campaign.py --memory    # peak memory of a worker after 1,000 and 50,000 events (minutes)
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import fastjet
import numpy as np
import pyhepmc

from hepfm.formats.hdf5 import write_shard
from hepfm.resim.campaign import BLOCK_EVENTS, Campaign
from hepfm.resim.frozen import hard_events
from hepfm.resim.generator import pythia_seeds
from hepfm.resim.hard import HardEvents, feed_entries
from hepfm.resim.planning import plan
from hepfm.resim.run import run
from hepfm.resim.shower import start_generator
from hepfm.resim.views import simulate_views

_INVISIBLE = (12, 14, 16)


def pythia_alone(events: HardEvents, campaign: Campaign) -> float:
    """Seconds that `next()` takes on the events, fed and seeded as in a campaign: with what hepfm hooks into it."""
    variation = campaign.variations[0]
    pythia, feed, _ = start_generator(variation.settings, events.beams)
    feed.load(feed_entries(events, pythia_seeds(campaign.seed, variation.name, events.event_id)))
    start = time.perf_counter()
    for _ in range(events.n_events):
        pythia.next()
    return time.perf_counter() - start


def freezing(campaign: Campaign, folder: Path) -> float:
    """Seconds that a block of frozen events takes, from starting Pythia to the file on disk."""
    start = time.perf_counter()
    hard_events(campaign, folder, 0, 0, BLOCK_EVENTS)
    return time.perf_counter() - start


def whole_view(events: HardEvents, campaign: Campaign, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds from frozen events to a shard on disk, and the same by stage."""
    start = time.perf_counter()
    [view] = simulate_views(events, campaign, 0, [0])
    with view.counts.timed("write"):
        write_shard(folder / "shard.h5", view.table, {})
    return time.perf_counter() - start, view.counts.seconds


def usual_chain(events: HardEvents, campaign: Campaign, folder: Path) -> float:
    """Seconds of the chain people stitch together, without a detector.

    Pythia event by event, a HepMC3 file, reading it back, and anti-kT one event at a time in Python.
    """
    variation = campaign.variations[0]
    pythia, feed, _ = start_generator(variation.settings, events.beams)
    feed.load(feed_entries(events, pythia_seeds(campaign.seed, variation.name, events.event_id)))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, campaign.selection.radius)
    path = folder / "events.hepmc"
    start = time.perf_counter()
    with pyhepmc.open(path, "w") as file:
        for number in range(events.n_events):
            pythia.next()
            file.write(_hepmc(pythia, number))
    with pyhepmc.open(path) as file:
        for event in file:
            particles = event.numpy.particles
            stable = (particles.status == 1) & ~np.isin(np.abs(particles.pid), _INVISIBLE)
            momenta = zip(*(getattr(particles, n)[stable].tolist() for n in ("px", "py", "pz", "e")), strict=True)
            inputs = [fastjet.PseudoJet(*p) for p in momenta]
            sequence = fastjet.ClusterSequence(inputs, definition)
            for jet in sequence.inclusive_jets(campaign.selection.pt_min):
                [(p.px(), p.py(), p.pz(), p.e()) for p in jet.constituents()]
    return time.perf_counter() - start


def _hepmc(pythia: object, number: int) -> pyhepmc.GenEvent:
    """The event's beams and hadrons as HepMC3: smaller than the full record that the usual converters write."""
    record = list(pythia.event)
    status = np.array([p.statusHepMC() for p in record], np.int32)
    kept = np.flatnonzero((status == 1) | (status == 2) | (status == 4))
    place = np.zeros(len(record), np.int32)
    place[kept] = np.arange(1, len(kept) + 1)
    mother = place[[record[i].mother1() for i in kept]]
    # Whatever comes from partons has the beams as its parents.
    parents = np.where(mother[:, None] > 0, mother[:, None], np.array([1, 2], np.int32)).astype(np.int32)
    parents[status[kept] == 4] = 0
    event = pyhepmc.GenEvent()
    event.from_hepevt(
        event_number=number,
        parents=parents,
        pid=np.array([record[i].id() for i in kept], np.int32),
        status=status[kept],
        **{
            name: np.array([getattr(record[i], method)() for i in kept])
            for name, method in zip(("px", "py", "pz", "en", "m"), ("px", "py", "pz", "e", "m"), strict=True)
        },
        **{f"v{axis}": np.array([getattr(record[i], f"{axis}Prod")() for i in kept]) for axis in "xyzt"},
    )
    return event


def compare(n_events: int, repetitions: int) -> None:
    campaign = plan(n_events, "nominal", "Hbb", seed=11)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = hard_events(campaign, folder, 0, 0, n_events)
        few = events.take(np.arange(min(50, n_events)))
        whole_view(few, campaign, folder)  # compile, and start Pythia
        usual_chain(few, campaign, folder)
        frozen, alone, whole, chain, stages = [], [], [], [], []
        for repetition in range(repetitions):
            block = replace(campaign, n_events=BLOCK_EVENTS, seed=repetition)
            frozen.append(freezing(block, folder / str(repetition)))
            alone.append(pythia_alone(events, campaign))
            seconds, by_stage = whole_view(events, campaign, folder)
            whole.append(seconds)
            stages.append(by_stage)
            chain.append(usual_chain(events, campaign, folder))
    milliseconds = 1000 / n_events
    print(f"H→bb, pTHat > 350 GeV, underlying event, detector cms, {repetitions} × {n_events} events, one core")
    print(f"  freezing, for all views     {1000 / BLOCK_EVENTS * statistics.median(frozen):8.3f} ms/event")
    print(f"  Pythia's next() alone       {milliseconds * statistics.median(alone):8.3f} ms/event")
    print(f"  frozen event to shard       {milliseconds * statistics.median(whole):8.3f} ms/event")
    for stage in stages[0]:
        print(f"    {stage:<24}  {milliseconds * statistics.median(s[stage] for s in stages):8.3f}")
    shares = [a / w for a, w in zip(alone, whole, strict=True)]
    others = [milliseconds * (w - a) for a, w in zip(alone, whole, strict=True)]
    print(f"  share of Pythia             {statistics.median(shares):8.3f}   ({min(shares):.3f} to {max(shares):.3f})")
    print(f"  everything else             {statistics.median(others):8.3f} ms/view")
    ratio = statistics.median(c / w for c, w in zip(chain, whole, strict=True))
    print(f"  usual chain, no detector    {milliseconds * statistics.median(chain):8.3f} ms/event, × {ratio:.2f}")


def workers(n_events: int) -> None:
    campaign = plan(n_events, "nominal,reseed", "Hbb", seed=12, chunk_events=100)
    with tempfile.TemporaryDirectory() as name:
        rates = {}
        for n in (1, 2, 1, 2):
            folder = Path(name) / f"{n}-{len(rates)}-{time.time_ns()}"
            marks: list[tuple[float, int]] = []
            run(campaign, folder, workers=n, report=lambda p, m=marks: m.append((time.perf_counter(), p.n_views)))
            # Steady state: from the first n tasks (which started Pythia) to the last task but n.
            (t0, v0), (t1, v1) = marks[2 * n], marks[-n - 1]
            rates.setdefault(n, []).append((v1 - v0) / (t1 - t0))
    one, two = (statistics.mean(rates[n]) for n in (1, 2))
    print(f"workers: {one:.0f} views/s with 1, {two:.0f} with 2: × {two / one:.2f}")


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> None:
    for variations, sizes in (("8", (1000,)), ("nominal", (1000, 50_000))):
        for n_events in sizes:
            campaign = replace(plan(n_events, variations), chunk_events=1000)
            with (
                tempfile.TemporaryDirectory() as name,
                ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
            ):
                run(campaign, name, pool, workers=1)
                peak = pool.submit(_peak_megabytes).result()
            print(f"worker after {n_events:,} events, variations {variations}: peak {peak:.0f} MB", flush=True)


def start_up() -> None:
    for command in (["-c", "import hepfm"], ["-m", "hepfm.cli", "--help"]):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        print(f"python {' '.join(command)}: {statistics.median(times):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        memory()
        return
    start_up()
    compare(arguments.events, arguments.repetitions)
    workers(10 * arguments.events)


if __name__ == "__main__":
    main()
