"""Physical inputs to standardised features and back. What it learned of the data is saved with the weights."""

from collections.abc import Sequence
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from hepfm.errors import InputError
from hepfm.inputs import check_inputs

# Momenta span four decades: their logarithm. At least 1 MeV, below which no detector sees anything.
_LOGARITHMIC = ("part_pt", "part_energy")
_LEAST = 1e-3
# Signed with tails over orders of magnitude: linear below this scale (GeV or mm), logarithmic above. For impact
# parameters it is the best resolution of the trackers, DETECTOR section 10 of the CMS card.
_SCALES = MappingProxyType(
    {
        **dict.fromkeys(("part_px", "part_py", "part_pz"), 1.0),
        **dict.fromkeys(("part_d0val", "part_dzval"), 0.02),
        **dict.fromkeys(("part_d0err", "part_dzerr"), 0.01),
    }
)


def mean_and_width(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of M values of F features, shape (M, F), without NaN; both of shape (F,).

    A feature that never changes has width 1, so that it stays as it is.
    """
    n_known = (~features.isnan()).sum(0).clamp(min=1)
    mean = features.nan_to_num().sum(0) / n_known
    variance = ((features - mean).nan_to_num() ** 2).sum(0) / n_known
    return mean, torch.where(variance > 1e-12, variance, 1.0).sqrt()


class InputFeatures(nn.Module):
    """Turn physical inputs into numbers of mean 0 and width 1, feature by feature, and back.

    Momenta become logarithms, signed quantities with long tails the inverse hyperbolic sine of their multiple of a
    scale; then every feature is standardised by the mean and width that `fit` found.
    """

    mean: Tensor
    width: Tensor

    def __init__(self, inputs: Sequence[str]) -> None:
        """Start with features that are not standardised yet.

        Args:
            inputs: F names of `hepfm.inputs.INPUTS`.

        Raises:
            InputError: an unknown name.
        """
        super().__init__()
        self.inputs = check_inputs(inputs)
        self.register_buffer("mean", torch.zeros(len(self.inputs)))
        self.register_buffer("width", torch.ones(len(self.inputs)))

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Learn mean and width of every feature.

        Args:
            values: physical inputs of M constituents, shape (M, F); NaN is left out.

        Raises:
            InputError: there are fewer than two constituents.
        """
        if len(values) < 2:
            msg = f"a network needs data to learn from; there are {len(values)} constituents"
            raise InputError(msg)
        mean, width = mean_and_width(self._squash(values.double()))
        self.mean.copy_(mean)
        self.width.copy_(width)

    def forward(self, values: Tensor) -> Tensor:
        """Give the features of physical inputs, both of shape (..., F). NaN stays NaN."""
        return (self._squash(values) - self.mean) / self.width

    def inverse(self, features: Tensor) -> Tensor:
        """Give the physical inputs of features, both of shape (..., F)."""
        squashed = features * self.width + self.mean
        logarithmic, scaled, scale = _shapes(self.inputs, features.device)
        grown = torch.where(scaled, torch.sinh(squashed) * scale, squashed)
        return torch.where(logarithmic, squashed.exp(), grown)

    def _squash(self, values: Tensor) -> Tensor:
        logarithmic, scaled, scale = _shapes(self.inputs, values.device)
        squashed = torch.where(scaled, torch.asinh(values / scale.to(values.dtype)), values)
        return torch.where(logarithmic, values.clamp(min=_LEAST).log(), squashed)


@cache
def _shapes(inputs: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which inputs become logarithms, which are scaled, and their scales; each of shape (F,).

    Not buffers: what follows from the names could only contradict them, and transformers loads networks in a way that
    leaves buffers empty that are not saved.
    """
    with torch.inference_mode(False):
        scale = torch.tensor([_SCALES.get(name, 0.0) for name in inputs], device=device)
        logarithmic = torch.tensor([name in _LOGARITHMIC for name in inputs], device=device)
        return logarithmic, scale > 0, torch.where(scale > 0, scale, 1.0)
