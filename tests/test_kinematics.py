"""Directions agree with those of the `vector` library, which was written by others."""

import numpy as np
import pytest
import vector

from hepfm.kinematics import pt_eta_phi, relative_directions, wrapped


@pytest.fixture(scope="module")
def momenta():
    return np.random.default_rng(1).normal(size=(3, 1_000))


def test_directions_of_momenta_are_those_of_vector(momenta):
    p = vector.array(dict(zip(("px", "py", "pz"), momenta, strict=True)))
    np.testing.assert_allclose(pt_eta_phi(*momenta), (p.pt, p.eta, p.phi), rtol=1e-12)


def test_what_lies_along_the_beam_has_no_pseudorapidity_and_no_warning():
    pt, eta, _ = pt_eta_phi(np.zeros(2), np.zeros(2), np.array([1.0, 0.0]))
    assert pt.tolist() == eta.tolist() == [0, 0]


def test_what_is_no_number_stays_none():
    assert np.isnan(pt_eta_phi(np.array([np.nan]), np.ones(1), np.ones(1))).all()


def test_constituents_are_seen_from_their_jet_and_forward_is_positive(momenta):
    axis = vector.array({name: momenta[i, ::-1].copy() for i, name in enumerate(("px", "py", "pz"))})
    p = vector.array(dict(zip(("px", "py", "pz"), momenta, strict=True)))
    found = relative_directions(tuple(momenta), axis.eta, axis.phi)
    np.testing.assert_allclose(found["part_deta"], np.sign(axis.eta) * (p.eta - axis.eta), rtol=1e-12)
    np.testing.assert_allclose(np.sin(found["part_dphi"] - p.deltaphi(axis)), 0, atol=1e-12)
    assert np.abs(found["part_dphi"]).max() <= np.pi


def test_angles_are_brought_into_range_and_those_within_keep_their_bits():
    within = np.array([-np.pi, -1e-9, 0.1, np.pi])
    assert wrapped(within).tobytes() == within.tobytes()
    np.testing.assert_allclose(wrapped(np.array([-4.0, 4.0, 10.0])), [2 * np.pi - 4, 4 - 2 * np.pi, 10 - 4 * np.pi])
