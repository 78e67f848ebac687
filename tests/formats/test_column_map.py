"""Tables of an ordinary user, made jets by a column map."""

from itertools import chain, combinations

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mapped_tables import FLAT, assert_momenta, padded, particles, ragged_columns, read_all, sums, write_flat, write_map

import hepfm
from hepfm.errors import InputError
from hepfm.formats.column_map import open_table
from hepfm.schema import is_constituent
from hepfm.training.source import Source


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


def test_a_column_of_jets_read_alone_is_that_of_all_whatever_the_map_names(tmp_path):
    lists, p4, jet = ragged_columns()
    whole = sums(p4, jet, 4)
    # Calibrated, so that what the map names differs from the constituents' sum.
    jets = {f"cal_{name}": 1.1 * getattr(whole, name) for name in ("pt", "mass", "px", "py", "pz")}
    write_flat("parquet", tmp_path / "my.parquet", lists, {**jets, "cal_eta": np.array([0.1, 0.2, 0.3, 0.4])})
    together = [["pt"], ["eta"], ["mass"], ["px", "py", "pz"]]
    names = ["jet_pt", "jet_eta", "jet_phi", "jet_energy"]

    for some in chain.from_iterable(combinations(together, n) for n in range(len(together) + 1)):
        text = FLAT + "[jets]\n" + "\n".join(f"jet_{key} = 'cal_{key}'" for key in chain.from_iterable(some))
        file = open_table(tmp_path / "my.parquet", write_map(tmp_path, text))
        expected = file.read(names, 0, 4).columns
        for name in names:
            alone = file.read([name], 1, 4).columns[name]
            np.testing.assert_array_equal(alone, expected[name][1:], err_msg=text)


@pytest.mark.parametrize("text", ["", "[jets]\njet_mass = 'm'\n[further]\nxsec = { column = 'nlo', scale = 1e3 }"])
def test_columns_that_a_map_does_not_name_change_no_other_whatever_they_are_called(tmp_path, text):
    lists, _, _ = ragged_columns()
    named = {"m": np.full(4, 100.0), "nlo": np.arange(4.0)}
    others = {name: np.full(4, 3e6) for name in ("jet_px", "jet_py", "jet_pz", "jet_mass", "truth_px", "xsec")}
    write_flat("parquet", tmp_path / "named.parquet", lists, named)
    write_flat("parquet", tmp_path / "all.parquet", lists, {**named, **others})
    path = write_map(tmp_path, FLAT + text)
    expected = read_all(open_table(tmp_path / "named.parquet", path))
    file = open_table(tmp_path / "all.parquet", path)
    table = read_all(file)

    for name, values in {**expected.columns, **expected.constituents}.items():
        np.testing.assert_array_equal({**table.columns, **table.constituents}[name], values, err_msg=name)
    further = {name: values for name, values in table.columns.items() if name not in expected.columns}
    assert further.keys() == others.keys() - ({"jet_mass", "xsec"} if text else set())
    assert all(np.array_equal(values, others[name]) for name, values in further.items())
    assert any(note.endswith("does not name them: jet_mass, xsec") for note in file.notes) == bool(text)


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


def test_angles_of_any_turn_come_between_minus_pi_and_pi(tmp_path):
    lists = {"pt": [[2.0, 1.0]], "eta": [[0.1, 0.2]], "phi": [[0.1, 0.2]], "dphi": [[6.0, -0.1]]}
    pq.write_table(pa.table({**lists, "truth": [6.0]}), tmp_path / "my.parquet")
    text = """
    [constituents]
    part_pt = "pt"
    part_eta = "eta"
    part_phi = "phi"
    part_dphi = "dphi"

    [jets]
    jet_phi = 6.0
    truth_phi = "truth"
    """
    table = read_all(open_table(tmp_path / "my.parquet", write_map(tmp_path, text)))

    turned = np.float32(6 - 2 * np.pi)
    np.testing.assert_array_equal(table.constituents["part_dphi"], [turned, np.float32(-0.1)])
    assert [table.columns[name][0] for name in ("jet_phi", "truth_phi")] == [turned, turned]


@pytest.mark.parametrize("energy", ["", 'part_energy = "e"'])
def test_neutrinos_are_massless_and_of_no_type(tmp_path, energy):
    lists = {"pt": [[4.0, 3.0, 2.0]], "eta": [[0.0] * 3], "phi": [[0.0] * 3], "id": [[12, -14, 16]], "e": [[4.0, 3, 2]]}
    pq.write_table(pa.table(lists), tmp_path / "my.parquet")
    text = f"[constituents]\npart_pt = 'pt'\npart_eta = 'eta'\npart_phi = 'phi'\npart_pdg_id = 'id'\n{energy}"
    found = read_all(open_table(tmp_path / "my.parquet", write_map(tmp_path, text))).constituents

    np.testing.assert_array_equal(found["part_energy"], [4, 3, 2])
    assert not any(values.any() for name, values in found.items() if name.startswith("part_is"))
    assert not found["part_charge"].any()


def test_nan_may_stand_for_none(tmp_path):
    lists = {"pt": [[2.0, 1.0]], "eta": [[0.1, 0.2]], "phi": [[0.1, 0.2]], "d0": [[0.5, float("nan")]]}
    pq.write_table(pa.table(lists), tmp_path / "my.parquet")
    text = """
    [constituents]
    part_pt = "pt"
    part_eta = "eta"
    part_phi = "phi"
    part_d0val = { column = "d0", missing = nan }
    """
    table = read_all(open_table(tmp_path / "my.parquet", write_map(tmp_path, text)))
    np.testing.assert_array_equal(table.constituents["part_d0val"], [0.5, 0.0])


def test_numbers_in_names_may_have_leading_zeros(tmp_path):
    columns = {f"{name}_{i:02}": [float(100 - i)] for i in reversed(range(11)) for name in ("PX", "PY", "PZ")}
    pq.write_table(pa.table(columns), tmp_path / "my.parquet")
    text = "[constituents]\npart_px = 'PX_{i}'\npart_py = 'PY_{i}'\npart_pz = 'PZ_{i}'"
    table = read_all(open_table(tmp_path / "my.parquet", write_map(tmp_path, text)))
    np.testing.assert_array_equal(table.constituents["part_px"], 100 - np.arange(11))


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


def test_a_map_with_a_label_serves_for_jets_without(tmp_path):
    lists, p4, _ = ragged_columns()
    path = write_map(tmp_path, FLAT + "[jets]\njet_label = { column = 'truth', classes = ['QCD', 'Tbqq'] }\n")
    write_flat("parquet", tmp_path / "simulated.parquet", lists, {"truth": np.array([1, 0, 0, 1])})
    write_flat("parquet", tmp_path / "collisions.parquet", lists, {"truht": np.array([1, 0, 0, 1])})

    simulated, collisions = (open_table(tmp_path / f"{n}.parquet", path) for n in ("simulated", "collisions"))

    assert "Tbqq" in simulated.classes
    assert collisions.classes == ()
    assert "jet_label" not in {column.name for column in collisions.columns}
    assert_momenta(read_all(collisions), p4, rtol=1e-6)
    assert not [note for note in simulated.notes if note.startswith("no jet_label")]
    (note,) = [note for note in collisions.notes if note.startswith("no jet_label")]
    assert "Did you mean 'truht'?" in note
    source = Source(hepfm.open(tmp_path / "collisions.parquet", columns=path), None, None)
    with pytest.raises(InputError, match=r"no column 'jet_label'.*Did you mean 'truht'\?\)$"):
        source.check_column("jet_label")
    with pytest.raises(InputError, match="have different classes"):
        hepfm.open([tmp_path / "simulated.parquet", tmp_path / "collisions.parquet"], columns=path)


def test_of_several_files_a_note_says_which_lacks_the_label(tmp_path):
    lists, _, _ = ragged_columns()
    path = write_map(tmp_path, FLAT + "[jets]\njet_label = 'truth'\n")
    for name in ("a", "b"):
        write_flat("parquet", tmp_path / f"{name}.parquet", lists, {"truth": np.array([1, 0, 0, 1])})
    write_flat("parquet", tmp_path / "c.parquet", lists, {"y": np.array([1, 0, 0, 1])})

    def notes(*names: str) -> list[str]:
        data = hepfm.open([tmp_path / f"{name}.parquet" for name in names], columns=path)
        return [note for note in data.notes if note.startswith("no jet_label: unknown column 'truth'")]

    (note,) = notes("a", "b", "c")
    assert note.endswith(f" (1 of 3 files, first {tmp_path / 'c.parquet'})")
    (note,) = notes("c", "c")
    assert "files" not in note


def test_the_error_for_a_missing_label_has_only_the_notes_about_it(tmp_path):
    columns = {"part_px": [[1.0]], "part_py": [[2.0]], "part_pz": [[3.0]], "part_energy": [[4.0]], "truth": ["top"]}
    pq.write_table(pa.table({**columns, "other": [[1.0]]}), tmp_path / "my.parquet")
    source = Source(hepfm.open(tmp_path / "my.parquet"), None, None)

    with pytest.raises(InputError, match=r"unknown column of jets 'truth'.* \(left out, for .*: truth, other\)$"):
        source.check_column("truth")
    for name in ("other", "her", "a", "jet"):
        with pytest.raises(InputError, match=rf"unknown column of jets '{name}'") as caught:
            source.check_column(name)
        assert ("left out" in str(caught.value)) == (name == "other")
