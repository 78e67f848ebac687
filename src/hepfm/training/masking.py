"""Batches for masked particle modelling: what the network sees of jets, and what it has to find out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hepfm.models.configuration import TYPES
from hepfm.models.mpm import NOT_ASKED
from hepfm.schema import TRACKS, TYPE_FLAGS
from hepfm.training.augmentation import check_turnable, forget, turn
from hepfm.training.batches import Batch, PaddedJets, trimmed_length
from hepfm.training.jet_targets import check_tracks, displacements

Encode = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Gives the token ids (B, N) of constituents (B, N, F) and their mask (B, N)."""

CODES = "codes"
"""Name under which a jet's token ids come with its constituents."""


@dataclass(frozen=True)
class Views:
    """How jets are changed before a network sees them.

    Attributes:
        rotate: whether they are turned and mirrored about their axis.
        forget: share of the jets whose tracks are unknown, and of those whose particle types are.
    """

    rotate: bool = True
    forget: float = 0.0

    def turn(self, constituents: torch.Tensor, inputs: Sequence[str], rng: np.random.Generator) -> None:
        """Turn jets in place; shape (B, N, F)."""
        if self.rotate:
            turn(constituents.numpy(), inputs, rng)

    def hide(self, constituents: torch.Tensor, inputs: Sequence[str], rng: np.random.Generator) -> None:
        """Make inputs of some jets unknown, in place; shape (B, N, F)."""
        if self.forget:
            groups = [[inputs.index(name) for name in group if name in inputs] for group in (TRACKS, TYPES)]
            forget(constituents.numpy(), [group for group in groups if group], self.forget, rng)


class MaskedBatches:
    """Makes batches of which a share of the constituents is hidden.

    A batch of B jets has what is visible of them, "constituents" (B, V, F), "mask" (B, V) and "ranks" (B, V), places in
    the jet by falling transverse momentum; and of what is hidden "hidden_mask" and "hidden_ranks" (B, H), and what the
    network has to find: "hidden_codes", "hidden_types", "hidden_displacements" (B, H) or "hidden_constituents"
    (B, H, F); and "jet" (B, K), if the jets have such a target.
    """

    def __init__(
        self,
        jets: PaddedJets,
        inputs: Sequence[str],
        *,
        share: float,
        targets: Sequence[str],
        views: Views,
        encode: Encode | None = None,
    ) -> None:
        """Take the jets.

        Args:
            jets: with `CODES`, if these are a target and there is no `encode`.
            inputs: names of the F inputs of `jets`.
            share: of a jet's constituents that is hidden; at least one of them, and not all.
            targets: of `hepfm.models.mpm.MaskedModelling`.
            views: how jets are changed.
            encode: gives the ids of jets as they are after turning: a code may say where a constituent is.

        Raises:
            InputError: the inputs do not go with the views or the targets.
        """
        if views.rotate:
            check_turnable(inputs)
        if "displacement" in targets:
            check_tracks(inputs)
        self._jets, self._inputs, self._share, self._targets, self._views = jets, tuple(inputs), share, targets, views
        self._encode = encode
        self._flags = [self._inputs.index(name) for name in TYPE_FLAGS if name in self._inputs]

    def __call__(self, items: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """The batch of some jets."""
        whole = self._jets.__getitems__(items)
        inputs, mask = whole["constituents"], whole["mask"]
        # Types and displacements are asked of the jet as it is, not of what is left of it.
        types = _types(inputs[..., self._flags]) if "type" in self._targets else None
        displaced = displacements(inputs, self._inputs) if "displacement" in self._targets else None
        self._views.turn(inputs, self._inputs, rng)
        codes = whole.get(CODES) if self._encode is None else self._encode(inputs, mask)
        self._views.hide(inputs, self._inputs, rng)
        ranks, visible, hidden = split(mask.numpy(), self._share, rng)
        n_visible = visible.shape[1]
        order = torch.from_numpy(ranks)
        shown, sought = order[:, :n_visible], order[:, n_visible:]
        batch = {
            "constituents": _take(inputs, shown),
            "mask": torch.from_numpy(visible),
            "ranks": shown,
            "hidden_mask": torch.from_numpy(hidden),
            "hidden_ranks": sought,
        }
        if codes is not None:
            batch["hidden_codes"] = codes.long().gather(1, sought)
        if types is not None:
            batch["hidden_types"] = types.gather(1, sought)
        if displaced is not None:
            batch["hidden_displacements"] = displaced.gather(1, sought)
        if "jet" in self._targets:
            batch["jet"] = whole["jet"]
        if "inputs" in self._targets:
            batch["hidden_constituents"] = _take(inputs, sought)
        return batch


def split(
    mask: NDArray[np.bool_], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose which constituents are hidden.

    Args:
        mask: where there is a constituent, shape (B, N): the first ones of each jet.
        share: of a jet's constituents, rounded; at least one is hidden and one visible, if there are two.
        rng: where the choice comes from.

    Returns:
        The places of V visible constituents of each jet, then of H hidden ones, shape (B, V + H); which of the V
        there are, and which of the H.
    """
    counts = mask.sum(1)
    n_hidden = np.clip(np.rint(share * counts).astype(np.int64), 1, np.maximum(counts - 1, 0))
    n_hidden = np.where(counts > 1, n_hidden, 0)
    # Drawn for the constituents that there are: how far a batch is padded decides nothing.
    keys = np.full(mask.shape, 2.0)
    keys[mask] = rng.random(int(counts.sum()))
    # The smallest keys are hidden. The last sort brings visible ones to the front, each kind in its own order.
    chosen = np.argsort(np.argsort(keys, axis=1), axis=1) < n_hidden[:, None]
    order = np.argsort(np.where(mask, chosen, 2).astype(np.int8), axis=1, kind="stable")
    n_visible = counts - n_hidden
    n_places = mask.shape[1]
    width, hidden_width = (min(trimmed_length(n), n_places) for n in (n_visible, n_hidden))
    places = np.minimum(n_visible[:, None] + np.arange(hidden_width), n_places - 1)
    hidden_order = np.take_along_axis(order, places, 1)
    return (
        np.concatenate([order[:, :width], hidden_order], axis=1),
        np.arange(width) < n_visible[:, None],
        np.arange(hidden_width) < n_hidden[:, None],
    )


def _types(flags: torch.Tensor) -> torch.Tensor:
    """Which of some flags is set, `NOT_ASKED` where none is or they are unknown: (..., T) to (...)."""
    flags = flags.nan_to_num()
    return torch.where((flags > 0).any(-1), flags.argmax(-1), NOT_ASKED)


def _take(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Some constituents of each jet: (B, K, F) of (B, N, F) and (B, K)."""
    return values.gather(1, places.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
