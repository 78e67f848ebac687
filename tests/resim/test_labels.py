import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepfm.resim.clustering import Jets
from hepfm.resim.generator import Beams
from hepfm.resim.hard import CrossSection, HardEvents, generate
from hepfm.resim.labels import Targets, find_targets, match_jets, target_flavours
from hepfm.resim.processes import PROCESSES
from hepfm.resim.shower import Gluons
from hepfm.schema import JET_CLASSES, JET_FLAVOURS

INCOMING, DECAYED, OUTGOING = -1, 2, 1
D, U, S, C, B, TOP, GLUON, Z, W, HIGGS = 1, 2, 3, 4, 5, 6, 21, 23, 24, 25
ELECTRON, NU_E, MUON, NU_MU, TAU, NU_TAU, PHOTON = 11, 12, 13, 14, 15, 16, 22
RADIUS, MATCH_RADIUS = 0.8, 0.5


def events_of(*records):
    """Frozen events: two incoming gluons, then the particles given as (pdg_id, mother, eta, phi).

    A particle's mother counts from 1 as in the Les Houches record, so that the first one given is number 3.
    Particles that are somebody's mother are decayed. Each has a pt of 100 GeV times its number.
    """
    columns = {f.name: [] for f in fields(HardEvents)}
    for record in records:
        mothers = {mother for _, mother, *_ in record}
        for number, (pdg_id, mother, eta, phi) in enumerate(
            [(GLUON, 0, math.inf, 0.0), (GLUON, 0, -math.inf, 0.0), *map(_with_direction, record)], 1
        ):
            pt = 0.0 if mother == 0 else 100.0 * number
            pz = 6500.0 * np.sign(eta) if mother == 0 else pt * math.sinh(eta)
            columns["pdg_id"].append(pdg_id)
            columns["status"].append(INCOMING if mother == 0 else DECAYED if number in mothers else OUTGOING)
            columns["mother1"].append(mother)
            columns["px"].append(pt * math.cos(phi))
            columns["py"].append(pt * math.sin(phi))
            columns["pz"].append(pz)
            columns["energy"].append(math.hypot(pt, pz))
    n_particles, n_events = len(columns["pdg_id"]), len(records)
    integers = ("pdg_id", "status", "mother1", "mother2", "colour1", "colour2")
    particles = {
        name: np.array(columns[name] or np.zeros(n_particles), np.int32 if name in integers else float)
        for name in (*integers, "px", "py", "pz", "energy", "mass", "lifetime", "spin")
    }
    return HardEvents(
        beams=Beams(),
        cross_section=CrossSection(1.0, 0.0),
        weight_names=(),
        event_id=np.arange(n_events),
        weight=np.ones(n_events),
        weights=np.empty((n_events, 0)),
        scale=np.full(n_events, 100.0),
        alpha_qed=np.full(n_events, 1 / 128),
        alpha_qcd=np.full(n_events, 0.118),
        offsets=np.cumsum([0, *(len(record) + 2 for record in records)]),
        **particles,
    )


def _with_direction(particle):
    return particle if len(particle) == 4 else (*particle, 0.1 * particle[0] / 25, 0.0)


def jets_at(*directions, event=None):
    """Jets of one event, or of the events given, at (eta, phi)."""
    eta, phi = np.array(directions, float).reshape(-1, 2).T
    return Jets(
        event=np.zeros(len(eta), int) if event is None else np.asarray(event),
        columns={"jet_eta": eta, "jet_phi": phi},
        offsets=np.arange(len(eta) + 1),
        constituents={},
        candidate=np.arange(len(eta)),
    )


def targets_at(*targets, offsets=None):
    """Targets given as (eta, phi) of themselves, then of up to four prongs; those of no prongs are their own."""
    directions = np.full((len(targets), 5, 2), np.nan)
    for row, target in zip(directions, targets, strict=True):
        chosen = np.array([target, target] if np.ndim(target) == 1 else target, float)
        row[: len(chosen)] = chosen
    zeros = np.zeros(len(targets))
    return Targets(
        offsets=np.array([0, len(targets)]) if offsets is None else np.asarray(offsets),
        pdg_id=zeros.astype(np.int32),
        label=zeros.astype(np.int8),
        flavour=zeros.astype(np.int8),
        gluon=np.full(len(targets), -1, np.int32),
        pt=zeros,
        eta=directions[:, 0, 0],
        phi=directions[:, 0, 1],
        prong_eta=directions[:, 1:, 0],
        prong_phi=directions[:, 1:, 1],
    )


def names_of(targets):
    """(class, flavour, particle) of each target."""
    flavours = {code: name for name, code in JET_FLAVOURS.items()}
    return [
        (JET_CLASSES[label], flavours[flavour], pdg_id)
        for label, flavour, pdg_id in zip(targets.label, targets.flavour, targets.pdg_id.tolist(), strict=True)
    ]


NEUTRINOS = [(NU_E, 3), (-NU_E, 3)]  # of a Z that comes first
H_DECAYS = [(Z, 1), *NEUTRINOS, (HIGGS, 1)]  # the Higgs is number 6
DECAYS = {
    "QCD": ([(Z, 1), *NEUTRINOS, (U, 1)], "q", U, [6]),
    "Hbb": ([*H_DECAYS, (B, 6), (-B, 6)], "Hbb", HIGGS, [7, 8]),
    "Hcc": ([*H_DECAYS, (C, 6), (-C, 6)], "other", HIGGS, [7, 8]),
    "Hgg": ([*H_DECAYS, (GLUON, 6), (GLUON, 6)], "other", HIGGS, [7, 8]),
    "H4q": (
        [*H_DECAYS, (W, 6), (-W, 6), (U, 7), (-D, 7), (S, 8), (-C, 8)],
        "other",
        HIGGS,
        [9, 10, 11, 12],
    ),
    "Hqql": (
        [*H_DECAYS, (W, 6), (-W, 6), (-MUON, 7), (NU_MU, 7), (S, 8), (-C, 8)],
        "other",
        HIGGS,
        [9, 11, 12],
    ),
    "Zqq": ([(Z, 1), *NEUTRINOS, (Z, 1), (S, 6), (-S, 6)], "Zqq", Z, [7, 8]),
    "Wqq": ([(Z, 1), *NEUTRINOS, (-W, 1), (D, 6), (-U, 6)], "W", -W, [7, 8]),
    "Tbqq": ([(TOP, 1), (W, 3), (B, 3), (C, 4), (-S, 4)], "top", TOP, [5, 6, 7]),
    "Tbl": ([(-TOP, 1), (-W, 3), (-B, 3), (ELECTRON, 4), (-NU_E, 4)], "top", -TOP, [5, 6]),
}


@pytest.mark.parametrize("label", JET_CLASSES)
def test_each_class_has_one_target_with_its_decay_products_as_prongs(label):
    record, flavour, pdg_id, prongs = DECAYS[label]
    record = [(*particle, 0.1 * i, 0.05 * i) for i, particle in enumerate(record, 3)]  # directions tell them apart
    targets = find_targets(events_of(record))
    assert names_of(targets) == [(label, flavour, pdg_id)]
    assert sorted(targets.prong_eta[0][: len(prongs)]) == pytest.approx([0.1 * i for i in prongs])
    assert sorted(targets.prong_phi[0][: len(prongs)]) == pytest.approx([0.05 * i for i in prongs])
    assert np.isnan(targets.prong_eta[0][len(prongs) :]).all()
    number = [i for i, particle in enumerate(record, 3) if particle[0] == pdg_id][-1]
    assert targets.pt[0] == pytest.approx(100.0 * number)
    assert targets.eta[0] == pytest.approx(0.1 * number)
    assert targets.phi[0] == pytest.approx(0.05 * number)


NO_TARGET = {
    "W → tau": [(W, 1), (-TAU, 3), (NU_TAU, 3)],
    "W → electron": [(W, 1), (-ELECTRON, 3), (NU_E, 3)],
    "top → b tau": [(TOP, 1), (W, 3), (B, 3), (-TAU, 4), (NU_TAU, 4)],
    "H → WW with a tau": [(HIGGS, 1), (W, 3), (-W, 3), (-TAU, 4), (NU_TAU, 4), (S, 5), (-C, 5)],
    "H → WW → two leptons": [(HIGGS, 1), (W, 3), (-W, 3), (-MUON, 4), (NU_MU, 4), (ELECTRON, 5), (-NU_E, 5)],
    "H → tautau": [(HIGGS, 1), (TAU, 3), (-TAU, 3)],
    "H → photons": [(HIGGS, 1), (PHOTON, 3), (PHOTON, 3)],
    "H → light quarks": [(HIGGS, 1), (S, 3), (-S, 3)],
    "Z → neutrinos": [(Z, 1), (NU_E, 3), (-NU_E, 3)],
    "Z → muons": [(Z, 1), (MUON, 3), (-MUON, 3)],
    "photon and lepton from the collision": [(PHOTON, 1), (ELECTRON, 1)],
    "undecayed top": [(TOP, 1)],
}


@pytest.mark.parametrize("decay", NO_TARGET)
def test_other_decays_have_no_target(decay):
    assert find_targets(events_of(NO_TARGET[decay])).counts.tolist() == [0]


def test_a_decay_that_is_no_target_leaves_no_trace_in_the_next_one():
    both = [*NO_TARGET["H → WW with a tau"], (W, 1), (U, 10), (-D, 10)]
    targets = find_targets(events_of(both))
    assert names_of(targets) == [("Wqq", "W", W)]
    assert np.isfinite(targets.prong_eta).sum() == 2


@pytest.mark.parametrize(
    ("pdg_id", "flavour"), [(D, "q"), (-U, "q"), (S, "q"), (C, "c"), (-C, "c"), (B, "b"), (-B, "b"), (GLUON, "g")]
)
def test_partons_of_the_collision_are_qcd_targets_with_their_flavour(pdg_id, flavour):
    assert names_of(find_targets(events_of([(pdg_id, 1)]))) == [("QCD", flavour, pdg_id)]


@pytest.mark.parametrize(("quark", "flavour"), [(D, "Zqq"), (C, "Zqq"), (B, "Zbb")])
def test_z_to_b_quarks_has_a_flavour_of_its_own(quark, flavour):
    assert names_of(find_targets(events_of([(Z, 1), (quark, 3), (-quark, 3)]))) == [("Zqq", flavour, Z)]


def test_flavour_codes_are_those_of_rs3l():
    # Jet types of the published files, Zenodo 10633815.
    published = {
        "q": 1,
        "c": 2,
        "b": 3,
        "Hbb": 4,
        "gqq": 5,
        "gcc": 6,
        "gbb": 7,
        "ggg": 8,
        "W": 9,
        "Zqq": 10,
        "Zbb": 11,
    }
    assert {name: JET_FLAVOURS[name] for name in published} == published


def test_partons_come_first_then_resonances_in_the_order_of_the_record():
    record = [
        (TOP, 1),
        (-TOP, 1),
        (W, 3),
        (B, 3),
        (-W, 4),
        (-B, 4),
        (U, 5),
        (-D, 5),
        (S, 7),
        (-C, 7),
        (GLUON, 1),
        (U, 1),
    ]
    targets = find_targets(events_of(record))
    assert [pdg_id for _, _, pdg_id in names_of(targets)] == [GLUON, U, TOP, -TOP]
    assert targets.label.tolist() == [JET_CLASSES.index(name) for name in ("QCD", "QCD", "Tbqq", "Tbqq")]


def test_gluons_of_the_collision_are_numbered_and_those_of_decays_are_not():
    first = [(GLUON, 1), (U, 1), (GLUON, 1)]
    second = [(HIGGS, 1), (GLUON, 3), (GLUON, 3), (GLUON, 1)]
    targets = find_targets(events_of(first, second))
    assert targets.offsets.tolist() == [0, 3, 5]
    assert targets.gluon.tolist() == [0, -1, 1, 0, -1]


def test_the_shower_decides_on_the_flavour_of_gluons_only():
    targets = find_targets(events_of([(GLUON, 1), (U, 1), (GLUON, 1)], [(B, 1)], [(GLUON, 1)]))
    codes = [JET_FLAVOURS[name] for name in ("gbb", "ggg", "gqq")]
    fates = Gluons(offsets=np.array([0, 2, 2, 3]), flavour=np.array(codes, np.int8))
    flavours = target_flavours(targets, fates)
    assert flavours.tolist() == [JET_FLAVOURS[name] for name in ("gbb", "q", "ggg", "b", "gqq")]
    assert names_of(targets)[0][1] == "g"  # the targets themselves stay as frozen


def test_label_keeps_the_targets_of_one_class():
    events = events_of([*DECAYS["Hbb"][0], (GLUON, 1)], DECAYS["QCD"][0], DECAYS["Hcc"][0])
    assert find_targets(events).counts.tolist() == [2, 1, 1]
    assert find_targets(events, "Hbb").counts.tolist() == [1, 0, 0]
    assert find_targets(events, "QCD").counts.tolist() == [1, 1, 0]
    assert set(find_targets(events, "Hcc").label) == {JET_CLASSES.index("Hcc")}


def test_targets_of_an_event_do_not_depend_on_the_events_around_it():
    records = [record for record, *_ in DECAYS.values()]
    together = find_targets(events_of(*records))
    for i, record in enumerate(records):
        alone = find_targets(events_of(record))
        here = together.take(np.array([i]))
        for f in fields(Targets):
            np.testing.assert_array_equal(getattr(alone, f.name), getattr(here, f.name))


# Pythia's settings decide on the decays, find_targets on the class: they must agree.
@pytest.mark.parametrize("name", PROCESSES)
def test_generated_events_hold_the_targets_of_their_process(name):
    process = PROCESSES[name]
    phase_space = "PhaseSpace:pTHatMin = 450"

    def accept(events):
        return find_targets(events, process.label).counts == process.n_targets

    events = generate((*process.settings, phase_space), Beams(), 1, np.arange(40), accept)
    targets = find_targets(events)
    assert (targets.counts == process.n_targets).all()
    assert set(targets.label) == {JET_CLASSES.index(process.label)}
    n_prongs = {"QCD": 1, "H4q": 4, "Hqql": 3, "Tbqq": 3}.get(process.label, 2)
    assert (np.isfinite(targets.prong_eta).sum(axis=1) == n_prongs).all()
    # A two-body decay's products surround their mother, so that the prongs are hers indeed.
    to_nearest = np.nanmin(
        np.hypot(targets.prong_eta - targets.eta[:, None], _wrapped(targets.prong_phi - targets.phi[:, None])), axis=1
    )
    assert np.median(to_nearest) < 0.4


def _wrapped(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def matches(jets, targets, radius=RADIUS, match_radius=MATCH_RADIUS):
    """Pairs (jet, target)."""
    return list(zip(*(indices.tolist() for indices in match_jets(jets, targets, radius, match_radius)), strict=True))


def test_a_target_within_the_match_radius_is_matched_and_one_outside_is_not():
    assert matches(jets_at((0, 0)), targets_at((0.49, 0))) == [(0, 0)]
    assert matches(jets_at((0, 0)), targets_at((0.51, 0))) == []


def test_the_closest_pair_is_matched_first():
    # The second jet is nearer to the target, and the first is left alone.
    assert matches(jets_at((0, 0), (0.4, 0)), targets_at((0.3, 0))) == [(1, 0)]
    # The closest pair of all takes jet 0 away from target 0, which is left with the other.
    assert matches(jets_at((0, 0), (0.3, 0)), targets_at((0.1, 0), (0.05, 0))) == [(0, 1), (1, 0)]


def test_a_target_goes_to_one_jet_and_a_jet_to_one_target():
    assert matches(jets_at((0, 0)), targets_at((0.1, 0), (0.2, 0), (0.3, 0))) == [(0, 0)]
    assert matches(jets_at((0, 0), (0.1, 0.1), (0, 0.2)), targets_at((0, 0))) == [(0, 0)]


def test_both_tops_of_an_event_are_matched():
    top, antitop = [(0.2, 0), (0.3, 0.2), (0.2, -0.3)], [(-1, 3), (-1.2, 3.1), (-0.8, 2.8), (-1, 3)]
    assert matches(jets_at((-1, 3.1), (0.2, 0.1)), targets_at(top, antitop)) == [(0, 1), (1, 0)]


def test_a_decay_that_the_jet_does_not_contain_is_no_match():
    contained, wide = [(0, 0), (0.4, 0), (-0.79, 0)], [(0, 0), (0.4, 0), (-0.81, 0)]
    assert matches(jets_at((0, 0)), targets_at(contained)) == [(0, 0)]
    assert matches(jets_at((0, 0)), targets_at(wide)) == []
    # A jet further from the target may contain it all.
    assert matches(jets_at((0, 0), (-0.2, 0)), targets_at(wide)) == [(1, 0)]


def test_azimuth_wraps_around():
    assert matches(jets_at((0, np.pi - 0.1)), targets_at((0, -np.pi + 0.1))) == [(0, 0)]
    assert matches(jets_at((0, np.pi)), targets_at((0, -np.pi))) == [(0, 0)]
    assert matches(jets_at((0, 3.0)), targets_at([(0, 3.1), (0, -3.0)])) == [(0, 0)]
    assert matches(jets_at((0, 3.0)), targets_at([(0, 3.1), (0, -2.4)])) == []  # 0.88 away


def test_jets_and_targets_of_different_events_are_never_matched():
    jets = jets_at((0, 0), (0, 0), event=[0, 2])
    targets = targets_at((0, 0), (0.1, 0), offsets=[0, 0, 1, 2])
    assert matches(jets, targets) == [(1, 1)]


def test_no_jets_and_no_targets_give_no_match():
    assert matches(jets_at(), targets_at((0, 0))) == []
    assert matches(jets_at((0, 0)), targets_at()) == []


def random_sample(seed):
    """Jets and targets of three events, close enough to one another to compete."""
    rng = np.random.default_rng(seed)
    event = np.sort(rng.integers(0, 3, rng.integers(0, 8)))
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, 3))])
    jets = rng.uniform([-1.5, -np.pi], [1.5, np.pi], (len(event), 2))
    targets = []
    for _ in range(offsets[-1]):
        centre = rng.uniform([-1.5, -np.pi], [1.5, np.pi]) if rng.random() < 0.3 or not len(jets) else rng.choice(jets)
        centre = centre + rng.normal(0, 0.3, 2)
        prongs = centre + rng.normal(0, 0.3, (rng.integers(1, 5), 2))
        targets.append([(eta, float(_wrapped(phi))) for eta, phi in (centre, *prongs)])
    return jets_at(*jets, event=event), targets_at(*targets, offsets=offsets)


def brute_force(jets, targets):
    """The same in plain Python: all pairs that are allowed, from the closest on."""
    pairs = []
    for j, event in enumerate(jets.event):
        eta, phi = jets.columns["jet_eta"][j], jets.columns["jet_phi"][j]
        for t in range(targets.offsets[event], targets.offsets[event + 1]):
            prongs = zip(targets.prong_eta[t], targets.prong_phi[t], strict=True)
            inside = all(_distance(eta, phi, *prong) < RADIUS for prong in prongs if not math.isnan(prong[0]))
            distance = _distance(eta, phi, targets.eta[t], targets.phi[t])
            if inside and distance < MATCH_RADIUS:
                pairs.append((distance, j, t))
    matched = {}
    for _, j, t in sorted(pairs):
        if j not in matched and t not in matched.values():
            matched[j] = t
    return sorted(matched.items())


def _distance(eta_a, phi_a, eta_b, phi_b):
    return math.hypot(eta_a - eta_b, math.remainder(phi_a - phi_b, 2 * math.pi))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_matching_is_that_of_a_brute_force_over_all_pairs(seed):
    jets, targets = random_sample(seed)
    assert matches(jets, targets) == brute_force(jets, targets)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(-np.pi, np.pi))
def test_turning_the_event_changes_no_match(seed, angle):
    jets, targets = random_sample(seed)
    turned_jets = jets_at(
        *zip(jets.columns["jet_eta"], _wrapped(jets.columns["jet_phi"] + angle), strict=True), event=jets.event
    )
    directions = np.stack(
        [
            np.column_stack([targets.eta, targets.prong_eta]),
            _wrapped(np.column_stack([targets.phi, targets.prong_phi]) + angle),
        ],
        axis=-1,
    )
    turned_targets = targets_at(*directions, offsets=targets.offsets)
    assert matches(turned_jets, turned_targets) == matches(jets, targets)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_matches_do_not_depend_on_the_order_of_jets_and_targets(seed):
    jets, targets = random_sample(seed)
    rng = np.random.default_rng(seed)
    jet_order = rng.permutation(len(jets))
    jet_order = jet_order[np.argsort(jets.event[jet_order], kind="stable")]
    event_of_target = np.repeat(np.arange(3), targets.counts)
    target_order = rng.permutation(len(event_of_target))
    target_order = target_order[np.argsort(event_of_target[target_order], kind="stable")]
    shuffled_jets = jets_at(
        *zip(jets.columns["jet_eta"][jet_order], jets.columns["jet_phi"][jet_order], strict=True), event=jets.event
    )
    columns = {f.name: getattr(targets, f.name)[target_order] for f in fields(Targets) if f.name != "offsets"}
    shuffled_targets = Targets(offsets=targets.offsets, **columns)
    shuffled = matches(shuffled_jets, shuffled_targets)
    assert sorted((jet_order[j], target_order[t]) for j, t in shuffled) == matches(jets, targets)
