import dataclasses
import subprocess
import sys
from pathlib import Path

import fastjet
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepfm.errors import InputError
from hepfm.resim.clustering import Jets, JetSelection, find_jets
from hepfm.resim.particles import Candidates

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "delphes"
ALL_JETS = JetSelection(candidate_pt_min=0.0, pt_min=0.0, pt_max=np.inf, abs_eta_max=np.inf)
HARD_JETS = JetSelection(candidate_pt_min=1.0, pt_min=50.0, pt_max=np.inf, abs_eta_max=2.5)
PION, KAON_0, PHOTON, ELECTRON, MUON = 211, 0, 22, 11, -13


def candidates_of(events, mass=0.1396):
    """Candidates of events given as arrays of pt, y, phi, pdg_id, shape (n, 4)."""
    pt, y, phi, pdg_id = np.concatenate([np.empty((0, 4)), *events]).T
    mt = np.hypot(pt, mass)
    pdg_id = pdg_id.astype(np.int32)
    charged = np.isin(np.abs(pdg_id), [PION, ELECTRON, -MUON])
    track = charged.astype(np.float32)
    return Candidates(
        offsets=np.cumsum([0, *map(len, events)]),
        pdg_id=pdg_id,
        charge=np.where(charged, np.sign(pdg_id), 0).astype(np.int8),
        source=np.full(len(pt), -1, np.int32),
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=mt * np.sinh(y),
        energy=mt * np.cosh(y),
        d0=0.1 * track,
        d0err=0.01 * track,
        dz=0.2 * track,
        dzerr=0.02 * track,
    )


def toy_events(seed, n_events):
    """Two or three sprays of particles over a soft background."""
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(n_events):
        axes = rng.uniform([-2.3, -np.pi], [2.3, np.pi], (rng.integers(2, 4), 2))
        sprays = rng.choice(axes, 60) + rng.normal(0, 0.2, (60, 2))
        directions = np.concatenate([sprays, rng.uniform([-4, -np.pi], [4, np.pi], (80, 2))])
        pt = np.concatenate([3 * rng.pareto(1.1, 60) + 0.1, rng.exponential(0.7, 80)])
        pdg_id = rng.choice([PION, -PION, KAON_0, PHOTON, ELECTRON, MUON], 140)
        events.append(np.column_stack([pt, directions, pdg_id]))
    return candidates_of(events)


def momenta_of(candidates):
    return np.column_stack([candidates.px, candidates.py, candidates.pz, candidates.energy])


def constituents_of(jets, jet):
    return slice(*jets.offsets[jet : jet + 2])


def assert_identical(jets: Jets, others: Jets):
    assert np.array_equal(jets.offsets, others.offsets)
    for name, values in {**jets.columns, **jets.constituents}.items():
        assert np.array_equal(values, {**others.columns, **others.constituents}[name]), name


def classic_jets(candidates, event, radius=0.8, pt_min=0.0):
    """The event's anti-kT jets through FastJet's own interface, which keeps the particles' indices."""
    particles = []
    for index, momentum in enumerate(momenta_of(candidates.take(np.array([event])))):
        particles.append(fastjet.PseudoJet(*momentum))
        particles[-1].set_user_index(index)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(particles, definition)
    return sequence, fastjet.sorted_by_pt(sequence.inclusive_jets(pt_min))


def classic_soft_drop_mass(jet, zcut, beta, radius):
    """Soft drop by hand on FastJet's Cambridge/Aachen tree."""
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, 999.0)
    sequence = fastjet.ClusterSequence(list(jet.constituents()), definition)
    (groomed,) = sequence.inclusive_jets()
    a, b = fastjet.PseudoJet(), fastjet.PseudoJet()
    while groomed.has_parents(a, b):
        share = min(a.pt(), b.pt()) / (a.pt() + b.pt())
        if share > zcut * (a.delta_R(b) / radius) ** beta:
            break
        groomed = fastjet.PseudoJet(a if a.pt() > b.pt() else b)
    return max(groomed.m(), 0.0)


@pytest.mark.parametrize(("beta", "radius"), [(0.0, 0.8), (1.0, 0.8), (0.0, 0.4)])
def test_jets_agree_with_fastjet_one_event_at_a_time(beta, radius):
    candidates = toy_events(1, 30)
    selection = dataclasses.replace(ALL_JETS, pt_min=20.0, soft_drop_beta=beta, radius=radius)
    jets = find_jets(candidates, selection)
    jet = 0
    for event in range(candidates.n_events):
        _sequence, expected = classic_jets(candidates, event, radius, selection.pt_min)
        for theirs in expected:
            ours = {name: values[jet] for name, values in jets.columns.items()}
            assert jets.event[jet] == event
            assert ours["jet_pt"] == pytest.approx(theirs.pt(), rel=1e-6)
            assert ours["jet_eta"] == pytest.approx(theirs.eta(), abs=1e-6)
            assert ours["jet_phi"] == pytest.approx(theirs.phi_std(), abs=1e-6)
            assert ours["jet_energy"] == pytest.approx(theirs.e(), rel=1e-6)
            soft_drop_mass = classic_soft_drop_mass(theirs, selection.soft_drop_zcut, beta, radius)
            assert ours["jet_sdmass"] == pytest.approx(soft_drop_mass, rel=1e-5, abs=1e-4)
            members = jets.candidate[constituents_of(jets, jet)] - candidates.offsets[event]
            assert sorted(members) == sorted(particle.user_index() for particle in theirs.constituents())
            assert ours["jet_nparticles"] == len(members)
            jet += 1
    assert jet == len(jets) > 60


@pytest.mark.skipif(not REFERENCE.exists(), reason="the Delphes reference is kept beside the repository")
@pytest.mark.parametrize("sample", ["hbb_cms", "qcd_cms", "hbb_jetclass", "qcd_jetclass"])
def test_jets_agree_with_those_of_delphes(sample):
    with np.load(REFERENCE / f"{sample}_seed1.npz") as stored:
        delphes = dict(stored)
    candidates = Candidates(
        offsets=delphes["offsets"].astype(np.int64),
        pdg_id=delphes["pid"],
        charge=delphes["charge"],
        source=delphes["idx"].astype(np.int32),
        **{name: delphes[name].astype(np.float64) for name in ("px", "py", "pz")},
        energy=delphes["E"].astype(np.float64),
        **{name: delphes[name] for name in ("d0", "d0err", "dz", "dzerr")},
    )
    pt_min = 500.0 if sample.endswith("jetclass") else 200.0
    jets = find_jets(candidates, dataclasses.replace(ALL_JETS, pt_min=pt_min))

    # Where Delphes has tracks without pt, they contaminate its jets around y = phi = 0.
    clean = np.hypot(delphes["fatjet_eta"], delphes["fatjet_phi"]) > 0.85
    if sample.endswith("cms"):
        clean[:] = True
    event = np.repeat(np.arange(candidates.n_events), np.diff(delphes["fatjet_offsets"]))
    ours, theirs = [], []
    for jet in np.flatnonzero(clean):
        same = (
            (jets.event == event[jet])
            & (np.abs(jets.columns["jet_eta"] - delphes["fatjet_eta"][jet]) < 1e-3)
            & (np.abs(jets.columns["jet_phi"] - delphes["fatjet_phi"][jet]) < 1e-3)
        )
        ours += np.flatnonzero(same).tolist()
        theirs += [jet] * same.sum()
    # A jet at the threshold, or beside the tracks without pt, may be on one side only.
    assert len(ours) == pytest.approx(clean.sum(), abs=2)
    assert len(set(ours)) == len(ours)

    # The stored momenta are rounded to 4e-6, which now and then turns a step of the soft drop or of the axes.
    def agree_but_for_two(values, reference):
        return np.sort(np.abs(values[ours] - reference[theirs]))[-3] < 1e-5

    pt = jets.columns["jet_pt"]
    assert pt[ours] == pytest.approx(delphes["fatjet_pt"][theirs], rel=1e-5)
    assert agree_but_for_two(
        (jets.columns["jet_sdmass"] / pt) ** 2, (delphes["fatjet_sdmass"] / delphes["fatjet_pt"]) ** 2
    )
    for n in range(4):
        assert agree_but_for_two(jets.columns[f"jet_tau{n + 1}"], delphes["fatjet_tau"][:, n])


def test_jet_four_momentum_is_the_sum_of_its_constituents():
    jets = find_jets(toy_events(2, 50), HARD_JETS)
    pt, eta, phi = (jets.columns[f"jet_{name}"].astype(float) for name in ("pt", "eta", "phi"))
    expected = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), jets.columns["jet_energy"]]
    for name, values in zip(("px", "py", "pz", "energy"), expected, strict=True):
        total = np.add.reduceat(jets.constituents[f"part_{name}"].astype(float), jets.offsets[:-1])
        assert total == pytest.approx(values, rel=1e-5, abs=1e-3)


def test_event_alone_gives_the_same_jets_as_in_a_batch_to_the_last_bit():
    candidates = toy_events(3, 40)
    batch = find_jets(candidates, HARD_JETS)
    for event in range(candidates.n_events):
        assert_identical(find_jets(candidates.take(np.array([event])), HARD_JETS), batch.select(batch.event == event))


def test_jets_of_an_event_come_by_decreasing_pt_and_so_do_constituents():
    jets = find_jets(toy_events(4, 30), ALL_JETS)
    assert (np.diff(jets.event) >= 0).all()
    same_event = np.diff(jets.event) == 0
    assert (np.diff(jets.columns["jet_pt"])[same_event] <= 0).all()
    pt = np.hypot(jets.constituents["part_px"], jets.constituents["part_py"])
    first = np.zeros(len(pt), bool)
    first[jets.offsets[:-1]] = True
    assert (np.diff(pt)[~first[1:]] <= 1e-4).all()


def test_constituents_of_equal_pt_keep_the_order_of_the_candidates():
    event = np.tile([10.0, 0.0, 0.0, PION], (6, 1))
    event[:, 1] = [0.3, 0.0, 0.2, 0.1, 0.25, 0.05]
    candidates = dataclasses.replace(candidates_of([event]), px=np.full(6, 10.0), py=np.zeros(6))
    jets = find_jets(candidates, ALL_JETS)
    assert jets.candidate.tolist() == [0, 1, 2, 3, 4, 5]


def test_selection_cuts_on_jets_and_candidates():
    candidates = toy_events(5, 60)
    every = find_jets(candidates, dataclasses.replace(ALL_JETS, candidate_pt_min=1.0))
    selection = JetSelection(candidate_pt_min=1.0, pt_min=40.0, pt_max=80.0, abs_eta_max=1.5)
    jets = find_jets(candidates, selection)

    pt, eta = every.columns["jet_pt"], every.columns["jet_eta"]
    assert_identical(jets, every.select((pt >= 40) & (pt < 80) & (np.abs(eta) <= 1.5)))
    assert 0 < len(jets) < len(every)
    assert np.hypot(every.constituents["part_px"], every.constituents["part_py"]).min() >= 1.0


def test_jet_exactly_at_the_pt_cut_is_kept():
    jets = find_jets(toy_events(6, 5), HARD_JETS)
    candidates = toy_events(6, 5)
    total = np.add.reduceat(momenta_of(candidates)[jets.candidate], jets.offsets[:-1], axis=0)
    for jet, pt in enumerate(np.hypot(total[:, 0], total[:, 1])):
        at_the_cut = find_jets(candidates, dataclasses.replace(HARD_JETS, pt_min=pt))
        assert len(at_the_cut) == (np.hypot(total[:, 0], total[:, 1]) >= pt).sum(), jet


def test_candidates_without_pt_are_never_clustered():
    # Delphes' JetClass card leaves tracks of zero pt and E = m, which a jet finder would put at y = phi = 0.
    event = np.array([[100.0, 0.0, 0.0, PION], [50.0, 0.2, 0.1, PHOTON]])
    ghost = np.array([[0.0, 0.0, 0.0, PION]])
    assert_identical(
        find_jets(candidates_of([np.concatenate([event, ghost])], mass=0.9), ALL_JETS),
        find_jets(candidates_of([event], mass=0.9), ALL_JETS),
    )


@pytest.mark.parametrize("events", [[], [np.empty((0, 4))] * 3, [np.array([[5.0, 0.0, 0.0, PION]])]])
def test_batch_without_jets_has_every_column_with_nothing_in_it(events):
    jets = find_jets(candidates_of(events), HARD_JETS)
    full = find_jets(toy_events(7, 2), HARD_JETS)
    assert len(jets) == 0
    assert jets.offsets.tolist() == [0]
    for group, reference in ((jets.columns, full.columns), (jets.constituents, full.constituents)):
        assert {name: (len(v), v.dtype) for name, v in group.items()} == {
            name: (0, v.dtype) for name, v in reference.items()
        }


def test_empty_events_keep_their_number():
    event = np.array([[100.0, 0.0, 0.0, PION]])
    jets = find_jets(candidates_of([event[:0], event, event[:0], event, event[:0]]), HARD_JETS)
    assert jets.event.tolist() == [1, 3]


def test_columns_are_those_of_the_schema():
    jets = find_jets(toy_events(8, 2), HARD_JETS)
    dtypes = {name: values.dtype.name for name, values in {**jets.columns, **jets.constituents}.items()}
    floats = "jet_pt jet_eta jet_phi jet_energy jet_sdmass jet_tau1 jet_tau2 jet_tau3 jet_tau4 part_px part_py "
    floats += "part_pz part_energy part_deta part_dphi part_d0val part_d0err part_dzval part_dzerr"
    flags = ["ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon"]
    assert dtypes == {
        **dict.fromkeys(floats.split(), "float32"),
        **{f"part_is{flag}": "bool" for flag in flags},
        "jet_nparticles": "int32",
        "part_charge": "int8",
    }


def test_every_constituent_is_of_one_type_and_carries_its_track():
    kinds = [PION, -PION, KAON_0, PHOTON, ELECTRON, MUON]
    event = np.array([[60.0 - 10 * i, 0.0, 0.01 * i, kind] for i, kind in enumerate(kinds)])
    part = find_jets(candidates_of([event]), ALL_JETS).constituents
    types = ["ChargedHadron", "ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon"]
    for flag in set(types):
        assert part[f"part_is{flag}"].tolist() == [kind == flag for kind in types]
    assert part["part_charge"].tolist() == [1, -1, 0, 0, 1, -1]
    for name, value in (("d0val", 0.1), ("d0err", 0.01), ("dzval", 0.2), ("dzerr", 0.02)):
        assert part[f"part_{name}"] == pytest.approx(value * np.array([1, 1, 0, 0, 1, 1]))


def test_deta_points_away_from_the_centre_on_both_sides():
    event = np.array([[100.0, 1.0, 0.0, PION], [10.0, 1.3, 0.0, PION]])
    mirrored = event * [1, -1, 1, 1]
    jets = find_jets(candidates_of([event, mirrored]), ALL_JETS)
    deta = jets.constituents["part_deta"].reshape(2, 2)
    assert (deta[:, 0] < 0).all()
    assert (deta[:, 1] > 0).all()
    assert deta[0] == pytest.approx(deta[1])
    eta = np.arcsinh(jets.constituents["part_pz"] / np.hypot(*(jets.constituents[f"part_p{x}"] for x in "xy")))
    assert deta.ravel() == pytest.approx(np.abs(eta) - np.abs(np.repeat(jets.columns["jet_eta"], 2)), abs=1e-6)


def test_jets_on_the_seam_of_azimuth_are_like_any_other():
    event = np.array([[100.0, 0.5, 0.1, PION], [50.0, 0.2, -0.1, PION], [30.0, 0.6, -0.2, PHOTON]])
    turned = event + np.array([0, 0, np.pi, 0])
    jets = find_jets(candidates_of([event, turned]), ALL_JETS)
    assert len(jets) == 2
    for name in ("part_deta", "part_dphi"):
        here, there = jets.constituents[name].reshape(2, 3)
        assert here == pytest.approx(there, abs=1e-6)
    for name in ("jet_pt", "jet_eta", "jet_sdmass", "jet_tau1", "jet_tau2"):
        here, there = jets.columns[name]
        assert here == pytest.approx(there, rel=1e-5)


def test_jets_of_one_two_and_three_constituents_are_described():
    event = np.array([[100.0, 0.0, 0.0, PION], [60.0, 0.1, 0.2, PION], [30.0, -0.2, 0.1, PHOTON]])
    jets = find_jets(candidates_of([event[:1], event[:2], event]), ALL_JETS)
    assert jets.columns["jet_nparticles"].tolist() == [1, 2, 3]
    tau = np.array([jets.columns[f"jet_tau{n}"] for n in range(1, 5)])
    assert np.array_equal(tau.T > 0, [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
    assert jets.columns["jet_sdmass"][0] == pytest.approx(0.1396, abs=1e-4)


def test_selected_jets_keep_their_constituents():
    jets = find_jets(toy_events(9, 10), HARD_JETS)
    keep = np.arange(len(jets)) % 3 == 1
    some = jets.select(keep)
    assert len(some) == keep.sum()
    for new, old in enumerate(np.flatnonzero(keep)):
        assert some.columns["jet_pt"][new] == jets.columns["jet_pt"][old]
        for name, values in some.constituents.items():
            old_values = jets.constituents[name][constituents_of(jets, old)]
            assert np.array_equal(values[constituents_of(some, new)], old_values)
    assert len(jets.select(np.zeros(len(jets), bool))) == 0


def antikt_by_brute_force(momenta, radius):
    """The partition into jets, from the definition (arXiv:0802.1189): every distance anew in each step."""
    branches = [(momentum, frozenset([index])) for index, momentum in enumerate(momenta)]
    jets = set()
    while branches:
        px, py, pz, energy = np.array([momentum for momentum, _ in branches]).T
        y, phi, weight = np.arctanh(pz / energy), np.arctan2(py, px), 1 / (px**2 + py**2)
        dphi = (phi[:, None] - phi + np.pi) % (2 * np.pi) - np.pi
        distance = ((y[:, None] - y) ** 2 + dphi**2) / radius**2 * np.minimum(weight[:, None], weight)
        np.fill_diagonal(distance, weight)
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        if i == j:
            jets.add(branches[i][1])
        else:
            branches.append((branches[i][0] + branches[j][0], branches[i][1] | branches[j][1]))
        branches = [branch for k, branch in enumerate(branches) if k not in (i, j)]
    return jets


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 30), max_size=4),
    radius=st.floats(0.2, 1.2),
)
def test_every_candidate_is_in_the_one_jet_that_the_definition_puts_it_in(seed, sizes, radius):
    rng = np.random.default_rng(seed)
    low, high = [0.01, -3, -np.pi, PHOTON], [50, 3, np.pi, PHOTON]
    candidates = candidates_of([rng.uniform(low, high, (n, 4)) for n in sizes], mass=0.0)
    jets = find_jets(candidates, dataclasses.replace(ALL_JETS, radius=radius))

    assert np.array_equal(np.sort(jets.candidate), np.arange(sum(sizes)))
    for event in range(candidates.n_events):
        members = [
            frozenset(jets.candidate[constituents_of(jets, jet)] - candidates.offsets[event])
            for jet in np.flatnonzero(jets.event == event)
        ]
        momenta = momenta_of(candidates.take(np.array([event])))
        assert set(members) == antikt_by_brute_force(momenta, radius)


@pytest.mark.parametrize("setting", [{"radius": 0.0}, {"radius": 4.0}, {"pt_min": -1.0}, {"pt_max": 0.0}])
def test_selection_that_makes_no_sense_is_refused(setting):
    with pytest.raises(InputError, match=next(iter(setting)).split("_")[0]):
        dataclasses.replace(ALL_JETS, **setting)


def test_momentum_that_is_not_finite_is_refused():
    candidates = toy_events(10, 1)
    candidates.pz[3] = np.nan
    with pytest.raises(InputError, match="finite"):
        find_jets(candidates, HARD_JETS)


def test_clustering_prints_nothing():
    program = (
        "import numpy as np\n"
        "from hepfm.resim.clustering import JetSelection, find_jets\n"
        "from hepfm.resim.particles import Candidates\n"
        "one = np.ones(1)\n"
        "momentum = dict(px=one, py=one, pz=one, energy=2 * one, d0=one, d0err=one, dz=one, dzerr=one)\n"
        "kind = dict(pdg_id=np.array([22]), charge=np.array([0]), source=np.array([-1]))\n"
        "selection = JetSelection(candidate_pt_min=0, pt_min=0, pt_max=np.inf, abs_eta_max=5)\n"
        "assert len(find_jets(Candidates(offsets=np.array([0, 1]), **kind, **momentum), selection)) == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
