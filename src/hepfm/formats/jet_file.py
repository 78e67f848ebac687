"""What every format gives: one file of jets, with the columns that it has."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hepfm.schema import COLUMNS, JET_CLASSES, Column
from hepfm.table import JetTable

EXPECTED = "Expected a layout of docs/formats.md; any other table needs a column map (--columns, columns=)."
"""What to do about a file that no reader knows."""
UNNAMED_CLASSES = "the file does not say the names of the classes that jet_label numbers"
"""The note of a file that has a `jet_label` and no `classes`."""


@dataclass(frozen=True)
class JetFile(ABC):
    """One file of jets, whatever its format. Making one reads no more than the file's description.

    Attributes:
        path: of the file, or its URL.
        n_jets: number of jets in it.
        columns: those that the file has, or that follow from what it has: the format's own under their names and
            types, and others that the file has besides. A column whose name begins with `part_` has one value a
            constituent (`hepfm.schema.is_constituent`).
        variations: names of the variations that the jets are views under; none where the file does not say.
        processes: names of the hard processes; none where the file does not say.
        classes: names of the classes that `jet_label` is an index of; none where the file has no labels.
        notes: a sentence each for what was assumed, converted or left out.
        split: "train", "validation" or "test" where all jets are known to belong to one.
        sha256: of the file's bytes, in hexadecimal, where the list that it was opened from has it; else empty.
    """

    path: str
    n_jets: int
    columns: tuple[Column, ...] = tuple(COLUMNS.values())
    variations: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    classes: tuple[str, ...] = JET_CLASSES
    notes: tuple[str, ...] = ()
    split: str | None = None
    sha256: str = ""

    @abstractmethod
    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Read the jets `start` to `stop` (not included).

        Args:
            names: of the columns wanted, each of them one of `columns`; none gives the offsets alone.
            start: the first jet.
            stop: the jet to stop before.

        Returns:
            A table of exactly the named columns, whose constituents are ordered by falling transverse momentum.

        Raises:
            InputError: the file is damaged or not what it was when it was opened; names file and column.
        """
