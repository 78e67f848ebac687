import pickle

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
import vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hepfm.errors import InputError
from hepfm.formats.column_map import MAPS, open_table
from hepfm.schema import JET_CLASSES, is_constituent

FLAT = """
[constituents]
part_px = "pfcand_px"
part_py = "pfcand_py"
part_pz = "pfcand_pz"
part_energy = "pfcand_e"
"""


def read_all(file):
    table = file.read([c.name for c in file.columns], 0, file.n_jets)
    table.validate()
    return table


def write_map(tmp_path, text, name="map.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def particles(rng, counts, mass=0.13957):
    """Constituents of jets by falling pt, as arrays of vector, flat; and the jet of each."""
    jet = np.repeat(np.arange(len(counts)), counts)
    n = len(jet)
    axis = np.array([rng.uniform(-2, 2, len(counts)), rng.uniform(-np.pi, np.pi, len(counts))])[:, jet]
    pt = rng.exponential(20, n) + 0.5
    pt = pt[np.lexsort((-pt, jet))]
    eta, phi = axis[0] + rng.normal(0, 0.2, n), axis[1] + rng.normal(0, 0.2, n)
    return vector.array({"pt": pt, "eta": eta, "phi": phi, "mass": np.full(n, mass)}), jet


def padded(values, counts, width):
    result = np.zeros((len(counts), width))
    for row, (start, count) in enumerate(zip(np.cumsum([0, *counts[:-1]]), counts, strict=True)):
        result[row, :count] = values[start : start + count]
    return result


def sums(p4, jet, n_jets):
    return vector.array({k: np.bincount(jet, getattr(p4, k), n_jets) for k in ("px", "py", "pz", "E")})


def assert_momenta(table, p4, rtol=1e-5):
    for name, values in {"px": p4.px, "py": p4.py, "pz": p4.pz, "energy": p4.E}.items():
        np.testing.assert_allclose(table.constituents[f"part_{name}"], values, rtol=rtol, atol=1e-4, err_msg=name)


# --- the ready-made maps -------------------------------------------------------------------------------------------

COUNTS = [40, 3, 200, 17, 1]


def top_tagging_frame(seed=1):
    p4, jet = particles(np.random.default_rng(seed), COUNTS, mass=0.0)
    arrays = {k: padded(getattr(p4, k), COUNTS, 200).astype(np.float32) for k in ("E", "px", "py", "pz")}
    columns = {f"{k.upper()}_{i}": values[:, i] for i in range(200) for k, values in arrays.items()}
    truth = {"truthE": [0, 700, 0, 800, 0], "truthPX": [0, 400, 0, -300, 0], "truthPY": [0, 300, 0, 400, 0]}
    columns |= {k: np.array(v, np.float32) for k, v in truth.items()} | {"truthPZ": np.zeros(5, np.float32)}
    columns |= {"ttv": np.full(5, 1), "is_signal_new": np.array([0, 1, 0, 1, 0])}
    return pd.DataFrame(columns), p4, jet


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


def write_jetnet(path, width=30, n_jets=6, seed=3):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, width + 1, n_jets)
    jet_pt, jet_eta = rng.uniform(800, 1200, n_jets), rng.normal(0, 1, n_jets)
    mask = np.arange(width) < counts[:, None]
    rel = np.stack(
        [rng.normal(0, 0.1, mask.shape), rng.normal(0, 0.1, mask.shape), rng.dirichlet(np.ones(width), n_jets)], 2
    )
    # As in JetNet, what fills the empty places need not be zero.
    features = np.concatenate([np.where(mask[..., None], rel, -0.01), mask[..., None]], axis=2)
    with h5py.File(path, "w") as file:
        file["particle_features"] = features.astype(np.float32)
        file["jet_features"] = np.stack([jet_pt, jet_eta, np.full(n_jets, 80.0), counts], axis=1).astype(np.float32)
    return features, mask, jet_pt, jet_eta


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


def test_a_jetnet_file_of_another_name_has_no_label_and_says_so(tmp_path):
    write_jetnet(tmp_path / "all.hdf5")
    file = open_table(tmp_path / "all.hdf5", "jetnet")

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


# --- an ordinary user's tables -------------------------------------------------------------------------------------


def ragged_columns(seed=5, counts=(4, 0, 7, 2)):
    p4, jet = particles(np.random.default_rng(seed), list(counts))
    lists = {
        k: ak.unflatten(getattr(p4, n).astype(np.float32), counts)
        for k, n in {"px": "px", "py": "py", "pz": "pz", "e": "E"}.items()
    }
    return {f"pfcand_{k}": v for k, v in lists.items()}, p4, jet


def write_flat(kind, path, lists, scalars):
    if kind == "parquet":
        arrays = {name: pa.array(v.tolist(), pa.list_(pa.float32())) for name, v in lists.items()}
        pq.write_table(pa.table({**arrays, **scalars}), path, row_group_size=3, write_page_checksum=True)
    else:
        branches = {**lists, **{k: np.asarray(v) for k, v in scalars.items()}}
        with uproot.recreate(path) as file:
            file.mktree("jets", {k: ak.type(v).content for k, v in branches.items()}).extend(branches)


@pytest.mark.parametrize("kind", ["root", "parquet"])
def test_ragged_columns_of_any_name_are_mapped_and_the_users_label_kept(tmp_path, kind):
    lists, p4, jet = ragged_columns()
    scalars = {"my_label": np.array([2, 0, 1, 2]), "xsec": np.array([1.5, 2.5, 3.5, 4.5])}
    write_flat(kind, tmp_path / f"my.{kind}", lists, scalars)
    file = open_table(tmp_path / f"my.{kind}", write_map(tmp_path, FLAT))
    table = read_all(file)

    assert (file.n_jets, file.classes) == (4, ())
    np.testing.assert_array_equal(table.counts, [4, 0, 7, 2])
    assert_momenta(table, p4, rtol=1e-6)
    np.testing.assert_array_equal(table.columns["my_label"], scalars["my_label"])
    np.testing.assert_array_equal(table.columns["xsec"], scalars["xsec"])
    np.testing.assert_allclose(table.columns["jet_pt"], sums(p4, jet, 4).pt, rtol=1e-5)
    np.testing.assert_array_equal(table.columns["jet_nparticles"], [4, 0, 7, 2])


@pytest.mark.parametrize("kind", ["root", "parquet"])
@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 3), (3, 4), (2, 2), (4, 4)])
def test_any_part_and_any_columns_are_the_same_as_of_the_whole(tmp_path, kind, start, stop):
    lists, _, _ = ragged_columns()
    write_flat(kind, tmp_path / f"my.{kind}", lists, {"label": np.array([2, 0, 1, 2])})
    file = open_table(tmp_path / f"my.{kind}", write_map(tmp_path, FLAT))
    whole = read_all(file).slice(start, stop)
    for names in (["part_deta", "label"], ["label"], ["jet_energy"], [], ["jet_nparticles"], ["part_px", "jet_eta"]):
        table = file.read(names, start, stop)
        table.validate()
        for name, values in {**table.columns, **table.constituents}.items():
            np.testing.assert_array_equal(values, {**whole.columns, **whole.constituents}[name])
        assert {*table.columns, *table.constituents} == set(names)
        if not names or any(map(is_constituent, names)):
            np.testing.assert_array_equal(table.offsets, whole.offsets)


def test_units_signs_sentinels_weights_and_text_labels(tmp_path):
    lists = {
        "pt": [[100e3, 50e3], [80e3, 10e3, 20e3]],
        "eta": [[0.1, 0.2], [-1, -1.1, -1.2]],
        "phi": [[3.0, -3.1], [0, 0.1, 0.2]],
        "d0": [[0.002, -999.0], [0.1, 0.0, -999.0]],
        "w": [[1.0, 0.5], [1.0, 0.0, 0.25]],
        "q": [[1, -1], [0, 1, 0]],
    }
    arrays = {k: pa.array(v, pa.list_(pa.int8() if k == "q" else pa.float64())) for k, v in lists.items()}
    pq.write_table(pa.table({**arrays, "truth": ["top", "qcd"], "id": [7, 8]}), tmp_path / "my.parquet")
    text = """
    [constituents]
    part_pt = { column = "pt", unit = "MeV" }
    part_eta = "eta"
    part_phi = "phi"
    part_weight = "w"
    part_d0val = { column = "d0", unit = "cm", scale = -1, missing = -999 }
    part_charge = "q"

    [jets]
    event_id = "id"
    jet_label = { column = "truth", classes = { qcd = "QCD", top = "Tbqq" } }

    [further]
    twice = { column = "id", scale = 2 }
    """
    table = read_all(open_table(tmp_path / "my.parquet", write_map(tmp_path, text)))

    pt = np.hypot(table.constituents["part_px"], table.constituents["part_py"])
    np.testing.assert_allclose(pt, [100, 25, 80, 5], rtol=1e-6)
    np.testing.assert_allclose(table.constituents["part_d0val"], [-0.02, 0, -1, 0], rtol=1e-6)
    np.testing.assert_array_equal(table.constituents["part_charge"], [1, -1, 0, 0])
    np.testing.assert_array_equal(table.columns["jet_label"], [8, 0])
    np.testing.assert_array_equal(table.columns["event_id"], [7, 8])
    np.testing.assert_array_equal(table.columns["twice"], [14.0, 16.0])


def test_structured_arrays_are_mapped_by_their_members(tmp_path):
    """The layout of ATLAS's flavour-tagging files: jets (N,) and tracks (N, M) with named members."""
    p4, _ = particles(np.random.default_rng(8), [3, 1], mass=0.0)
    tracks = np.zeros((2, 4), [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("valid", "?")])
    for name in ("pt", "eta", "phi"):
        tracks[name] = padded(getattr(p4, name), [3, 1], 4)
    tracks["valid"] = [[1, 1, 1, 0], [1, 0, 0, 0]]
    with h5py.File(tmp_path / "atlas.h5", "w") as file:
        file["jets"] = np.array(
            [(300.0, 0.1, 2.0, 5), (200.0, 0.3, -2.0, 0)],
            [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("flavour", "i4")],
        )
        file["tracks"] = tracks
    text = """
    [constituents]
    part_pt = "tracks/pt"
    part_eta = "tracks/eta"
    part_phi = "tracks/phi"
    part_mask = "tracks/valid"
    [jets]
    jet_pt = "jets/pt"
    jet_eta = "jets/eta"
    jet_phi = "jets/phi"
    jet_label = { column = "jets/flavour", classes = { 0 = "light", 4 = "c", 5 = "b" } }
    """
    file = open_table(tmp_path / "atlas.h5", write_map(tmp_path, text))
    table = read_all(file)

    assert file.classes == ("light", "c", "b")
    np.testing.assert_array_equal(table.columns["jet_label"], [2, 0])
    assert_momenta(table, p4)
    np.testing.assert_allclose(table.columns["jet_pt"], [300, 200])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    mass=st.sampled_from([0.0, 0.13957, 5.0]),
    across=st.sampled_from(["cartesian", "polar", "relative"]),
    along=st.sampled_from(["pz", "eta", "eta_rel", "rapidity"]),
    rest=st.sampled_from(["energy", "mass"]),
)
def test_however_momenta_are_given_they_are_those_of_vector(tmp_path, seed, counts, mass, across, along, rest):
    p4, jet = particles(np.random.default_rng(seed), counts, mass)
    whole = sums(p4, jet, len(counts))
    with np.errstate(divide="ignore", invalid="ignore"):
        axis = {
            "pt": whole.pt,
            "eta": np.where(whole.pt > 0, whole.eta, 0),
            "phi": whole.phi,
            "mass": np.maximum(whole.mass, 0),
        }
    given = {
        "cartesian": {"part_px": p4.px, "part_py": p4.py},
        "polar": {"part_pt": p4.pt, "part_phi": p4.phi},
        "relative": {"part_pt_rel": p4.pt / axis["pt"][jet], "part_phi_rel": p4.phi - axis["phi"][jet]},
    }[across]
    given |= {
        "pz": {"part_pz": p4.pz},
        "eta": {"part_eta": p4.eta},
        "eta_rel": {"part_eta_rel": p4.eta - axis["eta"][jet]},
        "rapidity": {"part_rapidity": p4.rapidity},
    }[along]
    given |= {"energy": {"part_energy": p4.E}, "mass": {"part_mass": p4.mass}}[rest]
    width = max(max(counts), 1)
    arrays = {name: padded(values, counts, width) for name, values in given.items()}
    jets = {f"jet_{name}": values for name, values in axis.items()}
    np.savez(tmp_path / "any.npz", **arrays, **jets)
    lines = ["[constituents]", *(f'{name} = "{name}"' for name in arrays), "[jets]", *(f'{n} = "{n}"' for n in jets)]
    table = read_all(open_table(tmp_path / "any.npz", write_map(tmp_path, "\n".join(lines))))

    np.testing.assert_array_equal(table.counts, counts)
    assert_momenta(table, p4, rtol=1e-4)
    eta, phi = axis["eta"][jet], axis["phi"][jet]
    np.testing.assert_allclose(table.constituents["part_deta"], np.where(eta < 0, -1, 1) * (p4.eta - eta), atol=1e-5)
    dphi = np.asarray(p4.deltaphi(vector.array({"pt": 0 * phi + 1, "phi": phi})))
    np.testing.assert_allclose(np.exp(1j * table.constituents["part_dphi"]), np.exp(1j * dphi), atol=1e-5)
    np.testing.assert_allclose(table.columns["jet_energy"], whole.E, rtol=1e-4, atol=1e-3)


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[constituent]\npart_px = 'a'", "unknown key 'constituent'.*Did you mean 'constituents'"),
        ("[jets]\njet_pt = 'a'", r"has no \[constituents\]"),
        (FLAT + "part_pX = 'a'", r"unknown key in \[constituents\] 'part_pX'.*Did you mean 'part_p"),
        (FLAT + "[jets]\njet_Pt = 'a'", r"unknown key in \[jets\] 'jet_Pt'.*Did you mean 'jet_pt'"),
        (FLAT + "[jets]\njet_pt = {colum = 'a'}", "unknown option of 'jet_pt' 'colum'.*Did you mean 'column'"),
        (FLAT + "[jets]\njet_pt = {column = 'a', unit = 'Mev'}", "unknown unit of 'jet_pt' 'Mev'.*Did you mean 'MeV'"),
        (FLAT + "[jets]\njet_pt = {column = 'a', scale = 'x'}", "'scale' of 'jet_pt' must be a number"),
        (FLAT + "[jets]\njet_pt = ['a']", "'jet_pt' must be the name of a column"),
        (FLAT + "part_d0val = 1.0", "'part_d0val' must name a column"),
        (FLAT + "[further]\njet_pt = 'a'", r"'jet_pt' belongs to \[jets\]"),
        ("[constituents]\npart_px = 'pfcand_px'\npart_pz = 'pfcand_pz'", "needs part_px and part_py, or part_pt and"),
        ("[constituents]\npart_px = 'pfcand_px'\npart_py = 'pfcand_py'", "needs part_pz or part_eta"),
        (
            "[constituents]\npart_pt_rel = 'pfcand_px'\npart_phi = 'pfcand_py'\npart_eta = 'pfcand_pz'",
            r"'part_pt_rel' is relative to the jet: \[jets\] needs 'jet_pt'",
        ),
        (FLAT.replace("pfcand_e", "pfcnd_e"), "'part_energy': unknown column 'pfcnd_e'.*Did you mean 'pfcand_e'"),
        (FLAT + "[jets]\njet_pt = 'pfcand_px'", "'jet_pt' is column 'pfcand_px', which has a list a jet; expected one"),
        (
            FLAT + "part_d0val = 'label'",
            "'part_d0val' is column 'label', which has one number a jet; expected one number",
        ),
        (FLAT + "part_d0val = 'd0_{i}'", r"'part_d0val' is 'd0_\{i\}', of which the table has none"),
        (FLAT + "part_d0val = 'pfcand_px[..., 2]'", r"is \[..., 2\] of 'pfcand_px', which is no array"),
        ("[constituents", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_map_is_said_in_one_line(tmp_path, text, message):
    lists, _, _ = ragged_columns()
    write_flat("root", tmp_path / "my.root", lists, {"label": np.array([2, 0, 1, 2])})

    with pytest.raises(InputError, match=rf"map\.toml[^\n]*{message}[^\n]*$"):
        open_table(tmp_path / "my.root", write_map(tmp_path, text))


def test_arrays_that_do_not_fit_are_named(tmp_path):
    x = np.zeros((3, 5, 2))
    np.savez(tmp_path / "my.npz", x=x, y=np.zeros((3, 4)), z=np.zeros((2, 5)), objects=np.array([1, "a"], object))
    base = "[constituents]\npart_px = 'x[..., 0]'\npart_py = 'x[..., 1]'\n"
    for line, message in (
        ("part_pz = 'x[..., 2]'", r"'part_pz' is \[..., 2\] of 'x', which has only 2 there"),
        ("part_pz = 'x'", r"'part_pz' is column 'x', which has an array of shape \(5, 2\) a jet"),
        ("part_pz = 'y'", r"'part_pz' has an array of shape \(4,\) a jet, but 'part_px' an array of shape \(5,\)"),
        ("part_pz = 'z'", "'part_pz' is column 'z' of 2 rows, but 'part_px' is column 'x' of 3"),
        ("part_pz = 'objects'", "unknown column 'objects'"),
    ):
        with pytest.raises(InputError, match=rf"my\.npz: column map [^\n]*map\.toml: [^\n]*{message}"):
            open_table(tmp_path / "my.npz", write_map(tmp_path, base + line))


def test_values_that_do_not_fit_are_named(tmp_path):
    lists, _, _ = ragged_columns()
    lists["short"] = lists["pfcand_px"][:, :1]
    lists["nan"] = lists["pfcand_px"] * np.nan
    scalars = {"label": np.array([2, 0, 1, 2]), "half": np.array([0.5, 1, 1, 1])}
    write_flat("root", tmp_path / "my.root", lists, scalars)
    for line, name, message in (
        ("part_d0val = 'short'", "part_d0val", "'part_d0val' and 'part_px' have different numbers of constituents"),
        ("part_weight = 'nan'", "part_px", None),
        (
            "[jets]\njet_label = {column = 'label', classes = ['a', 'b']}",
            "jet_label",
            "'label' holds 2, which is no class",
        ),
        (
            "[jets]\njet_label = {column = 'label', classes = {x = 'a'}}",
            "jet_label",
            "classes of 'jet_label' must be numbers",
        ),
        ("[jets]\nevent_id = 'half'", "event_id", "'event_id' holds values that are no int64"),
    ):
        file = open_table(tmp_path / "my.root", write_map(tmp_path, FLAT + line))
        if message is None:
            assert file.read([name], 0, 4).n_constituents == 0
        else:
            with pytest.raises(InputError, match=message):
                file.read([name], 0, 4)


def test_an_unknown_map_names_those_that_there_are(tmp_path):
    assert MAPS == ("jetnet", "quark-gluon", "top-tagging")
    with pytest.raises(InputError, match=r"unknown column map 'top-taging'.*Did you mean 'top-tagging'"):
        open_table(tmp_path / "any.h5", "top-taging")
    for name in MAPS:
        with pytest.raises(InputError, match=r"any\.h5: no such file"):
            open_table(tmp_path / "any.h5", name)


def test_a_table_that_the_map_is_not_for_names_the_missing_column(tmp_path):
    write_jetnet(tmp_path / "g.hdf5")
    with pytest.raises(InputError, match=r"g\.hdf5: column map 'quark-gluon': .*unknown column 'X'.*particle_features"):
        open_table(tmp_path / "g.hdf5", "quark-gluon")
    with pytest.raises(InputError, match=r"g\.hdf5: column map 'top-tagging': 'part_energy' is 'E_\{i\}', of which"):
        open_table(tmp_path / "g.hdf5", "top-tagging")


def sample(kind, path):
    lists, _, _ = ragged_columns(counts=(40,) * 60)
    if kind in ("root", "parquet"):
        write_flat(kind, path, lists, {"label": np.arange(60)})
    else:
        arrays = {name: ak.to_numpy(values) for name, values in lists.items()}
        if kind == "npz":
            np.savez_compressed(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for name, values in arrays.items():
                    file.create_dataset(name, data=values, compression="gzip", fletcher32=True)
    return path


@pytest.mark.parametrize("kind", ["root", "parquet", "h5", "npz"])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.99])
def test_files_cut_off_give_one_clear_line(tmp_path, kind, part):
    content = sample(kind, tmp_path / f"whole.{kind}").read_bytes()
    (tmp_path / f"cut.{kind}").write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match=rf"cut\.{kind}: [^\n]*$"):
        open_table(tmp_path / f"cut.{kind}", write_map(tmp_path, FLAT))


@pytest.mark.parametrize("kind", ["root", "parquet", "h5", "npz"])
def test_a_damaged_byte_is_an_error_or_changes_nothing(tmp_path, kind):
    path = sample(kind, tmp_path / f"whole.{kind}")
    columns = write_map(tmp_path, FLAT)
    expected = read_all(open_table(path, columns))
    content, rng = path.read_bytes(), np.random.default_rng(9)
    n_noticed = 0
    for place in rng.integers(0, len(content), 40):
        damaged = bytearray(content)
        damaged[place] ^= 0x5A
        (tmp_path / f"damaged.{kind}").write_bytes(damaged)
        try:
            table = read_all(open_table(tmp_path / f"damaged.{kind}", columns))
        except InputError as error:
            assert "\n" not in str(error)
            n_noticed += 1
        else:
            for name in ("part_px", "part_energy"):
                np.testing.assert_array_equal(table.constituents[name], expected.constituents[name])
    assert n_noticed > 10
