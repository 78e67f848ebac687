"""Features of constituents that networks compute of their physical inputs."""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from hepfm.errors import InputError
from hepfm.inputs import PT
from hepfm.schema import unknown_name

# 1 MeV, below which no detector sees anything.
_LEAST = 1e-3

Inputs = dict[str, Tensor]


def _log_fraction(values: Tensor, mask: Tensor) -> Tensor:
    whole = (values * mask).sum(dim=1, keepdim=True).clamp(min=_LEAST)
    return (values.clamp(min=_LEAST) / whole).log()


def _significance(value: Tensor, error: Tensor) -> Tensor:
    """Linear up to one standard deviation, then logarithmic; 0 without a track, NaN where either is unknown."""
    return torch.where(error > 0, torch.asinh(value / error.clamp(min=1e-6)), (value + error) * 0)


_Derive = Callable[[Inputs, Tensor], Tensor]
_DERIVED: dict[str, tuple[tuple[str, ...], _Derive]] = {
    "log_pt_fraction": ((PT,), lambda x, mask: _log_fraction(x[PT], mask)),
    "log_energy_fraction": (("part_energy",), lambda x, mask: _log_fraction(x["part_energy"], mask)),
    "delta_r": (("part_deta", "part_dphi"), lambda x, mask: torch.hypot(x["part_deta"], x["part_dphi"])),
    "d0_significance": (
        ("part_d0val", "part_d0err"),
        lambda x, mask: _significance(x["part_d0val"], x["part_d0err"]),
    ),
    "dz_significance": (
        ("part_dzval", "part_dzerr"),
        lambda x, mask: _significance(x["part_dzval"], x["part_dzerr"]),
    ),
}
DERIVED = MappingProxyType(_DERIVED)
"""The inputs that a derived feature needs, and how it is computed, by its name.

Fractions are of the sum over the constituents that are given: with some of them masked, of the sum of the others.
"""


def check_derived(names: Sequence[str], inputs: Sequence[str]) -> tuple[str, ...]:
    """Give the names back.

    Raises:
        InputError: one of them is no derived feature, or needs an input that is not there.
    """
    for name in names:
        if name not in DERIVED:
            raise InputError(unknown_name("derived feature", name, DERIVED))
        for needed in DERIVED[name][0]:
            if needed not in inputs:
                msg = f"derived feature {name!r} needs the input {needed!r}. Add it, or leave {name!r} out."
                raise InputError(msg)
    return tuple(names)


def derive(names: Sequence[str], inputs: Inputs, mask: Tensor) -> list[Tensor]:
    """Compute derived features.

    Args:
        names: of `DERIVED`.
        inputs: physical, by their names; each of shape (B, N), NaN where unknown.
        mask: where there is a constituent, shape (B, N).

    Returns:
        One tensor of shape (B, N) a name; NaN where an input that it needs is unknown.
    """
    return [DERIVED[name][1](inputs, mask) for name in names]
