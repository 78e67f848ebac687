from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from jet_tables import assert_same, jet_table

from hepfm.errors import HepfmError, InputError
from hepfm.formats.omnilearned import (
    FOLDERS,
    PARTICLE_CODES,
    is_omnilearned,
    left_out,
    open_omnilearned,
    write_omnilearned,
)
from hepfm.schema import COLUMNS, JET_CLASSES, JET_COLUMNS, SPLITS
from hepfm.table import JetTable

TABLE = jet_table(1, 300)
# A track from far away.
TABLE.constituents["part_d0val"][3] = TABLE.constituents["part_dzval"][3] = -20
EXACT = [*JET_COLUMNS, "part_charge", *[name for name in COLUMNS if name.startswith("part_is")]]
ALMOST = ["part_px", "part_py", "part_pz", "part_energy", "part_deta", "part_dphi", "part_d0err", "part_dzerr"]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_omnilearned(tmp_path / "jets.h5", [TABLE.slice(0, 100), TABLE.slice(100, 300)], 64)
    return tmp_path / "jets.h5"


def test_what_the_format_carries_comes_back(written):
    file = open_omnilearned(written)
    table = file.read([c.name for c in file.columns], 0, 300)

    assert (file.columns, file.classes) == (tuple(COLUMNS.values()), JET_CLASSES)
    assert (file.variations, sorted(file.processes)) == (("nominal",), ["Hbb", "QCD"])
    table.validate(complete=True)
    assert_same(table.only(EXACT), TABLE.only(EXACT))
    scale = np.maximum(TABLE.constituents["part_energy"], 1)
    for name in ALMOST:
        found, expected = table.constituents[name], TABLE.constituents[name]
        np.testing.assert_allclose(found / scale, expected / scale, atol=3e-6, err_msg=name)
    for name in ("part_d0val", "part_dzval"):
        found, expected = table.constituents[name], TABLE.constituents[name]
        np.testing.assert_allclose(found[np.abs(expected) < 1], expected[np.abs(expected) < 1], atol=1e-6)
        np.testing.assert_allclose(found[np.abs(expected) < 5], expected[np.abs(expected) < 5], rtol=0.01, atol=1e-6)
        assert expected[3] == -20 and -8.7 < found[3] < -8.6
    assert any("tanh" in sentence for sentence in left_out(COLUMNS))
    assert any("no class has the pid -1" in sentence for sentence in left_out(COLUMNS))


def test_the_arrays_are_what_omnilearned_documents(written):
    with h5py.File(written) as file:
        data, label, jets = file["data"][:], file["pid"][:], file["global"][:]
        assert is_omnilearned(file)
    c = TABLE.constituents
    leading = TABLE.offsets[:-1]
    px, py, pz, energy = (c[f"part_{name}"][leading].astype(np.float64) for name in ("px", "py", "pz", "energy"))
    deta = np.arcsinh(pz / np.hypot(px, py)) - TABLE.columns["jet_eta"]
    mass2 = (
        TABLE.columns["jet_energy"].astype(np.float64) ** 2
        - (TABLE.columns["jet_pt"] * np.cosh(TABLE.columns["jet_eta"].astype(np.float64))) ** 2
    )

    assert (data.shape, data.dtype) == ((300, 64, 9), np.float32)
    np.testing.assert_array_equal((data != 0).any(axis=2).sum(axis=1), TABLE.counts)
    np.testing.assert_allclose(data[:, 0, 0], deta, atol=1e-6)
    np.testing.assert_allclose(data[:, 0, 2], np.log(np.hypot(px, py)), rtol=1e-6)
    np.testing.assert_allclose(data[:, 0, 3], np.log(energy), rtol=1e-6)
    np.testing.assert_allclose(data[:, 0, 5], np.tanh(c["part_d0val"][leading]), rtol=1e-5)
    np.testing.assert_allclose(data[:, 0, 8], c["part_dzerr"][leading], rtol=1e-6)
    np.testing.assert_array_equal(label, TABLE.columns["jet_label"])
    np.testing.assert_array_equal(jets[:, 0], TABLE.columns["jet_pt"])
    np.testing.assert_allclose(jets[:, 2] ** 2, mass2, rtol=1e-4)
    np.testing.assert_array_equal(jets[:, 3], TABLE.counts)


def test_types_follow_the_rule_of_the_readme(written):
    """The position of the code among those that occur: here all but 'no type' do."""
    c = TABLE.constituents
    codes = np.select(
        [c[f"part_{name}"] for name in ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")],
        [
            211 * c["part_charge"].astype(int),
            130,
            22,
            -11 * c["part_charge"].astype(int),
            -13 * c["part_charge"].astype(int),
        ],
    )
    occurring = np.unique(np.append(codes, 0))
    with h5py.File(written) as file:
        data = file["data"][:]
        assert file["data"].attrs["particle_codes"].tolist() == list(PARTICLE_CODES) == occurring.tolist()
    mask = np.arange(64) < TABLE.counts[:, np.newaxis]
    np.testing.assert_array_equal(data[mask][:, 4], np.searchsorted(occurring, codes))


def test_a_file_of_others_gives_jets_turned_to_phi_zero(written):
    with h5py.File(written, "r+") as file:
        del file["hepfm"], file["data"].attrs["columns"]
        for name in list(file.attrs):
            del file.attrs[name]
    file = open_omnilearned(written)
    table = file.read([c.name for c in file.columns], 0, 300)
    c, jet = table.constituents, np.repeat(np.arange(300), table.counts)

    assert file.classes == () and "jet_phi, set to 0" in file.notes[-1]
    assert "part_pid" in c and "part_charge" not in c
    table.validate()
    np.testing.assert_array_equal(table.offsets, TABLE.offsets)
    assert not table.columns["jet_phi"].any()
    np.testing.assert_allclose(table.columns["jet_energy"], TABLE.columns["jet_energy"], rtol=1e-6)
    # A rotation keeps the angle to the jet and everything along the beam.
    angle = np.arctan2(TABLE.constituents["part_py"], TABLE.constituents["part_px"]) - TABLE.columns["jet_phi"][jet]
    np.testing.assert_allclose(np.cos(np.arctan2(c["part_py"], c["part_px"])), np.cos(angle), atol=1e-5)
    pt = np.hypot(TABLE.constituents["part_px"], TABLE.constituents["part_py"])
    np.testing.assert_allclose(np.hypot(c["part_px"], c["part_py"]), pt, rtol=1e-5)
    np.testing.assert_allclose(c["part_pz"], TABLE.constituents["part_pz"], rtol=1e-4, atol=1e-4)


def test_jets_at_eta_zero_keep_the_directions_of_their_constituents(tmp_path):
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        one = [[0.3, 0.1, 1, 2], [-0.2, 0.1, 1, 2]]
        file["data"] = np.array([one, one], np.float32)
        file["global"] = np.array([[30, 0, 5, 2], [30, 0.5, 5, 2]], np.float32)
        file["pid"] = np.array([7, 7])
    table = open_omnilearned(tmp_path / "jets.h5").read(["part_deta"], 0, 2)
    np.testing.assert_allclose(table.constituents["part_deta"], [0.3, -0.2, 0.3, -0.2], rtol=1e-6)


def test_without_global_only_what_is_relative_is_given(tmp_path):
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["data"] = np.array([[[0.1, -0.2, 0, np.log(2)], [0, 0, 0, 0]]], np.float32)
        file["pid"] = np.array([7])
    file = open_omnilearned(tmp_path / "jets.h5")
    table = file.read([c.name for c in file.columns], 0, 1)

    assert {*table.columns, *table.constituents} == {"jet_label", "part_deta", "part_dphi", "part_pt", "part_energy"}
    assert table.counts.tolist() == [1]
    assert table.constituents["part_pt"].tolist() == [1]
    np.testing.assert_allclose(table.constituents["part_energy"], [2], rtol=1e-6)
    assert any("no /global" in note for note in file.notes)


def test_types_and_tracks_are_written_only_if_they_are_known(tmp_path):
    names = [*JET_COLUMNS, "part_px", "part_py", "part_pz", "part_energy"]
    write_omnilearned(tmp_path / "jets.h5", [TABLE.only(names)])
    file = open_omnilearned(tmp_path / "jets.h5")

    with h5py.File(tmp_path / "jets.h5") as content:
        assert content["data"].shape == (300, 150, 4)
    assert {c.name for c in file.columns} == {*names, "part_deta", "part_dphi"}


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (99, 203), (300, 300)])
def test_part_of_a_file_is_that_part_of_the_whole(written, start, stop, monkeypatch):
    file = open_omnilearned(written)
    whole = file.read(list(COLUMNS), 0, 300)
    monkeypatch.setattr("hepfm.formats.arrays._PIECE", 50)

    assert_same(file.read(list(COLUMNS), start, stop), whole.slice(start, stop))
    assert_same(file.read(["variation"], start, stop), whole.slice(start, stop).only(["variation"]))


def test_what_does_not_fit_is_counted(tmp_path):
    n_cut = write_omnilearned(tmp_path / "jets.h5", [TABLE], 20)

    assert n_cut == np.maximum(TABLE.counts - 20, 0).sum()
    assert f"{n_cut} constituents were dropped" in open_omnilearned(tmp_path / "jets.h5").notes[1]


def test_names_with_a_slash_come_back(tmp_path):
    table = replace(TABLE, columns={**TABLE.columns, "event/weight": np.arange(300.0)})
    write_omnilearned(tmp_path / "jets.h5", [table])

    names = ["event/weight", "jet_pt"]
    assert_same(open_omnilearned(tmp_path / "jets.h5").read(names, 0, 300), table.only(names))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.only(["jet_pt", "part_px"]), "without the column 'jet_eta'"),
        (TABLE.only([*JET_COLUMNS, "part_px", "part_py", "part_pz"]), "without the column 'part_energy'"),
        (
            replace(
                TABLE, constituents={**TABLE.constituents, "part_energy": np.zeros(TABLE.n_constituents, np.float32)}
            ),
            "logarithms of pt and energy",
        ),
        (
            replace(TABLE, columns={**TABLE.columns, "n_constituents": np.full(300, 2)}),
            "column 'n_constituents' cannot be written: its name",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path, table, message):
    with pytest.raises(InputError, match=rf"jets\.h5: .*{message}"):
        write_omnilearned(tmp_path / "jets.h5", [table])
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_one_clear_line(written):
    whole = written.read_bytes()
    for length in (0, 700, len(whole) - 1):
        written.write_bytes(whole[:length])
        with pytest.raises(HepfmError, match=r"jets\.h5: damaged, cut off or no HDF5 file"):
            open_omnilearned(written)
    written.write_bytes(whole)
    with h5py.File(written, "r+") as file:
        file["data"][7, 0, 2] = 1e6
    with pytest.raises(HepfmError, match=r"jets\.h5: damaged: /data gives a part_p. that is no number"):
        open_omnilearned(written).read(["part_px"], 0, 300)
    with h5py.File(written, "r+") as file:
        del file["pid"]
        file["pid"] = np.zeros(7)
    with pytest.raises(HepfmError, match="not of OmniLearned's layout"):
        open_omnilearned(written)


def test_every_split_has_its_folder():
    assert tuple(FOLDERS) == SPLITS
    assert FOLDERS["validation"] == "val"


def test_no_jets_make_a_file_too(tmp_path):
    write_omnilearned(tmp_path / "jets.h5", [JetTable.empty()])

    assert_same(open_omnilearned(tmp_path / "jets.h5").read(list(COLUMNS), 0, 0), JetTable.empty())
