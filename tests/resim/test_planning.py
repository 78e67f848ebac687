"""What the user is told of a plan that is not quite what was asked for."""

from pathlib import Path

from hepfm.resim import plan


def test_files_with_fewer_events_than_asked_for_are_noted(shared: Path, quick_variations: str) -> None:
    data = shared / "data"
    few = plan(10**6, quick_variations, lhe=[data / "pythia6_ttbar.lhe"])
    [note] = few.notes
    assert note == "pythia6_ttbar: the file holds 100 events, fewer than the 1,000,000 asked for."
    both = plan(10**6, quick_variations, lhe=[data / "pythia6_ttbar.lhe", data / "powheg_hvq.lhe"])
    assert "the 2 files hold 106 events, fewer than the 1,000,000 asked for." in both.notes[0]
    assert "POWHEG" in both.notes[1]


def test_note_is_not_part_of_the_campaign_and_is_left_out_where_the_files_suffice(
    shared: Path, quick_variations: str
) -> None:
    files = [shared / "data" / "pythia6_ttbar.lhe"]
    every = plan(None, quick_variations, lhe=files)
    assert every.notes == plan(100, quick_variations, lhe=files).notes == []
    assert plan(1000, quick_variations, lhe=files, chunk_events=every.chunk_events).digest == every.digest
