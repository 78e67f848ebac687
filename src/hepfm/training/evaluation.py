"""What a tagger is worth on jets with labels, as one JSON object that figures and model cards are made of."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.run_folder import EVALUATION, finite, write_json
from hepfm.schema import unknown_name
from hepfm.training.classes import class_names, encode
from hepfm.training.labels import MIXED
from hepfm.training.metrics import Roc, accuracy, auc, auc_error, confusion, rejection, roc
from hepfm.training.origin import describe_data, is_part_of
from hepfm.training.robustness import N_BINS, View, compare_views
from hepfm.training.scoring import Tagger
from hepfm.training.source import Source

EFFICIENCIES = (0.3, 0.5, 0.7)
"""Signal efficiencies at which background rejection is reported, as RS3L does (arXiv:2403.07066)."""
_ROC_POINTS = 201
# Names in an error.
_MOST_SHOWN = 12

Progress = Callable[[str, int, int], None]
"""Told a variation, the jets done, and the jets in all."""


@dataclass(frozen=True)
class Question:
    """What is asked of a tagger.

    Attributes:
        label: column of the true classes, or of the true numbers for a regression.
        signal: names of the classes that count as signal; by default each class against the background.
        background: names of the classes that count as background; by default QCD, or else the tagger's first class.
        split: "test", "validation", "train", or None for all jets.
        variations: by default all, the first of which is the nominal one.
        n_jets: about so many of each variation, of the same events; 0 for all.
        n_bootstrap: samples for the errors of distances.
    """

    label: str = "jet_label"
    signal: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    split: str | None = "test"
    variations: tuple[str, ...] = ()
    n_jets: int = 0
    n_bootstrap: int = 50

    def limited(self, n_jets: int) -> "Question":
        """The same of about so many jets of each variation."""
        return replace(self, n_jets=n_jets)


@dataclass(frozen=True, eq=False)
class Scored:
    """Jets of one variation: `scores` of shape (N, C), `truth` (class or number), and what identifies them, (N,).

    Event weights are not used; `has_weights` says whether they differ.
    """

    scores: NDArray[np.float32]
    truth: NDArray[Any]
    events: NDArray[np.int64]
    jets: NDArray[np.int64]
    n_unknown: int
    has_weights: bool = False


def evaluate(
    tagger: Tagger,
    dataset: Dataset,
    question: Question,
    *,
    described: dict[str, Any] | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """Score jets and compare with the truth.

    Args:
        tagger: the network.
        dataset: jets with labels.
        question: which jets, and what is signal.
        described: what to say of the data, with their split; by default what `describe_data` finds.
        report: told how it proceeds.

    Returns:
        Plain values that JSON can hold: figures of merit with their errors, curves, distances between variations;
        infinite and undefined ones are None.

    Raises:
        InputError: the data lack labels or inputs, or have no jet of the tagger's classes.
    """
    names = question.variations or dataset.variations or (None,)
    truth = _true_classes(tagger, dataset, question)
    truth_names = tuple(truth)
    sources = {name or "all": Source(dataset, question.split, name) for name in names}
    share = _share(next(iter(sources.values())), question)
    scored = {
        name: _score(tagger, source, number, share, question, truth, report)
        for number, (name, source) in enumerate(sources.items())
    }
    nominal = next(iter(scored.values()))
    where = f"the {question.split} split of {dataset.name}" if question.split else dataset.name
    if not len(nominal.truth):
        wanted = "finite number" if tagger.is_regression else f"class {', '.join(truth_names)}"
        msg = f"{where}: no jet whose {question.label} is a {wanted}. Name another split (--split all) or label."
        raise InputError(msg)
    data = described or describe_data(dataset)
    split = data.get("split", question.split or "all")
    found: dict[str, Any] = {
        "data": data,
        "question": asdict(question),
        "split": split,
        "has_training_jets": (data["digest"] in tagger.digests and split in ("all", "train"))
        or is_part_of(data, tagger.digests),
        "label": question.label,
        "classes": list(truth_names),
        "n_jets": len(nominal.truth),
        "n_left_out": nominal.n_unknown,
        "has_weights": any(some.has_weights for some in scored.values()),
        "variation": next(iter(scored)),
    }
    found |= _residuals(nominal) if tagger.is_regression else _merit(tagger, nominal, truth, question)
    if len(scored) > 1:
        found["robustness"] = _robustness(tagger, scored, truth, question)
        rest = {n: s for n, s in scored.items() if len(s.truth)}
        found["robustness"]["merit"] = {n: _headline(tagger, s, truth, question) for n, s in rest.items()}
    return dict(finite(found))


def write_evaluation(found: dict[str, Any], folder: Path) -> Path:
    """Write what `evaluate` found into a folder, and give the file's path.

    Raises:
        StorageError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / EVALUATION, found)
    return folder / EVALUATION


def default_split(dataset: Dataset, trained_on: Sequence[str]) -> str | None:
    """Which split to test on if nobody says: "test" where the jets, or their events, may have been trained on.

    Args:
        dataset: to test on.
        trained_on: digests of the data that a network was trained on, see `digests_of`.

    Returns:
        "test"; or None, which stands for all jets.

    Raises:
        InputError: some of the files trained the network, and only all of them together tell which jets did.
    """
    if dataset.knows_events:
        return "test"
    described = describe_data(dataset)
    if is_part_of(described, trained_on):
        msg = (
            f"{dataset.name}: shares files with the jets that trained the network; without event_id, only those files "
            "together tell which jets did. Name just them, or only others; --split all takes all jets as they are."
        )
        raise InputError(msg)
    return "test" if described["digest"] in trained_on else None


def background_of(classes: Sequence[str]) -> tuple[str, ...]:
    """Which classes are background if nobody says: those of QCD, or else the first."""
    qcd = tuple(name for name in classes if name == "QCD" or name.startswith("QCD_"))
    return qcd or tuple(classes[:1])


_Truth = Mapping[str, tuple[str, ...]]
"""What the true classes are called, and the data's classes that each of them is made of."""


def _true_classes(tagger: Tagger, dataset: Dataset, question: Question) -> _Truth:
    """The true classes; those of the tagger, or what is called background and signal."""
    if not question.signal and tagger.classes == MIXED:
        _check_mixed_samples(dataset, question.label)
    if tagger.is_regression or not question.signal:
        return {name: (name,) for name in tagger.classes}
    if tagger.classes != MIXED:
        _check_known(tagger, question)
    present = class_names(dataset, question.label, Source(dataset, None).column(question.label))
    background = question.background or background_of([n for n in present if n not in question.signal])
    for name in (*question.signal, *background):
        if name not in present:
            raise InputError(f"{dataset.name}: " + unknown_name("class", name, present))
    return {"+".join(background): background, "+".join(question.signal): question.signal}


def _check_known(tagger: Tagger, question: Question) -> None:
    """Check that a tagger knows what is asked of it; of two classes one may call the background otherwise.

    Raises:
        InputError: a class is unknown to it, or none is left for the background.
    """
    asked = question.signal + (question.background if len(tagger.classes) > 2 else ())
    if unknown := set(asked) - set(tagger.classes):
        raise InputError(unknown_name("class of the tagger", min(unknown), tagger.classes))
    if set(tagger.classes) <= set(question.signal):
        msg = f"--signal names all classes of the tagger, {', '.join(tagger.classes)}: leave one for the background."
        raise InputError(msg)


def _check_mixed_samples(dataset: Dataset, label: str) -> None:
    """Check that jets are labelled with the mixed sample that they are of.

    Raises:
        InputError: they are labelled with anything else; then somebody has to say what is signal.
    """
    present = class_names(dataset, label, Source(dataset, None).column(label))
    if not set(MIXED) & set(present):
        some = ", ".join(present[:_MOST_SHOWN]) + ", ..." * (len(present) > _MOST_SHOWN)
        msg = (
            f"{dataset.name}: the tagger tells two mixed samples apart ({', '.join(MIXED)}). Name the classes that are "
            f"signal with --signal, and the background with --background; {label} has {some}."
        )
        raise InputError(msg)


def _share(source: Source, question: Question) -> float:
    """The share of the events that is scored: that of the first variation, so that all have the same ones.

    Raises:
        InputError: the jets have no such label.
    """
    source.check_column(question.label)
    return min(1.0, question.n_jets / max(1, len(source.events()))) if question.n_jets else 1.0


def _score(
    tagger: Tagger,
    source: Source,
    number: int,
    share: float,
    question: Question,
    classes: _Truth,
    report: Progress | None,
) -> Scored:
    """Score a share of the events of the variation of some number."""
    dataset = source.dataset
    further = [name for name in ("event_id", "jet_index", "weight") if name in dataset.columns]
    weights: set[float] = set()
    scores, labels, events, jets, done = [], [], [], [], 0
    for table, found in tagger.score_source(source, (question.label, *further), share):
        weights.update(np.unique(table.columns.get("weight", 1.0))[:2].tolist())
        scores.append(found)
        labels.append(table.columns[question.label])
        # Jets that nothing identifies are no views of each other.
        unlike = np.arange(done, done + table.n_jets) + number * 2**40
        events.append(table.columns.get("event_id", unlike).astype(np.int64))
        jets.append(table.columns.get("jet_index", unlike).astype(np.int64))
        done += table.n_jets
        if report is not None:
            report(source.variation or "", done, len(dataset))
    if not done:
        empty = np.empty(0, np.int64)
        return Scored(np.empty((0, len(tagger.classes)), np.float32), empty, empty, empty, 0)
    values = np.concatenate(labels)
    truth: NDArray[Any]
    if tagger.is_regression:
        truth = values.astype(np.float64)
        known = np.isfinite(truth)
    else:
        truth = _codes(dataset, question, values, classes)
        known = truth >= 0
    all_scores = np.concatenate(scores)
    return Scored(
        all_scores[known],
        truth[known],
        np.concatenate(events)[known],
        np.concatenate(jets)[known],
        int((~known).sum()),
        len(weights) > 1,
    )


def _codes(dataset: Dataset, question: Question, values: NDArray[Any], classes: _Truth) -> NDArray[np.int64]:
    """Number of each jet's class in `classes`, -1 if it is in none."""
    owners = [number for number, parts in enumerate(classes.values()) for _ in parts]
    flat = [name for parts in classes.values() for name in parts]
    return np.array([*owners, -1])[encode(dataset, question.label, values, flat)]


def _merit(tagger: Tagger, scored: Scored, classes: _Truth, question: Question) -> dict[str, Any]:
    """Everything that is known of a tagger of classes."""
    found = _headline(tagger, scored, classes, question)
    curves, rejections, against = {}, {}, {}
    for name, score, is_signal, used in _contests(tagger, scored, classes, question):
        n_signal = int(is_signal[used].sum())
        if n_signal in (0, int(used.sum())):
            continue
        curve = roc(score[used], is_signal[used])
        curves[name] = _curve(curve)
        rejections[name] = {f"{e:g}": asdict(rejection(curve, e)) for e in EFFICIENCIES}
        area = auc(score[used], is_signal[used])
        against[name] = {"value": area, "error": auc_error(area, curve.n_signal, curve.n_background)}
    found |= {"background": _background(tuple(classes), question), "auc_against_background": against}
    found |= {"rejection": rejections, "roc": curves}
    if not question.signal:
        predicted = scored.scores.argmax(axis=1).astype(np.int64)
        found["confusion"] = confusion(scored.truth, predicted, len(classes)).tolist()
    return found


def _headline(tagger: Tagger, scored: Scored, classes: _Truth, question: Question) -> dict[str, Any]:
    """The figures that stand for the rest: accuracy and areas; of a regression, its errors."""
    if tagger.is_regression:
        return _residuals(scored)
    found: dict[str, Any] = {}
    names = tuple(classes)
    if question.signal:
        ((_, score, is_signal, used),) = _contests(tagger, scored, classes, question)
        areas = {names[1]: auc(score[used], is_signal[used])}
    else:
        found["accuracy"] = asdict(accuracy(scored.truth, scored.scores.argmax(axis=1)))
        areas = {name: auc(scored.scores[:, c], scored.truth == c) for c, name in enumerate(names)}
    known = [area for area in areas.values() if not math.isnan(area)]
    found["auc"] = float(np.mean(known)) if known else math.nan
    return found | {"auc_against_rest": areas}


def _background(names: tuple[str, ...], question: Question) -> list[str]:
    if question.signal:
        return [names[0]]
    for name in question.background:
        if name not in names:
            raise InputError(unknown_name("class of the tagger", name, names))
    return list(question.background or background_of(names))


def _contests(
    tagger: Tagger, scored: Scored, classes: _Truth, question: Question
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Each signal class against the background: its name, the score, which jets are signal, and which count at all.

    The score is the signal's share of the probabilities of both.
    """
    names = tuple(classes)
    background = _background(names, question)
    if question.signal and tagger.classes == MIXED:
        # More of the signal is in the second sample.
        score = scored.scores[:, 1].astype(np.float64)
        yield names[1], score, scored.truth == 1, np.ones(len(scored.truth), bool)
        return
    against = classes[names[0]] if question.signal else background
    if question.signal and len(tagger.classes) == 2:  # whatever the background is called
        against = [name for name in tagger.classes if name not in question.signal]
    rest = _summed(tagger, scored, against)
    is_background = np.isin(scored.truth, [names.index(name) for name in background])
    for number, name in enumerate(names):
        if name not in background:
            signal = _summed(tagger, scored, classes[name])
            is_signal = scored.truth == number
            yield name, signal / np.maximum(signal + rest, 1e-30), is_signal, is_signal | is_background


def _summed(tagger: Tagger, scored: Scored, classes: Sequence[str]) -> NDArray[np.float64]:
    """Probability of any of some classes, those of them that the tagger knows."""
    known = [tagger.classes.index(name) for name in classes if name in tagger.classes]
    total: NDArray[np.float64] = scored.scores[:, known].sum(axis=1, dtype=np.float64)
    return total


def _curve(curve: Roc) -> dict[str, Any]:
    thin = curve.thinned(_ROC_POINTS)
    return {
        "signal": [round(float(e), 6) for e in thin.signal],
        "background": [float(f"{e:.5g}") for e in thin.background],
        "n_signal": curve.n_signal,
        "n_background": curve.n_background,
    }


def _residuals(scored: Scored) -> dict[str, Any]:
    """How far predicted numbers are from the true ones."""
    residual = scored.scores[:, 0].astype(np.float64) - scored.truth
    low, middle, high = np.quantile(residual, [0.16, 0.5, 0.84])
    return {
        "bias": {"value": float(residual.mean()), "error": float(residual.std() / math.sqrt(len(residual)))},
        "median": float(middle),
        "resolution": float((high - low) / 2),
        "mean_absolute_error": float(np.abs(residual).mean()),
        "root_mean_square": float(np.sqrt(np.mean(residual**2))),
        "explained": float(1 - np.mean(residual**2) / max(float(np.var(scored.truth)), 1e-30)),
    }


def _robustness(tagger: Tagger, scored: dict[str, Scored], classes: _Truth, question: Question) -> dict[str, Any]:
    views = {}
    for variation, jets in scored.items():
        if tagger.is_regression:
            score, truth = jets.scores[:, 0].astype(np.float64), np.zeros(len(jets.truth), np.int64)
        elif question.signal:
            ((_, signal, is_signal, _),) = _contests(tagger, jets, classes, question)
            score, truth = np.where(is_signal, signal, 1 - signal), jets.truth
        else:
            truth = jets.truth
            score = np.take_along_axis(jets.scores, truth[:, np.newaxis], axis=1)[:, 0].astype(np.float64)
        views[variation] = View(score, truth, jets.events, jets.jets)
    edges = np.linspace(0, 1, N_BINS + 1)
    if tagger.is_regression:
        low, high = np.quantile(next(iter(views.values())).score, [0.001, 0.999]).tolist()
        edges = np.linspace(low, high if high > low else low + 1, N_BINS + 1)
    return compare_views(views, tuple(classes), edges, question.n_bootstrap)
