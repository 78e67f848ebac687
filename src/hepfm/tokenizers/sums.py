"""Sums over the constituents of jets: pt, mass and axis, through which gradients pass."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# Below these rounding and gradients are no help: GeV.
_LEAST_PT, _LEAST_MASS = 1e-3, 1.0
_MOST_ETA = 3.0


@dataclass(frozen=True)
class JetSums:
    """What the massless constituents of B jets add up to: pt and mass in GeV, shape (B,); axis, shape (B, 2).

    Attributes:
        pt: sum of transverse momenta.
        mass: of the sum, at least 1 GeV.
        axis: mean deta and dphi, weighted by pt.
        n: how many constituents.
    """

    pt: Tensor
    mass: Tensor
    axis: Tensor
    n: Tensor

    @classmethod
    def of(cls, kinematics: Tensor, mask: Tensor) -> Self:
        """Add up.

        Args:
            kinematics: pt in GeV, deta, dphi; shape (B, N, 3).
            mask: where there is a constituent, shape (B, N).
        """
        pt, deta, dphi = (kinematics * mask.unsqueeze(-1)).unbind(-1)
        eta = deta.clamp(-_MOST_ETA, _MOST_ETA)
        terms = (pt, pt * deta, pt * dphi, pt * dphi.cos(), pt * dphi.sin(), pt * eta.sinh(), pt * eta.cosh())
        sum_pt, sum_deta, sum_dphi, px, py, pz, energy = torch.stack(terms, -1).sum(1).unbind(-1)
        mass2 = (energy - pz) * (energy + pz) - px**2 - py**2
        sum_pt = sum_pt.clamp(min=_LEAST_PT)
        axis = torch.stack([sum_deta / sum_pt, sum_dphi / sum_pt], 1)
        return cls(sum_pt, mass2.clamp(min=_LEAST_MASS**2).sqrt(), axis, mask.sum(1))

    def as_features(self) -> Tensor:
        """Numbers of order 1 for a network, shape (B, 5), for jets of hundreds of GeV and tens of constituents."""
        logs = torch.stack([self.pt.log() - 6.4, (self.mass.log() - 4.4) / 2, self.n.clamp(min=1).log() - 3.5], 1)
        return torch.cat([2 * logs, (20 * self.axis).clamp(-5, 5)], 1)
