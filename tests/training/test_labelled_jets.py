from dataclasses import replace

import numpy as np
import pytest
from toy_jets import KINEMATICS, WIDE, toys, write_toys

import hepfm
from hepfm.schema import split_of
from hepfm.table import JetTable
from hepfm.training.labels import Labels, choose
from hepfm.training.source import Source


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toys(tmp_path_factory.mktemp("labels") / "toys.parquet")


def sample(table, path, **settings):
    source = Source(hepfm.open(write_toys(path, table)), "train")
    chosen = choose([source], Labels(**settings), regression=False, seed=settings.pop("seed", 1))
    return source.events()[chosen.places], chosen


def test_labels_come_from_the_training_split_only(small_campaign):
    source = Source(hepfm.open(small_campaign[1]), "train", small_campaign[0].variations[0].name)
    chosen = choose([source], Labels(), regression=False, seed=1)
    assert len(chosen) > 20
    assert set(split_of(source.events()[chosen.places])) == {0}


def test_jets_without_events_are_in_the_same_split_in_each_of_their_views(tmp_path):
    """The files hold the views of the same jets in the same order, one after the other or in turns."""
    both = [toys(60, variation=name) for name in ("nominal", "other")]
    lacking = [
        replace(t, columns={**t.columns, "place": np.arange(60)}).only(("variation", "place", *KINEMATICS))
        for t in both
    ]
    joined = JetTable.concatenate(lacking)
    in_turns = joined.select(np.arange(120).reshape(2, 60).T.ravel())
    for name, table in (("joined", joined), ("turns", in_turns)):
        dataset = hepfm.open(write_toys(tmp_path / f"{name}.parquet", table))
        places = {view: set(Source(dataset, "test", view).column("place")) for view in ("nominal", "other")}
        assert places["nominal"] == places["other"] != set()
        trained = Source(dataset, "train").column("place")
        assert len(trained) > 80
        assert places["nominal"].isdisjoint(trained)


def test_the_labels_of_a_small_sample_are_among_those_of_a_larger_one(tmp_path):
    small, _ = sample(toys(), tmp_path / "a.parquet", n_jets=20)
    large, _ = sample(toys(), tmp_path / "b.parquet", n_jets=100)
    assert set(small) < set(large)


def test_jets_that_validate_a_small_sample_validate_a_larger_one(tmp_path):
    small, few = sample(toys(), tmp_path / "a.parquet", n_jets=50, validation_share=0.2)
    large, many = sample(toys(), tmp_path / "b.parquet", n_jets=200, validation_share=0.2)
    assert set(small[few.is_validation]) < set(large[many.is_validation])
    assert set(small[~few.is_validation]) < set(large[~many.is_validation])


def test_a_sample_has_as_many_jets_of_each_class(tmp_path):
    table = toys().select(np.flatnonzero((np.arange(400) % 2 == 0) | (np.arange(400) % 10 == 1)))
    _, chosen = sample(table, tmp_path / "a.parquet", n_jets=40)
    assert np.bincount(chosen.target).tolist() == [20, 20]


def test_a_sample_does_not_depend_on_the_order_of_the_files(tmp_path):
    order = np.random.default_rng(1).permutation(400)
    first, _ = sample(toys(), tmp_path / "a.parquet", n_jets=30)
    second, _ = sample(toys().select(order), tmp_path / "b.parquet", n_jets=30)
    assert first.tolist() == second.tolist()


def test_another_seed_takes_other_labels(tmp_path):
    source = Source(hepfm.open(write_toys(tmp_path / "a.parquet")), "train")
    first, second = (choose([source], Labels(n_jets=30), regression=False, seed=s) for s in (1, 2))
    assert set(first.places) != set(second.places)


def test_no_event_is_on_both_sides_of_the_validation_share(small_campaign):
    source = Source(hepfm.open(small_campaign[1]), "train")  # both variations
    chosen = choose([source], Labels(validation_share=0.4), regression=False, seed=1)
    events = source.events()[chosen.places]
    assert len(set(events)) < len(events)
    assert set(events[chosen.is_validation]).isdisjoint(events[~chosen.is_validation])
    assert chosen.is_validation.any()


def test_without_events_jets_are_split_by_their_place_and_it_is_said(tmp_path):
    table = toys()
    columns = {"jet_label": table.columns["jet_label"]}
    path = write_toys(tmp_path / "a.parquet", JetTable(columns, table.offsets, table.constituents))
    sizes = {split: len(Source(hepfm.open(path), split).events()) for split in ("train", "validation", "test")}
    assert sum(sizes.values()) == 400
    assert 300 < sizes["train"] < 340
    chosen = choose([Source(hepfm.open(path), "train")], Labels(), regression=False, seed=1)
    assert any("no event_id" in note for note in chosen.notes)


@pytest.mark.parametrize("fraction", [0.4, 0.8])
def test_signal_mixed_into_background_has_the_share_that_was_asked_for(data, fraction):
    labels = Labels(classes=("QCD", "Hbb"), n_jets=100, signal_fraction=fraction)
    source = Source(hepfm.open(data), "train")
    chosen = choose([source], labels, regression=False, seed=1)
    is_signal = source.column("jet_label")[chosen.places] == WIDE
    assert len(set(chosen.places)) == len(chosen) == 100
    assert (chosen.target == 1).sum() == 50
    assert is_signal[chosen.target == 1].mean() == pytest.approx(fraction)
    assert not is_signal[chosen.target == 0].any()
