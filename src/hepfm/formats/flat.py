"""Tables with one row a jet and no constituents, such as scores: as Parquet, HDF5 or ROOT.

`jets.parquet`   a column each
`jets.h5`        `jets/<column>` as in a shard; a "/" in a name is a group
`jets.root`      TTree `jets`, a branch each; text as numbers, with the words in the text `hepfm`
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import uproot

from hepfm.atomic import growing_file
from hepfm.errors import InputError
from hepfm.formats.arrays import writing
from hepfm.formats.conversion import check_branches, check_names, numbered
from hepfm.formats.parquet import write_parquet
from hepfm.schema import COLUMNS, Column, unknown_name
from hepfm.table import JetTable

SUFFIXES = (".parquet", ".h5", ".root")
_TREE = "jets"


def write_flat(path: Path, tables: Iterable[JetTable], metadata: Mapping[str, str], classes: Sequence[str]) -> int:
    """Write the columns of jets in the format that the file's name ends with, in constant memory.

    Args:
        path: where the file goes; an existing one is replaced.
        tables: jets, some at a time, all with the same columns; constituents are left out.
        metadata: provenance.
        classes: names of what `jet_label` is an index of.

    Returns:
        Number of jets.

    Raises:
        InputError: another ending, no table at all; in HDF5 text that is not ASCII, or a name no dataset can have.
        StorageError: the file could not be written.
    """
    check_suffix(path)
    blocks = iter(tables)
    first = next(blocks, None)
    if first is None:
        msg = f"{path}: there are no jets to write."
        raise InputError(msg)
    n_jets = 0

    def flat() -> Iterable[JetTable]:
        nonlocal n_jets
        for table in chain([first], blocks):
            n_jets += table.n_jets
            yield JetTable(table.columns, np.zeros(table.n_jets + 1, np.int64), {})

    write = {".parquet": _write_parquet, ".h5": _write_hdf5, ".root": _write_root}[path.suffix]
    write(path, flat(), metadata, classes)
    return n_jets


def check_suffix(path: Path) -> None:
    """Check that the name of a file says a format.

    Raises:
        InputError: it does not.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: " + unknown_name("format", path.suffix, SUFFIXES))


def _write_parquet(path: Path, tables: Iterable[JetTable], metadata: Mapping[str, str], classes: Sequence[str]) -> None:
    write_parquet(path, tables, metadata, classes)


def _write_hdf5(path: Path, tables: Iterable[JetTable], metadata: Mapping[str, str], classes: Sequence[str]) -> None:
    with writing(path) as file:
        for table in tables:
            check_names(path, table.columns)
            for name, values in table.columns.items():
                known = COLUMNS.get(name, Column(name, "", "", ""))
                file.append(f"jets/{name}", values, unit=known.unit, meaning=known.meaning)
        file.attributes.update({**metadata, "classes": list(classes)})


def _write_root(path: Path, tables: Iterable[JetTable], metadata: Mapping[str, str], classes: Sequence[str]) -> None:
    words: dict[str, dict[str, int]] = {}
    with growing_file(path) as temporary, uproot.recreate(temporary, compression=uproot.ZLIB(1)) as file:
        tree = None
        for table in tables:
            check_branches(path, table.columns)
            branches = dict(table.columns)
            for name, values in table.columns.items():
                if values.dtype.kind == "U":
                    known = words.setdefault(name, {})
                    branches[name] = numbered(values, known)
                elif values.dtype == np.float16:  # which ROOT does not have
                    branches[name] = values.astype(np.float32)
            if tree is None:
                tree = file.mktree(_TREE, {name: values.dtype for name, values in branches.items()}, title="jets")
            if table.n_jets:
                tree.extend(branches)
        about = {**metadata, "classes": list(classes), **{name: list(known) for name, known in words.items()}}
        file["hepfm"] = json.dumps(about)
