"""The shower: one outcome an event, whatever is around it; and what it must conserve."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from hepfm.resim.generator import Beams, pythia_seeds
from hepfm.resim.hard import (
    EVENT_COLUMNS,
    PARTICLE_COLUMNS,
    HardEvents,
    feed_entries,
    freeze_lhe,
    generate,
)
from hepfm.resim.particles import Particles
from hepfm.resim.planning import _BELOW_SCALUP, _SUBTRACTED, plan
from hepfm.resim.shower import Showered, _first_branching, shower, start_generator
from hepfm.resim.variations import VARIATIONS
from hepfm.resim.views import simulate_views
from hepfm.schema import JET_FLAVOURS

QUICK = ("PartonLevel:MPI = off",)
# Asking for momentum to balance to the last digits makes Pythia reject most events at first, at random.
PICKY = (*QUICK, "Check:epTolErr = 3e-14", "Check:epTolWarn = 3e-14")
PARTICLE_ARRAYS = [f.name for f in fields(Particles)]

G, GQQ, GCC, GBB, GGG = (JET_FLAVOURS[name] for name in ("g", "gqq", "gcc", "gbb", "ggg"))


def assert_identical(first: Particles, second: Particles) -> None:
    for name in PARTICLE_ARRAYS:
        a, b = getattr(first, name), getattr(second, name)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name


def assert_same_views(first: Showered, second: Showered) -> None:
    assert first.rows.tolist() == second.rows.tolist()
    assert_identical(first.particles, second.particles)
    assert first.gluons.flavour.tolist() == second.gluons.flavour.tolist()
    assert first.gluons.offsets.tolist() == second.gluons.offsets.tolist()


def event_sums(particles: Particles, *names: str) -> np.ndarray:
    columns = np.stack([getattr(particles, name).astype(float) for name in names], axis=1)
    return np.add.reduceat(columns, particles.offsets[:-1])


def damaged(events: HardEvents, row: int, kind: str) -> HardEvents:
    """Frozen events of which `row` cannot be: a colour line ends nowhere, momentum is missing, ..."""
    columns = {name: getattr(events, name).copy() for name in PARTICLE_COLUMNS}
    in_event = np.arange(events.offsets[row], events.offsets[row + 1])
    coloured = in_event[(events.status[in_event] == 1) & ((events.colour1 + events.colour2)[in_event] > 0)][0]
    if kind == "colour":
        columns["colour1"][coloured] = 777
    elif kind == "momentum":
        columns["px"][coloured] += 500.0
    elif kind == "beam":
        columns["pz"][in_event[0]] = columns["energy"][in_event[0]] = 9000.0
    elif kind == "flavour":
        columns["pdg_id"][coloured] = 22
    elif kind == "nan":
        columns["px"][coloured] = np.nan
    return replace(events, **columns)


@pytest.mark.parametrize(
    ("variation", "n_events"),
    [("nominal", 12), ("colour-reconnection", 8), ("mpi-off", 60), ("vincia", 4)],
)
def test_event_alone_is_the_event_in_a_batch_to_the_last_bit(
    frozen: Callable[..., HardEvents], variation: str, n_events: int
) -> None:
    settings = VARIATIONS[variation].settings
    events = frozen("Hbb").take(np.arange(n_events))
    batch = shower(events, settings, 1, variation)
    assert batch.rows.tolist() == list(range(n_events))
    for row in (n_events - 1, 0, n_events // 2):
        alone = shower(events.take(np.array([row])), settings, 1, variation)
        assert_identical(alone.particles, batch.particles.take(np.array([row])))


def test_order_of_the_events_does_not_matter(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("Tbqq").take(np.arange(20))
    order = np.random.default_rng(1).permutation(20)
    straight = shower(events, QUICK, 1, "quick")
    shuffled = shower(events.take(order), QUICK, 1, "quick")
    assert_identical(shuffled.particles, straight.particles.take(order))


def test_other_variations_at_work_in_the_same_process_do_not_matter(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("QCD").take(np.arange(10))
    first = shower(events, QUICK, 1, "quick")
    shower(frozen("Hbb").take(np.arange(3)), VARIATIONS["cp5"].settings, 1, "cp5")
    shower(frozen("Hbb").take(np.arange(3)), QUICK, 2, "quick")
    assert_same_views(shower(events, QUICK, 1, "quick"), first)


def test_freshly_started_generator_gives_the_same_views(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("QCD").take(np.arange(10))
    shower(frozen("Tbl").take(np.arange(7)), QUICK, 1, "quick")
    used = shower(events, QUICK, 1, "quick")
    start_generator.cache_clear()
    assert_same_views(shower(events, QUICK, 1, "quick"), used)


@pytest.mark.parametrize(("seed", "stage", "first_id"), [(2, "quick", 0), (1, "reseed", 0), (1, "quick", 1000)])
def test_seed_stage_and_id_each_give_another_view(
    frozen: Callable[..., HardEvents], seed: int, stage: str, first_id: int
) -> None:
    events = frozen("Hbb").take(np.arange(10))
    reference = shower(events, QUICK, 1, "quick").particles
    moved = replace(events, event_id=events.event_id + first_id)
    other = shower(moved, QUICK, seed, stage).particles
    for row in np.arange(10)[:, None]:
        a, b = reference.take(row), other.take(row)
        assert a.px[:5].tolist() != b.px[:5].tolist()


@pytest.mark.parametrize("variation", ["nominal", "cp5", "vincia", "mpi-off"])
def test_final_state_has_the_momentum_and_charge_of_the_beams(
    frozen: Callable[..., HardEvents], variation: str
) -> None:
    n_events = 4 if variation == "vincia" else 20
    events = frozen("Tbqq").take(np.arange(n_events))
    particles = shower(events, VARIATIONS[variation].settings, 1, variation).particles
    total = event_sums(particles, "px", "py", "pz", "energy", "charge")
    # Pythia checks the balance of an event to a few permille of a permille.
    np.testing.assert_allclose(total[:, :3], 0.0, atol=0.05)
    np.testing.assert_allclose(total[:, 3], 13_000.0, atol=0.05)
    assert total[:, 4].tolist() == [2.0] * n_events


def test_beams_of_a_file_are_those_of_the_final_state(shared: Path) -> None:
    events = next(freeze_lhe(shared / "data" / "pythia6_ttbar.lhe", (), 1, range(20), 20))
    assert events.beams == Beams(2212, -2212, 980.0, 980.0)
    particles = shower(events, QUICK, 1, "quick").particles
    total = event_sums(particles, "px", "py", "pz", "energy", "charge")
    np.testing.assert_allclose(total[:, :3], 0.0, atol=0.05)
    np.testing.assert_allclose(total[:, 3], 1960.0, atol=0.05)
    assert total[:, 4].tolist() == [0.0] * 20


@pytest.mark.parametrize(
    "name", ["madgraph5_pp_to_jj.lhe.gz", "powheg_hvq.lhe", "pythia6_ttbar.lhe", "madgraph_zjets_mlm.lhe.gz"]
)
def test_events_of_real_files_are_showered_whole(shared: Path, name: str) -> None:
    process = plan(6, "mpi-off", lhe=[shared / "data" / name]).processes[0]
    events = next(freeze_lhe(shared / "data" / name, process.settings, 1, range(30), 30))
    made = shower(events, (*QUICK, *process.shower_settings), 1, "quick")
    assert made.rows.tolist() == list(range(events.n_events))
    energy = event_sums(made.particles, "energy")[:, 0]
    np.testing.assert_allclose(energy, events.beams.energy_a + events.beams.energy_b, rtol=1e-5)


@pytest.mark.parametrize("variation", ["nominal", "vincia"])
@pytest.mark.parametrize("matched", [_BELOW_SCALUP, _SUBTRACTED], ids=["POWHEG", "aMC@NLO"])
def test_no_emission_is_harder_than_a_generator_left_room_for(
    frozen: Callable[..., HardEvents], variation: str, matched: tuple[str, ...]
) -> None:
    """The pair of H and Z has no transverse momentum but from what is emitted."""
    events = frozen("Hbb", 40)
    events = replace(events, scale=np.full(events.n_events, 10.0))

    def hardest(settings: tuple[str, ...]) -> float:
        quiet = (*QUICK, "BeamRemnants:primordialKT = off", *settings, *VARIATIONS[variation].settings)
        pythia, feed, _ = start_generator(quiet, events.beams)
        feed.load(feed_entries(events, pythia_seeds(1, "quick", events.event_id)))
        found = []
        for _ in range(events.n_events):
            assert pythia.next()
            last = {abs(p.id()): p for p in pythia.event if abs(p.id()) in (23, 25)}
            found.append(np.hypot(last[23].px() + last[25].px(), last[23].py() + last[25].py()))
        return float(max(found))

    assert hardest(matched) < 25 < 50 < hardest(())  # of several emissions together


def test_frozen_events_are_left_as_they_were(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("H4q").take(np.arange(10))
    before = {name: getattr(events, name).tobytes() for name in (*EVENT_COLUMNS, *PARTICLE_COLUMNS)}
    shower(events, QUICK, 1, "quick")
    shower(events, VARIATIONS["fsr-up"].settings, 1, "fsr-up")
    assert {name: getattr(events, name).tobytes() for name in before} == before


@pytest.mark.parametrize("process", ["QCD", "H4q", "Tbl"])
def test_pythia_takes_the_frozen_particles_as_they_are(frozen: Callable[..., HardEvents], process: str) -> None:
    events = frozen(process).take(np.arange(10))
    pythia, feed, _ = start_generator(QUICK, events.beams)
    feed.load(feed_entries(events, pythia_seeds(1, "quick", events.event_id)))
    for rows in events.particle_rows():
        assert pythia.next()
        taken = list(pythia.process)[3:]
        assert [p.id() for p in taken] == [row[0] for row in rows]
        assert [(p.px(), p.py()) for p in taken] == [row[6:8] for row in rows]
        np.testing.assert_allclose([(p.pz(), p.e()) for p in taken], [row[8:10] for row in rows], rtol=1e-6, atol=1e-6)


def test_no_events_give_no_particles(frozen: Callable[..., HardEvents]) -> None:
    none = shower(frozen("Hbb").take(np.arange(0)), QUICK, 1, "quick")
    some = shower(frozen("Hbb").take(np.arange(1)), QUICK, 1, "quick")
    assert none.rows.tolist() == []
    assert none.particles.n_events == none.gluons.n_events == 0
    for name in PARTICLE_ARRAYS:
        assert getattr(none.particles, name).dtype == getattr(some.particles, name).dtype


# Events that Pythia rejects.


@pytest.mark.parametrize("kind", ["colour", "momentum", "beam", "flavour", "nan"])
@pytest.mark.parametrize("row", [0, 7, 19])
def test_rejected_event_is_missing_and_the_others_stay_aligned(
    frozen: Callable[..., HardEvents], kind: str, row: int
) -> None:
    events = frozen("QCD").take(np.arange(20))
    sound = shower(events, QUICK, 1, "quick")
    others = np.delete(np.arange(20), row)
    made = shower(damaged(events, row, kind), QUICK, 1, "quick")
    assert made.rows.tolist() == others.tolist()
    assert made.particles.n_events == made.gluons.n_events == 19
    assert_identical(made.particles, sound.particles.take(others))
    assert made.n_retried == 4  # five attempts for this one


def test_several_rejected_events_across_batches_are_missing(frozen: Callable[..., HardEvents]) -> None:
    events = frozen("QCD")
    sound = shower(events, QUICK, 1, "quick")
    bad = (0, 1, 30, 48, 49, 50, 59)
    broken = events
    for row in bad:
        broken = damaged(broken, row, "colour")
    made = shower(broken, QUICK, 1, "quick")
    others = np.delete(np.arange(60), bad)
    assert made.rows.tolist() == others.tolist()
    assert_identical(made.particles, sound.particles.take(others))


def test_batch_of_rejected_events_gives_nothing_and_the_next_one_is_sound(
    frozen: Callable[..., HardEvents],
) -> None:
    events = frozen("QCD").take(np.arange(2))
    broken = damaged(damaged(events, 0, "colour"), 1, "colour")
    made = shower(broken, QUICK, 1, "quick")
    assert made.rows.tolist() == []
    assert made.particles.n_events == made.gluons.n_events == 0
    assert made.n_retried == 8
    assert shower(events, QUICK, 1, "quick").rows.tolist() == [0, 1]


def test_event_that_fails_once_is_tried_again_with_other_random_numbers(
    frozen: Callable[..., HardEvents],
) -> None:
    events = frozen("QCD").take(np.arange(20))
    loose = shower(events, QUICK, 1, "picky")
    picky = shower(events, PICKY, 1, "picky")
    same = [
        np.array_equal(picky.particles.take(np.array([i])).px, loose.particles.take(np.array([row])).px)
        for i, row in enumerate(picky.rows)
    ]
    assert picky.n_retried > 0
    assert any(same), "some events pass at the first attempt, and are what they would have been"
    assert not all(same), "some pass only when tried again"
    # The outcome of a retried event does not depend on its neighbours either.
    for i, row in enumerate(picky.rows):
        if not same[i]:
            alone = shower(events.take(np.array([row])), PICKY, 1, "picky")
            assert_identical(alone.particles, picky.particles.take(np.array([i])))


def test_rejected_events_are_counted_and_leave_no_rows(frozen: Callable[..., HardEvents]) -> None:
    campaign = plan(20, "mpi-off", "Hbb", seed=1)
    events = frozen("Hbb").take(np.arange(20))
    sound = simulate_views(events, campaign, 0, [0])[0].table
    [made] = simulate_views(damaged(events, 7, "colour"), campaign, 0, [0])
    table, counts = made.table, made.counts
    assert counts.missing == [7]
    assert counts.n_retried == 4
    expected = sound.select(sound.columns["event_id"] != 7)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(table.columns[name], values)
    for name, values in expected.constituents.items():
        np.testing.assert_array_equal(table.constituents[name], values)
    assert counts.n_without_jet == 19 - len(np.unique(table.columns["event_id"]))


def test_view_of_rejected_events_alone_is_empty_and_counted(frozen: Callable[..., HardEvents]) -> None:
    campaign = plan(20, "mpi-off", "Hbb", seed=1)
    events = damaged(frozen("Hbb").take(np.arange(1)), 0, "colour")
    [made] = simulate_views(events, campaign, 0, [0])
    table, counts = made.table, made.counts
    table.validate(complete=True)
    assert table.n_jets == 0
    assert counts.missing == [0]
    assert counts.n_without_jet == 0


# Physics.


def test_particles_are_stable_on_the_way_to_the_detector(frozen: Callable[..., HardEvents]) -> None:
    particles = shower(frozen("Hbb"), QUICK, 1, "quick").particles
    kinds = set(np.abs(particles.pdg_id).tolist())
    assert {22, 211, 321, 130, 310, 2212, 2112, 3122} <= kinds
    # Decayed within 10 mm: pi0, eta, charm, bottom, tau.
    assert not kinds & {111, 221, 411, 421, 511, 521, 531, 15}
    np.testing.assert_allclose(
        particles.energy**2,
        particles.px**2 + particles.py**2 + particles.pz**2 + particles.mass**2,
        rtol=1e-6,
        atol=1e-4,
    )


def test_bottom_hadrons_decay_some_millimetres_away(frozen: Callable[..., HardEvents]) -> None:
    distance = {}
    for process in ("Hbb", "Hgg"):
        particles = shower(frozen(process), QUICK, 1, "quick").particles
        charged_pion = np.abs(particles.pdg_id) == 211
        distance[process] = np.hypot(particles.x, particles.y)[charged_pion]
    displaced = {process: np.mean((d > 0.1) & (d < 20)) for process, d in distance.items()}
    assert displaced["Hbb"] > 2 * displaced["Hgg"]
    assert np.median(distance["Hgg"]) == 0.0


# Gluons.


@pytest.fixture(scope="module")
def gluon_pairs() -> HardEvents:
    """gg → gg above 350 GeV."""
    settings = ("HardQCD:gg2gg = on", "PhaseSpace:pTHatMin = 350")
    return generate(settings, Beams(), 5, np.arange(100), lambda events: np.ones(events.n_events, bool))


def test_more_radiation_gives_more_particles(gluon_pairs: HardEvents) -> None:
    counts = {
        name: shower(gluon_pairs, (*VARIATIONS[name].settings, *QUICK), 1, name).particles.counts
        for name in ("fsr-up", "fsr-down")
    }
    error = np.hypot(*(np.std(c) / np.sqrt(len(c)) for c in counts.values()))
    assert counts["fsr-up"].mean() - counts["fsr-down"].mean() > 3 * error


@pytest.mark.parametrize("settings", [QUICK, (*QUICK, *VARIATIONS["vincia"].settings)], ids=["default", "vincia"])
def test_most_gluons_split_into_gluons_and_some_into_quarks(gluon_pairs: HardEvents, settings: tuple[str, ...]) -> None:
    gluons = shower(gluon_pairs, settings, 1, "quick").gluons
    assert gluons.counts.tolist() == [2] * 100
    share = {code: float(np.mean(gluons.flavour == code)) for code in (G, GQQ, GCC, GBB, GGG)}
    assert sum(share.values()) == pytest.approx(1.0)
    assert share[GGG] > 0.6
    assert 0.01 < share[GQQ] + share[GCC] + share[GBB] < 0.3
    assert share[GCC] + share[GBB] > 0
    assert share[G] < 0.3


@pytest.mark.parametrize(
    ("pair", "z", "distance", "flavour"),
    [
        ((5, -5), 0.3, 0.5, GBB),
        ((-4, 4), 0.3, 0.5, GCC),
        ((5, -5), 0.3, 1.0, G),  # no jet of R = 0.8 holds both
        ((5, -5), 0.05, 0.5, G),
        ((21, 21), 0.3, 0.5, GGG),
        ((21, 21), 0.05, 0.5, GQQ),  # the harder gluon's branching is the first one, then
        ((21, 21), 0.3, 1.0, GQQ),
    ],
)
def test_flavour_of_a_gluon_is_that_of_its_first_resolved_branching(
    pair: tuple[int, int], z: float, distance: float, flavour: int
) -> None:
    """A gluon of 100 GeV branches to a pair, whose harder particle branches to a resolved pair of light quarks."""
    harder = 100 * (1 - z)
    pt = np.array([100, harder, 100 * z, harder / 2, harder / 2])
    phi = np.array([0, 0, distance, 0.1, -0.1])
    pdg_id = np.array([21, *pair, 1, -1], np.int32)
    status = np.array([-23, -51, 51, 51, 51], np.int32)
    children = np.array([[1, 3, 0, 0, 0], [2, 4, 0, 0, 0]], np.int32)
    found = _first_branching(0, 0, pdg_id, status, *children, pt * np.cos(phi), pt * np.sin(phi), np.zeros(5))
    assert found == flavour


@pytest.mark.parametrize("process", ["QCD", "Hgg", "Hbb"])
def test_gluons_are_counted_as_in_the_frozen_events(frozen: Callable[..., HardEvents], process: str) -> None:
    events = frozen(process)
    expected = [
        sum(row[0] == 21 and row[1] == 1 and rows[row[2] - 1][1] == -1 for row in rows)
        for rows in events.particle_rows()
    ]
    gluons = shower(events, QUICK, 1, "quick").gluons
    assert gluons.counts.tolist() == expected
    assert sum(expected) > 0 if process == "QCD" else sum(expected) == 0


def test_gluons_of_real_events_are_counted_as_in_the_file(shared: Path) -> None:
    events = next(freeze_lhe(shared / "data" / "madgraph5_pp_to_jj.lhe.gz", (), 1, range(50), 50))
    expected = [sum(row[0] == 21 and row[1] == 1 for row in rows) for rows in events.particle_rows()]
    assert set(expected) == {0, 1, 2}
    assert shower(events, QUICK, 1, "quick").gluons.counts.tolist() == expected
