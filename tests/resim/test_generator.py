"""Pythia's settings, seeds and events fed from memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepfm.errors import GeneratorError, InputError
from hepfm.resim.generator import (
    Beams,
    EventFeed,
    check_settings,
    detector_seeds,
    make_pythia,
    pythia_seeds,
)
from hepfm.resim.processes import PROCESSES
from hepfm.resim.variations import VARIATIONS

MAX_PYTHIA_SEED = 900_000_000


def refusal(line: str) -> str:
    """What check_settings says to one setting."""
    with pytest.raises(InputError) as raised:
        check_settings([line], "variation 'mine'")
    message = str(raised.value)
    assert message.startswith("variation 'mine': ")
    assert line in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", list(VARIATIONS))
def test_settings_of_every_variation_are_valid(name: str) -> None:
    check_settings(VARIATIONS[name].settings, name)


@pytest.mark.parametrize("name", list(PROCESSES))
def test_settings_of_every_process_are_valid(name: str) -> None:
    check_settings((*PROCESSES[name].settings, *PROCESSES[name].shower_settings), name)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("TimeShower:renormMultFacc = 0.5", "TimeShower:renormMultFac"),
        ("TimeShower:renormMulFac = 0.5", "TimeShower:renormMultFac"),
        ("StringZ:alund2 = 0.5", "StringZ:aLund"),
        ("PartonLevel:MPIs = off", "PartonLevel:MPI"),
        ("PDF:pset2 = 13", "PDF:pSet"),
    ],
)
def test_misspelt_setting_is_refused_with_the_one_that_was_meant(line: str, meant: str) -> None:
    assert f"Did you mean '{meant}'?" in refusal(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("NoSuchGroup:setting = 1", "unknown to Pythia"),
        ("TimeShower:renormMultFac = 1000", "out of range: expected 0.1 to 10"),
        ("TimeShower:renormMultFac = 0", "out of range"),
        ("TimeShower:renormMultFac = -1", "out of range"),
        ("TimeShower:renormMultFac = nan", "out of range"),
        ("TimeShower:renormMultFac = two", "expects a number"),
        ("TimeShower:renormMultFac = 0.5.5", "expects a number"),
        ("TimeShower:alphaSorder = 7", "out of range"),
        ("TimeShower:alphaSorder = 1.5", "expects an integer"),
        ("PartonLevel:MPI = maybe", "expects on or off"),
        ("PartonLevel:MPI = 2", "expects on or off"),
        ("PartonLevel:MPI", "'Name = value'"),
        ("PartonLevel:MPI =", "'Name = value'"),
        ("= off", "unknown to Pythia"),
        ("", "'Name = value'"),
        ("25:noSuchProperty = 3", "refused by Pythia"),
    ],
)
def test_setting_that_pythia_would_not_take_is_refused(line: str, said: str) -> None:
    assert said in refusal(line)


@pytest.mark.parametrize(
    "line",
    [
        "Beams:eCM = 14000",
        "beams:ecm = 14000",
        "Random:seed = 3",
        "RANDOM:seed = 3",
        "Main:numberOfEvents = 3",
        "LesHouches:setQuarkMass = 2",
        "Print:quiet = off",
        "Next:numberShowEvent = 1",
        "Init:showProcesses = on",
        "ProcessLevel:resonanceDecays = off",
        "PartonLevel:all = off",
    ],
)
def test_settings_that_would_break_the_frozen_event_belong_to_hepfm(line: str) -> None:
    assert "belongs to hepfm" in refusal(line)


@pytest.mark.parametrize(
    "line",
    ["Enhancements:doEnhance = on", "EnhancedSplittings:List = {fsr:G2QQ=20.0}", "Vincia:enhanceFacBottom = 50."],
)
def test_settings_that_weigh_events_are_refused(line: str) -> None:
    """A view's weight is that of its hard process."""
    assert "a view has no weight of its own" in refusal(line)


def test_refused_setting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for line in (
        "TimeShower:renormMultFacc = 0.5",
        "TimeShower:renormMultFac = 1000",
        "PartonLevel:MPI = maybe",
        "25:noSuchProperty = 3",
    ):
        with pytest.raises(InputError):
            check_settings([line], "test")
    assert capfd.readouterr() == ("", "")


def test_first_wrong_setting_of_several_is_named() -> None:
    with pytest.raises(InputError, match="NoSuch:one"):
        check_settings(["PartonLevel:MPI = off", "NoSuch:one = 1", "NoSuch:two = 2"], "test")


def test_generator_starts_silently(capfd: pytest.CaptureFixture[str]) -> None:
    feed = EventFeed(Beams())
    pythia = make_pythia((), feed)
    assert not pythia.next()  # nothing to read
    assert capfd.readouterr() == ("", "")


def test_generator_that_cannot_start_is_one_clear_error() -> None:
    with pytest.raises(GeneratorError, match="refuses the setting 'No:such = 1'"):
        make_pythia(("No:such = 1",))
    with pytest.raises(GeneratorError, match="cannot start"):
        make_pythia(("HardQCD:all = on", "Beams:eCM = 1.0"))


def test_seeds_are_what_they_were_when_the_first_datasets_were_made() -> None:
    # Pinned: published datasets can be reproduced only as long as these numbers stay.
    ids = np.array([0, 1, 2, 10**6, 10**12])
    assert pythia_seeds(1, "nominal", ids).tolist() == [316_848_330, 873_078_872, 529_309_451, 281_715_588, 873_403_961]
    assert pythia_seeds(1, "nominal", ids, attempt=1).tolist() == [
        217_275_789,
        773_506_331,
        429_736_910,
        182_143_047,
        773_831_420,
    ]
    assert detector_seeds(1, "nominal", ids).tolist() == [
        3_410_212_350_196_283_956,
        14_810_927_169_519_482_441,
        7_764_897_915_133_129_310,
        3_202_684_539_657_841_012,
        1_470_503_139_707_963_956,
    ]


def test_no_two_events_of_a_stage_share_a_seed() -> None:
    ids = np.concatenate([np.arange(10**5), 10**8 + np.arange(10**5), np.arange(10**6, 10**8, 1009)])
    assert len(np.unique(pythia_seeds(1, "nominal", ids))) == len(ids)
    assert len(np.unique(detector_seeds(1, "nominal", ids))) == len(ids)


@given(
    seed=st.integers(0, 2**63 - 1),
    stage=st.text(max_size=20),
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
    attempt=st.integers(0, 9),
)
def test_seeds_are_pure_and_within_the_range_of_the_generators(
    seed: int, stage: str, ids: list[int], attempt: int
) -> None:
    event_id = np.array(ids, np.int64)
    seeds = pythia_seeds(seed, stage, event_id, attempt)
    assert seeds.min() >= 1
    assert seeds.max() <= MAX_PYTHIA_SEED
    for i in range(len(ids)):
        assert pythia_seeds(seed, stage, event_id[i : i + 1], attempt)[0] == seeds[i]
    smears = detector_seeds(seed, stage, event_id)
    assert smears.dtype == np.uint64
    assert detector_seeds(seed, stage, event_id[:1])[0] == smears[0]


def test_campaign_stage_and_attempt_all_change_the_seeds() -> None:
    ids = np.arange(1000)
    reference = pythia_seeds(1, "nominal", ids)
    for other in (
        pythia_seeds(2, "nominal", ids),
        pythia_seeds(1, "reseed", ids),
        pythia_seeds(1, "nominal", ids, attempt=1),
        detector_seeds(1, "nominal", ids),
    ):
        assert not (other == reference).any()
    assert not (detector_seeds(1, "nominal", ids) == detector_seeds(2, "nominal", ids)).any()
    assert not (detector_seeds(1, "nominal", ids) == detector_seeds(1, "reseed", ids)).any()


def test_every_event_gets_its_own_random_numbers_from_its_seed() -> None:
    class Recorder(EventFeed):
        """Notes the first random number after each event was given."""

        def setEvent(self, idProcess: int = 0) -> bool:  # noqa: N802, N803
            given_one = super().setEvent(idProcess)
            if given_one:
                first_numbers.append(self.pythia.rndm.flat())
            return given_one

    rows = [
        (21, -1, 0, 0, 501, 502, 0.0, 0.0, 500.0, 500.0, 0.0, 0.0, 9.0),
        (21, -1, 0, 0, 502, 501, 0.0, 0.0, -500.0, 500.0, 0.0, 0.0, 9.0),
        (1, 1, 1, 2, 503, 0, 300.0, 400.0, 0.0, 500.0, 0.0, 0.0, 9.0),
        (-1, 1, 1, 2, 0, 503, -300.0, -400.0, 0.0, 500.0, 0.0, 0.0, 9.0),
    ]
    first_numbers: list[float] = []
    feed = Recorder(Beams())
    pythia = make_pythia(("PartonLevel:all = off",), feed)
    feed.load([(seed, (100.0, 0.0078, 0.118), rows) for seed in (5, 6, 5, 900_000_000)])
    for _ in range(4):
        assert pythia.next()
    assert not pythia.next()
    assert first_numbers[0] == first_numbers[2]
    assert len(set(first_numbers)) == 3
