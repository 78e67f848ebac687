"""Jets in memory, as a dataset: for what goes through the same ones many times."""

from collections.abc import Sequence
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


def in_memory(table: JetTable, dataset: Dataset) -> Dataset:
    """Make a dataset of jets that came from another one, whose name and classes it keeps."""
    arrays = {**table.columns, **table.constituents}
    columns = tuple(COLUMNS.get(name, Column(name, values.dtype.name, "", "")) for name, values in arrays.items())
    file = TableFile(dataset.name, table.n_jets, columns, classes=dataset.classes, table=table)
    return Dataset([file], dataset.name)
