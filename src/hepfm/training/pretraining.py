"""Pre-train a backbone: masked particle modelling, RS3L, or both, from a recipe and a dataset."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from hepfm.dataset import Dataset, Selection
from hepfm.errors import InputError
from hepfm.inputs import columns_for
from hepfm.models import AutoModel
from hepfm.models.backbone import JetBackbone
from hepfm.models.classifier import Backbone
from hepfm.models.configuration import EdgeConvConfig, sized
from hepfm.models.edgeconv import EdgeConvBackbone
from hepfm.models.mpm import MaskedJetModel, MaskedModelling, Target
from hepfm.models.rs3l import Contrast, ContrastiveJetModel, JointJetModel
from hepfm.schema import TRACKS, TYPE_FLAGS
from hepfm.table import JetTable
from hepfm.training.batches import PaddedJets
from hepfm.training.jet_targets import COLUMNS, Scale, jet_targets
from hepfm.training.masking import CODES, Encode, MaskedBatches, Views
from hepfm.training.origin import describe_data
from hepfm.training.probe import Probe
from hepfm.training.recipes import Optimisation
from hepfm.training.run import Report, Training, rank_and_size, train
from hepfm.training.scoring import missing_inputs
from hepfm.training.source import Source
from hepfm.training.stream import Make, Stream
from hepfm.training.views import PairBatches, ViewPairs, alignment, first_lengths, masked_pairs, rows_of_views

LABEL = "jet_label"

_N_NORMALISATION = 20_000

# By which views of the same jet find each other.
_IDENTITY = ("event_id", "jet_index", "variation")
# Between numbers of events of different datasets.
_APART = 2**48


@dataclass(frozen=True)
class BackboneRecipe:
    """Which network is pre-trained.

    Attributes:
        checkpoint: name or folder of a backbone to go on with, which says all the rest; empty for new weights.
        kind: "transformer", or "edgeconv", RS3L's graph network.
        size: of the transformer: tiny, small, base or large.
        inputs: names of `hepfm.inputs.INPUTS`; empty for the usual ones of the kind.
        derived: names of `hepfm.models.derived.DERIVED`; the usual ones, if `inputs` is empty.
        dropout: share of what every layer adds that is left out.
        n_registers: learned vectors that attend with the constituents.
        pooling: of the transformer: mean, sum or registers.
        k: neighbours in the graph.
    """

    checkpoint: str = ""
    kind: Literal["transformer", "edgeconv"] = "transformer"
    size: Literal["tiny", "small", "base", "large"] = "tiny"
    inputs: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    dropout: float = 0.0
    n_registers: int = 0
    pooling: Literal["mean", "sum", "registers"] = "mean"
    k: int = 24

    def __post_init__(self) -> None:
        """Refuse what would be ignored."""
        if self.derived and not self.inputs:
            msg = "backbone.derived goes with backbone.inputs: give both, or neither for the usual ones."
            raise InputError(msg)
        if self.checkpoint and self.dropout:
            msg = "backbone.dropout goes with new weights: leave it out, or backbone.checkpoint."
            raise InputError(msg)

    def make(self) -> Backbone:
        """The backbone as it is before the training.

        Raises:
            InputError: an impossible setting, or no such checkpoint.
        """
        if self.checkpoint:
            backbone: Backbone = AutoModel.from_pretrained(self.checkpoint)
            return backbone
        chosen: dict[str, Any] = {"inputs": self.inputs, "derived": self.derived} if self.inputs else {}
        if self.kind == "edgeconv":
            return EdgeConvBackbone(EdgeConvConfig(k=self.k, dropout=self.dropout, **chosen))
        chosen |= {"dropout": self.dropout, "n_registers": self.n_registers, "pooling": self.pooling}
        return JetBackbone(sized(self.size, **chosen))


@dataclass(frozen=True)
class DataRecipe:
    """Which jets a network learns from, and how they are changed.

    Attributes:
        variations: views that enter, of each dataset those that it has; empty for all that there are. RS3L takes the
            first one for the nominal one.
        processes: hard processes whose jets enter; empty for all that there are.
        n_constituents: of longer jets those of highest transverse momentum are kept.
        n_jets: of the training split of each dataset, chosen at random; 0 for all.
        rotate: whether jets are turned and mirrored about their axis.
        forget: share of the jets whose tracks are unknown, and of those whose particle types are.
        n_validation: jets of the validation split, of each dataset, that evaluations use, chosen at random; 0 for all.
        n_probe: labelled jets of the first dataset that the linear probe is fitted to in each evaluation; 0 for no
            probe.
    """

    variations: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    n_constituents: int = 128
    n_jets: int = 0
    rotate: bool = True
    forget: float = 0.0
    n_validation: int = 10_000
    n_probe: int = 10_000


@dataclass(frozen=True)
class PretrainingRecipe:
    """Everything about a pre-training but its data.

    Attributes:
        objective: "mpm", "rs3l", or "mpm+rs3l" for both at once.
    """

    objective: Literal["mpm", "rs3l", "mpm+rs3l"]
    optimisation: Optimisation
    backbone: BackboneRecipe = field(default_factory=BackboneRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    mpm: MaskedModelling = field(default_factory=MaskedModelling)
    rs3l: Contrast = field(default_factory=Contrast)


def pretrain(
    recipe: PretrainingRecipe,
    datasets: Sequence[Dataset],
    out: Path,
    *,
    report: Report | None = None,
    tensorboard: bool = False,
) -> None:
    """Pre-train a backbone, or go on with a pre-training that was interrupted.

    Labels are read for the linear probe alone, in evaluations; the network never sees one.

    Args:
        recipe: what to do.
        datasets: jets, as `hepfm.open` gives them, of one or more campaigns. Batches mix them, each in proportion to
            its number of jets; views of two campaigns are never taken for views of one event.
        out: folder of the run. When it is finished it holds the backbone, which `AutoModel` loads.
        report: told how it proceeds.
        tensorboard: whether to write its files, too.

    Raises:
        InputError: the recipe does not go with the data.
        CampaignError: the folder holds another training, or files that are of none.
    """
    training = prepare(recipe, datasets)
    train(training, out, report=report, tensorboard=tensorboard)


def prepare(recipe: PretrainingRecipe, datasets: Sequence[Dataset]) -> Training:
    """Read the data and make the network of a pre-training; see `pretrain`.

    Raises:
        InputError: the recipe does not go with the data.
    """
    torch.manual_seed(recipe.optimisation.seed)
    backbone = recipe.backbone.make()
    if "mpm" in recipe.objective and not isinstance(backbone, JetBackbone):
        got = repr(recipe.backbone.checkpoint or recipe.backbone.kind)
        msg = f"objective {recipe.objective!r} needs backbone.kind 'transformer', got {got}"
        raise InputError(msg)
    for dataset in datasets if "mpm" in recipe.objective else ():
        _check_targets(dataset, recipe.mpm.targets)
    codes = _Codes(recipe, backbone.config.inputs)
    training = _Jets(recipe, datasets, "train", backbone, codes)
    validation = _Jets(recipe, datasets, "validation", backbone, codes, training.scale)
    origin: dict[str, Any] = {
        "sources": [describe_data(dataset) for dataset in datasets],
        "n_train": len(training.lengths),
        "tokenizer": codes.digest,
        "missing_inputs": list(
            dict.fromkeys(name for d in datasets for name in missing_inputs(backbone.config.inputs, d.columns))
        ),
    }
    if recipe.backbone.checkpoint:
        origin["checkpoint"] = _digest(backbone)
    else:
        backbone.fit_normalisation(*_sample(training.padded, recipe.optimisation.seed))
    model = _model(recipe, backbone, codes.n_codes)
    rank, n_ranks = rank_and_size()
    stream = Stream(
        training.lengths,
        training.make,
        batch_size=recipe.optimisation.batch_size,
        n_steps=recipe.optimisation.n_steps,
        seed=recipe.optimisation.seed,
        rank=rank,
        n_ranks=n_ranks,
    )
    probe = _probe(recipe, datasets, backbone) if recipe.data.n_probe and rank == 0 else None
    return Training(
        model=model,
        stream=stream,
        optimisation=recipe.optimisation,
        recipe=recipe,
        data=origin,
        evaluate=_Evaluation(validation, recipe, probe),
        kept=_backbone,
    )


def _digest(network: torch.nn.Module) -> str:
    """Of the weights that a training begins with or uses."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Codes:
    """Token ids of constituents.

    A code may say where in the plane of eta and phi a constituent is. Where jets are turned, codes are therefore made
    of the turned jets, batch by batch; where they are not, once and for all before the training.
    """

    def __init__(self, recipe: PretrainingRecipe, inputs: Sequence[str]) -> None:
        self.tokenizer: Any = None
        self.n_codes, self.digest = 0, ""
        if "mpm" not in recipe.objective or "codes" not in recipe.mpm.targets:
            if recipe.mpm.tokenizer:
                msg = "a tokenizer is given, but no codes are to be found: leave it out, or add 'codes' to mpm.targets."
                raise InputError(msg)
            return
        from hepfm.tokenizers import ParticleTokenizer

        if not recipe.mpm.tokenizer:
            msg = "mpm.targets has 'codes': give mpm.tokenizer, the folder or name of a tokenizer, too."
            raise InputError(msg)
        self.tokenizer = ParticleTokenizer.from_pretrained(recipe.mpm.tokenizer)
        self.n_codes = self.tokenizer.n_codes
        self.digest = _digest(self.tokenizer)
        self._turned = recipe.data.rotate
        missing = [name for name in self.tokenizer.inputs if name not in inputs]
        if self._turned and missing:
            msg = f"the tokenizer reads {missing[0]}, the network does not: add it to the inputs, or rotate = false."
            raise InputError(msg)
        self._places = [list(inputs).index(name) for name in self.tokenizer.inputs if name in inputs]

    @property
    def columns(self) -> tuple[str, ...]:
        """What the tokenizer reads."""
        return columns_for(self.tokenizer.inputs) if self.tokenizer is not None else ()

    def of(self, table: JetTable) -> dict[str, NDArray[np.int32]]:
        """The codes of a table's constituents, shape (M,), under their name; nothing if they are made in batches."""
        if self.tokenizer is None or self._turned:
            return {}
        codes: NDArray[np.int32] = self.tokenizer.encode(table).astype(np.int32)
        return {CODES: codes}

    @property
    def encode(self) -> Encode | None:
        """Makes the codes of a batch; None if they are made before."""
        return self._encode if self.tokenizer is not None and self._turned else None

    def _encode(self, constituents: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ids: torch.Tensor = self.tokenizer.encode(constituents[..., self._places], mask)
        return ids.clamp(min=0)


class _Jets:
    """The jets of a split, how long they are, what makes batches of them, and the units of targets of whole jets."""

    def __init__(
        self,
        recipe: PretrainingRecipe,
        datasets: Sequence[Dataset],
        split: str,
        backbone: Backbone,
        codes: _Codes,
        scale: Scale | None = None,
    ) -> None:
        inputs, data = backbone.config.inputs, recipe.data
        views = Views(data.rotate, data.forget)
        variations = data.variations or tuple(dict.fromkeys(name for d in datasets for name in d.variations))
        in_pairs = "rs3l" in recipe.objective
        n_jets = data.n_jets if split == "train" else data.n_validation
        whole = "mpm" in recipe.objective and "jet" in recipe.mpm.targets
        columns = tuple(dict.fromkeys((*columns_for(inputs), *codes.columns, *(COLUMNS if whole else ()))))
        tables = [
            _read(dataset, columns, split, jets_of, n_jets, identity=number if in_pairs else None)
            for number, (dataset, jets_of) in enumerate(zip(datasets, _jets_of(datasets, data), strict=True))
        ]
        known = dict.fromkeys(name for table in tables for name in table.constituents)
        table = JetTable.concatenate([_with_unknown(table, known) for table in tables])
        further = codes.of(table)
        self.scale = scale
        if whole:
            numbers = jet_targets(table)
            self.scale = scale or Scale.of(numbers)
            table = replace(table, columns=table.columns | {"jet": self.scale(numbers)})
        self.padded = PaddedJets(
            table,
            inputs,
            ["jet"] if whole else (),
            n_constituents=data.n_constituents,
            trim=True,
            allow_missing=True,
            further=further,
        )
        self.lengths = self.padded.lengths
        self.make: Make
        if in_pairs:
            pairs = ViewPairs(rows_of_views(table, variations), recipe.rs3l.pairs)
            _check_pairs(pairs, datasets, tables, f"pairs = {recipe.rs3l.pairs!r} of {', '.join(variations)}")
            self.lengths = first_lengths(pairs, self.lengths)
        if recipe.objective == "rs3l":
            self.make = PairBatches(self.padded, pairs, inputs, views)
            return
        how = recipe.mpm
        masked = MaskedBatches(
            self.padded, inputs, share=how.share, targets=how.targets, views=views, encode=codes.encode
        )
        self.make = masked_pairs(pairs, masked) if in_pairs else masked


def _check_pairs(pairs: ViewPairs, datasets: Sequence[Dataset], tables: Sequence[JetTable], wanted: str) -> None:
    """Check that every dataset has pairs: one without would train nothing, and nobody would know.

    Raises:
        InputError: one has none.
    """
    ends = np.cumsum([table.n_jets for table in tables])
    owners = set(np.searchsorted(ends, pairs.rows.max(axis=1), side="right").tolist())
    for number, dataset in enumerate(datasets):
        if number not in owners:
            msg = (
                f"{dataset.name}: no jet has two views to compare ({wanted}). Choose variations the first of which "
                "these jets have, or pairs = 'any'; or leave them out."
            )
            raise InputError(msg)


def _with_unknown(table: JetTable, names: Iterable[str]) -> JetTable:
    """Add columns of constituents that only jets of other datasets have: here they are unknown."""
    lacking = [name for name in names if name not in table.constituents]
    if not lacking:
        return table
    unknown = np.full(table.n_constituents, np.nan, np.float32)
    return replace(table, constituents=table.constituents | dict.fromkeys(lacking, unknown))


def _check_targets(dataset: Dataset, targets: Sequence[Target]) -> None:
    """Check that jets have what is asked of them: it would be learned that all are alike.

    Raises:
        InputError: they lack a column.
    """
    for target, names in (("type", TYPE_FLAGS), ("displacement", TRACKS)):
        missing = [name for name in names if name not in dataset.columns]
        if target in targets and missing:
            msg = (
                f"{dataset.name}: mpm.targets has {target!r}, but the jets have no {', '.join(missing)}. Leave that "
                "target out, or take other jets."
            )
            raise InputError(msg)


def _read(
    dataset: Dataset,
    columns: tuple[str, ...],
    split: str,
    jets_of: Selection,
    n_jets: int,
    *,
    identity: int | None = None,
    label: str | None = None,
) -> JetTable:
    """Read a split; of data without event numbers the rows are split instead.

    With an `identity`, the number of the dataset, there are the columns by which views find each other; events of
    different datasets have different numbers then.
    """
    wanted = [name for name in columns if name in dataset.columns]
    wanted += [label] if label else []
    if identity is not None:
        if lacking := [name for name in _IDENTITY if name not in dataset.columns]:
            msg = (
                f"{dataset.name}: the jets have no {', '.join(lacking)}. RS3L needs jets in several views of the same "
                "events, which a campaign of several variations has; of other jets, leave it out: objective 'mpm'."
            )
            raise InputError(msg)
        wanted += _IDENTITY
    if dataset.knows_events:
        of_split: Selection = {**jets_of, "split": split}
        table = dataset.read_table(wanted, **of_split)
    else:
        next(dataset.tables(1, wanted, **jets_of), None)  # says which names are unknown
        asked = {"variation": jets_of.get("variation"), "process": jets_of.get("process")}
        asked = {name: chosen for name, chosen in asked.items() if chosen and name in dataset.columns}
        table = Source(dataset, split).read([*wanted, *asked])
        for name, chosen in asked.items():
            table = table.select(np.isin(table.columns[name], np.array(chosen)))
        table = table.only(wanted)
    # A single constituent has nothing to be found out from.
    table = table.select(table.counts > 1)
    if not table.n_jets:
        msg = f"{dataset.name}: has no jets of two or more constituents in its {split} split"
        raise InputError(msg)
    if identity is None:
        # Files hold one class after another.
        return table.select(np.sort(_shuffled(table.n_jets)[:n_jets])) if 0 < n_jets < table.n_jets else table
    table = _events(table, n_jets)
    events = table.columns["event_id"].astype(np.int64) + identity * _APART
    return replace(table, columns=table.columns | {"event_id": events})


def _jets_of(datasets: Sequence[Dataset], data: DataRecipe) -> list[Selection]:
    """Which jets of each dataset enter: of the views and processes that are asked for, those that it has.

    Names that no dataset has stay, as do all of them where it has none: reading says what is wrong.
    """
    known = {name for dataset in datasets for name in (*dataset.variations, *dataset.processes)}
    found: list[Selection] = []
    for dataset in datasets:
        lacking = known.difference(dataset.variations, dataset.processes)
        variations, processes = (
            tuple(name for name in asked if name not in lacking) or asked or None
            for asked in (data.variations, data.processes)
        )
        found.append({"variation": variations, "process": processes})
    return found


def _events(table: JetTable, n_jets: int) -> JetTable:
    """The views of some events, so that there are about so many jets."""
    if not n_jets or n_jets >= table.n_jets:
        return table
    events = np.unique(table.columns["event_id"])
    n_events = max(1, len(events) * n_jets // table.n_jets)
    return table.select(np.isin(table.columns["event_id"], events[_shuffled(len(events))[:n_events]]))


def _shuffled(n: int) -> NDArray[np.int64]:
    """The numbers below n in an order that is always the same."""
    return np.random.default_rng(4).permutation(n)


def _sample(jets: PaddedJets, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some jets to learn the normalisation from."""
    rows = np.random.default_rng((seed, 2)).permutation(len(jets))[:_N_NORMALISATION]
    batch = jets.__getitems__(rows)
    return batch["constituents"], batch["mask"]


def _backbone(model: PreTrainedModel) -> Backbone:
    assert isinstance(model, MaskedJetModel | ContrastiveJetModel | JointJetModel)
    return model.backbone


def _model(recipe: PretrainingRecipe, backbone: Backbone, n_codes: int) -> PreTrainedModel:
    if recipe.objective == "rs3l":
        return ContrastiveJetModel(backbone, recipe.rs3l)
    assert isinstance(backbone, JetBackbone)
    masked = MaskedJetModel(backbone, recipe.mpm, n_codes)
    return masked if recipe.objective == "mpm" else JointJetModel(masked, recipe.rs3l)


def _probe(recipe: PretrainingRecipe, datasets: Sequence[Dataset], backbone: Backbone) -> Probe | None:
    """Labelled jets of the first dataset, as they are simulated nominally; None if it has no classes."""
    dataset = datasets[0]
    if LABEL not in dataset.columns:
        return None
    data, inputs = recipe.data, backbone.config.inputs
    jets_of = _jets_of(datasets, data)[0]
    jets_of["variation"] = (jets_of["variation"] or dataset.variations)[:1] or None
    found = []
    for split, n_jets in (("train", data.n_probe), ("validation", data.n_validation)):
        table = _read(dataset, columns_for(inputs), split, jets_of, 0, label=LABEL)
        # Files hold one class after another.
        rows = np.random.default_rng((recipe.optimisation.seed, 3)).permutation(table.n_jets)[:n_jets]
        table = table.select(rows)
        jets = PaddedJets(table, inputs, n_constituents=data.n_constituents, trim=True, allow_missing=True)
        found.append((jets, table.columns[LABEL].astype(np.int64)))
    (train, train_labels), (test, test_labels) = found
    return Probe(train, train_labels, test, test_labels) if len(np.unique(train_labels)) > 1 else None


class _Evaluation:
    """Measures a network on the validation split: always the same batches, masks and views."""

    def __init__(self, jets: _Jets, recipe: PretrainingRecipe, probe: Probe | None) -> None:
        size = recipe.optimisation.batch_size
        self._probe = probe
        n_steps = -(-len(jets.lengths) // min(size, len(jets.lengths)))
        self._stream = Stream(jets.lengths, jets.make, batch_size=size, n_steps=n_steps, seed=0)

    def __call__(self, model: PreTrainedModel) -> Mapping[str, float]:
        device = next(model.parameters()).device
        sums: dict[str, float] = {}
        for step in range(len(self._stream)):
            output = model(**{name: values.to(device) for name, values in self._stream[step].items()})
            for name, value in _measure(output).items():
                sums[name] = sums.get(name, 0.0) + value
        found = {name: value / len(self._stream) for name, value in sums.items()}
        if "code_loss" in found:
            found["perplexity"] = float(np.exp(found.pop("code_loss")))
        if self._probe is not None:
            found["probe_accuracy"] = self._probe.accuracy(_backbone(model))
        return found


def _measure(output: Any) -> dict[str, float]:  # noqa: ANN401
    found = {"loss": float(output.loss)}
    found |= {f"{name}_loss": float(loss) for name, loss in (getattr(output, "losses", None) or {}).items()}
    if getattr(output, "code_logits", None) is not None:
        found["code_accuracy"] = float((output.code_logits.argmax(1) == output.codes).float().mean())
        found["code_loss"] = float(torch.nn.functional.cross_entropy(output.code_logits, output.codes))
    if getattr(output, "embeddings", None) is not None:
        found |= alignment(output.embeddings)
    return found
