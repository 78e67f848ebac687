"""Constituents as codes, and back. It needs the `models` extra.

>>> from hepfm.tokenizers import ParticleTokenizer
>>> tokenizer = ParticleTokenizer.from_pretrained("hepfm/vqvae-512")  # doctest: +SKIP
>>> ids = tokenizer.encode(constituents, mask)  # doctest: +SKIP
"""

from hepfm.errors import HepfmError

try:
    import torch as torch
    import transformers as transformers
except ImportError as error:
    message = 'tokenizers need PyTorch and transformers, which are not installed: pip install "hepfm[models]"'
    raise HepfmError(message) from error

from hepfm.tokenizers.configuration import TokenizerConfig, TokenizerSettings
from hepfm.tokenizers.particle_tokenizer import ParticleTokenizer

__all__ = ["ParticleTokenizer", "TokenizerConfig", "TokenizerSettings"]
