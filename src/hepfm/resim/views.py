"""From frozen events to jets: one view of some events under one variation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from hepfm.resim.campaign import Campaign
from hepfm.resim.clustering import find_jets
from hepfm.resim.detector import simulate
from hepfm.resim.generator import detector_seeds
from hepfm.resim.hard import HardEvents
from hepfm.resim.labels import find_targets, match_jets, target_flavours
from hepfm.resim.shower import shower, start_generator
from hepfm.schema import column
from hepfm.table import JetTable

# Events that go through the chain together: enough for whole arrays to pay, few enough to stay small.
_BATCH_EVENTS = 250


@dataclass
class ViewCounts:
    """What happened on the way: events, causes of missing rows, and seconds by stage."""

    n_events: int = 0
    n_retried: int = 0
    n_without_jet: int = 0
    missing: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def simulate_view(events: HardEvents, campaign: Campaign, process: int, view: int) -> tuple[JetTable, ViewCounts]:
    """Simulate frozen events of one process under one variation.

    The rows of an event depend on the event and the campaign's settings alone, not on the events around it.

    Args:
        events: E frozen events.
        campaign: settings.
        process: which of the campaign's processes the events are of.
        view: which of the campaign's variations.

    Returns:
        The jets that pass the selection and match a frozen particle, and the counts. An event that the
        generator rejects (its id is in `missing`) or that has no such jet gives no row.
    """
    counts = ViewCounts(n_events=events.n_events)
    tables = [
        _simulate_batch(
            events.take(np.arange(start, min(start + _BATCH_EVENTS, events.n_events))),
            campaign,
            process,
            view,
            counts,
        )
        for start in range(0, events.n_events, _BATCH_EVENTS)
    ]
    return JetTable.concatenate(tables) if tables else JetTable.empty(), counts


def _simulate_batch(events: HardEvents, campaign: Campaign, process: int, view: int, counts: ViewCounts) -> JetTable:
    source, variation = campaign.processes[process], campaign.variations[view]
    settings = source.shower_settings + variation.settings  # of two that differ, Pythia takes the later
    with counts.timed("start"):
        start_generator(settings, events.beams)
    with counts.timed("shower"):
        showered = shower(events, settings, campaign.seed, variation.name)
    accepted = np.zeros(events.n_events, bool)
    accepted[showered.rows] = True
    counts.missing += events.event_id[~accepted].tolist()
    counts.n_retried += showered.n_retried
    events = events.take(showered.rows)
    with counts.timed("detector"):
        seeds = detector_seeds(campaign.seed, variation.name, events.event_id)
        candidates = simulate(showered.particles, campaign.detector, seeds)
    with counts.timed("jets"):
        jets = find_jets(candidates, campaign.selection)
    with counts.timed("labels"):
        targets = find_targets(events, source.label)
        matched, target = match_jets(jets, targets, campaign.selection.radius, campaign.match_radius)
        flavours = target_flavours(targets, showered.gluons)
        keep = np.zeros(len(jets), bool)
        keep[matched] = True
        jets = jets.select(keep)
        counts.n_without_jet += events.n_events - len(np.unique(jets.event))
        columns = {
            "event_id": events.event_id[jets.event],
            "jet_index": target - targets.offsets[jets.event],
            "view": np.full(len(jets), view),
            "variation": np.full(len(jets), variation.name),
            "process": np.full(len(jets), source.name),
            "jet_label": targets.label[target],
            "jet_flavour": flavours[target],
            **jets.columns,
            "truth_pt": targets.pt[target],
            "truth_eta": targets.eta[target],
            "truth_phi": targets.phi[target],
            "truth_pdg_id": targets.pdg_id[target],
            "weight": events.weight[jets.event],
        }
        # The schema decides on the types; text stays what it is.
        typed = {
            name: values if column(name).dtype == "str" else values.astype(column(name).numpy_dtype)
            for name, values in columns.items()
        }
        return JetTable(typed, jets.offsets, jets.constituents)
