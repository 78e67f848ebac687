"""The price of a campaign, from a pilot."""

from dataclasses import replace
from pathlib import Path

import pytest

from hepfm import manifest
from hepfm.errors import GeneratorError
from hepfm.resim import Campaign, plan
from hepfm.resim.estimate import Cost, Estimate, estimate
from hepfm.resim.hard import read_block
from hepfm.resim.variations import Variation
from hepfm.summary import summarise


@pytest.fixture(scope="module")
def whole(small_campaign: tuple[Campaign, Path]) -> Estimate:
    return estimate(small_campaign[0])


@pytest.fixture(scope="module")
def estimates(whole: Estimate) -> tuple[Cost, ...]:
    return whole.variations


def test_every_variation_has_its_price_in_the_order_of_the_campaign(
    small_campaign: tuple[Campaign, Path], estimates: tuple[Cost, ...]
) -> None:
    campaign = small_campaign[0]
    assert [e.variation for e in estimates] == [v.name for v in campaign.variations]
    for found in estimates:
        assert found.seconds_a_view > 0
        assert found.seconds == pytest.approx(found.seconds_a_view * campaign.n_events)


def test_size_and_number_of_jets_are_those_of_the_campaign(
    small_campaign: tuple[Campaign, Path], estimates: tuple[Cost, ...]
) -> None:
    campaign, folder = small_campaign
    for found in estimates:
        records = [r for r in manifest.read(folder) if r.variation == found.variation]
        n_bytes, n_jets = sum(r.n_bytes for r in records), sum(r.n_jets for r in records)
        # Forty events of the pilot stand for sixty.
        assert found.n_bytes == pytest.approx(n_bytes, rel=0.25)
        assert found.jets_a_view == pytest.approx(n_jets / campaign.n_events, rel=0.5)


def test_a_hundred_times_the_events_in_one_chunk_each_cost_less_than_a_hundred_times_the_disk(
    small_campaign: tuple[Campaign, Path], estimates: tuple[Cost, ...]
) -> None:
    campaign = replace(small_campaign[0], n_events=6000, chunk_events=3000)
    for small, large in zip(estimates, estimate(campaign).variations, strict=True):
        assert large.jets_a_view == small.jets_a_view, "the pilot is the same"
        assert 5 * small.n_bytes < large.n_bytes < 100 * small.n_bytes


def test_frozen_events_are_part_of_the_disk(small_campaign: tuple[Campaign, Path], whole: Estimate) -> None:
    n_bytes = sum(path.stat().st_size for path in (small_campaign[1] / "hard").iterdir())
    assert whole.frozen_bytes == pytest.approx(n_bytes, rel=0.2)


def test_finished_events_freeze_nothing(shared: Path) -> None:
    file = shared / "data" / "example_hepmc2.hepmc"
    assert estimate(plan(hepmc=[file], variations=(Variation("nominal"),))).frozen_bytes == 0


@pytest.mark.parametrize(
    ("workers", "expected"),
    [(1, 1000 * 1.0 + 1000 * 3.0 + 7), (4, 1000 + 7), (64, 250 * 3.0 + 7)],
    ids=["one", "as many as keep busy", "more than tasks"],
)
def test_no_number_of_workers_is_faster_than_the_longest_task(workers: int, expected: float) -> None:
    costs = (Cost("a", 5.0, 1.0, 1.0, 1000.0, 0.0), Cost("b", 2.0, 3.0, 1.0, 3000.0, 0.0))
    assert Estimate(costs, 0.0, longest_task=250 * 3.0).seconds_on(workers) == expected


def test_longest_task_is_the_largest_chunk_under_the_variations_that_share_most(
    small_campaign: tuple[Campaign, Path], whole: Estimate
) -> None:
    # Two processes of 30 events each, in chunks of 20.
    assert whole.longest_task == pytest.approx(20 * max(cost.seconds_a_view for cost in whole.variations))
    shared = Variation("redetect", freeze="hadron", base="quick")
    found = estimate(replace(small_campaign[0], variations=(small_campaign[0].variations[0], shared), chunk_events=50))
    assert found.longest_task == pytest.approx(30 * sum(cost.seconds_a_view for cost in found.variations))


def test_nothing_is_left_behind(
    small_campaign: tuple[Campaign, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    estimate(replace(small_campaign[0], n_events=2))
    assert list(tmp_path.iterdir()) == []


def test_smallest_campaign_can_be_priced(small_campaign: tuple[Campaign, Path]) -> None:
    assert all(e.seconds > 0 and e.n_bytes > 0 for e in estimate(replace(small_campaign[0], n_events=1)).variations)


def test_events_of_files_can_be_priced(shared: Path, quick_variations: str) -> None:
    files = [shared / "data" / name for name in ("pythia6_ttbar.lhe", "powheg_hvq.lhe")]
    found = estimate(plan(variations=quick_variations, lhe=files)).variations
    assert [e.variation for e in found] == ["quick", "quick-fsr-up"]
    assert all(e.seconds > 0 and e.n_bytes > 0 for e in found)


def test_views_from_files_are_priced_without_the_files_which_hold_whole_blocks(
    small_campaign: tuple[Campaign, Path], tmp_path: Path
) -> None:
    """Also those that keep their hadrons."""
    farmed = Variation("farmed", hepmc=str(tmp_path))
    variations = (farmed, Variation("again", freeze="hadron", base="farmed"))
    found = estimate(replace(small_campaign[0], n_events=2, variations=variations)).variations
    assert [e.variation for e in found] == ["farmed", "again"]
    assert all(e.seconds > 0 and e.n_bytes > 0 for e in found)


def test_summary_adds_up_what_the_shards_recorded(small_campaign: tuple[Campaign, Path]) -> None:
    campaign, folder = small_campaign
    records = manifest.read(folder)
    found = summarise(records, [v.name for v in campaign.variations])
    assert found["n_shards"] == len(records)
    assert found["n_bytes"] == sum(p.stat().st_size for p in folder.glob("shards/*/*.h5"))
    assert list(found["variations"]) == ["quick", "quick-fsr-up"]
    for name, counts in found["variations"].items():
        assert counts["n_events"] == campaign.n_events
        assert counts["n_jets"] == sum(r.n_jets for r in records if r.variation == name)
        assert counts["ms_a_view"] > 0
    for process in ("QCD", "Hbb"):
        block = read_block(folder / f"hard/{process}-000000.lhe.gz")
        assert found["processes"][process]["n_events"] == campaign.n_events // 2
        assert found["processes"][process]["cross_section"] == block.cross_section.value
        assert found["processes"][process]["cross_section_error"] == block.cross_section.error
    assert sum(found["time_shares"].values()) == pytest.approx(1.0)
    assert found["core_seconds"] == pytest.approx(sum(sum(r.seconds.values()) for r in records))


def test_variation_with_which_pythia_does_not_start_is_one_clear_error(
    small_campaign: tuple[Campaign, Path],
) -> None:
    # Each setting is valid alone.
    broken = Variation("broken", ("PDF:pSet = no-such-set",))
    with pytest.raises(GeneratorError, match="cannot start") as raised:
        estimate(replace(small_campaign[0], variations=(broken,)))
    assert "\n" not in str(raised.value)
