"""How long a campaign takes and how large it gets, from a few of its events simulated here and now."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hepfm.manifest import ShardRecord
from hepfm.resim.campaign import Campaign
from hepfm.resim.summary import summarise
from hepfm.resim.tasks import hard_events, run_task, tasks_with_frozen_events
from hepfm.resim.views import simulate_view

_PILOT_EVENTS = 20


@dataclass(frozen=True)
class Estimate:
    """What one variation costs: seconds on one core and bytes, a view and in all.

    `start_seconds` is what each worker needs before its first view.
    """

    variation: str
    start_seconds: float
    seconds_a_view: float
    jets_a_view: float
    seconds: float
    n_bytes: float


def estimate(campaign: Campaign) -> list[Estimate]:
    """Simulate 20 events of each process under each variation, in this process, and scale up.

    Where numba has not compiled the detector before, that too goes into the first variation's start.

    Raises:
        HepfmError: as `run` would.
    """
    n_sources = 1 if campaign.from_files else len(campaign.processes)
    n_pilot = min(campaign.n_events, _PILOT_EVENTS * n_sources)
    pilot = replace(campaign, n_events=n_pilot, chunk_events=_PILOT_EVENTS)
    records: dict[int, list[ShardRecord]] = {view: [] for view in range(len(pilot.variations))}
    starts: dict[int, float] = {}
    empty_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks_with_frozen_events(pilot, Path(folder)):
            chunk = task.chunk
            if not records[task.view]:
                # Starting Pythia and compiling happen once a worker, not once a view.
                first = hard_events(pilot, folder, chunk.process, chunk.start, chunk.stop).take(np.arange(1))
                before = time.perf_counter()
                simulate_view(first, pilot, chunk.process, task.view)
                starts[task.view] = time.perf_counter() - before
            if not empty_bytes:
                no_events = replace(task, chunk=replace(chunk, stop=chunk.start))
                empty_bytes = run_task(pilot, folder, no_events).n_bytes
            records[task.view].append(run_task(pilot, folder, task))
    n_shards = campaign.n_tasks / len(campaign.variations)
    names = [v.name for v in campaign.variations]
    summary = summarise([record for found in records.values() for record in found], names)
    estimates = []
    for view, found in records.items():
        cost = summary["variations"][names[view]]
        n_views, seconds = cost["n_events"], cost["ms_a_view"] / 1000
        # A shard has a fixed size and a size by jet; the pilot's are nearly all fixed size.
        content = sum(r.n_bytes - empty_bytes for r in found) / n_views
        estimates.append(
            Estimate(
                names[view],
                starts[view],
                seconds,
                cost["n_jets"] / n_views,
                seconds * campaign.n_events,
                empty_bytes * n_shards + content * campaign.n_events,
            )
        )
    return estimates
