"""What is given back of a constituent: numbers by regression, charge and kind by classification."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepfm.networks.features import InputFeatures
from hepfm.schema import TRACKS, TYPE_FLAGS
from hepfm.tokenizers.configuration import CHARGE

_CHARGES = 3
# Transverse momentum in GeV at which angles are as they are, and within which multiples of it they change.
_HARD = 5.0
_HARDNESS = (0.2, 50.0)


class Targets(nn.Module):
    """Splits physical inputs into F' standardised numbers, the charge and the kind; and puts them together again.

    A network predicts `n_outputs` numbers a constituent: first the F' numbers, then a logit for each charge -1, 0, 1,
    then one for each kind, where there are such inputs.
    """

    def __init__(self, inputs: Sequence[str], angle_power: float = 0.0) -> None:
        """Take F names of inputs, and the power of pt that an angle is measured in."""
        super().__init__()
        self.angle_power = angle_power
        self.inputs = tuple(inputs)
        self.numbers = tuple(name for name in inputs if name != CHARGE and name not in TYPE_FLAGS)
        self.has_charge, self.has_kinds = CHARGE in inputs, TYPE_FLAGS[0] in inputs
        self.features = InputFeatures(self.numbers)
        self._columns = [self.inputs.index(name) for name in self.numbers]
        self._kinds = [self.inputs.index(name) for name in TYPE_FLAGS] if self.has_kinds else []
        self._track_only = [name in TRACKS for name in self.numbers]

    @property
    def n_outputs(self) -> int:
        """How many numbers a network predicts for a constituent."""
        return len(self.numbers) + _CHARGES * self.has_charge + len(TYPE_FLAGS) * self.has_kinds

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Learn the mean and width of every number from physical inputs of shape (M, F)."""
        numbers = self._measured(values[:, self._columns])
        self.features.fit(numbers.masked_fill(~self.counts(values), torch.nan))

    def counts(self, values: Tensor) -> Tensor:
        """Which numbers mean something: impact parameters do where there is a charge. (..., F) to (..., F')."""
        track_only = torch.tensor(self._track_only, device=values.device)
        if not self.has_charge:
            return (~track_only).expand(*values.shape[:-1], -1)
        charged = values[..., self.inputs.index(CHARGE)] != 0
        return charged.unsqueeze(-1) | ~track_only

    def split(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Physical inputs (..., F) as standardised numbers (..., F'), 0 where they mean nothing, charge and kind (...).

        The charge is 0, 1, 2 for -1, 0, 1.
        """
        numbers = self.features(self._measured(values[..., self._columns]))
        numbers = torch.where(self.counts(values), numbers, 0.0)
        none = torch.zeros(values.shape[:-1], dtype=torch.long, device=values.device)
        charge = values[..., self.inputs.index(CHARGE)].round().long().clamp(-1, 1) + 1 if self.has_charge else none
        kind = values[..., self._kinds].argmax(-1) if self.has_kinds else none
        return numbers, charge, kind

    def as_network_input(self, values: Tensor) -> Tensor:
        """Physical inputs as the network sees them: standardised numbers, then one-hot charge and kind; (..., F'')."""
        numbers, charge, kind = self.split(values)
        parts = [numbers]
        if self.has_charge:
            parts.append(functional.one_hot(charge, _CHARGES).to(numbers.dtype))
        if self.has_kinds:
            parts.append(functional.one_hot(kind, len(TYPE_FLAGS)).to(numbers.dtype))
        return torch.cat(parts, -1)

    def take_apart(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a network predicts (..., n_outputs) as numbers, logits of the charge and logits of the kind."""
        n, c = len(self.numbers), _CHARGES * self.has_charge
        return outputs[..., :n], outputs[..., n : n + c], outputs[..., n + c :]

    def kinematics(self, outputs: Tensor) -> Tensor:
        """Pt in GeV, deta and dphi of what a network predicts, (..., n_outputs) to (..., 3); gradients pass."""
        numbers = self.take_apart(outputs)[0]
        return self._measured(self.features.inverse(numbers.clamp(-20, 20)), -1)[..., :3]

    def from_kinematics(self, kinematics: Tensor) -> Tensor:
        """Pt in GeV, deta and dphi as the first three numbers, (..., 3) to (..., 3)."""
        measured = self._measured(kinematics)
        pt, angles = measured[..., :1].clamp(min=1e-3).log(), measured[..., 1:]
        return (torch.cat([pt, angles], -1) - self.features.mean[:3]) / self.features.width[:3]

    def physical(self, outputs: Tensor) -> Tensor:
        """What a network predicts as physical inputs, (..., n_outputs) to (..., F)."""
        numbers, charges, kinds = self.take_apart(outputs)
        values = outputs.new_zeros((*outputs.shape[:-1], len(self.inputs)))
        values[..., self._columns] = self._measured(self.features.inverse(numbers), -1)
        if self.has_charge:
            values[..., self.inputs.index(CHARGE)] = (charges.argmax(-1) - 1).to(values.dtype)
        if self.has_kinds:
            values[..., self._kinds] = functional.one_hot(kinds.argmax(-1), len(TYPE_FLAGS)).to(values.dtype)
        values[..., self._columns] = torch.where(self.counts(values), values[..., self._columns], 0.0)
        return values

    def _measured(self, numbers: Tensor, sign: int = 1) -> Tensor:
        """Angles in multiples of what pt makes of them, or with sign -1 in radians again; (..., F')."""
        if self.angle_power == 0:
            return numbers
        hardness = (numbers[..., :1] / _HARD).clamp(*_HARDNESS) ** (sign * self.angle_power)
        return torch.cat([numbers[..., :1], numbers[..., 1:3] * hardness, numbers[..., 3:]], -1)
