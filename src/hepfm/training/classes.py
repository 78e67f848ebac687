"""What the classes of labels are called, and how they are numbered."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.schema import JET_FLAVOURS

_NOTHING = -1


def class_names(dataset: Dataset, column: str, values: NDArray[Any]) -> tuple[str, ...]:
    """What the classes of some labels are called, those that there are jets of, in the order of their numbers.

    Args:
        dataset: whose labels they are; it knows the names of `jet_label`.
        column: name of the labels' column.
        values: labels, shape (N,): whole numbers, truth values or text. A negative number is no class.

    Raises:
        InputError: labels with decimals.
    """
    return tuple(dict.fromkeys(_names_of(dataset, column, np.unique(values)).values()))


def encode(dataset: Dataset, column: str, values: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """Number labels by the order of `classes`, -1 for none of them; other arguments as for `class_names`."""
    distinct, where = np.unique(values, return_inverse=True)
    names = _names_of(dataset, column, distinct)
    codes = [classes.index(name) if (name := names.get(value)) in classes else _NOTHING for value in distinct.tolist()]
    return np.array(codes, np.int64)[where] if len(distinct) else np.empty(0, np.int64)


def _names_of(dataset: Dataset, column: str, distinct: NDArray[Any]) -> dict[Any, str]:
    """Name of the class of each value that is one."""
    if distinct.dtype.kind == "f":
        msg = (
            f"{dataset.name}: column {column!r} has decimals; classes are whole numbers. "
            "Name another column, or predict it as a number: --task regression."
        )
        raise InputError(msg)
    if distinct.dtype.kind == "U":
        return {word: word for word in distinct.tolist()}
    if distinct.dtype.kind == "b":
        return {value: column if value else f"not_{column}" for value in distinct.tolist()}
    known: dict[int, str] = {}
    if column == "jet_label":
        known = dict(enumerate(dataset.classes))
    elif column == "jet_flavour":
        known = {code: name for name, code in JET_FLAVOURS.items()}
    return {value: known.get(value, str(value)) for value in distinct.tolist() if value >= 0}
