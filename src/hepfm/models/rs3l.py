"""RS3L: views of one frozen event come close together, those of different events apart.

Source: arXiv:2403.07066.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from hepfm.errors import InputError
from hepfm.models.classifier import Backbone
from hepfm.models.mpm import MaskedJetModel, MaskedOutput
from hepfm.networks.contrast import nt_xent, nt_xent_over_processes
from hepfm.networks.strict import StrictModel

# After the sum over constituents; arXiv:2403.07066.
_RS3L_LAYERS = (64, 32, 32, 8)
_SIMCLR_WIDTH = 128


@dataclass(frozen=True)
class Contrast:
    """How views of an event are compared.

    Attributes:
        pairs: "nominal" compares the first of the data's variations with one of the others, "any" any two.
        temperature: of the loss.
        projection: layers between the backbone and the comparison: "rs3l" as in its paper, or "simclr".
        weight: of this loss beside that of masked modelling, in a joint training.
    """

    pairs: Literal["nominal", "any"] = "nominal"
    temperature: float = 0.1
    projection: Literal["rs3l", "simclr"] = "rs3l"
    weight: float = 0.1

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: one of them is impossible.
        """
        if self.temperature <= 0 or self.weight < 0:
            msg = f"rs3l needs a positive temperature and no negative weight, got {self.temperature} and {self.weight}"
            raise InputError(msg)


@dataclass
class ContrastiveOutput(ModelOutput):
    """What came out for B pairs.

    Attributes:
        loss: NT-Xent, averaged over all views of all processes.
        embeddings: of length 1, shape (2 B, width): the first views, then the second ones.
    """

    loss: Tensor | None = None
    embeddings: Tensor | None = None


class ContrastiveJetModel(StrictModel):
    """A backbone, and the projection that it is pre-trained with."""

    def __init__(self, backbone: Backbone, how: Contrast) -> None:
        """Put a projection on a backbone."""
        super().__init__(backbone.config)
        self.how = how
        self.backbone = backbone
        self.projection = make_projection(how, backbone.config.hidden_size)
        self.post_init()

    def forward(self, constituents: Tensor, mask: Tensor) -> ContrastiveOutput:
        """Compare views.

        Args:
            constituents: B first views, then in the same order their second ones; shape (2 B, N, F).
            mask: where there is a constituent, shape (2 B, N).
        """
        pooled = self.backbone(constituents, mask).pooler_output
        embeddings = functional.normalize(self.projection(pooled).float(), dim=-1)
        # Whoever evaluates is one process alone.
        loss = (nt_xent_over_processes if self.training else nt_xent)(embeddings, self.how.temperature)
        return ContrastiveOutput(loss=loss, embeddings=embeddings)


class JointJetModel(StrictModel):
    """Both at once, in one pass: the views are compared by what is visible of them, and what is hidden is predicted."""

    def __init__(self, masked: MaskedJetModel, how: Contrast) -> None:
        """Add a projection to masked modelling."""
        super().__init__(masked.config)
        self.how = how
        self.masked = masked
        self.projection = make_projection(how, masked.config.hidden_size)
        self.post_init()

    @property
    def backbone(self) -> Backbone:
        """The backbone that is trained."""
        return self.masked.backbone

    def forward(self, **batch: Tensor) -> MaskedOutput:
        """Arguments as of `MaskedJetModel.forward`, of B first views and then their second ones."""
        output: MaskedOutput = self.masked(**batch)
        embeddings = functional.normalize(self.projection(output.pooler_output).float(), dim=-1)
        apart = (nt_xent_over_processes if self.training else nt_xent)(embeddings, self.how.temperature)
        output.loss = self.how.weight * apart + (0 if output.loss is None else output.loss)
        output.losses = {**(output.losses or {}), "contrast": apart}
        output.embeddings = embeddings
        return output


def make_projection(how: Contrast, width: int) -> nn.Sequential:
    """The layers between pooled features of some width and what is compared."""
    if how.projection == "simclr":
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _SIMCLR_WIDTH))
    layers: list[nn.Module] = []
    for before, after in pairwise((width, *_RS3L_LAYERS)):
        layers += [nn.Linear(before, after), nn.ELU()]
    return nn.Sequential(*layers[:-1])
