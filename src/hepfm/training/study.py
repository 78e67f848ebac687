"""How many labels a pre-trained network saves: taggers fine-tuned with few and many labels, and from scratch."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hepfm.atomic import write_whole
from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.inputs import columns_for
from hepfm.markdown import markdown_table
from hepfm.models import AutoModel
from hepfm.run_folder import EVALUATION, ORIGIN, RECIPE, write_json
from hepfm.schema import unknown_name
from hepfm.training.evaluation import EFFICIENCIES, Question, default_split, evaluate, write_evaluation
from hepfm.training.finetune import TrainingJets, finetune
from hepfm.training.finetuning import MODES, Finetuning, Mode
from hepfm.training.labels import Chosen, Labels, choose
from hepfm.training.memory import in_memory
from hepfm.training.origin import describe_data, digests_of
from hepfm.training.recipes import read_recipe, write_recipe
from hepfm.training.scoring import Tagger, inputs_of
from hepfm.training.source import Source, first_variation, open_source, same_events

STUDY, TABLE = "study.json", "study.md"

# Begin the names of measures of how far scores move.
_MOVED, _BY_CHANCE = "wasserstein_", "by_chance_"
_TEST_SEED = 2**34

Progress = Callable[[str, int, int], None]
"""Told the name of a run, the runs done, and the runs in all."""


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        checkpoints: names or folders of backbones.
        data: labelled jets; training takes some of its training split.
        labels: numbers of labelled jets, those for validation among them.
        validation_share: share of them that decides when to stop; with 0 all train, to the end of the schedule.
        n_seeds: trainings of each kind, each with other labels and other new weights.
        modes: of fine-tuning. "scratch" trains each different architecture once.
        column: of jets, that holds the classes.
        classes: names of those to tell apart; all if empty. Classes that a backbone never saw make a study of unseen
            classes.
        test_data: jets to test on, if not the test split of `data`: another simulation.
        split: of the test jets: "test", "validation", "train" or "all"; by default "test", or all of data without
            events that trained nothing.
        variations: views of the test jets, the nominal one first, between which scores are compared; by default the
            first alone.
        signal_fractions: for weak supervision: shares of signal in a sample that is told from pure background;
            `classes` are then background and signal.
        n_test: test jets of each variation, about.
        columns: column map of a table.
        allow_missing: whether jets may lack inputs.
        n_epochs: times each labelled jet is seen; None for what is recommended.
        patience: epochs without a smaller validation loss after which a training stops.
        learning_rate: of every mode, as of `Finetuning`; None for what is recommended for each.
        backbone_rate: of "full", as of `Finetuning`; None for what is recommended.
        precision: of matrix products.
    """

    checkpoints: tuple[str, ...]
    data: str
    labels: tuple[int, ...] = (100, 1_000, 10_000)
    validation_share: float = 0.0
    n_seeds: int = 3
    modes: tuple[Mode, ...] = ("scratch", "frozen", "full")
    column: str = "jet_label"
    classes: tuple[str, ...] = ()
    test_data: str | None = None
    split: str | None = None
    variations: tuple[str, ...] = ()
    signal_fractions: tuple[float, ...] = ()
    n_test: int = 20_000
    columns: str | None = None
    allow_missing: bool = False
    n_epochs: int | None = None
    patience: int = 10
    learning_rate: float | None = None
    backbone_rate: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        """Check what is compared.

        Raises:
            InputError: nothing to compare, or an unknown mode.
        """
        for mode in self.modes:
            if mode not in MODES:
                raise InputError(unknown_name("mode", mode, MODES))
        if not (self.checkpoints and self.labels and self.modes) or min(*self.labels, self.n_seeds, self.n_test) < 1:
            msg = "a study needs at least one checkpoint, number of labels, mode and seed."
            raise InputError(msg)
        if self.signal_fractions and len(self.classes) != 2:
            msg = f"signal fractions need two classes, background and signal; got {', '.join(self.classes) or 'none'}."
            raise InputError(msg)
        if self.backbone_rate is not None and "full" not in self.modes:
            msg = f"a backbone rate goes with the mode full; got {', '.join(self.modes)}. Leave it out."
            raise InputError(msg)


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Attributes:
        network: its name in the table.
        begins: what it begins with, in the name of its folder: the network; or the architecture, by its digest, from
            scratch: that stays when a study grows by networks.
        recipe: of the training.
    """

    network: str
    begins: str
    recipe: Finetuning

    @property
    def name(self) -> str:
        """Of its folder."""
        labels = self.recipe.labels
        fraction = (f"f{labels.signal_fraction:g}",) * bool(labels.signal_fraction)
        return "-".join((self.begins, self.recipe.mode, f"{labels.n_jets}", *fraction, f"s{self.recipe.seed}"))

    def in_folder(self, folder: Path) -> "Run":
        """The same as it was begun there: from scratch, any network of the architecture does.

        Raises:
            InputError: the folder's recipe is damaged.
        """
        if self.recipe.mode != "scratch" or not (folder / RECIPE).exists():
            return self
        begun = read_recipe(Finetuning, folder / RECIPE)
        return replace(self, recipe=replace(self.recipe, checkpoint=begun.checkpoint))


def plan(study: Study) -> tuple[Run, ...]:
    """The trainings of a study, those with few labels first.

    Raises:
        InputError: there is no such checkpoint, or it is no backbone.
    """
    architectures = {name: _architecture(name) for name in study.checkpoints}
    names = _short_names(study.checkpoints)
    first_of: dict[str, str] = {}
    for name, architecture in architectures.items():
        first_of.setdefault(architecture, name)
    runs = []
    for n_jets in sorted(study.labels):
        for fraction in study.signal_fractions or (0.0,):
            for seed in range(1, study.n_seeds + 1):
                for mode in study.modes:
                    for name, architecture in architectures.items():
                        if mode == "scratch" and first_of[architecture] != name:
                            continue
                        recipe = Finetuning(
                            name,
                            (study.data,),
                            columns=study.columns,
                            mode=mode,
                            labels=Labels(
                                study.column, study.classes, n_jets, study.validation_share, signal_fraction=fraction
                            ),
                            allow_missing=study.allow_missing,
                            n_epochs=study.n_epochs,
                            patience=study.patience,
                            learning_rate=study.learning_rate,
                            backbone_rate=study.backbone_rate if mode == "full" else None,
                            precision=study.precision,
                            seed=seed,
                        )
                        begins = architecture if mode == "scratch" else names[name]
                        alone = mode == "scratch" and len(first_of) == 1
                        runs.append(Run("" if alone else names[name], begins, recipe))
    return tuple(runs)


def run_study(study: Study, out: Path, *, report: Progress | None = None) -> dict[str, Any]:
    """Train and test whatever of a study is not finished, and write the table.

    Args:
        study: what is compared.
        out: folder; `runs/` holds a folder a training. Finished trainings are not run again, an interrupted one goes
            on.
        report: told which training runs.

    Returns:
        What `study.json` holds: the study; whether jets that trained are among those of the test; `rows`: network,
        mode, number of labels and signal fraction, with mean, spread (standard deviation over seeds) and values of each
        measure; and where views are compared `histograms`: network, mode, number of labels, signal fraction, and by
        variation and true class the counts of scores, of all seeds together.

    Raises:
        InputError: no such checkpoint, data or class, or fewer jets than labels wanted.
        CampaignError: a folder holds another training of that name.
        StorageError: a file cannot be written.
    """
    runs = plan(study)
    jets = TrainingJets(runs[0].recipe)
    chosen: dict[tuple[Labels, int], Chosen] = {}
    for run in runs:
        key = run.recipe.labels, run.recipe.seed
        if key not in chosen:
            chosen[key] = choose(jets.sources, key[0], regression=False, seed=key[1])
    inputs = dict.fromkeys(i for name in study.checkpoints for i in inputs_of(AutoModel.from_pretrained(name)))
    names = [c for c in columns_for(tuple(inputs)) if c in jets.columns]
    test = _TestJets(study, tuple(inputs), digests_of(jets.origin[0]))
    found: list[tuple[Run, dict[str, Any]]] = []
    for done, planned in enumerate(runs):
        if report is not None:
            report(planned.name, done, len(runs))
        folder = out / "runs" / planned.name
        run = planned.in_folder(folder)
        training = chosen[run.recipe.labels, run.recipe.seed]
        recipe = run.recipe.resolved(int((~training.is_validation).sum()))
        evaluation = _finished(folder, recipe, jets.origin, test)
        if evaluation is None:
            # Only now, for a study that is finished needs no jets.
            if not jets.is_kept:
                jets.keep(list(chosen.values()), names)
            finetune(run.recipe, folder, jets=jets)
            evaluation = test.evaluate(folder)
        found.append((run, evaluation))
        result = {
            "study": asdict(study),
            "test": test.described,
            "has_training_jets": any(evaluation["has_training_jets"] for _, evaluation in found),
            "rows": list(_rows(found)),
            "histograms": list(_histograms(found)),
        }
        write_json(out / STUDY, result)
        write_whole(out / TABLE, study_table(result).encode())
    if report is not None:
        report("", len(runs), len(runs))
    return result


class _TestJets:
    """The jets that every network of a study is tested on."""

    def __init__(self, study: Study, inputs: Sequence[str], trained_on: Sequence[str]) -> None:
        self._dataset = open_source(study.test_data or study.data, study.columns)
        self._study, self._inputs = study, inputs
        self._loaded: Dataset | None = None
        split = default_split(self._dataset, trained_on) if study.split is None else study.split
        split = None if split == "all" else split
        self.described = {**describe_data(self._dataset), "split": split or "all", "n_wanted": study.n_test}
        names = study.variations or (first_variation(self._dataset),)
        self._sources = {name: Source(self._dataset, split, name) for name in names}
        weak = bool(study.signal_fractions)
        self.question = Question(
            label=study.column,
            signal=study.classes[1:] if weak else (),
            background=study.classes[:1] if weak else (),
            split=None,
            variations=study.variations,
        )

    def evaluate(self, folder: Path) -> dict[str, Any]:
        tagger = Tagger.load(str(folder), allow_missing=self._study.allow_missing)
        if self._loaded is None:
            self._loaded = self._load()
        found = evaluate(tagger, self._loaded, self.question, described=self.described)
        write_evaluation(found, folder)
        return found

    def _load(self) -> Dataset:
        known = self._dataset.columns
        wanted = (*columns_for(tuple(self._inputs)), self._study.column, "event_id", "jet_index")
        names = [c for c in dict.fromkeys(wanted) if c in known]
        places = same_events(list(self._sources.values()), self._study.n_test, _TEST_SEED)
        read = zip(self._sources.items(), places, strict=True)
        return in_memory({name: source.read(names, rows) for (name, source), rows in read}, self._dataset)


def _finished(
    folder: Path, recipe: Finetuning, origin: Sequence[dict[str, Any]], test: _TestJets
) -> dict[str, Any] | None:
    """The evaluation of a training that is finished, if it is the one that is wanted."""
    paths = [folder / name for name in (EVALUATION, RECIPE, ORIGIN, "model.safetensors")]
    if not all(path.exists() for path in paths):
        return None
    evaluation: dict[str, Any] = json.loads(paths[0].read_text(encoding="utf-8"))
    sources = json.loads(paths[2].read_text(encoding="utf-8"))["data"].get("sources")
    same = (
        paths[1].read_text(encoding="utf-8") == write_recipe(recipe)
        and sources == json.loads(json.dumps(list(origin)))
        and evaluation.get("data") == json.loads(json.dumps(test.described))
        and evaluation.get("question") == json.loads(json.dumps(asdict(test.question)))
    )
    return evaluation if same else None


def _groups(found: Sequence[tuple[Run, dict[str, Any]]]) -> dict[tuple[str, str, int, float], list[dict[str, Any]]]:
    """The evaluations of all seeds, by network, mode, number of labels and signal fraction."""
    groups: dict[tuple[str, str, int, float], list[dict[str, Any]]] = {}
    for run, evaluation in found:
        labels = run.recipe.labels
        key = run.network, run.recipe.mode, labels.n_jets, labels.signal_fraction
        groups.setdefault(key, []).append(evaluation)
    return groups


def _histograms(found: Sequence[tuple[Run, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for (network, mode, n_labels, fraction), evaluations in _groups(found).items():
        if "robustness" not in evaluations[0]:
            continue
        histograms = [evaluation["robustness"]["histograms"] for evaluation in evaluations]
        counts = {
            variation: {
                name: np.sum([h["counts"][variation][name] for h in histograms], axis=0).tolist() for name in by_class
            }
            for variation, by_class in histograms[0]["counts"].items()
        }
        yield {
            "network": network,
            "mode": mode,
            "n_labels": n_labels,
            "signal_fraction": fraction,
            "edges": histograms[0]["edges"],
            "counts": counts,
        }


def _rows(found: Sequence[tuple[Run, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for (network, mode, n_labels, fraction), evaluations in _groups(found).items():
        row: dict[str, Any] = {
            "network": network,
            "mode": mode,
            "n_labels": n_labels,
            "signal_fraction": fraction,
            "n_runs": len(evaluations),
        }
        measured = [_measures(evaluation) for evaluation in evaluations]
        for name in measured[0]:
            values = [found[name] for found in measured if found.get(name) is not None]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            # A mean over some runs only would be of the lucky ones.
            if len(values) == len(evaluations):
                row[name] = {"mean": float(np.mean(values)), "spread": spread, "values": values}
        yield row


def _measures(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What a table of studies shows of an evaluation, None where there is no number."""
    found = {
        "accuracy": evaluation["accuracy"]["value"] if "accuracy" in evaluation else None,
        "auc": evaluation["auc"],
    }
    found |= {f"rejection_at_{efficiency:g}": _rejection(evaluation, efficiency) for efficiency in EFFICIENCIES}
    robustness = evaluation.get("robustness", {"variations": {}, "spread": {}})
    for name, by_class in robustness["variations"].items():
        found[_MOVED + name] = _distance(by_class, "value")
        found[_BY_CHANCE + name] = _distance(by_class, "by_chance")
    if spreads := [spread["value"] for spread in robustness["spread"].values() if spread is not None]:
        found["spread_over_views"] = float(np.mean(spreads))
    return found


def _distance(by_class: dict[str, Any], which: str) -> float | None:
    """Mean over the true classes of how far scores move between the nominal and another variation."""
    moves = [distances["wasserstein"][which] for distances in by_class.values() if distances is not None]
    return float(np.mean(moves)) if moves and None not in moves else None


def _rejection(evaluation: dict[str, Any], efficiency: float) -> float | None:
    """Geometric mean over the signal classes of background rejection at a signal efficiency."""
    values = [r[f"{efficiency:g}"]["value"] for r in evaluation["rejection"].values()]
    if not values or None in values:
        return None
    return math.exp(float(np.mean(np.log(values))))


def study_table(result: dict[str, Any]) -> str:
    """The rows of a study as a table in Markdown; ± is the standard deviation over seeds.

    Below it stands whether jets that trained the networks are among those that they were tested on.
    """
    weak = len({row["signal_fraction"] for row in result["rows"]}) > 1
    # In the order of the row that has most of them.
    fullest = sorted(result["rows"], key=len, reverse=True)
    known = dict.fromkeys(k for row in fullest for k, v in row.items() if isinstance(v, dict))
    measures = [name for name in known if not name.startswith(_BY_CHANCE)]
    titles = [name.replace("_", " ") + " (by chance)" * name.startswith(_MOVED) for name in measures]
    head = ["network", "mode", "labels", *["signal fraction"] * weak, *titles, "runs"]
    lines = []
    for row in result["rows"]:
        cells = [row["network"] or "-", row["mode"], f"{row['n_labels']:,}", *[f"{row['signal_fraction']:g}"] * weak]
        lines.append([*cells, *(_cell(row, name) for name in measures), str(row["n_runs"])])
    among = "\nJets that trained the networks are among those of the test: they look better than they are.\n"
    return markdown_table(head, lines) + (among if result["has_training_jets"] else "")


def _cell(row: dict[str, Any], name: str) -> str:
    """A measure with its spread; of a distance of scores also what it would be by chance."""
    measured, by_chance = row.get(name), row.get(name.replace(_MOVED, _BY_CHANCE))
    if measured is None:
        return ""
    digits = 1 if measured["mean"] >= 10 else 3
    spread = "" if measured["spread"] is None else f" ± {measured['spread']:.{digits}f}"
    chance = f" ({by_chance['mean']:.{digits}f})" if name.startswith(_MOVED) and by_chance is not None else ""
    return f"{measured['mean']:.{digits}f}{spread}{chance}"


def _architecture(name: str) -> str:
    """A short digest of what is the same for networks that only differ in their weights."""
    # Without the defaults of transformers, which change with its versions.
    config = AutoModel.from_pretrained(name).config.to_diff_dict()
    for key in ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"):
        config.pop(key, None)
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _short_names(checkpoints: Sequence[str]) -> dict[str, str]:
    """The last part of each name, or all of it where that is not unique."""
    last = [Path(name).name for name in checkpoints]
    return {
        name: short if last.count(short) == 1 else name.strip("/.").replace("/", "_")
        for name, short in zip(checkpoints, last, strict=True)
    }
