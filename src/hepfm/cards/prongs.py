"""Where frozen quarks and charged leptons point, of any number of jets."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hepfm.atomic import exists

if TYPE_CHECKING:
    from hepfm.resim.campaign import Campaign

_Floats = NDArray[np.float64]


def frozen_prongs_of(folder: Path, jets: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[_Floats, _Floats]]:
    """Directions of the frozen quarks and charged leptons that jets come from.

    Args:
        folder: a campaign's, as `hepfm.atomic.location` gives it.
        jets: event_id and jet_index of each; every block of frozen events that they are in is read once.

    Returns:
        By event_id and jet_index, eta and phi (in rad) of the decay products of a resonance; for a quark or gluon,
        its own. Jets that the frozen events in the folder do not hold are left out.

    Raises:
        InputError: the campaign, or a block of frozen events, is damaged.
    """
    # Pythia is imported with these; a figure of a dataset without its campaign does not need it.
    from hepfm.resim.campaign import Campaign
    from hepfm.resim.folder import CAMPAIGN_FILE
    from hepfm.resim.hard import read_block
    from hepfm.resim.labels import find_targets

    campaign = Campaign.from_toml(folder / CAMPAIGN_FILE)
    wanted: dict[int, list[int]] = {}
    for event_id, jet_index in jets:
        wanted.setdefault(event_id, []).append(jet_index)
    found: dict[tuple[int, int], tuple[_Floats, _Floats]] = {}
    for path, label, event_ids in _blocks(campaign, np.array(sorted(wanted), np.int64)):
        if not exists(folder / path):
            continue
        block = read_block(folder / path)
        events = block.take(np.flatnonzero(np.isin(block.event_id, event_ids)))
        targets = find_targets(events, label)
        for event_id, first, stop in zip(
            events.event_id.tolist(), targets.offsets[:-1].tolist(), targets.offsets[1:].tolist(), strict=True
        ):
            for jet_index in wanted[event_id]:
                if 0 <= jet_index < stop - first:
                    eta, phi = targets.prong_eta[first + jet_index], targets.prong_phi[first + jet_index]
                    found[event_id, jet_index] = eta[~np.isnan(eta)], phi[~np.isnan(phi)]
    return found


def _blocks(campaign: "Campaign", wanted: NDArray[np.int64]) -> Iterator[tuple[str, str | None, NDArray[np.int64]]]:
    """Paths of the blocks that hold events of these numbers, the class of their process, and the numbers."""
    from hepfm.resim.campaign import BLOCK_EVENTS

    for process, source in enumerate(campaign.processes):
        n_events = campaign.events_of(process)
        for block, start in enumerate(range(0, n_events, BLOCK_EVENTS)):
            event_ids = campaign.event_ids(process, start, min(start + BLOCK_EVENTS, n_events))
            here = wanted[np.isin(wanted, event_ids)]
            if len(here):
                yield campaign.block_path(process, block), source.label, here
