"""How much a tagger's score depends on the simulation: distances between views, and the spread of one jet's views."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.training.metrics import Measured, event_bootstrap, jensen_shannon, spread_over_views, wasserstein

_Floats = NDArray[np.float64]

N_BINS = 50
"""Of the histograms whose Jensen-Shannon distance is taken."""
_FEWEST = 10


@dataclass(frozen=True, eq=False)
class View:
    """Jets under one variation.

    Attributes:
        score: for a tagger that of the jet's own class, for a regression the predicted number; shape (N,).
        truth: number of the jet's class, 0 for a regression; shape (N,).
        events: number of the event, the same in all views; shape (N,).
        jets: what tells the jets of an event apart, the same in all views; shape (N,).
    """

    score: NDArray[np.float64]
    truth: NDArray[np.int64]
    events: NDArray[np.int64]
    jets: NDArray[np.int64]

    def of_class(self, number: int) -> "View":
        """The jets of one class."""
        mine = self.truth == number
        return View(self.score[mine], self.truth[mine], self.events[mine], self.jets[mine])


def compare_views(
    views: Mapping[str, View], names: tuple[str, ...], edges: NDArray[np.float64], n_bootstrap: int, seed: int = 1
) -> dict[str, Any]:
    """Compare the first view with all others.

    Args:
        views: by the names of their variations, the nominal one first.
        names: of the classes.
        edges: of the histograms, shape (K + 1,).
        n_bootstrap: samples for the errors.
        seed: of the samples.

    Returns:
        `nominal`; `variations`, by name and class the Wasserstein and Jensen-Shannon distance of scores, each with its
        error, and what it would be by chance if the variation changed nothing: distances of finite samples are never
        zero; `spread`, by class how much scores differ between views of a jet, alone and in multiples of how much they
        differ between jets; `histograms`, `edges` and by variation and class the counts.
    """
    nominal, *others = views
    histograms = {
        name: {label: _histogram(view.of_class(c).score, edges) for c, label in enumerate(names)}
        for name, view in views.items()
    }
    distances = {
        name: {
            label: _distances(views[nominal].of_class(c), views[name].of_class(c), edges, n_bootstrap, seed)
            for c, label in enumerate(names)
        }
        for name in others
    }
    return {
        "nominal": nominal,
        "variations": distances,
        "spread": {label: _spread([view.of_class(c) for view in views.values()]) for c, label in enumerate(names)},
        "histograms": {
            "edges": edges.tolist(),
            "counts": {
                v: {label: counts.tolist() for label, counts in by_class.items()} for v, by_class in histograms.items()
            },
        },
    }


def _distances(
    nominal: View, other: View, edges: NDArray[np.float64], n_bootstrap: int, seed: int
) -> dict[str, dict[str, float]] | None:
    """Both distances with their errors; None where a class has too few jets to speak of a distribution."""
    if min(len(nominal.score), len(other.score)) < _FEWEST:
        return None
    n_nominal = len(nominal.score)
    # Events are drawn with all their views, for those are not independent.
    events = np.unique(np.concatenate([nominal.events, other.events]), return_inverse=True)[1]
    bins = [_bins(view.score, edges) for view in (nominal, other)]

    def moved(times: NDArray[np.int64]) -> float:
        first, second = times[:n_nominal], times[n_nominal:]
        if not first.any() or not second.any():
            return math.nan
        return wasserstein(nominal.score, other.score, (first, second))

    def differ(times: NDArray[np.int64]) -> float:
        counts = [
            np.bincount(where, weights, minlength=len(edges) - 1)
            for where, weights in zip(bins, (times[:n_nominal], times[n_nominal:]), strict=True)
        ]
        return jensen_shannon(counts[0], counts[1]) if counts[0].any() and counts[1].any() else math.nan

    once = np.ones(len(events), np.int64)
    return {
        name: {
            **asdict(Measured(distance(once), event_bootstrap(events, distance, n_bootstrap, seed))),
            "by_chance": _by_chance(nominal, other, plain, n_bootstrap, seed),
        }
        for name, distance, plain in (
            ("wasserstein", moved, wasserstein),
            ("jensen_shannon", differ, lambda one, two: jensen_shannon(_histogram(one, edges), _histogram(two, edges))),
        )
    }


def _by_chance(
    nominal: View, other: View, distance: Callable[[_Floats, _Floats], float], n_samples: int, seed: int
) -> float:
    """Mean distance after the two views of events have been swapped at random: what is left is statistics."""
    score = np.concatenate([nominal.score, other.score])
    events = np.unique(np.concatenate([nominal.events, other.events]), return_inverse=True)[1]
    is_nominal = np.arange(len(score)) < len(nominal.score)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_samples):
        is_first = is_nominal ^ (rng.random(int(events.max()) + 1) < 0.5)[events]
        if is_first.any() and not is_first.all():
            found.append(distance(score[is_first], score[~is_first]))
    return float(np.mean(found)) if found else math.nan


def _spread(views: list[View]) -> dict[str, float | int] | None:
    """Spread of a jet's score over its views; None where no jet has two."""
    score, events, jets = (np.concatenate([getattr(v, name) for v in views]) for name in ("score", "events", "jets"))
    if not len(score):
        return None
    identity = np.unique(np.stack([events, jets], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    spread, n_jets = spread_over_views(score, identity)
    if not n_jets:
        return None
    between = float(np.std(score))
    return {"value": spread, "relative": spread / between if between > 0 else 0.0, "n_jets": n_jets}


def _histogram(score: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.bincount(_bins(score, edges), minlength=len(edges) - 1)


def _bins(score: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each score; what lies outside belongs to the first or last one."""
    return np.clip(np.searchsorted(edges, score, side="right") - 1, 0, len(edges) - 2)
