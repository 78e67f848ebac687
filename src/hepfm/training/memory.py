"""Jets in memory, as a dataset: for what goes through the same ones many times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hepfm.dataset import Dataset
from hepfm.formats.jet_file import JetFile
from hepfm.schema import COLUMNS, Column
from hepfm.table import JetTable


@dataclass(frozen=True)
class TableFile(JetFile):
    """A table that is read as a file is."""

    table: JetTable = field(kw_only=True)

    def read(self, names: Sequence[str], start: int, stop: int) -> JetTable:
        """Take some jets; nothing is copied."""
        return self.table.slice(start, stop).only(names)


def in_memory(tables: Mapping[str | None, JetTable], dataset: Dataset) -> Dataset:
    """Make a dataset of jets that came from another one, whose name and classes it keeps.

    Args:
        tables: with the same columns, by the variation that the jets are views under; None where there is none.
        dataset: where they came from.
    """
    files = []
    for variation, table in tables.items():
        arrays = {**table.columns, **table.constituents}
        columns = tuple(COLUMNS.get(name, Column(name, values.dtype.name, "", "")) for name, values in arrays.items())
        views = () if variation is None else (variation,)
        files.append(TableFile(dataset.name, table.n_jets, columns, views, classes=dataset.classes, table=table))
    return Dataset(files, dataset.name)
