"""How long a campaign takes and how large it gets, from a few of its events simulated here and now."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from hepfm.manifest import ShardRecord
from hepfm.resim.campaign import Campaign
from hepfm.resim.frozen import tasks_with_frozen_events
from hepfm.resim.tasks import run_task
from hepfm.summary import summarise

_PILOT_EVENTS = 20


@dataclass(frozen=True)
class Cost:
    """What one variation costs: seconds on one core and bytes, a view and in all.

    `start_seconds` is what each worker needs before its first view.
    """

    variation: str
    start_seconds: float
    seconds_a_view: float
    jets_a_view: float
    seconds: float
    n_bytes: float


@dataclass(frozen=True)
class Estimate:
    """What a campaign costs: each variation, the bytes of the frozen events, and the seconds of the longest task."""

    variations: tuple[Cost, ...]
    frozen_bytes: float
    longest_task: float

    @property
    def n_bytes(self) -> float:
        """What all of it takes on disk."""
        return self.frozen_bytes + sum(cost.n_bytes for cost in self.variations)

    def seconds_on(self, workers: int) -> float:
        """Time from start to end on some workers, of which those that find no task are no help."""
        shared = sum(cost.seconds for cost in self.variations) / workers
        # Workers start at the same time, and each starts every variation.
        return max(shared, self.longest_task) + sum(cost.start_seconds for cost in self.variations)


def estimate(campaign: Campaign) -> Estimate:
    """Simulate 20 events of each process under each variation, in this process, and scale up.

    For views from files, which hold whole blocks, our own shower stands in; reading takes about twice its time. Where
    numba has not compiled the detector before, that too goes into the first variation's start.

    Raises:
        HepfmError: as `run` would.
    """
    n_sources = 1 if campaign.from_files else len(campaign.processes)
    n_pilot = min(campaign.n_events, _PILOT_EVENTS * n_sources)
    variations = tuple(replace(v, hepmc="") for v in campaign.variations)
    pilot = replace(campaign, n_events=n_pilot, chunk_events=_PILOT_EVENTS, variations=variations)
    names = [v.name for v in pilot.variations]
    records: dict[str, list[ShardRecord]] = {name: [] for name in names}
    starts = dict.fromkeys(names, 0.0)
    empty_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks_with_frozen_events(pilot, Path(folder)):
            chunk, first_name = task.chunk, names[task.views[0]]
            if not records[first_name]:
                # Starting Pythia and compiling happen once a worker, not once a view.
                one_event = replace(task, chunk=replace(chunk, stop=chunk.start + 1))
                before = time.perf_counter()
                run_task(pilot, folder, one_event)
                starts[first_name] = time.perf_counter() - before
            if not empty_bytes:
                no_events = replace(task, chunk=replace(chunk, stop=chunk.start))
                empty_bytes = run_task(pilot, folder, no_events)[0].n_bytes
            for record in run_task(pilot, folder, task):
                records[record.variation].append(record)
        frozen_bytes = sum(path.stat().st_size for path in Path(folder).glob("hard/*"))
    n_shards = campaign.n_shards / len(campaign.variations)
    summary = summarise([record for found in records.values() for record in found], names)
    costs = []
    for name, found in records.items():
        cost = summary["variations"][name]
        n_views, seconds = cost["n_events"], cost["ms_a_view"] / 1000
        # A shard has a fixed size and a size by jet; the pilot's are nearly all fixed size.
        content = sum(r.n_bytes - empty_bytes for r in found) / n_views
        costs.append(
            Cost(
                name,
                starts[name],
                seconds,
                cost["n_jets"] / n_views,
                seconds * campaign.n_events,
                empty_bytes * n_shards + content * campaign.n_events,
            )
        )
    longest_chunk = min(campaign.chunk_events, max(map(campaign.events_of, range(len(campaign.processes)))))
    slowest_group = max(sum(costs[view].seconds_a_view for view in views) for views in campaign.groups)
    return Estimate(tuple(costs), frozen_bytes / n_pilot * campaign.n_events, longest_chunk * slowest_group)
