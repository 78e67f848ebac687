import numpy as np
import pytest
from detector_samples import arrays, gun, needs_reference, reference_particles
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hepfm.errors import InputError
from hepfm.resim.detector import DETECTORS
from hepfm.resim.detector.description import Solenoid
from hepfm.resim.detector.propagation import propagate

SOLENOID = DETECTORS["cms"].solenoid
SAMPLES = pytest.mark.parametrize("sample", ["qcd", "hbb"])


def helix_twin(p, i, radius=1.29, half_length=3.0, field=3.8):
    """The helix of charged particles `i` as a function of time, in m and s, as DETECTOR.md writes it."""
    c = 2.99792458e8
    q, px, py, pz, energy = (getattr(p, k)[i].astype(float) for k in ("charge", "px", "py", "pz", "energy"))
    x, y, z = (getattr(p, k)[i] * 1e-3 for k in "xyz")
    pt, phi0 = np.hypot(px, py), np.arctan2(py, px)
    omega = q * field / (energy * 1e9 / c**2)
    r = pt / (q * field) * 1e9 / c
    xc, yc = x + r * np.sin(phi0), y - r * np.cos(phi0)
    rc = np.hypot(xc, yc)
    half_turn = np.pi / np.abs(omega)
    td = (phi0 + np.arctan2(xc, yc)) / omega
    td -= half_turn * np.round(td / half_turn)
    phid = phi0 - omega * td
    xd, yd = xc - r * np.sin(phid), yc + r * np.cos(phid)
    vz = pz * c / energy
    tz = np.divide(np.copysign(half_length, pz) - z, vz, out=np.full(len(z), 1e99), where=vz != 0)
    alpha = np.arccos(np.clip((r**2 + rc**2 - radius**2) / (2 * np.abs(r) * rc), -1, 1))
    t = np.where(rc + np.abs(r) < radius, tz, np.minimum(td + np.abs(alpha / omega), tz))
    phit = phi0 - omega * t
    outer = np.array([xc - r * np.sin(phit), yc + r * np.cos(phit), z + vz * t])
    return {
        "outer": outer * 1e3,
        "d0": (xd * np.sin(phid) - yd * np.cos(phid)) * 1e3,
        "dz": (z + vz * td) * 1e3,
        "phid": phid,
        "turns": np.abs(omega * t) / (2 * np.pi),
    }


def on_surface(eta, phi, solenoid=SOLENOID):
    """The point of the cylinder, in mm, that lies in this direction."""
    radius, half_length = solenoid.radius * 1e3, solenoid.half_length * 1e3
    rho = np.minimum(radius, half_length / np.maximum(np.abs(np.sinh(eta)), 1e-12))
    return np.array([rho * np.cos(phi), rho * np.sin(phi), np.clip(radius * np.sinh(eta), -half_length, half_length)])


def charged_of_reference(sample):
    data = arrays(f"{sample}_input")
    return data, data["ch_idx"] + np.repeat(data["offsets"][:-1], np.diff(data["ch_offsets"]))


@needs_reference
@SAMPLES
def test_the_particles_delphes_carries_to_the_calorimeter_are_carried(sample):
    particles = reference_particles(sample)
    _, charged = charged_of_reference(sample)
    kept = np.flatnonzero(propagate(particles, SOLENOID).inside & (particles.charge != 0))
    np.testing.assert_array_equal(kept, charged)


@needs_reference
@SAMPLES
def test_tracks_hit_the_calorimeter_where_delphes_says(sample):
    data, charged = charged_of_reference(sample)
    surface = propagate(reference_particles(sample), SOLENOID)
    ours = on_surface(surface.eta[charged], surface.phi[charged])
    theirs = on_surface(data["ch_eta_outer"].astype(float), data["ch_phi_outer"].astype(float))
    distance = np.linalg.norm(ours - theirs, axis=0)
    # The reference is rounded to 2^-16 in eta and phi, which is up to 0.02 mm in the barrel; loopers amplify
    # the rounding of the momenta.
    assert np.quantile(distance, 0.5) < 0.004
    assert np.quantile(distance, 0.99) < 0.03
    assert np.quantile(distance, 0.999) < 0.2


@needs_reference
@SAMPLES
def test_impact_parameters_are_those_of_delphes(sample):
    data, charged = charged_of_reference(sample)
    particles = reference_particles(sample)
    surface = propagate(particles, SOLENOID)
    d0_off = np.abs(surface.d0[charged] - data["ch_d0"])
    dz_off = np.abs(surface.dz[charged] - data["ch_dz"])
    # The sample's rounding to 24 bits grows with the way from the beam axis, and for dz with cot(theta).
    lever = 1.0 + np.hypot(particles.x, particles.y)[charged]
    cot_theta = np.abs(particles.pz / np.hypot(particles.px, particles.py))[charged]
    assert np.quantile(d0_off, 0.99) < 1.3e-5
    assert np.all(d0_off < 1.3e-5 * lever)
    assert np.all(dz_off < 1.3e-5 * lever * (1.0 + cot_theta))


@needs_reference
@SAMPLES
def test_helix_agrees_with_its_numpy_twin(sample):
    particles = reference_particles(sample)
    surface = propagate(particles, SOLENOID)
    charged = np.flatnonzero(surface.inside & (particles.charge != 0))
    twin = helix_twin(particles, charged)
    ours = on_surface(surface.eta[charged], surface.phi[charged])
    np.testing.assert_allclose(ours, twin["outer"], atol=1e-4)
    np.testing.assert_allclose(surface.d0[charged], twin["d0"], atol=1e-7)
    np.testing.assert_allclose(surface.dz[charged], twin["dz"], atol=1e-7)
    np.testing.assert_allclose(surface.ux[charged], np.cos(twin["phid"]), atol=1e-12)
    np.testing.assert_allclose(surface.uy[charged], np.sin(twin["phid"]), atol=1e-12)


CHARGED = {
    "pt": st.floats(0.05, 5000.0),
    "eta": st.floats(-4.0, 4.0).map(lambda eta: round(eta, 9)),
    "phi": st.floats(-3.1, 3.1),
    "charge": st.sampled_from([-2, -1, 1, 2]),
    "rho": st.floats(0.0, 1280.0),
    "azimuth": st.floats(-3.1, 3.1),
    "z": st.floats(-2990.0, 2990.0),
}


def _displaced(rho, azimuth, **kwargs):
    return gun(211, mass=0.13957, x=rho * np.cos(azimuth), y=rho * np.sin(azimuth), **kwargs)


@settings(deadline=None)  # the first example may compile
@given(**CHARGED)
def test_any_charged_particle_agrees_with_the_numpy_twin(**kwargs):
    particle = _displaced(**kwargs)
    surface, twin = propagate(particle, SOLENOID), helix_twin(particle, np.array([0]))
    assume(twin["turns"] < 100)  # each turn costs precision
    tolerance = 1e-6 * (1 + kwargs["pt"]) * np.cosh(kwargs["eta"])
    np.testing.assert_allclose(surface.d0, twin["d0"], atol=tolerance)
    np.testing.assert_allclose(surface.dz, twin["dz"], atol=tolerance)
    rho = np.hypot(*twin["outer"][:2])
    direction = [rho * np.cos(surface.phi), rho * np.sin(surface.phi), rho * np.sinh(surface.eta)]
    np.testing.assert_allclose(direction, twin["outer"], atol=tolerance, rtol=1e-7)


@settings(deadline=None)  # the first example may compile
@given(**CHARGED)
def test_charge_conjugation_mirrors_the_path(**kwargs):
    # Reflection y -> -y of vertex and momentum with the charge reversed: phi and d0 change sign.
    surface = propagate(_displaced(**kwargs), SOLENOID)
    kwargs.update(phi=-kwargs["phi"], azimuth=-kwargs["azimuth"], charge=-kwargs["charge"])
    mirrored = propagate(_displaced(**kwargs), SOLENOID)
    np.testing.assert_allclose(mirrored.eta, surface.eta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * mirrored.phi), np.exp(-1j * surface.phi), atol=1e-6)
    np.testing.assert_allclose(mirrored.d0, -surface.d0, atol=1e-6)
    np.testing.assert_allclose(mirrored.dz, surface.dz, atol=1e-6)


@settings(deadline=None)  # the first example may compile
@given(
    pt=st.floats(0.01, 5000.0),
    eta=st.floats(-6.0, 6.0),
    phi=st.floats(-3.1, 3.1),
    rho=st.floats(0.0, 1280.0),
    azimuth=st.floats(-3.1, 3.1),
    z=st.floats(-2990.0, 2990.0),
)
def test_neutral_particles_fly_straight_to_the_surface(pt, eta, phi, rho, azimuth, z):
    vertex = np.array([rho * np.cos(azimuth), rho * np.sin(azimuth), z])
    surface = propagate(gun(22, pt, eta, phi, x=vertex[0], y=vertex[1], z=z), SOLENOID)
    way = on_surface(surface.eta, surface.phi)[:, 0] - vertex
    direction = np.array([np.cos(phi), np.sin(phi), np.sinh(eta)]) / np.cosh(eta)
    assert np.linalg.norm(np.cross(way, direction)) < 1e-5 * (1 + np.abs(way).max())
    assert way @ direction > 0
    assert surface.d0 == 0 and surface.dz == 0


def test_stiff_tracks_from_the_origin_point_where_they_go():
    surface = propagate(gun(13, 1e5, [-2.0, 0.3, 1.1], [3.0, -1.0, 0.0], charge=1, mass=0.1), SOLENOID)
    np.testing.assert_allclose(surface.eta, [-2.0, 0.3, 1.1], atol=1e-6)
    np.testing.assert_allclose(surface.phi, [3.0, -1.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(surface.d0, 0.0, atol=1e-6)


def test_positive_particles_turn_clockwise():
    surface = propagate(gun(211, 2.0, 0.0, 0.0, charge=[1, -1], mass=0.1396), SOLENOID)
    assert surface.phi[0] < 0 < surface.phi[1]


def test_soft_particles_curl_into_the_endcap():
    # Below pt = 0.3 B R / 2 = 0.73 GeV a track from the origin cannot reach the barrel.
    soft, hard = propagate(gun(211, [0.7, 0.8], 0.5, charge=1, mass=0.1396), SOLENOID).eta
    assert hard < np.arcsinh(3.0 / 1.29) < soft


def test_particles_produced_outside_the_tracker_or_almost_at_rest_are_lost():
    particles = gun(
        pdg_id=[22, 22, 22, 211, 211, 22, 211],
        charge=[0, 0, 0, 1, 1, 0, 1],
        pt=[1, 1, 1, 1, 1, 3e-5, 3e-5],
        eta=0.5,
        x=[1290.0, 1290.1, 0, 1290.1, 0, 0, 0],
        z=[0, 0, -3000.1, 0, 3000.1, 0, 0],
    )
    surface = propagate(particles, SOLENOID)
    assert surface.inside.tolist() == [True] + [False] * 6
    assert np.isnan(surface.eta).tolist() == [False] + [True] * 6


def test_particles_flying_at_right_angles_to_the_beam_reach_the_barrel():
    particles = gun([22, 211], 5.0, 0.0, 0.3, charge=[0, 1], z=[7.0, -7.0])
    surface = propagate(particles, SOLENOID)
    np.testing.assert_allclose(np.sinh(surface.eta) * 1290.0, [7.0, -7.0])


def test_a_looper_at_right_angles_to_the_beam_stays_finite():
    surface = propagate(gun(211, 0.2, [0.0, 1e-310, -1e-310, 1e-30], charge=1, mass=0.1396), SOLENOID)
    assert surface.inside.all() and np.isfinite(surface.eta).all() and np.isfinite(surface.phi).all()


def test_a_solenoid_without_a_field_is_refused():
    with pytest.raises(InputError, match="positive radius"):
        Solenoid(radius=1.0, half_length=3.0, field=0.0)
