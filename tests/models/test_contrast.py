import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from network_samples import make, random_jets

from hepfm.errors import InputError
from hepfm.models.mpm import MaskedJetModel, MaskedModelling
from hepfm.models.rs3l import Contrast, ContrastiveJetModel, JointJetModel, make_projection
from hepfm.networks.contrast import nt_xent


def embeddings(n_pairs=6, width=5, seed=0):
    values = torch.randn(2 * n_pairs, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


def plain_nt_xent(views, temperature):
    """SimCLR's equation 1, pair by pair."""
    n_pairs, total = len(views) // 2, 0.0
    for i in range(2 * n_pairs):
        j = (i + n_pairs) % (2 * n_pairs)
        others = [math.exp(float(views[i] @ views[k]) / temperature) for k in range(2 * n_pairs) if k != i]
        total -= math.log(math.exp(float(views[i] @ views[j]) / temperature) / sum(others))
    return total / (2 * n_pairs)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_is_the_equation(temperature):
    views = embeddings()
    assert float(nt_xent(views, temperature)) == pytest.approx(plain_nt_xent(views, temperature), rel=1e-9)


def test_nt_xent_has_the_right_gradient():
    views = embeddings(4).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: nt_xent(torch.nn.functional.normalize(v, dim=-1), 0.1), (views,))


def test_equal_views_of_different_events_far_apart_cost_nothing():
    views = torch.eye(5, dtype=torch.float64).repeat(2, 1)
    assert float(nt_xent(views, 0.05)) == pytest.approx(0, abs=1e-6)


def test_the_order_of_views_and_of_events_does_not_matter():
    views = embeddings()
    first, second = views.chunk(2)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    expected = nt_xent(views, 0.1)

    torch.testing.assert_close(nt_xent(torch.cat([second, first]), 0.1), expected)
    torch.testing.assert_close(nt_xent(torch.cat([first[order], second[order]]), 0.1), expected)


PROCESS = """
import sys
import torch
from torch import distributed
from hepfm.networks.contrast import nt_xent_over_processes

torch.set_num_threads(1)
rank, n_processes = int(sys.argv[1]), 2
distributed.init_process_group(
    "gloo", init_method=f"file://{sys.argv[2]}/meet", rank=rank, world_size=n_processes
)
weights = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(4, 5).requires_grad_()
inputs = torch.load(f"{sys.argv[2]}/inputs.pt", weights_only=True)
first, second = inputs.chunk(2)
mine = torch.cat([first[rank::n_processes], second[rank::n_processes]])
loss = nt_xent_over_processes(torch.nn.functional.normalize(mine @ weights, dim=-1), 0.1)
loss.backward()
distributed.all_reduce(weights.grad)
torch.save((loss.detach(), weights.grad / n_processes), f"{sys.argv[2]}/out-{rank}.pt")
distributed.destroy_process_group()
"""


def test_two_processes_have_the_loss_and_the_gradient_of_one_with_all_pairs(tmp_path):
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.save(inputs, tmp_path / "inputs.pt")
    processes = [subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0]
    weights = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(4, 5).requires_grad_()
    expected = nt_xent(torch.nn.functional.normalize(inputs @ weights, dim=-1), 0.1)
    expected.backward()

    for rank in range(2):
        loss, gradient = torch.load(tmp_path / f"out-{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(gradient, weights.grad)


@pytest.mark.parametrize("projection", ["rs3l", "simclr"])
def test_views_of_an_event_come_together(backbone, projection):
    """Views: the same jets, every momentum smeared by a tenth."""
    torch.manual_seed(0)
    constituents, mask = random_jets(backbone.config, np.full(16, 12))
    views = constituents.repeat(2, 1, 1)
    views[16:, :, :2] *= 1 + 0.1 * torch.randn(16, 12, 1)
    model = ContrastiveJetModel(backbone.train(), Contrast(projection=projection))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        output = model(views, mask.repeat(2, 1))
        output.loss.backward()
        optimiser.step()
        losses.append(float(output.loss.detach()))

    assert losses[-1] < 0.5 * losses[0]
    torch.testing.assert_close(output.embeddings.norm(dim=1), torch.ones(32))
    assert all(p.grad is not None for name, p in model.named_parameters() if p.numel() and "unknown" not in name)


def test_projection_of_rs3l_has_the_papers_layers():
    layers = [tuple(layer.weight.shape) for layer in make_projection(Contrast(), 128) if hasattr(layer, "weight")]
    assert layers == [(64, 128), (32, 64), (32, 32), (8, 32)]


def test_joint_loss_is_the_sum_of_both():
    torch.manual_seed(0)
    backbone = make("transformer")
    masked = MaskedJetModel(backbone, MaskedModelling(targets=("inputs",)))
    joint = JointJetModel(masked, Contrast(weight=0.25)).eval()
    constituents, mask = random_jets(backbone.config, [12] * 8)
    batch = {
        "constituents": constituents[:, :8],
        "mask": mask[:, :8],
        "ranks": torch.arange(8).repeat(8, 1),
        "hidden_mask": mask[:, 8:],
        "hidden_ranks": torch.arange(8, 12).repeat(8, 1),
        "hidden_constituents": constituents[:, 8:],
    }
    with torch.no_grad():
        output = joint(**batch)
        pooled = backbone(batch["constituents"], batch["mask"]).pooler_output
        apart = nt_xent(torch.nn.functional.normalize(joint.projection(pooled), dim=-1), 0.1)

        torch.testing.assert_close(output.loss, masked(**batch).loss + 0.25 * apart)
    assert joint.backbone is backbone


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"weight": -1.0}])
def test_impossible_settings_are_one_clear_line(settings):
    with pytest.raises(InputError, match="rs3l needs a positive temperature and no negative weight"):
        Contrast(**settings)
