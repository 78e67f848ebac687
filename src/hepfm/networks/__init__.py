"""Parts of networks that tokenizers and backbones share. They need the `models` extra."""

from hepfm.errors import HepfmError

try:
    import torch as torch
except ImportError as error:
    message = 'networks need PyTorch, which is not installed: pip install "hepfm[models]"'
    raise HepfmError(message) from error
