import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from jet_tables import assert_same, jet_table

import hepfm
from hepfm.errors import HepfmError, InputError
from hepfm.formats.jetclass2 import JETCLASS2_CLASSES
from hepfm.formats.root import left_out, open_root, write_root
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, JET_CLASSES
from hepfm.table import JetTable

TABLE = jet_table(1, 300)
LABELS = [f"label_{name}" for name in JET_CLASSES]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "jets.root"
    write_root(path, [TABLE.slice(0, 100), TABLE.slice(100, 100), TABLE.slice(100, 300)])
    return path


def write_tree(path: Path, name: str = "tree", **branches: object) -> None:
    """A file as others make it: a branch each, lists with a count of their own."""
    with uproot.recreate(path) as file:
        arrays = {key: ak.Array(values) for key, values in branches.items()}
        tree = file.mktree(name, {key: array.type.content for key, array in arrays.items()})
        tree.extend(arrays)


def lists(values: list[list[float]], dtype: str = "float32") -> ak.Array:
    return ak.values_astype(ak.Array(values), dtype)


def test_every_column_comes_back_bit_for_bit(written):
    file = open_root(written)

    assert file.n_jets == 300
    assert {c.name: c for c in file.columns} == dict(COLUMNS)
    assert (file.variations, sorted(file.processes), file.classes) == (("nominal",), ["Hbb", "QCD"], JET_CLASSES)
    assert (file.notes, left_out(COLUMNS)) == ((), ())
    assert_same(file.read(list(COLUMNS), 0, 300), TABLE)


def test_a_file_of_several_blocks_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("hepfm.formats.root._BLOCK", 64)
    tables = [jet_table(seed, 130, name) for seed, name in enumerate(["nominal", "fsr-up", "nominal"])]
    write_root(tmp_path / "jets.root", iter(tables))
    file = open_root(tmp_path / "jets.root")

    assert file.variations == ("nominal", "fsr-up")
    assert_same(file.read(list(COLUMNS), 0, 390), JetTable.concatenate(tables))


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (99, 203), (300, 300)])
def test_part_of_a_file_is_that_part_of_the_table(written, start, stop):
    assert_same(open_root(written).read(list(COLUMNS), start, stop), TABLE.slice(start, stop))


def test_exactly_the_columns_asked_for_are_read(written):
    names = ["part_charge", "jet_pt"]

    assert_same(open_root(written).read(names, 5, 50), TABLE.slice(5, 50).only(names))
    assert_same(open_root(written).read([], 5, 50), TABLE.slice(5, 50).only([]))


def test_branches_and_types_are_those_of_jetclass(written):
    with uproot.open(written) as file:
        tree = file["tree"]
        types = {branch.name: branch.typename for branch in tree.branches}
        labels = np.array([tree[name].array() for name in LABELS])
        aux = {name: np.asarray(tree[f"aux_genpart_{name}"].array()) for name in ("pt", "eta", "phi", "pid")}
        assert [key for key in file.keys(filter_classname="TTree")] == ["tree;1"]
        assert len({branch.count_branch.name for branch in tree.branches if branch.count_branch is not None}) == 1
    flags = [name for name in CONSTITUENT_COLUMNS if "_is" in name]
    floats = [name for name in CONSTITUENT_COLUMNS if name not in flags]
    assert {types[name] for name in floats} == {"float[]"}
    assert {types[name] for name in flags} == {"int32_t[]"}
    assert {types[name] for name in types if name.startswith("aux_")} == {"float"}
    assert types["jet_nparticles"] == "float"
    assert [types[name] for name in LABELS] == ["float"] + ["bool"] * 5 + ["int32_t"] * 4
    for label, one_hot in zip(TABLE.columns["jet_label"].tolist(), labels.T, strict=True):
        assert one_hot.tolist() == [i == label for i in range(10)]
    np.testing.assert_array_equal(aux["pt"], TABLE.columns["truth_pt"])
    np.testing.assert_array_equal(aux["pid"], TABLE.columns["truth_pdg_id"].astype(np.float32))


def test_a_table_of_some_columns_is_written_with_those(tmp_path):
    names = ["jet_pt", "variation", "part_px", "part_py", "part_pz", "part_energy", "part_isMuon"]
    write_root(tmp_path / "jets.root", [TABLE.only(names)])
    file = open_root(tmp_path / "jets.root")

    assert sorted(c.name for c in file.columns) == sorted(names)
    assert (file.classes, file.processes) == ((), ())
    assert_same(file.read(names, 0, 300), TABLE.only(names))


def test_columns_of_other_origin_and_other_classes_come_back(tmp_path):
    extra = np.arange(300, dtype=np.uint16)
    other = replace(
        TABLE,
        columns={**TABLE.columns, "run": extra, "jet_label": (TABLE.columns["jet_label"] + 1) * 17},
        constituents={**TABLE.constituents, "part_weight": np.arange(TABLE.n_constituents, dtype=np.float64)},
    )
    write_root(tmp_path / "jets.root", [other], JETCLASS2_CLASSES)
    file = open_root(tmp_path / "jets.root")

    assert file.classes == JETCLASS2_CLASSES
    assert_same(file.read([c.name for c in file.columns], 0, 300), other)
    with uproot.open(tmp_path / "jets.root") as content:
        assert not any(name.startswith("label_") for name in content["tree"].iterkeys())


@pytest.mark.parametrize("labels", [{}, {"label_QCD": np.arange(300) % 2 == 0}])
def test_branches_of_jetclass_that_are_the_sources_own_come_back(tmp_path, labels):
    """JetClass knows its matched particle as aux_genpart_* alone; only those made of truth_* are not columns."""
    rng = np.random.default_rng(6)
    own = {f"aux_genpart_{name}": rng.normal(size=300).astype(np.float32) for name in ("eta", "phi", "pid", "pt")}
    columns = {name: values for name, values in TABLE.columns.items() if not name.startswith("truth_")}
    own["aux_genpart_pt"] = TABLE.columns["truth_pt"]
    table = replace(TABLE, columns={**columns, **own, **labels})
    classes = JETCLASS2_CLASSES if labels else JET_CLASSES
    write_root(tmp_path / "jets.root", [table], classes)
    file = open_root(tmp_path / "jets.root")

    assert {c.name for c in file.columns} == {*table.columns, *table.constituents}
    assert_same(file.read([c.name for c in file.columns], 0, 300), table)

    with_pt = replace(table, columns={**table.columns, "truth_pt": TABLE.columns["truth_pt"]})
    write_root(tmp_path / "jets.root", [with_pt], classes)
    assert {f"aux_genpart_{name}" for name in ("eta", "phi", "pid")} == {
        c.name for c in open_root(tmp_path / "jets.root").columns if c.name.startswith("aux_")
    }


def test_half_precision_comes_back_as_single(tmp_path):
    half = np.linspace(0, 1, 300).astype(np.float16)
    write_root(tmp_path / "jets.root", [replace(TABLE, columns={"score": half})])
    found = open_root(tmp_path / "jets.root").read(["score"], 0, 300).columns["score"]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half)


def merge(folder: Path, *tables: JetTable, names: str = "all", version: int = 2) -> Path:
    """A file as hadd makes it of one for each table: jets one after the other, with the names of all or the first."""
    for number, table in enumerate(tables):
        write_root(folder / f"{number}.root", [table])
    trees, texts = [], []
    for number in range(len(tables)):
        with uproot.open(folder / f"{number}.root") as file:
            trees.append(file["tree"].arrays([name for name in file["tree"].iterkeys() if name != "npart"]))
            texts.append(json.loads(str(file["hepfm"])))
    jets = ak.concatenate(trees)
    if version == 1:
        for about in texts:
            del about["n_jets"]
            about["format_version"] = 1
        for name in ("variation", "process"):
            codes = [
                [[zlib.crc32(word.encode()) for word in about[name]].index(code) for code in tree[name].tolist()]
                for tree, about in zip(trees, texts, strict=True)
            ]
            jets[name] = np.concatenate(codes).astype(np.int32)
    branches = {"part": ak.zip({name[5:]: jets[name] for name in jets.fields if name.startswith("part_")})}
    branches |= {name: jets[name] for name in jets.fields if not name.startswith("part_")}
    with uproot.recreate(folder / "merged.root") as file:
        types = {name: ak.type(values).content for name, values in branches.items()}
        tree = file.mktree("tree", types, field_name=lambda outer, inner: f"{outer}_{inner}" if outer else inner)
        tree.extend(branches)
        for about in texts if names == "all" else texts[:1]:
            file["hepfm"] = json.dumps(about)
    return folder / "merged.root"


NOMINAL, UP = jet_table(1, 30, n_max=5), jet_table(2, 30, "fsr-up", 1, n_max=5)


def test_merged_files_keep_the_names_of_variations_and_processes(tmp_path):
    file = open_root(merge(tmp_path, NOMINAL, UP))

    assert (file.n_jets, file.variations, sorted(file.processes)) == (60, ("nominal", "fsr-up"), ["Hbb", "QCD"])
    assert_same(file.read(list(COLUMNS), 0, 60), JetTable.concatenate([NOMINAL, UP]))


def test_one_text_does_for_merged_files_of_the_same_names(tmp_path):
    assert open_root(merge(tmp_path, NOMINAL, NOMINAL, names="first")).variations == ("nominal",)


def test_files_of_the_first_version_are_read(tmp_path):
    assert_same(open_root(merge(tmp_path, NOMINAL, version=1)).read(list(COLUMNS), 0, 30), NOMINAL)


@pytest.mark.parametrize(
    ("names", "version", "message"),
    [
        ("first", 2, r"'variation' has the number \d+, of which 'hepfm' has no name"),
        ("first", 1, "jets of one variation have several numbers in 'view'"),
        ("all", 1, "its texts 'hepfm' contradict each other"),
    ],
)
def test_merged_files_whose_names_are_lost_are_refused(tmp_path, names, version, message):
    with pytest.raises(InputError, match=rf"merged\.root: .*{message}.* open those themselves"):
        open_root(merge(tmp_path, NOMINAL, UP, names=names, version=version))


def test_an_rntuple_is_called_that(tmp_path):
    with uproot.recreate(tmp_path / "jets.root") as file:
        file["tree"] = {"part_px": lists([[1]]), "part_py": lists([[1]])}
    with pytest.raises(InputError, match=r"jets\.root: 'tree' is an RNTuple; expected a TTree.*mktree"):
        open_root(tmp_path / "jets.root")
    (tmp_path / "map.toml").write_text("[constituents]\npart_px = 'part_px'\npart_py = 'part_py'\npart_pz = 'part_py'")
    with pytest.raises(InputError, match=r"jets\.root: 'tree' is an RNTuple; a column map reads TTrees.*mktree"):
        hepfm.open(tmp_path / "jets.root", columns=tmp_path / "map.toml")


def test_no_jets_make_a_file_too(tmp_path):
    write_root(tmp_path / "jets.root", [JetTable.empty()])
    file = open_root(tmp_path / "jets.root")

    assert file.n_jets == 0
    assert file.read(list(COLUMNS), 0, 0).n_jets == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.only(["jet_pt", "part_px", "part_py", "part_pz"]), "without the column 'part_energy'"),
        (replace(TABLE, columns={"station": np.full(300, "P5")}), "cannot hold column 'station', of type <U2"),
        (replace(TABLE, columns={"jet_nparticles": np.full(300, 2**24 + 1, np.int32)}), "too large for JetClass's"),
        *[
            (
                replace(TABLE, columns={**TABLE.columns, name: np.full(300, 7.0)}),
                f"column '{re.escape(name)}' cannot be written: its name",
            )
            for name in ("part", "npart", "label_QCD", "aux_genpart_pt", "tau[2]")
        ],
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path, table, message):
    with pytest.raises(InputError, match=f"jets.root: .*{message}"):
        write_root(tmp_path / "jets.root", [table])
    with pytest.raises(InputError, match="nothing to write"):
        write_root(tmp_path / "jets.root", [])
    assert list(tmp_path.iterdir()) == []


def test_counts_that_are_a_column_are_that_column(tmp_path):
    """As a tree has them that was written as `part_px[jet_nparticles]/F`."""
    parts = ak.zip({name: lists([[3, 1], [], [2]]) for name in ("px", "py")})
    with uproot.recreate(tmp_path / "jets.root") as file:
        tree = file.mktree("tree", {"part": parts.type.content}, counter_name=lambda _: "jet_nparticles")
        tree.extend({"part": parts})
    file = open_root(tmp_path / "jets.root")

    assert [c.name for c in file.columns] == ["jet_nparticles", "part_px", "part_py"]
    assert file.read(["jet_nparticles"], 0, 3).columns["jet_nparticles"].tolist() == [2, 0, 1]


def test_jetclass_two_is_read(shared):
    path = shared / "data" / "jetclass2_example.root"
    file = open_root(path)
    names = [c.name for c in file.columns]
    table = file.read(names, 0, 100)

    with uproot.open(path) as content:
        truth = content["tree"].arrays(["jet_label", "jet_pt", "part_px", "part_charge", "part_isMuon", "genjet_pt"])
    assert (file.n_jets, len(file.classes)) == (100, 188)
    assert "aux_genpart_isResX" in file.notes[0] and "genpart_px" in file.notes[0]
    assert {"genjet_pt", *CONSTITUENT_COLUMNS} <= set(names)
    table.validate()
    assert ak.num(truth.part_px).to_list() == table.counts.tolist()
    for name in ("jet_label", "jet_pt", "genjet_pt"):
        np.testing.assert_array_equal(table.columns[name], truth[name])
    # Constituents may stand in another order in the file, so that sums are compared.
    for name in ("part_px", "part_charge", "part_isMuon"):
        sums = np.add.reduceat(table.constituents[name].astype(np.float64), table.offsets[:-1])
        np.testing.assert_allclose(sums, ak.sum(ak.values_astype(truth[name], np.float64), axis=1), rtol=1e-9)


def test_constituents_make_up_the_jets_of_jetclass_two(shared):
    """Independent of names and offsets: momentum is conserved, and the angles are the momenta's."""
    file = open_root(shared / "data" / "jetclass2_example.root")
    table = file.read([c.name for c in file.columns], 0, 100)
    p = {name: table.constituents[f"part_{name}"].astype(np.float64) for name in ("px", "py", "pz")}
    px, py = (np.add.reduceat(p[name], table.offsets[:-1]) for name in ("px", "py"))
    jet = np.repeat(np.arange(100), table.counts)
    eta = np.arcsinh(p["pz"] / np.hypot(p["px"], p["py"]))
    sign = np.sign(table.columns["jet_eta"])[jet]

    np.testing.assert_allclose(np.hypot(px, py), table.columns["jet_pt"], rtol=1e-4)
    np.testing.assert_allclose(table.constituents["part_deta"], sign * (eta - table.columns["jet_eta"][jet]), atol=2e-5)


def test_constituents_come_by_falling_pt_whatever_the_file(tmp_path, shared):
    write_tree(
        tmp_path / "jets.root",
        part_px=lists([[1, 3, 2], [5], []]),
        part_py=lists([[0, 0, 0], [0], []]),
        part_charge=lists([[-1, 1, 0], [1], []], "int32"),
    )
    table = open_root(tmp_path / "jets.root").read(["part_charge"], 0, 3)
    assert table.constituents["part_charge"].tolist() == [1, 0, -1, 1]
    assert table.offsets.tolist() == [0, 3, 4, 4]

    table = open_root(shared / "data" / "jetclass2_example.root").read(["part_px", "part_py"], 0, 100)
    pt = np.split(np.hypot(table.constituents["part_px"], table.constituents["part_py"]), table.offsets[1:-1])
    assert all(np.all(np.diff(jet) <= 0) for jet in pt)


def test_names_of_jetclass_two_are_what_its_jets_decay_to(shared):
    quarks = {1: "q", 2: "q", 3: "s", 4: "c", 5: "b", 21: "g", 11: "e", 13: "m"}
    with uproot.open(shared / "data" / "jetclass2_example.root") as file:
        jets = file["tree"].arrays(
            ["jet_label", "aux_genpart_pid", "aux_genpart_isResDecayProd", "aux_genpart_isQcdParton"]
        )
    for jet in jets:
        name = JETCLASS2_CLASSES[jet.jet_label]
        pids = np.abs(jet.aux_genpart_pid[jet.aux_genpart_isResDecayProd].to_numpy())
        if name.startswith("QCD_"):
            partons = np.abs(jet.aux_genpart_pid[jet.aux_genpart_isQcdParton].to_numpy())
            heavy = "".join(
                letter * min(2, int(np.sum(partons == pid))) for pid, letter in ((5, "b"), (4, "c"), (3, "s"))
            )
            assert name == "QCD_" + (heavy or "light")
        elif not {15, 12} & set(pids.tolist()):
            # One of the decay products may be outside of the jet.
            products = [quarks[pid] for pid in pids.tolist()]
            letters = name.rpartition("_")[2]
            assert len(letters) in (2, 3, 4)
            assert all(letters.count(letter) <= products.count(letter) for letter in letters)


def test_labels_of_jetclass_become_class_numbers(tmp_path):
    jets = {"part_px": lists([[1]] * 4), "part_py": lists([[0]] * 4)}
    label = {"label_Tbl": [0, 1, 0, 0], "label_QCD": [1.0, 0.0, 0.0, 0.0], "label_Hbb": [False, False, True, False]}
    write_tree(tmp_path / "jets.root", **jets, **{name: np.array(values) for name, values in label.items()})
    file = open_root(tmp_path / "jets.root")

    assert file.classes == JET_CLASSES
    assert "-1 where none is set" in file.notes[0]
    assert file.read(["jet_label"], 0, 4).columns["jet_label"].tolist() == [0, 9, 1, -1]
    assert file.read(["jet_label"], 0, 4).columns["jet_label"].dtype == np.int16

    write_tree(tmp_path / "two.root", **jets, label_QCD=np.array([1, 0, 1, 0]), label_Hbb=np.array([1, 0, 0, 1]))
    with pytest.raises(InputError, match=r"two\.root: 1 of the jets 0 to 4 have several of label_QCD, label_Hbb set"):
        open_root(tmp_path / "two.root").read(["jet_label"], 0, 4)


def test_class_numbers_without_names_are_said_to_be_that(tmp_path):
    write_tree(
        tmp_path / "mine.root", "jets", part_px=lists([[1]]), part_py=lists([[0]]), jet_label=np.array([1], np.int32)
    )
    file = open_root(tmp_path / "mine.root")

    assert file.classes == ()
    assert "does not say the names" in file.notes[0]
    assert file.read(["jet_label"], 0, 1).columns["jet_label"].tolist() == [1]


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ({"part_py": lists([[1]])}, "has no branch 'part_px'"),
        ({"part_px": lists([[1]]), "part_py": np.ones(1)}, "has another type of branch 'part_py'"),
        ({"jet_pt": np.ones(1)}, r"no TTree with the branches part_px.*it has 'tree'"),
    ],
)
def test_a_wrong_or_missing_branch_is_one_clear_line(tmp_path, branches, message):
    write_tree(tmp_path / "jets.root", **branches)
    with pytest.raises(InputError, match=r"jets\.root: .*" + message) as caught:
        open_root(tmp_path / "jets.root")
    assert "\n" not in str(caught.value)


def test_values_that_fit_no_column_are_refused(tmp_path):
    write_tree(
        tmp_path / "jets.root",
        part_px=lists([[1, 2]]),
        part_py=lists([[0, 0]]),
        part_charge=lists([[0.5, 1]]),
        part_isMuon=lists([[0]], "int32"),
    )
    file = open_root(tmp_path / "jets.root")

    with pytest.raises(InputError, match=r"jets\.root: column 'part_charge' holds values that are no int8"):
        file.read(["part_charge"], 0, 1)
    with pytest.raises(InputError, match=r"branch 'part_px' has other numbers of constituents than 'part_isMuon'"):
        file.read(["part_isMuon"], 0, 1)


def test_the_tree_is_found_by_its_branches_unless_there_are_several(tmp_path):
    path = tmp_path / "jets.root"
    write_tree(path, "one", part_px=lists([[1]]), part_py=lists([[1]]))
    assert open_root(path).n_jets == 1

    with uproot.update(path) as file:
        file.mktree("two", {"part_px": "var * float32"})
    with pytest.raises(InputError, match=r"jets\.root: several TTrees .* none of them named 'tree': 'one', 'two'"):
        open_root(path)


def test_a_truncated_file_is_one_clear_line(written):
    whole = written.read_bytes()
    rng = np.random.default_rng(2)
    for length in [0, 3, 100, *rng.integers(100, len(whole), 12).tolist()]:
        written.write_bytes(whole[:length])
        with pytest.raises(HepfmError, match=r"jets\.root") as caught:
            open_root(written).read(list(COLUMNS), 0, 300)
        assert "\n" not in str(caught.value)


def test_damaged_data_are_noticed(written):
    """zlib's checksum sees to it; the descriptions of ROOT's files have none."""
    whole = written.read_bytes()
    with uproot.open(written) as file:
        branch = file["tree/part_energy"]
        place = branch.member("fBasketSeek")[0] + 200
    written.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])

    with pytest.raises(InputError, match=r"jets\.root: damaged: branch 'part_energy' cannot be read"):
        open_root(written).read(["part_energy"], 0, 300)


def test_flipped_bytes_never_end_in_anything_but_a_clear_line_and_spoil_no_other_file(tmp_path):
    path = tmp_path / "jets.root"
    write_root(path, [jet_table(3, 20, n_max=10)])
    whole = path.read_bytes()
    known = {name: dict(getattr(c, "known_versions", {})) for name, c in uproot.classes.items()}
    rng = np.random.default_rng(4)
    n_noticed = 0
    for place in rng.integers(len(whole), size=50).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            file = open_root(path)
            file.read([c.name for c in file.columns], 0, min(file.n_jets, 1000))
        except HepfmError as error:
            n_noticed += 1
            assert "jets.root" in str(error) and "\n" not in str(error)
    assert n_noticed >= 3
    assert {name: dict(getattr(c, "known_versions", {})) for name, c in uproot.classes.items()} == known


def test_the_names_in_the_file_are_plain_text(written):
    with uproot.open(written) as file:
        found = json.loads(str(file["hepfm"]))
    assert found["variation"] == ["nominal"]
    assert found["classes"] == list(JET_CLASSES)
