"""Tokenizers of every kind that have started but not trained, small enough for tests."""

from hepfm.schema import TYPE_FLAGS
from hepfm.tokenizers import ParticleTokenizer, TokenizerConfig, TokenizerSettings
from hepfm.tokenizers.configuration import KINEMATICS

EVERYTHING = (
    *KINEMATICS,
    "part_d0val",
    "part_d0err",
    "part_dzval",
    "part_dzerr",
    "part_charge",
    *TYPE_FLAGS,
)
SMALL = {"width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2}
KINDS_OF_TOKENIZERS = {
    "ema": {"n_codes": 32, "latent": 4},
    "rotation trick": {"n_codes": 32, "latent": 4, "rotation": True},
    "cosine": {"n_codes": 32, "latent": 4, "quantiser": "cosine"},
    "fsq": {"n_codes": 60, "levels": (5, 4, 3), "quantiser": "fsq"},
    "residual": {"n_codes": 64, "stages": 2, "latent": 4, "quantiser": "residual"},
    "particle": {"n_codes": 32, "latent": 4, "context": "particle"},
    "kmeans": {"n_codes": 32, "context": "none", "quantiser": "kmeans"},
    "everything": {"n_codes": 64, "latent": 16, "inputs": EVERYTHING},
    "kmeans of everything": {"n_codes": 64, "inputs": EVERYTHING, "context": "none", "quantiser": "kmeans"},
}


def started(name, table):
    """A tokenizer of the named kind whose codes lie on the table's jets, and whose network adds something."""
    import torch

    tokenizer = ParticleTokenizer(TokenizerConfig(TokenizerSettings(**(SMALL | KINDS_OF_TOKENIZERS[name]))))
    torch.manual_seed(3)
    if name[:6] != "kmeans":
        for layer in (tokenizer.network.to_latent, tokenizer.network.write):
            torch.nn.init.normal_(layer.weight, std=0.05)
        if tokenizer.settings.context == "jet":
            torch.nn.init.normal_(tokenizer.network.correction[2].weight, std=0.05)
    tokenizer.start(table, 1)
    return tokenizer.eval()
