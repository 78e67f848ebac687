"""The language of column maps: a TOML file that says which columns of a table are what. docs/formats.md explains it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hepfm.errors import InputError
from hepfm.formats.toml import read_toml
from hepfm.schema import COLUMNS, CONSTITUENT_COLUMNS, JET_CLASSES, JET_COLUMNS, is_constituent, unknown_name

_READY_MADE = files("hepfm.formats") / "maps"
MAPS = tuple(sorted(str(entry.name).removesuffix(".toml") for entry in _READY_MADE.iterdir() if ".toml" in entry.name))
"""Names of the maps that come with hepfm."""

INGREDIENTS = MappingProxyType(
    {
        "part_pt": "GeV",
        "part_eta": "",
        "part_phi": "rad",
        "part_rapidity": "",
        "part_mass": "GeV",
        "part_pt_rel": "",
        "part_eta_rel": "",
        "part_phi_rel": "rad",
        "part_pdg_id": "",
        "part_weight": "",
        "part_mask": "",
        "jet_px": "GeV",
        "jet_py": "GeV",
        "jet_pz": "GeV",
        "jet_mass": "GeV",
        "truth_px": "GeV",
        "truth_py": "GeV",
        "truth_pz": "GeV",
    }
)
"""What a map can name besides the schema's columns, of which these then follow; with their units."""

_DERIVED = ("variation", "process", "jet_nparticles")
KEYS = ("name", "source", "table", "notes", "constituents", "jets", "further")
"""What a map can have at its top."""

_NUMBER_OPTIONS = ("column", "unit", "scale", "missing")
_LABEL_OPTIONS = ("column", "classes", "file")
OPTIONS = tuple(dict.fromkeys((*_NUMBER_OPTIONS, *_LABEL_OPTIONS)))
"""What can be said of a column besides its name."""

UNITS = {
    "GeV": {"MeV": 1e-3, "GeV": 1.0, "TeV": 1e3},
    "mm": {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3},
    "rad": {"rad": 1.0},
}
"""Factors of the units that a column may have, by the schema's unit."""

_FEATURE = re.compile(r"(?P<column>.+?)\s*\[\s*\.\.\.\s*,\s*(?P<feature>-?\d+)\s*\]")


@dataclass(frozen=True)
class Expression:
    """Where the values of a column come from.

    Attributes:
        column: name of the table's column; with `{i}` in it one column for each constituent.
        feature: place along the last axis of an array.
        constant: a number for all jets, instead of a column.
        scale: what values are multiplied by, unit and sign included.
        missing: the value that means that there is none; becomes 0.
    """

    column: str = ""
    feature: int | None = None
    constant: float | None = None
    scale: float = 1.0
    missing: float | None = None


@dataclass(frozen=True)
class Label:
    """The classes of jets: by the values of a column (`values`), or by the name of the file (`patterns`)."""

    values: Mapping[str, str]
    patterns: Mapping[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """JetClass's classes if all are among these, otherwise the map's own in their order."""
        own = tuple(dict.fromkeys((*self.values.values(), *self.patterns.values())))
        return JET_CLASSES if own and set(own) <= set(JET_CLASSES) else own

    def of_file(self, path: str) -> int | None:
        """Number of the class that a file of this name holds."""
        for pattern, name in self.patterns.items():
            if fnmatchcase(Path(path).name, pattern):
                return self.classes.index(name)
        return None


@dataclass(frozen=True)
class ColumnMap:
    """A column map; `where` is what errors call it."""

    where: str
    table: str | None
    columns: Mapping[str, Expression]
    further: Mapping[str, Expression]
    label: Label
    notes: tuple[str, ...]


def read_map(columns: str | Path) -> ColumnMap:
    """Read a column map.

    Args:
        columns: name of a map that comes with hepfm, or the path of a TOML file.

    Raises:
        InputError: there is no such map, or something in it is wrong; names map and key.
    """
    if str(columns) in MAPS:
        path, where = Path(str(_READY_MADE / f"{columns}.toml")), f"column map {str(columns)!r}"
    else:
        path, where = Path(columns), f"column map {columns}"
        if not path.is_file():
            msg = f"{unknown_name('column map', str(columns), MAPS)} Or give the path of a TOML file."
            raise InputError(msg)
    read = read_toml(path)
    _known(where, "key", read, KEYS)
    for section in ("constituents", "jets", "further"):
        if not isinstance(read.get(section, {}), dict):
            msg = f"{where}: {section!r} must be a table, [{section}]"
            raise InputError(msg)
    parts, jets, further = (dict(read.get(section, {})) for section in ("constituents", "jets", "further"))
    if not parts:
        msg = f"{where}: has no [constituents]; expected at least part_px, part_py, part_pz there"
        raise InputError(msg)
    possible = {**CONSTITUENT_COLUMNS, **JET_COLUMNS, **INGREDIENTS}.keys() - set(_DERIVED)
    _known(where, "key in [constituents]", parts, [name for name in possible if is_constituent(name)])
    _known(where, "key in [jets]", jets, [name for name in possible if not is_constituent(name)])
    if reserved := [name for name in further if name in {*COLUMNS, *INGREDIENTS} or is_constituent(name)]:
        msg = f"{where}: {reserved[0]!r} belongs to [jets] or [constituents]; [further] is for columns of other names"
        raise InputError(msg)
    label = _label(where, jets)
    expressions = {name: _expression(where, name, value) for name, value in (parts | jets).items()}
    if constant := [name for name in parts if expressions[name].constant is not None]:
        msg = f"{where}: {constant[0]!r} must name a column; only [jets] can have one number for all"
        raise InputError(msg)
    notes = read.get("notes", [])
    table = read.get("table")
    if not isinstance(notes, list) or not isinstance(table, str | None):
        msg = f"{where}: 'notes' must be a list of sentences, and 'table' a name"
        raise InputError(msg)
    own = {name: _expression(where, name, value) for name, value in further.items()}
    return ColumnMap(where, table, expressions, own, label, tuple(map(str, notes)))


def _label(where: str, jets: dict[str, Any]) -> Label:
    """The classes in `jet_label`, which is left out of `jets` where it has no column."""
    given = jets.get("jet_label")
    if not isinstance(given, dict):
        return Label({}, {})
    classes, patterns = given.get("classes", {}), given.get("file", {})
    values = {str(i): name for i, name in enumerate(classes)} if isinstance(classes, list) else classes
    for table in (values, patterns):
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            msg = f"{where}: jet_label: 'classes' and 'file' must give names of classes, as in {{ 0 = 'QCD' }}"
            raise InputError(msg)
    if patterns:
        _known(where, "option of 'jet_label' beside 'file'", given, ("file",))
        del jets["jet_label"]
    return Label(dict(values), dict(patterns))


def _expression(where: str, name: str, given: object) -> Expression:
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Expression(constant=float(given))
    options = {"column": given} if isinstance(given, str) else given
    if not isinstance(options, dict):
        msg = f"{where}: {name!r} must be the name of a column, a number or a table {{ column = ... }}, got {given!r}"
        raise InputError(msg)
    _known(where, f"option of {name!r}", options, _LABEL_OPTIONS if name == "jet_label" else _NUMBER_OPTIONS)
    column = options.get("column")
    if not isinstance(column, str) or not column:
        msg = f"{where}: {name!r} does not say its column: {{ column = 'name' }}"
        raise InputError(msg)
    for option in ("scale", "missing"):
        if not isinstance(options.get(option, 0), int | float):
            msg = f"{where}: {option!r} of {name!r} must be a number, got {options[option]!r}"
            raise InputError(msg)
    scale = float(options.get("scale", 1.0))
    if "unit" in options:
        units = UNITS.get(COLUMNS[name].unit if name in COLUMNS else INGREDIENTS.get(name, ""), {})
        _known(where, f"unit of {name!r}", [str(options["unit"])], units)
        scale *= units[str(options["unit"])]
    match = _FEATURE.fullmatch(column)
    return Expression(
        column=match["column"] if match else column,
        feature=int(match["feature"]) if match else None,
        scale=scale,
        missing=options.get("missing"),
    )


def _known(where: str, what: str, given: Any, known: Any) -> None:  # noqa: ANN401 - any collections of names
    for name in given:
        if name not in known:
            msg = f"{where}: {unknown_name(what, str(name), sorted(known))}"
            raise InputError(msg)
