"""The transformer backbone: constituents of jets in, a vector a constituent and one a jet out."""

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from hepfm.models.configuration import JetBackboneConfig
from hepfm.models.features import JetFeatures
from hepfm.networks.attention import SetTransformer
from hepfm.networks.strict import StrictModel


class JetBackbone(StrictModel):
    """A transformer without order: permute the constituents, and its output is permuted alike."""

    config_class = JetBackboneConfig
    config: JetBackboneConfig

    def __init__(self, config: JetBackboneConfig) -> None:
        """Make the layers, with PyTorch's own initial weights."""
        super().__init__(config)
        self.features = JetFeatures(config.inputs, config.derived)
        self.embedding = nn.Sequential(
            # Each feature comes with whether it is unknown.
            nn.Linear(2 * self.features.n_features, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
        )
        registers = 0.02 * torch.randn(config.n_registers, config.width)
        self.registers = nn.Parameter(registers) if config.n_registers else None
        self.encoder = SetTransformer(config.shape)
        self.post_init()

    def fit_normalisation(self, constituents: Tensor, mask: Tensor) -> None:
        """Learn mean and width of every feature; some ten thousand jets are plenty.

        Args:
            constituents: physical inputs, shape (B, N, F); NaN where unknown.
            mask: where there is a constituent, shape (B, N).

        Raises:
            InputError: there are fewer than two constituents.
        """
        self.features.fit(constituents, mask)

    def embed(self, constituents: Tensor, mask: Tensor) -> Tensor:
        """A vector for each constituent by itself, shape (B, N, D); arguments as of `forward`."""
        features, unknown = self.features(constituents, mask)
        known = torch.cat([features, unknown.to(features.dtype)], -1)
        embedded: Tensor = self.embedding(known.to(self.dtype))  # a network may be loaded in bf16
        return embedded

    def encode(self, embedded: Tensor, mask: Tensor, pooled: Tensor | None = None) -> BaseModelOutputWithPooling:
        """Let the constituents see each other.

        Args:
            embedded: shape (B, N, D).
            mask: where there is one, bool of shape (B, N).
            pooled: those that the vector of the jet is made of, by default all; bool of shape (B, N).
        """
        n_registers = self.config.n_registers
        if self.registers is not None:
            registers = self.registers.to(embedded.dtype).expand(len(embedded), -1, -1)
            present = mask.new_ones(len(mask), n_registers)
            encoded = self.encoder(torch.cat([registers, embedded], 1), torch.cat([present, mask], 1))
            registers, encoded = encoded[:, :n_registers], encoded[:, n_registers:]
        else:
            encoded = self.encoder(embedded, mask)
        if self.registers is not None and self.config.pooling == "registers":
            of_jet = registers.mean(1)
        else:
            of_jet = encoded.sum(1) if pooled is None else (encoded * pooled.unsqueeze(-1)).sum(1)
            if self.config.pooling != "sum":
                of_jet = of_jet / (mask if pooled is None else pooled).sum(1, keepdim=True).clamp(min=1)
        return BaseModelOutputWithPooling(last_hidden_state=encoded, pooler_output=of_jet)

    def forward(self, constituents: Tensor, mask: Tensor) -> BaseModelOutputWithPooling:
        """Encode jets.

        Args:
            constituents: physical inputs in the schema's units, `config.inputs` in their order; shape (B, N, F). NaN
                stands for what is unknown; momenta must be there. Padding may hold anything.
            mask: where there is a constituent, bool of shape (B, N).

        Returns:
            `last_hidden_state` (B, N, D), zero where there is no constituent, and `pooler_output` (B, D).

        Raises:
            InputError: other than F inputs, or unknown momenta.
        """
        return self.encode(self.embed(constituents, mask), mask)
