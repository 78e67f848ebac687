"""Where the events of a task come from: frozen events in the campaign folder, or finished ones of other generators."""

import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepfm.atomic import exists, location
from hepfm.errors import InputError
from hepfm.formats.hepmc import HepmcReader
from hepfm.resim.campaign import BLOCK_EVENTS, Campaign, Chunk, Task, check_files
from hepfm.resim.generator import pythia_seeds
from hepfm.resim.hard import HardEvents, concatenate, freeze_lhe, generate, read_block, write_block
from hepfm.resim.ingest import file_of_block
from hepfm.resim.labels import find_targets
from hepfm.resim.particles import Particles
from hepfm.resim.records import finished_events, read_showered
from hepfm.resim.shower import Gluons, Showered

# The threads of a process share the reader of a file, and take turns.
_TURN = threading.Lock()


def tasks_with_frozen_events(campaign: Campaign, folder: Path) -> Iterator[Task]:
    """Tasks, each once the frozen events that it needs are on disk or can be made by the worker itself.

    Raises:
        InputError: a file that the events come from cannot be read, is damaged, or has changed.
    """
    if campaign.is_finished:
        check_files(campaign)  # they are not frozen: each task reads them again
    if not campaign.from_files or campaign.is_finished:
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
    size, total = BLOCK_EVENTS, campaign.events_of(process)
    sizes = [min(size, total - start) for start in range(0, total, size)]
    paths = [folder / campaign.block_path(process, block) for block in range(len(sizes))]
    if all(exists(path) for path in paths):
        yield from sizes
        return
    check_files(campaign)
    first = int(campaign.event_ids(process, 0, 1)[0])
    events = freeze_lhe(Path(str(source.lhe)), source.settings, campaign.seed, range(first, first + total), size)
    for path, block, n in zip(paths, events, sizes, strict=True):
        if not exists(path):
            write_block(path, block)
        yield n


def events_of(campaign: Campaign, folder: str, task: Task) -> tuple[HardEvents, Showered | None]:
    """The frozen events of a task, and their hadrons where another generator has made these already.

    Raises:
        InputError: frozen events or HepMC files are missing or damaged.
    """
    chunk = task.chunk
    if campaign.is_finished:
        ids = campaign.event_ids(chunk.process, chunk.start, chunk.stop)
        with _TURN:
            reader = _reader(str(campaign.processes[chunk.process].hepmc))
            return finished_events(reader, ids, chunk.start, chunk.stop)
    events = hard_events(campaign, folder, chunk.process, chunk.start, chunk.stop)
    made_elsewhere = campaign.variations[campaign.root_of(task.views[0])].hepmc
    return events, _made_elsewhere(campaign, folder, chunk, made_elsewhere, events) if made_elsewhere else None


def _made_elsewhere(campaign: Campaign, folder: str, chunk: Chunk, hepmc: str, events: HardEvents) -> Showered:
    """The hadrons of a chunk, from the HepMC files that are named after its blocks of frozen events."""
    parts = []
    for block in campaign.blocks_of(chunk).values():
        frozen = frozen_block(campaign, folder, chunk.process, block)
        showered = _showered_block(campaign, folder, hepmc, chunk.process, block)
        ids = frozen.event_id[showered.rows]
        taken = np.flatnonzero(np.isin(ids, events.event_id))
        rows = np.searchsorted(events.event_id, ids[taken])
        parts.append(Showered(rows, showered.particles.take(taken), showered.gluons.take(taken), 0))
    return Showered(
        np.concatenate([part.rows for part in parts]),
        Particles.concatenate([part.particles for part in parts]),
        Gluons.concatenate([part.gluons for part in parts]),
        0,
    )


@lru_cache(maxsize=2)
def _showered_block(campaign: Campaign, folder: str, hepmc: str, process: int, block: int) -> Showered:
    made = file_of_block(hepmc, campaign.block_path(process, block))
    return read_showered(made, frozen_block(campaign, folder, process, block))


@lru_cache(maxsize=4)
def _reader(path: str) -> HepmcReader:
    """The reader of a file, which goes on where the last chunk of this process ended."""
    return HepmcReader(Path(path))


def hard_events(campaign: Campaign, folder: Path | str, process: int, start: int, stop: int) -> HardEvents:
    """Frozen events `start` to `stop` of one process, from the campaign folder; made there if they are not yet.

    At least the block of `start` is read, so that even no events have beams and a cross-section.

    Raises:
        InputError: a block of frozen events is damaged.
    """
    numbers = campaign.blocks_of(Chunk(0, process, start, stop)).values()
    events = concatenate([frozen_block(campaign, str(folder), process, number) for number in numbers])
    wanted = campaign.event_ids(process, start, stop)
    # A file's event that Pythia cannot use leaves a gap in the ids.
    return events.take(np.flatnonzero(np.isin(events.event_id, wanted)))


def frozen_block(campaign: Campaign, folder: str, process: int, block: int) -> HardEvents:
    """One block of frozen events, from the campaign folder; made there if it is not yet.

    Raises:
        InputError: it is damaged.
    """
    events = _known_block(campaign, folder, process, block)
    path = location(folder) / campaign.block_path(process, block)
    if not exists(path):
        # Just made, or deleted since. Two workers may do this at the same time: they write the same bytes.
        write_block(path, events)
    return events


@lru_cache(maxsize=4)
def _known_block(campaign: Campaign, folder: str, process: int, block: int) -> HardEvents:
    path = location(folder) / campaign.block_path(process, block)
    expected = campaign.events_of_block(process, block)
    if exists(path) or campaign.from_files:
        events = read_block(path)
        # A late task of a smaller campaign may have left fewer; of a file's events, Pythia may be unable to use some.
        if not campaign.from_files and events.n_events != len(expected):
            msg = (
                f"{path} holds {events.n_events} frozen events, expected {len(expected)}. Delete it, then run the same "
                "command again, which makes it anew."
            )
            raise InputError(msg)
        return events
    source = campaign.processes[process]
    ids = campaign.event_ids(process, expected.start, expected.stop)

    def accept(events: HardEvents) -> NDArray[np.bool_]:
        return np.asarray(find_targets(events, source.label).counts == source.n_targets)

    seed = pythia_seeds(campaign.seed, f"hard/{source.name}", np.array([block]))
    return generate(source.settings, campaign.beams, int(seed[0]), ids, accept)
