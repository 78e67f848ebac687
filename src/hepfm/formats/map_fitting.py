"""Fit a column map to a table: which of its columns, and whether they have the shapes that jets need."""

import difflib
import re
from collections.abc import Mapping

from hepfm.errors import InputError
from hepfm.formats.map_language import ColumnMap, Expression
from hepfm.formats.table_sources import NUMBERS, Source
from hepfm.schema import is_constituent, unknown_name

_SHOWN = 12


def fit(columns_map: ColumnMap, source: Source, where: str) -> tuple[dict[str, tuple[str, ...]], int]:
    """Find the columns that a map names.

    Args:
        columns_map: the map.
        source: the table.
        where: file and map, for errors.

    Returns:
        For each key of the map that is no constant the names of its columns, and the number of jets.

    Raises:
        InputError: a column is missing, or has not the shape or type that its key needs.
    """
    expressions = {**columns_map.columns, **columns_map.further}
    resolved = {
        key: _resolve(source, where, key, expression)
        for key, expression in expressions.items()
        if expression.constant is None
    }
    _check_shapes(source, where, resolved, expressions)
    return resolved, _common_length(source, where, resolved)


def unknown_column(name: str, source: Source) -> str:
    """Say that a table has no such column, and which it has, those of similar names first."""
    close = difflib.get_close_matches(name, source.fields)
    known = list(dict.fromkeys((*close, *source.fields)))[:_SHOWN]
    return unknown_name("column", name, known)


def _resolve(source: Source, where: str, key: str, expression: Expression) -> tuple[str, ...]:
    """The columns of the table that an expression names."""
    name = expression.column
    if "{i}" in name:
        pattern = re.compile(r"(\d+)".join(map(re.escape, name.split("{i}", 1))))
        # Names may have leading zeros.
        found = sorted((int(match[1]), column) for column in source.fields if (match := pattern.fullmatch(column)))
        numbers = [number for number, _ in found]
        if not numbers or numbers != list(range(numbers[0], numbers[-1] + 1)) or numbers[0] > 1:
            there = f"{len(numbers)} columns, not numbered without a gap from 0 or 1" if numbers else "none"
            msg = f"{where}: {key!r} is {name!r}, of which the table has {there}"
            raise InputError(msg)
        return tuple(column for _, column in found)
    if name not in source.fields:
        msg = f"{where}: {key!r}: {unknown_column(name, source)}"
        raise InputError(msg)
    return (name,)


def _common_length(source: Source, where: str, resolved: Mapping[str, tuple[str, ...]]) -> int:
    lengths = {(key, name): source.fields[name].n_rows for key, names in resolved.items() for name in names}
    (first_key, first), n_jets = next(iter(lengths.items()))
    for (key, name), length in lengths.items():
        if length != n_jets:
            msg = (
                f"{where}: {key!r} is column {name!r} of {length} rows, but {first_key!r} is column {first!r} of "
                f"{n_jets}; expected one row a jet"
            )
            raise InputError(msg)
    return n_jets


def _check_shapes(
    source: Source, where: str, resolved: Mapping[str, tuple[str, ...]], expressions: Mapping[str, Expression]
) -> None:
    """Check that columns of constituents have a list, or the same number of places, a jet, and others one number."""
    first: tuple[str, str] | None = None
    for key, names in resolved.items():
        for name in names:
            if kind := source.fields[name].unusable:
                msg = (
                    f"{where}: {key!r} is column {name!r} of type {kind}; expected numbers or words. Convert it first."
                )
                raise InputError(msg)
        shape = _shape(source, f"{where}: {key!r}", names, expressions[key])
        if key != "jet_label" and any(source.fields[name].dtype.kind not in NUMBERS for name in names):
            msg = f"{where}: {key!r} is column {names[0]!r} of type {source.fields[names[0]].dtype}; expected numbers"
            raise InputError(msg)
        has = "a list" if shape is None else "one number" if shape == () else f"an array of shape {shape}"
        if is_constituent(key):
            fits, expected = shape is None or len(shape) == 1, "one number for each constituent"
        else:
            fits, expected = shape == (), "one number"
        if not fits:
            msg = f"{where}: {key!r} is column {names[0]!r}, which has {has} a jet; expected {expected}"
            raise InputError(msg)
        if is_constituent(key):
            first = first or (key, has)
            if has != first[1]:
                msg = f"{where}: {key!r} has {has} a jet, but {first[0]!r} {first[1]}"
                raise InputError(msg)


def _shape(source: Source, where: str, names: tuple[str, ...], expression: Expression) -> tuple[int, ...] | None:
    """What an expression has of one jet."""
    shape = source.fields[names[0]].shape
    if "{i}" in expression.column:
        return None if shape is None else (len(names), *shape)
    if expression.feature is None:
        return shape
    if not shape or not -shape[-1] <= expression.feature < shape[-1]:
        width = f"has only {shape[-1]} there" if shape else "is no array"
        msg = f"{where} is [..., {expression.feature}] of {names[0]!r}, which {width}"
        raise InputError(msg)
    return shape[:-1]
