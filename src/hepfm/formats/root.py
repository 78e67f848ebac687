"""JetClass's ROOT files (arXiv:2202.03772), JetClass-II's (arXiv:2405.12972), and others with the same branches.

Written are JetClass's own branches, of its types, so that weaver-core, Particle Transformer and other readers take
them unchanged, and beside them what it takes to get every column back bit for bit: branches named as the columns, and
a text `hepfm` (a TObjString) with the names of variations, processes and classes. There is no second TTree, which
weaver-core would not accept. Variations and processes are the CRC-32 of their names, the same in every file, so that
files can be merged by hadd; the text also has the number of jets, which then tells that they were. In files of version
1 the numbers are places in the text's lists.

Source: branches and types are those that JetClass's conversion to its published form makes.
"""

import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from hepfm.atomic import growing_file
from hepfm.errors import InputError
from hepfm.formats.blocks import in_blocks
from hepfm.formats.conversion import as_column, check_branches, falling_pt, fits_single, name_taken
from hepfm.formats.damage import clear_errors, opened_root
from hepfm.formats.jet_file import EXPECTED, UNNAMED_CLASSES, JetFile
from hepfm.formats.jetclass2 import known_classes
from hepfm.schema import COLUMNS, JET_CLASSES, Column, is_constituent
from hepfm.table import JetTable

_TREE = "tree"
_TEXT = "hepfm"
_VERSION = 2
_PREFIX = "part_"
# The list of records that the constituents are written as, and uproot's branch of its counts.
_TAKEN = ("part", "npart")
_CODED = ("variation", "process")
_NEEDED = ("part_px", "part_py", "part_pz", "part_energy")
# A basket of a column of constituents is 1 to 2 MB.
_BLOCK = 8192
# Measured (docs/formats.md): zstd is as small and faster, but only zlib and LZ4 have checksums; LZ4 is 18 % larger.
_COMPRESSION = uproot.ZLIB(1)

# JetClass's types where they are not the schema's.
_JETCLASS_TYPES = {
    "jet_nparticles": "float32",
    "part_charge": "float32",
    **{f"part_{name}": "int32" for name in ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")},
}
_LABELS = {
    f"label_{name}": "float32" if name == "QCD" else "bool" if name.startswith("H") else "int32" for name in JET_CLASSES
}
# JetClass's matched generator particle is our frozen parton or resonance.
_GENPART = {
    "aux_genpart_eta": "truth_eta",
    "aux_genpart_phi": "truth_phi",
    "aux_genpart_pid": "truth_pdg_id",
    "aux_genpart_pt": "truth_pt",
}
_NO_CLASS = -1
_MERGED = "Were files merged, as by hadd? Then open those themselves, as a list."


def left_out(columns: Iterable[str]) -> tuple[str, ...]:
    """Say in sentences what of some columns does not come back from a file: of this format, nothing is lost."""
    del columns
    return ()


def write_root(path: Path, tables: Iterable[JetTable], classes: Sequence[str] = JET_CLASSES) -> None:
    """Write jets as JetClass has them, in constant memory.

    `aux_truth_match`, which JetClass has too, is not written: its codes tell apart decays that are one class here.

    Args:
        path: where the file goes; an existing one is replaced.
        tables: jets, some at a time, all with the same columns; further columns of numbers become branches too.
        classes: names of what `jet_label` is an index of. If they are JetClass's, `label_QCD` to `label_Tbl` are
            written as well; a jet of no class (-1) has none of them set.

    Raises:
        InputError: no jets, no four-momenta of constituents, a column that ROOT's branches cannot hold, or one with the
            name of a branch that says something else.
        StorageError: the file could not be written.
    """
    n_jets = 0
    words: dict[str, dict[str, None]] = {name: {} for name in _CODED}
    with growing_file(path) as temporary, uproot.recreate(temporary, compression=_COMPRESSION) as file:
        tree = None
        for block in in_blocks(tables, _BLOCK):
            branches = _branches(path, block, one_hot=tuple(classes) == JET_CLASSES)
            if tree is None:
                types = {name: values.type.content for name, values in branches.items()}
                tree = file.mktree(_TREE, types, title="jets", field_name=_field_name)
            if block.n_jets:
                tree.extend(branches)
            n_jets += block.n_jets
            for name in [name for name in _CODED if name in block.columns]:
                words[name] |= dict.fromkeys(block.columns[name].tolist())
        names = {name: list(found) for name, found in words.items() if name in block.columns}
        about = {"format_version": _VERSION, "n_jets": n_jets, "classes": list(classes), **names}
        file[_TEXT] = json.dumps(about)


def open_root(path: Path) -> JetFile:
    """Open a file like JetClass's or JetClass-II's, or one that `write_root` wrote.

    Classes come from `jet_label`, or where there is none from the `label_*`: a jet with none of them set has -1.
    Branches that are no column of the format become further columns if they hold a number a jet, or are named `part_*`
    and hold a number a constituent; the notes name the others.

    Raises:
        InputError: the file is damaged, no ROOT file, or has no such tree.
    """
    with opened_root(path) as file:
        name = _jet_tree(path, file)
        tree = file[name]
        ours = _about(path, file)
        # One of them may be a column itself, as in part_px[jet_nparticles].
        counters = {b.count_branch.name for b in tree.branches if b.count_branch is not None} - COLUMNS.keys()
        found = {branch.name: _column(branch) for branch in tree.branches if branch.name not in counters}
        n_jets = int(tree.num_entries)
        if ours and ours.get("n_jets") != n_jets:
            _check_merged(path, tree, ours)
    for needed in ("part_px", "part_py"):
        if found.get(needed) is None:
            state = "has no branch" if needed not in found else "has another type of branch"
            msg = f"{path}: TTree {name!r} {state} {needed!r}; expected one list of numbers a jet, as JetClass has it"
            raise InputError(msg)
    labels = () if "jet_label" in found else tuple(label for label in _LABELS if found.get(label) is not None)
    columns = {column.name: column for column in found.values() if column is not None}
    for hidden in (*labels, *(_made(found, ours) if ours else ())):
        columns.pop(hidden, None)
    for derived in ("jet_label",) * bool(labels) + tuple(word for word in _CODED if word in ours):
        columns[derived] = COLUMNS[derived]
    notes, unfit = [], sorted(name for name, column in found.items() if column is None)
    if unfit:
        notes.append(f"left out, for a jet or a constituent has no single number there: {', '.join(unfit)}")
    if labels:
        notes.append(f"jet_label is made of {', '.join(labels)}; it is -1 where none is set")
    classes = _classes(found, labels, ours)
    if "jet_label" in columns and not classes:
        notes.append(UNNAMED_CLASSES)
    return RootFile(
        str(path),
        n_jets,
        tuple(sorted(columns.values(), key=_place)),
        tuple(ours.get("variation", ())),
        tuple(ours.get("process", ())),
        classes,
        tuple(notes),
        tree=name,
        ours=bool(ours),
        labels=labels,
        words=_words(ours),
    )


@dataclass(frozen=True)
class RootFile(JetFile):
    """A ROOT file of jets.

    Attributes:
        tree: name of its TTree.
        ours: whether hepfm wrote it: constituents are ordered, texts are codes.
        labels: the branches that `jet_label` is made of, if it is not a branch itself.
        words: what the numbers in the branches of text stand for.
    """

    tree: str = field(default=_TREE, kw_only=True)
    ours: bool = field(default=False, kw_only=True)
    labels: tuple[str, ...] = field(default=(), kw_only=True)
    words: Mapping[str, Mapping[int, str]] = field(default_factory=dict, kw_only=True)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets: the baskets that hold them, of the branches wanted."""
        known = {c.name: c for c in self.columns}
        order = ("part_px", "part_py") if not self.ours and any(map(is_constituent, names)) else ()
        wanted = list(dict.fromkeys((*names, *order)))
        offsets: NDArray[np.int64] | None = None
        columns, constituents = {}, {}
        with opened_root(self.path) as file:
            tree = file[self.tree]
            # Offsets come with any list.
            for name in wanted if any(map(is_constituent, wanted)) else (*wanted, "part_px"):
                if name == "jet_label" and self.labels:
                    columns[name] = self._one_of_labels(tree, start, stop)
                elif not is_constituent(name):
                    values = ak.to_numpy(self._array(tree, name, start, stop))
                    if name in self.words:
                        values = _decoded(self.path, name, values, self.words[name])
                    columns[name] = as_column(values, known[name], self.path)
                else:
                    own, values = _flat(self._array(tree, name, start, stop))
                    if offsets is not None and not np.array_equal(own, offsets):
                        msg = f"{self.path}: branch {name!r} has other numbers of constituents than {wanted[0]!r}"
                        raise InputError(msg)
                    offsets = own
                    constituents[name] = as_column(values, known[name], self.path)
        table = JetTable(columns, np.zeros(1, np.int64) if offsets is None else offsets, constituents)
        return (falling_pt(table) if order else table).only(names)

    def _array(self, tree: uproot.TTree, name: str, start: int, stop: int) -> ak.Array:
        with clear_errors(f"{self.path}: damaged: branch {name!r} cannot be read"):
            array = tree[name].array(entry_start=start, entry_stop=stop)
        if len(array) != stop - start:
            msg = f"{self.path}: damaged: branch {name!r} holds {len(array)} of the jets {start} to {stop}"
            raise InputError(msg)
        return array

    def _one_of_labels(self, tree: uproot.TTree, start: int, stop: int) -> NDArray[np.int16]:
        values = np.array([ak.to_numpy(self._array(tree, name, start, stop)) for name in self.labels]) != 0
        if n_many := int(np.sum(values.sum(axis=0) > 1)):
            msg = (
                f"{self.path}: {n_many} of the jets {start} to {stop} have several of {', '.join(self.labels)} set; "
                "expected one"
            )
            raise InputError(msg)
        numbers = np.array([list(_LABELS).index(name) for name in self.labels], np.int16)
        return np.where(values.any(axis=0), numbers[values.argmax(axis=0)], np.int16(_NO_CLASS))


def _code(word: str) -> int:
    return zlib.crc32(word.encode())


def _coded(words: NDArray[Any]) -> NDArray[np.uint32]:
    found, place = np.unique(words, return_inverse=True)
    return np.array([_code(word) for word in found.tolist()], np.uint32)[place]


def _decoded(path: Path | str, name: str, codes: NDArray[Any], words: Mapping[int, str]) -> NDArray[Any]:
    found, place = np.unique(codes, return_inverse=True)
    if unknown := [code for code in found.tolist() if code not in words]:
        msg = f"{path}: branch {name!r} has the number {unknown[0]}, of which {_TEXT!r} has no name. {_MERGED}"
        raise InputError(msg)
    return np.array([words[code] for code in found.tolist()] or [""])[place]


def _words(ours: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    lists = {name: ours[name] for name in _CODED if name in ours}
    if ours.get("format_version") == 1:
        return {name: dict(enumerate(words)) for name, words in lists.items()}
    return {name: {_code(word): word for word in words} for name, words in lists.items()}


def _about(path: Path, file: uproot.ReadOnlyDirectory) -> dict[str, Any]:
    """What the text says; a file that hadd merged may have one for each of its files."""
    texts = [json.loads(str(file[key])) for key in file.keys(recursive=False, filter_name=_TEXT)]
    joined: dict[str, Any] = texts[0] if texts else {}
    for text in texts[1:]:
        same = text.keys() == joined.keys() and text["classes"] == joined["classes"]
        if not same or ("n_jets" not in text and text != joined):
            msg = f"{path}: its texts {_TEXT!r} contradict each other. {_MERGED}"
            raise InputError(msg)
        if "n_jets" in text:
            joined["n_jets"] += text["n_jets"]
        joined |= {name: [*dict.fromkeys(joined[name] + text[name])] for name in _CODED if name in text}
    return joined


def _check_merged(path: Path, tree: uproot.TTree, ours: Mapping[str, Any]) -> None:
    """Check a file of other jets than its text speaks of: the names of other files may have been lost."""
    words = _words(ours)
    for name in words:
        _decoded(path, name, tree[name].array(library="np"), words[name])
    # Numbers of version 1 mean something else in each file.
    if "n_jets" not in ours and "variation" in words and "view" in tree:
        pairs = np.unique([tree[name].array(library="np") for name in ("variation", "view")], axis=1)
        if pairs.shape[1] > len(np.unique(pairs[0])):
            msg = f"{path}: jets of one variation have several numbers in 'view'. {_MERGED}"
            raise InputError(msg)


def _branches(path: Path, table: JetTable, *, one_hot: bool) -> dict[str, ak.Array]:
    """The columns as branches: JetClass's in its order, then ours."""
    if missing := [name for name in _NEEDED if name not in table.constituents]:
        msg = f"{path}: cannot write jets as JetClass has them without the column {missing[0]!r}"
        raise InputError(msg)
    check_branches(path, [*table.columns, *table.constituents])
    columns = dict(table.columns)
    branches: dict[str, NDArray[Any]] = {}
    if one_hot and "jet_label" in columns:
        branches |= {name: (columns["jet_label"] == i).astype(_LABELS[name]) for i, name in enumerate(_LABELS)}
    for name in [c for c in COLUMNS if c.startswith("jet_") and c in columns]:
        branches[name] = _typed(path, name, columns.pop(name))
    branches |= {aux: columns[name].astype(np.float32) for aux, name in _GENPART.items() if name in columns}
    for name, values in columns.items():
        if name in _TAKEN or (name in branches and not np.array_equal(values, branches[name])):
            raise InputError(name_taken(path, name))
        if name not in branches:
            branches[name] = _coded(values) if name in _CODED else _typed(path, name, values)
    typed = {name: _typed(path, name, values) for name, values in table.constituents.items()}
    # One record, so that all its branches share one branch of counts.
    record = ak.contents.RecordArray(
        [ak.contents.NumpyArray(values) for values in typed.values()],
        [name.removeprefix(_PREFIX) for name in typed],
    )
    lists = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(table.offsets), record))
    return {_PREFIX.removesuffix("_"): lists, **{name: ak.Array(values) for name, values in branches.items()}}


def _field_name(outer: str, inner: str) -> str:
    return f"{outer}_{inner}" if outer else inner


def _typed(path: Path, name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        msg = f"{path}: a branch of a ROOT file cannot hold column {name!r}, of type {values.dtype}"
        raise InputError(msg)
    # ROOT has no half precision.
    own = "float32" if values.dtype == np.float16 else values.dtype
    dtype = np.dtype(_JETCLASS_TYPES.get(name, own))
    fits = fits_single(values) if dtype == np.float32 else np.array_equal(values.astype(dtype), values, equal_nan=True)
    if not fits:
        msg = f"{path}: column {name!r} holds numbers too large for JetClass's {dtype}"
        raise InputError(msg)
    return np.ascontiguousarray(values, dtype)


def _trees(directory: uproot.ReadOnlyDirectory) -> list[str]:
    return list(directory.keys(filter_classname="TTree", cycle=False))


def _jet_tree(path: Path, file: uproot.ReadOnlyDirectory) -> str:
    trees = _trees(file)
    found = [name for name in trees if any(map(is_constituent, file[name].keys()))]
    if _TREE in found or len(found) == 1:
        return _TREE if _TREE in found else found[0]
    tuples = file.keys(filter_classname="ROOT::RNTuple", cycle=False)
    if tuples and not found:
        msg = (
            f"{path}: {tuples[0]!r} is an RNTuple; expected a TTree with JetClass's branches. Write it as a TTree: by "
            "`mktree` and `extend` in uproot, or a Snapshot of RDataFrame in ROOT."
        )
        raise InputError(msg)
    msg = f"{path}: no TTree with the branches part_px, part_py, ... of JetClass; it has "
    if found:
        msg = f"{path}: several TTrees with branches of JetClass, none of them named {_TREE!r}: "
    raise InputError(msg + (", ".join(map(repr, found or trees)) or "no TTree at all") + f". {EXPECTED}")


def _column(branch: uproot.TBranch) -> Column | None:
    """The column that a branch can be; none if it has no single number for a jet or a constituent."""
    interpretation = branch.interpretation
    ragged = isinstance(interpretation, uproot.AsJagged)
    content = interpretation.content if ragged else interpretation
    if not isinstance(content, uproot.AsDtype) or ragged != is_constituent(branch.name):
        return None
    dtype = content.to_dtype
    if dtype.kind not in "biuf" or dtype.shape:
        return None
    return COLUMNS.get(branch.name, Column(branch.name, dtype.newbyteorder("=").name, "", "as in the file"))


def _made(found: Collection[str], ours: Mapping[str, Any]) -> list[str]:
    """The branches that `write_root` made of columns; without these, such branches are the source's own."""
    one_hot = "jet_label" in found and tuple(ours.get("classes", ())) == JET_CLASSES
    return [*_LABELS] * one_hot + [aux for aux, column in _GENPART.items() if column in found]


def _place(column: Column) -> int:
    """Columns of the format come first, in its order."""
    names = list(COLUMNS)
    return names.index(column.name) if column.name in COLUMNS else len(names)


def _classes(found: Mapping[str, object], labels: Sequence[str], ours: Mapping[str, Any]) -> tuple[str, ...]:
    if ours or labels:
        return tuple(ours.get("classes", JET_CLASSES)) if labels or "jet_label" in found else ()
    return known_classes(found)


def _flat(array: ak.Array) -> tuple[NDArray[np.int64], NDArray[Any]]:
    layout = ak.to_packed(array).layout
    return np.asarray(layout.offsets, np.int64), np.asarray(layout.content.data)
