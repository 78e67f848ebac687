"""The graph of nearest constituents, and the largest value among a constituent's neighbours."""

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@torch.no_grad()
def nearest(nodes: Tensor, mask: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the nearest constituents of each one, itself among them.

    Args:
        nodes: shape (B, N, D).
        mask: where there is a constituent, shape (B, N).
        k: how many; all that there are in smaller jets.

    Returns:
        Indices of shape (B, N, min(k, N)), and which of them count, of the same shape.
    """
    # In full precision, whatever the network's; less what is the same for all neighbours of a constituent.
    with torch.autocast(nodes.device.type, enabled=False):
        nodes = nodes if nodes.dtype == torch.float64 else nodes.float()
        lengths = (nodes * nodes).sum(-1)
        distances = torch.baddbmm(lengths.unsqueeze(1), nodes, nodes.transpose(1, 2), alpha=-2)
    distances = distances.masked_fill(~mask.unsqueeze(1), torch.inf)
    near, index = distances.topk(min(k, nodes.shape[1]), dim=-1, largest=False, sorted=False)
    return index, near.isfinite()


def largest_among(values: Tensor, near: Tensor, counts: Tensor) -> Tensor:
    """The largest value of each feature among the neighbours of each constituent.

    Args:
        values: shape (B, N, D).
        near: indices of neighbours, shape (B, N, k).
        counts: which of them count, shape (B, N, k).

    Returns:
        Shape (B, N, D); 0 for a constituent none of whose neighbours counts.
    """
    with torch.no_grad():
        if values.device.type == "cpu":
            plain = values.detach() if values.dtype == torch.float64 else values.detach().float()
            source = torch.from_numpy(
                _whose_on_cpu(plain.contiguous().numpy(), near.contiguous().numpy(), counts.contiguous().numpy())
            ).long()
        else:
            source = _whose(values.detach(), near, counts)
    # Who it is is known now: only those N of the k N values are kept for the gradient.
    return values.gather(1, source) * counts.any(-1, keepdim=True)


def _whose(values: Tensor, near: Tensor, counts: Tensor) -> Tensor:
    """The constituent that has the largest value, shape (B, N, D)."""
    n_jets, n_nodes, width = values.shape
    rows = torch.arange(n_jets, device=values.device)[:, None, None] * n_nodes + near
    gathered = values.reshape(-1, width)[rows].masked_fill(~counts.unsqueeze(-1), -torch.inf)
    return near.gather(2, gathered.argmax(2))


@numba.njit(cache=True, nogil=True)
def _whose_on_cpu(values: NDArray[Any], near: NDArray[np.int64], counts: NDArray[np.bool_]) -> NDArray[np.int32]:
    """What `_whose` finds, without writing down the k N values: ten times faster."""
    n_jets, n_nodes, width = values.shape
    source = np.zeros((n_jets, n_nodes, width), np.int32)
    largest = np.empty(width, values.dtype)
    for jet in range(n_jets):
        for node in range(n_nodes):
            largest[:] = -np.inf
            who = source[jet, node]
            for place in range(near.shape[2]):
                if counts[jet, node, place]:
                    neighbour = np.int32(near[jet, node, place])
                    row = values[jet, neighbour]
                    for feature in range(width):
                        is_larger = row[feature] > largest[feature]
                        largest[feature] = row[feature] if is_larger else largest[feature]
                        who[feature] = neighbour if is_larger else who[feature]
    return source
