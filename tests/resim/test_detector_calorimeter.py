import math

import numpy as np
import pytest
from detector_samples import arrays, event_numbers, gun, needs_reference, one_event, reference_particles, seeds
from detector_twin import fraction_twin, resolution_twin, share_out_twin, sigma_twin, tower_twin
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hepfm.resim.detector import DETECTORS, simulate
from hepfm.resim.detector.calorimeter import share_out, track_sigma
from hepfm.resim.detector.propagation import propagate
from hepfm.resim.detector.random_numbers import random_states
from hepfm.resim.detector.towers import (
    Response,
    calorimeter_tables,
    deposited_fraction,
    energy_sigma,
    find_column,
    find_row,
    measure_tower,
    response_of,
)

CMS = DETECTORS["cms"]
NAMES = ("ecal", "hcal")
TABLES = {name: calorimeter_tables(getattr(CMS, name)) for name in NAMES}
EITHER = pytest.mark.parametrize("name", NAMES)
SAMPLES = pytest.mark.parametrize("sample", ["qcd", "hbb"])


def tower(name, eta, phi):
    row = find_row(TABLES[name], eta)
    column = find_column(TABLES[name].half_phi[row], phi)
    return (row, column) if row >= 0 and column >= 0 else None


def test_the_towers_are_as_many_as_those_of_the_card():
    assert len(CMS.ecal.eta_edges) == 363 and sum(CMS.ecal.n_phi) == 123_192
    assert len(CMS.hcal.eta_edges) == 81 and sum(CMS.hcal.n_phi) == 4_176


@EITHER
@settings(deadline=None)  # the first example may compile
@given(eta=st.floats(-5.5, 5.5), phi=st.floats(-3.2, 3.2))
@example(eta=0.0, phi=math.pi)
@example(eta=0.0, phi=-math.pi)
@example(eta=-5.0, phi=0.0)
@example(eta=5.0, phi=0.0)
@example(eta=math.inf, phi=0.0)
@example(eta=math.nan, phi=0.0)
@example(eta=0.0, phi=math.nan)
def test_any_point_is_in_the_tower_its_numpy_twin_finds(name, eta, phi):
    assert tower(name, eta, phi) == tower_twin(name, eta, phi)


@EITHER
def test_points_on_and_beside_every_edge_are_in_the_tower_below_it(name):
    calorimeter = getattr(CMS, name)
    for edge in calorimeter.eta_edges:
        for eta in (np.nextafter(edge, -9), edge, np.nextafter(edge, 9)):
            assert tower(name, eta, 0.1) == tower_twin(name, eta, 0.1)
    for half in sorted({n // 2 for n in calorimeter.n_phi}):
        row = calorimeter.n_phi.index(2 * half)
        eta = calorimeter.eta_edges[row + 1]
        for edge in (i * math.pi / half for i in range(-half, half + 1)):
            for phi in (np.nextafter(edge, -9), edge, np.nextafter(edge, 9)):
                assert tower(name, eta, phi) == tower_twin(name, eta, phi)


@EITHER
def test_every_species_deposits_the_share_of_the_card(name):
    special = [11, 12, 13, 14, 16, 22, 111, 310, 3122, 1000022, 1000023, 1000025, 1000035, 1000045]
    for pdg_id in [*special, 130, 211, 321, 2112, 2212, 3112, 3222, 3312, 3322, 3334, 1000024]:
        for sign in (1, -1):
            assert deposited_fraction(TABLES[name], sign * pdg_id) == fraction_twin(name, pdg_id)


@EITHER
@settings(deadline=None)  # the first example may compile
@given(eta=st.floats(-4.999, 4.999), energy=st.floats(0.0, 5000.0))
def test_resolution_is_that_of_the_tower_centre(name, eta, energy):
    row = find_row(TABLES[name], eta)
    lo, hi = getattr(CMS, name).eta_edges[row : row + 2]
    ours = energy_sigma(response_of(TABLES[name], row), energy)
    assert ours == pytest.approx(sigma_twin(name, 0.5 * (lo + hi), energy), rel=1e-12)


ENERGY = st.one_of(st.just(0.0), st.floats(1e-3, 3000.0))


@settings(deadline=None)  # the first example may compile
@given(energy=ENERGY, sigma=ENERGY, track_energy=ENERGY, track_sigma=ENERGY)
def test_energy_flow_of_a_tower_agrees_with_its_twin_and_counts_nothing_twice(energy, sigma, track_energy, track_sigma):
    response = Response(0.0, 0.0, 0.0, energy_min=1.0, significance_min=1.0)
    neutral, scale = share_out(response, energy, sigma, track_energy, track_sigma**2)
    twin = share_out_twin(energy, sigma, track_energy, track_sigma**2, 1.0, 1.0)
    assert (neutral, scale) == pytest.approx(twin, rel=1e-9)
    total = neutral + scale * track_energy
    lo, hi = sorted([energy, track_energy])
    assert total <= hi * (1 + 1e-9) + 1e-12
    assert total >= lo * (1 - 1e-9) - 1e-12 or track_energy == 0.0


def test_a_track_counts_with_the_better_of_its_two_energies():
    hcal = response_of(TABLES["hcal"], 40)
    assert track_sigma(hcal, 10.0, 0.5, 0.9) == pytest.approx(0.9 * 5.0)  # the tower measures better
    assert track_sigma(hcal, 10.0, 0.5, 0.01) == pytest.approx(0.01 * 10.0)


@pytest.mark.parametrize(
    ("name", "eta", "deposit"),
    [("ecal", 0.3, 40.0), ("ecal", 2.0, 5.0), ("ecal", 4.0, 80.0), ("hcal", 1.0, 30.0), ("hcal", 4.0, 9.0)],
)
def test_towers_are_smeared_and_cut_like_their_numpy_twin(name, eta, deposit):
    n = 20_000
    row = find_row(TABLES[name], eta)
    lo, hi = getattr(CMS, name).eta_edges[row : row + 2]
    centre = 0.5 * (lo + hi)
    sigma = sigma_twin(name, centre, deposit)
    width = np.sqrt(np.log(1 + (sigma / deposit) ** 2))
    rng = np.random.default_rng(7)
    twin = np.exp(np.log(deposit) - width**2 / 2 + width * rng.standard_normal(n))
    energy_min, n_sigma = (0.5, 2) if name == "ecal" else (1.0, 1)
    twin[(twin < energy_min) | (twin < n_sigma * sigma_twin(name, centre, twin))] = 0

    stream = random_states(seeds(1))[0]
    response = response_of(TABLES[name], row)
    ours, sigmas = np.transpose([measure_tower(response, deposit, stream) for _ in range(n)])
    lost = np.mean(twin == 0)
    assert abs(np.mean(ours == 0) - lost) < 4 * np.sqrt(2 * (lost * (1 - lost) + 1e-4) / n)
    assert abs(ours.mean() - twin.mean()) < 4 * np.sqrt(2 / n) * twin.std()
    assert ours.std() == pytest.approx(twin.std(), rel=0.04)
    seen = ours > 0
    np.testing.assert_allclose(sigmas[seen], sigma_twin(name, centre, ours[seen]), rtol=1e-12)
    assert sigmas[~seen].min(initial=1.0) > 0  # the resolution remembers the energy that was cut away


@needs_reference
@SAMPLES
@EITHER
def test_every_tower_delphes_saw_is_one_we_hit(sample, name):
    particles, output = reference_particles(sample), arrays(f"{sample}_cms_seed1")
    surface = propagate(particles, CMS.solenoid)
    edges = np.array(getattr(CMS, name).eta_edges)
    hits = set()
    event_of = event_numbers(particles.offsets)
    for i in np.flatnonzero(surface.inside):
        if deposited_fraction(TABLES[name], particles.pdg_id[i]) > 0:
            hits.add((event_of[i], tower(name, surface.eta[i], surface.phi[i])))
    centre_eta = 0.5 * (output[f"{name}_eta_lo"] + output[f"{name}_eta_hi"]).astype(float)
    centre_phi = 0.5 * (output[f"{name}_phi_lo"] + output[f"{name}_phi_hi"]).astype(float)
    event_of_tower = event_numbers(output[f"{name}_offsets"])
    rows = np.array([find_row(TABLES[name], eta) for eta in centre_eta])
    np.testing.assert_allclose(edges[rows], output[f"{name}_eta_lo"], atol=1e-6)
    np.testing.assert_allclose(edges[rows + 1], output[f"{name}_eta_hi"], atol=1e-6)
    width = 2 * np.pi / np.array(getattr(CMS, name).n_phi)[rows]
    np.testing.assert_allclose(width, output[f"{name}_phi_hi"] - output[f"{name}_phi_lo"], atol=1e-6)
    theirs = [
        (event, tower(name, eta, phi)) for event, eta, phi in zip(event_of_tower, centre_eta, centre_phi, strict=True)
    ]
    missed = sum(tower not in hits for tower in theirs)
    # A particle within the rounding of the inputs of an edge can change sides.
    assert missed <= 2
    assert len(theirs) > 5_000


def scale_of_tracks(p2, mass2, track_energy):
    """The common factor on the momenta of tracks, given these momenta and the sum of energies without it."""
    if track_energy <= np.sqrt(mass2).sum():
        return math.nan
    unscaled = 100.0  # Newton's method on a convex function, from above
    for _ in range(40):
        energies = np.sqrt(p2 * unscaled**2 + mass2)
        unscaled -= (energies.sum() - track_energy) / np.sum(p2 * unscaled / energies)
    return 1.0 / unscaled


@needs_reference
@SAMPLES
@EITHER
def test_energy_flow_decides_like_delphes_given_its_towers_and_tracks(sample, name):
    """Take Delphes' towers and final tracks, and derive its neutral candidates and track scales.

    All tracks of a tower carry the same scale, which follows from the sum of their energies before. Their
    energies before give the error that they bring, and this the decision.
    """
    particles, output = reference_particles(sample), arrays(f"{sample}_cms_seed1")
    surface, tables = propagate(particles, CMS.solenoid), TABLES[name]
    events_of = event_numbers(output["offsets"])
    source = particles.offsets[events_of] + output["idx"]
    p2 = sum(output[k].astype(float) ** 2 for k in ("px", "py", "pz"))
    tracks_in = {}
    for track in np.flatnonzero(output["kind"] == 0):
        i = source[track]
        if deposited_fraction(tables, particles.pdg_id[i]) > 0:
            where = events_of[track], tower(name, surface.eta[i], surface.phi[i])
            tracks_in.setdefault(where, []).append(track)

    n_scaled, n_wrong = 0, 0
    neutrals = [[] for _ in range(particles.n_events)]
    towers = {k: output[f"{name}_{k}"].astype(float) for k in ("E", "Etrk", "eta_lo", "eta_hi", "phi_lo", "phi_hi")}
    for t, event in enumerate(event_numbers(output[f"{name}_offsets"])):
        energy, track_energy = towers["E"][t], towers["Etrk"][t]
        where = tower(
            name,
            0.5 * (towers["eta_lo"][t] + towers["eta_hi"][t]),
            0.5 * (towers["phi_lo"][t] + towers["phi_hi"][t]),
        )
        response = response_of(tables, where[0])
        tracks = tracks_in.get((event, where), [])
        variance, scale = 0.0, 1.0
        if tracks:
            mass2 = particles.mass[source[tracks]] ** 2
            scale = scale_of_tracks(p2[tracks], mass2, track_energy)
            for track, before in zip(tracks, np.sqrt(p2[tracks] / scale**2 + mass2), strict=True):
                i = source[track]
                true_pt = math.hypot(particles.px[i], particles.py[i])
                resolution = resolution_twin(particles.pdg_id[i], true_pt, surface.eta[i])
                variance += track_sigma(response, before, 1.0, resolution) ** 2
        sigma = energy_sigma(response, energy)
        neutral, our_scale = share_out(response, energy, sigma, track_energy, variance)
        n_scaled += our_scale != 1.0
        n_wrong += not abs(our_scale - scale) < 2e-3 * max(our_scale, 0.1)
        if neutral > 0:
            neutrals[event].append(neutral)
    assert n_scaled > (20 if name == "ecal" else 5_000)
    assert n_wrong == 0

    kind = {"ecal": 1, "hcal": 2}[name]
    different = 0
    for event, ours in enumerate(neutrals):
        theirs = output["E"][(events_of == event) & (output["kind"] == kind)]
        same = len(theirs) == len(ours) and np.allclose(np.sort(ours), np.sort(theirs), rtol=1e-3, atol=1e-3)
        different += not same
    assert different == 0


def test_neutral_candidates_lie_inside_the_tower_that_was_hit():
    n = 2_000
    rng = np.random.default_rng(3)
    eta, phi = rng.uniform(-4.9, 4.9, n), rng.uniform(-math.pi, math.pi, n)
    for name, pdg_id, mass in (("ecal", 22, 0.0), ("hcal", 130, 0.4976)):
        particles = gun(pdg_id, 500.0 / np.cosh(eta), eta, phi, mass=mass)
        out = simulate(particles, CMS, seeds(n))
        assert np.all(out.counts == 1)
        out_eta = np.arcsinh(out.pz / np.hypot(out.px, out.py))
        theirs = [tower_twin(name, a, b) for a, b in zip(out_eta, np.arctan2(out.py, out.px), strict=True)]
        assert theirs == [tower_twin(name, a, b) for a, b in zip(eta, phi, strict=True)]


def test_photons_in_one_tower_make_one_candidate():
    photons = one_event(gun(22, [20.0, 30.0], [0.0050, 0.0051], [0.005, 0.0051]))
    out = simulate(photons, CMS, seeds(1))
    assert out.counts.tolist() == [1]
    assert out.energy[0] == pytest.approx(50.0, abs=5.0)


def test_particles_beyond_the_calorimeters_leave_nothing():
    particles = gun([22, 130, 211], 100.0, [5.01, -5.01, 5.01], charge=[0, 0, 1], mass=[0, 0.4976, 0.1396])
    assert simulate(particles, CMS, seeds(3)).counts.tolist() == [0, 0, 0]
