"""K-means: codes that are points in the space of the inputs, the baseline of every tokenizer."""

import torch
from torch import Tensor, nn

from hepfm.tokenizers.configuration import TokenizerSettings
from hepfm.tokenizers.targets import Targets

# Distances held in memory at a time: what a processor's cache holds (three times as fast as 64 MB of them), or enough
# to keep a GPU busy.
_PIECE_CPU, _PIECE_GPU = 1 << 19, 1 << 26
# Points that move centres, for each centre; more do not change the error by a per cent.
_POINTS_A_CENTRE = 128
_MOST_POINTS = 300_000
_MOST_ROUNDS = 30


class KMeans(nn.Module):
    """Nearest of `n_codes` centres, in inputs that are standardised and multiplied by the settings' weights."""

    centres: Tensor
    weights: Tensor

    def __init__(self, settings: TokenizerSettings, targets: Targets) -> None:
        """Start with all centres in one point."""
        super().__init__()
        by_name = dict(zip(settings.inputs, settings.weights or (1.0,) * len(settings.inputs), strict=True))
        numbers = [by_name[name] for name in targets.numbers]
        weights = torch.tensor(numbers + [1.0] * (targets.n_outputs - len(numbers)))
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("centres", torch.zeros(settings.n_codes, targets.n_outputs))

    def encode(self, inputs: Tensor) -> Tensor:
        """Ids of standardised inputs: (M, F'') to (M,)."""
        return nearest(inputs * self.weights, self.centres)

    def decode(self, ids: Tensor) -> Tensor:
        """Standardised inputs of ids: (M,) to (M, F'')."""
        return self.centres[ids] / self.weights

    @torch.no_grad()
    def fit(self, inputs: Tensor, seed: int) -> None:
        """Place the centres; see `find_centres`. `inputs` has shape (M, F'')."""
        self.centres.copy_(find_centres(inputs * self.weights, len(self.centres), seed))


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Number of each point's nearest centre: (M, d) and (K, d) to int64 of shape (M,)."""
    half_squares = (centres**2).sum(1) / 2
    size = max(1, (_PIECE_CPU if points.device.type == "cpu" else _PIECE_GPU) // len(centres))
    pieces = [torch.addmm(half_squares, piece, centres.T, alpha=-1).argmin(1) for piece in points.split(size)]
    return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.long)


def find_centres(points: Tensor, n_centres: int, seed: int, n_rounds: int = _MOST_ROUNDS) -> Tensor:
    """Lloyd's rounds on a sample of points; a centre that has none moves to a point far from its own.

    Args:
        points: shape (M, d).
        n_centres: K. If there are fewer points, some are taken twice.
        seed: of the sample and of where centres begin.
        n_rounds: how often centres move.

    Returns:
        Shape (K, d).
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = min(len(points), _MOST_POINTS, _POINTS_A_CENTRE * n_centres)
    sample = points[torch.randperm(len(points), generator=generator)[:wanted]].float()
    first = torch.arange(n_centres) % len(sample)
    centres = sample[first].clone()
    for _ in range(n_rounds):
        ids = nearest(sample, centres)
        counts = torch.bincount(ids, minlength=n_centres)
        sums = torch.zeros_like(centres).index_add_(0, ids, sample)
        moved = torch.where(counts.unsqueeze(1) > 0, sums / counts.clamp(min=1).unsqueeze(1), centres)
        empty = (counts == 0).nonzero().squeeze(1)
        if len(empty):
            far = ((sample - centres[ids]) ** 2).sum(1).topk(min(len(empty), len(sample))).indices
            moved[empty[: len(far)]] = sample[far]
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
