import shutil

import awkward as ak
import numpy as np
import pytest
import uproot
import vector

from hepfm.errors import InputError
from hepfm.formats.nanoaod import is_nanoaod, open_nanoaod
from hepfm.schema import CONSTITUENT_COLUMNS, is_constituent


@pytest.fixture(scope="module")
def path(shared):
    return shared / "data" / "cms_pfnano.root"


@pytest.fixture(scope="module")
def events(path):
    with uproot.open(path) as file:
        return file["Events"].arrays(
            filter_name=["PFCands_*", "FatJet*", "run", "event", "luminosityBlock", "PV_*", "SV_*"]
        )


@pytest.fixture(scope="module")
def everything(path):
    file = open_nanoaod(path)
    return file.read([c.name for c in file.columns], 0, file.n_jets)


def momenta(table):
    columns = {
        k: ak.unflatten(table.constituents[f"part_{k}"].astype(float), table.counts)
        for k in ("px", "py", "pz", "energy")
    }
    return ak.zip(columns, with_name="Momentum4D", behavior=vector.backends.awkward.behavior)


def test_a_real_file_of_cms_opens_as_jets_without_labels(path, everything):
    file = open_nanoaod(path)
    everything.validate()

    assert file.n_jets == 24
    assert (file.classes, file.variations, file.processes) == ((), (), ())
    names = [c.name for c in file.columns]
    assert set(CONSTITUENT_COLUMNS) <= set(names)
    assert "jet_label" not in names
    assert {"run", "luminosityBlock", "event", "FatJet_particleNet_TvsQCD", "FatJet_hadronFlavour"} <= set(names)
    assert any("PUPPI" in note for note in file.notes)


def test_weighted_constituents_add_up_to_the_uncalibrated_jet(events, everything):
    """PUPPI weights, masses and links are right if the four-momentum closes; candidates have 10 bits of precision."""
    jets = ak.sum(momenta(everything), axis=1)
    raw = 1 - ak.to_numpy(ak.flatten(events.FatJet_rawFactor)).astype(float)

    np.testing.assert_allclose(jets.pt, raw * everything.columns["jet_pt"], rtol=3e-3)
    np.testing.assert_allclose(jets.mass, raw * ak.to_numpy(ak.flatten(events.FatJet_mass)), rtol=4e-3)
    np.testing.assert_allclose(jets.eta, everything.columns["jet_eta"], atol=5e-4)
    np.testing.assert_allclose(jets.phi, everything.columns["jet_phi"], atol=5e-4)


def test_without_puppi_the_jets_do_not_close(events, everything):
    link = events.FatJetPFCands_pFCandsIdx
    event = np.repeat(np.arange(len(events)), ak.num(link))
    jet = ak.to_numpy(ak.flatten(events.FatJetPFCands_jetIdx)) + np.cumsum([0, *ak.num(events.FatJet_pt)])[event]
    one = {k: ak.to_numpy(ak.flatten(events[f"PFCands_{k}"][link])).astype(float) for k in ("pt", "eta", "phi", "mass")}
    p4 = vector.array(one)
    mass = vector.array({k: np.bincount(jet, getattr(p4, k)) for k in ("px", "py", "pz", "E")}).mass
    raw = (1 - ak.to_numpy(ak.flatten(events.FatJet_rawFactor))) * ak.to_numpy(ak.flatten(events.FatJet_mass))

    assert np.mean(np.abs(mass / raw - 1) > 4e-3) > 0.7


def test_jet_energy_has_the_mass_of_the_calibrated_jet(events, everything):
    c = {k: v.astype(float) for k, v in everything.columns.items() if k.startswith("jet_")}
    jets = vector.array({"pt": c["jet_pt"], "eta": c["jet_eta"], "phi": c["jet_phi"], "E": c["jet_energy"]})

    np.testing.assert_allclose(jets.mass, ak.to_numpy(ak.flatten(events.FatJet_mass)), rtol=1e-4)


def test_the_sign_and_unit_of_impact_parameters_are_those_of_delphes(events, everything):
    """A track from a secondary vertex at (x, y) has Delphes' d0 of about (x py - y px) / pt, in mm.

    Independent of the reader's formula: positions are those of vertices. Of displaced tracks near a vertex, those
    whose |d0| is what the vertex predicts must have the predicted sign, but for accidental matches.
    """
    c = {k: v.astype(float) for k, v in everything.constituents.items()}
    event = np.unique(everything.columns["event"], return_inverse=True)[1]
    row_of_event = [int(np.flatnonzero(events.event == e)[0]) for e in np.unique(everything.columns["event"])]
    event = np.repeat(event, everything.counts)
    phi, eta = np.arctan2(c["part_py"], c["part_px"]), np.arcsinh(c["part_pz"] / np.hypot(c["part_px"], c["part_py"]))
    displaced = (c["part_d0err"] > 0) & (np.abs(c["part_d0val"]) > 5 * c["part_d0err"])
    same = opposite = longitudinal = antilongitudinal = 0
    for number, row in enumerate(row_of_event):
        e = events[row]
        for x, y, z, sv_eta, sv_phi in zip(e.SV_x, e.SV_y, e.SV_z, e.SV_eta, e.SV_phi, strict=True):
            x, y, z = 10 * (x - e.PV_x), 10 * (y - e.PV_y), 10 * (z - e.PV_z)
            turn = (phi - sv_phi + np.pi) % (2 * np.pi) - np.pi
            near = displaced & (event == number) & (np.hypot(eta - sv_eta, turn) < 0.3)
            d0, error = c["part_d0val"][near], c["part_d0err"][near]
            expected = x * np.sin(phi[near]) - y * np.cos(phi[near])
            off = np.abs(np.abs(d0) - np.abs(expected))
            match = (np.abs(expected) > 3 * error) & (off < np.maximum(2 * error, 0.2 * np.abs(d0)))
            agrees = np.sign(d0) == np.sign(expected)
            same, opposite = same + np.sum(match & agrees), opposite + np.sum(match & ~agrees)
            # Where the transverse match is right, the longitudinal one follows from the same vertex.
            dz = c["part_dzval"][near]
            along = x * np.cos(phi[near]) + y * np.sin(phi[near])
            predicted = z - along * np.sinh(eta[near])
            strong = match & agrees & (np.abs(predicted) > 3 * c["part_dzerr"][near])
            strong &= np.abs(np.abs(dz) - np.abs(predicted)) < np.maximum(2 * c["part_dzerr"][near], 0.3 * np.abs(dz))
            longitudinal += np.sum(strong & (np.sign(dz) == np.sign(predicted)))
            antilongitudinal += np.sum(strong & (np.sign(dz) != np.sign(predicted)))
    assert same + opposite > 40
    assert same > 8 * opposite
    assert longitudinal > 5 * antilongitudinal


def test_candidates_without_a_track_have_no_impact_parameter(everything):
    c = everything.constituents
    neutral = c["part_charge"] == 0
    for name in ("part_d0val", "part_d0err", "part_dzval", "part_dzerr"):
        assert np.all(c[name][neutral] == 0)
    tracks = c["part_d0err"] > 0
    assert 0.9 < np.mean(tracks[~neutral]) < 1
    assert np.all(c["part_dzerr"][~tracks] == 0)
    # CMS's tracks of a few GeV are measured to 10 to 100 micrometres.
    assert 0.01 < np.median(c["part_d0err"][tracks]) < 0.1


def test_every_constituent_is_of_one_type_and_charge_agrees(events, everything):
    c = everything.constituents
    flags = [c[name] for name in CONSTITUENT_COLUMNS if name.startswith("part_is")]
    assert np.all(np.sum(flags, axis=0) == 1)
    charged = c["part_isChargedHadron"] | c["part_isElectron"] | c["part_isMuon"]
    np.testing.assert_array_equal(charged, c["part_charge"] != 0)
    link = ak.flatten(events.FatJetPFCands_pFCandsIdx, axis=None)
    assert len(c["part_charge"]) == len(link)
    assert np.sum(c["part_isMuon"]) == np.sum(
        np.abs(ak.flatten(events.PFCands_pdgId[events.FatJetPFCands_pFCandsIdx])) == 13
    )


def test_constituents_come_by_falling_weighted_pt_around_the_jet(everything):
    c = everything.constituents
    pt = np.hypot(c["part_px"], c["part_py"])
    jet = np.repeat(np.arange(24), everything.counts)
    assert np.all((np.diff(pt) <= 0) | (np.diff(jet) == 1))
    assert np.all(np.hypot(c["part_deta"], c["part_dphi"]) < 1.2)
    p4 = momenta(everything)
    deta = (p4.eta - everything.columns["jet_eta"]) * np.where(everything.columns["jet_eta"] < 0, -1, 1)
    np.testing.assert_allclose(c["part_deta"], ak.flatten(deta), atol=2e-6)
    phi = ak.zip({"pt": 1.0, "phi": everything.columns["jet_phi"].astype(float)}, with_name="Momentum2D")
    phi = ak.Array(phi, behavior=vector.backends.awkward.behavior)
    np.testing.assert_allclose(c["part_dphi"], ak.flatten(p4.deltaphi(phi)), atol=2e-6)
    np.testing.assert_array_equal(everything.columns["jet_nparticles"], everything.counts)


def test_events_and_their_jets_are_numbered(events, everything):
    c = everything.columns
    np.testing.assert_array_equal(c["event"], np.repeat(events.event, ak.num(events.FatJet_pt)))
    np.testing.assert_array_equal(c["event_id"], (1 << 40) + c["event"].astype(int))
    np.testing.assert_array_equal(c["jet_index"], ak.flatten(ak.local_index(events.FatJet_pt)))
    assert len(np.unique(np.stack([c["event_id"], c["jet_index"]]), axis=1).T) == 24
    np.testing.assert_array_equal(c["FatJet_particleNet_TvsQCD"], ak.flatten(events.FatJet_particleNet_TvsQCD))


@pytest.mark.parametrize(("start", "stop"), [(0, 24), (0, 1), (1, 2), (3, 9), (23, 24), (4, 4), (0, 0), (24, 24)])
def test_any_part_and_any_columns_are_the_same_as_of_the_whole(path, everything, start, stop):
    file = open_nanoaod(path)
    expected = everything.slice(start, stop)
    for names in (["part_charge", "jet_nparticles", "event", "jet_index"], ["jet_pt", "jet_energy"], [], ["part_dphi"]):
        table = file.read(names, start, stop)
        table.validate()
        assert [*table.columns, *table.constituents] == sorted(names, key=lambda n: (is_constituent(n), names.index(n)))
        for name, values in {**table.columns, **table.constituents}.items():
            np.testing.assert_array_equal(values, {**expected.columns, **expected.constituents}[name])
        if not names:
            np.testing.assert_array_equal(table.offsets, expected.offsets)


def write_events(path, **changes):
    """Two events of 1 and 2 jets, three candidates; branches as changed, or left out where None."""
    lists = {
        "FatJet": {
            "pt": [[300.0], [400.0, 250.0]],
            "eta": [[0.1], [-1.0, 2.0]],
            "phi": [[0.0], [3.0, -3.1]],
            "mass": [[30.0], [50.0, 10.0]],
        },
        "PFCands": {
            "pt": [[250.0], [380.0, 220.0, 5.0]],
            "eta": [[0.1], [-1.0, 2.0, 2.1]],
            "phi": [[0.0], [3.0, -3.1, 3.1]],
            "mass": [[0.0], [0.1396, 0.0, 0.0]],
            "puppiWeight": [[1.0], [1.0, 0.5, 0.0]],
            "charge": [[0], [-1, 0, 0]],
            "pdgId": [[22], [-211, 1, 2]],
            "d0": [[-1.0], [0.002, -1.0, -1.0]],
            "d0Err": [[-1.0], [0.001, -1.0, -1.0]],
            "dz": [[-1.0], [-0.003, -1.0, -1.0]],
            "dzErr": [[-1.0], [0.002, -1.0, -1.0]],
        },
        "FatJetPFCands": {"jetIdx": [[0], [0, 1, 1]], "pFCandsIdx": [[0], [0, 1, 2]]},
    }
    for name, values in changes.items():
        group, _, key = name.partition("_")
        lists[group].pop(key)
        if values is not None:
            lists[group][key] = values
    branches = {group: ak.zip({k: ak.Array(v) for k, v in keys.items()}) for group, keys in lists.items()}
    branches |= {"run": np.array([2, 3], np.uint32), "event": np.array([7, 7], np.uint64), "genWeight": np.ones(2)}
    with uproot.recreate(path) as file:
        types = {name: ak.type(values).content for name, values in branches.items()}
        file.mktree("Events", types).extend(branches)
    return path


def test_candidates_of_weight_zero_are_dropped_and_others_scaled(tmp_path):
    file = open_nanoaod(write_events(tmp_path / "nano.root"))
    names = [
        "event_id",
        "weight",
        "part_px",
        "part_py",
        "part_d0val",
        "part_dzval",
        "part_isNeutralHadron",
        "jet_nparticles",
    ]
    table = file.read(names, 0, 3)

    np.testing.assert_array_equal(table.counts, [1, 1, 1])
    np.testing.assert_allclose(np.hypot(table.constituents["part_px"], table.constituents["part_py"]), [250, 380, 110])
    np.testing.assert_allclose(table.constituents["part_d0val"], [0, -0.02, 0], rtol=1e-6)
    np.testing.assert_allclose(table.constituents["part_dzval"], [0, -0.03, 0], rtol=1e-6)
    np.testing.assert_array_equal(table.constituents["part_isNeutralHadron"], [False, False, True])
    np.testing.assert_array_equal(table.columns["event_id"], [(2 << 40) + 7, (3 << 40) + 7, (3 << 40) + 7])
    np.testing.assert_array_equal(table.columns["weight"], np.ones(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PFCands_puppiWeight": None}, "no branch 'PFCands_puppiWeight'"),
        ({"FatJetPFCands_jetIdx": [[0], [0, 1, 2]]}, "FatJetPFCands_jetIdx and .* point to jets or candidates"),
        ({"FatJetPFCands_pFCandsIdx": [[0], [0, 1, -1]]}, "point to jets or candidates that are not there"),
        ({"PFCands_puppiWeight": [[1.0], [np.nan, 0.5, 0.0]]}, "a PUPPI weight is nan"),
        ({"PFCands_charge": [[0.5], [1.0, 0.0, 0.0]]}, "'part_charge' holds values that are no int8"),
        ({"PFCands_pt": [[250.0], [np.nan, 220.0, 5.0]]}, "part_px of a candidate is nan; expected a finite number"),
        ({"PFCands_eta": [[0.1], [np.nan, 2.0, 2.1]]}, "part_pz of a candidate is nan; expected a finite number"),
        ({"PFCands_mass": [[0.0], [np.nan, 0.0, 0.0]]}, "part_energy of a candidate is nan; expected a finite number"),
    ],
)
def test_branches_that_are_missing_or_do_not_fit_are_named(tmp_path, changes, message):
    path = write_events(tmp_path / "nano.root", **changes)
    with pytest.raises(InputError, match=rf"nano\.root: .*{message}"):
        file = open_nanoaod(path)
        file.read(["part_charge", "part_deta", "part_energy"], 0, file.n_jets)


def test_a_candidate_of_weight_zero_may_have_any_momentum(tmp_path):
    path = write_events(tmp_path / "nano.root", PFCands_pt=[[250.0], [380.0, 220.0, np.nan]])
    assert open_nanoaod(path).read([], 0, 3).counts.tolist() == [1, 1, 1]


def test_only_files_with_events_and_candidates_are_nanoaod(shared, tmp_path, path):
    with uproot.open(path) as file:
        assert is_nanoaod(file)
    with uproot.open(shared / "data" / "jetclass2_example.root") as file:
        assert not is_nanoaod(file)
    with pytest.raises(InputError, match=r"jetclass2_example\.root: no TTree 'Events'"):
        open_nanoaod(shared / "data" / "jetclass2_example.root")
    with pytest.raises(InputError, match=r"missing\.root: no such file"):
        open_nanoaod(tmp_path / "missing.root")


@pytest.mark.parametrize("kept", [0, 10, 300, 100_000, 2_900_000, 2_958_959])
def test_files_cut_off_give_one_clear_line(path, tmp_path, kept):
    (tmp_path / "cut.root").write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"cut\.root: [^\n]*$"):
        open_nanoaod(tmp_path / "cut.root")


def test_damaged_branches_give_one_clear_line_with_the_name_of_the_branch(path, tmp_path):
    copy = shutil.copy(path, tmp_path / "damaged.root")
    (tmp_path / "damaged.root").chmod(0o600)
    with uproot.open(path) as file:
        basket = file["Events"]["PFCands_eta"].basket(0)
        seek = basket.cursor.index if basket.cursor else int(file["Events"]["PFCands_eta"].member("fBasketSeek")[0])
        seek = int(file["Events"]["PFCands_eta"].member("fBasketSeek")[0])
    with open(copy, "r+b") as file:  # noqa: PTH123
        file.seek(seek + 120)
        file.write(b"\xff" * 200)

    with pytest.raises(InputError, match=r"damaged\.root: damaged: branch 'PFCands_eta' cannot be read"):
        open_nanoaod(tmp_path / "damaged.root").read(["part_px"], 0, 24)
