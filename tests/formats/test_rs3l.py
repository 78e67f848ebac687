from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from jet_tables import assert_same, jet_table

from hepfm.errors import HepfmError, InputError
from hepfm.formats.rs3l import FEATURES, PUBLISHED_VIEWS, is_rs3l, left_out, open_rs3l, write_rs3l
from hepfm.schema import COLUMNS, JET_CLASSES, JET_COLUMNS
from hepfm.table import JetTable

N = 200
VIEWS = [
    jet_table(seed, N, name, view) for view, (seed, name) in enumerate([(1, "nominal"), (2, "fsr-up"), (3, "cp5")])
]
WHOLE = JetTable.concatenate(VIEWS)
FLAGS = [name for name in COLUMNS if name.startswith("part_is")]
EXACT = [*JET_COLUMNS, "part_px", "part_py", "part_pz", "part_energy", "part_charge", *FLAGS]
LOST = {"part_d0err", "part_dzerr"}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    blocks = ([view.slice(start, start + 50) for view in VIEWS] for start in range(0, N, 50))
    assert write_rs3l(tmp_path / "jets.h5", blocks, 64) == 0
    return tmp_path / "jets.h5"


def only_rs3l(path: Path) -> None:
    """Leave of a file what RS3L has."""
    with h5py.File(path, "r+") as file:
        del file["hepfm"]
        for name in list(file.attrs):
            del file.attrs[name]


def test_what_the_format_carries_comes_back_bit_for_bit(written):
    file = open_rs3l(written)
    table = file.read([c.name for c in file.columns], 0, 3 * N)

    assert {c.name for c in file.columns} == COLUMNS.keys() - LOST
    assert (file.n_jets, file.variations, file.classes) == (3 * N, ("nominal", "fsr-up", "cp5"), JET_CLASSES)
    table.validate()
    assert_same(table.only(EXACT), WHOLE.only(EXACT))
    for name in ("part_deta", "part_dphi"):
        np.testing.assert_allclose(table.constituents[name], WHOLE.constituents[name], atol=1e-6)


def test_impact_parameters_come_back_exactly_until_tanh_saturates(written):
    table = open_rs3l(written).read(["part_d0val", "part_dzval"], 0, 3 * N)

    for name in ("part_d0val", "part_dzval"):
        found, expected = table.constituents[name], WHOLE.constituents[name]
        near = np.abs(expected) < 8
        np.testing.assert_array_equal(found[near], expected[near])
        assert np.all(np.abs(found) < 18.8)
    sentences = " ".join(left_out(COLUMNS))
    assert "not carried: part_d0err, part_dzerr" in sentences and "8 mm" in sentences


def test_the_arrays_are_those_of_the_published_set(written):
    """With the indices and features that public readers of the set use."""
    with h5py.File(written) as file:
        assert is_rs3l(file)
        jets = file["singletons"][:, 1, [0, 9, 10, 11, 12, 13]]
        candidates = dict(zip(FEATURES, file["jet_pflow_cands"][:, 1].transpose(1, 0, 2), strict=True))
        assert file["singletons"].shape == (N, 3, 15)
        assert file["jet_pflow_cands"].shape == (N, 3, 11, 64)
    view = VIEWS[1]
    names = ("jet_flavour", "jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_sdmass")
    for values, name in zip(jets.T, names, strict=True):
        np.testing.assert_array_equal(values, view.columns[name])
    mask = np.arange(64) < view.counts[:, np.newaxis]
    assert not any(values[~mask].any() for values in candidates.values())
    leading = {name: values[:, 0] for name, values in candidates.items()}
    c = {name: values[view.offsets[:-1]].astype(np.float64) for name, values in view.constituents.items()}
    pt = np.hypot(c["part_px"], c["part_py"])
    np.testing.assert_allclose(leading["pt"], np.log(pt))
    np.testing.assert_allclose(leading["relpt"], np.log(pt / jets[:, 1]))
    np.testing.assert_allclose(leading["eta"], np.arcsinh(c["part_pz"] / pt) - jets[:, 2], atol=1e-9)
    np.testing.assert_allclose(leading["phi"], c["part_dphi"], atol=1e-6)
    np.testing.assert_allclose(leading["dr"], np.hypot(c["part_deta"], c["part_dphi"]), atol=1e-6)
    np.testing.assert_allclose(leading["rele"], np.log(c["part_energy"] / jets[:, 4]))
    np.testing.assert_allclose(leading["d0"], np.tanh(c["part_d0val"]))
    np.testing.assert_array_equal(leading["charge"], c["part_charge"])
    muon, plus = c["part_isMuon"] != 0, c["part_charge"] > 0
    np.testing.assert_array_equal(leading["pdgid"] == -13, muon & plus)
    np.testing.assert_array_equal(leading["pdgid"] == 211, (c["part_isChargedHadron"] != 0) & plus)
    np.testing.assert_array_equal(leading["pdgid"] == 22, c["part_isPhoton"] != 0)


def test_a_file_of_the_published_set_is_read(written):
    only_rs3l(written)
    file = open_rs3l(written)
    table = file.read([c.name for c in file.columns], 0, 3 * N)

    assert file.variations == ("view-0", "view-1", "view-2") and file.classes == ()
    assert any("event_id is the row" in note for note in file.notes)
    table.validate()
    same = ["jet_flavour", "jet_pt", "jet_energy", "part_px", "part_charge", *FLAGS]
    # pt is computed anew: constituents of equal pt may change places.
    assert_same(table.only(same), WHOLE.only(same))
    assert table.columns["event_id"].tolist() == [*range(N)] * 3
    assert table.columns["view"].tolist() == [0] * N + [1] * N + [2] * N
    assert table.columns["variation"][N] == "view-1"


def test_jets_at_eta_zero_keep_the_directions_of_their_constituents(tmp_path):
    table = VIEWS[0].slice(0, 3)
    flat = replace(table, columns=table.columns | {"jet_eta": np.zeros_like(table.columns["jet_eta"])})
    write_rs3l(tmp_path / "jets.h5", [[flat]], 64)
    only_rs3l(tmp_path / "jets.h5")
    c = open_rs3l(tmp_path / "jets.h5").read(["part_deta", "part_px", "part_py", "part_pz"], 0, 3).constituents
    eta = np.arcsinh(c["part_pz"] / np.hypot(c["part_px"], c["part_py"]))
    np.testing.assert_allclose(c["part_deta"], eta, rtol=1e-4, atol=1e-5)


def test_five_views_have_the_names_of_the_published_ones(tmp_path):
    write_rs3l(tmp_path / "jets.h5", [[VIEWS[0]] * 5], 60)
    only_rs3l(tmp_path / "jets.h5")
    file = open_rs3l(tmp_path / "jets.h5")

    assert file.variations == PUBLISHED_VIEWS
    assert file.read(["variation"], 4 * N, 4 * N + 1).columns["variation"].tolist() == ["herwig"]


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (99, 203), (150, 450), (599, 600), (600, 600)])
def test_part_of_a_file_is_that_part_of_the_table(written, start, stop, monkeypatch):
    monkeypatch.setattr("hepfm.formats.arrays._PIECE", 70)
    names = ["event_id", "variation", "jet_pt", "part_energy"]

    assert_same(open_rs3l(written).read(names, start, stop), WHOLE.slice(start, stop).only(names))
    assert_same(open_rs3l(written).read(["jet_eta"], start, stop), WHOLE.slice(start, stop).only(["jet_eta"]))
    assert_same(open_rs3l(written).read([], start, stop), WHOLE.slice(start, stop).only([]))


def test_what_does_not_fit_is_counted(tmp_path):
    n_cut = write_rs3l(tmp_path / "jets.h5", [VIEWS], 20)
    file = open_rs3l(tmp_path / "jets.h5")

    assert n_cut == np.maximum(WHOLE.counts - 20, 0).sum()
    assert f"{n_cut} constituents were dropped" in file.notes[1]
    assert file.read([], 0, 3 * N).counts.tolist() == np.minimum(WHOLE.counts, 20).tolist()


def test_charged_particles_of_no_type_come_back_as_that(tmp_path):
    none = {name: np.zeros(WHOLE.n_constituents, bool) for name in FLAGS}
    table = replace(WHOLE, constituents={**WHOLE.constituents, **none})
    write_rs3l(tmp_path / "jets.h5", [[table]], 60)
    found = open_rs3l(tmp_path / "jets.h5").read(["part_charge", *FLAGS], 0, 3 * N).constituents

    charged = WHOLE.constituents["part_charge"] != 0
    np.testing.assert_array_equal(found["part_charge"], WHOLE.constituents["part_charge"])
    assert not any(found[name][charged].any() for name in FLAGS)


def test_names_with_a_slash_come_back(tmp_path):
    table = replace(VIEWS[0], columns={**VIEWS[0].columns, "event/weight": np.arange(float(N))})
    write_rs3l(tmp_path / "jets.h5", [[table]], 64)

    names = ["event/weight", "jet_pt"]
    assert_same(open_rs3l(tmp_path / "jets.h5").read(names, 0, N), table.only(names))


OWN_COUNTS = {**VIEWS[0].columns, "n_candidates": np.full(N, 2)}
OTHER = replace(VIEWS[1], columns={**VIEWS[1].columns, "event_id": VIEWS[1].columns["event_id"][::-1]})
NO_JET_PT = {**VIEWS[0].columns, "jet_pt": np.zeros(N, np.float32)}
NO_ENERGY = {**VIEWS[0].constituents, "part_energy": np.zeros(VIEWS[0].n_constituents, np.float32)}


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "nothing to write"),
        ([[]], "a block has 0 views"),
        ([VIEWS, VIEWS[:2]], "a block has 2 views, the others 3"),
        ([[VIEWS[0], OTHER]], "must hold the same jets, in the same order"),
        ([[VIEWS[0], VIEWS[1].slice(0, 10)]], "must hold the same jets"),
        ([[VIEWS[0].only(["jet_pt"])]], "without the column 'jet_flavour'"),
        ([[VIEWS[0].only([*JET_COLUMNS])]], "without the column 'part_px'"),
        ([[replace(VIEWS[0], constituents=NO_ENERGY)]], "logarithms of pt and energy"),
        ([[replace(VIEWS[0], columns=NO_JET_PT)]], "logarithms of pt and energy"),
        ([[replace(VIEWS[0], columns=OWN_COUNTS)]], "column 'n_candidates' cannot be written: its name"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path, blocks, message):
    with pytest.raises(InputError, match=rf"jets\.h5: .*{message}"):
        write_rs3l(tmp_path / "jets.h5", blocks)
    assert list(tmp_path.iterdir()) == []


def test_other_features_than_rs3l_are_refused(written):
    with h5py.File(written, "r+") as file:
        file["jet_pflow_cands"][:, :, 0] = np.exp(file["jet_pflow_cands"][:, :, 0])
    with pytest.raises(InputError, match=r"jets\.h5: the candidates' features are not RS3L's: expected log\(pt\)"):
        open_rs3l(written)
    with h5py.File(written, "r+") as file:
        del file["singletons"]
        file["singletons"] = np.zeros((N, 3, 4))
    with pytest.raises(InputError, match=r"not of RS3L's layout: /singletons has shape \(200, 3, 4\)"):
        open_rs3l(written)


def test_damaged_files_are_one_clear_line(written):
    whole = written.read_bytes()
    for length in (0, 700, len(whole) // 2, len(whole) - 1):
        written.write_bytes(whole[:length])
        with pytest.raises(HepfmError, match=r"jets\.h5: damaged, cut off or no HDF5 file") as caught:
            open_rs3l(written)
        assert "\n" not in str(caught.value)
    written.write_bytes(whole)
    with h5py.File(written, "r+") as file:
        file["jet_pflow_cands"][150, 0, FEATURES.index("d0"), 0] = 1.5
    with pytest.raises(HepfmError, match="candidates in /jet_pflow_cands give a part_d0val that is no number"):
        open_rs3l(written).read(["part_d0val"], 100, 200)


def test_a_flipped_byte_is_noticed_or_harmless(tmp_path):
    path, views = tmp_path / "jets.h5", [jet_table(seed, 20, n_max=8) for seed in (1, 2)]
    write_rs3l(path, [views], 8)
    whole, expected = path.read_bytes(), JetTable.concatenate(views).only(EXACT)
    rng = np.random.default_rng(4)
    n_noticed = 0
    for place in rng.integers(len(whole), size=60).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            assert_same(open_rs3l(path).read(EXACT, 0, 40), expected)
        except HepfmError as error:
            n_noticed += 1
            assert "jets.h5" in str(error) and "\n" not in str(error)
    assert n_noticed > 10
