"""Small real campaigns, from the hard process to the jets, against what physics says they must look like.

Every number here is a physical expectation with a tolerance for statistics, which the seeds fix: a failure means
a change in the simulation. `benchmarks/jetclass_marginals.py` makes the precise comparison with JetClass.
"""

import fcntl
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import hepfm
from hepfm.resim import plan, run
from hepfm.schema import CONSTITUENT_COLUMNS, JET_CLASSES, JET_FLAVOURS, TRUTH
from hepfm.table import matching_rows

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "jetclass_marginals.npz"
VIEWS = ("nominal", "reseed", "fsr-up", "fsr-down")
# Pole masses in GeV that Pythia and the physical world agree on.
W_MASS, Z_MASS, HIGGS_MASS, TOP_MASS = 80.4, 91.2, 125.0, 173.0


def dataset_of(campaign, name, tmp_path_factory):
    """The campaign's dataset, simulated once however many workers pytest has."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(campaign, root / name, workers=2)  # at once if another worker has made it
    return hepfm.open(root / name)


@pytest.fixture(scope="session")
def jetclass(tmp_path_factory):
    """The ten classes in the JetClass detector, 140 events each."""
    campaign = plan(1400, "nominal", "jetclass", detector="jetclass", seed=5, chunk_events=70)
    return dataset_of(campaign, "physics-jetclass", tmp_path_factory).read_table()


@pytest.fixture(scope="session")
def particle_level(tmp_path_factory):
    """The ten classes without a detector, 120 events each."""
    campaign = plan(1200, "nominal", "jetclass", detector="none", seed=6, chunk_events=60)
    return dataset_of(campaign, "physics-none", tmp_path_factory).read_table()


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """H→bb and QCD under four variations in the CMS detector, 250 events each, as name → table."""
    campaign = plan(500, ",".join(VIEWS), "rs3l", detector="cms", seed=7, chunk_events=125)
    # Above the preset's, so that nearly all events give a jet in all views.
    campaign = replace(campaign, processes=tuple(_above(process, 450) for process in campaign.processes))
    dataset = dataset_of(campaign, "physics-views", tmp_path_factory)
    return {name: dataset.read_table(variation=name) for name in VIEWS}


@pytest.fixture(scope="session")
def radiation(tmp_path_factory):
    """H→bb with more and less final-state radiation in the CMS detector, 500 events, as name → table."""
    names = ("fsr-up", "fsr-down")
    campaign = plan(500, ",".join(names), "Hbb", detector="cms", seed=9, chunk_events=125)
    campaign = replace(campaign, processes=(_above(campaign.processes[0], 500),))
    dataset = dataset_of(campaign, "physics-radiation", tmp_path_factory)
    return {name: dataset.read_table(variation=name) for name in names}


@pytest.fixture(scope="session")
def gluon_jets(tmp_path_factory):
    """Jets of gluons that recoil against a Z, in the CMS detector, 700 events."""
    campaign = plan(700, "nominal", "QCD", detector="cms", seed=8, chunk_events=175)
    gluons = _above(campaign.processes[0], 450)
    gluons = replace(gluons, settings=tuple(s for s in gluons.settings if "qg2gmZq" not in s))
    dataset = dataset_of(replace(campaign, processes=(gluons,)), "physics-gluons", tmp_path_factory)
    return dataset.read_table()


def _above(process, pt_hat_min):
    kept = (setting for setting in process.settings if "pTHatMin" not in setting)
    return replace(process, settings=(*kept, f"PhaseSpace:pTHatMin = {pt_hat_min}"))


def of_class(table, *names):
    return table.select(np.isin(table.columns["jet_label"], [JET_CLASSES.index(name) for name in names]))


def of_flavour(table, *names):
    return table.select(np.isin(table.columns["jet_flavour"], [JET_FLAVOURS[name] for name in names]))


def jet_of_constituent(table):
    return np.repeat(np.arange(table.n_jets), table.counts)


def summed(table, values):
    """Sum of constituents' values in each jet."""
    return np.bincount(jet_of_constituent(table), values.astype(float), table.n_jets)


def constituent_pt(table):
    return np.hypot(table.constituents["part_px"], table.constituents["part_py"])


def median_with_error(values):
    """Median, and its standard error from the quartiles as if the peak was Gaussian."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return median, 1.2533 * (high - low) / 1.349 / math.sqrt(len(values))


# How far the median may be from the mass, as a share of it, without a detector and in the JetClass detector.
# Neutrinos of b and c decays and what falls out of the cone or the groomed jet lower it, particles from elsewhere
# raise it. The detector loses tracks below its calorimeters' thresholds and particles that decay beyond its
# tracker, and there is no jet energy correction. docs/physics-validation.md has the precise numbers.
MASSES = [
    ("Wqq", W_MASS, 0.03, 0.06),
    ("Zqq", Z_MASS, 0.03, 0.07),
    ("Hgg", HIGGS_MASS, 0.04, 0.09),
    ("Hcc", HIGGS_MASS, 0.04, 0.08),
    ("Hbb", HIGGS_MASS, 0.06, 0.10),
    ("Tbqq", TOP_MASS, 0.04, 0.07),
]


@pytest.mark.parametrize(("label", "mass", "shift", "_"), MASSES)
def test_soft_drop_mass_peaks_at_the_resonance(particle_level, label, mass, shift, _):
    median, error = median_with_error(of_class(particle_level, label).columns["jet_sdmass"])
    assert abs(median - mass) < shift * mass + 3 * error


@pytest.mark.parametrize(("label", "mass", "_", "shift"), MASSES)
def test_soft_drop_mass_peaks_at_the_resonance_in_the_detector(jetclass, label, mass, _, shift):
    median, error = median_with_error(of_class(jetclass, label).columns["jet_sdmass"])
    assert abs(median - mass) < shift * mass + 3 * error


def test_soft_drop_mass_peaks_at_the_higgs_in_the_cms_detector(views):
    median, error = median_with_error(of_class(views["nominal"], "Hbb").columns["jet_sdmass"])
    assert abs(median - HIGGS_MASS) < 0.07 * HIGGS_MASS + 3 * error


def test_soft_drop_leaves_light_jets_light(particle_level):
    # Groomed QCD jets of 600 GeV are far below any resonance: their mass is a Sudakov peak, not a scale.
    assert np.median(of_class(particle_level, "QCD").columns["jet_sdmass"]) < 40


@pytest.mark.parametrize("sample", ["jetclass", "particle_level", "gluon_jets"])
def test_constituents_add_up_to_the_jet(sample, request):
    table = request.getfixturevalue(sample)
    px, py, pz, energy = (summed(table, table.constituents[f"part_{name}"]) for name in ("px", "py", "pz", "energy"))
    columns = table.columns
    np.testing.assert_allclose(np.hypot(px, py), columns["jet_pt"], rtol=1e-5)
    np.testing.assert_allclose(np.arcsinh(pz / np.hypot(px, py)), columns["jet_eta"], atol=1e-5)
    np.testing.assert_allclose(np.cos(np.arctan2(py, px) - columns["jet_phi"]), 1, atol=1e-9)
    np.testing.assert_allclose(energy, columns["jet_energy"], rtol=1e-5)
    np.testing.assert_array_equal(table.counts, columns["jet_nparticles"])


def test_deta_is_mirrored_so_that_forward_is_positive(jetclass):
    part, jet = jetclass.constituents, jet_of_constituent(jetclass)
    eta = np.arcsinh(part["part_pz"] / constituent_pt(jetclass))
    jet_eta = jetclass.columns["jet_eta"][jet]
    assert (jet_eta < 0).any() and (jet_eta > 0).any()
    np.testing.assert_allclose(part["part_deta"], np.sign(jet_eta) * (eta - jet_eta), atol=2e-4)
    more_forward = np.abs(eta) > np.abs(jet_eta) + 1e-3
    assert (part["part_deta"][more_forward & (eta * jet_eta > 0)] > 0).all()


def displaced_tracks(table):
    """Tracks above 1 GeV in each jet with 0.1 < |d0| < 3 mm and 3 standard deviations: few of K0S and hyperons."""
    part = table.constituents
    d0 = np.abs(part["part_d0val"])
    displaced = (d0 > 0.1) & (d0 < 3) & (d0 > 3 * part["part_d0err"])
    return summed(table, displaced & (part["part_charge"] != 0) & (constituent_pt(table) > 1))


@pytest.mark.parametrize("sample", ["jetclass", "particle_level"])
def test_tracks_of_b_jets_are_displaced_those_of_c_jets_less_and_those_of_light_jets_least(sample, request):
    table = request.getfixturevalue(sample)
    b, c = (displaced_tracks(of_class(table, name)) for name in ("Hbb", "Hcc"))
    light = displaced_tracks(of_flavour(table, "q"))
    assert np.mean(b) > 1.5 * np.mean(c) > 1.5 * 1.5 * np.mean(light)
    assert stats.mannwhitneyu(b, c, alternative="greater").pvalue < 1e-4
    assert stats.mannwhitneyu(c, light, alternative="greater").pvalue < 1e-2


def test_gluons_that_split_to_b_quarks_have_displaced_tracks(gluon_jets):
    gbb, ggg = (displaced_tracks(of_flavour(gluon_jets, name)) for name in ("gbb", "ggg"))
    assert len(gbb) >= 5
    assert np.mean(gbb) > 2 * np.mean(ggg)
    assert stats.mannwhitneyu(gbb, ggg, alternative="greater").pvalue < 1e-3


def test_most_hard_gluons_branch_to_gluons(gluon_jets):
    shares = {name: of_flavour(gluon_jets, name).n_jets / gluon_jets.n_jets for name in JET_FLAVOURS}
    assert sum(shares[name] for name in ("g", "ggg", "gqq", "gcc", "gbb")) == pytest.approx(1)
    assert shares["ggg"] > 0.7 > shares["gqq"] > shares["gbb"]


def test_tau21_tells_two_prongs_from_one(jetclass):
    def tau21(*names):
        columns = of_class(jetclass, *names).columns
        return columns["jet_tau2"] / columns["jet_tau1"]

    for label in ("Hbb", "Hcc", "Zqq", "Wqq"):
        assert stats.mannwhitneyu(tau21(label), tau21("QCD"), alternative="less").pvalue < 1e-4
    assert np.median(tau21("Hbb", "Hcc", "Zqq", "Wqq")) < 0.4 < 0.5 < np.median(tau21("QCD"))


def test_tau32_tells_three_prongs_from_two_and_one(jetclass):
    def tau32(*names):
        columns = of_class(jetclass, *names).columns
        return columns["jet_tau3"] / columns["jet_tau2"]

    for label in ("QCD", "Hbb"):
        assert stats.mannwhitneyu(tau32("Tbqq"), tau32(label), alternative="less").pvalue < 1e-4
    assert np.median(tau32("Tbqq")) < 0.6 < 0.7 < np.median(tau32("QCD", "Hbb"))


def test_more_final_state_radiation_gives_more_constituents(radiation):
    up, down = (radiation[name].columns["jet_nparticles"].astype(float) for name in ("fsr-up", "fsr-down"))
    rows = matching_rows(radiation["fsr-up"], radiation["fsr-down"])
    more = up[rows[0]] - down[rows[1]]
    # 9 % more, 5 standard deviations are expected of some 390 pairs.
    assert np.mean(more) / stats.sem(more) > 3
    assert 0.03 < np.mean(more) / np.mean(down) < 0.16


def test_nominal_and_reseed_agree_statistically(views):
    for column in ("jet_pt", "jet_sdmass", "jet_nparticles", "jet_eta", "jet_tau2"):
        nominal, reseed = views["nominal"].columns[column], views["reseed"].columns[column]
        assert stats.ks_2samp(nominal, reseed).pvalue > 1e-3, column
    part = [constituent_pt(views[name]) for name in ("nominal", "reseed")]
    assert np.mean(part[0]) == pytest.approx(np.mean(part[1]), rel=0.05)
    d0 = [np.abs(views[name].constituents["part_d0val"]) for name in ("nominal", "reseed")]
    assert np.mean(d0[0] > 0.1) == pytest.approx(np.mean(d0[1] > 0.1), rel=0.2)


def test_nominal_and_reseed_differ_event_by_event(views):
    rows = matching_rows(views["nominal"], views["reseed"])
    pt, others = (views[name].columns["jet_pt"][r] for name, r in zip(("nominal", "reseed"), rows, strict=True))
    assert len(pt) > 200
    assert (pt != others).all()
    # Yet they come from the same partons, so they are far more alike than jets of different events.
    assert np.corrcoef(pt, others)[0, 1] > 0.7


def test_frozen_partons_are_the_same_to_the_last_bit_in_all_views(views):
    names = [column.name for column in TRUTH] + ["jet_label", "process"]
    for name in VIEWS[1:]:
        rows = matching_rows(views["nominal"], views[name])
        assert len(rows[0]) > 300
        for column in names:
            ours, theirs = views["nominal"].columns[column][rows[0]], views[name].columns[column][rows[1]]
            assert ours.tobytes() == theirs.tobytes(), (name, column)


@pytest.mark.parametrize(("sample", "low", "high"), [("particle_level", 0.96, 1.03), ("jetclass", 0.94, 1.03)])
def test_jets_have_the_pt_of_their_parton(sample, low, high, request):
    # Leptonic classes lose a neutrino. Partons well inside the selection, so that it does not pick upward outliers.
    table = of_class(request.getfixturevalue(sample), *(set(JET_CLASSES) - {"Hqql", "Tbl"}))
    inside = (table.columns["truth_pt"] > 570) & (table.columns["truth_pt"] < 900)
    response = (table.columns["jet_pt"] / table.columns["truth_pt"])[inside]
    assert len(response) > 150
    assert low < np.median(response) < high
    direction = np.hypot(
        table.columns["jet_eta"] - table.columns["truth_eta"],
        (table.columns["jet_phi"] - table.columns["truth_phi"] + np.pi) % (2 * np.pi) - np.pi,
    )
    assert np.median(direction) < 0.06


def test_leptonic_jets_lose_the_neutrino(particle_level):
    for label in ("Hqql", "Tbl"):
        columns = of_class(particle_level, label).columns
        assert 0.6 < np.median(columns["jet_pt"] / columns["truth_pt"]) < 0.95


def energy_shares(table):
    energy = table.constituents["part_energy"]
    flags = ("isChargedHadron", "isPhoton", "isNeutralHadron", "isElectron", "isMuon")
    return {
        flag: np.sum(energy[table.constituents[f"part_{flag}"]], dtype=float) / energy.sum(dtype=float)
        for flag in flags
    }


def test_jets_are_made_of_charged_hadrons_photons_and_neutral_hadrons_as_isospin_wants(particle_level):
    # Pions of three charges in equal numbers, and some kaons and nucleons. K0S and Lambda have decayed here.
    shares = energy_shares(of_class(particle_level, "QCD", "Zqq", "Wqq", "Hgg"))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["isChargedHadron"] == pytest.approx(0.63, abs=0.03)
    assert shares["isPhoton"] == pytest.approx(0.26, abs=0.03)
    assert shares["isNeutralHadron"] == pytest.approx(0.10, abs=0.03)
    assert shares["isElectron"] + shares["isMuon"] < 0.02


def test_long_lived_hadrons_decay_in_the_jetclass_preset_alone(jetclass, views):
    # Tracks from 5 mm off the beam: K0S and hyperons, which b and c hadrons do not reach.
    def far(table):
        part = table.constituents
        return np.mean(np.abs(part["part_d0val"][part["part_charge"] != 0]) > 5)

    assert far(jetclass) > 10 * far(views["nominal"])
    assert 0.01 < far(jetclass) < 0.1


def test_every_constituent_is_of_one_kind_and_neutral_ones_have_no_track(jetclass):
    part = jetclass.constituents
    flags = [name for name in CONSTITUENT_COLUMNS if name.startswith("part_is")]
    assert (np.sum([part[flag] for flag in flags], axis=0) == 1).all()
    neutral = part["part_isPhoton"] | part["part_isNeutralHadron"]
    assert ((part["part_charge"] == 0) == neutral).all()
    assert (part["part_d0val"][neutral] == 0).all() and (part["part_d0err"][~neutral] > 0).all()


def test_gluon_jets_have_more_constituents_than_quark_jets(particle_level, gluon_jets, views):
    gluons = gluon_jets.columns["jet_nparticles"]
    quarks = of_flavour(views["nominal"], "q").columns["jet_nparticles"]
    assert stats.mannwhitneyu(gluons, quarks, alternative="greater").pvalue < 1e-9
    # The colour factors' ratio is 9/4; what a detector sees of it at 600 GeV is about 1.5.
    assert 1.2 < np.mean(gluons) / np.mean(quarks) < 2.25
    pairs = (
        of_class(particle_level, "Hgg").columns["jet_nparticles"],
        of_class(particle_level, "Wqq").columns["jet_nparticles"],
    )
    assert 1.2 < np.mean(pairs[0]) / np.mean(pairs[1]) < 2.25


def test_no_direction_is_special_in_azimuth(jetclass):
    # One jet an event: the two tops of an event are back to back.
    _, first = np.unique(jetclass.columns["event_id"], return_index=True)
    phi = jetclass.columns["jet_phi"][first].astype(float)
    for harmonic in (1, 2, 3):
        # Rayleigh's test: for isotropic directions n |mean|² is exponentially distributed.
        assert math.exp(-len(phi) * abs(np.mean(np.exp(1j * harmonic * phi))) ** 2) > 1e-3


def test_both_beams_are_alike(jetclass):
    _, first = np.unique(jetclass.columns["event_id"], return_index=True)
    eta = jetclass.columns["jet_eta"][first]
    assert stats.binomtest(int(np.sum(eta > 0)), len(eta)).pvalue > 1e-3
    assert stats.ks_2samp(eta, -eta).pvalue > 1e-3


def test_constituents_lie_around_the_jet_without_a_side(jetclass):
    for name in ("part_deta", "part_dphi"):
        values = jetclass.constituents[name].astype(float)
        means = summed(jetclass, values) / jetclass.counts
        assert abs(np.mean(means)) < 4 * stats.sem(means) + 0.005, name  # forward is the wider side, by a little


def test_leptons_appear_in_the_leptonic_classes(jetclass):
    part = jetclass.constituents
    is_lepton = part["part_isElectron"] | part["part_isMuon"]
    hardest = np.zeros(jetclass.n_jets)
    np.maximum.at(hardest, jet_of_constituent(jetclass), np.where(is_lepton, constituent_pt(jetclass), 0))
    labels = jetclass.columns["jet_label"]
    share = {name: np.mean(hardest[labels == i] > 20) for i, name in enumerate(JET_CLASSES)}
    for label in ("Hqql", "Tbl"):
        assert share[label] > 0.85
        leptons = [of_class(jetclass, label).constituents[f"part_is{kind}"].sum() for kind in ("Electron", "Muon")]
        assert min(leptons) > 0.25 * sum(leptons)  # electrons and muons alike
    for label in ("QCD", "Hgg", "Wqq"):
        assert share[label] < 0.1


def test_ten_class_jets_have_the_marginals_of_jetclass(jetclass):
    """Quantiles of all classes together, each weighted alike, against the published set's.

    Scaling a reference quantile by 1 ± 5 % must bracket our own, but for 3.5 standard deviations of our sample.
    """
    if not REFERENCE.exists():
        pytest.skip("needs ../shared/reference/jetclass_marginals.npz")
    labels = jetclass.columns["jet_label"]
    weight = (1 / np.bincount(labels, minlength=len(JET_CLASSES)))[labels]
    ones = np.ones(jetclass.n_jets)
    jet = jet_of_constituent(jetclass)
    # The reference's constituents are the first 64 of a jet.
    used = np.arange(len(jet)) - jetclass.offsets[jet] < 64
    marginals = {
        "jet_pt": (jetclass.columns["jet_pt"], np.arange(jetclass.n_jets), ones),
        "jet_eta": (np.abs(jetclass.columns["jet_eta"]), np.arange(jetclass.n_jets), ones),
        "jet_sdmass": (jetclass.columns["jet_sdmass"], np.arange(jetclass.n_jets), ones),
        "jet_nparticles": (jetclass.columns["jet_nparticles"], np.arange(jetclass.n_jets), ones),
        "part_pt": (constituent_pt(jetclass)[used], jet[used], np.minimum(jetclass.counts, 64)),
    }
    with np.load(REFERENCE) as reference:
        probability = reference["probability"]
        for name, (values, owner, n_values) in marginals.items():
            for p in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95):
                if name == "jet_eta":  # symmetric: a quantile of |eta|
                    quantile = np.interp((1 + p) / 2, probability, reference[name])
                else:
                    quantile = np.interp(p, probability, reference[name])
                bracket = []
                for scale in (0.95, 1.05):
                    n_below = np.bincount(owner, values <= scale * quantile, jetclass.n_jets)
                    below = np.sum(weight * n_below) / np.sum(weight * n_values)
                    deviations = weight * (n_below - below * n_values)
                    bracket.append((below, math.sqrt(np.sum(deviations**2)) / np.sum(weight * n_values)))
                (low, low_error), (high, high_error) = bracket
                assert low - 3.5 * low_error < p < high + 3.5 * high_error, (name, p, quantile)
