"""Any flat or padded table as jets, through a column map that says which of its columns are what.

What the map does not name follows from what it names: four-momenta from pt, eta (or rapidity), phi and mass, also
relative to the jet; a jet's four-momentum from the sum of its constituents; charge and type from PDG codes.
docs/formats.md explains how to write a map.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.formats.conversion import as_column, falling_pt
from hepfm.formats.jet_file import JetFile
from hepfm.formats.map_fitting import fit, unknown_column
from hepfm.formats.map_language import INGREDIENTS, MAPS, ColumnMap, Expression, read_map
from hepfm.formats.mapped_kinematics import MOMENTUM, MappedJets, assumptions
from hepfm.formats.table_sources import NUMBERS, Field, Ragged, Source, Values, open_source
from hepfm.kinematics import wrapped
from hepfm.schema import COLUMNS, TYPE_FLAGS, Column, is_constituent
from hepfm.table import JetTable

__all__ = ["MAPS", "MappedFile", "open_table"]

_AXES = ("jet_pt", "jet_eta", "jet_phi")
_JET_MOMENTUM = (*_AXES, "jet_energy", "jet_mass", "jet_px", "jet_py", "jet_pz")
_TRUTH = ("truth_pt", "truth_eta", "truth_phi")
_TRUTH_MOMENTUM = ("truth_px", "truth_py", "truth_pz")
_CODES = ("part_pdg_id", "part_charge")
_PART_MOMENTUM = (*MOMENTUM, *(name for name in INGREDIENTS if is_constituent(name) and name != "part_pdg_id"))
_SHOWN = 12


def open_table(path: Path, columns: str | Path) -> JetFile:
    """Open a ROOT, Parquet, HDF5 or npz file as jets.

    Args:
        path: of the file.
        columns: name of one of `MAPS`, or the path of a TOML file with a column map.

    Raises:
        InputError: the file is damaged or of another kind, the map is wrong, or the two do not fit; names file, map
            and column.
    """
    columns_map = read_map(columns)
    source = open_source(Path(path), columns_map.table)
    where = f"{path}: {columns_map.where}"
    notes = list(columns_map.notes) + list(assumptions(where, columns_map.columns))
    truth = columns_map.columns.get("jet_label")
    if truth is not None and truth.constant is None and truth.column not in source.fields and "{i}" not in truth.column:
        # Collisions have no labels: the map that a tagger was trained with serves for them, too.
        columns_map = replace(columns_map, columns={k: e for k, e in columns_map.columns.items() if e is not truth})
        notes.append(f"no jet_label: {unknown_column(truth.column, source)}")
    resolved, n_jets = fit(columns_map, source, where)
    used = {name for key, names in resolved.items() if key != "jet_label" for name in names}
    # A name that the map gives to something else is no longer that of the table's column.
    taken = {*used, *columns_map.columns, *columns_map.further}
    kept = [name for name, f in source.fields.items() if name not in taken and _is_further(name, f, n_jets)]
    label = columns_map.label.of_file(source.path)
    names = _follow(columns_map, has_label=label is not None)
    further = {**{name: Expression(name) for name in kept}, **columns_map.further}
    found = [COLUMNS[name] for name in COLUMNS if name in names]
    for name, expression in further.items():
        dtype = np.dtype(np.float64) if expression.constant is not None else source.fields[expression.column].dtype
        found.append(
            Column(name, (dtype if expression.scale == 1 else np.dtype(np.float64)).name, "", "as in the file")
        )
    if unused := sorted(source.fields.keys() - used - set(kept) - {e.column for e in columns_map.columns.values()}):
        more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
        notes.append(f"left out, for the column map does not name them: {', '.join(unused[:_SHOWN])}{more}")
    classes = columns_map.label.classes if "jet_label" in names else ()
    if columns_map.label.patterns and label is None:
        patterns = ", ".join(columns_map.label.patterns)
        notes.append(f"no jet_label: the file is not named like any of {patterns}")
    elif "jet_label" in names and not classes:
        notes.append("the column map does not say the names of the classes that jet_label numbers")
    return MappedFile(
        str(path),
        n_jets,
        tuple(found),
        classes=classes,
        notes=tuple(notes),
        source=source,
        columns_map=columns_map,
        expressions={**columns_map.columns, **further},
        resolved={**resolved, **{name: (name,) for name in kept}},
    )


@dataclass(frozen=True)
class MappedFile(JetFile):
    """A table that a column map makes jets.

    Attributes:
        source: the table.
        columns_map: the map.
        expressions: where each quantity that the map names, and each further column, comes from.
        resolved: the columns of the table that each of them needs.
    """

    source: Source = field(kw_only=True, repr=False)
    columns_map: ColumnMap = field(kw_only=True, repr=False)
    expressions: Mapping[str, Expression] = field(kw_only=True, repr=False)
    resolved: Mapping[str, tuple[str, ...]] = field(kw_only=True, repr=False)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read some jets. The offsets are those of the constituents if the columns asked for need constituents."""
        keys = self._needed(names)
        raw = self.source.read((column for key in keys for column in self.resolved.get(key, ())), start, stop)
        values = {key: self._evaluate(key, raw, stop - start) for key in keys}
        # What comes along under its own name is no quantity of the map's, even if it is called like one.
        named = {key: found for key, found in values.items() if key in self.columns_map.columns}
        jets = MappedJets(
            self.path,
            stop - start,
            {key: found for key, found in named.items() if not isinstance(found, Ragged)},
            {key: found for key, found in named.items() if isinstance(found, Ragged)},
        )
        known = {c.name: c for c in self.columns}
        lists = [name for name in names if is_constituent(name)]
        with_constituents = any(map(is_constituent, keys))
        typed = {
            name: as_column(self._constituent(jets, name), known[name], self.path)
            for name in dict.fromkeys(("part_px", "part_py", *lists) if lists else ())
        }
        columns = {
            name: as_column(self._jet(jets, values, name, stop - start), known[name], self.path)
            for name in names
            if not is_constituent(name)
        }
        offsets = jets.offsets if with_constituents else np.zeros(stop - start + 1, np.int64)
        table = JetTable(columns, offsets, typed)
        return (falling_pt(table) if lists else table).only(names)

    def _needed(self, names: Sequence[str]) -> list[str]:
        """Keys of the map that the columns asked for need."""
        have, keys = self.columns_map.columns, set(names)
        exact = {"jet_px", "jet_py", "jet_pz"} <= have.keys()
        summed = any(name in names and name not in have and not exact for name in _AXES)
        if "jet_energy" in names and "jet_energy" not in have:
            summed |= "jet_mass" not in have or not (exact or {"jet_pt", "jet_eta"} <= have.keys())
        if summed or not names or "jet_nparticles" in names or any(map(is_constituent, names)):
            keys |= {*_PART_MOMENTUM, *_JET_MOMENTUM}
            keys |= {"part_pdg_id"} if not {"part_energy", "part_mass"} & have.keys() else set()
        if {*TYPE_FLAGS, "part_charge"} & keys:
            keys |= set(_CODES)
        if {*_AXES, "jet_energy"} & keys:
            keys |= set(_JET_MOMENTUM)
        if set(_TRUTH) & keys:
            keys |= set(_TRUTH_MOMENTUM)
        return [key for key in self.expressions if key in keys]

    def _evaluate(self, key: str, raw: Mapping[str, Values], n_jets: int) -> Values:
        expression = self.expressions[key]
        if expression.constant is not None:
            return np.full(n_jets, expression.constant * expression.scale)
        read = [raw[name] for name in self.resolved[key]]
        if isinstance(read[0], Ragged):
            return Ragged(read[0].offsets, _scaled(expression, read[0].values))
        values = np.stack(read, axis=1) if "{i}" in expression.column else read[0]  # type: ignore[arg-type]
        if expression.feature is not None:
            values = values[..., expression.feature]
        if not is_constituent(key):
            return values if key == "jet_label" else _scaled(expression, values)
        width = values.shape[1]
        return Ragged(np.arange(n_jets + 1, dtype=np.int64) * width, _scaled(expression, values.reshape(-1)))

    def _constituent(self, jets: MappedJets, name: str) -> NDArray[Any]:
        if name in MOMENTUM:
            return np.asarray(jets.momenta[MOMENTUM.index(name)])
        if name in self.expressions:
            values = jets.part(name)
            if name == "part_dphi":
                return wrapped(values)
            return np.asarray(values != 0) if name in TYPE_FLAGS else values
        if name == "part_charge":
            return jets.charge()
        return jets.flags()[name] if name in TYPE_FLAGS else jets.directions[name]

    def _jet(self, jets: MappedJets, values: Mapping[str, Values], name: str, n_jets: int) -> NDArray[Any]:
        if name in _AXES:
            return jets.axis(name)
        if name == "jet_energy":
            return jets.energy()
        if name == "jet_nparticles":
            return np.diff(jets.offsets)
        if name == "jet_label" and self.columns_map.label.patterns:
            return np.full(n_jets, self.columns_map.label.of_file(self.path))
        if name in _TRUTH and name not in self.expressions:
            return jets.direction("truth")[_TRUTH.index(name)]
        found = values[name]
        assert not isinstance(found, Ragged)
        if name == "truth_phi":
            return wrapped(found)
        return self._labels(found) if name == "jet_label" and self.columns_map.label.values else found

    def _labels(self, values: NDArray[Any]) -> NDArray[np.int16]:
        label = self.columns_map.label
        numbers = np.array([label.classes.index(name) for name in label.values.values()], np.int16)
        try:
            known = np.array(list(label.values)).astype(str if values.dtype.kind == "U" else np.float64)
        except ValueError as error:
            msg = f"{self.columns_map.where}: the classes of 'jet_label' must be numbers, as its column is: {error}"
            raise InputError(msg) from error
        order = np.argsort(known)
        place = order[np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)]
        if np.any(known[place] != values):
            wrong = values[known[place] != values][0]
            msg = (
                f"{self.path}: column {self.expressions['jet_label'].column!r} holds {wrong}, which is no class of "
                f"{self.columns_map.where}; expected one of {', '.join(label.values)}"
            )
            raise InputError(msg)
        result: NDArray[np.int16] = numbers[place]
        return result


def _scaled(expression: Expression, values: NDArray[Any]) -> NDArray[Any]:
    if expression.missing is not None:
        # NaN equals nothing, not even itself.
        is_nan = values.dtype.kind == "f" and math.isnan(expression.missing)
        values = np.where(np.isnan(values) if is_nan else values == expression.missing, values.dtype.type(0), values)
    return values if expression.scale == 1 else values * np.float64(expression.scale)


def _is_further(name: str, known: Field, n_jets: int) -> bool:
    return (
        known.shape == ()
        and known.n_rows == n_jets
        and known.dtype.kind in NUMBERS
        and name not in COLUMNS
        and not is_constituent(name)
    )


def _follow(columns_map: ColumnMap, *, has_label: bool) -> set[str]:
    """The schema's columns that follow from what a map names."""
    have = set(columns_map.columns)
    follow: Iterable[str] = (*MOMENTUM, "part_deta", "part_dphi", *_AXES, "jet_energy", "jet_nparticles")
    names = (have & COLUMNS.keys()) | set(follow)
    if "part_pdg_id" in have:
        names |= {*TYPE_FLAGS, "part_charge"}
    if set(_TRUTH_MOMENTUM) <= have:
        names |= set(_TRUTH)
    return names | ({"jet_label"} if has_label else set())
