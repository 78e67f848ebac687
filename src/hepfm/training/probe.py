"""A linear probe: how much of the classes can be read off a frozen backbone. No training ever sees it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepfm.models.classifier import Backbone
from hepfm.training.batches import PaddedJets

_BATCH = 512
# Of the features' variance: keeps the solution from the noise of few jets.
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Probe:
    """Jets with classes: some to fit a linear map to, others to measure it on."""

    train: PaddedJets
    train_labels: NDArray[np.int64]
    test: PaddedJets
    test_labels: NDArray[np.int64]

    def accuracy(self, backbone: Backbone) -> float:
        """Share of the jets whose class a ridge regression of the backbone's pooled output finds."""
        train, test = pooled(backbone, self.train), pooled(backbone, self.test)
        mean, width = train.mean(0), train.std(0).clamp(min=1e-6)
        train, test = (train - mean) / width, (test - mean) / width
        classes, wanted = np.unique(self.train_labels, return_inverse=True)
        hot = torch.nn.functional.one_hot(torch.from_numpy(wanted), len(classes)).double()
        squares = train.T @ train + _RIDGE * len(train) * torch.eye(train.shape[1], dtype=torch.float64)
        scores = test @ torch.linalg.solve(squares, train.T @ (hot - hot.mean(0))) + hot.mean(0)
        return float(np.mean(classes[scores.argmax(1).numpy()] == self.test_labels))


@torch.no_grad()
def pooled(backbone: Backbone, jets: PaddedJets) -> Tensor:
    """The backbone's pooled output of all jets, float64 of shape (N, D) on the CPU."""
    order = np.argsort(jets.lengths, kind="stable")
    device = next(backbone.parameters()).device
    features = torch.empty(len(jets), backbone.config.hidden_size, dtype=torch.float64)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = jets.__getitems__(rows)
        output = backbone(batch["constituents"].to(device), batch["mask"].to(device))
        features[rows] = output.pooler_output.double().cpu()
    return features
