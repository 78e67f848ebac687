"""Sums over the records of a campaign."""

from dataclasses import replace
from typing import Any

import pytest

from hepfm.manifest import ShardRecord
from hepfm.summary import summarise, summarise_campaign


def shard(variation: str, chunk: int, missing: list[int], crashed: list[int], **changes: Any) -> ShardRecord:
    record = _shard(variation, chunk, missing, crashed)
    return replace(record, **changes)


def _shard(variation: str, chunk: int, missing: list[int], crashed: list[int]) -> ShardRecord:
    return ShardRecord(
        path=f"shards/{variation}/QCD-{chunk:06d}.h5",
        sha256="",
        variation=variation,
        process="QCD",
        chunk=chunk,
        n_events=100,
        n_jets=80,
        n_missing=len(missing) + len(crashed),
        n_retried=0,
        n_without_jet=20 - len(missing) - len(crashed),
        n_bytes=1000,
        cross_sections={"QCD-000000": [2.0, 0.1]},
        missing=missing,
        crashed=crashed,
        seconds={"start": 1.0, "shower": 0.5},
    )


def test_views_that_are_missing_are_told_apart_by_cause() -> None:
    records = [shard("nominal", 0, [1, 2], [3]), shard("nominal", 1, [], [4]), shard("fsr-up", 0, [], [])]
    variations = summarise(records, ["nominal", "fsr-up"])["variations"]
    causes = ("n_missing", "n_rejected", "n_crashed", "n_without_jet")
    assert [variations["nominal"][name] for name in causes] == [4, 2, 2, 36]
    assert [variations["fsr-up"][name] for name in causes] == [0, 0, 0, 20]
    assert all(type(v[name]) is int for v in variations.values() for name in causes)


def test_what_a_worker_does_once_is_no_time_of_a_view() -> None:
    summary = summarise([shard("nominal", 0, [], [])], ["nominal"])
    assert summary["variations"]["nominal"]["ms_a_view"] == 5.0
    assert summary["core_seconds"] == 1.5


def test_events_and_cross_section_are_counted_once_whatever_the_variations() -> None:
    summary = summarise([shard(v, chunk, [], []) for v in ("a", "b") for chunk in (0, 1)], ["b", "a"])
    assert summary["processes"]["QCD"]["n_events"] == 200
    assert summary["processes"]["QCD"]["cross_section"] == 2.0
    assert list(summary["variations"]) == ["b", "a"]


def test_a_block_of_a_cross_section_is_as_heavy_as_it_has_events() -> None:
    many = shard("a", 0, [], [], n_events=900, cross_sections={"QCD-000000": [2.0, 0.1]})
    few = shard("a", 1, [], [], n_events=100, cross_sections={"QCD-000001": [3.0, 3.0]})
    process = summarise([many, few], ["a"])["processes"]["QCD"]
    assert process["cross_section"] == pytest.approx(0.9 * 2.0 + 0.1 * 3.0)
    assert process["cross_section_error"] == pytest.approx((0.09**2 + 0.3**2) ** 0.5)


def test_the_events_that_an_estimate_covers_are_its_weight_whatever_the_chunk() -> None:
    # The first chunk has one and a half blocks of 1,000 events, the second the other half and a small last one.
    first = shard("a", 0, [], [], n_events=1500, cross_sections={"b0": [1.0, 0.1, 1000], "b1": [2.0, 0.1, 500]})
    last = shard("a", 1, [], [], n_events=502, cross_sections={"b1": [2.0, 0.1, 500], "b2": [9.0, 1.0, 2]})
    process = summarise([first, last], ["a"])["processes"]["QCD"]
    assert process["cross_section"] == pytest.approx((1000 * 1.0 + 1000 * 2.0 + 2 * 9.0) / 2002)
    assert process["cross_section_error"] == pytest.approx(((2 * 100.0**2 + 2.0**2) ** 0.5) / 2002)


def test_records_that_do_not_say_what_an_estimate_covers_count_for_an_equal_share_of_their_chunk() -> None:
    older = shard("a", 0, [], [], n_events=1000, cross_sections={"b0": [1.0, 0.1], "b1": [2.0, 0.1]})
    newer = shard("a", 1, [], [], n_events=500, cross_sections={"b2": [4.0, 0.1, 500]})
    process = summarise([older, newer], ["a"])["processes"]["QCD"]
    assert process["cross_section"] == pytest.approx((500 * 1.0 + 500 * 2.0 + 500 * 4.0) / 1500)


def test_of_a_running_estimate_the_last_chunk_counts_whichever_was_finished_last() -> None:
    first, last = (shard("a", chunk, [], [], cross_sections={"QCD": [10.0 + chunk, 1.0]}) for chunk in (0, 1))
    for records in ([first, last], [last, first]):
        assert summarise(records, ["a"])["processes"]["QCD"]["cross_section"] == 11.0


def test_an_unfinished_campaign_says_how_much_of_it_there_is_and_which_views_there_are_not() -> None:
    header = {"variations": ["a", "b"], "n_shards": 4}
    summary = summarise_campaign([shard("a", 0, [], [])], header)
    assert (summary["n_shards"], summary["n_shards_planned"]) == (1, 4)
    assert list(summary["variations"]) == ["a", "b"]
    assert summary["variations"]["a"]["n_events"] == 100
    assert summary["variations"]["b"].keys() == summary["variations"]["a"].keys()
    assert not any(summary["variations"]["b"].values())


def test_a_campaign_whose_header_is_gone_is_as_large_as_what_there_is_of_it() -> None:
    summary = summarise_campaign([shard("a", 0, [], [])], {})
    assert summary["n_shards_planned"] == 1
