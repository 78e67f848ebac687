"""What is wrong in a column map, a table or a file is said in one line."""

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mapped_tables import FLAT, ragged_columns, read_all, write_flat, write_jetnet, write_map

from hepfm.errors import InputError
from hepfm.formats.column_map import MAPS, open_table


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
        (FLAT + "[jets]\njet_label = {column = 'label', missing = -99}", "unknown option of 'jet_label' 'missing'"),
        (FLAT + "[jets]\njet_label = {column = 'label', scale = 2}", "unknown option of 'jet_label' 'scale'"),
        (FLAT + "[jets]\njet_label = {column = 'label', unit = 'GeV'}", "unknown option of 'jet_label' 'unit'"),
        (FLAT + "[jets]\njet_pt = {column = 'a', classes = ['b']}", "unknown option of 'jet_pt' 'classes'"),
        (FLAT + "[jets]\njet_pt = ['a']", "'jet_pt' must be the name of a column"),
        (FLAT + "part_d0val = 1.0", "'part_d0val' must name a column"),
        (FLAT + "[further]\njet_pt = 'a'", r"'jet_pt' belongs to \[jets\]"),
        (FLAT + "[further]\njet_mass = 'label'", r"'jet_mass' belongs to \[jets\]"),
        (FLAT + "[jets]\njet_label = 'lab{i}'", r"'jet_label' is 'lab\{i\}', of which the table has none"),
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
        ("part_pz = 'objects'", "'part_pz' is column 'objects' of type object; expected numbers"),
    ):
        with pytest.raises(InputError, match=rf"my\.npz: column map [^\n]*map\.toml: [^\n]*{message}"):
            open_table(tmp_path / "my.npz", write_map(tmp_path, base + line))


def test_two_columns_of_the_same_number_are_refused(tmp_path):
    names = ("PX_0", "PX_00", "PX_1", "PY_0", "PY_1", "PZ_0", "PZ_1")
    pq.write_table(pa.table({name: [1.0] for name in names}), tmp_path / "my.parquet")
    text = "[constituents]\npart_px = 'PX_{i}'\npart_py = 'PY_{i}'\npart_pz = 'PZ_{i}'"

    with pytest.raises(InputError, match=r"'part_px' is 'PX_\{i\}', of which the table has 3 columns, not numbered"):
        open_table(tmp_path / "my.parquet", write_map(tmp_path, text))


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


def test_words_for_a_label_without_classes_are_one_clear_line(tmp_path):
    pq.write_table(pa.table({"x": [[1.0]], "y": [[2.0]], "z": [[3.0]], "truth": ["top"]}), tmp_path / "my.parquet")
    text = "[constituents]\npart_px = 'x'\npart_py = 'y'\npart_pz = 'z'\n[jets]\njet_label = 'truth'"
    file = open_table(tmp_path / "my.parquet", write_map(tmp_path, text))

    with pytest.raises(InputError, match=r"my\.parquet: column 'jet_label' holds values that are no int16[^\n]*$"):
        file.read(["jet_label"], 0, 1)


@pytest.mark.parametrize(
    ("code", "message"),
    [(2101, "2101, of which no mass is known. .* part_energy or part_mass"), (1000022, "1000022, .* no particle")],
)
def test_codes_without_a_mass_are_named(tmp_path, code, message):
    pq.write_table(pa.table({"pt": [[2.0]], "eta": [[0.1]], "phi": [[0.1]], "id": [[code]]}), tmp_path / "my.parquet")
    text = "[constituents]\npart_pt = 'pt'\npart_eta = 'eta'\npart_phi = 'phi'\npart_pdg_id = 'id'"

    with pytest.raises(InputError, match=rf"my\.parquet: 'part_pdg_id' has the code {message}"):
        open_table(tmp_path / "my.parquet", write_map(tmp_path, text)).read(["part_energy"], 0, 1)


def test_numbers_too_large_for_a_column_are_refused(tmp_path):
    pq.write_table(pa.table({"x": [[1.0]], "y": [[2.0]], "z": [[3.0]], "pt": [1e39]}), tmp_path / "my.parquet")
    text = "[constituents]\npart_px = 'x'\npart_py = 'y'\npart_pz = 'z'\n[jets]\njet_pt = 'pt'"

    with pytest.raises(InputError, match=r"my\.parquet: column 'jet_pt' holds values that are no float32"):
        open_table(tmp_path / "my.parquet", write_map(tmp_path, text)).read(["jet_pt"], 0, 1)


@pytest.mark.parametrize("name", ["part_px", "part_pt"])
def test_a_constituent_of_nan_is_refused_where_nothing_says_that_it_is_none(tmp_path, name):
    values = {"part_px": [[5.0, 3.0]], "part_py": [[0.0, 0.0]], "part_pt": [[5.0, 3.0]]}
    values |= {"part_phi": [[0.0, 0.0]], "part_pz": [[1.0, 1.0]], name: [[5.0, np.nan]]}
    needed = ("part_pt", "part_phi", "part_pz") if name == "part_pt" else ("part_px", "part_py", "part_pz")
    table = pa.table({**{key: values[key] for key in needed}, "on": [[1, 1]], "off": [[1, 0]]})
    pq.write_table(table, tmp_path / "my.parquet")

    def counts(**more: str) -> list[int]:
        lines = {**{key: f"{{ column = '{key}' }}" for key in needed}, **more}
        text = "[constituents]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items())
        return open_table(tmp_path / "my.parquet", write_map(tmp_path, text)).read([], 0, 1).counts.tolist()

    for more in ({}, {"part_mask": "'on'"}, {"part_weight": "'on'"}):
        with pytest.raises(InputError, match=r"my\.parquet: the transverse momentum of a constituent is not a number"):
            counts(**more)
    assert counts(part_mask="'off'") == counts(part_weight="'off'") == [1]
    assert counts(**{name: f"{{ column = '{name}', missing = nan }}"}) == [1]


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
