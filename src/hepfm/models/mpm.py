"""Masked particle modelling: find out what the constituents are that were taken out of a jet.

Source: arXiv:2401.13537, and arXiv:2409.12589 for encoders that see only what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from hepfm.errors import InputError
from hepfm.models.backbone import JetBackbone
from hepfm.models.configuration import JetBackboneConfig
from hepfm.networks.attention import SetTransformer, Shape
from hepfm.networks.strict import StrictModel

# Charged hadron, neutral hadron, photon, electron, muon.
_N_TYPES = 5

Target = Literal["codes", "type", "inputs", "displacement", "jet"]

SIGNIFICANCES = (1.0, 2.0, 3.0, 5.0, 10.0)
"""Edges between the classes of the target "displacement", in standard deviations."""

JET_TARGETS = (
    *("sdmass", "tau1", "tau21", "tau32", "tau43", "nparticles"),
    *("charged_share", "photon_share", "electron_pt", "muon_pt"),
    *("displaced_share", "n_displaced", "n_far_displaced", "d0_first", "d0_second", "d0_third"),
)
"""What the target "jet" is made of; `hepfm.training.jet_targets` says how."""

# Of losses in their sum, where it is not 1.
_WEIGHTS: Mapping[str, float] = MappingProxyType({"jet": 3.0})

NOT_ASKED = -100
"""Class of a constituent that a target says nothing about."""


@dataclass(frozen=True)
class MaskedModelling:
    """What is hidden, and what the network has to find.

    Attributes:
        share: of a jet's constituents that is hidden.
        mask_in: where the vectors stand in that mark hidden constituents. "encoder" is the first paper's form; "head"
            the second's: the encoder gets what is visible only, which is faster.
        targets: what is to be found of each hidden constituent: "codes", its token id; "type", which particle it is;
            "inputs", the inputs themselves; "displacement", between which `SIGNIFICANCES` the track's distance from
            the collision lies. And of the whole jet, from the mean of what is visible: "jet", its `JET_TARGETS`.
        tokenizer: folder or name of the ParticleTokenizer that makes the codes.
        head_depth: blocks of the transformer that predicts.
        n_ranks: places by transverse momentum that the head tells apart; all beyond share one.
    """

    share: float = 0.3
    mask_in: Literal["encoder", "head"] = "head"
    targets: tuple[Target, ...] = ("codes",)
    tokenizer: str = ""
    head_depth: int = 1
    n_ranks: int = 128

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: one of them is impossible.
        """
        if not 0 < self.share < 1:
            msg = f"mpm.share, of the constituents that is hidden, must lie between 0 and 1, got {self.share}"
            raise InputError(msg)
        if not set(self.targets) - {"jet"}:
            of_constituents = ", ".join(target for target in get_args(Target) if target != "jet")
            msg = f"mpm.targets says nothing of hidden constituents: name what is to be found, {of_constituents}"
            raise InputError(msg)


@dataclass
class MaskedOutput(ModelOutput):
    """What came out for a batch of B jets with n hidden constituents in all.

    Attributes:
        loss: sum of `losses`, where that of the whole jet counts three times.
        losses: of each target. Those of constituents are averaged over the hidden ones of a jet, then over jets; that
            of the whole jet over its numbers that are known.
        pooler_output: of the backbone, on what is visible; shape (B, D).
        code_logits: shape (n, codes), or None.
        codes: the right ones, shape (n,), or None.
        embeddings: in a joint training, as of `hepfm.models.rs3l.ContrastiveOutput`.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    pooler_output: Tensor | None = None
    code_logits: Tensor | None = None
    codes: Tensor | None = None
    embeddings: Tensor | None = None


class MaskedJetModel(StrictModel):
    """A backbone, and the head that it is pre-trained with.

    Hidden constituents never enter: not as inputs, and not in sums over the jet. The encoder knows no order; only the
    head is told the ranks by transverse momentum, without which hidden constituents could not be told apart.
    """

    config_class = JetBackboneConfig

    def __init__(self, backbone: JetBackbone, how: MaskedModelling, n_codes: int = 0) -> None:
        """Put a head on a backbone.

        Args:
            backbone: to be trained.
            how: settings.
            n_codes: of the tokenizer.

        Raises:
            InputError: the backbone's inputs do not go with the targets.
        """
        super().__init__(backbone.config)
        if "type" in how.targets and "part_isPhoton" not in backbone.config.inputs:
            msg = "mpm.targets has 'type', but the inputs have no particle types (part_isPhoton ...). Leave it out."
            raise InputError(msg)
        if "codes" in how.targets and n_codes < 2:
            msg = f"mpm.targets has 'codes', which needs a tokenizer of at least 2 codes, got {n_codes}"
            raise InputError(msg)
        self.how = how
        self.backbone = backbone
        config = backbone.config
        self.mask_vector = nn.Parameter(0.02 * torch.randn(config.width))
        self.ranks = nn.Embedding(how.n_ranks, config.width)
        nn.init.normal_(self.ranks.weight, std=0.02)
        self.head = SetTransformer(Shape(config.width, how.head_depth, config.heads, config.growth, config.dropout))
        self.to_codes = nn.Linear(config.width, n_codes) if "codes" in how.targets else None
        self.to_types = nn.Linear(config.width, _N_TYPES) if "type" in how.targets else None
        self.to_inputs = nn.Linear(config.width, len(config.inputs)) if "inputs" in how.targets else None
        classes = len(SIGNIFICANCES) + 1
        self.to_displacement = nn.Linear(config.width, classes) if "displacement" in how.targets else None
        layers = nn.Linear(config.width, config.width), nn.GELU(), nn.Linear(config.width, len(JET_TARGETS))
        self.to_jet = nn.Sequential(*layers) if "jet" in how.targets else None
        self.post_init()

    def forward(
        self,
        constituents: Tensor,
        mask: Tensor,
        ranks: Tensor,
        hidden_mask: Tensor,
        hidden_ranks: Tensor,
        hidden_codes: Tensor | None = None,
        hidden_types: Tensor | None = None,
        hidden_constituents: Tensor | None = None,
        hidden_displacements: Tensor | None = None,
        jet: Tensor | None = None,
    ) -> MaskedOutput:
        """Predict what is hidden. Arguments are a batch of `hepfm.training.masking.MaskedBatches`."""
        n_visible = mask.shape[1]
        everything = torch.cat([mask, hidden_mask], 1)
        embedded = self.backbone.embed(constituents, mask)
        holes = self.mask_vector.expand(*hidden_mask.shape, -1).to(embedded.dtype)
        if self.how.mask_in == "encoder":
            visible = torch.cat([mask, torch.zeros_like(hidden_mask)], 1)
            encoded = self.backbone.encode(torch.cat([embedded, holes], 1), everything, visible)
            known = encoded[0]
        else:
            encoded = self.backbone.encode(embedded, mask)
            known = torch.cat([encoded[0], holes.to(encoded[0].dtype)], 1)
        places = torch.cat([ranks, hidden_ranks], 1).clamp(max=self.how.n_ranks - 1)
        found = self.head(known + self.ranks(places), everything)[:, n_visible:][hidden_mask]
        # Every jet counts the same, however many of its constituents are hidden.
        counts = hidden_mask.sum(1, keepdim=True)
        weights = (hidden_mask / counts.clamp(min=1))[hidden_mask] / (counts > 0).sum().clamp(min=1)
        losses: dict[str, Tensor] = {}
        code_logits, codes = None, None
        if self.to_codes is not None and hidden_codes is not None:
            code_logits, codes = self.to_codes(found).float(), hidden_codes[hidden_mask]
            losses["codes"] = _entropy(code_logits, codes, weights)
        if self.to_types is not None and hidden_types is not None:
            losses["type"] = _entropy(self.to_types(found).float(), hidden_types[hidden_mask], weights)
        if self.to_displacement is not None and hidden_displacements is not None:
            classes = hidden_displacements[hidden_mask]
            losses["displacement"] = _entropy(self.to_displacement(found).float(), classes, weights)
        if self.to_inputs is not None and hidden_constituents is not None:
            wanted = self.backbone.features.standardise(hidden_constituents[hidden_mask].float())
            losses["inputs"] = (_misses(self.to_inputs(found).float(), wanted) * weights).sum()
        if self.to_jet is not None and jet is not None:
            losses["jet"] = _misses(self.to_jet(encoded.pooler_output).float(), jet).mean()
        return MaskedOutput(
            loss=torch.stack([_WEIGHTS.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
            if losses
            else None,
            losses=losses,
            pooler_output=encoded.pooler_output,
            code_logits=code_logits,
            codes=codes,
        )


def _entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of n constituents, each with its weight; those that are `NOT_ASKED` add nothing."""
    return (functional.cross_entropy(logits, classes, reduction="none", ignore_index=NOT_ASKED) * weights).sum()


def _misses(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean loss of the numbers of each row that are known, those wanted that are not NaN; (n, F) to (n,)."""
    known = ~wanted.isnan()
    misses = functional.smooth_l1_loss(found, wanted.nan_to_num(), reduction="none").where(known, 0.0)
    return misses.sum(1) / known.sum(1).clamp(min=1)
