"""How wrong a reconstruction is, as training sees it: constituent by constituent, and jet by jet."""

import torch
from torch import Tensor
from torch.nn import functional

from hepfm.tokenizers.configuration import TokenizerSettings
from hepfm.tokenizers.sums import JetSums
from hepfm.tokenizers.targets import Targets

# What counts as a small error of a jet: its pt in logarithm, its mass in GeV, its axis. About half of what a published
# K-means of 16,384 codes reached (arXiv:2409.12589: 2.4 %, 3.5 GeV).
_JET_PT, _JET_MASS, _JET_AXIS = 0.01, 2.0, 0.003


def constituent_losses(outputs: Tensor, values: Tensor, targets: Targets, settings: TokenizerSettings) -> Tensor:
    """Errors of constituents.

    Args:
        outputs: of the decoder, shape (M, n_outputs).
        values: physical inputs, shape (M, F).
        targets: knows both.
        settings: weights of errors.

    Returns:
        The loss of each constituent, shape (M,). Absolute errors in each number's own width: so a few that go far
        wrong do not widen all others.
    """
    numbers, charges, kinds = targets.take_apart(outputs)
    wanted, charge, kind = targets.split(values)
    by_name = dict(zip(settings.inputs, settings.weights or (1.0,) * len(settings.inputs), strict=True))
    weights = numbers.new_tensor([by_name[name] for name in targets.numbers])
    errors = (numbers - wanted).abs() * weights * targets.counts(values)
    loss = errors.sum(1)
    if targets.has_charge:
        loss = loss + 0.3 * functional.cross_entropy(charges, charge, reduction="none")
    if targets.has_kinds:
        loss = loss + 0.3 * functional.cross_entropy(kinds, kind, reduction="none")
    return loss


def jet_losses(restored: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Errors of the sum of constituents: pt, mass and axis.

    Args:
        restored: pt in GeV, deta, dphi of decoded constituents, shape (B, N, 3).
        values: the same of the true ones.
        mask: where there is a constituent, shape (B, N).

    Returns:
        The loss of each jet, shape (B,); 1 is an error that could be smaller.
    """
    one, other = JetSums.of(restored, mask), JetSums.of(values, mask)
    pt = (one.pt / other.pt).log() / _JET_PT
    mass = (one.mass - other.mass) / _JET_MASS
    axis = (one.axis - other.axis) / _JET_AXIS
    parts = torch.cat([pt.unsqueeze(1), mass.unsqueeze(1), axis], 1)
    loss: Tensor = functional.smooth_l1_loss(parts, torch.zeros_like(parts), reduction="none").mean(1)
    return loss
