"""What describes a backbone: its inputs and its size. Saved as config.json beside the weights."""

from types import MappingProxyType
from typing import Any, Literal

from transformers import PretrainedConfig

from hepfm.errors import InputError
from hepfm.inputs import PT, check_inputs
from hepfm.models.derived import check_derived
from hepfm.networks.attention import Shape
from hepfm.schema import TRACKS, TYPE_FLAGS, unknown_name

KINEMATICS = (PT, "part_energy", "part_deta", "part_dphi")
TYPES = ("part_charge", *TYPE_FLAGS)

# RS3L's fifteen inputs are these and three derived ones; it takes no uncertainties of impact parameters.
_RS3L_INPUTS = (*KINEMATICS, "part_d0val", "part_dzval", *TYPES)
_RS3L_DERIVED = ("log_pt_fraction", "log_energy_fraction", "delta_r")

SIZES = MappingProxyType(
    {
        "tiny": MappingProxyType({"depth": 4, "width": 128, "heads": 4}),
        "small": MappingProxyType({"depth": 4, "width": 256, "heads": 8}),
        "base": MappingProxyType({"depth": 8, "width": 512, "heads": 8}),
        "large": MappingProxyType({"depth": 8, "width": 1024, "heads": 8}),
    }
)
"""Sizes of the transformer by name. small to large: arXiv:2401.13537."""

# What a file may ask for before it can only be damaged or hostile.
_LIMITS = MappingProxyType(
    {"width": 16_384, "depth": 256, "heads": 1024, "growth": 64, "n_registers": 1024, "k": 1024, "head_width": 65_536}
)
_MOST_LABELS = 100_000


class JetConfig(PretrainedConfig):
    """What both kinds of backbones, and the classifiers on them, are described by.

    Attributes:
        inputs: names of `hepfm.inputs.INPUTS`, in the order of the last dimension of `constituents`.
        derived: names of `hepfm.models.derived.DERIVED`: features that the network computes of the inputs.
        dropout: share of what every layer adds that is left out in training.
        head: how a classifier sums up a jet: "attention" over its constituents, or the backbone's "pooled" output.
        head_width: of the classifier's hidden layer; 0 for none.
        head_dropout: before the classifier's last layer.
    """

    inputs: list[str] | tuple[str, ...] = (*KINEMATICS, *TRACKS, *TYPES)
    derived: list[str] | tuple[str, ...] = ("delta_r", "d0_significance", "dz_significance")
    dropout: float = 0.0
    head: str = "attention"
    head_width: int = 128
    head_dropout: float = 0.1

    def __post_init__(self, **more: Any) -> None:  # noqa: ANN401
        """Check what was given.

        Raises:
            InputError: an unknown name, or an impossible size.
        """
        super().__post_init__(**more)
        self.inputs = list(check_inputs(self.inputs))
        if PT not in self.inputs:
            msg = f"a backbone needs the momenta of constituents: add {PT!r} to its inputs, {', '.join(self.inputs)}."
            raise InputError(msg)
        self.derived = list(check_derived(self.derived, self.inputs))
        if self.head not in ("attention", "pooled"):
            raise InputError(unknown_name("head", self.head, ("attention", "pooled")))
        for name in ("dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                msg = f"{name} must be at least 0 and less than 1, got {getattr(self, name)}"
                raise InputError(msg)
        for name, largest in _LIMITS.items():
            value = getattr(self, name, 1)
            least = 0 if name in ("depth", "n_registers", "head_width") else 1
            if not isinstance(value, int) or not least <= value <= largest:
                msg = f"{name} of a network must lie between {least} and {largest:,}, got {value!r}"
                raise InputError(msg)
        if len(self.id2label or ()) > _MOST_LABELS:
            msg = f"a classifier has at most {_MOST_LABELS:,} classes, got {len(self.id2label or ()):,}"
            raise InputError(msg)


class JetBackboneConfig(JetConfig):
    """A transformer over the constituents of a jet.

    Attributes:
        width: features of a constituent, D.
        depth: blocks.
        heads: of attention.
        growth: width of the hidden layers, in multiples of `width`.
        n_registers: learned vectors that attend with the constituents (arXiv:2409.12589 has 8).
        pooling: what `pooler_output` is: "mean" or "sum" over the constituents, or the mean of the "registers".
    """

    model_type = "hepfm-jet"

    width: int = 128
    depth: int = 4
    heads: int = 4
    growth: int = 4
    n_registers: int = 0
    pooling: str = "mean"

    def __post_init__(self, **more: Any) -> None:  # noqa: ANN401
        """Check what was given.

        Raises:
            InputError: an unknown name, or an impossible size.
        """
        super().__post_init__(**more)
        if self.pooling not in ("mean", "sum", "registers"):
            raise InputError(unknown_name("pooling", self.pooling, ("mean", "sum", "registers")))
        if self.pooling == "registers" and not self.n_registers:
            msg = "pooling 'registers' needs n_registers of at least 1, got 0"
            raise InputError(msg)
        _ = self.shape

    @property
    def shape(self) -> Shape:
        """Size of the transformer."""
        return Shape(self.width, self.depth, self.heads, self.growth, self.dropout)

    @property
    def hidden_size(self) -> int:
        """`width`, under the name that transformers knows."""
        return self.width


class EdgeConvConfig(JetConfig):
    """RS3L's graph network (arXiv:2403.07066): each constituent learns from its nearest neighbours.

    Attributes:
        width: features of a constituent, D.
        depth: blocks of dynamic edge convolution.
        k: neighbours of a constituent, itself among them.
    """

    model_type = "hepfm-edgeconv"

    inputs: list[str] | tuple[str, ...] = _RS3L_INPUTS
    derived: list[str] | tuple[str, ...] = _RS3L_DERIVED
    head: str = "pooled"
    width: int = 128
    depth: int = 3
    k: int = 24

    @property
    def hidden_size(self) -> int:
        """`width`, under the name that transformers knows."""
        return self.width


def sized(size: Literal["tiny", "small", "base", "large"], **changes: Any) -> JetBackboneConfig:  # noqa: ANN401
    """A transformer of one of the usual `SIZES`.

    Raises:
        InputError: an unknown size or name.
    """
    if size not in SIZES:
        raise InputError(unknown_name("size of a backbone", size, SIZES))
    return JetBackboneConfig(**{**SIZES[size], **changes})
