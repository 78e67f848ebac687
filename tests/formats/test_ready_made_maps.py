"""The column maps that come with hepfm, on files of the layout of three public sets."""

import pickle

import h5py
import numpy as np
import pytest
import vector
from mapped_tables import (
    COUNTS,
    assert_momenta,
    read_all,
    sums,
    top_tagging_frame,
    write_jetnet,
)

from hepfm.errors import InputError
from hepfm.formats.column_map import open_table
from hepfm.schema import JET_CLASSES


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("key", ["table", "data"])
def test_the_top_tagging_set_is_read_from_pandas_files_without_pytables(tmp_path, compression, key):
    frame, p4, jet = top_tagging_frame()
    frame.to_hdf(tmp_path / "train.h5", key=key, format="table", complib=compression, complevel=5 if compression else 0)
    file = open_table(tmp_path / "train.h5", "top-tagging")
    table = read_all(file)

    assert file.n_jets == 5
    assert file.classes == JET_CLASSES
    np.testing.assert_array_equal(table.columns["jet_label"], [0, 8, 0, 8, 0])
    np.testing.assert_array_equal(table.counts, COUNTS)
    assert_momenta(table, p4)
    whole = sums(p4, jet, 5)
    for name, values in {"pt": whole.pt, "eta": whole.eta, "phi": whole.phi, "energy": whole.E}.items():
        np.testing.assert_allclose(table.columns[f"jet_{name}"], values, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(table.columns["truth_pt"], [0, 500, 0, 500, 0])
    np.testing.assert_allclose(table.columns["truth_phi"], [0, np.arctan2(3, 4), 0, np.arctan2(4, -3), 0], rtol=1e-6)
    np.testing.assert_array_equal(table.columns["ttv"], 1)
    assert {"is_signal_new", "ttv"} <= {c.name for c in file.columns}
    assert not any(c.name.startswith(("E_", "PX_")) for c in file.columns)
    assert any("sum" in note for note in file.notes)


def test_the_top_tagging_set_is_read_from_parquet_too(tmp_path):
    frame, p4, _ = top_tagging_frame()
    frame.to_parquet(tmp_path / "train.parquet")
    table = read_all(open_table(tmp_path / "train.parquet", "top-tagging"))

    assert_momenta(table, p4)
    np.testing.assert_array_equal(table.columns["jet_label"], [0, 8, 0, 8, 0])


def test_a_compression_that_h5py_lacks_is_named_with_the_package_that_brings_it(tmp_path):
    top_tagging_frame()[0].to_hdf(tmp_path / "blosc.h5", key="table", format="table", complib="blosc", complevel=5)
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"blosc\.h5: /table/table is compressed with blosc.*install hdf5plugin"):
            open_table(tmp_path / "blosc.h5", "top-tagging")
    else:
        assert open_table(tmp_path / "blosc.h5", "top-tagging").n_jets == 5


def test_names_of_pandas_columns_are_never_unpickled(tmp_path):
    top_tagging_frame()[0].to_hdf(tmp_path / "evil.h5", key="table", format="table")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    with h5py.File(tmp_path / "evil.h5", "r+") as file:
        file["table/table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps([Evil()], protocol=0))
    with pytest.raises(InputError, match=r"evil\.h5: the names of its pandas columns are no plain list of words"):
        open_table(tmp_path / "evil.h5", "top-tagging")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "width", "label"),
    [("g.hdf5", 30, "gluon"), ("q.hdf5", 30, "quark"), ("t150.hdf5", 150, "top"), ("w.hdf5", 30, "W")],
)
def test_jetnet_becomes_four_momenta_around_its_jets(tmp_path, name, width, label):
    features, mask, jet_pt, jet_eta = write_jetnet(tmp_path / name, width)
    file = open_table(tmp_path / name, "jetnet")
    table = read_all(file)

    np.testing.assert_array_equal(table.counts, mask.sum(axis=1))
    assert file.classes[table.columns["jet_label"][0]] == label
    jet = np.nonzero(mask)[0]
    deta, dphi, pt_rel = features[mask][:, 0], features[mask][:, 1], features[mask][:, 2]
    p4 = vector.array({"pt": pt_rel * jet_pt[jet], "eta": deta + jet_eta[jet], "phi": dphi, "mass": 0 * deta})
    order = np.lexsort((-p4.pt, jet))
    assert_momenta(table, p4[order], rtol=1e-4)
    mirror = np.where(jet_eta[jet] < 0, -1, 1)
    np.testing.assert_allclose(table.constituents["part_deta"], (mirror * deta)[order], atol=1e-5)
    np.testing.assert_allclose(table.constituents["part_dphi"], dphi[order], atol=1e-6)
    jets = vector.array({"pt": jet_pt, "eta": jet_eta, "phi": 0 * jet_pt, "mass": np.full(len(jet_pt), 80.0)})
    np.testing.assert_allclose(table.columns["jet_energy"], jets.E, rtol=1e-5)
    np.testing.assert_array_equal(table.columns["jet_phi"], 0)
    assert any("azimuth" in note for note in file.notes)


@pytest.mark.parametrize("name", ["g", "g150", "q", "q150", "t", "t150", "w", "w150", "z", "z150"])
def test_classes_of_jetnet_keep_their_order_whatever_the_file(tmp_path, name):
    write_jetnet(tmp_path / f"{name}.hdf5", n_jets=2)
    file = open_table(tmp_path / f"{name}.hdf5", "jetnet")

    assert file.classes == ("gluon", "quark", "top", "W", "Z")
    assert file.read(["jet_label"], 0, 2).columns["jet_label"].tolist() == ["gqtwz".index(name[0])] * 2


@pytest.mark.parametrize("name", ["all.hdf5", "train.hdf5", "test.hdf5", "zz_to_ww_quark.hdf5"])
def test_a_jetnet_file_of_another_name_has_no_label_and_says_so(tmp_path, name):
    write_jetnet(tmp_path / name)
    file = open_table(tmp_path / name, "jetnet")

    assert file.classes == ()
    assert "jet_label" not in {c.name for c in file.columns}
    assert any(note.startswith("no jet_label") for note in file.notes)


def test_quark_and_gluon_jets_get_masses_charges_and_types_of_their_codes(tmp_path):
    codes = np.array([211, -211, 22, 130, 2112, -2212, 321, 11, -13])
    mass = np.array([0.13957039, 0.13957039, 0, 0.497611, 0.9395654, 0.9382721, 0.493677, 0.000511, 0.10565838])
    rng = np.random.default_rng(4)
    pt = np.sort(rng.uniform(1, 100, 9))[::-1]
    y, phi = rng.normal(0.5, 0.2, 9), rng.normal(3.1, 0.2, 9)
    x = np.zeros((3, 12, 4))
    x[:2, :9] = np.stack([pt, y, phi, codes], axis=1)
    x[2, 0] = [500, 0, 7.0, 22]
    np.savez_compressed(tmp_path / "QG_jets.npz", X=x, y=np.array([1.0, 0.0, 1.0]))
    file = open_table(tmp_path / "QG_jets.npz", "quark-gluon")
    table = read_all(file)

    assert file.classes == ("gluon", "quark")
    np.testing.assert_array_equal(table.columns["jet_label"], [1, 0, 1])
    np.testing.assert_array_equal(table.counts, [9, 9, 1])
    transverse = np.hypot(pt, mass)
    p4 = vector.array({"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": transverse * np.sinh(y), "mass": mass})
    first = table.slice(0, 1)
    assert_momenta(first, p4)
    np.testing.assert_allclose(p4.rapidity, y)
    np.testing.assert_array_equal(first.constituents["part_charge"], [1, -1, 0, 0, 0, -1, 1, -1, 1])
    expected = {
        "isChargedHadron": [0, 1, 5, 6],
        "isNeutralHadron": [3, 4],
        "isPhoton": [2],
        "isElectron": [7],
        "isMuon": [8],
    }
    for name, places in expected.items():
        np.testing.assert_array_equal(np.flatnonzero(first.constituents[f"part_{name}"]), places)
    assert np.all(np.abs(table.columns["jet_phi"]) <= np.pi)
