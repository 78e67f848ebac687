"""Columns of tables of other origin, whatever their types."""

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from mapped_tables import FLAT, ragged_columns, write_flat, write_map

from hepfm.errors import InputError
from hepfm.formats.column_map import open_table

NAMES = ("px", "py", "pz", "e")
WORDS = ["qcd", "top", "qcd", "ttγ"]
LABEL = FLAT + "[jets]\njet_label = { column = 'truth', classes = { qcd = 'QCD', top = 'Tbqq', 'ttγ' = 'Hbb' } }\n"


def write_hdf5(path, truth):
    with h5py.File(path, "w") as file:
        for name in NAMES:
            file[f"pfcand_{name}"] = np.ones((4, 3))
        file["truth"] = truth


def write_parquet(path, truth):
    lists, _, _ = ragged_columns()
    write_flat("parquet", path, lists, {"truth": truth})


def write_root(path, truth):
    lists, _, _ = ragged_columns()
    branches = {**lists, "truth": ak.Array(truth)}
    with uproot.recreate(path) as file:
        file.mktree("jets", {name: ak.type(values).content for name, values in branches.items()}).extend(branches)


def structured(words):
    table = np.zeros(4, [("pfcand_px", "f4", 3), ("truth", h5py.string_dtype())])
    table["truth"] = words
    return table


@pytest.mark.parametrize(
    ("write", "truth", "column"),
    [
        (write_hdf5, WORDS, "truth"),
        (write_hdf5, np.array([word.encode() for word in WORDS]), "truth"),
        (write_hdf5, structured(WORDS), "truth/truth"),
        (write_root, WORDS, "truth"),
        (write_parquet, WORDS, "truth"),
        (write_parquet, pa.Array.from_pandas(pd.Categorical(WORDS)), "truth"),
    ],
    ids=["HDF5 of any length", "HDF5 of fixed length", "HDF5 structured", "ROOT", "Parquet", "pandas categories"],
)
def test_classes_are_told_by_words(tmp_path, write, truth, column):
    write(tmp_path / "my.table", truth)
    file = open_table(tmp_path / "my.table", write_map(tmp_path, LABEL.replace("'truth'", f"'{column}'")))

    assert [file.classes[i] for i in file.read(["jet_label"], 0, 4).columns["jet_label"]] == [
        "QCD",
        "Tbqq",
        "QCD",
        "Hbb",
    ]
    assert file.read(["jet_label"], 2, 4).n_jets == 2


@pytest.mark.parametrize(
    ("write", "truth", "kind"),
    [
        (write_hdf5, np.array([b"x"] * 4, np.void), r"\|V1"),
        (write_hdf5, np.ones(4, complex), "complex128"),
        (write_parquet, pa.array([1, 2, 3, 4], pa.timestamp("ms")), r"timestamp\[ms\]"),
        (write_parquet, pa.array([["a"]] * 4), "list<element: string>"),
    ],
)
def test_a_column_that_is_there_and_cannot_be_used_is_told_by_its_type(tmp_path, write, truth, kind):
    write(tmp_path / "my.table", truth)
    for text, key in ((LABEL, "jet_label"), (FLAT + "[jets]\njet_pt = 'truth'", "jet_pt")):
        pattern = rf"my\.table: .*: '{key}' is column 'truth' of type {kind}; expected numbers or words\."
        with pytest.raises(InputError, match=pattern):
            open_table(tmp_path / "my.table", write_map(tmp_path, text))


def test_lists_of_any_length_in_hdf5_are_told_by_their_type(tmp_path):
    with h5py.File(tmp_path / "my.h5", "w") as file:
        for name in NAMES:
            file.create_dataset(f"pfcand_{name}", (4,), h5py.vlen_dtype(np.float32))

    with pytest.raises(InputError, match=r"'part_px' is column 'pfcand_px' of type lists of float32, of any"):
        open_table(tmp_path / "my.h5", write_map(tmp_path, FLAT))


def test_nan_that_pandas_wrote_is_nan_and_other_missing_values_are_refused(tmp_path):
    lists, _, _ = ragged_columns()
    columns = {"mass": pa.array([None, 80.0, 81.0, 82.0]), "n": pa.array([None, 1, 2, 3], pa.int64())}
    write_flat("parquet", tmp_path / "my.parquet", lists, columns)
    file = open_table(tmp_path / "my.parquet", write_map(tmp_path, FLAT))

    assert file.read(["mass"], 0, 4).columns["mass"].tolist() == pytest.approx([np.nan, 80, 81, 82], nan_ok=True)
    with pytest.raises(InputError, match=r"my\.parquet: column 'n' has missing values \(null\); expected a value in "):
        file.read(["n"], 0, 4)
    pq.write_table(pa.table({f"pfcand_{name}": [[1.0], None] for name in NAMES}), tmp_path / "my.parquet")
    file = open_table(tmp_path / "my.parquet", write_map(tmp_path, FLAT))
    with pytest.raises(InputError, match=r"my\.parquet: column 'pfcand_px' has missing values \(null\)"):
        file.read(["part_px"], 0, 2)
