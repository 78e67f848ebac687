"""One task of a campaign: a chunk of frozen events under variations that share what they keep, to shards."""

import time
from collections.abc import Collection

import numpy as np

from hepfm import manifest
from hepfm.atomic import location
from hepfm.formats.hdf5 import write_shard
from hepfm.resim.campaign import BLOCK_EVENTS, Campaign, Chunk, Task
from hepfm.resim.frozen import events_of, frozen_block
from hepfm.resim.hard import HardEvents
from hepfm.resim.views import simulate_views


def run_task(campaign: Campaign, folder: str, task: Task, skip: Collection[int] = ()) -> list[manifest.ShardRecord]:
    """Simulate one chunk under variations that share what they keep, and write a shard of each.

    A pure function but for the files it leaves.

    Args:
        campaign: settings.
        folder: the campaign folder.
        task: what to simulate.
        skip: ids of events to leave out, because they kill the generator.

    Returns:
        The records of the shards.
    """
    start = time.perf_counter()
    chunk = task.chunk
    events, showered = events_of(campaign, folder, task)
    frozen = time.perf_counter() - start
    n_unusable = chunk.stop - chunk.start - events.n_events
    cross_sections = _cross_sections(campaign, folder, chunk, events)
    crashed = sorted(set(skip))
    if crashed:
        rows = np.flatnonzero(~np.isin(events.event_id, crashed))
        events, showered = events.take(rows), showered and showered.of(rows)
    records = []
    views = simulate_views(events, campaign, chunk.process, task.views, showered)
    for view, made in zip(task.views, views, strict=True):
        counts = made.counts
        name = campaign.shard_path(chunk, view)
        with counts.timed("write"):
            sha256, n_bytes = write_shard(location(folder) / name, made.table, _provenance(campaign, chunk, view))
        records.append(
            manifest.ShardRecord(
                path=name,
                sha256=sha256,
                variation=campaign.variations[view].name,
                process=campaign.processes[chunk.process].name,
                chunk=chunk.number,
                n_events=chunk.stop - chunk.start,
                n_jets=made.table.n_jets,
                n_missing=n_unusable + len(crashed) + len(counts.missing),
                n_retried=counts.n_retried,
                n_without_jet=counts.n_without_jet,
                n_bytes=n_bytes,
                cross_sections=cross_sections,
                missing=counts.missing,
                crashed=crashed,
                seconds={"freeze": frozen, **counts.seconds},
            )
        )
        frozen = 0.0  # once, not for every shard
    return records


def _provenance(campaign: Campaign, chunk: Chunk, view: int) -> dict[str, object]:
    """What a shard says of where it comes from."""
    variation, process = campaign.variations[view], campaign.processes[chunk.process]
    is_external = bool(variation.external or variation.hepmc)
    return {
        "frozen_events": campaign.frozen_digest,
        "seed": campaign.seed,
        "variation": variation.name,
        "settings": [] if is_external else [*process.shower_settings, *campaign.settings_of(view)],
        "freeze": variation.freeze,
        "shares_with": "" if variation.is_independent else variation.base,
        "generator": variation.external or variation.hepmc or "Pythia",
        "process": process.name,
        "detector": variation.detector or campaign.detector,
        "first_event": int(campaign.event_ids(chunk.process, chunk.start, chunk.start + 1)[0]),
        "n_events": chunk.stop - chunk.start,
    }


def _cross_sections(campaign: Campaign, folder: str, chunk: Chunk, events: HardEvents) -> dict[str, list[float]]:
    """Independent estimates, one a block that Pythia made, one a file from outside; see `ShardRecord`."""
    name, n_events = campaign.processes[chunk.process].name, chunk.stop - chunk.start
    if campaign.from_files:
        return {name: [events.cross_section.value, events.cross_section.error, n_events]}
    estimates = {}
    for block in campaign.blocks_of(chunk).values():
        section = frozen_block(campaign, folder, chunk.process, block).cross_section
        start = block * BLOCK_EVENTS
        n_covered = min(chunk.stop, start + BLOCK_EVENTS) - max(chunk.start, start)
        estimates[f"{name}-{block:06d}"] = [section.value, section.error, n_covered]
    return estimates
