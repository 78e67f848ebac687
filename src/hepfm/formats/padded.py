"""Padded HDF5: constituents as one array with as many places for every jet, ready for a network.

`constituents` (N, P, F) float32 with the attribute `columns`, `mask` (N, P), and `jets/<column>` (N,) as in a shard.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.arrays import array, piecewise, rows, texts, writing
from hepfm.formats.blocks import in_blocks
from hepfm.formats.conversion import as_column, check_names, datasets, fits_single
from hepfm.formats.damage import opened_hdf5
from hepfm.formats.jet_file import JetFile
from hepfm.padding import padded, ragged
from hepfm.schema import COLUMNS, JET_CLASSES, Column
from hepfm.table import JetTable

_FORMAT = "hepfm-padded"
_BLOCK = 4096


def left_out(columns: Iterable[str]) -> tuple[str, ...]:
    """Say in sentences what of some columns does not come back from a file."""
    others = [name for name in columns if name.startswith("part_") and name not in COLUMNS]
    rounded = f"rounded to single precision: {', '.join(others)}"
    return ("constituents beyond the number of places are dropped, those of lowest pt", *[rounded] * bool(others))


def write_padded(
    path: Path, tables: Iterable[JetTable], n_constituents: int = 128, classes: Sequence[str] = JET_CLASSES
) -> int:
    """Write jets with a fixed number of places for constituents, in constant memory.

    Args:
        path: where the file goes; an existing one is replaced.
        tables: jets, some at a time, all with the same columns, ordered by falling pt of their constituents.
        n_constituents: places a jet, P.
        classes: names of what `jet_label` is an index of.

    Returns:
        How many constituents did not fit; the file has it as the attribute `n_cut`.

    Raises:
        InputError: no jets, no constituents, a number that single precision cannot hold, or text that is not ASCII.
        StorageError: the file could not be written.
    """
    n_cut = 0
    words: dict[str, dict[str, None]] = {"variation": {}, "process": {}}
    with writing(path) as file:
        for table in in_blocks(tables, _BLOCK):
            names = list(table.constituents)
            if not names:
                msg = f"{path}: cannot write padded jets without a column of constituents"
                raise InputError(msg)
            check_names(path, table.columns)
            for name, column in table.constituents.items():
                if not fits_single(column):
                    msg = f"{path}: single precision cannot hold the numbers of column {name!r}, of type {column.dtype}"
                    raise InputError(msg)
            values, mask = padded(table, names, n_constituents)
            types = [table.constituents[name].dtype.name for name in names]
            file.append("constituents", values, columns=names, types=types)
            file.append("mask", mask, meaning="there is a constituent")
            for name, column in table.columns.items():
                known = COLUMNS.get(name, Column(name, "", "", ""))
                file.append(f"jets/{name}", column, unit=known.unit, meaning=known.meaning)
                if name in words:
                    words[name] |= dict.fromkeys(column.tolist())
            n_cut += int(np.maximum(table.counts - n_constituents, 0).sum())
        file.attributes.update({"format": _FORMAT, "format_version": 1, "n_cut": n_cut, "classes": list(classes)})
        file.attributes.update({name: list(found) for name, found in words.items() if found})
    return n_cut


def is_padded(file: h5py.File) -> bool:
    """Whether an HDF5 file is one that `write_padded` wrote."""
    return bool(file.attrs.get("format") == _FORMAT)


def open_padded(path: Path) -> JetFile:
    """Open a file that `write_padded` wrote.

    Raises:
        InputError: the file is damaged, or of another format.
    """
    with opened_hdf5(path) as file:
        constituents = array(file, path, "constituents", 3)
        n_jets, n_places, n_columns = constituents.shape
        names, types = (texts(constituents.attrs, name) for name in ("columns", "types"))
        if not is_padded(file) or len(names) != n_columns or len(types) != n_columns:
            msg = f"{path}: no padded file of hepfm: /constituents has no names for its {n_columns} columns"
            raise InputError(msg)
        if array(file, path, "mask", 2).shape != (n_jets, n_places):
            msg = f"{path}: damaged: /mask does not have the shape of /constituents"
            raise InputError(msg)
        jets = {name: array(file, path, f"jets/{name}", 1) for name in datasets(file.get("jets"))}
        dtypes = {name: dataset.dtype for name, dataset in jets.items()}
        if short := [name for name, dataset in jets.items() if len(dataset) != n_jets]:
            msg = f"{path}: damaged: /jets/{short[0]} has {len(jets[short[0]])} rows, /constituents {n_jets}"
            raise InputError(msg)
        n_cut = int(file.attrs.get("n_cut", 0))
        variations, processes, classes = (texts(file.attrs, name) for name in ("variation", "process", "classes"))
    notes = [f"{n_cut} constituents beyond the first {n_places} of a jet were dropped"] * bool(n_cut)
    rounded = [name for name, dtype in zip(names, types, strict=True) if name not in COLUMNS and dtype == "float64"]
    notes += [f"rounded to single precision: {', '.join(rounded)}"] * bool(rounded)
    extra = {name: "str" if dtype.kind == "S" else dtype.name for name, dtype in dtypes.items()}
    extra |= {name: "float32" if name in rounded else dtype for name, dtype in zip(names, types, strict=True)}
    found = {name: COLUMNS.get(name, Column(name, dtype, "", "as in the file")) for name, dtype in extra.items()}
    ordered = [found.pop(name) for name in COLUMNS if name in found]
    return PaddedFile(
        str(path),
        n_jets,
        (*ordered, *found.values()),
        variations,
        processes,
        classes if "jet_label" in dtypes else (),
        tuple(notes),
        features=names,
    )


@dataclass(frozen=True)
class PaddedFile(JetFile):
    """A padded file; `features` are the columns of `constituents` in their order."""

    features: tuple[str, ...] = field(kw_only=True)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets."""
        return piecewise(lambda first, last: self._read(names, first, last), start, stop)

    def _read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        known = {c.name: c for c in self.columns}
        wanted = [name for name in names if name in self.features]
        part = slice(start, stop)
        with opened_hdf5(self.path) as file:
            mask = rows(file, self.path, "mask", part, 2).astype(bool)
            # One chunk holds all features, so that reading them all costs no more.
            values = rows(file, self.path, "constituents", part, 3) if wanted else np.empty((*mask.shape, 0))
            columns = {
                name: as_column(rows(file, self.path, f"jets/{name}", part), known[name], self.path)
                for name in names
                if name not in self.features
            }
        offsets, flat = ragged(values, mask)
        constituents: dict[str, NDArray[Any]] = {
            name: as_column(np.ascontiguousarray(flat[:, self.features.index(name)]), known[name], self.path)
            for name in wanted
        }
        return JetTable(columns, offsets, constituents)
