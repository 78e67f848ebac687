"""One task of a campaign: a chunk of frozen events under one variation, from frozen events to a shard."""

import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepfm import manifest
from hepfm.formats.hdf5 import write_shard
from hepfm.resim.campaign import Campaign, Chunk, Task, check_files
from hepfm.resim.generator import pythia_seeds
from hepfm.resim.hard import HardEvents, concatenate, freeze_lhe, generate, read_block, write_block
from hepfm.resim.labels import find_targets
from hepfm.resim.views import simulate_view


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
        "frozen_events": campaign.frozen_digest,
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
