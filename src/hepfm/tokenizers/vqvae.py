"""The network between constituents and codes: an encoder, a quantiser, and a decoder that sees all codes of a jet."""

import torch
from torch import Tensor, nn

from hepfm.networks.attention import SetTransformer, Shape
from hepfm.tokenizers.configuration import TokenizerSettings
from hepfm.tokenizers.quantisers import make_quantiser
from hepfm.tokenizers.sums import JetSums
from hepfm.tokenizers.targets import Targets

_SUMS = 5
# How much a correction of a jet's pt, mass and axis may be: factors up to e, angles up to 0.1.
_MOST_CORRECTION = (1.0, 1.0, 0.1, 0.1)
# A grid behind a tanh is filled about evenly by inputs of this width.
_GRID_SCALE = 0.8


class VqVae(nn.Module):
    """Encoder and decoder add to a linear map: before training, codes are those of the inputs themselves."""

    def __init__(self, settings: TokenizerSettings, targets: Targets) -> None:
        """Make the layers."""
        super().__init__()
        n_inputs = targets.n_outputs
        self.settings = settings
        self.quantiser = make_quantiser(settings)
        latent = self.quantiser.dimensions
        self.read = nn.Linear(n_inputs + _SUMS * (settings.context == "jet"), settings.width)
        self.encoder = _body(settings, settings.encoder_depth)
        self.to_latent = nn.Linear(settings.width, latent)
        self.straight_in = nn.Linear(n_inputs, latent, bias=False)
        self.from_latent = nn.Linear(latent, settings.width)
        self.decoder = _body(settings, settings.decoder_depth)
        self.write = nn.Linear(settings.width, n_inputs)
        self.straight_out = nn.Linear(latent, n_inputs, bias=False)
        # In a tuple it is no part of this network, whose weights would hold its own twice.
        self._targets = (targets,)
        if settings.context == "jet":
            hidden = nn.Linear(settings.width + _SUMS, settings.width)
            self.correction = nn.Sequential(hidden, nn.GELU(), nn.Linear(settings.width, len(_MOST_CORRECTION)))
            for parameter in self.correction[2].parameters():
                nn.init.zeros_(parameter)
        self._start_straight(n_inputs, latent)

    def encode(self, inputs: Tensor, kinematics: Tensor, mask: Tensor) -> Tensor:
        """What is to be quantised.

        Args:
            inputs: as `Targets.as_network_input` gives them, shape (B, N, F'').
            kinematics: pt in GeV, deta, dphi; shape (B, N, 3).
            mask: where there is a constituent, shape (B, N).

        Returns:
            Shape (B, N, d).
        """
        seen = inputs
        if self.settings.context == "jet":
            of_jet = JetSums.of(kinematics, mask).as_features()
            seen = torch.cat([inputs, of_jet.unsqueeze(1).expand(-1, inputs.shape[1], -1)], -1)
        vectors: Tensor = self.to_latent(self.encoder(self.read(seen), mask)) + self.straight_in(inputs)
        return vectors

    def decode(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Vectors of codes (B, N, d) to what `Targets` takes apart, (B, N, n_outputs)."""
        features = self.decoder(self.from_latent(vectors), mask)
        outputs: Tensor = self.write(features) + self.straight_out(vectors)
        if self.settings.context != "jet":
            return outputs
        mean = features.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        with torch.autocast(vectors.device.type, enabled=False):
            return self._correct(outputs.float(), mean.float(), mask)

    def _correct(self, outputs: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        """Scale momenta and angles of each jet, and shift its axis, so that the jet as a whole comes out right."""
        kinematics = self._targets[0].kinematics(outputs)
        sums = JetSums.of(kinematics, mask)
        change = self.correction(torch.cat([mean, sums.as_features()], 1)).tanh() * outputs.new_tensor(_MOST_CORRECTION)
        scale = torch.cat([change[:, :1], change[:, 1:2], change[:, 1:2]], 1).exp().unsqueeze(1)
        shift = nn.functional.pad(change[:, 2:], (1, 0)).unsqueeze(1)
        corrected = self._targets[0].from_kinematics(kinematics * scale + shift)
        return torch.cat([corrected, outputs[..., 3:]], -1)

    @torch.no_grad()
    def _start_straight(self, n_inputs: int, latent: int) -> None:
        for layer in (self.to_latent, self.write):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.straight_in.weight)
        nn.init.zeros_(self.straight_out.weight)
        grid = self.settings.quantiser == "fsq"
        scales = self.settings.scales or (() if grid else self.settings.weights)
        for place in range(min(n_inputs, latent)):
            scale = scales[place] if place < len(scales) else _GRID_SCALE if grid else 1.0
            self.straight_in.weight[place, place] = scale
            self.straight_out.weight[place, place] = 1 / scale


class _Pointwise(nn.Module):
    """Two layers for each constituent by itself, as often as a transformer has blocks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden = shape.growth * shape.width
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(shape.width), nn.Linear(shape.width, hidden), nn.GELU(), nn.Linear(hidden, shape.width)
            )
            for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            features = features + block(features)
        normed: Tensor = self.norm(features)
        return normed * mask.unsqueeze(-1)


def _body(settings: TokenizerSettings, depth: int) -> nn.Module:
    shape = Shape(settings.width, depth, settings.heads, settings.growth)
    return SetTransformer(shape) if settings.context == "jet" else _Pointwise(shape)
