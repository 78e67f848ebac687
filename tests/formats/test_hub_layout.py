import json
from dataclasses import replace

import pytest
from jet_tables import jet_table

import hepfm
from hepfm.errors import InputError
from hepfm.formats.hub_layout import INDEX, PublishedFile, data_path, write_index
from hepfm.formats.parquet import write_parquet

FILE = PublishedFile(data_path("nominal", "train", 0, 1), "nominal", "train", ("QCD", "Hbb"), 80, "0" * 64)


@pytest.fixture
def folder(tmp_path):
    """A published folder of one file."""
    write_parquet(tmp_path / "set" / FILE.path, [jet_table(1, FILE.n_jets)], {})
    write_index(tmp_path / "set", [FILE], {})
    return tmp_path / "set"


def test_a_file_of_another_number_of_jets_than_the_index_says_is_one_clear_line(folder):
    """As after a conversion that was interrupted between the files and the index."""
    assert len(hepfm.open(folder).read(["jet_pt"])) == 80
    for n_jets in (40, 120):
        write_parquet(folder / FILE.path, [jet_table(1, n_jets)], {})
        message = rf"train-00000-of-00001\.parquet: holds {n_jets} jets, expected 80: [^\n]*Export or publish again\.$"
        with pytest.raises(InputError, match=message):
            hepfm.open(folder).read(["jet_pt"])
        with pytest.raises(InputError, match=message):
            next(hepfm.open(folder).batches(10, ["jet_pt"]))


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../../x.parquet"},
        {"path": "data/../../x.parquet"},
        {"path": "/tmp/x.parquet"},
        {"path": ""},
        {"path": 3},
        {"n_jets": "3"},
        {"n_jets": -3},
        {"n_jets": 3.0},
        {"n_jets": True},
        {"split": "training"},
        {"split": ["train"]},
        {"variation": None},
        {"variation": "../../x"},
        {"variation": "/tmp/x"},
        {"variation": ".hidden"},
        {"variation": ""},
        {"processes": "QCD"},
        {"processes": [1]},
        {"processes": ["../x"]},
        {"processes": ["QCD\nHbb"]},
        {"sha256": 0},
        {"further": 1},
    ],
)
def test_an_entry_that_hepfm_never_wrote_is_one_clear_line(folder, change):
    index = json.loads((folder / INDEX).read_text())
    index["files"][0] |= change
    (folder / INDEX).write_text(json.dumps(index))

    with pytest.raises(InputError, match=r"set: hepfm\.json is damaged, or not a dataset that hepfm published$"):
        hepfm.open(folder)


def test_a_process_may_be_named_like_any_file(folder):
    write_index(folder, [replace(FILE, processes=("ttbar 13 TeV (1)", "QCD"))], {})
    assert hepfm.open(folder).processes == ("ttbar 13 TeV (1)", "QCD")


def test_no_file_outside_of_the_folder_is_read(folder):
    (folder.parent / "x.parquet").write_bytes((folder / FILE.path).read_bytes())
    write_index(folder, [replace(FILE, path="../x.parquet")], {})

    with pytest.raises(InputError, match="damaged, or not a dataset"):
        hepfm.open(folder)
