"""Physical inputs to standardised features and back. What it learned of the data is saved with the weights."""

from collections.abc import Sequence
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


class InputFeatures(nn.Module):
    """Turn physical inputs into numbers of mean 0 and width 1, feature by feature, and back.

    Momenta become logarithms, signed quantities with long tails the inverse hyperbolic sine of their multiple of a
    scale; then every feature is standardised by the mean and width that `fit` found.
    """

    mean: Tensor
    width: Tensor
    logarithmic: Tensor
    scale: Tensor

    def __init__(self, inputs: Sequence[str]) -> None:
        """Start with features that are not standardised yet.

        Args:
            inputs: F names of `hepfm.inputs.INPUTS`.

        Raises:
            InputError: an unknown name.
        """
        super().__init__()
        self.inputs = check_inputs(inputs)
        # What follows from the names is not saved: it could only contradict them.
        self.register_buffer("logarithmic", torch.tensor([n in _LOGARITHMIC for n in inputs]), persistent=False)
        self.register_buffer("scale", torch.tensor([_SCALES.get(n, 0.0) for n in inputs]), persistent=False)
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
        features = self._squash(values.double())
        known = ~features.isnan()
        n_known = known.sum(0).clamp(min=1)
        mean = features.nan_to_num().sum(0) / n_known
        variance = ((features - mean).nan_to_num() ** 2).sum(0) / n_known
        # A feature that never changes stays as it is.
        width = torch.where(variance > 1e-12, variance, 1.0).sqrt()
        self.mean.copy_(mean)
        self.width.copy_(width)

    def forward(self, values: Tensor) -> Tensor:
        """Give the features of physical inputs, both of shape (..., F). NaN stays NaN."""
        return (self._squash(values) - self.mean) / self.width

    def inverse(self, features: Tensor) -> Tensor:
        """Give the physical inputs of features, both of shape (..., F)."""
        squashed = features * self.width + self.mean
        scale = torch.where(self.scale > 0, self.scale, 1.0)
        grown = torch.where(self.scale > 0, torch.sinh(squashed) * scale, squashed)
        return torch.where(self.logarithmic, squashed.exp(), grown)

    def _squash(self, values: Tensor) -> Tensor:
        scale = torch.where(self.scale > 0, self.scale, 1.0).to(values.dtype)
        squashed = torch.where(self.scale > 0, torch.asinh(values / scale), values)
        return torch.where(self.logarithmic, values.clamp(min=_LEAST).log(), squashed)
