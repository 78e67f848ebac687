"""The recipe of a fine-tuned network, and what is recommended where it says nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from hepfm.errors import InputError
from hepfm.training.labels import Labels

Mode = Literal["scratch", "linear", "frozen", "full"]
MODES: tuple[Mode, ...] = get_args(Mode)

ALL_VARIATIONS = "all"


@dataclass(frozen=True)
class Finetuning:
    """The recipe of a fine-tuned network. What is None becomes what is recommended, see `resolved`.

    Attributes:
        checkpoint: name or folder of the backbone.
        data: the jets, one source; or two mixed samples (CWoLa), the one with more signal first.
        columns: column map of a table, as `hepfm.open` takes it.
        variation: whose views train; by default the first, of several. "all" takes every view as a jet of its own.
        task: whether labels are classes or numbers.
        mode: "scratch" begins with new weights, "full" with the checkpoint's; "frozen" trains the head only, and
            "linear" a single layer on what the frozen backbone gives for the jet.
        labels: which ones, and how many.
        n_constituents: of a jet that the network sees, those of highest pt.
        allow_missing: whether the jets may lack inputs, which are then unknown to the network.
        rotate: whether jets are turned and mirrored about their axis, anew each time.
        patience: epochs without a smaller loss of the jets for validation after which training stops; 0 for never.
        n_epochs: times that each jet is seen.
        batch_size: jets a step.
        learning_rate: of the head.
        backbone_rate: learning rate of the backbone, in multiples of the head's; "frozen" and "linear" have none.
        weight_decay: AdamW's.
        dropout: of the backbone.
        precision: of matrix products.
        save_every: steps between checkpoints, which an interrupted training goes on from.
        seed: of the choice of labels, new weights, batches and augmentation.
    """

    checkpoint: str
    data: tuple[str, ...]
    columns: str | None = None
    variation: str | None = None
    task: Literal["classification", "regression"] = "classification"
    mode: Mode = "full"
    labels: Labels = field(default_factory=Labels)
    n_constituents: int = 128
    allow_missing: bool = False
    rotate: bool = True
    patience: int = 10
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    backbone_rate: float | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    save_every: int = 500
    seed: int = 1

    def __post_init__(self) -> None:
        """Check what TOML cannot.

        Raises:
            InputError: settings that contradict each other.
        """
        if len(self.data) not in (1, 2):
            msg = f"fine-tuning takes one source of jets, or two mixed samples; got {len(self.data)}."
            raise InputError(msg)
        if (len(self.data) == 2 or self.labels.signal_fraction) and self.task == "regression":
            msg = "mixed samples are told apart by classification; leave --task regression out."
            raise InputError(msg)
        for name in ("n_epochs", "batch_size", "n_constituents", "save_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise InputError(msg)

    def resolved(self, n_training: int) -> "Finetuning":
        """The same with everything that was left open decided, for a number of jets that train."""
        settings: dict[str, Any] = {**_RECOMMENDED[self.mode], **_sizes(n_training)}
        return replace(self, **{name: value for name, value in settings.items() if getattr(self, name) is None})


# Found with a transformer of 4 layers and width 128, on ten classes with 10^2 to 10^4 labels; the dropout of "full"
# lies between those of the others. The backbone's rate of "full" was chosen for `hepfm/mpm-tiny`, on validation jets
# with 1,000 labels (two seeds): 0.5, 0.2, 0.1 of the head's have .602, .617, .622; 0.05 without dropout .621.
_RECOMMENDED: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "scratch": {"learning_rate": 5e-4, "backbone_rate": 1.0, "weight_decay": 0.05, "dropout": 0.2},
        "linear": {"learning_rate": 1e-2, "backbone_rate": 0.0, "weight_decay": 0.0, "dropout": 0.0},
        "frozen": {"learning_rate": 1e-3, "backbone_rate": 0.0, "weight_decay": 0.01, "dropout": 0.0},
        "full": {"learning_rate": 1e-3, "backbone_rate": 0.1, "weight_decay": 0.01, "dropout": 0.1},
    }
)


def _sizes(n_training: int) -> dict[str, int]:
    """Few jets take small batches, to have enough steps; many take fewer rounds."""
    batch_size = 16 if n_training < 500 else 64 if n_training < 5_000 else 256
    return {"batch_size": batch_size, "n_epochs": 40 if n_training <= 100_000 else 10}
