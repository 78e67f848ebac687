"""What a tokenizer is, in numbers: frozen settings that a recipe holds, and the config.json that holds them."""

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedConfig

from hepfm.errors import InputError
from hepfm.inputs import PT, check_inputs
from hepfm.schema import TRACKS, TYPE_FLAGS, unknown_name

KINEMATICS = (PT, "part_deta", "part_dphi")
CHARGE = "part_charge"

_MAX_CODES = 1 << 20


@dataclass(frozen=True)
class TokenizerSettings:
    """What makes a tokenizer, but for its weights.

    Attributes:
        inputs: what a code stands for, names of `hepfm.inputs.INPUTS`: at least pt, deta and dphi. Flags of the kind
            of particle are given all five or not at all; impact parameters need the charge, which says where there is
            a track.
        context: what the code of a constituent depends on: the whole jet, the particle alone through a network, or
            ("none") the particle alone without one: K-means.
        quantiser: "ema": codes follow the mean of what they stand for; "cosine": the same for directions; "fsq": a
            grid of `levels`; "residual": `stages` of codes, each for what the one before left over; "kmeans".
        n_codes: how many different ids there are; of a grid those that training jets leave empty are given up.
        stages: of the residual quantiser.
        levels: of the grid, one number a dimension; their product is `n_codes`.
        latent: dimensions of what is quantised, at least as many as inputs; the grid has its own number.
        rotation: whether gradients pass the quantiser by the rotation trick (arXiv:2410.06424), or straight through.
        decay: share that a code keeps of its old mean in a step.
        commitment: weight of the distance between what is quantised and its code; where it is small, the encoder moves
            faster than the codes follow, and wastes them.
        dead_below: a code that stands for fewer constituents of a batch than this, on average, moves elsewhere.
        width: of the transformers.
        encoder_depth: blocks of the encoder.
        decoder_depth: blocks of the decoder.
        heads: of attention.
        growth: width of the hidden layers, in multiples of `width`.
        weights: how much an error counts in each input's own width, in the order of `inputs`; also the units in which
            K-means measures distances. All 1 if there are none.
        scales: by how much the standardised inputs are multiplied to be the first latent dimensions before training; by
            default the weights, or 0.8 for a grid: its tanh makes cells fine where inputs are many.
        angle_power: angles are measured in multiples of this power of 1 / pt, so that those of hard constituents come
            out finer: a jet's mass feels pt times angle.
        jet_weight: of the errors of the jet's pt, mass and axis.
    """

    inputs: tuple[str, ...] = KINEMATICS
    context: Literal["jet", "particle", "none"] = "jet"
    quantiser: Literal["ema", "cosine", "fsq", "residual", "kmeans"] = "ema"
    n_codes: int = 512
    stages: int = 1
    levels: tuple[int, ...] = ()
    latent: int = 8
    rotation: bool = False
    decay: float = 0.98
    commitment: float = 5.0
    dead_below: float = 0.5
    width: int = 128
    encoder_depth: int = 3
    decoder_depth: int = 3
    heads: int = 8
    growth: int = 2
    weights: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    angle_power: float = 0.0
    jet_weight: float = 0.03

    def __post_init__(self) -> None:
        """Check that the settings go together.

        Raises:
            InputError: they do not.
        """
        self._check_types()
        check_inputs(self.inputs)
        for problem, expected, given in self._problems():
            if problem:
                msg = f"tokenizer: expected {expected}, got {given}"
                raise InputError(msg)

    @property
    def stage_codes(self) -> int:
        """Codes of one stage of the residual quantiser."""
        return round(math.exp(math.log(max(self.n_codes, 1)) / max(self.stages, 1)))

    @property
    def bits(self) -> float:
        """Bits that an id takes at most."""
        return math.log2(self.n_codes)

    def _problems(self) -> list[tuple[bool, str, object]]:
        kinds = [name for name in TYPE_FLAGS if name in self.inputs]
        tracks = [name for name in TRACKS if name in self.inputs]
        grid = self.quantiser == "fsq"
        return [
            (self.inputs[:3] != KINEMATICS, f"inputs that begin with {', '.join(KINEMATICS)}", self.inputs),
            (len(kinds) not in (0, len(TYPE_FLAGS)), f"all of {', '.join(TYPE_FLAGS)}, or none", kinds),
            (bool(tracks) and CHARGE not in self.inputs, f"{CHARGE} among inputs with {', '.join(tracks)}", "none"),
            (not 2 <= self.n_codes <= _MAX_CODES, f"n_codes from 2 to {_MAX_CODES:,}", self.n_codes),
            (grid and math.prod(self.levels) != self.n_codes, f"levels with product {self.n_codes}", self.levels),
            (grid and min(self.levels, default=3) < 3, "at least 3 levels in each dimension", self.levels),
            (not grid and bool(self.levels), "levels with the quantiser fsq only", self.levels),
            (self.quantiser == "residual" and self.stages < 2, "at least 2 stages", self.stages),
            (self.quantiser != "residual" and self.stages != 1, "1 stage unless residual", self.stages),
            (self.stage_codes**self.stages != self.n_codes, f"n_codes that is a power {self.stages}", self.n_codes),
            (not grid and self.latent < 3, "at least 3 latent dimensions", self.latent),
            (len(self.weights) not in (0, len(self.inputs)), f"{len(self.inputs)} weights, or none", self.weights),
            (min(self.weights, default=1.0) <= 0, "positive weights", self.weights),
            (len(self.scales) not in (0, len(self.inputs)), f"{len(self.inputs)} scales, or none", self.scales),
            (min(self.scales, default=1.0) <= 0, "positive scales", self.scales),
            ((self.context == "none") != (self.quantiser == "kmeans"), "kmeans with context none", self.context),
            (min(self.width, self.heads, self.growth) < 1, "a positive width, heads and growth", self.width),
            (self.width % self.heads != 0, f"a width that is a multiple of {self.heads} heads", self.width),
            (min(self.encoder_depth, self.decoder_depth) < 0, "no negative depth", self.encoder_depth),
            (not 0 <= self.decay < 1, "a decay from 0 to 1", self.decay),
        ]

    def _check_types(self) -> None:
        """Settings may come from a file of somebody else: each must be what it is annotated as."""
        kinds = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            kind, value = kinds[field.name], getattr(self, field.name)
            choices = typing.get_args(kind)
            if typing.get_origin(kind) is Literal:
                if value not in choices:
                    raise InputError(unknown_name(f"{field.name} of a tokenizer", str(value), choices))
                continue
            parts, wanted = ((value,), kind) if not choices else (value, choices[0])
            well = isinstance(parts, tuple) and all(
                type(part) is wanted or (wanted is float and type(part) is int) for part in parts
            )
            if not well or (wanted is float and not all(math.isfinite(part) for part in parts)):
                msg = f"tokenizer: {field.name} must be of type {getattr(wanted, '__name__', wanted)}, got {value!r}"
                raise InputError(msg)


class TokenizerConfig(PreTrainedConfig):
    """A tokenizer's config.json."""

    model_type = "hepfm-tokenizer"

    def __init__(self, settings: TokenizerSettings | dict[str, Any] | None = None, **others: Any) -> None:  # noqa: ANN401
        """Take the settings, as they are or as a file holds them.

        Args:
            settings: of the tokenizer; the defaults if there are none.
            others: what transformers keeps there.

        Raises:
            InputError: a setting is unknown, of another type, or does not go with the others.
        """
        if isinstance(settings, TokenizerSettings):
            settings = dataclasses.asdict(settings)
        self.settings = {k: list(v) if isinstance(v, tuple) else v for k, v in (settings or {}).items()}
        self.typed_settings()
        super().__init__(**others)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What a code stands for, in the order of the inputs' last dimension."""
        return self.typed_settings().inputs

    def typed_settings(self) -> TokenizerSettings:
        """The settings as a frozen dataclass."""
        known = [field.name for field in dataclasses.fields(TokenizerSettings)]
        for name in self.settings:
            if name not in known:
                raise InputError(unknown_name("setting of a tokenizer", name, known))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.settings.items()}
        return TokenizerSettings(**values)
