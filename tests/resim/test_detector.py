import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from detector_samples import REFERENCE, events, gun, needs_reference, one_event, reference_particles, seeds

from hepfm.errors import InputError
from hepfm.resim.detector import DETECTORS, Detector, simulate
from hepfm.resim.detector.simulation import reconstruct
from hepfm.resim.particles import Candidates, Particles

EVERY_DETECTOR = pytest.mark.parametrize("detector", ["none", "cms", "jetclass"])


def crowd(n_events=40, n_particles=60, seed=5):
    """Events of hadrons, photons and leptons, crammed into two narrow jets."""
    rng = np.random.default_rng(seed)
    n = n_events * n_particles
    kinds = np.array([(211, 1, 0.1396), (-211, -1, 0.1396), (22, 0, 0.0), (130, 0, 0.4976), (11, -1, 5.1e-4),
                      (-13, 1, 0.1057), (12, 0, 0.0), (3122, 0, 1.1157)])  # fmt: skip
    pdg_id, charge, mass = kinds[rng.integers(0, len(kinds), n)].T
    particles = gun(
        pdg_id,
        rng.exponential(8.0, n),
        rng.choice([0.7, -1.4], n) + 0.2 * rng.standard_normal(n),
        rng.choice([0.0, 3.0], n) + 0.2 * rng.standard_normal(n),
        charge=charge,
        mass=mass,
        z=rng.normal(0.0, 5.0, n),
    )
    return dataclasses.replace(particles, offsets=np.arange(n_events + 1) * n_particles)


def assert_same(a, b):
    for field in dataclasses.fields(Candidates):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


@EVERY_DETECTOR
def test_an_event_alone_is_the_event_in_its_batch_to_the_last_bit(detector):
    particles = crowd()
    batch = simulate(particles, detector, seeds(40))
    for i in (0, 17, 39):
        assert_same(simulate(events(particles, [i]), detector, seeds(40)[[i]]), events(batch, [i]))


@EVERY_DETECTOR
def test_the_order_of_events_does_not_matter(detector):
    particles, order = crowd(), np.random.default_rng(1).permutation(40)
    shuffled = simulate(events(particles, order), detector, seeds(40)[order])
    assert_same(shuffled, events(simulate(particles, detector, seeds(40)), order))


def test_threads_do_not_disturb_each_other():
    particles = crowd()
    alone = simulate(particles, "cms", seeds(40))
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: simulate(particles, "cms", seeds(40)), range(8)):
            assert_same(together, alone)


@pytest.mark.parametrize("detector", ["cms", "jetclass"])
def test_different_seeds_give_different_measurements(detector):
    particles = crowd()
    first, second = (simulate(particles, detector, seeds(40, start)).energy.sum() for start in (0, 40))
    assert first != second
    assert first == pytest.approx(second, rel=0.1)


@EVERY_DETECTOR
def test_events_without_particles_stay_in_place(detector):
    filled = crowd(n_events=1)
    n = filled.offsets[-1]
    particles = dataclasses.replace(filled, offsets=np.array([0, 0, n, n]))
    out = simulate(particles, detector, seeds(3))
    assert out.counts[0] == out.counts[2] == 0 < out.counts[1]


@EVERY_DETECTOR
@pytest.mark.parametrize("n_events", [0, 3])
def test_no_particles_at_all_make_no_candidates(detector, n_events):
    empty = {f.name: getattr(crowd(1), f.name)[:0] for f in dataclasses.fields(Particles) if f.name != "offsets"}
    out = simulate(Particles(offsets=np.zeros(n_events + 1, np.int64), **empty), detector, seeds(n_events))
    assert out.n_events == n_events
    assert len(out.px) == 0


@EVERY_DETECTOR
def test_candidates_have_the_promised_types_and_only_finite_numbers(detector):
    particles = crowd()
    out = simulate(particles, detector, seeds(40))
    types = {"offsets": "i8", "pdg_id": "i4", "charge": "i1", "source": "i4"}
    types |= dict.fromkeys(("px", "py", "pz", "energy"), "f8")
    types |= dict.fromkeys(("d0", "d0err", "dz", "dzerr"), "f4")
    assert {f.name: getattr(out, f.name).dtype.str[1:] for f in dataclasses.fields(out)} == types
    assert all(np.isfinite(getattr(out, name)).all() for name in types)
    tracks = out.source >= 0
    source = (np.repeat(particles.offsets[:-1], out.counts) + out.source)[tracks]
    np.testing.assert_array_equal(out.pdg_id[tracks], particles.pdg_id[source])
    np.testing.assert_array_equal(out.charge[tracks], particles.charge[source])
    np.testing.assert_array_equal(out.charge != 0, tracks)
    assert set(out.pdg_id[~tracks]) == {0, 22}
    assert not np.any(out.d0[~tracks]) and not np.any(out.dzerr[~tracks])


def test_measured_tracks_keep_direction_and_mass_and_neutrals_are_massless():
    particles = crowd()
    out = simulate(particles, "cms", seeds(40))
    tracks = out.source >= 0
    source = (np.repeat(particles.offsets[:-1], out.counts) + out.source)[tracks]
    mass2 = out.energy**2 - out.px**2 - out.py**2 - out.pz**2
    tolerance = 1e-12 * out.energy**2 + 1e-12
    assert np.all(np.abs(mass2[tracks] - particles.mass[source] ** 2) < tolerance[tracks])
    assert np.all(np.abs(mass2[~tracks]) < tolerance[~tracks])
    cot_theta = out.pz / np.hypot(out.px, out.py)
    np.testing.assert_allclose(
        cot_theta[tracks], (particles.pz / np.hypot(particles.px, particles.py))[source], rtol=1e-9
    )


def test_arrays_of_other_types_and_read_only_ones_are_accepted():
    particles = crowd()
    columns = {f.name: getattr(particles, f.name) for f in dataclasses.fields(particles)}
    other = Particles(**{name: np.asfortranarray(column[::1]) for name, column in columns.items()})
    for column in vars(other).values():
        column.flags.writeable = False
    assert_same(simulate(other, "cms", seeds(40)), simulate(particles, "cms", seeds(40)))


def test_the_input_is_left_alone():
    particles, s = crowd(), seeds(40)
    copies = [column.copy() for column in vars(particles).values()]
    simulate(particles, "jetclass", s)
    for column, copy in zip(vars(particles).values(), copies, strict=True):
        np.testing.assert_array_equal(column, copy)
    np.testing.assert_array_equal(s, seeds(40))


@EVERY_DETECTOR
def test_neutrinos_and_dark_particles_are_invisible(detector):
    particles = gun([12, -14, 16, 1000022, 1000023, 1000025, 1000035, 1000045], 100.0, 0.3)
    assert simulate(particles, detector, seeds(8)).counts.sum() == 0


def test_without_a_detector_every_visible_particle_is_a_candidate_as_generated():
    particles = crowd()
    out = simulate(particles, "none", seeds(40))
    visible = particles.select(particles.pdg_id != 12)
    np.testing.assert_array_equal(out.offsets, visible.offsets)
    for name in ("px", "py", "pz", "energy", "charge"):
        np.testing.assert_array_equal(getattr(out, name), getattr(visible, name))
    np.testing.assert_array_equal(out.pdg_id[visible.pdg_id == 22], 22)
    np.testing.assert_array_equal(out.pdg_id[np.isin(visible.pdg_id, (130, 3122))], 0)
    assert not out.d0err.any() and not out.dzerr.any()


def test_without_a_detector_impact_parameters_are_true():
    # A track along x that starts 2 mm off the axis, stiff enough to be straight: d0 = x py - y px over pt.
    out = simulate(gun(211, 1e4, 0.0, 0.0, charge=1, mass=0.1396, x=5.0, y=2.0, z=-3.0), "none", seeds(1))
    assert out.d0[0] == pytest.approx(-2.0, abs=1e-3)
    assert out.dz[0] == pytest.approx(-3.0, abs=1e-3)


def test_without_a_detector_particles_near_the_beam_are_left_out():
    out = simulate(one_event(gun(22, 1.0, [4.99, 5.01, -4.99, -5.01])), "none", seeds(1))
    assert out.counts.tolist() == [2]


def test_without_a_detector_particles_from_outside_the_tracker_are_kept():
    out = simulate(gun([310, 211], 5.0, 0.1, charge=[0, 1], mass=0.4, x=2000.0), "none", seeds(2))
    assert out.counts.tolist() == [1, 1]
    assert np.isfinite(out.d0).all()


def test_jetclass_tracks_of_empty_towers_are_dropped_unless_asked_for():
    particles = crowd()
    kept = reconstruct(particles, "jetclass", seeds(40), keep_zero_pt=True)
    at_rest = np.hypot(kept.px, kept.py) == 0
    assert 0.05 < at_rest.sum() / (kept.source >= 0).sum() < 0.6
    source = (np.repeat(particles.offsets[:-1], kept.counts) + kept.source)[at_rest]
    np.testing.assert_allclose(kept.energy[at_rest], particles.mass[source])
    assert_same(simulate(particles, "jetclass", seeds(40)), kept.select(~at_rest))


def test_impact_parameter_smearing_can_be_switched_off():
    true_ip = dataclasses.replace(DETECTORS["cms"], impact_parameters=None)
    particles = gun(211, 20.0, 0.3, np.linspace(-3, 3, 200), charge=1, mass=0.1396, x=0.3)
    out, ideal = simulate(particles, true_ip, seeds(200)), simulate(particles, "none", seeds(200))
    assert not out.d0err.any() and not out.dzerr.any()
    tracks = out.source >= 0
    np.testing.assert_array_equal(out.d0[tracks], ideal.d0[np.repeat(np.arange(200), out.counts)[tracks]])


@needs_reference
def test_impact_parameter_errors_are_those_of_the_card():
    table = json.loads((REFERENCE.parent / "cms_track_ip_resolution.json").read_text())
    errors = DETECTORS["cms"].impact_parameters
    for ours, theirs in ((errors.d0, table["D0"]), (errors.dz, table["DZ"])):
        for eta_lo, eta_hi, pt_lo, _, error, _ in theirs:
            eta_bin, pt_bin = errors.eta_edges.index(eta_lo), errors.pt_edges.index(pt_lo)
            assert errors.eta_edges[eta_bin + 1] == eta_hi
            assert ours[eta_bin][pt_bin] == error
        assert len(theirs) == sum(map(len, ours))


@pytest.mark.parametrize(("name", "hint"), [("jetclas", "'jetclass'"), ("CMS", "'cms'")])
def test_an_unknown_detector_is_named_with_those_there_are(name, hint):
    with pytest.raises(InputError, match=rf"unknown detector '{name}'.*none.*Did you mean {hint}\?"):
        simulate(crowd(1), name, seeds(1))


def test_too_few_seeds_are_refused():
    with pytest.raises(InputError, match=r"2 events need seeds of shape \(2,\)"):
        simulate(crowd(2), "cms", seeds(1))


def test_half_a_detector_is_refused():
    with pytest.raises(InputError, match="tracker, ecal and hcal"):
        dataclasses.replace(DETECTORS["cms"], hcal=None)


def test_detectors_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DETECTORS["cms"].name = "atlas"
    with pytest.raises(TypeError):
        DETECTORS["atlas"] = DETECTORS["cms"]
    assert all(isinstance(d, Detector) and d.name == name and d.description for name, d in DETECTORS.items())


def test_importing_the_detector_compiles_nothing():
    code = (
        "import hepfm.resim.detector as d, numba.core.dispatcher as n, sys;"
        "loops = [v for m in list(sys.modules.values()) if m.__name__.startswith(d.__name__)"
        "         for v in vars(m).values() if isinstance(v, n.Dispatcher)];"
        "assert loops and not any(v.signatures for v in loops)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_reference
def test_simulating_a_reference_sample_twice_gives_the_same_bytes():
    particles = reference_particles("hbb")
    s = seeds(particles.n_events)
    assert_same(simulate(particles, "cms", s), simulate(particles, "cms", s))
