import math

import awkward as ak
import fastjet
import numpy as np
import pytest

from hepfm.resim import substructure as module
from hepfm.resim.substructure import MAX_TAU, n_subjettiness, soft_drop_mass

RADIUS, ZCUT, BETA = 0.8, 0.1, 0.0


def random_jets(seed, sizes, mass=0.1396):
    """Jets of the given numbers of constituents: a few prongs each, anywhere in azimuth."""
    rng = np.random.default_rng(seed)
    jets = []
    for n in sizes:
        centre = rng.uniform([-2, -np.pi], [2, np.pi])
        prongs = centre + rng.normal(0, 0.3, (rng.integers(1, 4), 2))
        y, phi = (prongs[rng.integers(0, len(prongs), n)] + rng.normal(0, 0.05, (n, 2))).T
        pt = rng.pareto(1.2, n) + 0.5
        mt = np.hypot(pt, mass)
        jets.append(np.column_stack([pt * np.cos(phi), pt * np.sin(phi), mt * np.sinh(y), mt * np.cosh(y)]))
    return jets


def describe(jets, radius=RADIUS, zcut=ZCUT, beta=BETA):
    offsets = np.concatenate([[0], np.cumsum([len(jet) for jet in jets])])
    momenta = np.concatenate(jets)
    return soft_drop_mass(momenta, offsets, radius, zcut, beta), n_subjettiness(momenta, offsets, radius)


def directions(momenta):
    px, py, pz, energy = np.asarray(momenta).T
    return np.arctanh(pz / energy), np.arctan2(py, px), np.hypot(px, py)


def distance2(y1, phi1, y2, phi2):
    return (y1 - y2) ** 2 + ((phi1 - phi2 + np.pi) % (2 * np.pi) - np.pi) ** 2


def mass_of(momentum):
    return math.sqrt(max(momentum[3] ** 2 - momentum[0] ** 2 - momentum[1] ** 2 - momentum[2] ** 2, 0.0))


def merge_by_brute_force(momenta, by_kt, until=1):
    """Every distance anew in each step. Branches are (momentum, children)."""
    branches = [(momentum, ()) for momentum in momenta]
    while len(branches) > until:
        y, phi, pt = directions([momentum for momentum, _ in branches])
        d = distance2(y[:, None], phi[:, None], y, phi)
        if by_kt:
            d = d * np.minimum(pt[:, None], pt) ** 2
        d[np.tril_indices(len(d))] = np.inf
        i, j = np.unravel_index(d.argmin(), d.shape)
        merged = (branches[i][0] + branches[j][0], (branches[i], branches[j]))
        branches = [branch for k, branch in enumerate(branches) if k not in (i, j)] + [merged]
    return branches


def soft_drop_by_brute_force(momenta, radius, zcut, beta):
    ((momentum, children),) = merge_by_brute_force(momenta, by_kt=False)
    while children:
        y, phi, pt = directions([child[0] for child in children])
        angle = math.sqrt(distance2(y[0], phi[0], y[1], phi[1]))
        if pt.min() / pt.sum() > zcut * (angle / radius) ** beta:
            break
        momentum, children = children[int(pt.argmax())]
    return mass_of(momentum)


def tau_by_numpy(momenta, axes, radius):
    y, phi, pt = directions(momenta)
    d = np.sqrt(distance2(y[:, None], phi[:, None], axes[:, 0], axes[:, 1])).min(axis=1)
    return (pt * d).sum() / (radius * pt.sum())


def minimised_axes(momenta, n_axes):
    """The axes as the compiled code moves them, and the tau it gets for them."""
    tree, children = module._cluster(momenta, True)
    axes = module._exclusive_jets(tree, children, n_axes)
    y, phi, pt = tree[: len(momenta), 4:].T.copy()
    return axes, module._tau(y, phi, pt, axes) / RADIUS


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_soft_drop_agrees_with_clustering_by_brute_force(beta):
    jets = random_jets(1, [2, 3, 5, 10, 20, 40, 60])
    mass, _ = describe(jets, beta=beta)
    assert mass == pytest.approx([soft_drop_by_brute_force(jet, RADIUS, ZCUT, beta) for jet in jets], abs=1e-6)


def test_soft_drop_and_n_subjettiness_agree_with_fjcontrib():
    jets = random_jets(2, np.random.default_rng(2).integers(MAX_TAU + 1, 90, 300))
    counts = [len(jet) for jet in jets]
    fields = dict(zip(("px", "py", "pz", "E"), np.concatenate(jets).T.copy(), strict=True))
    batch = ak.unflatten(ak.zip(fields), counts)
    sequence = fastjet.ClusterSequence(batch, fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0))
    groomed = sequence.exclusive_jets_softdrop_grooming(
        njets=1, beta=BETA, symmetry_cut=ZCUT, symmetry_measure="scalar_z", R0=RADIUS
    )
    tau = sequence.njettiness("NormalizedMeasure", "OnePass_KT_Axes", [1, 2, 3, 4], beta=1.0, R0=RADIUS)

    mass, ours = describe(jets)

    assert mass == pytest.approx(ak.to_numpy(groomed.msoftdrop), rel=1e-6, abs=1e-6)
    assert ours == pytest.approx(ak.to_numpy(tau).reshape(-1, MAX_TAU), abs=1e-9)


@pytest.mark.parametrize("n_axes", [1, 2, 3, 4])
def test_seed_axes_are_the_exclusive_kt_jets(n_axes):
    for jet in random_jets(3, [4, 7, 25, 60]):
        axes = module._exclusive_jets(*module._cluster(jet, True), n_axes)
        seeds = merge_by_brute_force(jet, by_kt=True, until=n_axes)
        y, phi, _ = directions([momentum for momentum, _ in seeds])
        expected = np.column_stack([y, phi])
        assert axes[axes[:, 0].argsort()] == pytest.approx(expected[y.argsort()], abs=1e-10)


@pytest.mark.parametrize("n_axes", [1, 2, 3, 4])
def test_tau_is_the_weighted_distance_to_its_axes(n_axes):
    for jet in random_jets(4, [5, 20, 60]):
        axes, tau = minimised_axes(jet, n_axes)
        assert tau == pytest.approx(tau_by_numpy(jet, axes, RADIUS), rel=1e-10)
        assert tau == pytest.approx(describe([jet])[1][0, n_axes - 1], rel=1e-12)


def test_axes_lie_at_a_minimum_of_tau():
    rng = np.random.default_rng(5)
    for jet in random_jets(5, [20, 40, 60]):
        axes, tau = minimised_axes(jet, 2)
        for _ in range(50):
            moved = axes + rng.normal(0, 0.02, axes.shape)
            assert tau_by_numpy(jet, moved, RADIUS) > tau - 1e-5


def test_tau_decreases_with_the_number_of_axes():
    _, tau = describe(random_jets(6, np.full(200, 50)))
    assert (np.diff(tau, axis=1) < 0).all()


def test_as_many_axes_as_prongs_leave_no_tau():
    prongs = np.array([[0.0, 0.0], [0.5, 0.2], [-0.1, 0.6]])
    y, phi = np.repeat(prongs, 5, axis=0).T
    pt = np.tile([50.0, 20.0, 10.0, 5.0, 1.0], 3)
    jet = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(y), pt * np.cosh(y)])
    tau = describe([jet])[1][0]
    assert tau[1] > 0.1
    assert tau[2] < 1e-4


def test_rotation_in_azimuth_and_reflection_change_nothing():
    jets = random_jets(7, np.full(100, 40))
    mass, tau = describe(jets)
    angle = 2.0
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for transformation in (rotation, np.diag([1.0, 1, -1, 1]), np.diag([-1.0, 1, 1, 1])):
        new_mass, new_tau = describe([jet @ transformation.T for jet in jets])
        assert new_mass == pytest.approx(mass, rel=1e-7, abs=1e-6)
        assert new_tau == pytest.approx(tau, abs=1e-9)


def test_soft_drop_without_a_cut_keeps_the_whole_jet():
    jets = random_jets(8, np.full(50, 30))
    mass, _ = describe(jets, zcut=0.0)
    assert mass == pytest.approx([mass_of(jet.sum(axis=0)) for jet in jets], rel=1e-9)


def test_jets_of_up_to_four_constituents_have_no_tau_beyond_their_number():
    jets = random_jets(9, [1, 2, 3, 4, 5])
    _, tau = describe(jets)
    assert np.array_equal(tau > 0, np.arange(1, 6)[:, None] > np.arange(1, 5))


def test_jet_of_one_constituent_keeps_its_mass_even_when_rounding_makes_it_imaginary():
    (massive,) = random_jets(10, [1], mass=0.938)
    tachyonic = np.array([[30.0, 40.0, 0.0, 50.0 * (1 - 1e-12)]])
    mass, _ = describe([massive, tachyonic])
    assert mass == pytest.approx([0.938, 0.0], abs=1e-6)


def test_soft_second_constituent_is_dropped_and_hard_one_kept():
    def pair(share):
        pt, phi = 100 * np.array([1 - share, share]), np.array([0.0, 0.4])
        return np.column_stack([pt * np.cos(phi), pt * np.sin(phi), 0 * pt, pt])

    mass, _ = describe([pair(0.09), pair(0.11)])
    assert mass == pytest.approx([0.0, mass_of(pair(0.11).sum(axis=0))], abs=1e-5)


def test_identical_constituents_do_no_harm():
    (jet,) = random_jets(11, [1], mass=0.0)
    mass, tau = describe([np.repeat(jet, 8, axis=0)])
    assert mass == pytest.approx([0.0], abs=1e-4)
    assert tau == pytest.approx(np.zeros((1, MAX_TAU)), abs=1e-7)
