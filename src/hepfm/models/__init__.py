"""Backbones and classifiers of jets, as transformers has them. They need the `models` extra."""

from hepfm.errors import HepfmError

try:
    import torch as torch
    import transformers as transformers
except ImportError as error:
    message = 'models need PyTorch and transformers, which are not installed: pip install "hepfm[models]"'
    raise HepfmError(message) from error

from hepfm.models.auto import AutoModel, AutoModelForSequenceClassification
from hepfm.models.backbone import JetBackbone
from hepfm.models.classifier import JetForSequenceClassification
from hepfm.models.configuration import EdgeConvConfig, JetBackboneConfig
from hepfm.models.edgeconv import EdgeConvBackbone

__all__ = [
    "AutoModel",
    "AutoModelForSequenceClassification",
    "EdgeConvBackbone",
    "EdgeConvConfig",
    "JetBackbone",
    "JetBackboneConfig",
    "JetForSequenceClassification",
]
