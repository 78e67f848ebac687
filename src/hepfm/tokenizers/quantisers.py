"""Continuous vectors to ids and back: the quantisers of vector-quantize-pytorch behind one interface."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from vector_quantize_pytorch import FSQ, ResidualVQ, VectorQuantize

from hepfm.tokenizers.configuration import TokenizerSettings
from hepfm.tokenizers.kmeans import nearest

# Vectors that the codes' K-means start looks at, for each code.
_START_SAMPLES = 64
_START_ROUNDS = 20


class Quantiser(nn.Module):
    """Gives each vector an id, and each id a vector. In training the codes follow the data."""

    dimensions: int
    n_codes: int

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise.

        Args:
            vectors: shape (M, d), float32.

        Returns:
            What stands for them, shape (M, d), through which gradients pass; ids, int64 of shape (M,); and the loss
            that keeps vectors close to their codes.
        """
        raise NotImplementedError

    def ids(self, vectors: Tensor) -> Tensor:
        """Ids of vectors, (M, d) to (M,), without what training needs."""
        found: Tensor = self(vectors)[1]
        return found

    def decode(self, ids: Tensor) -> Tensor:
        """Vectors of ids: (M,) to (M, d)."""
        raise NotImplementedError

    def start(self, vectors: Tensor) -> None:
        """Place the codes on vectors as they are before training, shape (M, d)."""

    def drop_unused(self, vectors: Tensor) -> None:
        """Give up codes that none of the vectors (M, d) needs, after training; others are numbered anew.

        Codes that move with the data need nothing of that kind.
        """

    def problem(self) -> str | None:
        """What is wrong with weights that were loaded, in a few words; None if nothing is."""
        return None


class _CodebookQuantiser(Quantiser):
    """One codebook whose codes follow the mean of what they stand for."""

    def __init__(self, settings: TokenizerSettings) -> None:
        super().__init__()
        self.dimensions, self.n_codes = settings.latent, settings.n_codes
        self.codes = VectorQuantize(codebook_size=settings.n_codes, **_options(settings))
        self.by_direction = settings.quantiser == "cosine"

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantised, ids, loss = self.codes(vectors.unsqueeze(0))
        return quantised.squeeze(0), ids.squeeze(0), loss.sum()

    def ids(self, vectors: Tensor) -> Tensor:
        # The library goes through distances four times; codes are all of length 1 where directions count.
        return nearest(functional.normalize(vectors, dim=-1) if self.by_direction else vectors, self.codes.codebook)

    def decode(self, ids: Tensor) -> Tensor:
        vectors: Tensor = self.codes.get_codes_from_indices(ids)
        return vectors

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        self.train()
        self.codes(_some(vectors, self.codes.codebook_size).unsqueeze(0))


class _ResidualQuantiser(Quantiser):
    """Several codebooks, each for what is left over by the one before; their codes make one id."""

    places: Tensor

    def __init__(self, settings: TokenizerSettings) -> None:
        super().__init__()
        self.dimensions, self.n_codes = settings.latent, settings.n_codes
        self.codes = ResidualVQ(
            num_quantizers=settings.stages, codebook_size=settings.stage_codes, **_options(settings)
        )
        places = torch.tensor([settings.stage_codes**stage for stage in range(settings.stages)])
        self.register_buffer("places", places, persistent=False)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantised, parts, loss = self.codes(vectors.unsqueeze(0))
        return quantised.squeeze(0), (parts.squeeze(0) * self.places).sum(-1), loss.sum()

    def decode(self, ids: Tensor) -> Tensor:
        parts = ids.unsqueeze(-1) // self.places % self.codes.codebook_size
        vectors: Tensor = self.codes.get_output_from_indices(parts.unsqueeze(0)).squeeze(0)
        return vectors

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        self.train()
        self.codes(_some(vectors, self.codes.codebook_size).unsqueeze(0))


class _GridQuantiser(Quantiser):
    """Finite scalar quantisation (arXiv:2309.15505): a fixed grid, which the encoder learns to fill.

    The library squeezes vectors into the grid's range by a tanh, which is undone here: so what comes out is what went
    in, but for the rounding. Corners of the grid stay empty, whatever the encoder learns: `drop_unused` gives each of
    these cells to its nearest neighbour, and ids count the cells that are left.
    """

    stands: Tensor
    half_range: Tensor
    offset: Tensor
    half_width: Tensor
    inside: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.dimensions = len(levels)
        self.codes = FSQ(list(levels))
        # For each cell the one that stands for it, itself at first.
        self.register_buffer("stands", torch.arange(math.prod(levels), dtype=torch.int32))
        n = torch.tensor(levels, dtype=torch.float32)
        offset = torch.where(n % 2 == 0, 0.5, 0.0)
        # The outermost cells reach to infinity: what stands for them is drawn in by a quarter of a cell.
        parts = {"half_range": (n - 1) / 2, "offset": offset, "half_width": n // 2, "inside": 1 - 0.5 / n}
        for name, values in parts.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        places, ids = self.codes(vectors.unsqueeze(0))
        return self._expand(places.squeeze(0)), ids.squeeze(0).long(), vectors.new_zeros(())

    @property
    def n_codes(self) -> int:  # type: ignore[override]
        """Cells that stand for themselves."""
        return len(self._cells())

    def ids(self, vectors: Tensor) -> Tensor:
        numbers = torch.empty_like(self.stands)
        cells = self._cells()
        numbers[cells] = torch.arange(len(cells), dtype=numbers.dtype, device=numbers.device)
        return numbers[self.stands[self(vectors)[1]].long()].long()

    def decode(self, ids: Tensor) -> Tensor:
        return self._centres(self._cells()[ids])

    @torch.no_grad()
    def drop_unused(self, vectors: Tensor) -> None:
        counts = torch.bincount(self(vectors)[1], minlength=len(self.stands))
        kept = counts > 0
        cells = kept.nonzero().squeeze(1)
        self.stands[cells] = cells.int()
        if not kept.all():
            dropped = (~kept).nonzero().squeeze(1)
            self.stands[dropped] = cells[nearest(self._centres(dropped), self._centres(cells))].int()

    def problem(self) -> str | None:
        inside = bool(((self.stands >= 0) & (self.stands < len(self.stands))).all())
        if inside and torch.equal(self.stands[self.stands.long()], self.stands):
            return None
        return "cells of its grid stand for cells that there are not"

    def _cells(self) -> Tensor:
        """Cells that are in use, in the order of their ids."""
        return (self.stands == torch.arange(len(self.stands), device=self.stands.device)).nonzero().squeeze(1)

    def _centres(self, cells: Tensor) -> Tensor:
        return self._expand(self.codes.indices_to_codes(cells.unsqueeze(0)).squeeze(0))

    def _expand(self, places: Tensor) -> Tensor:
        shift = torch.atanh(self.offset / self.half_range)
        return torch.atanh((places * self.half_width + self.offset) / self.half_range * self.inside) - shift


def make_quantiser(settings: TokenizerSettings) -> Quantiser:
    """Make the quantiser that settings name; K-means has none, being one."""
    match settings.quantiser:
        case "fsq":
            return _GridQuantiser(settings.levels)
        case "residual":
            return _ResidualQuantiser(settings)
        case _:
            return _CodebookQuantiser(settings)


def _options(settings: TokenizerSettings) -> dict[str, object]:
    return {
        "dim": settings.latent,
        "decay": settings.decay,
        "commitment_weight": settings.commitment,
        "kmeans_init": True,
        "kmeans_iters": _START_ROUNDS,
        "threshold_ema_dead_code": settings.dead_below,
        "use_cosine_sim": settings.quantiser == "cosine",
        "rotation_trick": settings.rotation,
    }


def _some(vectors: Tensor, n_codes: int) -> Tensor:
    return vectors[torch.randperm(len(vectors))[: n_codes * _START_SAMPLES]]
