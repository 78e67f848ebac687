"""From frozen events to jets: the views of some events under variations that share what they keep."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from hepfm.resim.campaign import Campaign
from hepfm.resim.clustering import find_jets
from hepfm.resim.detector import simulate
from hepfm.resim.external import shower_externally
from hepfm.resim.generator import detector_seeds, pythia_seeds
from hepfm.resim.hard import HardEvents
from hepfm.resim.labels import find_targets, match_jets, target_flavours
from hepfm.resim.shower import Showered, hadronise, shower, start_generator, start_hadroniser
from hepfm.schema import column
from hepfm.table import JetTable

# Events that go through the chain together: enough for whole arrays to pay, few enough to stay small.
_BATCH_EVENTS = 250


@dataclass
class ViewCounts:
    """What happened on the way: causes of missing rows, and seconds by stage."""

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


@dataclass(frozen=True)
class View:
    """What became of some events under one variation: the jets that are kept, and the counts."""

    table: JetTable
    counts: ViewCounts


def simulate_views(
    events: HardEvents, campaign: Campaign, process: int, views: Sequence[int], showered: Showered | None = None
) -> list[View]:
    """Simulate frozen events of one process under variations that belong to the same group.

    The rows of an event depend on the event and the campaign's settings alone, not on the events around it; but for
    those of a generator of somebody else, which has one seed for all of them.

    Args:
        events: E frozen events.
        campaign: settings.
        process: which of the campaign's processes the events are of.
        views: which of the campaign's variations; what they keep of others is made along the way.
        showered: the hadrons of the first variation, where another generator has made them already.

    Returns:
        For each of `views`, the jets that pass the selection and match a frozen particle, and the counts. An
        event that the generator rejects (its id is in `missing`) or that has no such jet gives no row.
    """
    needed = _with_bases(campaign, views)
    counts = {view: ViewCounts() for view in needed}
    tables: dict[int, list[JetTable]] = {view: [] for view in needed}
    root = needed[0]
    external = campaign.variations[root].external
    if external and events.n_events:
        seeds = pythia_seeds(campaign.seed, campaign.variations[root].name, events.event_id[:1])
        with counts[root].timed("shower"):
            showered = shower_externally(events, external, int(seeds[0]))
    keep = any(campaign.variations[view].freeze == "shower" for view in needed)
    for start in range(0, events.n_events, _BATCH_EVENTS):
        stop = min(start + _BATCH_EVENTS, events.n_events)
        rows = np.arange(start, stop)
        batch = events.take(rows)
        made = {} if showered is None else {root: showered.of(rows)}
        for view in needed:
            if view not in made:
                made[view] = _shower(batch, campaign, process, view, made, counts[view], keep=keep)
            if view in views:
                tables[view].append(_measure(batch, made[view], campaign, process, view, counts[view]))
    for view in needed:
        # What was made only to be kept counts for the first of the views that keep it.
        if view not in views:
            for stage, seconds in counts[view].seconds.items():
                counts[views[0]].seconds[stage] = counts[views[0]].seconds.get(stage, 0.0) + seconds
    return [
        View(JetTable.concatenate(tables[view]) if tables[view] else JetTable.empty(), counts[view]) for view in views
    ]


def _with_bases(campaign: Campaign, views: Sequence[int]) -> list[int]:
    """The views and those that they keep something of, each after its base."""
    needed: list[int] = []
    for view in views:
        chain = [view]
        while (base := campaign.base_of(chain[-1])) is not None:
            chain.append(base)
        needed += [v for v in reversed(chain) if v not in needed]
    return needed


def _shower(
    events: HardEvents,
    campaign: Campaign,
    process: int,
    view: int,
    made: dict[int, Showered],
    counts: ViewCounts,
    *,
    keep: bool,
) -> Showered:
    """The hadrons of some events under one variation; its base is in `made`."""
    source, variation, base = campaign.processes[process], campaign.variations[view], campaign.base_of(view)
    settings = source.shower_settings + campaign.settings_of(view)  # of two that differ, Pythia takes the later
    if base is None:
        with counts.timed("start"):
            start_generator(settings, events.beams)
        with counts.timed("shower"):
            return shower(events, settings, campaign.seed, variation.name, keep_partons=keep)
    kept = made[base]
    if variation.freeze == "hadron":
        return replace(kept, n_retried=0)
    if kept.partons is None:
        msg = f"the showers of view {base} were not kept"
        raise ValueError(msg)
    with counts.timed("start"):
        start_hadroniser(settings, events.beams)
    with counts.timed("shower"):
        again = hadronise(kept.partons, settings, campaign.seed, variation.name)
    return replace(again, rows=kept.rows[again.rows])


def _measure(
    events: HardEvents, showered: Showered, campaign: Campaign, process: int, view: int, counts: ViewCounts
) -> JetTable:
    """The jets of some events whose hadrons are known."""
    source, variation = campaign.processes[process], campaign.variations[view]
    accepted = np.zeros(events.n_events, bool)
    accepted[showered.rows] = True
    counts.missing += events.event_id[~accepted].tolist()
    counts.n_retried += showered.n_retried
    events = events.take(showered.rows)
    with counts.timed("detector"):
        seeds = detector_seeds(campaign.seed, variation.name, events.event_id)
        candidates = simulate(showered.particles, variation.detector or campaign.detector, seeds)
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
