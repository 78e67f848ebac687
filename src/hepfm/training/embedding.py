"""Jets as points in a plane: what a backbone tells apart, seen from the side where it is widest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.models.classifier import Backbone
from hepfm.table import JetTable
from hepfm.training.batches import PaddedJets
from hepfm.training.classes import class_names, encode
from hepfm.training.probe import pooled
from hepfm.training.scoring import missing_inputs, needed_columns
from hepfm.training.source import Source, first_variation, same_events

_SEED = 2**35


@dataclass(frozen=True, eq=False)
class Map:
    """Jets in the plane of the two directions in which their vectors differ most.

    Attributes:
        points: in multiples of the width of all jets along each direction, shape (N, 2).
        explained: shares of the variance of all vectors that lie along the two, shape (2,).
        classes: names.
        labels: number of each jet's class in `classes`, -1 for none; shape (N,).
        variations: names, the nominal one first; empty if the data has none.
        views: number of the variation that each jet is a view under; shape (N,).
    """

    points: NDArray[np.float64]
    explained: NDArray[np.float64]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    variations: tuple[str, ...]
    views: NDArray[np.int64]


def map_jets(
    backbone: Backbone,
    dataset: Dataset,
    *,
    variations: tuple[str, ...] = (),
    column: str = "jet_label",
    n_jets: int = 4_000,
    n_constituents: int = 128,
    allow_missing: bool = False,
) -> Map:
    """Place jets by the principal components of a backbone's pooled output, each of its features in its own width.

    Args:
        backbone: the network.
        dataset: jets with labels; those of the test split are taken, or all if their events have no numbers.
        variations: views to show, of the same events; by default the first.
        column: of the labels.
        n_jets: of each variation, about.
        n_constituents: of a jet that the network sees.
        allow_missing: whether the jets may lack inputs of the network.

    Raises:
        InputError: no such variation or column, missing inputs, or too few jets.
    """
    Source(dataset, None).check_column(column)
    names = variations or (first_variation(dataset),)
    inputs = tuple(backbone.config.inputs)
    missing = missing_inputs(inputs, dataset.columns) if allow_missing else ()
    wanted = (*needed_columns(inputs, dataset.columns, missing), column)
    tables = _same_events(dataset, names, wanted, n_jets)
    table = JetTable.concatenate(tables)
    if table.n_jets < 3:
        msg = f"{dataset.name}: {table.n_jets} jets to show; expected three or more in the test split."
        raise InputError(msg)
    vectors = pooled(backbone, PaddedJets(table, inputs, (), n_constituents, trim=True, allow_missing=allow_missing))
    points, explained = _principal(vectors)
    classes = class_names(dataset, column, table.columns[column])
    return Map(
        points,
        explained,
        classes,
        encode(dataset, column, table.columns[column], classes),
        variations or dataset.variations[:1],
        np.repeat(np.arange(len(tables)), [t.n_jets for t in tables]),
    )


def _same_events(
    dataset: Dataset, variations: Sequence[str | None], columns: Sequence[str], n_jets: int
) -> list[JetTable]:
    """About so many jets that no network trained on, where that is known; the same events of every variation."""
    split = "test" if dataset.knows_events else None
    sources = [Source(dataset, split, name) for name in variations]
    places = same_events(sources, n_jets, _SEED)
    return [source.read(columns, rows) for source, rows in zip(sources, places, strict=True)]


def _principal(vectors: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two first principal components of N vectors of D features, and their shares of the variance."""
    centred = vectors - vectors.mean(0)
    scaled = centred / centred.std(0).clamp(min=1e-6)
    _, lengths, directions = torch.linalg.svd(scaled, full_matrices=False)
    # A direction and its opposite are the same: most of it shall point up.
    directions = directions[:2] * directions[:2].sum(1, keepdim=True).sign()
    points = scaled @ directions.T
    return (points / points.std(0).clamp(min=1e-6)).numpy(), (lengths[:2] ** 2 / (lengths**2).sum()).numpy()
