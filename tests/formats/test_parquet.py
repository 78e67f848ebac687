import awkward as ak
import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from toy_jets import toys, write_toys

import hepfm
from hepfm.errors import InputError
from hepfm.formats.hdf5 import content_digest, open_shard
from hepfm.formats.jetclass2 import JETCLASS2_CLASSES
from hepfm.formats.parquet import open_parquet, read_metadata, write_parquet
from hepfm.schema import COLUMNS, JET_CLASSES
from hepfm.table import JetTable


@pytest.fixture(scope="module")
def jets(small_campaign) -> JetTable:
    """Jets of two processes and two variations, some of each."""
    files = [open_shard(path) for path in sorted(small_campaign[1].glob("shards/*/*-000000.h5"))]
    return JetTable.concatenate([file.read(tuple(COLUMNS), 0, file.n_jets) for file in files])


@pytest.fixture(scope="module")
def path(jets, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "jets.parquet"
    write_parquet(path, [jets], {"seed": "7"})
    return path


def everything(file) -> JetTable:
    return file.read([column.name for column in file.columns], 0, file.n_jets)


def test_what_was_written_comes_back_bit_by_bit(jets, path):
    file = open_parquet(path)

    assert file.n_jets == jets.n_jets
    assert file.columns == tuple(COLUMNS.values())
    assert file.classes == JET_CLASSES
    assert set(file.variations) == set(jets.columns["variation"])
    assert set(file.processes) == set(jets.columns["process"])
    assert file.notes == ()
    assert content_digest(everything(file)) == content_digest(jets)
    assert read_metadata(path) == {"seed": "7"}


@pytest.mark.parametrize("group_rows", [7, 1_000_000])
def test_any_parts_in_any_order_are_those_of_the_whole(jets, tmp_path, monkeypatch, group_rows):
    """Going on where the last reading stopped, back, within a row group and beyond it."""
    monkeypatch.setattr("hepfm.formats.parquet_rows._BATCH", 3)
    write_parquet(tmp_path / "ours.parquet", [jets], {})
    pq.write_table(pq.read_table(tmp_path / "ours.parquet"), tmp_path / "jets.parquet", row_group_size=group_rows)
    files = [open_parquet(tmp_path / name) for name in ("jets.parquet", "ours.parquet")]

    n = jets.n_jets
    for start, stop in ((0, 4), (4, 9), (9, 9), (12, 20), (20, n), (2, 3), (3, 5), (4, 6), (n - 1, n), (n, n), (0, n)):
        for file in files:
            part = file.read(["part_px", "process", "jet_pt"], start, stop)
            assert content_digest(part) == content_digest(
                jets.slice(start, stop).only(["jet_pt", "process", "part_px"])
            )


def test_pieces_in_order_open_and_decode_a_row_group_once(jets, path, monkeypatch):
    opened = []

    class Counted(pq.ParquetFile):
        def __init__(self, *args, **kwargs):
            opened.append(args)
            super().__init__(*args, **kwargs)

    file = open_parquet(path)
    monkeypatch.setattr(pq, "ParquetFile", Counted)
    for start in range(0, jets.n_jets, 5):
        file.read(["part_px", "process"], start, min(start + 5, jets.n_jets))
    assert len(opened) == 1


def test_a_file_that_was_replaced_is_read_anew(jets, tmp_path):
    write_parquet(tmp_path / "jets.parquet", [jets], {})
    assert open_parquet(tmp_path / "jets.parquet").read(["jet_pt"], 0, 3).n_jets == 3
    other = jets.select(np.arange(jets.n_jets)[::-1])
    write_parquet(tmp_path / "jets.parquet", [other], {})

    part = open_parquet(tmp_path / "jets.parquet").read(["jet_pt"], 3, 6)
    assert content_digest(part) == content_digest(other.slice(3, 6).only(["jet_pt"]))


def test_row_groups_change_nothing_but_where_jets_are_cut(jets, tmp_path, monkeypatch):
    monkeypatch.setattr("hepfm.formats.parquet._ROW_GROUP", 7)
    write_parquet(tmp_path / "a.parquet", [jets], {})
    write_parquet(tmp_path / "b.parquet", [jets.slice(i, i + 1) for i in range(jets.n_jets)], {})
    file = open_parquet(tmp_path / "a.parquet")

    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == -(-jets.n_jets // 7)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert content_digest(everything(file)) == content_digest(jets)
    assert set(file.processes) == set(jets.columns["process"])
    for start, stop in ((0, 1), (6, 8), (7, 14), (3, jets.n_jets), (jets.n_jets, jets.n_jets), (0, 0)):
        part = file.read(["part_px", "process", "jet_pt"], start, stop)
        expected = jets.slice(start, stop).only(["jet_pt", "process", "part_px"])
        assert content_digest(part) == content_digest(expected)


def test_columns_that_are_not_wanted_are_not_read(jets, path):
    file = open_parquet(path)

    assert list(file.read(["jet_pt"], 0, 5).columns) == ["jet_pt"]
    assert file.read(["jet_pt"], 0, 5).constituents == {}
    assert file.read([], 0, jets.n_jets).offsets.tolist() == jets.offsets.tolist()


def test_no_jets_are_a_file_too_but_no_table_is_none(tmp_path):
    write_parquet(tmp_path / "empty.parquet", [JetTable.empty()], {})

    assert everything(open_parquet(tmp_path / "empty.parquet")).n_jets == 0
    with pytest.raises(InputError, match="nothing to write"):
        write_parquet(tmp_path / "none.parquet", [], {})
    assert not (tmp_path / "none.parquet").exists()


def test_interrupted_file_leaves_nothing(jets, tmp_path):
    def interrupted():
        yield jets
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parquet(tmp_path / "jets.parquet", interrupted(), {})
    assert list(tmp_path.iterdir()) == []


def test_tables_with_other_columns_are_refused_and_nothing_is_left(jets, tmp_path):
    with pytest.raises(InputError, match="only some have 'event_id'"):
        write_parquet(tmp_path / "jets.parquet", [jets, jets.only(["part_px"])], {})
    assert list(tmp_path.iterdir()) == []


def test_datasets_knows_the_classes_and_gives_the_same_numbers(jets, path, tmp_path):
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path))

    assert loaded.features["jet_label"] == datasets.ClassLabel(names=list(JET_CLASSES))
    assert loaded.features["part_px"] == datasets.List(datasets.Value("float32"))
    assert loaded.features["weight"] == datasets.Value("float64")
    assert loaded.column_names == list(COLUMNS)
    assert loaded["event_id"][:] == jets.columns["event_id"].tolist()
    assert loaded["part_isMuon"][0] == jets.slice(0, 1).constituents["part_isMuon"].tolist()
    assert np.array_equal(np.concatenate(loaded["part_px"][:]).astype(np.float32), jets.constituents["part_px"])


def test_half_precision_comes_back_and_is_known_to_datasets(jets, tmp_path):
    half = np.linspace(-1, 1, jets.n_jets).astype(np.float16)
    parts = jets.constituents["part_px"].astype(np.float16)
    table = JetTable({"score": half}, jets.offsets, {**jets.only(["part_px", "part_py"]).constituents, "part_x": parts})
    write_parquet(tmp_path / "half.parquet", [table], {})
    read = everything(open_parquet(tmp_path / "half.parquet"))
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "half.parquet"), split="train", cache_dir=str(tmp_path)
    )

    assert read.columns["score"].dtype == read.constituents["part_x"].dtype == np.float16
    assert content_digest(read) == content_digest(table)
    assert loaded.features["score"] == datasets.Value("float16")
    assert loaded.features["part_x"] == datasets.List(datasets.Value("float16"))
    assert loaded["score"][:] == half.tolist()


def test_half_precision_of_others_is_brought_to_our_types(tmp_path):
    half = pa.array(np.array([1.5, 2.5], np.float16))
    lists = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), half)
    pq.write_table(pa.table({"part_px": lists, "part_py": lists, "jet_pt": half[:1]}), tmp_path / "half.parquet")
    read = everything(open_parquet(tmp_path / "half.parquet"))

    assert read.constituents["part_px"].dtype == read.columns["jet_pt"].dtype == np.float32
    assert read.constituents["part_px"].tolist() == [2.5, 1.5]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_that_pandas_wrote_is_nan(tmp_path, dtype):
    lists = [np.array([1.0, 2.0], np.float32), np.array([3.0], np.float32)]
    frame = pd.DataFrame({f"part_{name}": lists for name in ("px", "py", "pz", "energy")})
    frame["jet_sdmass"] = np.array([np.nan, 80.0], dtype)
    frame.to_parquet(tmp_path / "pandas.parquet")
    assert pq.read_table(tmp_path / "pandas.parquet")["jet_sdmass"].null_count == 1

    assert hepfm.open(tmp_path / "pandas.parquet").read().jet_sdmass.to_list() == pytest.approx(
        [np.nan, 80], nan_ok=True
    )


def test_missing_numbers_of_constituents_are_nan(tmp_path):
    table = pa.table({"part_px": [[2.0, 1.0]], "part_py": [[0.0, 0.0]], "part_d0val": [[None, 0.5]]})
    pq.write_table(table, tmp_path / "null.parquet")

    d0 = everything(open_parquet(tmp_path / "null.parquet")).constituents["part_d0val"]
    assert d0.tolist() == pytest.approx([np.nan, 0.5], nan_ok=True)


def test_constituents_without_momenta_across_the_beam_are_refused_when_the_file_is_opened(tmp_path):
    table = pa.table({"jet_pt": [500.0], "part_pt": [[1.0, 3.0]], "part_deta": [[0.0, 0.1]]})
    pq.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"no part_px and part_py with .* a jet, but jet_pt .*, part_pt"):
        open_parquet(tmp_path / "other.parquet")


def test_jetclass_two_has_its_classes_in_parquet_too(shared, tmp_path):
    names = ["jet_label", "aux_genpart_isResX", "jet_pt", "part_px", "part_py"]
    with uproot.open(shared / "data" / "jetclass2_example.root") as file:
        ak.to_parquet(file["tree"].arrays(names), tmp_path / "jetclass2.parquet")
    file = open_parquet(tmp_path / "jetclass2.parquet")

    assert file.classes == JETCLASS2_CLASSES
    assert not any("names of the classes" in note for note in file.notes)


def test_numbers_that_parquet_does_not_have_are_refused_by_the_name_of_their_column(tmp_path):
    table = toys(4)
    wide = JetTable({"wide": np.ones(4, np.longdouble)}, table.offsets, table.constituents)
    with pytest.raises(InputError, match=r"a\.parquet: a Parquet file cannot hold column 'wide', of type float128"):
        write_parquet(tmp_path / "a.parquet", [wide], {})
    assert list(tmp_path.iterdir()) == []


def test_variations_keep_the_order_of_the_jets(tmp_path):
    """The first of them is taken for the nominal one."""
    tables = [toys(4, variation=name) for name in ("nominal", "fsr-up", "colour-reconnection")]
    path = write_toys(tmp_path / "a.parquet", JetTable.concatenate(tables))
    assert open_parquet(path).variations == ("nominal", "fsr-up", "colour-reconnection")


def test_any_parquet_with_our_names_opens_with_types_brought_to_ours(tmp_path):
    table = pa.table(
        {
            "jet_pt": [500.0, 600.0],
            "jet_label": [3, 141],
            "part_px": [[1.0, 3.0], [2.0]],
            "part_py": [[0.0, 0.0], [0.0]],
            "part_charge": [[1, -1], [0]],
            "part_score": [[0.5, 0.25], [0.125]],
            "score": [0.5, 0.75],
            "name": ["a", "b"],
            "genpart_pt": [[1.0], []],
        }
    )
    pq.write_table(table, tmp_path / "other.parquet")
    file = open_parquet(tmp_path / "other.parquet")
    read = everything(file)

    assert [c.name for c in file.columns] == [
        *("jet_label", "jet_pt", "part_px", "part_py", "part_charge", "part_score", "score"),
    ]
    assert file.classes == file.variations == ()
    assert "name, genpart_pt" in file.notes[0]
    assert "does not say the names of the classes" in file.notes[1]
    assert read.columns["jet_pt"].dtype == np.float32
    assert read.columns["jet_label"].tolist() == [3, 141]
    # Ordered by falling transverse momentum, which the file was not.
    assert read.constituents["part_px"].tolist() == [3.0, 1.0, 2.0]
    assert read.constituents["part_charge"].tolist() == [-1, 1, 0]
    assert read.constituents["part_score"].tolist() == [0.25, 0.5, 0.125]
    assert file.read(["part_charge"], 0, 2).constituents["part_charge"].tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0], "y": [2.0]}, r"no part_px and part_py with a list of any length a jet, but x \(double\), y \("),
        (
            dict.fromkeys(("part_px", "part_py"), pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))),
            r"but part_px \(fixed_size_list<.*>\[2\]\), part_py .* any other table needs a column map",
        ),
        ({"part_px": [[1.0], None], "part_py": [[1.0], [2.0]]}, r"column 'part_px' has missing values \(null\)"),
        (
            {"part_px": [[1.0]], "part_py": [[2.0]], "part_charge": pa.array([[None]], pa.list_(pa.int8()))},
            r"column 'part_charge' has missing values \(null\)",
        ),
        ({"part_px": [[1.0]], "part_py": [[1.0, 2.0]]}, "'part_py' has other numbers of constituents"),
        (
            {"part_px": [[1.0]], "part_py": [[2.0]], "part_charge": [[0.5]]},
            "'part_charge' holds values that are no int8",
        ),
        ({"part_px": [[1.0]], "part_py": [[2.0]], "jet_label": [40_000]}, "'jet_label' holds values that are no"),
        # pandas has double precision for integers of which some are missing.
        (
            {"part_px": [[1.0]], "part_py": [[2.0]], "jet_label": pa.array([None], pa.float64())},
            r"column 'jet_label' has missing values \(null\)",
        ),
    ],
)
def test_wrong_contents_are_one_clear_line_that_names_the_file(columns, message, tmp_path):
    pq.write_table(pa.table(columns), tmp_path / "wrong.parquet")

    with pytest.raises(InputError, match=message) as caught:
        everything(open_parquet(tmp_path / "wrong.parquet"))
    assert "wrong.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "missing" not in message or "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jet_label", np.uint16(40_000)),
        ("jet_label", np.uint16(65_535)),
        ("event_id", np.uint64(2**63 + 5)),
        ("event_id", np.float64(2**63)),
        ("jet_flavour", np.uint8(200)),
        ("jet_nparticles", np.int64(-(2**31) - 1)),
        ("part_charge", np.uint8(255)),
    ],
)
def test_numbers_beyond_a_columns_type_are_refused_and_never_wrapped(tmp_path, name, value):
    values = np.array([1, value], value.dtype)
    column = [values, values[:0]] if name.startswith("part_") else values
    momenta = [[1.0, 1.0], []] if name.startswith("part_") else [[1.0], [1.0]]
    pq.write_table(pa.table({"part_px": momenta, "part_py": momenta, name: column}), tmp_path / "large.parquet")

    with pytest.raises(InputError, match=rf"large\.parquet: column '{name}' holds values that are no .*{value.dtype}"):
        everything(open_parquet(tmp_path / "large.parquet"))


@pytest.mark.parametrize("name", ["process", "variation"])
def test_a_missing_name_is_refused_when_the_file_is_opened(tmp_path, name):
    """Also where the other names of a row group are all the same, so that its statistics tell them."""
    table = pa.table({"part_px": [[1.0]] * 4, "part_py": [[2.0]] * 4, name: ["a", "a", "a", None]})
    pq.write_table(table, tmp_path / "null.parquet", row_group_size=2)

    with pytest.raises(InputError, match=rf"null\.parquet: column '{name}' has missing values \(null\); [^\n]*$"):
        open_parquet(tmp_path / "null.parquet")


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [True, False], [["a"], ["b"]]])
def test_what_is_called_process_and_is_no_name_is_left_out(tmp_path, values):
    table = pa.table({"part_px": [[1.0]] * 2, "part_py": [[2.0]] * 2, "process": values})
    pq.write_table(table, tmp_path / "a.parquet")
    data = hepfm.open(tmp_path / "a.parquet")

    assert "process" not in data.columns and data.read_table().n_jets == 2
    assert "left out, for it is no text: process" in data.notes
    assert "a.parquet" in repr(data)


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_damage_is_one_clear_line(path, tmp_path, where):
    content = path.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: int(where * len(content))])
    with pytest.raises(InputError, match=r"cut\.parquet: damaged or no Parquet file"):
        open_parquet(tmp_path / "cut.parquet")
    zeroed = bytearray(content)
    place = int(where * len(content))
    zeroed[place : place + 400] = bytes(400)
    (tmp_path / "zeroed.parquet").write_bytes(zeroed)
    with pytest.raises(InputError, match=r"zeroed\.parquet: damaged"):
        everything(open_parquet(tmp_path / "zeroed.parquet"))


def test_text_of_any_alphabet_is_read(tmp_path):
    words = ["H→bb", "", "ttbar", "γγ"]
    momenta = {f"part_{name}": [[1.0]] * 4 for name in ("px", "py", "pz", "energy")}
    table = pa.table({"process": words, **momenta})
    pq.write_table(table, tmp_path / "mine.parquet")

    assert hepfm.open(tmp_path / "mine.parquet").read(["process"]).process.to_list() == words
