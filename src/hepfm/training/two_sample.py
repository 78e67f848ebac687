"""Can a network tell decoded jets from true ones? A test that sees what no list of observables does."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hepfm.training.metrics import auc, auc_error
from hepfm.training.reconstruction import Reconstruction

_WIDTH, _BATCH, _LEARNING_RATE = 64, 128, 3e-3
_MOST_CONSTITUENTS = 128


@dataclass(frozen=True)
class TwoSample:
    """Area under the ROC curve of true against decoded jets that trained nothing, and its error; 0.5 is best."""

    auc: float
    error: float
    n_train: int
    n_test: int


class _SetClassifier(nn.Module):
    """Sums what it learns of each constituent (arXiv:1703.06114): so their order does not matter."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.of_constituent = nn.Sequential(
            nn.Linear(n_inputs, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH)
        )
        self.of_jet = nn.Sequential(nn.Linear(2 * _WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, 1))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        features = self.of_constituent(inputs) * mask.unsqueeze(-1)
        pooled = torch.cat([features.sum(1) / 32, features.amax(1)], 1)
        scores: Tensor = self.of_jet(pooled).squeeze(1)
        return scores


def two_sample_test(made: Reconstruction, *, n_epochs: int = 10, seed: int = 1) -> TwoSample:
    """Train a classifier on half of the jets and test it on the other half; no jet appears both true and decoded.

    Args:
        made: jets before and after; those of at least one constituent are used.
        n_epochs: times that each jet of the first half is seen.
        seed: of the halves and of the network's weights.
    """
    rng = np.random.default_rng(seed)
    jets = rng.permutation(np.flatnonzero(made.counts > 0))
    is_true = rng.permutation(np.arange(len(jets)) % 2 == 0)
    n_train = len(jets) // 2
    true, decoded = _features(made)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _SetClassifier(true.shape[1])
        optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
        n_steps = max(1, n_epochs * -(-n_train // _BATCH))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, n_steps)
        for _ in range(n_epochs):
            for rows in np.array_split(rng.permutation(n_train), max(1, -(-n_train // _BATCH))):
                scores = network(*_batch(made, true, decoded, jets[rows], is_true[rows]))
                wanted = torch.from_numpy(is_true[rows].astype(np.float32))
                loss = functional.binary_cross_entropy_with_logits(scores, wanted)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            rest = np.arange(n_train, len(jets))
            found = [
                network(*_batch(made, true, decoded, jets[rows], is_true[rows])).numpy()
                for rows in np.array_split(rest, max(1, -(-len(rest) // _BATCH)))
            ]
    truth = is_true[n_train:]
    area = auc(np.concatenate(found), truth)
    return TwoSample(area, auc_error(area, int(truth.sum()), int((~truth).sum())), n_train, len(truth))


def _features(made: Reconstruction) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both kinds of constituents, standardised by the true ones; the logarithm of pt."""
    both = []
    for values in (made.true, made.decoded):
        copy = np.array(values, np.float32)
        copy[:, 0] = np.log(np.maximum(copy[:, 0], 1e-3))
        for place, name in enumerate(made.inputs):
            if name.startswith(("part_d0", "part_dz")):
                copy[:, place] = np.arcsinh(copy[:, place] / 0.02)
        both.append(copy)
    mean, width = both[0].mean(0), np.maximum(both[0].std(0), 1e-6)
    return (both[0] - mean) / width, (both[1] - mean) / width


def _batch(
    made: Reconstruction,
    true: NDArray[np.float32],
    decoded: NDArray[np.float32],
    jets: NDArray[np.int64],
    is_true: NDArray[np.bool_],
) -> tuple[Tensor, Tensor]:
    counts = np.minimum(made.counts[jets], _MOST_CONSTITUENTS)
    there = np.arange(counts.max(initial=1)) < counts[:, np.newaxis]
    places = (made.offsets[jets][:, np.newaxis] + np.arange(there.shape[1]))[there]
    from_true = np.broadcast_to(is_true[:, np.newaxis], there.shape)[there]
    inputs = np.zeros((*there.shape, true.shape[1]), np.float32)
    inputs[there] = np.where(from_true[:, np.newaxis], true[places], decoded[places])
    return torch.from_numpy(inputs), torch.from_numpy(there)
