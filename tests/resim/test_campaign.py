"""Campaigns: what is asked for, resolved; and how it divides into tasks."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepfm.atomic import file_digest
from hepfm.errors import InputError
from hepfm.resim.campaign import Campaign, check, check_files
from hepfm.resim.clustering import JetSelection
from hepfm.resim.detector import DETECTORS
from hepfm.resim.generator import Beams
from hepfm.resim.planning import plan
from hepfm.resim.processes import PRESETS, PROCESSES, Process
from hepfm.resim.variations import VARIATIONS, Variation

SELECTION = JetSelection(candidate_pt_min=1.0, pt_min=400.0, pt_max=1000.0, abs_eta_max=2.5)

EVENT = """<event>
4 1 1.0 100.0 0.0078 0.118
21 -1 0 0 501 502 0.0 0.0 100.0 100.0 0.0 0.0 9.0
21 -1 0 0 502 501 0.0 0.0 -100.0 100.0 0.0 0.0 9.0
1 1 1 2 503 0 60.0 80.0 0.0 100.0 0.0 0.0 9.0
-1 1 1 2 0 503 -60.0 -80.0 0.0 100.0 0.0 0.0 9.0
</event>
"""


def a_campaign(n_events: int = 100, n_processes: int = 2, n_variations: int = 2, chunk_events: int = 30) -> Campaign:
    return Campaign(
        n_events,
        tuple(PROCESSES.values())[:n_processes],
        tuple(VARIATIONS.values())[:n_variations],
        1,
        "cms",
        SELECTION,
        0.5,
        chunk_events=chunk_events,
    )


def lhe_file(path: Path, n_events: int, header: str = "") -> Path:
    init = "<init>\n2212 2212 6500.0 6500.0 0 0 0 0 3 1\n1.25 0.5 1.0 1\n</init>\n"
    path.write_text(
        f'<LesHouchesEvents version="3.0">\n{header}{init}{EVENT * n_events}</LesHouchesEvents>\n',
        encoding="utf-8",
    )
    return path


def refusal(**settings_: object) -> str:
    with pytest.raises(InputError) as raised:
        plan(**settings_)
    message = str(raised.value)
    assert "\n" not in message
    return message


def all_ids(campaign: Campaign) -> list[int]:
    return [
        int(i)
        for process in range(len(campaign.processes))
        for i in campaign.event_ids(process, 0, campaign.events_of(process))
    ]


# How a campaign divides.


@given(n_events=st.integers(1, 5000), n_processes=st.integers(1, 10))
def test_event_ids_of_the_processes_are_disjoint_and_complete(n_events: int, n_processes: int) -> None:
    campaign = a_campaign(n_events, n_processes)
    assert sorted(all_ids(campaign)) == list(range(n_events))
    sizes = [campaign.events_of(p) for p in range(n_processes)]
    assert max(sizes) - min(sizes) <= 1


@given(
    available=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    n_events=st.integers(1, 1300),
    chunk_events=st.integers(1, 200),
)
def test_event_ids_of_files_are_disjoint_and_follow_one_another(
    available: list[int], n_events: int, chunk_events: int
) -> None:
    sources = tuple(Process(f"file{i}", lhe=f"{i}.lhe", n_available=n) for i, n in enumerate(available))
    campaign = replace(a_campaign(n_events, chunk_events=chunk_events), processes=sources)
    n_used = min(n_events, sum(available))
    assert all_ids(campaign) == list(range(n_used))
    assert sum(c.stop - c.start for c in campaign.chunks()) == n_used


@given(
    n_events=st.integers(1, 200),
    n_processes=st.integers(1, 10),
    n_variations=st.integers(1, 4),
    chunk_events=st.integers(1, 70),
)
def test_tasks_cover_each_event_once_a_variation(
    n_events: int, n_processes: int, n_variations: int, chunk_events: int
) -> None:
    campaign = a_campaign(n_events, n_processes, n_variations, chunk_events)
    seen: dict[int, list[int]] = {view: [] for view in range(n_variations)}
    tasks = list(campaign.tasks())
    for task in tasks:
        chunk = task.chunk
        assert 0 < chunk.stop - chunk.start <= chunk_events
        assert task.views == (task.views[0],), "catalogue variations share nothing"
        seen[task.views[0]] += campaign.event_ids(chunk.process, chunk.start, chunk.stop).tolist()
    assert all(sorted(ids) == list(range(n_events)) for ids in seen.values())
    assert len(tasks) == campaign.n_shards
    assert len({campaign.shard_path(task.chunk, task.views[0]) for task in tasks}) == len(tasks)
    assert sorted({task.chunk.number for task in tasks}) == list(range(len(tasks) // n_variations))


@given(n_events=st.integers(1, 1000), more=st.integers(0, 1000), chunk_events=st.integers(1, 200))
def test_growing_a_campaign_keeps_every_event_in_its_place(n_events: int, more: int, chunk_events: int) -> None:
    small = a_campaign(n_events, 3, chunk_events=chunk_events)
    large = replace(small, n_events=n_events + more)
    for process in range(3):
        n = small.events_of(process)
        assert (small.event_ids(process, 0, n) == large.event_ids(process, 0, n)).all()


def test_event_ids_stay_exact_at_the_largest_campaign() -> None:
    campaign = a_campaign(10**15, 7)
    last = campaign.events_of(6)
    ids = campaign.event_ids(6, last - 2, last)
    assert ids.dtype == np.int64
    assert ids.max() < 10**15
    assert sum(campaign.events_of(p) for p in range(7)) == 10**15


def test_processes_take_turns_and_slow_variations_start_first() -> None:
    tasks = list(a_campaign(120, 2, 3, chunk_events=30).tasks())
    assert [t.chunk.process for t in tasks] == [0, 0, 0, 1, 1, 1] * 2
    assert [t.views for t in tasks] == [(2,), (1,), (0,)] * 4


# The digest: the same for the same dataset, another for every other.


def test_digest_changes_with_everything_that_decides_on_the_dataset() -> None:
    reference = a_campaign()
    hbb, qcd = PROCESSES["Hbb"], PROCESSES["QCD"]
    nominal, reseed = VARIATIONS["nominal"], VARIATIONS["reseed"]
    others = [
        replace(reference, n_events=101),
        replace(reference, processes=(hbb, qcd)),
        replace(reference, processes=(qcd,)),
        replace(reference, processes=(qcd, replace(hbb, settings=(*hbb.settings, "PhaseSpace:pTHatMin = 1")))),
        replace(reference, processes=(qcd, replace(hbb, shower_settings=("TimeShower:pTmaxMatch = 1",)))),
        replace(reference, processes=(qcd, replace(hbb, label=None))),
        replace(reference, processes=(qcd, replace(hbb, n_targets=2))),
        replace(reference, processes=(qcd, replace(hbb, sha256="0" * 64))),
        replace(reference, variations=(reseed, nominal)),
        replace(reference, variations=(nominal,)),
        replace(reference, variations=(nominal, replace(reseed, settings=("PartonLevel:MPI = off",)))),
        replace(reference, variations=(nominal, replace(reseed, name="reseed2"))),
        replace(reference, seed=2),
        replace(reference, detector="jetclass"),
        replace(reference, selection=replace(SELECTION, pt_min=401.0)),
        replace(reference, selection=replace(SELECTION, radius=0.4)),
        replace(reference, match_radius=0.6),
        replace(reference, beams=Beams(energy_a=7000.0)),
        replace(reference, chunk_events=31),
    ]
    digests = {reference.digest, *(other.digest for other in others)}
    assert len(digests) == len(others) + 1
    for other in others:
        assert len(reference.differences(other)) == 1


def test_digest_does_not_change_with_what_only_people_read() -> None:
    reference = a_campaign()
    qcd, hbb = reference.processes
    same = replace(
        reference,
        processes=(qcd, replace(hbb, description="other words", citation="us", note="careful")),
        variations=tuple(replace(v, description="other words", citation="us") for v in reference.variations),
    )
    assert same.digest == reference.digest
    assert reference.differences(same) == []


def test_digest_does_not_change_with_how_a_number_is_written() -> None:
    reference = replace(a_campaign(), selection=replace(SELECTION, radius=1.0), match_radius=1.0)
    same = replace(
        reference, selection=replace(SELECTION, radius=1, pt_min=400), match_radius=1, beams=Beams(energy_a=6500)
    )
    assert same == reference
    assert (same.digest, same.frozen_digest) == (reference.digest, reference.frozen_digest)
    assert plan(10, "1", jet_pt=(500, 1000)).digest == plan(10, "1", jet_pt=(500.0, 1000.0)).digest


def test_digest_does_not_change_with_the_place_of_a_file(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        lhe_file(tmp_path / folder / "events.lhe", 3)
    here, there = (plan(variations="1", lhe=[tmp_path / f / "events.lhe"]) for f in ("here", "there"))
    assert here.digest == there.digest
    lhe_file(tmp_path / "there" / "events.lhe", 4)
    assert plan(3, "1", lhe=[tmp_path / "there" / "events.lhe"]).digest != here.digest


# TOML.


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("detector", list(DETECTORS))
def test_campaign_comes_back_from_its_toml_whole(tmp_path: Path, preset: str, detector: str) -> None:
    campaign = plan(1000, "8", preset, detector=detector, seed=2**63 - 1)
    path = tmp_path / "campaign.toml"
    path.write_text(campaign.to_toml(), encoding="utf-8")
    back = Campaign.from_toml(path)
    assert back == campaign
    assert back.digest == campaign.digest
    assert back.to_toml() == campaign.to_toml()


def test_campaign_of_files_comes_back_from_its_toml_whole(tmp_path: Path) -> None:
    lhe = [lhe_file(tmp_path / f"{name}.lhe", n) for name, n in (("a", 3), ("b", 5))]
    campaign = plan(variations="nominal", lhe=lhe, chunk_events=2)
    path = tmp_path / "campaign.toml"
    path.write_text(campaign.to_toml(), encoding="utf-8")
    assert Campaign.from_toml(path) == campaign


@given(pt_min=st.floats(0, 1e6), match_radius=st.floats(1e-6, 10), energy=st.floats(100, 1e5))
@settings(max_examples=25, deadline=None)
def test_numbers_survive_toml_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, pt_min: float, match_radius: float, energy: float
) -> None:
    selection = replace(SELECTION, pt_min=pt_min, pt_max=float("inf"))
    campaign = replace(
        a_campaign(n_variations=1), selection=selection, match_radius=match_radius, beams=Beams(energy_a=energy)
    )
    path = tmp_path_factory.mktemp("toml") / "campaign.toml"
    path.write_text(campaign.to_toml(), encoding="utf-8")
    assert Campaign.from_toml(path) == campaign


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("n_events = 100", "n_evts = 100", "Did you mean 'n_events'?"),
        ("n_events = 100", "", "n_events"),
        ("n_events = 100", 'n_events = "many"', "n_events is 'many'"),
        ("n_events = 100", "n_events = 0", "n_events is 0"),
        ("n_events = 100", "n_events = 1.5", "n_events is 1.5"),
        ("n_events = 100", "n_events = ", "is not TOML"),
        ('detector = "cms"', 'detector = "cmss"', "Did you mean 'cms'?"),
        ('detector = "cms"', "detector = 3", "detector is 3: expected text"),
        ('detector = "cms"', 'detector = ["cms"]', "detector is ['cms']: expected text"),
        ("seed = 1", "seed = true", "seed is True: expected a whole number"),
        ("match_radius = 0.5", "match_radius = -0.5", "match_radius is -0.5"),
        ("match_radius = 0.5", "match_radius = nan", "match_radius is nan"),
        ("match_radius = 0.5", 'match_radius = "wide"', "match_radius is 'wide': expected a number"),
        ("pt_min = 400.0", "pt_min = -1.0", "pt_min"),
        ("pt_min = 400.0", 'pt_min = "hard"', "pt_min of the selection is 'hard': expected a number"),
        ("abs_eta_max = 2.5", "abs_eta_max = -1.0", "abs_eta_max of the selection is -1.0: expected a positive number"),
        ('name = "QCD"', "name = 3", "name of process '3' is 3: expected text"),
        ("n_targets = 1", 'n_targets = "1"', "n_targets of process 'QCD' is '1': expected a whole number"),
        ("n_targets = 1", "n_targets = 0", "n_targets of process 'QCD' is 0: expected at least 1"),
        ("shower_settings = []", "shower_settings = [3]", "expected a list of texts"),
        ("shower_settings = []", 'shower_settings = "all"', "expected a list of texts"),
        ("pt_min = 400.0", "ptmin = 400.0", "ptmin"),
        ('name = "QCD"', 'name = "QCD"\ncolour = 3', "colour"),
        ('name = "QCD"', 'name = "Hbb"', "Hbb"),
        ('name = "reseed"', 'name = "nominal"', "nominal"),
        ('label = "QCD"', 'label = "qcd"', "qcd"),
        ("energy_a = 6500.0", 'energy_a = "high"', "energy_a"),
        ("HiggsSM:ffbar2HZ = on", "HiggsSM:ffbar2HZZ = on", "Did you mean 'HiggsSM:ffbar2HZ'?"),
    ],
)
def test_wrong_campaign_file_is_one_clear_error(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = a_campaign().to_toml()
    assert old in text
    path = tmp_path / "campaign.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        Campaign.from_toml(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).count(str(path)) == 1


def test_file_that_is_no_campaign_is_one_clear_error(tmp_path: Path) -> None:
    for content in (b"", b"[tool.ruff]\n", b"\xff\xfe", b"not toml"):
        path = tmp_path / "campaign.toml"
        path.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(str(path))):
            Campaign.from_toml(path)
    with pytest.raises(InputError, match="cannot read"):
        Campaign.from_toml(tmp_path / "none.toml")


# Planning.


def test_default_plan_is_that_of_the_documentation() -> None:
    campaign = plan()
    assert campaign.n_events == 10_000
    assert {p.name for p in campaign.processes} == {"Hbb", "QCD"}
    assert [v.name for v in campaign.variations] == list(VARIATIONS)[:8]
    assert campaign.detector == "cms"
    assert campaign.seed == 1
    assert campaign.beams == Beams(2212, 2212, 6500.0, 6500.0)
    assert campaign.selection == PRESETS["rs3l"].selection
    assert not campaign.from_files
    assert campaign.notes == []


def test_phase_space_of_the_preset_goes_into_every_process() -> None:
    campaign = plan(10, "1", "jetclass")
    assert all("PhaseSpace:pTHatMin = 450" in p.settings for p in campaign.processes)


@pytest.mark.parametrize(("n_events", "chunk_events"), [(1, 50), (1000, 62), (10_000, 625), (10**6, 1000)])
def test_chunks_keep_several_workers_busy_and_stay_small(n_events: int, chunk_events: int) -> None:
    assert plan(n_events, "1").chunk_events == chunk_events


def test_jet_pt_replaces_that_of_the_preset() -> None:
    campaign = plan(10, "1", jet_pt=(450.0, 800.0))
    assert (campaign.selection.pt_min, campaign.selection.pt_max) == (450.0, 800.0)
    # The hard process stays as far below, or the sample would lack what it pushes above the threshold.
    assert all("PhaseSpace:pTHatMin = 393.75" in p.settings for p in campaign.processes)
    campaign = plan(10, "1", jet_pt=(None, 800.0))
    assert campaign.processes == plan(10, "1").processes
    assert (campaign.selection.pt_min, campaign.selection.pt_max) == (400.0, 800.0)
    assert asdict(campaign.selection) | {"pt_max": float("inf")} == asdict(PRESETS["rs3l"].selection)


@pytest.mark.parametrize("value", [0, -1, 1.5, 1e6, float("nan"), float("inf"), "10", 10**15 + 1])
def test_number_of_events_that_is_none_is_refused(value: object) -> None:
    message = refusal(n_events=value, variations="1", chunk_events=10)
    assert f"n_events is {value!r}: expected a whole number from 1 to 1e+15" in message


@pytest.mark.parametrize("value", [0, -5, 2.5, float("nan")])
def test_chunk_that_is_none_is_refused(value: object) -> None:
    assert f"chunk_events is {value!r}" in refusal(n_events=10, variations="1", chunk_events=value)


@pytest.mark.parametrize("value", [-1, 0.5, 2**63, float("nan")])
def test_seed_that_is_none_is_refused(value: object) -> None:
    assert f"seed is {value!r}" in refusal(n_events=10, variations="1", seed=value)


@pytest.mark.parametrize("jet_pt", [(500.0, 400.0), (-1.0, None), (float("nan"), None), (None, float("nan"))])
def test_jet_pt_that_no_jet_has_is_refused(jet_pt: tuple[float | None, float | None]) -> None:
    assert "pt_min" in refusal(n_events=10, variations="1", jet_pt=jet_pt)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    assert "Did you mean 'cms'?" in refusal(detector="cmss")
    assert "Did you mean 'Hbb'?" in refusal(processes="Hbbb")
    assert "Did you mean 'fsr-up'?" in refusal(variations="fsrup")


def test_setting_of_ones_own_that_pythia_refuses_stops_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[variation]]\nname = "mine"\nsettings = ["StringZ:aLundd = 0.5"]', encoding="utf-8")
    message = refusal(n_events=10, variations=str(path))
    assert "variation 'mine'" in message
    assert "Did you mean 'StringZ:aLund'?" in message


def test_campaign_without_process_or_variation_is_refused() -> None:
    for empty in (replace(a_campaign(), processes=()), replace(a_campaign(), variations=())):
        with pytest.raises(InputError, match="at least one process and one variation"):
            check(empty)


def test_names_must_be_unique_for_shards_bear_them() -> None:
    twice = Variation("nominal", ("PartonLevel:MPI = off",))
    for campaign in (
        replace(a_campaign(), variations=(VARIATIONS["nominal"], twice)),
        replace(a_campaign(), processes=(PROCESSES["QCD"], replace(PROCESSES["Hbb"], name="QCD"))),
    ):
        with pytest.raises(InputError, match="twice"):
            check(campaign)


# Events from files.


def test_files_are_counted_and_known_by_their_contents(tmp_path: Path) -> None:
    paths = [lhe_file(tmp_path / "one.lhe", 3), lhe_file(tmp_path / "two.lhe", 5)]
    campaign = plan(variations="1", lhe=paths)
    assert campaign.from_files
    assert campaign.n_events == 8
    assert [p.name for p in campaign.processes] == ["one", "two"]
    assert [p.n_available for p in campaign.processes] == [3, 5]
    assert [p.sha256 for p in campaign.processes] == [file_digest(p) for p in paths]
    assert all(p.label is None for p in campaign.processes)
    assert plan(4, "1", lhe=paths).n_events == 4
    assert plan(100, "1", lhe=paths).n_events == 8


def test_origin_of_real_files_is_recognised(shared: Path) -> None:
    names = ("powheg_hvq.lhe", "madgraph_zjets_mlm.lhe.gz", "pythia6_ttbar.lhe")
    campaign = plan(10, "1", lhe=[shared / "data" / n for n in names])
    powheg, mlm, ttbar = campaign.processes
    assert [p.name for p in campaign.processes] == ["powheg_hvq", "madgraph_zjets_mlm", "pythia6_ttbar"]
    assert {f"{name}:pTmaxMatch = 1" for name in ("SpaceShower", "TimeShower", "Vincia")} == {*powheg.shower_settings}
    assert mlm.shower_settings == ttbar.shower_settings == ()
    about_powheg, about_mlm = campaign.notes
    assert "SCALUP" in about_powheg
    assert "merging" in about_mlm


def test_events_of_amcatnlo_are_showered_as_they_were_made_for(tmp_path: Path) -> None:
    """Their header is that of MadGraph5_aMC@NLO's run card at next-to-leading order."""
    for shower, said in (("PYTHIA8", "global recoil"), ("HERWIGPP", "for HERWIGPP: what Pythia showers is not what")):
        header = f"<header>\n<MGRunCard>\n  {shower} = parton_shower\n 0 = ickkw\n</MGRunCard>\n</header>\n"
        campaign = plan(variations="1", lhe=[lhe_file(tmp_path / f"{shower}.lhe", 3, header)])
        [note], settings = campaign.notes, campaign.processes[0].shower_settings
        assert said in note
        assert ("TimeShower:globalRecoil = on" in settings) is (shower == "PYTHIA8")


def test_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = lhe_file(tmp_path / "events.lhe", 3)
    campaign = plan(variations="1", lhe=[path])
    check_files(campaign)
    lhe_file(path, 4)
    with pytest.raises(InputError, match="is not the file that the campaign was made from"):
        check_files(campaign)
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        check_files(campaign)
    check(campaign)  # a finished campaign can be looked at without its files


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    empty = lhe_file(tmp_path / "empty.lhe", 0)
    assert "holds no events" in refusal(variations="1", lhe=[empty])
    (tmp_path / "text.lhe").write_text("hello", encoding="utf-8")
    assert "holds no events" in refusal(variations="1", lhe=[tmp_path / "text.lhe"])
    assert "cannot read" in refusal(variations="1", lhe=[tmp_path / "none.lhe"])
    assert "cannot read" in refusal(variations="1", lhe=[tmp_path])
    (tmp_path / "sub").mkdir()
    same = [lhe_file(tmp_path / "a.lhe", 1), lhe_file(tmp_path / "sub" / "a.lhe", 2)]
    assert "process 'a' is there twice" in refusal(variations="1", lhe=same)
    good = lhe_file(tmp_path / "good.lhe", 2)
    assert "n_events is 0" in refusal(n_events=0, variations="1", lhe=[good])
    assert "n_events is -3" in refusal(n_events=-3, variations="1", lhe=[good])


@pytest.mark.parametrize(
    "change",
    [
        {"processes": (Process("events", lhe="/d\udcff/events.lhe", n_available=100),)},
        {"processes": (Process("events", hepmc="/d\udcff/events.hepmc", n_available=100),)},
        {"variations": (Variation("mine", hepmc="/d\udcff"),)},
        {"variations": (Variation("mine", external="/d\udcff/mine.sh {lhe} {hepmc}"),)},
    ],
)
def test_path_that_is_not_utf_8_is_refused_before_campaign_toml_is_written(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"'/d\\udcff.*' is not UTF-8") as raised:
        check(replace(a_campaign(), **change))
    assert "\n" not in str(raised.value)


def test_file_whose_name_could_not_be_stored_is_refused_while_planning(tmp_path: Path) -> None:
    # The process column holds ASCII.
    assert "événements" in refusal(variations="1", lhe=[lhe_file(tmp_path / "événements.lhe", 2)])
