import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepfm.errors import InputError
from hepfm.padding import pad, padded, ragged
from hepfm.table import JetTable

COUNTS = st.lists(st.integers(0, 12), max_size=12)


def table_of(counts: list[int]) -> JetTable:
    n = sum(counts)
    constituents = {
        "part_px": np.arange(1, n + 1, dtype=np.float32),
        "part_charge": (np.arange(n) % 3 - 1).astype(np.int8),
        "part_isMuon": np.arange(n) % 2 == 0,
    }
    return JetTable({}, np.cumsum([0, *counts], dtype=np.int64), constituents)


@given(counts=COUNTS, length=st.integers(0, 14))
def test_padding_keeps_the_first_constituents_of_each_jet(counts, length):
    table = table_of(counts)
    values = table.constituents["part_charge"]

    found = pad(values, table.offsets, length, fill=7)

    assert (found.shape, found.dtype) == ((len(counts), length), values.dtype)
    for jet, (start, stop) in enumerate(zip(table.offsets[:-1], table.offsets[1:], strict=True)):
        mine = values[start:stop][:length].tolist()
        assert found[jet].tolist() == mine + [7] * (length - len(mine))


@given(counts=COUNTS, length=st.integers(12, 14))
def test_without_a_cut_every_value_comes_back(counts, length):
    table = table_of(counts)
    names = tuple(table.constituents)

    array, mask = padded(table, names, length)
    offsets, values = ragged(array, mask)

    assert array.shape == (len(counts), length, 3) and array.dtype == np.float32
    assert not array[~mask].any()
    np.testing.assert_array_equal(offsets, table.offsets)
    for feature, name in enumerate(names):
        column = table.constituents[name]
        np.testing.assert_array_equal(values[:, feature].astype(column.dtype), column)


def test_a_cut_leaves_what_fits():
    table = table_of([3, 0, 5])

    array, mask = padded(table, ["part_px"], 2, np.float64)

    assert array.dtype == np.float64
    assert array[..., 0].tolist() == [[1, 2], [0, 0], [4, 5]]
    assert mask.tolist() == [[True, True], [False, False], [True, True]]


def test_gaps_are_dropped_too():
    offsets, values = ragged(np.arange(6).reshape(2, 3), np.array([[True, False, True], [False, True, False]]))

    assert offsets.tolist() == [0, 2, 3]
    assert values.tolist() == [0, 2, 4]


def test_padding_a_part_of_a_table_is_that_part_of_the_whole():
    table = table_of([4, 1, 0, 9, 2])

    np.testing.assert_array_equal(padded(table.slice(1, 4), ["part_px"], 5)[0], padded(table, ["part_px"], 5)[0][1:4])


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"unknown column of constituents 'part_py'.*part_px"):
        padded(table_of([2]), ["part_py"], 5)
