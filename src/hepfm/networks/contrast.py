"""NT-Xent, the loss that brings the two views of a thing together and keeps those of others apart: arXiv:2002.05709."""

import torch
from torch import Tensor, distributed
from torch.nn import functional


def nt_xent(embeddings: Tensor, temperature: float) -> Tensor:
    """How hard it is to find a view's partner among all other views.

    Args:
        embeddings: of length 1, shape (2 B, width): B first views, then in the same order their second ones.
        temperature: the lower, the more the hardest views count.

    Returns:
        Cross-entropy, averaged over the 2 B views.
    """
    n_views = len(embeddings)
    similarities = embeddings @ embeddings.T / temperature
    others = similarities.masked_fill(torch.eye(n_views, dtype=torch.bool, device=embeddings.device), -torch.inf)
    partners = torch.arange(n_views, device=embeddings.device).roll(n_views // 2)
    return functional.cross_entropy(others, partners)


def nt_xent_over_processes(embeddings: Tensor, temperature: float) -> Tensor:
    """`nt_xent` of the pairs of all processes that train together; the same value in each.

    Gradients, averaged over processes as data-parallel training does, are those of one process with all pairs.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return nt_xent(embeddings, temperature)
    n_processes, rank = distributed.get_world_size(), distributed.get_rank()
    gathered = [torch.empty_like(embeddings) for _ in range(n_processes)]
    distributed.all_gather(gathered, embeddings.detach().contiguous())
    gathered[rank] = embeddings
    first, second = zip(*(views.chunk(2) for views in gathered), strict=True)
    loss = nt_xent(torch.cat([*first, *second]), temperature)
    # Each process has the gradient of its own views only, and the average over processes divides by their number.
    return loss + (n_processes - 1) * (loss - loss.detach())
