"""What the commands show."""

from pathlib import Path

import pytest

from hepfm import terminal
from hepfm.manifest import ShardRecord
from hepfm.resim import Campaign
from hepfm.resim.estimate import Cost, Estimate
from hepfm.summary import summarise_campaign


def one_shard() -> ShardRecord:
    counts = dict.fromkeys(("n_jets", "n_missing", "n_retried", "n_without_jet", "n_bytes"), 0)
    known = {"path": "a.h5", "sha256": "", "variation": "a", "process": "QCD", "chunk": 0, "n_events": 10}
    return ShardRecord(**known, **counts, cross_sections={"QCD-000000": [1.0, 0.1, 10]}, seconds={"shower": 1.0})


def test_plan_of_few_tasks_takes_as_long_as_its_longest_and_counts_the_frozen_events(
    small_campaign: tuple[Campaign, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = small_campaign[0]
    price = Estimate((Cost("quick", 2.0, 0.1, 1.0, 6000.0, 5e6),), frozen_bytes=4e6, longest_task=6000.0)
    plan = terminal.plan(campaign, "jets", price, workers=64)
    assert plan["seconds"] == 6002.0
    assert plan["bytes"] == 9e6
    assert plan["frozen_bytes"] == 4e6
    assert [v["variation"] for v in plan["variations"]] == ["quick"]
    terminal.print_plan(plan, campaign)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "8 shards on 64 workers: about 100 min, 9 MB."
    assert lines[-2].split() == ["frozen", "events", "4", "MB"]


@pytest.mark.parametrize(
    ("n_shards", "said"), [(2, ["unfinished: 1 of 2 shards are done"]), (1, [])], ids=["unfinished", "finished"]
)
def test_summary_says_so_of_an_unfinished_campaign(
    capsys: pytest.CaptureFixture[str], n_shards: int, said: list[str]
) -> None:
    header = {"variations": ["a", "b"], "n_shards": n_shards}
    terminal.print_summary({"folder": "jets", **summarise_campaign([one_shard()], header)})
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "unfinished" in line] == said
    assert any(line.split()[:3] == ["b", "0", "0"] for line in lines)


def test_summary_of_a_campaign_that_has_just_begun_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    header = {"variations": ["a"], "n_shards": 2}
    terminal.print_summary({"folder": "jets", **summarise_campaign([], header)})
    assert "unfinished: 0 of 2 shards are done" in capsys.readouterr().out
