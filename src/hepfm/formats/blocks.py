"""Jets that come in tables of any size, cut into blocks of one size for writing in constant memory."""

from collections.abc import Iterable, Iterator

from hepfm.errors import InputError
from hepfm.table import JetTable


def in_blocks(tables: Iterable[JetTable], n_jets: int) -> Iterator[JetTable]:
    """Join and cut tables into blocks of `n_jets`; the last may be smaller.

    There is always one block, of no jets if there are none, so that a writer knows the columns.

    Raises:
        InputError: there is no table, or they differ in their columns.
    """
    held: list[JetTable] = []
    n_held, n_blocks = 0, 0
    for table in tables:
        held.append(table)
        n_held += table.n_jets
        if n_held < n_jets:
            continue
        joined = _joined(held)
        n_whole = n_held - n_held % n_jets
        for start in range(0, n_whole, n_jets):
            yield joined.slice(start, start + n_jets)
            n_blocks += 1
        held, n_held = [joined.slice(n_whole, n_held)], n_held - n_whole
    if not held:
        msg = "nothing to write: no jets were given"
        raise InputError(msg)
    if n_held or not n_blocks:
        yield _joined(held)


def _joined(tables: list[JetTable]) -> JetTable:
    return tables[0] if len(tables) == 1 else JetTable.concatenate(tables)
