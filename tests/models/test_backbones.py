import numpy as np
import pytest
import torch
from network_samples import KINDS, make, random_jets

from hepfm.errors import InputError
from hepfm.models import EdgeConvBackbone, EdgeConvConfig, JetBackbone, JetBackboneConfig
from hepfm.models.configuration import SIZES, sized
from hepfm.models.derived import DERIVED
from hepfm.models.edgeconv import DynamicEdgeConv
from hepfm.models.neighbours import _whose, _whose_on_cpu, nearest
from hepfm.models.rs3l import Contrast, make_projection

COUNTS = [20, 13, 7, 2, 1, 0]


def close(one, two):
    torch.testing.assert_close(one.last_hidden_state, two.last_hidden_state, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(one.pooler_output, two.pooler_output, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_permuted_constituents_give_the_same_vectors_permuted(backbone):
    constituents, mask = random_jets(backbone.config, COUNTS)
    order = torch.argsort(torch.rand(mask.shape, generator=torch.Generator().manual_seed(3)), 1)
    there = backbone(constituents, mask)
    here = backbone(_permuted(constituents, order), mask.gather(1, order))

    there.last_hidden_state = _permuted(there.last_hidden_state, order)
    close(here, there)


@torch.no_grad()
def test_padding_changes_nothing_whatever_it_holds(backbone):
    constituents, mask = random_jets(backbone.config, COUNTS)
    padded = torch.full((len(COUNTS), 33, constituents.shape[2]), torch.nan)
    padded[:, 10:20] = torch.inf
    padded[:, :20][mask] = constituents[mask]
    longer = torch.cat([mask, mask.new_zeros(len(COUNTS), 13)], 1)
    output = backbone(padded, longer)

    assert not output.last_hidden_state[~longer].any()
    output.last_hidden_state = output.last_hidden_state[:, :20]
    close(output, backbone(constituents, mask))


@torch.no_grad()
def test_a_jet_does_not_depend_on_the_others_of_its_batch(backbone):
    constituents, mask = random_jets(backbone.config, COUNTS)
    together = backbone(constituents, mask)
    for jet, count in enumerate(COUNTS):
        alone = backbone(constituents[jet : jet + 1, : max(count, 1)], mask[jet : jet + 1, : max(count, 1)])
        torch.testing.assert_close(alone.pooler_output[0], together.pooler_output[jet], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_equal_constituents_are_no_matter_of_luck():
    """Of equal constituents more than k are equally near: whichever are taken, the result is the same."""
    backbone = make("edgeconv")
    constituents, mask = random_jets(backbone.config, [24] * 4)
    constituents[:, 4:] = constituents[:, 4:5]
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))

    there, here = backbone(constituents, mask), backbone(constituents[:, order], mask)

    there.last_hidden_state = there.last_hidden_state[:, order]
    close(here, there)


def test_a_significance_is_unknown_where_its_error_is():
    value, error = torch.tensor([1.0, 0.0, 1.0, torch.nan]), torch.tensor([0.5, 0.0, torch.nan, 0.5])
    found = DERIVED["d0_significance"][1]({"part_d0val": value, "part_d0err": error}, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(
        found, torch.tensor([1.4436, 0, torch.nan, torch.nan]), equal_nan=True, atol=1e-4, rtol=0
    )


def test_an_empty_jet_is_zeros_and_harms_no_gradient(backbone):
    constituents, mask = random_jets(backbone.config, [5, 0])
    output = backbone(constituents, mask)
    output.pooler_output.square().sum().backward()

    assert not output.last_hidden_state[1].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in backbone.parameters())


def test_every_weight_learns(backbone):
    """Gradients reach all weights, with everything known and something unknown."""
    constituents, mask = random_jets(backbone.config, [12] * 8)
    constituents[4:, :, backbone.config.inputs.index("part_d0val")] = torch.nan
    output = backbone(constituents, mask)
    (output.pooler_output.square().sum() + output.last_hidden_state.square().sum()).backward()

    idle = [name for name, p in backbone.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
    assert idle == []


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    backbone = make(kind)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    direction = torch.randn(2, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    embedded = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    layers = backbone.encoder.double() if kind != "edgeconv" else backbone.blocks[0].double()
    embedded.requires_grad_()

    assert torch.autograd.gradcheck(
        lambda x: (layers(x, mask) * mask.unsqueeze(-1)).sum(1) * direction, (embedded,), atol=1e-6
    )


def test_edge_convolution_is_the_layer_on_every_pair():
    torch.manual_seed(0)
    block = DynamicEdgeConv(16, 5).double()
    nodes, mask = torch.randn(3, 12, 16, dtype=torch.float64), torch.arange(12) < torch.tensor([[12], [8], [3]])
    expected = torch.zeros_like(nodes)
    for jet in range(3):
        n = int(mask[jet].sum())
        for i in range(n):
            distance = (nodes[jet, :n] - nodes[jet, i]).square().sum(-1)
            near = distance.argsort()[:5]
            pairs = torch.cat([nodes[jet, i].expand(len(near), -1), nodes[jet, near] - nodes[jet, i]], -1)
            expected[jet, i] = torch.nn.functional.elu(block.layer(pairs)).amax(0)

    torch.testing.assert_close(block(nodes, mask) * mask.unsqueeze(-1), expected)


def test_compiled_search_for_the_largest_finds_what_plain_arrays_do():
    values = torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(30) < torch.tensor([[30], [17], [4], [1]])
    near, counts = nearest(values, mask, 6)
    compiled = torch.from_numpy(_whose_on_cpu(values.numpy(), near.numpy(), counts.numpy())).long()
    plain = _whose(values, near, counts)

    assert torch.equal(values.gather(1, compiled)[mask], values.gather(1, plain)[mask])


def test_rs3l_network_has_the_papers_129_thousand_weights():
    config = EdgeConvConfig()
    backbone, projection = EdgeConvBackbone(config), make_projection(Contrast(), config.width)
    n_weights = sum(p.numel() for module in (backbone, projection) for p in module.parameters())

    assert backbone.features.n_features == 15
    # Besides, one number for each feature that may be unknown.
    assert n_weights - 15 == 128_904


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.8), ("small", 3.2), ("base", 25.5), ("large", 101.9)])
def test_usual_sizes_have_the_weights_that_the_documentation_says(size, millions):
    with torch.device("meta"):
        backbone = JetBackbone(sized(size))
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(1e6 * millions, rel=0.02)


@torch.no_grad()
def test_unknown_inputs_are_told_from_zeros(backbone):
    constituents, mask = random_jets(backbone.config, [15] * 4)
    place = backbone.config.inputs.index("part_d0val")
    zeros, unknown = constituents.clone(), constituents.clone()
    zeros[..., place], unknown[..., place] = 0.0, torch.nan
    if not isinstance(backbone, JetBackbone):
        backbone.unknown += 0.3  # what training does to it
    there, here = backbone(zeros, mask).pooler_output, backbone(unknown, mask).pooler_output

    assert here.isfinite().all()
    assert (here - there).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["part_pt", "part_energy"])
def test_unknown_momenta_are_an_error(backbone, name):
    constituents, mask = random_jets(backbone.config, [15] * 4)
    constituents[2, 3, backbone.config.inputs.index(name)] = torch.nan
    with pytest.raises(InputError, match=f"{name} of constituents are unknown"):
        backbone(constituents, mask)


def test_another_number_of_inputs_is_an_error(backbone):
    with pytest.raises(InputError, match=r"the network takes .* inputs, part_pt, .*; got 3"):
        backbone(torch.ones(2, 4, 3), torch.ones(2, 4, dtype=torch.bool))


def test_features_have_mean_zero_and_width_one_on_the_data_they_were_fitted_to(backbone):
    constituents, mask = random_jets(backbone.config, [20] * 64, seed=7)
    features, unknown = backbone.features(constituents, mask)
    continuous = [
        i
        for i, name in enumerate([*backbone.config.inputs, *backbone.config.derived])
        if name != "part_charge" and not name.startswith("part_is")
    ]
    chosen = features[mask][:, continuous]

    assert not unknown.any()
    np.testing.assert_allclose(chosen.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(chosen.std(0, correction=0), 1, atol=1e-4)


@torch.no_grad()
def test_bf16_gives_nearly_the_same_as_full_precision(backbone):
    """On a CPU it takes another way through attention."""
    constituents, mask = random_jets(backbone.config, COUNTS)
    full = backbone(constituents, mask).pooler_output
    with torch.autocast("cpu", torch.bfloat16):
        products = backbone(constituents, mask).pooler_output
    weights = backbone.to(torch.bfloat16)(constituents, mask).pooler_output

    assert weights.dtype == torch.bfloat16
    for half in (products, weights.float()):
        assert (half - full).abs().max() < 0.05 * full.abs().max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": ["part_px"]}, "add 'part_pt' to its inputs"),
        ({"inputs": ["part_pt", "part_ptt"]}, "unknown input of a network 'part_ptt'"),
        ({"inputs": ["part_pt"], "derived": ["delta_r"]}, "'delta_r' needs the input 'part_deta'"),
        ({"derived": ["mass"]}, "unknown derived feature 'mass'"),
        ({"width": 10**9}, "width of a network must lie between 1 and 16,384, got 1000000000"),
        ({"depth": 10**6}, "depth of a network must lie between 0 and 256"),
        ({"heads": 5}, "multiple of its heads"),
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"pooling": "registers"}, "needs n_registers of at least 1, got 0"),
        ({"dropout": 1.5}, "dropout must be at least 0 and less than 1, got 1.5"),
        ({"head": "none"}, "unknown head 'none'"),
    ],
)
def test_impossible_settings_are_one_clear_line(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        JetBackboneConfig(**settings)
    assert "\n" not in str(caught.value)


def test_an_unknown_size_names_those_that_there_are():
    with pytest.raises(InputError, match="unknown size of a backbone 'huge'. Known: " + ", ".join(SIZES)):
        sized("huge")


def _permuted(values, order):
    return values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
