"""Scores written beside the jets that they are of."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hepfm import __version__
from hepfm.errors import InputError
from hepfm.formats.flat import check_suffix, write_flat
from hepfm.formats.parquet import write_parquet
from hepfm.formats.root import write_root
from hepfm.schema import is_constituent
from hepfm.table import JetTable
from hepfm.training.scoring import Tagger
from hepfm.training.source import Source

Progress = Callable[[str, int, int], None]
"""Told the name of the file, the jets done, and the jets in all."""


@dataclass(frozen=True)
class Prediction:
    """A file of scores: its number of jets, and the names of the columns that were added."""

    path: Path
    n_jets: int
    columns: tuple[str, ...]


def score_columns(tagger: Tagger) -> tuple[str, ...]:
    """Names of the columns that scores are written to: score_<class>, or predicted_<column> for a regression.

    What is no letter or digit becomes "_"; of classes that are the same then, the second ends in _2, and so on.
    """
    kind = "predicted" if tagger.is_regression else "score"
    names: list[str] = []
    for plain in (f"{kind}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}" for name in tagger.classes):
        numbered = (plain, *(f"{plain}_{number}" for number in range(2, len(tagger.classes) + 1)))
        names.append(next(name for name in numbered if name not in names))
    return tuple(names)


def predict(
    tagger: Tagger,
    source: Source,
    out: Path,
    *,
    name: str = "",
    constituents: bool = False,
    report: Progress | None = None,
) -> Prediction:
    """Write jets with their scores, in the order of the files and in constant memory.

    Args:
        tagger: the network.
        source: the jets.
        out: file to write: .parquet, .h5 or .root.
        name: of the network, for the file's metadata.
        constituents: whether constituents are written too (.parquet, and .root in JetClass's layout).
        report: told how it proceeds.

    Raises:
        InputError: another ending, or the file that is read; jets that lack inputs, or have columns of the scores'
            names.
        StorageError: the file cannot be written.
    """
    check_suffix(out)
    if constituents and out.suffix == ".h5":
        msg = f"{out}: constituents are written to .parquet or .root. Choose one of these, or leave --constituents out."
        raise InputError(msg)
    dataset, added = source.dataset, score_columns(tagger)
    dataset.check_target(out)
    if taken := [column for column in added if column in dataset.columns]:
        msg = f"{dataset.name}: has a column {taken[0]!r} already. Score the jets as they were before."
        raise InputError(msg)
    names = [column for column in dataset.columns if constituents or not is_constituent(column)]
    done = 0

    def tables() -> Iterator[JetTable]:
        nonlocal done
        for table, scores in tagger.score_source(source, names):
            columns = dict(zip(added, scores.T.copy(), strict=True))
            yield JetTable(table.columns | columns, table.offsets, table.constituents)
            done += table.n_jets
            if report is not None:
                report(out.name, done, len(dataset))

    metadata = {"source": dataset.name, "network": name, "hepfm": __version__}
    if not constituents:
        write_flat(out, tables(), metadata, dataset.classes)
    elif out.suffix == ".parquet":
        write_parquet(out, tables(), metadata, dataset.classes)
    else:
        write_root(out, tables(), dataset.classes)
    return Prediction(out, done, added)
