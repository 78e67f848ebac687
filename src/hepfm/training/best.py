"""The weights of the best evaluation so far, and when there has been none better for long enough."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from transformers import PreTrainedModel

from hepfm.atomic import write_whole
from hepfm.errors import InputError

BEST = "best.safetensors"


class BestWeights:
    """Keeps the weights with the least value of what is evaluated, in a file, through interruptions.

    A training that goes on from a checkpoint evaluates again what came after it, with the same result; what was found
    then is therefore forgotten when it comes to that step again.
    """

    def __init__(self, folder: Path, name: str, patience: int, past: Mapping[int, float]) -> None:
        """Begin, or go on.

        Args:
            folder: of the run.
            name: of the value that is to be small.
            patience: evaluations without a smaller one until it is enough; 0 for never.
            past: values by step, of the run so far.
        """
        self._path, self._name, self._patience = folder / BEST, name, patience
        self._values = dict(past)

    @property
    def step(self) -> int:
        """Of the best evaluation, the first of equal ones."""
        return min(self._values, key=lambda step: (self._values[step], step))

    def see(self, model: PreTrainedModel, step: int, values: Mapping[str, float]) -> bool:
        """Take note of an evaluation; gives whether training has gone on for long enough without a better one.

        Raises:
            InputError: the evaluation lacks the value.
            StorageError: the weights cannot be written.
        """
        if self._name not in values:
            msg = f"the evaluation gives no {self._name!r} to choose the best weights by; it has: {', '.join(values)}."
            raise InputError(msg)
        self._values = {s: value for s, value in self._values.items() if s < step}
        value = float(values[self._name])
        # No number is worse than any.
        self._values[step] = value if value == value else float("inf")
        if self.step == step:
            weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
            write_whole(self._path, save(weights, {"step": str(step), "evaluation": json.dumps(dict(values))}))
        return bool(self._patience) and sum(s > self.step for s in self._values) >= self._patience

    def restore(self, model: PreTrainedModel) -> None:
        """Give a network the best weights; does nothing if there was no evaluation."""
        if not self._path.exists():
            return
        with safe_open(self._path, framework="pt") as file:
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
