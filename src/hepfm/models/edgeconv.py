"""RS3L's backbone: dynamic edge convolutions on the graph of nearest constituents.

Source: arXiv:2403.07066; the layer is Wang et al.'s, arXiv:1801.07829.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutputWithPooling

from hepfm.models.configuration import EdgeConvConfig
from hepfm.models.features import JetFeatures
from hepfm.models.neighbours import largest_among, nearest
from hepfm.networks.dropout import Dropout
from hepfm.networks.strict import StrictModel


class EdgeConvBackbone(StrictModel):
    """Layers for each constituent by itself, then blocks in which it learns from its nearest; summed up."""

    config_class = EdgeConvConfig
    config: EdgeConvConfig

    def __init__(self, config: EdgeConvConfig) -> None:
        """Make the layers, with PyTorch's own initial weights."""
        super().__init__(config)
        self.features = JetFeatures(config.inputs, config.derived)
        n_features = self.features.n_features
        # What stands for a feature that is unknown.
        self.unknown = nn.Parameter(torch.zeros(n_features))
        self.embedding = nn.Sequential(
            nn.Linear(n_features, config.width), nn.ELU(), nn.Linear(config.width, config.width), nn.ELU()
        )
        self.blocks = nn.ModuleList(DynamicEdgeConv(config.width, config.k) for _ in range(config.depth))
        self.dropout = Dropout(config.dropout)
        self.post_init()

    def fit_normalisation(self, constituents: Tensor, mask: Tensor) -> None:
        """Learn mean and width of every feature; see `JetBackbone.fit_normalisation`."""
        self.features.fit(constituents, mask)

    def forward(self, constituents: Tensor, mask: Tensor) -> BaseModelOutputWithPooling:
        """Encode jets; arguments as of `JetBackbone.forward`.

        Returns:
            `last_hidden_state` (B, N, D), zero where there is no constituent, and their sum as `pooler_output` (B, D).

        Raises:
            InputError: other than F inputs, or unknown momenta.
        """
        features, unknown = self.features(constituents, mask)
        nodes = self.embedding(torch.where(unknown, self.unknown, features.to(self.dtype)))
        for block in self.blocks:
            nodes = self.dropout(block(nodes, mask))
        nodes = nodes * mask.unsqueeze(-1)
        return BaseModelOutputWithPooling(last_hidden_state=nodes, pooler_output=nodes.sum(1))


class DynamicEdgeConv(nn.Module):
    """Each constituent i becomes the largest, over its k nearest j, of ELU(W (x_i, x_j - x_i) + b).

    One layer sees each pair, so its product is that of the constituents: W (x_i, x_j - x_i) = U x_i + V x_j. ELU
    rises, so it is the largest V x_j that counts: k times less to compute than pair by pair, with the same result.
    """

    def __init__(self, width: int, k: int) -> None:
        """Make the layer, with the initial weights that it would have on pairs."""
        super().__init__()
        self.k = k
        self.layer = nn.Linear(2 * width, width)

    def forward(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """Let each constituent learn from the k that are nearest to it, itself among them.

        Of constituents at equal distance either may count. They are equal constituents, but by accident, and then it
        makes no difference.

        Args:
            nodes: shape (B, N, D).
            mask: where there is a constituent, shape (B, N).

        Returns:
            Shape (B, N, D).
        """
        width = nodes.shape[-1]
        own, others = self.layer.weight[:, :width] - self.layer.weight[:, width:], self.layer.weight[:, width:]
        mine, theirs = functional.linear(nodes, own), functional.linear(nodes, others)
        near, counts = nearest(nodes.detach(), mask, self.k)
        result: Tensor = functional.elu(mine + largest_among(theirs, near, counts) + self.layer.bias)
        return result
