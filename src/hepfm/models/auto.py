"""transformers' AutoModel, for names that may also be copies in the package.

A name is looked for as a folder, then in the package, then on the Hub. Nothing is loaded but config.json and
model.safetensors, and neither is ever code.
"""

import os
from typing import Any, ClassVar

import transformers
from transformers import AutoConfig, PreTrainedModel

from hepfm.errors import InputError
from hepfm.models.backbone import JetBackbone
from hepfm.models.classifier import EdgeConvForSequenceClassification, JetForSequenceClassification
from hepfm.models.configuration import EdgeConvConfig, JetBackboneConfig
from hepfm.models.edgeconv import EdgeConvBackbone
from hepfm.networks.locate import locate
from hepfm.networks.strict import check_folder

MODEL_TYPES = (JetBackboneConfig.model_type, EdgeConvConfig.model_type)
"""Kinds of networks as config.json names them."""


def _register() -> None:
    """Let transformers' own classes know ours."""
    for config in (JetBackboneConfig, EdgeConvConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    for config, backbone, classifier in (
        (JetBackboneConfig, JetBackbone, JetForSequenceClassification),
        (EdgeConvConfig, EdgeConvBackbone, EdgeConvForSequenceClassification),
    ):
        transformers.AutoModel.register(config, backbone, exist_ok=True)
        transformers.AutoModelForSequenceClassification.register(config, classifier, exist_ok=True)


class _Auto:
    _classes: ClassVar[dict[str, type[PreTrainedModel]]]

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **settings: Any) -> Any:  # noqa: ANN401
        """Load a network.

        Args:
            name: a folder; the name of a copy in the package, such as "hepfm/mpm-tiny"; or OWNER/NAME of the Hub.
            settings: as of `transformers.AutoModel.from_pretrained`; `revision` is a branch, tag or commit of the Hub.

        Raises:
            InputError: there is no such network; a file is missing, damaged or of another kind; a weight is missing,
                unexpected or of another shape; or a setting asks to trust code.
            StorageError: the Hub cannot be reached.
        """
        if settings.get("trust_remote_code"):
            msg = f"{name}: trust_remote_code is refused: no network of hepfm needs code of its own. Leave it out."
            raise InputError(msg)
        folder = locate(name, settings)
        config = check_folder(folder, MODEL_TYPES)
        return cls._classes[config["model_type"]].from_pretrained(folder, **settings)

    @classmethod
    def from_config(cls, config: JetBackboneConfig | EdgeConvConfig) -> Any:  # noqa: ANN401
        """A network with new weights."""
        return cls._classes[config.model_type](config)


class AutoModel(_Auto):
    """Loads backbones."""

    _classes: ClassVar[dict[str, type[PreTrainedModel]]] = {
        JetBackboneConfig.model_type: JetBackbone,
        EdgeConvConfig.model_type: EdgeConvBackbone,
    }


class AutoModelForSequenceClassification(_Auto):
    """Loads classifiers of jets, and networks that estimate a number."""

    _classes: ClassVar[dict[str, type[PreTrainedModel]]] = {
        JetBackboneConfig.model_type: JetForSequenceClassification,
        EdgeConvConfig.model_type: EdgeConvForSequenceClassification,
    }


_register()
