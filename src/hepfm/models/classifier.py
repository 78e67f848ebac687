"""Classes or a number for each jet, on any backbone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import SequenceClassifierOutput

from hepfm.errors import InputError
from hepfm.models.backbone import JetBackbone
from hepfm.models.configuration import EdgeConvConfig, JetBackboneConfig, JetConfig
from hepfm.models.edgeconv import EdgeConvBackbone
from hepfm.networks.dropout import Dropout
from hepfm.networks.strict import StrictModel
from hepfm.schema import unknown_name

Backbone = JetBackbone | EdgeConvBackbone

PROBLEMS = ("single_label_classification", "regression")


def make_backbone(config: JetConfig) -> Backbone:
    """A backbone with new weights.

    Raises:
        InputError: a configuration of something else.
    """
    if isinstance(config, EdgeConvConfig):
        return EdgeConvBackbone(config)
    if isinstance(config, JetBackboneConfig):
        return JetBackbone(config)
    msg = f"expected the configuration of a backbone, JetBackboneConfig or EdgeConvConfig; got {type(config).__name__}"
    raise InputError(msg)


class JetForSequenceClassification(StrictModel):
    """A backbone with a head that classifies jets, or estimates a number such as the mass.

    `config.problem_type` is "single_label_classification", with as many classes as `config.id2label` names, or
    "regression"; `config.head` says how the head sums a jet up.
    """

    config_class: type[JetConfig] = JetBackboneConfig
    config: JetConfig
    label_mean: Tensor
    label_width: Tensor

    def __init__(self, config: JetConfig) -> None:
        """Make backbone and head, with new weights.

        Raises:
            InputError: an unknown kind of problem.
        """
        super().__init__(config)
        if config.problem_type is None:
            config.problem_type = "single_label_classification"
        if config.problem_type not in PROBLEMS:
            raise InputError(unknown_name("problem_type", str(config.problem_type), PROBLEMS))
        self.backbone = make_backbone(config)
        self.head = JetHead(config)
        # In whose units a number is learned; of no meaning for classes.
        self.register_buffer("label_mean", torch.zeros(()))
        self.register_buffer("label_width", torch.ones(()))
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        backbone: Backbone,
        classes: Sequence[str] | None,
        *,
        head: str | None = None,
        head_width: int | None = None,
        head_dropout: float | None = None,
        dropout: float | None = None,
    ) -> "JetForSequenceClassification":
        """Put a new head on a backbone, which becomes part of the classifier.

        Args:
            backbone: with the weights that it is to begin with.
            classes: their names; None for a number.
            head: see `JetConfig`, as the next ones; None for what the backbone's configuration says.
            head_width: of the hidden layer.
            head_dropout: before the last layer.
            dropout: of the backbone.

        Raises:
            InputError: an impossible setting.
        """
        changes = {"head": head, "head_width": head_width, "head_dropout": head_dropout, "dropout": dropout}
        config = type(backbone.config)(
            **{
                **{name: value for name, value in backbone.config.to_dict().items() if name not in _OF_A_FILE},
                **{name: value for name, value in changes.items() if value is not None},
                "problem_type": "regression" if classes is None else "single_label_classification",
                "id2label": dict(enumerate(["value"] if classes is None else classes)),
                "label2id": {name: i for i, name in enumerate(["value"] if classes is None else classes)},
            }
        )
        kind = EdgeConvForSequenceClassification if isinstance(config, EdgeConvConfig) else JetForSequenceClassification
        model = kind(config)
        model.backbone.load_state_dict(backbone.state_dict())
        return model

    def fit_labels(self, labels: Tensor) -> None:
        """Learn mean and width of the numbers to be estimated, shape (N,)."""
        labels = labels.double()
        self.label_mean.copy_(labels.mean())
        self.label_width.copy_(labels.std(correction=0).clamp(min=1e-12))

    def forward(self, constituents: Tensor, mask: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        """Classify jets.

        Args:
            constituents: as of `JetBackbone.forward`, shape (B, N, F).
            mask: where there is a constituent, shape (B, N).
            labels: classes (B,), or numbers (B,).

        Returns:
            `logits` (B, classes), or estimated numbers in the labels' units (B, 1); and `loss`, if there are labels.

        Raises:
            InputError: other than F inputs, or unknown momenta.
        """
        encoded = self.backbone(constituents, mask)
        logits = self.head(encoded.last_hidden_state, encoded.pooler_output, mask).float()
        loss = None
        if self.config.problem_type == "regression":
            if labels is not None:
                loss = functional.smooth_l1_loss(logits[:, 0], (labels.float() - self.label_mean) / self.label_width)
            logits = logits * self.label_width + self.label_mean
        elif labels is not None:
            loss = functional.cross_entropy(logits, labels.long())
        return SequenceClassifierOutput(loss=loss, logits=logits)


class EdgeConvForSequenceClassification(JetForSequenceClassification):
    """The same on RS3L's graph network: transformers knows a class by the configuration that it takes."""

    config_class: type[JetConfig] = EdgeConvConfig


class JetHead(nn.Module):
    """Sums a jet up, then a hidden layer and the last one."""

    def __init__(self, config: JetConfig) -> None:
        """Make the layers."""
        super().__init__()
        width: int = config.hidden_size
        self.query = nn.Linear(width, 1) if config.head == "attention" else None
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, config.head_width) if config.head_width else None
        self.dropout = Dropout(config.head_dropout)
        self.output = nn.Linear(config.head_width or width, config.num_labels or 1)

    def forward(self, encoded: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """Give (B, classes) of the backbone's outputs, (B, N, D) and (B, D)."""
        if self.query is not None:
            # A jet of nothing attends to padding, which is zero.
            attended = mask | ~mask.any(1, keepdim=True)
            weights = self.query(encoded).squeeze(-1).float().masked_fill(~attended, -torch.inf).softmax(-1)
            pooled = (weights.unsqueeze(-1) * encoded).sum(1).to(self.norm.weight.dtype)
        features = self.norm(pooled)
        if self.hidden is not None:
            features = functional.gelu(self.hidden(features))
        result: Tensor = self.output(self.dropout(features))
        return result


# What a configuration says of the file that it came from, which a new network does not inherit.
_OF_A_FILE = ("architectures", "transformers_version", "_name_or_path", "model_type", "id2label", "label2id", "dtype")
