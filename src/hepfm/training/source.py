"""The jets of one split of a dataset, whatever it knows of events."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.hashing import unit_hash
from hepfm.opening import open as open_jets
from hepfm.schema import SPLITS, is_constituent, split_of, unknown_name
from hepfm.table import JetTable

_PIECE = 16384
# Names in an error.
_MOST_SHOWN = 12
_NOMINAL = "nominal"
_VARIATION = "variation"


def open_source(name: str, columns: str | None = None) -> Dataset:
    """Open jets by a name that a recipe can hold: what `hepfm.open` takes, or a pattern of files such as train/*.root.

    Raises:
        InputError: no file matches, or as `hepfm.open`.
        CampaignError, StorageError: as `hepfm.open`.
    """
    if not _is_pattern(name):
        return open_jets(name, columns=columns)
    paths = sorted(glob(name, recursive=True))  # noqa: PTH207 (a pattern may begin at the root)
    if not paths:
        msg = f"{name}: no file matches; expected files of jets."
        raise InputError(msg)
    # In no order that anybody chose: the nominal views first, as in a campaign.
    files = sorted(open_jets(paths, columns=columns).files, key=lambda file: file.variations != (_NOMINAL,))
    return Dataset(files, name)


def short_name(name: str) -> str:
    """What results are called after jets that `open_source` opens: as their file or folder, or a pattern's folder."""
    path = Path(name)
    while _is_pattern(str(path)):
        path = path.absolute().parent
    return path.name.partition(".")[0]


def _is_pattern(name: str) -> bool:
    return any(letter in name for letter in "*?[") and not Path(name).exists()


class Source:
    """The jets of a dataset that are in one split, in the order of the files.

    Splits go by the event's number, or by what the files say of themselves. Where there is neither, they go by a hash
    of the jet's place among those of its variation, which stays the same as long as the data do: views that come in the
    same order are in the same split.
    """

    def __init__(self, dataset: Dataset, split: str | None, variation: str | None = None) -> None:
        """Choose jets.

        Args:
            dataset: from `hepfm.open`.
            split: "train", "validation", "test", or None for all jets.
            variation: only the views under this one; None takes all.

        Raises:
            InputError: there is no such split or variation.
        """
        if split is not None and split not in SPLITS:
            raise InputError(unknown_name("split", split, SPLITS))
        if variation is not None and variation not in dataset.variations:
            raise InputError(f"{dataset.name}: " + unknown_name("variation", variation, dataset.variations))
        self.dataset, self.split, self.variation = dataset, split, variation
        self._columns: dict[str, NDArray[Any]] = {}

    def tables(self, size: int, names: Sequence[str]) -> Iterator[JetTable]:
        """Go through the jets, at most `size` at a time, in constant memory."""
        if self.split is None or self.dataset.knows_events:
            yield from self.dataset.tables(size, names, variation=self.variation, split=self.split)
            return
        views = [_VARIATION] * (_VARIATION in self.dataset.columns)
        seen: Counter[str] = Counter()
        for table in self.dataset.tables(size, tuple(dict.fromkeys((*names, *views))), variation=self.variation):
            places = np.empty(table.n_jets, np.int64)
            names_of_views = table.columns[_VARIATION] if views else np.full(table.n_jets, "")
            for name in np.unique(names_of_views):
                rows = np.flatnonzero(names_of_views == name)
                places[rows] = seen[name] + np.arange(len(rows))
                seen[name] += len(rows)
            yield table.select(split_of(places) == SPLITS.index(self.split)).only(names)

    def read(self, names: Sequence[str], places: NDArray[np.int64] | None = None) -> JetTable:
        """Read jets into memory.

        Args:
            names: of columns.
            places: which of the jets, rising numbers from 0; by default all.
        """
        found, first = [], 0
        for table in self.tables(_PIECE, names):
            if places is None:
                found.append(table)
            else:
                low, high = np.searchsorted(places, [first, first + table.n_jets])
                if low < high:
                    found.append(table.select(places[low:high] - first))
            first += table.n_jets
        if not found:
            return next(iter(self.dataset.tables(1, names))).slice(0, 0) if len(self.dataset) else JetTable.empty([])
        return JetTable.concatenate(found)

    def check_column(self, name: str) -> None:
        """Check that there is a column of jets of this name.

        Raises:
            InputError: the dataset has no such column, or it is one of constituents.
        """
        if name in self.dataset.columns and not is_constituent(name):
            return
        known = [column for column in self.dataset.columns if not is_constituent(column)]
        # A name that was mistyped, and what may be a label, are not to be missed among a hundred others.
        first = get_close_matches(name, known, n=1) + sorted(known, key=lambda c: not c.startswith(("jet_", "truth_")))
        shown = list(dict.fromkeys(first))[:_MOST_SHOWN]
        shown += [f"and {len(known) - len(shown)} more"] * (len(known) > len(shown))
        if name == "jet_label":
            what = f"the jets have no column {name!r}. Name that of the classes with --label: {', '.join(shown)}."
        else:
            what = unknown_name("column of jets", name, shown)
        why = "".join(f" ({note})" for note in self.dataset.notes if _is_why(note, name))
        msg = f"{self.dataset.name}: {what}{why}"
        raise InputError(msg)

    def column(self, name: str) -> NDArray[Any]:
        """Read one column of jets, which then stays in memory.

        Raises:
            InputError: the dataset has no such column, or it is one of constituents.
        """
        self.keep([name])
        return self._columns[name]

    def keep(self, names: Sequence[str]) -> None:
        """Read columns of jets that will be asked for, going through the files once.

        Raises:
            InputError: as for `column`.
        """
        for name in names:
            self.check_column(name)
        if wanted := [name for name in dict.fromkeys(names) if name not in self._columns]:
            self._columns |= self.read(wanted).columns

    def events(self) -> NDArray[np.int64]:
        """The number of each jet's event; of each jet's place where the dataset does not know events."""
        if "event_id" in self.dataset.columns:
            return self.column("event_id").astype(np.int64)
        return np.arange(sum(table.n_jets for table in self.tables(_PIECE, [self._smallest()])), dtype=np.int64)

    def _smallest(self) -> str:
        return next(name for name in self.dataset.columns if not is_constituent(name))


def _is_why(note: str, name: str) -> bool:
    """Whether a note says why there is no column of some name."""
    what, _, which = note.partition(": ")
    return what == f"no {name}" or (what.startswith("left out") and name in re.split("[ ,]+", which))


def same_events(sources: Sequence[Source], n_jets: int, seed: int) -> list[NDArray[np.int64]]:
    """Places in each source: about so many jets of the first, chosen by the seed, and of the others the same events."""
    events = [source.events() for source in sources]
    share = n_jets / max(1, len(events[0]))
    return [np.flatnonzero(unit_hash(numbers, seed) < share) for numbers in events]


def first_variation(dataset: Dataset) -> str | None:
    """The variation that labels are taken from if none is named: the nominal one, where there are several."""
    return dataset.variations[0] if len(dataset.variations) > 1 else None
