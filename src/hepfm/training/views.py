"""Pairs of views of the same jets, one pair a step."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.table import JetTable, jet_keys
from hepfm.training.augmentation import check_turnable
from hepfm.training.batches import Batch, PaddedJets
from hepfm.training.masking import MaskedBatches, Views

Pairs = Literal["nominal", "any"]


def rows_of_views(table: JetTable, variations: Sequence[str]) -> NDArray[np.int64]:
    """Find the views of each jet.

    Args:
        table: jets under several variations, with event_id, jet_index and variation.
        variations: V names.

    Returns:
        The row of each jet's view under each variation, -1 where it is missing; shape (jets, V).

    Raises:
        InputError: a jet appears twice under a variation.
    """
    codes = np.full(table.n_jets, -1)
    for code, name in enumerate(variations):
        codes[table.columns["variation"] == name] = code
    keys, jets = np.unique(jet_keys(table.columns["event_id"], table.columns["jet_index"]), return_inverse=True)
    rows = np.full((len(keys), len(variations)), -1, np.int64)
    known = np.flatnonzero(codes >= 0)
    rows[jets[known], codes[known]] = known
    if (rows >= 0).sum() < len(known):
        lost = np.setdiff1d(known, rows[rows >= 0])[0]
        event, jet = table.columns["event_id"][lost], table.columns["jet_index"][lost]
        msg = f"event {event}, jet {jet} appears twice in one variation: cannot pair its views"
        raise InputError(msg)
    return rows


class ViewPairs:
    """Chooses two views of each jet.

    With pairs "nominal" the first view is the one under the first variation.
    """

    def __init__(self, rows: NDArray[np.int64], pairs: Pairs) -> None:
        """Take the jets that have two views.

        Args:
            rows: of `rows_of_views`.
            pairs: which views are compared.

        Raises:
            InputError: no jet has.
        """
        n_views = (rows >= 0).sum(1)
        enough = (n_views > 1) & (rows[:, 0] >= 0) if pairs == "nominal" else n_views > 1
        self.rows, self._pairs = rows[enough], pairs
        if not len(self.rows):
            msg = "no jet has two views to compare. Use data of at least two variations, such as nominal and reseed."
            raise InputError(msg)

    def __len__(self) -> int:
        """Number of jets."""
        return len(self.rows)

    def choose(self, items: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of the first views of B jets, then of their second ones; shape (2 B,)."""
        rows = self.rows[items]
        keys = np.where(rows < 0, 2.0, rng.random(rows.shape))
        if self._pairs == "nominal":
            keys[:, 0] = -1.0
        order = np.argsort(keys, axis=1)[:, :2]
        chosen: NDArray[np.int64] = np.take_along_axis(rows, order, 1).T.reshape(-1)
        return chosen


class PairBatches:
    """Makes batches of pairs of views.

    With whole jets: "constituents" (2 B, N, F) and "mask" (2 B, N), B first views and then their second ones; each of
    the two is turned by an angle of its own.
    """

    def __init__(self, jets: PaddedJets, pairs: ViewPairs, inputs: Sequence[str], views: Views) -> None:
        """Take the jets, their pairs, and how they are changed.

        Raises:
            InputError: the inputs do not go with the views.
        """
        if views.rotate:
            check_turnable(inputs)
        self._jets, self._pairs, self._inputs, self._views = jets, pairs, tuple(inputs), views

    def __call__(self, items: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """The batch of some jets."""
        batch = self._jets.__getitems__(self._pairs.choose(items, rng))
        self._views.turn(batch["constituents"], self._inputs, rng)
        self._views.hide(batch["constituents"], self._inputs, rng)
        return {name: batch[name] for name in ("constituents", "mask")}


def masked_pairs(pairs: ViewPairs, masked: MaskedBatches) -> Callable[[NDArray[np.int64], np.random.Generator], Batch]:
    """Batches of pairs, of each of which a share is hidden: as of `MaskedBatches`, first views and then second ones."""
    return lambda items, rng: masked(pairs.choose(items, rng), rng)


def first_lengths(pairs: ViewPairs, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most constituents that a view of each jet has: with what jets of similar length are found."""
    longest: NDArray[np.int64] = np.where(pairs.rows >= 0, lengths[pairs.rows], 0).max(axis=1)
    return longest


def alignment(embeddings: torch.Tensor) -> dict[str, float]:
    """How well partners are found among 2 B views, and how large the cosine of the angle between partners is."""
    first, second = embeddings.chunk(2)
    similarities = embeddings @ embeddings.T
    similarities.fill_diagonal_(-torch.inf)
    partners = torch.arange(len(embeddings), device=embeddings.device).roll(len(first))
    found = (similarities.argmax(1) == partners).float().mean()
    return {"pair_accuracy": found.item(), "pair_cosine": (first * second).sum(1).mean().item()}
