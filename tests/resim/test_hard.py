"""Frozen hard processes: those that Pythia makes and those that come from real files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pylhe
import pytest

from hepfm.errors import GeneratorError, InputError
from hepfm.formats.lhe import read_lhe, write_lhe
from hepfm.resim.generator import Beams, make_pythia, pythia_seeds
from hepfm.resim.hard import (
    EVENT_COLUMNS,
    PARTICLE_COLUMNS,
    HardEvents,
    concatenate,
    freeze_lhe,
    generate,
    write_block,
)
from hepfm.resim.processes import PROCESSES

ARRAYS = ("offsets", *EVENT_COLUMNS, *PARTICLE_COLUMNS)
QUARKS = (1, 2, 3, 4, 5)
NEUTRINOS = (12, 14, 16)
POLES = {"H": 125.0, "W": 80.4, "Z": 91.19, "t": 173.0}


def assert_identical(first: HardEvents, second: HardEvents) -> None:
    for name in ARRAYS:
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


def outgoing(events: HardEvents) -> list[list[int]]:
    """Ids of the outgoing particles of each event."""
    return [[int(row[0]) for row in rows if row[1] == 1] for rows in events.particle_rows()]


def count(ids: list[int], kinds: tuple[int, ...]) -> int:
    return sum(abs(i) in kinds for i in ids)


def momentum_imbalance(events: HardEvents) -> np.ndarray:
    """Sum of the outgoing minus the incoming four-momenta over the incoming energy, shape (E, 4)."""
    sign = np.select([events.status == -1, events.status == 1], [-1.0, 1.0], 0.0)
    momenta = np.stack([events.px, events.py, events.pz, events.energy], axis=1)
    energy = np.add.reduceat(np.where(sign < 0, events.energy, 0.0), events.offsets[:-1])
    return np.add.reduceat(sign[:, None] * momenta, events.offsets[:-1]) / energy[:, None]


def invariant_mass(events: HardEvents) -> np.ndarray:
    squared = events.energy**2 - events.px**2 - events.py**2 - events.pz**2
    return np.sqrt(np.maximum(squared, 0.0))


def take_all(events: HardEvents) -> np.ndarray:
    return np.ones(events.n_events, bool)


def test_block_depends_on_its_arguments_alone(frozen: Callable[..., HardEvents]) -> None:
    process = PROCESSES["H4q"]

    def block(seed: int) -> HardEvents:
        return generate(process.settings, Beams(), seed, np.arange(30), take_all)

    first = block(11)
    frozen("Tbl")  # another generator at work in between
    assert_identical(block(11), first)
    assert block(11).cross_section == first.cross_section
    assert not np.array_equal(block(12).px[:50], first.px[:50])


def test_longer_block_of_the_same_seed_begins_with_the_shorter_one() -> None:
    settings = PROCESSES["Hbb"].settings
    short, long = (generate(settings, Beams(), 11, np.arange(n), take_all) for n in (20, 40))
    assert_identical(long.take(np.arange(20)), short)


@pytest.mark.parametrize("process", list(PROCESSES))
def test_frozen_events_conserve_momentum_and_have_two_incoming_partons(
    frozen: Callable[..., HardEvents], process: str
) -> None:
    events = frozen(process)
    assert np.abs(momentum_imbalance(events)).max() < 1e-9
    assert (np.add.reduceat(events.status == -1, events.offsets[:-1], dtype=int) == 2).all()
    assert (events.energy[events.status == -1] < 6500).all()
    # The decays conserve momentum, mother by mother.
    for rows in events.particle_rows():
        for number, mother in enumerate(rows, start=1):
            if mother[1] == 2:
                daughters = np.array([row[6:10] for row in rows if row[2] == number])
                np.testing.assert_allclose(daughters.sum(axis=0), mother[6:10], rtol=1e-7, atol=1e-5)


@pytest.mark.parametrize("process", list(PROCESSES))
def test_masses_are_those_of_the_four_momenta(frozen: Callable[..., HardEvents], process: str) -> None:
    events = frozen(process)
    # Of a light particle of high energy, the difference of squares keeps few digits.
    tolerance = 1e-6 * events.energy + 1e-6
    assert (np.abs(invariant_mass(events) - events.mass) < np.maximum(tolerance, 1e-3)).all()


@pytest.mark.parametrize("process", list(PROCESSES))
def test_ids_weights_and_beams_are_as_asked_for(frozen: Callable[..., HardEvents], process: str) -> None:
    events = frozen(process)
    assert events.event_id.tolist() == list(range(60))
    assert (events.weight == 1.0).all()
    assert events.weight_names == ()
    assert events.beams == Beams(2212, 2212, 6500.0, 6500.0)
    assert (events.scale > 50).all()


@pytest.mark.parametrize(
    ("process", "pdg_id", "pole", "width"),
    [
        ("QCD", 23, POLES["Z"], 2.5),
        ("Hbb", 25, POLES["H"], 0.1),
        ("Hbb", 23, POLES["Z"], 2.5),
        ("Hgg", 25, POLES["H"], 0.1),
        ("Zqq", 23, POLES["Z"], 2.5),
        ("Wqq", 24, POLES["W"], 2.1),
        ("Tbqq", 6, POLES["t"], 1.5),
        ("Tbl", 24, POLES["W"], 2.1),
    ],
)
def test_resonances_lie_at_their_pole(
    frozen: Callable[..., HardEvents], process: str, pdg_id: int, pole: float, width: float
) -> None:
    events = frozen(process)
    masses = invariant_mass(events)[(np.abs(events.pdg_id) == pdg_id) & (events.status == 2)]
    assert len(masses) >= 60
    assert abs(np.median(masses) - pole) < max(0.5 * width, 0.01)


def test_every_event_holds_the_decay_that_its_process_is_named_for(frozen: Callable[..., HardEvents]) -> None:
    expected: dict[str, Callable[[list[int]], bool]] = {
        "QCD": lambda ids: count(ids, (*QUARKS, 21)) == 1 and count(ids, NEUTRINOS) == 2,
        "Hbb": lambda ids: ids.count(5) == 1 and ids.count(-5) == 1 and count(ids, NEUTRINOS) == 2,
        "Hcc": lambda ids: ids.count(4) == 1 and ids.count(-4) == 1 and count(ids, NEUTRINOS) == 2,
        "Hgg": lambda ids: ids.count(21) == 2 and count(ids, NEUTRINOS) == 2,
        "H4q": lambda ids: count(ids, QUARKS) == 4 and count(ids, NEUTRINOS) == 2 and len(ids) == 6,
        "Hqql": lambda ids: (
            count(ids, QUARKS) == 2 and count(ids, (11, 13)) == 1 and count(ids, (15,)) == 0 and len(ids) == 6
        ),
        "Zqq": lambda ids: count(ids, QUARKS) == 2 and count(ids, NEUTRINOS) == 2 and len(ids) == 4,
        "Wqq": lambda ids: count(ids, QUARKS) == 2 and count(ids, NEUTRINOS) == 2 and len(ids) == 4,
        "Tbqq": lambda ids: count(ids, QUARKS) == 6 and count(ids, (5,)) >= 2 and len(ids) == 6,
        "Tbl": lambda ids: (
            count(ids, (5,)) == 2 and count(ids, (11, 13)) == 2 and count(ids, (15, 16)) == 0 and len(ids) == 6
        ),
    }
    assert expected.keys() == PROCESSES.keys()
    for process, holds in expected.items():
        assert all(map(holds, outgoing(frozen(process)))), process


def test_leptons_and_quarks_of_every_kind_appear(frozen: Callable[..., HardEvents]) -> None:
    leptons = {i for ids in outgoing(frozen("Hqql")) for i in ids if abs(i) in (11, 13)}
    assert leptons == {11, -11, 13, -13}
    quarks = {abs(i) for ids in outgoing(frozen("Zqq")) for i in ids if abs(i) in QUARKS}
    assert quarks == set(QUARKS)
    partons = {abs(i) for ids in outgoing(frozen("QCD")) for i in ids if abs(i) in (*QUARKS, 21)}
    assert {1, 2, 21} < partons


@pytest.mark.parametrize("process", ["Hbb", "Tbqq"])
def test_cross_section_is_that_of_pythia_run_directly(frozen: Callable[..., HardEvents], process: str) -> None:
    pythia = make_pythia(
        (
            *PROCESSES[process].settings,
            "PhaseSpace:pTHatMin = 350",
            "PartonLevel:all = off",
            "Beams:eCM = 13000",
            "Random:setSeed = on",
            "Random:seed = 4711",
        )
    )
    for _ in range(2000):
        pythia.next()
    info = pythia.infoPython()
    ours = frozen(process, 300).cross_section
    error = np.hypot(ours.error, 1e9 * info.sigmaErr())
    assert abs(ours.value - 1e9 * info.sigmaGen()) < 4 * error
    assert error < 0.1 * ours.value


def test_events_of_a_biased_phase_space_have_its_weights() -> None:
    """Pythia makes more of the rare ones, and weighs them with a power of their momentum."""
    biased = (
        "PhaseSpace:bias2Selection = on",
        "PhaseSpace:bias2SelectionPow = 4.",
        "PhaseSpace:bias2SelectionRef = 100.",
    )
    settings = ("HardQCD:all = on", "PhaseSpace:pTHatMin = 50.", *biased)
    events = generate(settings, Beams(), 5, np.arange(50), take_all)
    outgoing_pt = np.hypot(events.px, events.py)[events.status == 1].reshape(50, 2).mean(axis=1)
    # But for the masses of heavy quarks.
    np.testing.assert_allclose(events.weight * (outgoing_pt / 100) ** 4, 1, rtol=5e-3)
    assert events.weight.max() > 2 * events.weight.min()


def test_cross_section_counts_the_accepted_decays_only() -> None:
    process = PROCESSES["Hqql"]

    def lepton_and_quarks(events: HardEvents) -> np.ndarray:
        return np.array([count(ids, QUARKS) == 2 for ids in outgoing(events)])

    chosen = generate(process.settings, Beams(), 5, np.arange(400), lepton_and_quarks).cross_section
    every = generate(process.settings, Beams(), 6, np.arange(400), take_all).cross_section
    # W → five flavours of quarks or e, mu: 6 quark channels (3 colours each) and 2 leptons; mixed pairs are
    # 2 · 6 · 2 of 8 · 8, up to the QCD correction of 4 % to the quarks.
    quarks, leptons = 6 * 1.04, 2
    expected = 2 * quarks * leptons / (quarks + leptons) ** 2
    assert abs(chosen.value / every.value / expected - 1) < 0.15
    # Of 400 accepted events in 1,080 the share is known to 4 %, whatever Pythia's own error.
    binomial = np.sqrt((1 - expected) / 400)
    assert binomial < chosen.error / chosen.value < 2 * binomial
    assert every.error / every.value < binomial


def test_selection_that_no_event_passes_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(GeneratorError, match="only 0 of"):
        generate(
            PROCESSES["Hbb"].settings,
            Beams(),
            1,
            np.arange(1000),
            lambda events: np.zeros(events.n_events, bool),
        )


def test_taking_and_joining_events_keeps_each_whole(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Tbl")
    order = np.array([5, 0, 17, 5])
    taken = events.take(order)
    assert [taken.particle_rows()[i] for i in range(4)] == [events.particle_rows()[i] for i in order]
    assert taken.event_id.tolist() == order.tolist()
    halves = [events.take(np.arange(a, b)) for a, b in ((0, 25), (25, 25), (25, 60))]
    assert_identical(concatenate(halves), events)
    assert events.take(np.arange(0)).particle_rows() == []


# Real files, from outside.

N_FROZEN = {
    "madgraph5_pp_to_jj.lhe.gz": 150,
    "powheg_hvq.lhe": 6,
    "pythia6_ttbar.lhe": 100,
    "madgraph_zjets_mlm.lhe.gz": 150,
}
BEAMS = {
    "madgraph5_pp_to_jj.lhe.gz": Beams(2212, 2212, 6500.0, 6500.0),
    "powheg_hvq.lhe": Beams(2212, 2212, 2510.0, 2510.0),
    "pythia6_ttbar.lhe": Beams(2212, -2212, 980.0, 980.0),
    "madgraph_zjets_mlm.lhe.gz": Beams(2212, 2212, 3500.0, 3500.0),
}


def frozen_file(path: Path, n_events: int, block_events: int = 50, first_id: int = 1000) -> HardEvents:
    return concatenate(list(freeze_lhe(path, (), 3, range(first_id, first_id + n_events), block_events)))


@pytest.mark.parametrize("name", list(N_FROZEN))
def test_events_of_a_real_file_are_frozen_as_they_are(shared: Path, name: str) -> None:
    n_events, path = N_FROZEN[name], shared / "data" / name
    events = frozen_file(path, n_events)
    originals = [event for event, _ in zip(read_lhe(path)[1], range(n_events), strict=False)]
    assert events.event_id.tolist() == list(range(1000, 1000 + n_events))
    assert events.beams == BEAMS[name]
    assert events.weight.tolist() == [e.eventinfo.weight for e in originals]
    np.testing.assert_allclose(events.scale, [e.eventinfo.scale for e in originals], rtol=1e-12)
    assert np.abs(momentum_imbalance(events)).max() < 1e-6
    for rows, original in zip(events.particle_rows(), originals, strict=True):
        # Pythia orders the record by generation; the particles are the same.
        theirs = sorted((p.id, -1 if p.status == -1 else p.status) for p in original.particles)
        assert sorted((row[0], row[1]) for row in rows) == theirs
    # Pythia gives massless heavy quarks their mass, which moves momenta of events below some GeV.
    for rows, original in zip(events.particle_rows(), originals, strict=True):
        hard = {(p.id, round(p.px)): p for p in original.particles if p.status == 1 and np.hypot(p.px, p.py) > 20}
        for row in rows:
            other = hard.pop((row[0], round(row[6])), None)
            if row[1] == 1 and other is not None:
                assert np.hypot(row[6] - other.px, row[7] - other.py) < 0.5
        assert len(hard) <= 1  # a momentum that rounds differently


def test_negative_weights_of_powheg_stay_negative(shared: Path) -> None:
    events = frozen_file(shared / "data" / "powheg_hvq.lhe", 6)
    assert (events.weight < 0).sum() == 2
    assert events.weights.shape == (6, 45)
    assert np.isfinite(events.weights).all()
    assert (np.sign(events.weights[:, 0]) == np.sign(events.weight)).all()


def test_frozen_file_does_not_depend_on_the_size_of_the_blocks(shared: Path) -> None:
    path = shared / "data" / "pythia6_ttbar.lhe"
    small, large = (frozen_file(path, 100, block_events=n) for n in (7, 100))
    assert_identical(small, large)
    # The file has one estimate: its error does not shrink with the number of blocks.
    assert small.cross_section == large.cross_section
    assert large.cross_section.error == pytest.approx(np.hypot(0.5384128, 0.1062492))


def test_blocks_have_the_size_asked_for_and_stop_at_the_last_id(shared: Path) -> None:
    blocks = list(freeze_lhe(shared / "data" / "pythia6_ttbar.lhe", (), 3, range(5, 50), 20))
    assert [b.event_id.tolist() for b in blocks] == [
        list(range(5, 25)),
        list(range(25, 45)),
        list(range(45, 50)),
    ]


def without_decays(source: Path, path: Path, keep: tuple[int, ...]) -> None:
    """Write a copy of a file in which the particles `keep` are not decayed."""
    file, stream = read_lhe(source)
    events = []
    for event in stream:
        gone: set[int] = set()
        for number, p in enumerate(event.particles, start=1):
            mother = p.mother1
            if mother in gone or (mother > 2 and abs(event.particles[mother - 1].id) in keep):
                gone.add(number)
        kept = [p for number, p in enumerate(event.particles, start=1) if number not in gone]
        for p in kept:
            p.status = 1 if abs(p.id) in keep and p.status == 2 else p.status
        event.particles = kept
        event.eventinfo.nparticles = len(kept)
        events.append(event)
    write_lhe(path, file.init, events)


@pytest.fixture(scope="module")
def undecayed_tops(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lhe") / "tops.lhe.gz"
    without_decays(shared / "data" / "pythia6_ttbar.lhe", path, (6,))
    return path


def test_undecayed_tops_are_decayed_once_and_conserve_momentum(undecayed_tops: Path) -> None:
    assert all(len(e.particles) == 4 for e in read_lhe(undecayed_tops)[1])
    events = frozen_file(undecayed_tops, 100)
    assert np.abs(momentum_imbalance(events)).max() < 1e-6
    tops = np.abs(events.pdg_id) == 6
    assert (events.status[tops] == 2).all()
    assert tops.sum() == 200
    is_w = np.abs(events.pdg_id) == 24
    assert is_w.sum() == 200
    assert abs(np.median(invariant_mass(events)[is_w]) - POLES["W"]) < 1
    # Two thirds of the W decay to quarks.
    hadronic = sum(count(ids, (1, 2, 3, 4)) // 2 for ids in outgoing(events)) / 200
    assert 0.55 < hadronic < 0.8


def test_decays_of_undecayed_tops_do_not_depend_on_the_size_of_the_blocks(undecayed_tops: Path) -> None:
    whole = frozen_file(undecayed_tops, 60, block_events=60)
    assert_identical(frozen_file(undecayed_tops, 60, block_events=13), whole)
    assert_identical(frozen_file(undecayed_tops, 25, block_events=60), whole.take(np.arange(25)))


def test_decays_follow_the_campaign_seed_and_the_id(undecayed_tops: Path) -> None:
    blocks = [
        next(freeze_lhe(undecayed_tops, (), seed, range(first, first + 20), 20))
        for seed, first in ((3, 0), (4, 0), (3, 500))
    ]
    leptonic = [[count(ids, (11, 13, 15)) for ids in outgoing(b)] for b in blocks]
    assert leptonic[0] != leptonic[1]
    assert leptonic[0] != leptonic[2]


def test_decay_settings_of_the_file_are_obeyed(undecayed_tops: Path) -> None:
    settings = ("24:onMode = off", "24:onIfAny = 11")
    events = next(freeze_lhe(undecayed_tops, settings, 3, range(20), 20))
    assert all(count(ids, (11,)) == 2 and count(ids, (5,)) == 2 for ids in outgoing(events))


def test_event_that_pythia_cannot_use_is_left_out_and_its_id_stays_unused(tmp_path: Path, shared: Path) -> None:
    file, stream = read_lhe(shared / "data" / "pythia6_ttbar.lhe")
    events = [event for event, _ in zip(stream, range(20), strict=False)]
    events[7].particles[2].color1 = 999  # a colour line that ends nowhere
    path = tmp_path / "broken.lhe.gz"
    write_lhe(path, file.init, events)
    found = frozen_file(path, 20, first_id=0)
    assert found.event_id.tolist() == [i for i in range(20) if i != 7]
    whole = frozen_file(shared / "data" / "pythia6_ttbar.lhe", 20, first_id=0)
    assert_identical(found, whole.take(np.flatnonzero(whole.event_id != 7)))


def test_damaged_file_gives_its_good_blocks_and_then_names_the_event(tmp_path: Path, shared: Path) -> None:
    text = (shared / "data" / "pythia6_ttbar.lhe").read_text(encoding="utf-8")
    path = tmp_path / "cut.lhe"
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    n_whole = text[: len(text) // 2].count("</event>")
    blocks = []
    with pytest.raises(InputError, match=f"event {n_whole + 1} "):
        blocks.extend(freeze_lhe(path, (), 1, range(100), 10))
    assert [b.n_events for b in blocks] == [10] * (n_whole // 10)


def test_freeze_seeds_differ_from_those_of_every_view() -> None:
    ids = np.arange(1000)
    freeze = pythia_seeds(3, "freeze", ids)
    assert not any((freeze == pythia_seeds(3, stage, ids)).any() for stage in ("nominal", "reseed", "fsr-up"))


def test_particles_of_a_file_event_keep_their_mothers(shared: Path) -> None:
    for rows in frozen_file(shared / "data" / "pythia6_ttbar.lhe", 20).particle_rows():
        for row in rows:
            if row[1] == -1:
                assert row[2:4] == (0, 0)
            elif abs(row[0]) == 24:
                assert rows[row[2] - 1][0] == 6 * np.sign(row[0])
            elif row[2] > 2:
                assert rows[row[2] - 1][1] == 2


def test_init_of_the_written_file_says_how_events_are_weighted(tmp_path: Path, shared: Path) -> None:
    for name, strategy in (("powheg_hvq.lhe", -4), ("pythia6_ttbar.lhe", 3)):
        write_block(tmp_path / f"{name}.gz", frozen_file(shared / "data" / name, 6))
        file = pylhe.LHEFile.fromfile(tmp_path / f"{name}.gz")
        assert file.init.initInfo.weightingStrategy == strategy
