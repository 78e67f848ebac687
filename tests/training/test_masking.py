from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_jets import toys

import hepfm
from hepfm.inputs import columns_for
from hepfm.models.configuration import KINEMATICS, TYPES
from hepfm.models.mpm import NOT_ASKED
from hepfm.schema import TYPE_FLAGS
from hepfm.training.batches import PaddedJets
from hepfm.training.masking import CODES, MaskedBatches, Views, split

INPUTS = (*KINEMATICS, *TYPES)


@pytest.fixture(scope="module")
def jets(small_campaign):
    table = hepfm.open(small_campaign[1]).read_table(columns_for(INPUTS), variation="quick")
    # The code of a constituent is its place in the table: it says who is who.
    numbers = np.arange(table.n_constituents, dtype=np.int32)
    return PaddedJets(table, INPUTS, trim=True, further={CODES: numbers})


def masked(jets, *, rotate=False, targets=("codes", "type", "inputs"), share=0.3, **views):
    return MaskedBatches(jets, INPUTS, share=share, targets=targets, views=Views(rotate, **views))


def test_visible_and_hidden_together_are_the_jet(jets):
    rows = np.array([3, 0, 8, 5])
    batch, whole = masked(jets)(rows, np.random.default_rng(0)), jets.__getitems__(rows)
    for jet, count in enumerate(jets.lengths[rows]):
        visible, hidden = batch["mask"][jet], batch["hidden_mask"][jet]
        ranks = torch.cat([batch["ranks"][jet][visible], batch["hidden_ranks"][jet][hidden]])
        values = torch.cat([batch["constituents"][jet][visible], batch["hidden_constituents"][jet][hidden]])

        assert sorted(ranks.tolist()) == list(range(count))
        assert torch.equal(values[ranks.argsort()], whole["constituents"][jet, :count])
        assert torch.equal(batch["hidden_codes"][jet][hidden], whole[CODES][jet][batch["hidden_ranks"][jet][hidden]])


def test_nothing_but_what_is_visible_is_among_the_inputs(jets):
    """The padding of the visible part may hold anything; it must not hold what is hidden."""
    batch = masked(jets)(np.arange(20), np.random.default_rng(0))
    hidden = batch["hidden_constituents"][batch["hidden_mask"]]
    visible = batch["constituents"][batch["mask"]]

    assert not set(map(tuple, hidden.tolist())) & set(map(tuple, visible.tolist()))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_the_asked_share_of_each_jet_is_hidden(share):
    counts = np.array([2, 3, 10, 57, 128, 1, 0])
    mask = np.arange(128) < counts[:, None]
    _, visible, hidden = split(mask, share, np.random.default_rng(0))

    expected = np.clip(np.rint(share * counts), 1, counts - 1) * (counts > 1)
    np.testing.assert_array_equal(hidden.sum(1), expected)
    np.testing.assert_array_equal(visible.sum(1), counts - expected)
    assert visible.shape[1] == min(-(-visible.sum(1).max() // 8) * 8, 128)


def test_every_constituent_is_hidden_as_often_as_any_other():
    mask = np.ones((5000, 10), bool)
    places, visible, hidden = split(mask, 0.3, np.random.default_rng(0))
    often = np.bincount(places[:, visible.shape[1] :][hidden], minlength=10)

    assert np.abs(often - 1500).max() < 5 * np.sqrt(1500 * 0.7)


def test_padding_does_not_decide_what_is_hidden():
    mask = np.arange(24) < np.array([20, 3, 11, 24, 0])[:, None]
    found = []
    for padded in (mask, np.pad(mask, ((0, 0), (0, 17)))):
        places, visible, hidden = split(padded, 0.4, np.random.default_rng(0))
        n_visible = visible.shape[1]
        found.append([places[:, :n_visible][visible].tolist(), places[:, n_visible:][hidden].tolist()])

    assert found[0] == found[1]


def test_types_are_those_of_the_data_even_where_the_network_does_not_see_them(jets):
    rows = np.arange(20)
    batch, whole = masked(jets, forget=1.0)(rows, np.random.default_rng(0)), jets.__getitems__(rows)
    flags = whole["constituents"][..., [INPUTS.index(name) for name in TYPES if name.startswith("part_is")]]
    expected = flags.argmax(-1).gather(1, batch["hidden_ranks"])

    assert batch["constituents"][batch["mask"]].isnan().any(0).sum() == len(TYPES)
    assert torch.equal(batch["hidden_types"][batch["hidden_mask"]], expected[batch["hidden_mask"]])


def test_no_type_is_asked_where_none_is_known():
    """The first of no flags would be the first kind of particle."""
    table = toys(20)
    parts = {name: values for name, values in table.constituents.items() if name not in TYPE_FLAGS}
    unknown = PaddedJets(replace(table, constituents=parts), INPUTS, trim=True, allow_missing=True)
    none = PaddedJets(
        replace(
            table, constituents=table.constituents | {name: np.zeros(table.n_constituents, bool) for name in TYPE_FLAGS}
        ),
        INPUTS,
        trim=True,
    )
    for jets in (unknown, none):
        batch = masked(jets, targets=("type",))(np.arange(20), np.random.default_rng(0))
        assert (batch["hidden_types"] == NOT_ASKED).all()


def test_a_batch_is_a_function_of_its_random_numbers(jets):
    make = masked(jets, rotate=True, forget=0.2)
    one, same, other = (make(np.arange(9), np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert one.keys() == same.keys()
    assert all(torch.equal(one[name].nan_to_num(), same[name].nan_to_num()) for name in one)
    assert not torch.equal(one["constituents"].nan_to_num(), other["constituents"].nan_to_num())


def test_making_a_batch_leaves_the_jets_as_they_were(jets):
    before = jets.__getitems__(np.arange(9))["constituents"].clone()
    masked(jets, rotate=True, forget=0.5)(np.arange(9), np.random.default_rng(1))

    assert torch.equal(jets.__getitems__(np.arange(9))["constituents"], before)


def test_only_targets_that_are_asked_for_are_in_a_batch(jets):
    batch = masked(jets, targets=("type",))(np.arange(4), np.random.default_rng(0))
    assert "hidden_constituents" not in batch
    assert "hidden_types" in batch


@pytest.mark.parametrize("rotate", [False, True])
def test_codes_are_those_of_the_jets_as_they_were_turned(jets, rotate):
    """A code that says where a constituent is would else ask for what a turned jet cannot tell."""
    place = INPUTS.index("part_deta")

    def encode(constituents, mask):
        return torch.bucketize(constituents[..., place].contiguous(), torch.linspace(-0.5, 0.5, 30))

    make = MaskedBatches(
        jets, INPUTS, share=0.3, targets=["codes", "inputs"], views=Views(rotate, forget=0.5), encode=encode
    )
    batch = make(np.arange(20), np.random.default_rng(0))

    hidden = batch["hidden_mask"]
    assert torch.equal(batch["hidden_codes"][hidden], encode(batch["hidden_constituents"], None)[hidden])
