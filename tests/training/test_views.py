import numpy as np
import pytest
import torch

import hepfm
from hepfm.errors import InputError
from hepfm.inputs import columns_for
from hepfm.models.configuration import KINEMATICS
from hepfm.table import JetTable
from hepfm.training.batches import PaddedJets
from hepfm.training.masking import Views
from hepfm.training.views import PairBatches, ViewPairs, alignment, first_lengths, rows_of_views

VARIATIONS = ("nominal", "up", "down")


def table(event_id, jet_index, variation):
    columns = {
        "event_id": np.array(event_id, np.int64),
        "jet_index": np.array(jet_index, np.int8),
        "variation": np.array(variation),
    }
    return JetTable(columns, np.zeros(len(event_id) + 1, np.int64), {})


def test_views_are_found_by_event_and_jet_whatever_their_order():
    rows = rows_of_views(
        table([7, 5, 5, 7, 5, -(2**62)], [1, 0, 1, 1, 0, 0], ["up", "nominal", "up", "nominal", "down", "nominal"]),
        VARIATIONS,
    )
    # Jets in order of event and index: the far negative event, (5, 0), (5, 1), (7, 1).
    np.testing.assert_array_equal(rows, [[5, -1, -1], [1, -1, 4], [-1, 2, -1], [3, 0, -1]])


def test_variations_that_are_not_asked_for_do_not_enter():
    rows = rows_of_views(table([1, 1, 1], [0, 0, 0], ["nominal", "other", "down"]), VARIATIONS)
    np.testing.assert_array_equal(rows, [[0, -1, 2]])


def test_a_jet_twice_in_a_variation_is_one_clear_line():
    with pytest.raises(InputError, match="event 3, jet 1 appears twice in one variation"):
        rows_of_views(table([3, 3], [1, 1], ["up", "up"]), VARIATIONS)


ROWS = np.array([[0, 1, 2], [3, -1, 4], [-1, 5, 6], [7, -1, -1]])


def test_nominal_pairs_are_the_nominal_view_and_each_other_one_equally_often():
    pairs = ViewPairs(ROWS, "nominal")
    first, second = pairs.choose(np.zeros(2000, np.int64), np.random.default_rng(0)).reshape(2, -1)

    assert len(pairs) == 2
    assert set(first) == {0}
    assert abs(np.mean(second == 1) - 0.5) < 0.05
    assert set(second) == {1, 2}
    np.testing.assert_array_equal(pairs.choose(np.array([1]), np.random.default_rng(0)), [3, 4])


def test_any_pairs_are_two_different_views():
    pairs = ViewPairs(ROWS, "any")
    chosen = pairs.choose(np.zeros(2000, np.int64), np.random.default_rng(0)).reshape(2, -1)
    unordered = {tuple(sorted(pair)) for pair in chosen.T.tolist()}

    assert len(pairs) == 3
    assert unordered == {(0, 1), (0, 2), (1, 2)}


def test_data_without_pairs_is_one_clear_line():
    with pytest.raises(InputError, match="no jet has two views to compare"):
        ViewPairs(np.array([[0, -1], [-1, 1]]), "any")


def test_batches_pair_the_views_of_an_event(small_campaign):
    dataset = hepfm.open(small_campaign[1])
    views = dataset.read_table([*columns_for(KINEMATICS), "event_id", "jet_index", "variation", "jet_pt"])
    jets = PaddedJets(views, KINEMATICS, trim=True)
    pairs = ViewPairs(rows_of_views(views, dataset.variations), "nominal")
    chosen = pairs.choose(np.arange(len(pairs)), np.random.default_rng(0))
    first, second = chosen.reshape(2, -1)

    np.testing.assert_array_equal(views.columns["event_id"][first], views.columns["event_id"][second])
    np.testing.assert_array_equal(views.columns["jet_index"][first], views.columns["jet_index"][second])
    assert set(views.columns["variation"][first]) == {dataset.variations[0]}
    assert len(pairs) == len(dataset.pairs(*dataset.variations[:2])[0])

    batch = PairBatches(jets, pairs, KINEMATICS, Views(rotate=False))(np.arange(5), np.random.default_rng(0))
    whole = jets.__getitems__(np.concatenate([first[:5], second[:5]]))
    assert torch.equal(batch["constituents"], whole["constituents"])
    assert np.all(first_lengths(pairs, jets.lengths)[:5] >= batch["mask"].sum(1).reshape(2, 5).max(0).values.numpy())


def test_alignment_is_perfect_for_equal_views_and_poor_for_shuffled_ones():
    views = torch.eye(8)

    assert alignment(torch.cat([views, views])) == {"pair_accuracy": 1.0, "pair_cosine": 1.0}
    assert alignment(torch.cat([views, views.roll(1, 0)])) == {"pair_accuracy": 0.0, "pair_cosine": 0.0}
