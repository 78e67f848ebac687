"""Dropout with random bits."""

import pytest
import torch

from hepfm.networks.dropout import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.01, 0.1, 0.5])
def test_dropout_leaves_out_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    dropped = Dropout(p)(torch.ones(401, 999, dtype=dtype))
    n = dropped.numel()
    share = float((dropped == 0).float().mean())
    assert abs(share - p) < 5 * (p * (1 - p) / n) ** 0.5
    kept = dropped[dropped != 0].unique()
    assert kept.tolist() == [pytest.approx(1 / (1 - p), rel=1e-3 if dtype == torch.float32 else 1 / 256)]


def test_neighbours_are_left_out_independently() -> None:
    torch.manual_seed(2)
    left_out = (Dropout(0.5)(torch.ones(1_000_001)) == 0).float() - 0.5
    for distance in (1, 2, 3, 4, 8):
        correlation = float((left_out[:-distance] * left_out[distance:]).mean() * 4)
        assert abs(correlation) < 0.005


def test_gradients_pass_where_values_do() -> None:
    values = torch.randn(7, 5, 3).transpose(0, 2).requires_grad_()
    dropped = Dropout(0.3)(values)
    dropped.sum().backward()
    assert values.grad is not None
    assert values.grad.shape == values.shape
    torch.testing.assert_close(dropped, values * values.grad)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_nothing_and_everything(p: float) -> None:
    values = torch.randn(100)
    assert torch.equal(Dropout(p)(values), values if p < 1 else torch.zeros(100))
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_evaluation_leaves_out_nothing_and_seeds_repeat() -> None:
    values = torch.randn(50, 3)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    both = []
    for _ in range(2):
        torch.manual_seed(3)
        both.append(Dropout(0.5)(values))
    assert torch.equal(*both)
