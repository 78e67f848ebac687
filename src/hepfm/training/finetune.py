"""Fine-tune a backbone to somebody's jets: a tagger of classes, of mixed samples, or of a number."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from hepfm.errors import InputError
from hepfm.models import AutoModel, AutoModelForSequenceClassification, JetForSequenceClassification
from hepfm.models.classifier import Backbone
from hepfm.table import JetTable
from hepfm.training.augmentation import check_turnable, turn
from hepfm.training.batches import Batch, PaddedJets
from hepfm.training.finetuning import ALL_VARIATIONS, Finetuning
from hepfm.training.labels import Chosen, choose
from hepfm.training.origin import describe_data, digests_of
from hepfm.training.recipes import Optimisation
from hepfm.training.run import Report, Training, rank_and_size, train
from hepfm.training.scoring import FINETUNING, inputs_of, missing_inputs, needed_columns
from hepfm.training.source import Source, first_variation, open_source
from hepfm.training.stream import Stream

_TARGET = "labels"
_VALIDATION_BATCH = 256
# Enough to know means and widths by.
_NORMALISATION_JETS = 20_000


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What came of it: the folder, the network, the recipe with all that was decided, and notes in sentences."""

    folder: Path
    model: PreTrainedModel
    recipe: Finetuning
    n_training: int
    n_validation: int
    notes: tuple[str, ...]


class TrainingJets:
    """The jets that may train, opened once for one or many trainings."""

    def __init__(self, recipe: Finetuning) -> None:
        """Open the sources of a recipe.

        Raises:
            InputError: there is no such source, variation or column map.
        """
        datasets = [open_source(name, recipe.columns) for name in recipe.data]
        every = recipe.variation == ALL_VARIATIONS
        self.sources = [Source(d, "train", None if every else recipe.variation or first_variation(d)) for d in datasets]
        self.origin = [describe_data(dataset) for dataset in datasets]
        self._kept: dict[int, tuple[NDArray[np.int64], JetTable]] = {}

    @property
    def is_kept(self) -> bool:
        """Whether jets are in memory already."""
        return bool(self._kept)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that all sources have."""
        first, *others = (source.dataset.columns for source in self.sources)
        return tuple(name for name in first if all(name in other for other in others))

    def keep(self, choices: Sequence[Chosen], names: Sequence[str]) -> None:
        """Read what several trainings choose, so that none of them reads the files again."""
        for number, source in enumerate(self.sources):
            places = np.unique(np.concatenate([c.places[c.source == number] for c in choices]))
            self._kept[number] = places, source.read(names, places)

    def read(self, chosen: Chosen, names: Sequence[str]) -> JetTable:
        """The chosen jets, in their order."""
        tables, order = [], []
        for number, source in enumerate(self.sources):
            mine = np.flatnonzero(chosen.source == number)
            places, back = np.unique(chosen.places[mine], return_inverse=True)
            if number in self._kept:
                kept, table = self._kept[number]
                tables.append(table.only(names).select(np.searchsorted(kept, places)[back]))
            else:
                tables.append(source.read(names, places).select(back))
            order.append(mine)
        joined = JetTable.concatenate(tables)
        return joined.select(np.argsort(np.concatenate(order), kind="stable"))


def finetune(
    recipe: Finetuning, out: Path, *, jets: TrainingJets | None = None, report: Report | None = None
) -> Finetuned:
    """Fine-tune a network, or go on with a fine-tuning that was interrupted.

    Only jets of the training split are used; those of a validation share decide which epoch's weights are kept,
    without one they are the last.

    Args:
        recipe: what to do.
        out: folder of the result, which `AutoModelForSequenceClassification.from_pretrained` loads.
        jets: of the recipe, if they are open already.
        report: told how it proceeds.

    Raises:
        InputError: no such checkpoint, data, column or class; or jets that lack an input.
        CampaignError: the folder holds another training, or files that are of none.
        StorageError: a file cannot be written, or the Hub cannot be reached.
    """
    if rank_and_size()[1] > 1:
        msg = "fine-tuning runs in one process; start it without torchrun."
        raise InputError(msg)
    jets = jets or TrainingJets(recipe)
    backbone: Backbone = AutoModel.from_pretrained(recipe.checkpoint)
    inputs = tuple(inputs_of(backbone))
    if recipe.rotate:
        check_turnable(inputs)
    missing = missing_inputs(inputs, jets.columns)
    columns = needed_columns(inputs, jets.columns, missing if recipe.allow_missing else ())
    chosen = choose(jets.sources, recipe.labels, regression=recipe.task == "regression", seed=recipe.seed)
    table = jets.read(chosen, columns)
    if not (~chosen.is_validation).any():
        msg = f"{len(chosen)} labelled jets leave none to train on. Ask for more, or a smaller validation share."
        raise InputError(msg)
    recipe = recipe.resolved(int((~chosen.is_validation).sum()))
    parts = [
        _labelled_jets(table, chosen, side, inputs, recipe) for side in (~chosen.is_validation, chosen.is_validation)
    ]
    model = _make_model(recipe, backbone, chosen, parts[0])
    setattr(
        model.config,
        FINETUNING,
        {
            "label": recipe.labels.column,
            "task": recipe.task,
            "mode": recipe.mode,
            "checkpoint": recipe.checkpoint,
            "n_constituents": recipe.n_constituents,
            "missing_inputs": list(missing),
            "data": [digest for origin in jets.origin for digest in digests_of(origin)],
        },
    )
    optimisation = _optimisation(recipe, len(parts[0]), n_validation=len(parts[1]))
    training = Training(
        model,
        _stream(parts[0], inputs, recipe, optimisation),
        optimisation,
        recipe,
        {
            "sources": jets.origin,
            "variation": [source.variation for source in jets.sources],
            "classes": list(chosen.names),
            "n_training": len(parts[0]),
            "n_validation": len(parts[1]),
            "chosen": hashlib.sha256(chosen.places.tobytes() + chosen.target.tobytes()).hexdigest(),
            "missing_inputs": list(missing),
            "notes": list(chosen.notes),
        },
        evaluate=_validation(parts[1]) if len(parts[1]) else None,
        learning_rates={"backbone.": recipe.backbone_rate or 0.0},
        keep_best="loss" if len(parts[1]) else None,
        patience=recipe.patience,
    )
    train(training, out, report=report)
    for folder in out.glob("checkpoint-*"):
        shutil.rmtree(folder)
    notes = list(chosen.notes)
    notes += [f"the jets have no {', '.join(missing)}: unknown to the network"] * bool(missing)
    if recipe.labels.validation_share and not len(parts[1]):
        notes.append("no labelled jet is left for validation: the last weights are kept")
    model = AutoModelForSequenceClassification.from_pretrained(out)
    return Finetuned(out, model, recipe, len(parts[0]), len(parts[1]), tuple(notes))


def _labelled_jets(
    table: JetTable, chosen: Chosen, side: NDArray[np.bool_], inputs: Sequence[str], recipe: Finetuning
) -> PaddedJets:
    part = table.select(side)
    labelled = JetTable({_TARGET: chosen.target[side]}, part.offsets, part.constituents)
    return PaddedJets(labelled, inputs, [_TARGET], recipe.n_constituents, trim=True, allow_missing=recipe.allow_missing)


def _make_model(
    recipe: Finetuning, backbone: Backbone, chosen: Chosen, jets: PaddedJets
) -> JetForSequenceClassification:
    # New weights are made alike in every mode, so that the modes differ in those of the backbone alone.
    torch.manual_seed(recipe.seed)
    fresh = AutoModel.from_config(backbone.config)
    if recipe.mode == "scratch":
        some = jets.__getitems__(range(min(len(jets), _NORMALISATION_JETS)))
        fresh.fit_normalisation(some["constituents"], some["mask"])
    regression = recipe.task == "regression"
    model = JetForSequenceClassification.from_backbone(
        fresh if recipe.mode == "scratch" else backbone,
        None if regression else chosen.names,
        dropout=recipe.dropout,
        **_head(recipe),
    )
    if regression:
        model.config.id2label, model.config.label2id = {0: chosen.names[0]}, {chosen.names[0]: 0}
        model.fit_labels(torch.from_numpy(chosen.target[~chosen.is_validation]))
    if recipe.mode in ("linear", "frozen"):
        model.backbone.requires_grad_(False)
    return model


def _head(recipe: Finetuning) -> dict[str, Any]:
    """Settings of the head that a network gets."""
    if recipe.mode == "linear":
        return {"head": "pooled", "head_width": 0, "head_dropout": 0.0}
    return {"head": "attention"}


def _optimisation(recipe: Finetuning, n_training: int, n_validation: int) -> Optimisation:
    batch_size, n_epochs = min(recipe.batch_size or 1, n_training), recipe.n_epochs or 1
    an_epoch = n_training // batch_size
    n_steps = n_epochs * an_epoch
    return Optimisation(
        n_steps=n_steps,
        batch_size=batch_size,
        learning_rate=recipe.learning_rate or 0.0,
        schedule="cosine",
        warmup_steps=n_steps // 20,
        weight_decay=recipe.weight_decay or 0.0,
        clip=1.0,
        precision=recipe.precision,
        seed=recipe.seed,
        save_every=recipe.save_every,
        evaluate_every=an_epoch if n_validation else 0,
    )


def _stream(jets: PaddedJets, inputs: Sequence[str], recipe: Finetuning, how: Optimisation) -> Stream:
    def make(rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        batch = jets.__getitems__(rows.tolist())
        if recipe.rotate:
            # The tensor shares its memory with the array.
            turn(batch["constituents"].numpy(), inputs, rng)
        return batch

    return Stream(jets.lengths, make, batch_size=how.batch_size, n_steps=how.n_steps, seed=recipe.seed)


def _validation(jets: PaddedJets) -> Callable[[PreTrainedModel], dict[str, float]]:
    """Measures the loss on jets that train nothing; of a tagger its accuracy, too."""
    order = np.argsort(jets.lengths, kind="stable")
    batches = [order[start : start + _VALIDATION_BATCH] for start in range(0, len(order), _VALIDATION_BATCH)]

    def measure(model: PreTrainedModel) -> dict[str, float]:
        loss, n_right = 0.0, 0
        for rows in batches:
            batch = {name: values.to(model.device) for name, values in jets.__getitems__(rows.tolist()).items()}
            output: Any = model(**batch)
            loss += float(output.loss) * len(rows)
            n_right += int((output.logits.argmax(-1) == batch[_TARGET]).sum())
        is_tagger = model.config.problem_type != "regression"
        return {"loss": loss / len(jets)} | ({"accuracy": n_right / len(jets)} if is_tagger else {})

    return measure
