import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from jet_tables import assert_same, jet_table

from hepfm.errors import HepfmError, InputError
from hepfm.formats.jetclass2 import JETCLASS2_CLASSES
from hepfm.formats.padded import is_padded, left_out, open_padded, write_padded
from hepfm.schema import COLUMNS, JET_CLASSES
from hepfm.table import JetTable

TABLE = jet_table(1, 300)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_padded(tmp_path / "jets.h5", [TABLE.slice(0, 100), TABLE.slice(100, 300)], 64)
    return tmp_path / "jets.h5"


def test_every_column_comes_back_bit_for_bit_where_there_is_room(written):
    file = open_padded(written)

    assert (file.n_jets, file.variations, sorted(file.processes)) == (300, ("nominal",), ["Hbb", "QCD"])
    assert (file.columns, file.classes, file.notes) == (tuple(COLUMNS.values()), JET_CLASSES, ())
    assert_same(file.read(list(COLUMNS), 0, 300), TABLE)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (99, 203), (300, 300)])
def test_part_of_a_file_is_that_part_of_the_table(written, start, stop):
    names = ["jet_label", "variation", "part_isPhoton", "part_px"]

    assert_same(open_padded(written).read(names, start, stop), TABLE.slice(start, stop).only(names))
    assert_same(open_padded(written).read([], start, stop), TABLE.slice(start, stop).only([]))


def test_files_of_many_blocks_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("hepfm.formats.padded._BLOCK", 64)
    monkeypatch.setattr("hepfm.formats.arrays._PIECE", 50)
    tables = [jet_table(seed, 130, name) for seed, name in enumerate(["nominal", "fsr-up-by-a-lot", "nominal"])]
    write_padded(tmp_path / "jets.h5", iter(tables), 60)

    file = open_padded(tmp_path / "jets.h5")
    assert file.variations == ("nominal", "fsr-up-by-a-lot")
    assert_same(file.read(list(COLUMNS), 0, 390), JetTable.concatenate(tables))


def test_any_reader_of_hdf5_finds_the_padded_jets(written):
    with h5py.File(written) as file:
        values, mask = file["constituents"][:], file["mask"][:]
        columns = list(file["constituents"].attrs["columns"])
        assert is_padded(file)
        assert file["jets/jet_pt"].attrs["unit"] == "GeV"
        np.testing.assert_array_equal(file["jets/jet_pt"][:], TABLE.columns["jet_pt"])
    assert (values.shape, values.dtype) == ((300, 64, len(columns)), np.float32)
    assert mask.dtype == bool and not values[~mask].any()
    jet = 17
    own = slice(TABLE.offsets[jet], TABLE.offsets[jet + 1])
    for name in ("part_energy", "part_charge", "part_isMuon"):
        np.testing.assert_array_equal(values[jet, mask[jet], columns.index(name)], TABLE.constituents[name][own])


def test_what_does_not_fit_is_counted_and_said(tmp_path):
    n_cut = write_padded(tmp_path / "jets.h5", [TABLE], 20)
    file = open_padded(tmp_path / "jets.h5")

    assert n_cut == np.maximum(TABLE.counts - 20, 0).sum() > 0
    assert file.notes == (f"{n_cut} constituents beyond the first 20 of a jet were dropped",)
    assert "dropped" in left_out(COLUMNS)[0]
    found = file.read(["part_px"], 0, 300)
    assert found.counts.tolist() == np.minimum(TABLE.counts, 20).tolist()
    first = TABLE.constituents["part_px"][TABLE.offsets[5] : TABLE.offsets[5] + found.counts[5]]
    np.testing.assert_array_equal(found.constituents["part_px"][found.offsets[5] : found.offsets[6]], first)


def test_columns_of_other_origin_come_back_or_are_said_to_be_rounded(tmp_path):
    other = replace(
        TABLE.only(["jet_label", "part_px"]),
        columns={"event/run": np.arange(300, dtype=np.uint32), "station": np.full(300, "P5")},
        constituents={"part_px": TABLE.constituents["part_px"], "part_w": np.full(TABLE.n_constituents, 0.1)},
    )
    write_padded(tmp_path / "jets.h5", [other], 60, JETCLASS2_CLASSES)
    file = open_padded(tmp_path / "jets.h5")
    table = file.read([c.name for c in file.columns], 0, 300)

    assert file.classes == ()
    assert file.notes == ("rounded to single precision: part_w",)
    assert "part_w" in left_out(["part_w"])[1]
    assert table.constituents["part_w"].dtype == np.float32
    np.testing.assert_array_equal(table.columns["event/run"], other.columns["event/run"])
    np.testing.assert_array_equal(table.columns["station"], other.columns["station"])


def test_no_jets_make_a_file_too(tmp_path):
    write_padded(tmp_path / "jets.h5", [JetTable.empty()])

    assert_same(open_padded(tmp_path / "jets.h5").read(list(COLUMNS), 0, 0), JetTable.empty())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.only(["jet_pt"]), "without a column of constituents"),
        (
            replace(TABLE, columns={"process": np.full(300, "Z→νν")}),
            "column 'jets/process' holds text that is not ASCII",
        ),
        (replace(TABLE, columns={"process": np.full(300, "x" * 65)}), "more than 64 letters"),
        *[
            (
                replace(TABLE, constituents={"part_id": np.full(TABLE.n_constituents, number)}),
                f"single precision cannot hold the numbers of column 'part_id', of type {type(number).__name__}",
            )
            for number in (2**24 + 1, 2**60 + 1, 2**63 - 1, 1e39)
        ],
        *[
            (
                replace(TABLE, columns={"event": np.ones(300), name: np.ones(300)}),
                f"column {name!r} cannot be written: its name",
            )
            for name in ("event/weight", "a//b")
        ],
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path, table, message):
    with pytest.raises(InputError, match=message):
        write_padded(tmp_path / "jets.h5", [table])
    with pytest.raises(InputError, match="nothing to write"):
        write_padded(tmp_path / "jets.h5", [])
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_layout_is_refused(tmp_path):
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["constituents"] = np.zeros((2, 3))
    with pytest.raises(
        InputError, match=r"/constituents must be an array of numbers with 3 axes; it is shape \(2, 3\)"
    ):
        open_padded(tmp_path / "jets.h5")
    with pytest.raises(InputError, match=r"none\.h5: no such file"):
        open_padded(tmp_path / "none.h5")
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["constituents"] = np.zeros((2, 3, 4))
    with pytest.raises(InputError, match="no padded file of hepfm"):
        open_padded(tmp_path / "jets.h5")


def test_a_truncated_file_is_one_clear_line(written):
    whole = written.read_bytes()
    for length in [0, 9, 500, len(whole) // 2, len(whole) - 1]:
        written.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"jets\.h5: damaged, cut off or no HDF5 file") as caught:
            open_padded(written)
        assert "\n" not in str(caught.value)


def test_a_flipped_byte_is_noticed_or_harmless(tmp_path):
    path, table = tmp_path / "jets.h5", jet_table(3, 40, n_max=10)
    write_padded(path, [table], 10)
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    n_noticed = 0
    for place in rng.integers(len(whole), size=100).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            assert_same(open_padded(path).read(list(COLUMNS), 0, 40), table)
        except HepfmError as error:
            n_noticed += 1
            assert "jets.h5" in str(error) and "\n" not in str(error)
    assert n_noticed > 10


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from jet_tables import jet_table; from hepfm.errors import StorageError\n"
        "from hepfm.formats.padded import write_padded\n"
        "table = jet_table(1, 500); resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: write_padded(Path(sys.argv[2]) / 'jets.h5', [table] * 20)\n"
        "except StorageError as error: print(error)"
    )
    words = [sys.executable, "-B", "-c", code, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    assert "jets.h5: File too large" in done.stdout and done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
