"""Figures of merit of a tagger, in plain NumPy: exact with ties, with statistical errors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """A value and its statistical error."""

    value: float
    error: float


def accuracy(truth: NDArray[Any], predicted: NDArray[Any]) -> Measured:
    """Share of jets whose class is right, with its binomial error; both of shape (N,), N > 0."""
    share = float(np.mean(truth == predicted))
    return Measured(share, math.sqrt(share * (1 - share) / len(truth)))


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Number of jets of each class (rows) that were taken for each class (columns), shape (C, C)."""
    counts = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)


def auc(score: NDArray[Any], is_signal: _Flags) -> float:
    """Chance that a signal jet has a higher score than a background jet; half where they are equal.

    Args:
        score: shape (N,).
        is_signal: shape (N,).

    Returns:
        The area under the ROC curve; NaN where there is no jet of one of the two.
    """
    n_signal, n_background = int(is_signal.sum()), int((~is_signal).sum())
    if not n_signal or not n_background:
        return math.nan
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    # Jets of the same score share the mean of their ranks.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[group][is_signal].sum())
    return (total - n_signal * (n_signal + 1) / 2) / (n_signal * n_background)


def auc_error(area: float, n_signal: int, n_background: int) -> float:
    """Statistical error of an area under the ROC curve.

    Source: Hanley and McNeil, Radiology 143 (1982) 29, doi:10.1148/radiology.143.1.7063747.
    """
    if not n_signal or not n_background:
        return math.nan
    both_signal, both_background = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (n_signal - 1) * (both_signal - area**2) + (n_background - 1) * (both_background - area**2)
    return math.sqrt(max(variance, 0.0) / (n_signal * n_background))


@dataclass(frozen=True, eq=False)
class Roc:
    """Efficiencies for signal and background when the cut on the score falls, both from 0 to 1; shape (K,)."""

    signal: _Floats
    background: _Floats
    n_signal: int
    n_background: int

    def background_at(self, efficiency: float) -> float:
        """Background efficiency at a signal efficiency; linear between cuts, as if jets of equal score were mixed."""
        # At a vertical step of the curve it is the lower end that counts.
        first = int(np.searchsorted(self.signal, efficiency, side="left"))
        if first == 0:
            return float(self.background[0])
        low, high = self.signal[first - 1], self.signal[first]
        part = (efficiency - low) / (high - low)
        return float(self.background[first - 1] + part * (self.background[first] - self.background[first - 1]))

    def thinned(self, n_points: int) -> "Roc":
        """The same curve by fewer points, evenly spaced in signal efficiency."""
        if len(self.signal) <= n_points:
            return self
        signal = np.linspace(0, 1, n_points)
        background = np.array([self.background_at(float(e)) for e in signal])
        return Roc(signal, background, self.n_signal, self.n_background)


def roc(score: NDArray[Any], is_signal: _Flags) -> Roc:
    """The ROC curve, a point a different score; there must be jets of both kinds.

    Args:
        score: shape (N,).
        is_signal: shape (N,).
    """
    order = np.argsort(-score, kind="stable")
    ordered = is_signal[order]
    last_of_equals = np.append(np.diff(score[order]) != 0, True)
    signal, background = (np.append(0, np.cumsum(kind)[last_of_equals]) for kind in (ordered, ~ordered))
    n_signal, n_background = int(signal[-1]), int(background[-1])
    return Roc(signal / n_signal, background / n_background, n_signal, n_background)


def rejection(curve: Roc, efficiency: float) -> Measured:
    """One over the background efficiency at a signal efficiency.

    The error has two parts, added in quadrature: the binomial one of the background that passes, and what the curve
    does within the binomial error of the signal efficiency.

    Returns:
        Infinity, with an error of NaN, where less than one background jet passes.
    """
    passing = curve.background_at(efficiency)
    if passing * curve.n_background < 1 - 1e-9:
        return Measured(math.inf, math.nan)
    own = math.sqrt(passing * (1 - passing) / curve.n_background)
    shift = math.sqrt(efficiency * (1 - efficiency) / curve.n_signal)
    below, above = (curve.background_at(min(max(efficiency + sign * shift, 0.0), 1.0)) for sign in (-1, 1))
    return Measured(1 / passing, math.hypot(own, (above - below) / 2) / passing**2)


def wasserstein(
    first: NDArray[Any], second: NDArray[Any], weights: tuple[NDArray[Any], NDArray[Any]] | None = None
) -> float:
    """Area between the two cumulative distributions: how far scores have to move, on average.

    Args:
        first: N values.
        second: M values.
        weights: of both, shapes (N,) and (M,); by default equal.
    """
    values = np.concatenate([first, second]).astype(np.float64)
    one, two = (np.ones(len(first)), np.ones(len(second))) if weights is None else weights
    order = np.argsort(values, kind="stable")
    step = np.concatenate([one / one.sum(), -two / two.sum()])[order]
    return float(np.sum(np.abs(np.cumsum(step)[:-1]) * np.diff(values[order])))


def jensen_shannon(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Distance of two histograms: root of their Jensen-Shannon divergence in bits, from 0 (equal) to 1 (disjoint).

    Args:
        first: counts, shape (K,); their sum is not zero.
        second: counts in the same bins.
    """
    one, two = first / first.sum(), second / second.sum()
    mean = (one + two) / 2
    divergence = 0.0
    for share in (one, two):
        there = share > 0
        divergence += float(np.sum(share[there] * np.log2(share[there] / mean[there]))) / 2
    return math.sqrt(max(divergence, 0.0))


def event_bootstrap(
    groups: NDArray[np.int64], statistic: Callable[[NDArray[np.int64]], float], n_samples: int, seed: int
) -> float:
    """Error of a number that is made of jets which come in groups: events whose views are not independent.

    Args:
        groups: number of the event of each jet, from 0 without gaps; shape (N,).
        statistic: the number, given how often each jet counts, shape (N,).
        n_samples: how often events are drawn anew, with replacement.
        seed: of the drawing.

    Returns:
        Standard deviation over the samples.
    """
    n_groups = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_samples):
        times = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)[groups]
        if (value := statistic(times)) == value:  # not NaN, which a sample without a jet of one kind gives
            found.append(value)
    return float(np.std(found, ddof=1)) if len(found) > 1 else math.nan


def spread_over_views(score: NDArray[Any], jets: NDArray[np.int64]) -> tuple[float, int]:
    """How much the score of one frozen jet differs between its views.

    Args:
        score: of N views, shape (N,).
        jets: number of the frozen jet that each is a view of, from 0; shape (N,).

    Returns:
        Standard deviation within a jet (unbiased variance over its views, averaged over jets, its root), and the number
        of jets that have at least two views; NaN if there is none.
    """
    n_views = np.bincount(jets)
    several = n_views >= 2
    if not several.any():
        return math.nan, 0
    means = np.bincount(jets, score) / np.maximum(n_views, 1)
    squares = np.bincount(jets, (score - means[jets]) ** 2)
    variances = squares[several] / (n_views[several] - 1)
    return float(math.sqrt(variances.mean())), int(several.sum())
