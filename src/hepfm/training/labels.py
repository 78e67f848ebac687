"""Which jets of a dataset a network learns from, and what it is told about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import InputError
from hepfm.hashing import hashed, unit_hash
from hepfm.schema import unknown_name
from hepfm.training.classes import class_names, encode
from hepfm.training.source import Source


def nested_order(
    classes: NDArray[np.int64], events: NDArray[np.int64], jets: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Order jets so that the first n of them are a random sample with as many of each class as can be, for every n.

    The order depends on the numbers of events and jets and on the seed, not on the order of the files. The jets of a
    smaller sample are among those of a larger one.

    Args:
        classes: shape (N,).
        events: number of each jet's event, shape (N,).
        jets: what tells the jets of one event apart, shape (N,).
        seed: of the choice.

    Returns:
        Indices of the jets, shape (N,).
    """
    keys = hashed(events.astype(np.uint64) ^ hashed(jets.astype(np.uint64), 0), seed)
    by_class = np.lexsort((keys, classes))
    starts = np.flatnonzero(np.diff(classes[by_class], prepend=classes[by_class][:1] - 1))
    sizes = np.diff(np.append(starts, len(classes)))
    ranks = np.empty(len(classes), np.int64)
    ranks[by_class] = np.arange(len(classes)) - np.repeat(starts, sizes)
    return np.lexsort((keys, ranks))


@dataclass(frozen=True, eq=False)
class Chosen:
    """Which jets of some sources are used, and their targets.

    Attributes:
        places: of the jets in their source; shape (N,).
        source: the number of that source; shape (N,).
        target: class (int64) or value (float32) of each; shape (N,).
        is_validation: whether a jet decides when to stop instead of training; shape (N,).
        names: of the classes; the column's for a number.
        notes: in sentences, what was decided about the labels.
    """

    places: NDArray[np.int64]
    source: NDArray[np.int64]
    target: NDArray[Any]
    is_validation: NDArray[np.bool_]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of jets."""
        return len(self.places)


@dataclass(frozen=True)
class Labels:
    """Which labels to learn from, a table of a recipe.

    Attributes:
        column: of jets, that holds the classes or numbers.
        classes: names of those to tell apart; all that there are if empty.
        n_jets: labelled jets to use, those for validation among them; 0 for all.
        validation_share: share of their events that trains nothing and decides when to stop; with 0 all train.
        signal_fraction: if above 0, the two `classes` (background, signal) are mixed into two samples, one with this
            share of signal and one with none, and the samples are the labels.
    """

    column: str = "jet_label"
    classes: tuple[str, ...] = ()
    n_jets: int = 0
    validation_share: float = 0.0
    signal_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Check what TOML cannot.

        Raises:
            InputError: a number out of its range.
        """
        if self.n_jets < 0 or not 0 <= self.validation_share < 1 or not 0 <= self.signal_fraction <= 1:
            msg = (
                "labels need n_jets >= 0, validation_share from 0 to below 1 and signal_fraction from 0 to 1, "
                f"got {self.n_jets}, {self.validation_share} and {self.signal_fraction}"
            )
            raise InputError(msg)
        if self.signal_fraction and len(self.classes) != 2:
            msg = f"mixing signal into background takes two classes, background and signal; got {self.classes}"
            raise InputError(msg)


def choose(sources: Sequence[Source], labels: Labels, *, regression: bool, seed: int) -> Chosen:
    """Choose the jets that a network learns from.

    Args:
        sources: one; or two mixed samples, which then are the classes, the one with more signal first.
        labels: which ones, and how many.
        regression: whether the labels are numbers to predict.
        seed: of the choice.

    Raises:
        InputError: no such column or class, or fewer jets than wanted.
    """
    weak = len(sources) > 1
    parts = [_sample(s, i) if weak else _labelled(s, labels, regression) for i, s in enumerate(sources)]
    events, jets, target, place = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("events", "jets", "target", "place")
    )
    number = np.repeat(np.arange(len(parts)), [len(part.place) for part in parts])
    names = MIXED if weak else parts[0].names
    notes = [note for part in parts for note in part.notes]
    groups = np.zeros(len(target), np.int64) if regression else target
    order = nested_order(groups, events, jets, seed)
    if labels.signal_fraction:
        order, target = _mixed(order, target, labels)
        names = MIXED
    wanted = labels.n_jets // 2 * 2 if labels.signal_fraction else labels.n_jets
    wanted = wanted or len(order)
    if wanted > len(order) or not len(order):
        have = f"{len(order):,} labelled jets in the training split of {sources[0].dataset.name}"
        msg = (
            f"{wanted:,} labelled jets wanted, but there are {have}. Ask for fewer."
            if len(order)
            else f"no {have[2:]}."
        )
        raise InputError(msg)
    taken = order[:wanted]
    # By events, so that no two jets of one event are on both sides; another hash than the one that orders jets.
    is_validation = unit_hash(events[taken], seed + 2**32) < labels.validation_share
    if not regression and len(missing := sorted({*range(len(names))} - {*target[taken][~is_validation].tolist()})):
        notes.append(f"no jet to train on of {', '.join(names[i] for i in missing)}")
    return Chosen(place[taken], number[taken], target[taken], is_validation, names, tuple(notes))


MIXED = ("less_signal", "more_signal")
"""What the two samples are called whose jets are told apart for want of labels."""


_Target = tuple[NDArray[Any], tuple[str, ...], tuple[str, ...]]
"""The number of each jet, or its class, -1 for none; the names of these; notes."""


@dataclass(frozen=True)
class _Labelled:
    """The labelled jets of a source: their events, numbers in these, labels, and places; each of shape (N,)."""

    events: NDArray[np.int64]
    jets: NDArray[np.int64]
    target: NDArray[Any]
    place: NDArray[np.int64]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def _sample(source: Source, number: int) -> _Labelled:
    """All jets of one of two mixed samples, the first of which has more signal."""
    events, jets, notes = _identified(source)
    # Two samples may number their events alike.
    jets, target = jets + number * 2**40, np.full(len(events), 1 - number, np.int64)
    return _Labelled(events, jets, target, np.arange(len(events)), MIXED, notes)


def _labelled(source: Source, labels: Labels, regression: bool) -> _Labelled:
    """The jets of a source whose label is known."""
    events, jets, notes = _identified(source, labels.column)
    values = source.column(labels.column)
    target, names, more = _numbers(source, labels.column, values) if regression else _classes(source, labels, values)
    known, what = (np.isfinite(target), "no finite number") if regression else (target >= 0, "none of the classes")
    notes += more
    if n_unknown := int((~known).sum()):
        notes += (f"left out: {n_unknown:,} jets whose {labels.column} is {what}",)
    place = np.flatnonzero(known)
    return _Labelled(events[place], jets[place], target[place], place, names, notes)


def _identified(source: Source, *columns: str) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """The event of each jet and a number of the jet in it, and what was assumed of them; `columns` are read along."""
    identity = [name for name in ("jet_index", "view") if name in source.dataset.columns]
    known_events = ["event_id"] * ("event_id" in source.dataset.columns)
    source.keep([*known_events, *identity, *columns])
    events = source.events()
    jets = np.zeros(len(events), np.int64)
    for column in identity:
        jets = jets * 2**16 + source.column(column).astype(np.int64) + 128
    assumed = f"{source.dataset.name} has no event_id: its jets are split 80/10/10 by a hash of their place"
    return events, jets, () if source.dataset.knows_events else (assumed,)


def _numbers(source: Source, column: str, values: NDArray[Any]) -> _Target:
    if values.dtype.kind not in "biuf":
        msg = f"{source.dataset.name}: column {column!r} holds text; a number is needed to predict one."
        raise InputError(msg)
    return values.astype(np.float32), (column,), ()


def _classes(source: Source, labels: Labels, values: NDArray[Any]) -> _Target:
    present = class_names(source.dataset, labels.column, values)
    for name in labels.classes:
        if name not in present:
            raise InputError(f"{source.dataset.name}: " + unknown_name("class", name, present))
    names = labels.classes or present
    if len(names) < 2:
        msg = f"{source.dataset.name}: {labels.column} has {len(names)} class ({', '.join(names)}); two are needed."
        raise InputError(msg)
    numbered = len(source.dataset.classes) if labels.column == "jet_label" else 0
    anew = f"{len(names)} of the {numbered} classes of {labels.column} are used, numbered anew"
    return encode(source.dataset, labels.column, values, names), names, (anew,) if numbered > len(names) else ()


def _mixed(
    order: NDArray[np.int64], target: NDArray[np.int64], labels: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mix two classes into two samples of equal size: every second jet is background of the sample without signal.

    Returns:
        The jets in an order whose beginnings are all mixed alike, and the number of each jet's sample.
    """
    signal, background = order[target[order] == 1], order[target[order] == 0]
    n_pairs = labels.n_jets // 2 or min(
        int(len(signal) / labels.signal_fraction), int(len(background) / (2 - labels.signal_fraction))
    )
    # The k-th jet of the mixed sample is signal wherever the wanted number of signal jets steps up.
    steps = np.floor((np.arange(n_pairs) + 1) * labels.signal_fraction) > np.floor(
        np.arange(n_pairs) * labels.signal_fraction
    )
    n_signal, n_background = int(steps.sum()), int(2 * n_pairs - steps.sum())
    if n_signal > len(signal) or n_background > len(background):
        msg = (
            f"mixing takes {n_signal:,} jets of {labels.classes[1]} and {n_background:,} of {labels.classes[0]}, "
            f"but there are {len(signal):,} and {len(background):,}. Ask for fewer labels."
        )
        raise InputError(msg)
    mixed = np.empty(2 * n_pairs, np.int64)
    is_signal = np.zeros(2 * n_pairs, bool)
    is_signal[0::2] = steps
    mixed[is_signal], mixed[~is_signal] = signal[:n_signal], background[:n_background]
    sample = target.copy()
    sample[mixed[0::2]], sample[mixed[1::2]] = 1, 0
    return mixed, sample
