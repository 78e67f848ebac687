from dataclasses import replace

import awkward as ak
import numpy as np
import pytest
import torch
from tokenizer_samples import KINDS_OF_TOKENIZERS, started

from hepfm.errors import InputError
from hepfm.inputs import constituent_inputs
from hepfm.jets import to_awkward
from hepfm.schema import TYPE_FLAGS


@pytest.fixture(scope="module", params=KINDS_OF_TOKENIZERS)
def tokenizer(request, jets):
    return started(request.param, jets)


@pytest.fixture(scope="module")
def simple(jets):
    return started("ema", jets)


def padded(tokenizer, jets, n_jets=20):
    """The first jets as (constituents, mask), and their table."""
    table = jets.slice(0, n_jets)
    values = constituent_inputs(table, tokenizer.inputs)
    mask = np.arange(table.counts.max()) < table.counts[:, np.newaxis]
    constituents = np.zeros((*mask.shape, values.shape[1]), np.float32)
    constituents[mask] = values
    return torch.from_numpy(constituents), torch.from_numpy(mask), table


def test_ids_follow_their_constituents_when_these_are_permuted(tokenizer, jets):
    constituents, mask, _ = padded(tokenizer, jets)
    order = torch.argsort(torch.rand(mask.shape, generator=torch.Generator().manual_seed(5)), 1)
    rows = torch.arange(len(mask)).unsqueeze(1)
    ids = tokenizer.encode(constituents, mask)
    shuffled = tokenizer.encode(constituents[rows, order], mask[rows, order])

    assert torch.equal(shuffled, ids[rows, order])
    restored = tokenizer.decode(shuffled, mask[rows, order])
    torch.testing.assert_close(restored, tokenizer.decode(ids, mask)[rows, order], rtol=1e-4, atol=1e-5)


def test_padding_and_the_other_jets_of_a_batch_change_nothing(tokenizer, jets):
    constituents, mask, _ = padded(tokenizer, jets)
    ids = tokenizer.encode(constituents, mask)
    decoded = tokenizer.decode(ids, mask)
    longer = torch.nn.functional.pad(constituents, (0, 0, 0, 40), value=7.0)
    alone = [tokenizer.encode(constituents[i : i + 1], mask[i : i + 1]) for i in range(len(mask))]

    assert torch.equal(tokenizer.encode(longer, torch.nn.functional.pad(mask, (0, 40)))[:, : ids.shape[1]], ids)
    assert torch.equal(torch.cat(alone), ids)
    one = tokenizer.decode(ids[3:4], mask[3:4])
    torch.testing.assert_close(one, decoded[3:4], rtol=1e-4, atol=1e-5)


def test_ids_are_whole_numbers_in_range_and_padding_is_minus_one(tokenizer, jets):
    constituents, mask, _ = padded(tokenizer, jets)
    ids = tokenizer.encode(constituents, mask)
    decoded = tokenizer.decode(ids, mask)

    assert ids.dtype == torch.int64
    assert ids.shape == mask.shape
    assert (ids[~mask] == -1).all()
    assert ids[mask].min() >= 0 and ids[mask].max() < tokenizer.n_codes
    assert len(ids[mask].unique()) > tokenizer.n_codes // 4
    assert decoded.shape == constituents.shape
    assert (decoded[~mask] == 0).all()
    assert torch.equal(tokenizer.decode(ids), decoded)


def test_awkward_arrays_tables_and_numpy_arrays_give_the_same_as_tensors(tokenizer, jets):
    constituents, mask, table = padded(tokenizer, jets)
    ids = tokenizer.encode(constituents, mask)
    decoded = tokenizer.decode(ids)
    lists = tokenizer.encode(to_awkward(table))
    records = tokenizer.decode(lists)

    np.testing.assert_array_equal(tokenizer.encode(constituents.numpy(), mask.numpy()), ids.numpy())
    np.testing.assert_array_equal(tokenizer.encode(table), ids[mask].numpy())
    np.testing.assert_array_equal(ak.to_numpy(ak.flatten(lists)), ids[mask].numpy())
    assert ak.to_list(ak.num(lists)) == table.counts.tolist()
    for place, name in enumerate(tokenizer.inputs):
        np.testing.assert_allclose(
            ak.to_numpy(ak.flatten(records[name])), decoded[mask][:, place].numpy(), rtol=1e-4, atol=1e-5
        )


def test_decoded_constituents_resemble_the_true_ones(jets):
    tokenizer = started("kmeans", jets)
    values = constituent_inputs(jets, tokenizer.inputs)
    _, decoded = tokenizer.reconstruct(jets)

    for place in range(3):
        true, found = values[:, place], decoded[:, place]
        assert np.corrcoef(true, found)[0, 1] > 0.8
    assert (decoded[:, 0] > 0).all()


@pytest.mark.parametrize("name", ["everything", "kmeans of everything"])
def test_decoded_charges_kinds_and_impact_parameters_are_possible_ones(jets, name):
    tokenizer = started(name, jets)
    _, decoded = tokenizer.reconstruct(jets)
    charge = decoded[:, tokenizer.inputs.index("part_charge")]
    kinds = decoded[:, [tokenizer.inputs.index(kind) for kind in TYPE_FLAGS]]
    d0 = decoded[:, tokenizer.inputs.index("part_d0val")]

    assert set(np.unique(charge)) <= {-1, 0, 1}
    assert set(np.unique(kinds)) == {0, 1}
    assert (kinds.sum(1) == 1).all()
    assert (d0[charge == 0] == 0).all()
    assert (d0[charge != 0] != 0).any()


def test_jets_without_constituents_have_no_ids(simple, jets):
    constituents, mask, _ = padded(simple, jets, 3)
    mask[1] = False
    ids = simple.encode(constituents, mask)

    assert (ids[1] == -1).all()
    assert torch.equal(ids[0], simple.encode(constituents[:1], mask[:1])[0])
    assert simple.encode(jets.slice(0, 0)).shape == (0,)
    assert simple.decode(np.zeros((0, 5), np.int64)).shape == (0, 5, 3)


def test_gradients_reach_every_weight(jets):
    for name in ("ema", "fsq", "residual", "everything"):
        tokenizer = started(name, jets).train()
        constituents, mask, _ = padded(tokenizer, jets)
        tokenizer(constituents, mask).loss.backward()
        for weight, parameter in tokenizer.named_parameters():
            assert parameter.grad is not None, (name, weight)
            assert parameter.grad.isfinite().all(), (name, weight)
            assert parameter.grad.abs().sum() > 0, (name, weight)


def test_a_code_depends_on_the_rest_of_the_jet_only_if_it_is_to(jets):
    for name, depends in (("ema", True), ("particle", False), ("kmeans", False)):
        tokenizer = started(name, jets)
        constituents, mask, _ = padded(tokenizer, jets)
        alone = tokenizer.encode(constituents[mask].unsqueeze(1), torch.ones(int(mask.sum()), 1, dtype=torch.bool))
        assert torch.equal(alone.squeeze(1), tokenizer.encode(constituents, mask)[mask]) != depends


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, m: (c[..., :2], m), r"expected constituents of shape \(B, N, 3\): part_pt, part_deta, part_dphi"),
        (lambda c, m: (c[0], m[0]), "expected constituents of 3 dimensions"),
        (lambda c, m: (c, m.float()), "expected a bool mask of shape"),
        (lambda c, m: (c, m[:, :-1]), "expected a bool mask of shape"),
        (lambda c, m: (c * torch.nan, m), "values of part_pt that are no numbers"),
    ],
)
def test_wrong_constituents_are_one_clear_line(simple, jets, change, message):
    constituents, mask, _ = padded(simple, jets, 3)
    with pytest.raises(InputError, match=message):
        simple.encode(*change(constituents, mask))


@pytest.mark.parametrize("name", ["ema", "kmeans"])
def test_a_tokenizer_does_not_start_from_values_that_are_no_numbers(jets, name):
    deta = jets.constituents["part_deta"].copy()
    deta[100] = np.nan
    with pytest.raises(InputError, match="values of part_deta that are no numbers"):
        started(name, replace(jets, constituents=jets.constituents | {"part_deta": deta}))


def test_jets_without_an_input_are_one_clear_line(simple, jets):
    with pytest.raises(InputError, match="the jets have no part_deta"):
        simple.encode(to_awkward(jets.only(["part_px", "part_py", "part_dphi"])))
    with pytest.raises(InputError, match="no part_px or part_py"):
        simple.encode(jets.only(["part_deta", "part_dphi"]))


@pytest.mark.parametrize("wrong", [32, -2, 10**12])
def test_ids_that_do_not_exist_are_one_clear_line(simple, wrong):
    with pytest.raises(InputError, match=f"expected ids from 0 to 31 where there is a constituent, got {wrong}"):
        simple.decode(np.array([[1, wrong]]))


@pytest.mark.parametrize("name", ["ema", "cosine", "fsq", "residual"])
def test_ids_are_those_that_training_sees(jets, name):
    tokenizer = started(name, jets)
    constituents, mask, _ = padded(tokenizer, jets)
    with torch.no_grad():
        seen = tokenizer(constituents, mask).ids

    assert torch.equal(seen, tokenizer.encode(constituents, mask)[mask])
