"""Train a tokenizer from a recipe and a dataset, evaluate one, and add its ids to a dataset."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from hepfm.dataset import Dataset
from hepfm.errors import InputError
from hepfm.formats.parquet import parquet_writer
from hepfm.inputs import columns_for, constituent_inputs
from hepfm.networks.strict import quiet
from hepfm.run_folder import finite
from hepfm.table import JetTable
from hepfm.tokenizers import ParticleTokenizer, TokenizerConfig, TokenizerSettings
from hepfm.training.batches import Batch, PaddedJets
from hepfm.training.origin import describe_data
from hepfm.training.recipes import Optimisation
from hepfm.training.reconstruction import Reconstruction, measure, read_reconstruction
from hepfm.training.run import Report, Training, claim, is_leader, rank_and_size, train
from hepfm.training.source import Source, first_variation
from hepfm.training.stream import Stream
from hepfm.training.two_sample import two_sample_test

TOKEN = "part_token"
"""Name of the column of ids that `add_tokens` writes."""

# Jets that the start of the codes looks at, and what unused codes are found by: enough for 16,384 of them.
_N_START = 20_000
_TABLE_JETS = 8192
# Quantisers whose codes are the same in all processes that train together.
_ALIKE = ("fsq",)
_ENCODER = ("network.encoder.", "network.read.", "network.to_latent.", "network.straight_in.")


@dataclass(frozen=True)
class TokenizerData:
    """Which jets a tokenizer learns from.

    Attributes:
        variation: the views used; empty for the first one, which is the nominal one of a campaign.
        n_jets: so many of the training split, chosen at random; 0 for all.
        n_constituents: of longer jets those of highest transverse momentum are kept.
        n_validation: jets of the validation split that evaluations use, chosen at random; 0 for all.
    """

    variation: str = ""
    n_jets: int = 0
    n_constituents: int = 128
    n_validation: int = 4000


@dataclass(frozen=True)
class TokenizerRecipe:
    """Everything about a training but its data.

    Attributes:
        encoder_rate: factor on the learning rate of the encoder. Where codes follow the mean of what they stand for, an
            encoder that moves faster than they do wastes them.
    """

    optimisation: Optimisation
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    data: TokenizerData = field(default_factory=TokenizerData)
    encoder_rate: float = 1.0


def train_tokenizer(
    recipe: TokenizerRecipe, dataset: Dataset, out: Path, *, report: Report | None = None, tensorboard: bool = False
) -> None:
    """Train a tokenizer, or go on with a training that was interrupted.

    Args:
        recipe: what to do.
        dataset: jets, as `hepfm.open` gives them.
        out: folder of the run. When it is finished it holds the tokenizer, which `from_pretrained` loads.
        report: told how it proceeds.
        tensorboard: whether to write its files, too.

    Raises:
        InputError: the jets lack an input, or there are none.
        CampaignError: the folder holds another training, or files that are of none.
    """
    training = prepare(recipe, dataset)
    if recipe.tokenizer.context != "none":
        train(training, out, report=report, tensorboard=tensorboard)
        return
    # K-means is finished when it has started.
    out.mkdir(parents=True, exist_ok=True)
    claim(training, out)
    if is_leader() and not (out / "model.safetensors").exists():
        with quiet():
            training.model.save_pretrained(out)


def prepare(recipe: TokenizerRecipe, dataset: Dataset) -> Training:
    """Read the data and make the tokenizer of a training; see `train_tokenizer`.

    Raises:
        InputError: the jets lack an input, or there are none.
    """
    variation = recipe.data.variation or first_variation(dataset)
    names = columns_for(recipe.tokenizer.inputs)
    tables = []
    for split, most in (("train", recipe.data.n_jets), ("validation", recipe.data.n_validation)):
        table = Source(dataset, split, variation).read(names)
        tables.append(_first_constituents(_some_jets(table, most), recipe.data.n_constituents))
        if not table.n_constituents:
            msg = f"{dataset.name}: no jets in the {split} split, of {len(dataset):,} in all. Give more."
            raise InputError(msg)
    how = recipe.optimisation
    if rank_and_size()[1] > 1 and recipe.tokenizer.quantiser not in _ALIKE and recipe.tokenizer.context != "none":
        msg = (
            f"codes of quantiser {recipe.tokenizer.quantiser!r} would follow the jets of one process only. Train it "
            'without torchrun, or take quantiser = "fsq".'
        )
        raise InputError(msg)
    torch.manual_seed(how.seed)
    tokenizer = ParticleTokenizer(TokenizerConfig(recipe.tokenizer))
    tokenizer.start(_some_jets(tables[0], _N_START), how.seed)
    jets = PaddedJets(tables[0], recipe.tokenizer.inputs, n_constituents=recipe.data.n_constituents, trim=True)
    rank, n_ranks = rank_and_size()
    stream = Stream(
        jets.lengths,
        _Batches(jets),
        batch_size=how.batch_size,
        n_steps=how.n_steps,
        seed=how.seed,
        rank=rank,
        n_ranks=n_ranks,
    )
    return Training(
        model=tokenizer,
        stream=stream,
        optimisation=how,
        recipe=recipe,
        data={**describe_data(dataset), "n_train": tables[0].n_jets, "inputs": _digest(tables[0])},
        evaluate=_Validation(tables[1]),
        learning_rates=dict.fromkeys(_ENCODER, recipe.encoder_rate),
        kept=lambda trained: _without_unused_codes(trained, _some_jets(tables[0], _N_START)),
    )


def _without_unused_codes(tokenizer: PreTrainedModel, jets: JetTable) -> PreTrainedModel:
    assert isinstance(tokenizer, ParticleTokenizer)
    tokenizer.drop_unused_codes(jets)
    return tokenizer


class _Batches:
    """Makes batches of padded jets; no random number is needed."""

    def __init__(self, jets: PaddedJets) -> None:
        self._jets = jets

    def __call__(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        return self._jets.__getitems__(rows)


class _Validation:
    """The figures of merit that training logs."""

    def __init__(self, table: JetTable) -> None:
        self._table = table

    def __call__(self, tokenizer: PreTrainedModel) -> dict[str, float]:
        made = reconstruct(tokenizer, self._table)
        found = measure(made)
        values: dict[str, float] = {name: found["constituents"][name]["sigma"] for name in found["constituents"]}
        values |= {name: found["jets"][name]["sigma"] for name in found["jets"]}
        values["jet_mass_bias"] = found["jets"]["jet_mass"]["median"]
        values |= found["accuracy"] | {f"codes_{name}": value for name, value in found["codes"].items()}
        return values


def reconstruct(tokenizer: Any, table: JetTable, classes: tuple[str, ...] = ()) -> Reconstruction:  # noqa: ANN401
    """Encode and decode a table of jets."""
    return read_reconstruction(tokenizer, table, constituent_inputs(table, tokenizer.inputs), classes)


@dataclass(frozen=True)
class Question:
    """What to evaluate on.

    Attributes:
        split: of the jets; None for all.
        variation: the views used; None for the first one.
        n_jets: at most so many, chosen at random.
        two_sample: whether to train a classifier that tells decoded jets from true ones.
    """

    split: str | None = "test"
    variation: str | None = None
    n_jets: int = 20_000
    two_sample: bool = True


def evaluate_tokenizer(
    tokenizer: ParticleTokenizer, dataset: Dataset, question: Question
) -> tuple[dict[str, Any], Reconstruction]:
    """Measure what codes keep of jets.

    Returns:
        Figures that JSON can hold, and the jets before and after.

    Raises:
        InputError: the jets lack an input, or there are none.
    """
    labelled = "jet_label" in dataset.columns and bool(dataset.classes)
    names = [*columns_for(tokenizer.inputs), *(["jet_label"] if labelled else [])]
    variation = question.variation or first_variation(dataset)
    table = Source(dataset, question.split, variation).read(names)
    if not table.n_constituents:
        msg = f"{dataset.name}: no jets in the {question.split or 'whole'} split. Choose another, or give more jets."
        raise InputError(msg)
    rows = np.random.default_rng(1).permutation(table.n_jets)[: question.n_jets]
    made = reconstruct(tokenizer, table.select(np.sort(rows)), dataset.classes if labelled else ())
    found = measure(made)
    if question.two_sample:
        test = two_sample_test(made)
        found["two_sample"] = {"auc": test.auc, "error": test.error, "n_test": test.n_test}
    settings = tokenizer.settings
    about = {
        "context": settings.context,
        "quantiser": settings.quantiser,
        "inputs": list(settings.inputs),
        "data": {"name": dataset.name, "split": question.split, "variation": variation},
    }
    return finite(about | found), made


def add_tokens(tokenizer: ParticleTokenizer, dataset: Dataset, out: Path, *, report: Any = None) -> int:  # noqa: ANN401
    """Write a dataset as Parquet, with the id of each constituent in the column `part_token`; in constant memory.

    Args:
        tokenizer: whose ids.
        dataset: any jets; all their columns are kept.
        out: file that is written, a name that ends in .parquet.
        report: told the file's name, the jets that are done, and all jets.

    Returns:
        The number of jets.

    Raises:
        InputError: the jets lack an input, or `out` has another ending or is the file that is read.
        StorageError: the file cannot be written.
    """
    if out.suffix != ".parquet":
        msg = f"{out}: expected a name that ends in .parquet. Change --out."
        raise InputError(msg)
    dataset.check_target(out)
    n_done = 0
    about = {"source": dataset.name, "tokenizer": tokenizer.name_or_path or "", "n_codes": str(tokenizer.n_codes)}
    with parquet_writer(out, about, dataset.classes) as add:
        for table in _tables(dataset):
            tokens = tokenizer.encode(table).astype(np.int32)
            add(replace(table, constituents=table.constituents | {TOKEN: tokens}))
            n_done += table.n_jets
            if report is not None:
                report(out.name, n_done, len(dataset))
    return n_done


def _tables(dataset: Dataset) -> Iterator[JetTable]:
    """All jets, a table at a time; at least one table, so that a file of no jets has its columns."""
    empty = True
    for table in dataset.tables(_TABLE_JETS):
        empty = False
        yield table
    if empty:
        yield JetTable.empty()


def _some_jets(table: JetTable, most: int) -> JetTable:
    """So many jets from all over a table, which holds one process after another; all of them for 0."""
    if not 0 < most < table.n_jets:
        return table
    return table.select(np.sort(np.random.default_rng(1).permutation(table.n_jets)[:most]))


def _first_constituents(table: JetTable, most: int) -> JetTable:
    """Jets with at most so many constituents, those of highest transverse momentum."""
    counts = np.minimum(table.counts, most)
    if counts.sum() == table.n_constituents:
        return table
    rank = np.arange(table.n_constituents) - np.repeat(table.offsets[:-1], table.counts)
    kept = rank < most
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return JetTable(table.columns, offsets, {name: values[kept] for name, values in table.constituents.items()})


def _digest(table: JetTable) -> str:
    digest = hashlib.sha256(table.offsets.tobytes())
    for values in table.constituents.values():
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
