"""Recipes: TOML files that say everything about a training. Each table of the file is a dataclass."""

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli_w

from hepfm.errors import InputError
from hepfm.formats.toml import read_toml
from hepfm.schema import unknown_name

Recipe = TypeVar("Recipe")
# Keys that tell which command a recipe is for.
_OF = {"tokenizer": "tokenizer train", "objective": "pretrain", "mode": "finetune"}


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """How weights are found; the same for every kind of network.

    Attributes:
        n_steps: updates of the weights.
        batch_size: jets a step, over all processes together.
        learning_rate: the largest one.
        schedule: of the learning rate after its linear rise.
        warmup_steps: steps of that rise.
        weight_decay: AdamW's.
        clip: largest norm of the gradient; 0 for any.
        precision: "bf16" multiplies matrices with 8 bits of mantissa, if the processor has instructions for that;
            weights stay in fp32.
        seed: of weights, batches, masks and augmentation.
        evaluate_every: steps between evaluations on the validation split; 0 for at the end only.
        save_every: steps between checkpoints, which a killed training goes on from.
    """

    n_steps: int
    batch_size: int = 256
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.01
    clip: float = 5.0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 1
    evaluate_every: int = 0
    save_every: int = 500

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: one of them is impossible.
        """
        least = {"n_steps": 1, "batch_size": 1, "save_every": 1, "warmup_steps": 0, "evaluate_every": 0, "clip": 0}
        for name, smallest in (least | {"weight_decay": 0}).items():
            if not smallest <= (value := getattr(self, name)) < math.inf:
                msg = f"optimisation.{name} must be at least {smallest}, got {value}."
                raise InputError(msg)
        if not 0 < self.learning_rate < math.inf:
            msg = f"optimisation.learning_rate must be larger than 0, got {self.learning_rate}."
            raise InputError(msg)


def read_recipe(kind: type[Recipe], path: Path, **changes: Any) -> Recipe:  # noqa: ANN401
    """Read a recipe.

    Args:
        kind: a frozen dataclass whose fields are numbers, text, lists of them, or such dataclasses.
        path: of the TOML file.
        changes: values that replace the file's, by names such as "optimisation.n_steps"; None changes nothing.

    Raises:
        InputError: the file cannot be read; a key is unknown or missing, or a value of the wrong type.
    """
    return make_recipe(kind, read_toml(path), str(path), **changes)


def make_recipe(kind: type[Recipe], tables: dict[str, Any], origin: str, **changes: Any) -> Recipe:  # noqa: ANN401
    """Make a recipe of tables that are in memory; see `read_recipe`. `origin` begins the messages of errors."""
    for name, value in changes.items():
        if value is None:
            continue
        *above, last = name.split(".")
        table = tables
        for part in above:
            table = table.setdefault(part, {})
        table[last] = value
    return _build(kind, tables, origin, "")


def write_recipe(recipe: object) -> str:
    """The recipe as TOML, every default written out, which `read_recipe` reads back."""
    return tomli_w.dumps(_plain(recipe))


def _build(kind: type[Recipe], table: dict[str, Any], origin: str, above: str) -> Recipe:
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types_of = typing.get_type_hints(kind)
    for key in table:
        if key not in fields:
            of = f" It is of a recipe for hepfm-data {_OF[key]}." if not above and key in _OF else ""
            raise InputError(f"{origin}: " + unknown_name(f"key in {above or 'the recipe'}", key, list(fields)) + of)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _value(types_of[name], table[name], origin, f"{above}.{name}".lstrip("."))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            msg = f"{origin}: {above or 'the recipe'} lacks {name!r}. Add it."
            raise InputError(msg)
    return kind(**values)


def _value(kind: Any, value: Any, origin: str, name: str) -> Any:  # noqa: ANN401
    """A value of a TOML file as what the dataclass wants."""
    if isinstance(kind, types.UnionType):
        kind = next(choice for choice in typing.get_args(kind) if choice is not types.NoneType)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            msg = f"{origin}: {name!r} must be a table, got {value!r}."
            raise InputError(msg)
        return _build(typing.cast("type[Any]", kind), value, origin, name)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise InputError(f"{origin}: " + unknown_name(name, str(value), [str(c) for c in typing.get_args(kind)]))
        return value
    if typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        if not isinstance(value, list | tuple):
            msg = f"{origin}: {name!r} must be a list, got {value!r}."
            raise InputError(msg)
        return tuple(_value(element, part, origin, name) for part in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not kind:
        msg = f"{origin}: {name!r} must be of type {kind.__name__}, got {value!r}."
        raise InputError(msg)
    return value


def _plain(value: Any) -> Any:  # noqa: ANN401
    """A dataclass as tables of plain values; None is left out, for TOML has none."""
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _plain(part) for name, part in parts.items() if part is not None}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value
