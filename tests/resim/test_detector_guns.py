"""Single particles through the whole CMS detector, against the formulas and a plain-NumPy twin of them."""

import dataclasses

import numpy as np
import pytest
from detector_samples import gun, seeds
from detector_twin import (
    efficiency_twin,
    log_normal_twin,
    resolution_twin,
    share_out_twin,
    sigma_twin,
    tower_twin,
)
from scipy import stats

from hepfm.resim.detector import DETECTORS, simulate
from hepfm.resim.detector.propagation import propagate
from hepfm.resim.detector.random_numbers import random_states
from hepfm.resim.detector.tracking import find_tracks

CMS = DETECTORS["cms"]
N = 8_000
MASS = {11: 0.000511, 13: 0.10566, 211: 0.13957, 22: 0.0, 130: 0.49761, 310: 0.49761}


def isolated_track_twin(pdg_id, pt, eta, outer_eta, n=N):
    """Energies of track and neutral candidate, for one particle that has a track and stops in one tower."""
    rng = np.random.default_rng(99)
    name, energy_min, n_sigma = ("ecal", 0.5, 2.0) if pdg_id == 11 else ("hcal", 1.0, 1.0)
    mass, resolution = MASS[pdg_id], resolution_twin(pdg_id, pt, outer_eta)
    true_energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    p = log_normal_twin(rng, pt, resolution * pt, n) * np.cosh(eta)
    row, _ = tower_twin(name, outer_eta, 0.0)
    centre = 0.5 * sum(getattr(CMS, name).eta_edges[row : row + 2])
    tower = log_normal_twin(rng, true_energy, sigma_twin(name, centre, true_energy), n)
    sigma = sigma_twin(name, centre, tower)
    tower[(tower < energy_min) | (tower < n_sigma * sigma)] = 0.0
    energy = np.sqrt(p**2 + mass**2)
    shared = [
        share_out_twin(e, s, t, (resolution * t) ** 2, energy_min, n_sigma)
        for e, s, t in zip(tower, sigma, energy, strict=True)
    ]
    neutral, scale = np.transpose(shared)
    return np.sqrt((scale * p) ** 2 + mass**2), neutral


def robust_sigma(values):
    lo, hi = np.percentile(values, [15.865, 84.135])
    return 0.5 * (hi - lo)


def spread_phi(n):
    return np.random.default_rng(11).uniform(-3.14, 3.14, n)


BINS = [(pt, eta) for pt in (0.4, 5.0, 60.0, 150.0, 2500.0) for eta in (0.2, -1.0, 1.9)]


@pytest.mark.parametrize("pdg_id", [11, 13, 211])
def test_tracks_are_found_and_measured_as_well_as_the_card_says(pdg_id):
    for pt, eta in BINS:
        particles = gun(pdg_id, pt, eta, spread_phi(N), charge=-1, mass=MASS[pdg_id])
        surface = propagate(particles, CMS.solenoid)
        tracks = find_tracks(particles, surface, CMS.tracker, None, random_states(seeds(N)))
        expected = efficiency_twin(pdg_id, pt, surface.eta)
        error = np.sqrt(np.sum(expected * (1 - expected)) + 1e-9)
        assert abs(tracks.found.sum() - expected.sum()) < 4 * error, (pt, eta)
        if expected.max() == 0:
            continue
        resolution = resolution_twin(pdg_id, pt, surface.eta[0])
        np.testing.assert_allclose(tracks.resolution[tracks.found], resolution)
        response = np.log(tracks.pt[tracks.found] / pt)
        width = np.sqrt(np.log(1 + resolution**2))
        assert robust_sigma(response) == pytest.approx(width, rel=0.06), (pt, eta)
        assert stats.kstest(response, stats.norm(-(width**2) / 2, width).cdf).pvalue > 1e-4, (pt, eta)


def test_efficiency_follows_the_place_where_a_track_meets_the_calorimeter():
    # A loop of 0.4 GeV leaves through the endcap, far more forward than it set out.
    outer = propagate(gun(211, 0.4, 1.2, charge=1, mass=MASS[211]), CMS.solenoid).eta[0]
    assert outer > 1.5
    out = simulate(gun(13, 0.4, 1.2, spread_phi(N), charge=1, mass=MASS[13]), CMS, seeds(N))
    inside = outer <= 2.5
    assert len(out.px) / N == pytest.approx(0.70 * inside, abs=0.03)


def test_bins_of_eta_include_their_upper_edge():
    particles = gun(13, np.full(N, 50.0), 1.0, charge=1, mass=MASS[13])
    surface = propagate(particles, CMS.solenoid)

    def tracks_at(eta):
        moved = dataclasses.replace(surface, eta=np.full(N, eta))
        return find_tracks(particles, moved, CMS.tracker, None, random_states(seeds(N)))

    for edge, below, above in ((0.5, 0.3, 1.0), (1.5, 1.0, 2.0)):
        for eta, inside in ((edge, below), (-edge, below), (np.nextafter(edge, 9), above)):
            at_edge, well_inside = tracks_at(eta), tracks_at(inside)
            np.testing.assert_array_equal(at_edge.found, well_inside.found)
            np.testing.assert_array_equal(at_edge.pt, well_inside.pt)
    assert tracks_at(2.5).found.any() and not tracks_at(np.nextafter(2.5, 9)).found.any()


def test_muons_pass_both_calorimeters_unchanged():
    particles = gun(13, 200.0, 0.4, spread_phi(N), charge=1, mass=MASS[13])
    out = simulate(particles, CMS, seeds(N))
    assert set(out.pdg_id) == {13}
    resolution = resolution_twin(13, 200.0, 0.4)
    assert robust_sigma(np.hypot(out.px, out.py) / 200.0) == pytest.approx(resolution, rel=0.05)


@pytest.mark.parametrize("pdg_id", [11, 211])
@pytest.mark.parametrize("eta", [0.2, -1.0, 1.9])
@pytest.mark.parametrize("pt", [3.0, 30.0, 300.0])
def test_isolated_electrons_and_pions_are_combined_with_their_tower_like_in_the_twin(pdg_id, pt, eta):
    particles = gun(pdg_id, pt, eta, spread_phi(N), charge=-1, mass=MASS[pdg_id])
    outer_eta = propagate(particles, CMS.solenoid).eta[0]
    out = simulate(particles, CMS, seeds(N))
    event = np.repeat(np.arange(N), out.counts)
    is_track = out.source >= 0
    has_track = np.isin(event, event[is_track])
    twin_track, twin_neutral = isolated_track_twin(pdg_id, pt, eta, outer_eta)
    neutral = ~is_track & has_track
    assert set(out.pdg_id[neutral]) <= {22 if pdg_id == 11 else 0}
    rate = np.mean(twin_neutral > 0)
    assert abs(neutral.sum() / is_track.sum() - rate) < 4 * np.sqrt(2 * (rate * (1 - rate) + 1e-4) / N)
    assert stats.ks_2samp(out.energy[is_track], twin_track).pvalue > 1e-4
    if rate > 0.01:
        assert stats.ks_2samp(out.energy[neutral], twin_neutral[twin_neutral > 0]).pvalue > 1e-4


@pytest.mark.parametrize("pt", [3.0, 30.0, 300.0])
def test_charged_energy_is_not_counted_twice(pt):
    particles = gun(211, pt, 0.2, spread_phi(N), charge=1, mass=MASS[211])
    out = simulate(particles, CMS, seeds(N))
    event = np.repeat(np.arange(N), out.counts)
    total = np.bincount(event, out.energy, minlength=N)
    with_track = np.zeros(N, bool)
    with_track[event[out.source >= 0]] = True
    # A tower that happens to fluctuate up, or a track that fluctuates down, makes a neutral candidate of
    # the difference, never of the whole.
    assert np.median(total[with_track]) / particles.energy[0] == pytest.approx(1.0, abs=0.1)
    assert total[with_track].mean() / particles.energy[0] < 1.4


@pytest.mark.parametrize(("name", "pdg_id"), [("ecal", 22), ("hcal", 130)])
@pytest.mark.parametrize("eta", [0.3, 1.2, 2.2, 4.2])
def test_neutral_particles_are_measured_with_the_resolution_of_their_calorimeter(name, pdg_id, eta):
    energy = 200.0
    pt = np.sqrt(energy**2 - MASS[pdg_id] ** 2) / np.cosh(eta)
    out = simulate(gun(pdg_id, pt, eta, spread_phi(N), mass=MASS[pdg_id]), CMS, seeds(N))
    assert np.all(out.counts == 1)
    assert set(out.pdg_id) == {22 if name == "ecal" else 0}
    row, _ = tower_twin(name, eta, 0.0)
    sigma = sigma_twin(name, 0.5 * sum(getattr(CMS, name).eta_edges[row : row + 2]), energy)
    assert out.energy.mean() == pytest.approx(energy, abs=4 * sigma / np.sqrt(N))
    assert out.energy.std() == pytest.approx(sigma, rel=0.05)


def test_short_kaons_share_their_energy_between_the_calorimeters():
    out = simulate(gun(310, 400.0, 0.3, spread_phi(N), mass=MASS[310]), CMS, seeds(N))
    true_energy = np.hypot(400.0 * np.cosh(0.3), MASS[310])
    assert np.all(out.counts == 2)
    assert out.energy[out.pdg_id == 22].mean() == pytest.approx(0.3 * true_energy, rel=0.01)
    assert out.energy[out.pdg_id == 0].mean() == pytest.approx(0.7 * true_energy, rel=0.01)


def test_particles_without_a_track_still_deposit_their_energy():
    # Beyond the tracker's acceptance, a pion is a neutral hadron and an electron a photon.
    pions = simulate(gun(211, 50.0, 2.8, spread_phi(N), charge=1, mass=MASS[211]), CMS, seeds(N))
    electrons = simulate(gun(11, 50.0, 2.8, spread_phi(N), charge=1, mass=MASS[11]), CMS, seeds(N))
    assert np.all(pions.pdg_id == 0) and np.all(electrons.pdg_id == 22)
    assert len(pions.px) > 0.99 * N and len(electrons.px) > 0.99 * N


@pytest.mark.parametrize("detector", ["cms", "jetclass"])
def test_impact_parameters_scatter_by_their_errors(detector):
    particles = gun(13, 10.0, [0.5, -1.2, 2.0] * 3_000, spread_phi(9_000), charge=1, mass=MASS[13], x=0.7, z=4.0)
    out = simulate(particles, detector, seeds(9_000))
    event = np.repeat(np.arange(9_000), out.counts)
    true = simulate(particles, "none", seeds(9_000))
    for value, error in (("d0", "d0err"), ("dz", "dzerr")):
        pull = (getattr(out, value) - getattr(true, value)[event]) / getattr(out, error)
        assert stats.kstest(pull, "norm").pvalue > 1e-3


def test_impact_parameter_errors_follow_the_smeared_momentum():
    particles = gun(211, 6.0, 0.3, spread_phi(N), charge=1, mass=MASS[211])
    surface = propagate(particles, CMS.solenoid)
    tracks = find_tracks(particles, surface, CMS.tracker, CMS.impact_parameters, random_states(seeds(N)))
    edges = np.array([0.0, *CMS.impact_parameters.pt_edges])
    expected = np.array([0.0, *CMS.impact_parameters.d0[0]])[np.searchsorted(edges, tracks.pt, side="left") - 1]
    np.testing.assert_array_equal(tracks.d0err[tracks.found], expected[tracks.found])
    assert len(set(tracks.d0err[tracks.found])) > 1


def test_tracks_too_soft_for_the_table_keep_their_true_impact_parameters():
    particles = gun(13, 0.15, 0.2, spread_phi(N), charge=1, mass=MASS[13], x=1.0)
    surface = propagate(particles, CMS.solenoid)
    inside = dataclasses.replace(surface, eta=np.full(N, 0.2))
    tracks = find_tracks(particles, inside, CMS.tracker, CMS.impact_parameters, random_states(seeds(N)))
    soft = tracks.found & (tracks.pt <= 0.1823)
    assert soft.sum() > 1_000
    assert not tracks.d0err[soft].any()
    np.testing.assert_array_equal(tracks.d0[soft], surface.d0[soft])


def test_jetclass_tracks_carry_the_generated_momentum_into_the_calorimeters():
    # Muons meet no tower, so what comes out is what went in.
    out = simulate(gun(13, 30.0, 0.5, spread_phi(N), charge=1, mass=MASS[13]), "jetclass", seeds(N))
    np.testing.assert_allclose(np.hypot(out.px, out.py), 30.0, rtol=1e-12)


@pytest.mark.parametrize(("pdg_id", "name"), [(11, "ecal"), (211, "hcal")])
def test_jetclass_tracks_take_the_energy_of_their_tower(pdg_id, name):
    particles = gun(pdg_id, 100.0, 0.3, spread_phi(N), charge=1, mass=MASS[pdg_id])
    out = simulate(particles, "jetclass", seeds(N))
    tracks = out.source >= 0
    energy = particles.energy[0]
    row, _ = tower_twin(name, 0.3, 0.0)
    sigma = sigma_twin(name, 0.5 * sum(getattr(CMS, name).eta_edges[row : row + 2]), energy)
    below = out.energy[tracks][out.energy[tracks] < energy]
    # Upward fluctuations beyond the threshold became neutral candidates; downward ones are all in the track.
    expected = energy - stats.halfnorm.ppf(0.5) * sigma
    assert np.median(below) == pytest.approx(expected, abs=0.15 * sigma)
