"""From physical inputs to what the first layer of a backbone takes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepfm.errors import InputError
from hepfm.inputs import PT
from hepfm.models.derived import check_derived, derive
from hepfm.networks.features import InputFeatures, mean_and_width

_MOMENTA = (PT, "part_energy", "part_px", "part_py", "part_pz")


class JetFeatures(nn.Module):
    """Inputs and features derived of them, each of mean 0 and width 1; whether they are known is told apart."""

    derived_mean: Tensor
    derived_width: Tensor

    def __init__(self, inputs: Sequence[str], derived: Sequence[str]) -> None:
        """Start with features that are not standardised yet.

        Args:
            inputs: F names of `hepfm.inputs.INPUTS`.
            derived: names of `hepfm.models.derived.DERIVED`.

        Raises:
            InputError: an unknown name.
        """
        super().__init__()
        self.inputs, self.derived = tuple(inputs), check_derived(derived, inputs)
        self.standardise = InputFeatures(inputs)
        self.register_buffer("derived_mean", torch.zeros(len(self.derived)))
        self.register_buffer("derived_width", torch.ones(len(self.derived)))

    @property
    def n_features(self) -> int:
        """Number of features of a constituent."""
        return len(self.inputs) + len(self.derived)

    @torch.no_grad()
    def fit(self, constituents: Tensor, mask: Tensor) -> None:
        """Learn mean and width of every feature.

        Args:
            constituents: physical inputs, shape (B, N, F); NaN where unknown.
            mask: where there is a constituent, shape (B, N).

        Raises:
            InputError: there are fewer than two constituents.
        """
        self.standardise.fit(constituents[mask])
        # A muon is one constituent in a thousand: in multiples of the width of its flag it would be 30.
        natural = [i for i, name in enumerate(self.inputs) if name == "part_charge" or name.startswith("part_is")]
        self.standardise.mean[natural] = 0.0
        self.standardise.width[natural] = 1.0
        if self.derived:
            values = torch.stack(derive(self.derived, self._by_name(constituents), mask), -1)[mask]
            mean, width = mean_and_width(values.double())
            self.derived_mean.copy_(mean)
            self.derived_width.copy_(width)

    def forward(self, constituents: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Give the features, and which of them are unknown.

        Args:
            constituents: physical inputs, shape (B, N, F); NaN where unknown. Padding may hold anything.
            mask: where there is a constituent, shape (B, N).

        Returns:
            Features, zero where unknown or padding, and where they are unknown: both of shape (B, N, F').

        Raises:
            InputError: other than F inputs; or momenta are unknown.
        """
        if constituents.shape[-1] != len(self.inputs):
            msg = f"the network takes {len(self.inputs)} inputs, {', '.join(self.inputs)}; got {constituents.shape[-1]}"
            raise InputError(msg)
        constituents = torch.where(mask.unsqueeze(-1), constituents.float(), 0.0)
        features = self.standardise(constituents)
        if self.derived:
            values = torch.stack(derive(self.derived, self._by_name(constituents), mask), -1)
            features = torch.cat([features, (values - self.derived_mean) / self.derived_width], -1)
        unknown = features.isnan()
        lacking = unknown[..., [i for i, name in enumerate(self.inputs) if name in _MOMENTA]]
        if bool(lacking.any()):
            names = [n for n in self.inputs if n in _MOMENTA]
            lost = [n for n, is_lost in zip(names, lacking.flatten(0, 1).any(0).tolist(), strict=True) if is_lost]
            msg = f"{' and '.join(lost)} of constituents are unknown (NaN); a network needs all momenta."
            raise InputError(msg)
        known = ~unknown & mask.unsqueeze(-1)
        return torch.where(known, features, 0.0), unknown

    def _by_name(self, constituents: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.inputs, constituents.unbind(-1), strict=True))
