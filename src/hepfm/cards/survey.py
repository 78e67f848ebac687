"""One pass over a dataset, in constant memory, for all that cards and reports show of its jets."""

from collections.abc import Callable
from dataclasses import dataclass

from hepfm.cards.gallery import Gallery
from hepfm.cards.histograms import Histograms
from hepfm.cards.style import why_no_plots
from hepfm.dataset import Dataset
from hepfm.errors import HepfmError

_TABLE_JETS = 16384

Report = Callable[[str, int, int], None]
"""Called with what is done, the number of jets seen so far, and of all."""


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes:
        histograms: None where the `plots` extra is not installed.
        gallery: some jets with all their views.
        n_constituents: of all jets.
    """

    histograms: Histograms | None
    gallery: Gallery
    n_constituents: int


def survey(dataset: Dataset, n_events: int, report: Report | None = None) -> Survey:
    """Fill the histograms of the observables, and keep the views of some jets.

    Args:
        dataset: from `hepfm.open`.
        n_events: jets to keep, at most.
        report: told how it proceeds.

    Raises:
        InputError: a damaged file.
    """
    histograms = None if why_no_plots() else Histograms(dataset)
    gallery = Gallery(dataset, n_events)
    columns = dict.fromkeys((*(histograms.columns if histograms else ()), *gallery.columns))
    n_jets = n_constituents = 0
    for table in dataset.tables(_TABLE_JETS, tuple(columns)):
        if histograms is not None:
            histograms.add(table)
        gallery.add(table)
        n_jets += table.n_jets
        n_constituents += table.n_constituents
        if report is not None:
            report("reading jets", n_jets, len(dataset))
    return Survey(histograms, gallery, n_constituents)


def fill_histograms(dataset: Dataset) -> Histograms:
    """Go through a dataset once, and fill the histograms of all `hepfm.cards.observables.OBSERVABLES` that it has.

    Raises:
        HepfmError: a part of the `plots` extra is not installed.
        InputError: a damaged file.
    """
    histograms = survey(dataset, 0).histograms
    if histograms is None:
        raise HepfmError(why_no_plots())
    return histograms
