"""Histograms of observables by class and variation, in constant memory. They need the `plots` extra."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepfm.cards.observables import OBSERVABLES, Observable
from hepfm.cards.style import why_no_plots
from hepfm.dataset import Dataset
from hepfm.errors import HepfmError
from hepfm.table import JetTable

if TYPE_CHECKING:
    from hist import Hist

_Floats = NDArray[np.float64]

ALL = "all jets"
"""Stands for all classes together, and for the only variation of a dataset that names none."""
_UNLABELLED = "no label"
_TAIL = 0.001  # share of the entries that may lie outside the bins drawn, on each side
_FEWEST, _MOST = 8, 40  # bins
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Density:
    """Jets, or constituents a jet, in bins: the mean of what one jet adds to a bin, and its statistical error.

    Attributes:
        edges: of B bins, shape (B + 1,).
        mean: shape (B,); the sum over the bins is 1 for a quantity of jets, less what lies outside.
        error: of the mean over jets, shape (B,), nan of a single jet. Constituents of a jet depend on each other,
            jets do not.
    """

    edges: _Floats
    mean: _Floats
    error: _Floats


class Histograms:
    """Histograms of observables by class and variation, filled table by table.

    `histograms[name]` is a `hist.Hist` with the axes class, variation and the observable; its variances are those of
    sums over independent jets.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Prepare empty histograms of what the dataset has.

        Raises:
            HepfmError: a part of the `plots` extra is not installed.
        """
        if why := why_no_plots():
            raise HepfmError(why)
        import hist

        present = set(dataset.columns)
        self.observables = tuple(o for o in OBSERVABLES if present.issuperset(o.columns))
        self.missing = tuple(o for o in OBSERVABLES if o not in self.observables)
        has_labels, has_variations = "jet_label" in present and dataset.classes, "variation" in present
        self.classes = (*dataset.classes, _UNLABELLED) if has_labels else (ALL,)
        self.variations = dataset.variations if has_variations and dataset.variations else (ALL,)
        given = (("jet_label", has_labels), ("variation", len(self.variations) > 1), ("weight", "weight" in present))
        wanted = [name for name, is_there in given if is_there] + [n for o in self.observables for n in o.columns]
        self.columns = tuple(dict.fromkeys(wanted))
        shape = len(self.classes), len(self.variations)
        self.n_jets = np.zeros(shape, np.int64)
        """Jets by class and variation, shape (C, V)."""
        self._weights, self._squares = np.zeros(shape), np.zeros(shape)
        axes = (
            hist.axis.StrCategory(self.classes, name="jet_label"),
            hist.axis.StrCategory(self.variations, name="variation"),
        )
        self._sums: dict[str, Hist[Any]] = {}
        self._crossed: dict[str, Hist[Any]] = {}
        for o in self.observables:
            transform = hist.axis.transform.log if o.is_log else None
            axis = hist.axis.Regular(*o.bins, name=o.name, label=o.label, transform=transform)
            self._sums[o.name] = hist.Hist(*axes, axis, storage=hist.storage.Weight())
            self._crossed[o.name] = hist.Hist(*axes, axis, storage=hist.storage.Double())

    def __getitem__(self, name: str) -> "Hist[Any]":
        """The histogram of an observable."""
        return self._sums[name]

    def add(self, table: JetTable) -> None:
        """Fill in some jets.

        Args:
            table: with at least `columns`.
        """
        weight = np.asarray(table.columns.get("weight", np.ones(table.n_jets)), dtype=np.float64)
        group = self._classes_of(table) * len(self.variations) + self._variations_of(table)
        groups = [(int(g), *divmod(int(g), len(self.variations))) for g in np.unique(group)]
        for g, *place in groups:
            own = weight[group == g]
            for total, amount in (
                (self.n_jets, len(own)),
                (self._weights, own.sum()),
                (self._squares, (own**2).sum()),
            ):
                total[tuple(place)] += amount
        for o in self.observables:
            jets, values, counts = self._entries(o, table)
            for g, jet_class, variation in groups:
                mine = group[jets] == g
                names, w, k = (self.classes[jet_class], self.variations[variation]), weight[jets[mine]], counts[mine]
                self._sums[o.name].fill(*names, values[mine], weight=w * k)
                self._crossed[o.name].fill(*names, values[mine], weight=w**2 * k)

    def edges(self, observable: Observable, classes: Sequence[str]) -> _Floats:
        """Bins that suit the jets there are: without empty ones at the ends, and wide where jets are few.

        Args:
            observable: one of `observables`.
            classes: that are drawn beside each other, or `ALL`.

        Returns:
            Some of the edges of the histogram's own bins; all of them where there is no jet.
        """
        own = np.asarray(self._sums[observable.name].axes[2].edges)
        members = [self._members(name) for name in classes]
        rows = np.concatenate(members)
        filled = np.abs(self._values(observable)[0][rows]).sum(axis=(0, 1))
        below = np.cumsum(filled)
        if not len(filled) or not below[-1] > 0:
            return own
        first, last = np.searchsorted(below, [_TAIL * below[-1], (1 - _TAIL) * below[-1]]).tolist()
        if observable.of_constituents:
            return own[first : last + 2]
        n_jets = np.mean([self.n_jets[m].sum(axis=0).max() for m in members])
        n_bins = min(max(2 * n_jets ** (1 / 3), _FEWEST), _MOST)  # Rice's rule
        merge = max(1, round((last + 1 - first) / n_bins))
        first = first // merge * merge
        return own[first : min(first + merge * math.ceil((last + 1 - first) / merge), len(filled)) + 1 : merge]

    def density(
        self, observable: Observable, jet_class: str, variation: str, edges: _Floats | None = None
    ) -> Density | None:
        """The distribution of an observable.

        Args:
            observable: one of `observables`.
            jet_class: one of `classes`, or `ALL`.
            variation: one of `variations`.
            edges: some of the histogram's own; of constituents, neighbouring ones. All by default.

        Returns:
            None where no jet weighs anything.
        """
        rows, number = self._members(jet_class), self.variations.index(variation)
        total, squares = self._weights[rows, number].sum(), self._squares[rows, number].sum()
        if not total > 0:
            return None
        own = np.asarray(self._sums[observable.name].axes[2].edges)
        edges = own if edges is None else edges
        starts = np.searchsorted(own, edges)
        # With 0 in front, the difference of two running sums is a sum over the bins between.
        value, square, crossed = (
            np.diff(np.concatenate([[0.0], np.cumsum(sums[rows, number].sum(axis=0))])[starts])
            for sums in self._values(observable)
        )
        mean = value / total
        # Of the mean of k over n jets of weight w: the sum of w² (k - mean)², with the n / (n - 1) of a sample.
        spread = square - 2 * mean * crossed + mean**2 * squares
        sample = 1 - squares / total**2
        variance = np.maximum(spread, 0) / sample if sample > _ROUNDING else np.full(len(mean), np.nan)
        return Density(edges, mean, np.sqrt(variance) / total)

    def _members(self, jet_class: str) -> NDArray[np.int64]:
        """Rows of a class."""
        if jet_class == ALL:
            return np.arange(len(self.classes))
        return np.array([self.classes.index(jet_class)])

    def _values(self, observable: Observable) -> tuple[_Floats, _Floats, _Floats]:
        """Sums over jets of w k, w² k² and w² k by class, variation and bin."""
        sums = self._sums[observable.name]
        crossed = self._crossed[observable.name].values()
        return np.asarray(sums.values()), np.asarray(sums.variances()), np.asarray(crossed)

    def _entries(self, o: Observable, table: JetTable) -> tuple[NDArray[np.int64], _Floats, _Floats]:
        """Numbers of jets, values, and how often each of these values occurs in its jet."""
        values = np.asarray(o.values(table), dtype=np.float64)
        if not o.of_constituents:
            jets = np.flatnonzero(np.isfinite(values))
            return jets, values[jets], np.ones(len(jets))
        # A jet enters a bin once, with all its constituents there: only so are the variances those of jets.
        axis = self._sums[o.name].axes[2]
        jets = np.repeat(np.arange(table.n_jets), table.counts)
        bins = axis.index(np.where(np.isfinite(values), values, np.inf))
        inside = (bins >= 0) & (bins < axis.size)
        counts = np.bincount(jets[inside] * axis.size + bins[inside], minlength=table.n_jets * axis.size)
        found = np.flatnonzero(counts)
        return found // axis.size, axis.centers[found % axis.size], counts[found].astype(np.float64)

    def _classes_of(self, table: JetTable) -> NDArray[np.int64]:
        if "jet_label" not in table.columns:
            return np.zeros(table.n_jets, np.int64)
        label, last = table.columns["jet_label"].astype(np.int64), len(self.classes) - 1
        return np.where((label >= 0) & (label < last), label, last)

    def _variations_of(self, table: JetTable) -> NDArray[np.int64]:
        found = np.zeros(table.n_jets, np.int64)
        if "variation" in table.columns:
            for number, name in enumerate(self.variations):
                found[table.columns["variation"] == name] = number
        return found
