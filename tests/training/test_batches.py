import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy_jets import toys

import hepfm
from hepfm.errors import InputError
from hepfm.padding import padded
from hepfm.training.batches import PaddedJets

COLUMNS = ("part_px", "part_charge", "part_isPhoton")


@pytest.fixture(scope="module")
def table(small_campaign):
    return hepfm.open(small_campaign[1]).read_table(variation="quick")


def test_infinite_inputs_are_refused_by_name():
    jets = toys(3)
    jets.constituents["part_energy"][2] = np.inf
    with pytest.raises(InputError, match="part_energy of 1 constituents is infinite"):
        PaddedJets(jets, ["part_pt", "part_energy"])


@pytest.mark.parametrize("length", [1, 7, 128])
def test_loader_gives_every_jet_once_padded_as_it_is(table, length):
    jets = PaddedJets(table, COLUMNS, ["event_id", "jet_index", "jet_label", "weight"], length)
    loader = DataLoader(jets, batch_size=7, shuffle=True, collate_fn=jets.collate)
    batches = list(loader)
    joined = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}
    expected, mask = padded(table, COLUMNS, length)
    order = np.lexsort((joined["jet_index"], joined["event_id"]))
    rows = np.lexsort((table.columns["jet_index"], table.columns["event_id"]))

    assert joined["constituents"].dtype == np.float32
    assert not np.array_equal(joined["event_id"], table.columns["event_id"])
    np.testing.assert_array_equal(joined["constituents"][order], expected[rows])
    np.testing.assert_array_equal(joined["mask"][order], mask[rows])
    for name in ("jet_label", "weight", "event_id"):
        np.testing.assert_array_equal(joined[name][order], table.columns[name][rows])


def test_a_single_jet_is_a_row_of_a_batch_and_worker_processes_change_nothing(table):
    jets = PaddedJets(table, COLUMNS)
    here, there = (
        list(DataLoader(jets, batch_size=50, collate_fn=jets.collate, num_workers=n_workers)) for n_workers in (0, 1)
    )

    assert torch.equal(jets[3]["constituents"], here[0]["constituents"][3])
    assert len(here) == len(there) == -(-len(jets) // 50)
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one["constituents"], two["constituents"])
        assert torch.equal(one["mask"], two["mask"])


@pytest.mark.parametrize("longest", [5, 12, 128])
def test_trimmed_batches_hold_the_same_in_few_lengths(table, longest):
    whole, trimmed = (PaddedJets(table, COLUMNS, n_constituents=longest, trim=trim) for trim in (False, True))
    lengths = set()
    for row in range(len(whole) - 1):
        full, short = (jets.__getitems__([row, row + 1]) for jets in (whole, trimmed))
        needed = whole.lengths[row : row + 2].max()
        length = short["mask"].shape[1]
        lengths.add(length)
        assert needed <= length <= min(longest, needed + 7)
        assert torch.equal(full["constituents"][:, :length], short["constituents"])
        assert not full["mask"][:, length:].any()
    assert len(lengths) <= 16


def test_jets_without_constituents_and_no_jets_are_no_obstacle(table):
    empty = PaddedJets(table.slice(0, 0), COLUMNS)

    assert len(empty) == 0
    assert empty.__getitems__([])["constituents"].shape == (0, 128, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constituents": ["part_pxx"]}, "unknown input of a network 'part_pxx'.*Did you mean 'part_px'"),
        ({"targets": ["label"]}, "unknown column of jets 'label'"),
        ({"targets": ["process"]}, "'process' holds text"),
        ({"n_constituents": 0}, "at least 1, got 0"),
    ],
)
def test_wrong_columns_are_one_clear_line(table, options, message):
    with pytest.raises(InputError, match=message):
        PaddedJets(table, **options)
