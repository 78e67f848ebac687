from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepfm.errors import HepfmError
from hepfm.table import JetTable, matching_rows


def ragged(lists: list[list[float]]) -> JetTable:
    """Jets with the given constituents; jet_nparticles tells them apart."""
    return JetTable(
        columns={"jet_nparticles": np.array([len(values) for values in lists], np.int32)},
        offsets=np.cumsum([0] + [len(values) for values in lists]),
        constituents={"part_px": np.array([x for values in lists for x in values], np.float32)},
    )


def as_lists(table: JetTable) -> list[list[float]]:
    px = table.constituents["part_px"]
    return [px[a:b].tolist() for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)]


jets = st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=5), max_size=8)


@given(jets, st.data())
def test_select_takes_whole_jets_in_the_order_asked_for(lists, data):
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10) if lists else st.just([]))
    mask = data.draw(st.lists(st.booleans(), min_size=len(lists), max_size=len(lists)))

    assert as_lists(ragged(lists).select(np.array(rows, int))) == [lists[row] for row in rows]
    kept = ragged(lists).select(np.array(mask, bool))
    kept.validate()
    assert as_lists(kept) == [values for values, keep in zip(lists, mask, strict=True) if keep]


@given(jets, jets, jets)
def test_concatenate_joins_in_order_and_slice_takes_apart(one, two, three):
    table = JetTable.concatenate([ragged(one), ragged(two), ragged(three)])

    table.validate()
    assert as_lists(table) == one + two + three
    middle = table.slice(len(one), len(one) + len(two))
    middle.validate()
    assert as_lists(middle) == two


def test_slice_copies_nothing():
    table = ragged([[1, 2], [3], [4, 5]])

    assert np.shares_memory(table.slice(1, 3).constituents["part_px"], table.constituents["part_px"])


def test_tables_of_different_columns_are_not_joined():
    other = JetTable({}, np.zeros(1, np.int64), {"part_px": np.empty(0, np.float32)})

    with pytest.raises(HepfmError, match="'jet_nparticles'"):
        JetTable.concatenate([ragged([[1]]), other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(columns={"jet_pt": np.zeros(2)}), "'jet_pt' has the wrong type: float64, expected float32"),
        (dict(columns={"jet_pt": np.zeros(3, "f4")}), "'jet_pt' has the wrong length"),
        (dict(columns={"process": np.array([b"a", b"b"])}), "'process' has the wrong type"),
        (dict(columns={"part_px": np.zeros(2, "f4")}), "'part_px' is in the wrong place"),
        (dict(constituents={"part_px": np.zeros(2, ">f4")}), "'part_px' has the wrong"),
        (dict(offsets=np.array([0, 2, 1])), "never fall"),
        (dict(offsets=np.array([1, 2, 3])), "start at 0"),
        (dict(offsets=np.array([0, 1, 3], np.int32)), "int64"),
        (dict(offsets=np.empty(0, np.int64)), "at least one value"),
    ],
)
def test_validation_names_what_is_wrong(change, message):
    table = replace(ragged([[1], [2, 3]]), **change)

    with pytest.raises(HepfmError, match=message):
        table.validate()


def test_a_complete_table_has_every_column_and_no_other():
    table = JetTable.empty()
    table.validate(complete=True)
    extra = replace(table, columns={**table.columns, "jet_ptt": np.empty(0)})

    with pytest.raises(HepfmError, match="'part_px' is missing"):
        replace(table, constituents={}).validate(complete=True)
    with pytest.raises(HepfmError, match=r"unknown column 'jet_ptt'.*Did you mean 'jet_pt'"):
        extra.validate(complete=True)
    extra.validate()


def identified(keys: list[tuple[int, int]]) -> JetTable:
    events, indices = zip(*keys, strict=True) if keys else ((), ())
    columns = {"event_id": np.array(events, np.int64), "jet_index": np.array(indices, np.int8)}
    return JetTable(columns, np.zeros(len(keys) + 1, np.int64), {})


# Numbers near the ends of their types would break a key that adds or multiplies carelessly.
keys = st.lists(
    st.tuples(st.sampled_from([-(2**63), -1, 0, 1, 2, 2**62, 2**63 - 1]), st.sampled_from([-128, -1, 0, 1, 127])),
    unique=True,
)


@given(keys, keys)
def test_matching_rows_are_the_jets_that_both_have(first, second):
    rows, other_rows = matching_rows(identified(first), identified(second))

    common = sorted(set(first) & set(second))
    assert [first[row] for row in rows] == common
    assert [second[row] for row in other_rows] == common


def test_a_jet_that_appears_twice_cannot_be_matched():
    with pytest.raises(HepfmError, match="event 7, jet 1 appears twice"):
        matching_rows(identified([(7, 0)]), identified([(7, 0), (7, 1), (7, 1)]))
