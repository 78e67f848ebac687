"""What lies in an object store is read, or refused in one line that says what to do."""

import uuid

import h5py
import numpy as np
import pytest
from jet_tables import assert_same, jet_table
from upath import UPath

import hepfm
from hepfm.errors import InputError
from hepfm.formats.hdf5 import write_shard
from hepfm.formats.hub_layout import PublishedFile, data_path, write_index
from hepfm.formats.padded import write_padded
from hepfm.formats.parquet import write_parquet
from hepfm.formats.root import write_root
from hepfm.schema import COLUMNS

JETS = jet_table(1, 80)


@pytest.fixture
def store():
    """A folder of a store that this process keeps in memory."""
    return UPath(f"memory://{uuid.uuid4().hex}")


def put(store, path, name=None):
    """The URL of a copy of a file."""
    copy = store / (name or path.name)
    copy.write_bytes(path.read_bytes())
    return str(copy)


def test_a_published_folder_is_read(tmp_path, store):
    file = PublishedFile(data_path("nominal", "train", 0, 1), "nominal", "train", ("QCD", "Hbb"), JETS.n_jets, "0" * 64)
    write_parquet(tmp_path / file.path, [JETS], {})
    write_index(tmp_path, [file], {})
    for name in (file.path, "hepfm.json"):
        put(store, tmp_path / name, name)

    data = hepfm.open(str(store))
    assert_same(data.read_table(), JETS)
    assert data.read(["jet_pt"], split="train").jet_pt.to_list() == JETS.columns["jet_pt"].tolist()


def write(path):
    """Write jets as a shard or as Parquet."""
    write_shard(path, JETS, {}) if path.suffix == ".h5" else write_parquet(path, [JETS], {})
    return path


@pytest.mark.parametrize("kind", ["h5", "parquet"])
def test_shards_and_parquet_files_are_read(tmp_path, store, kind):
    data = hepfm.open([put(store, write(tmp_path / f"jets.{kind}"))])
    assert_same(data.read_table(list(COLUMNS)), JETS)
    assert data[3:5].jet_pt.to_list() == JETS.columns["jet_pt"][3:5].tolist()


@pytest.mark.parametrize("kind", ["root", "h5", "npz", "txt"])
def test_other_formats_are_refused_and_not_called_damaged(tmp_path, store, kind):
    path = tmp_path / f"jets.{kind}"
    if kind == "root":
        write_root(path, [JETS])
    elif kind == "h5":
        write_padded(path, [JETS])
    else:
        path.write_bytes(b"PK\x03\x04" if kind == "npz" else b"jets")

    message = (
        rf"^memory://[^\n]*jets\.{kind}: of a format that is not read from a store\. Only [^\n]*copy the file first"
    )
    with pytest.raises(InputError, match=message):
        hepfm.open(put(store, path))


@pytest.mark.parametrize("several", [False, True])
def test_a_column_map_for_a_file_in_a_store_is_refused(tmp_path, store, several):
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["pt"] = np.ones((2, 3))
    url = put(store, tmp_path / "jets.h5")

    with pytest.raises(InputError, match=r"^memory://[^\n]*jets\.h5: tables that need a column map are not read"):
        hepfm.open([url] if several else url, columns="jetnet")


@pytest.mark.parametrize("kind", ["h5", "parquet"])
def test_a_damaged_file_in_a_store_is_one_clear_line(tmp_path, store, kind):
    path = write(tmp_path / f"jets.{kind}")
    path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(InputError, match=rf"^memory://[^\n]*jets\.{kind}: [^\n]*(damaged|cut off)[^\n]*$"):
        hepfm.open(put(store, path))
