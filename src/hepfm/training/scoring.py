"""What a fine-tuned network says of jets, table by table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from hepfm.errors import InputError
from hepfm.hashing import unit_hash
from hepfm.inputs import columns_for
from hepfm.models import AutoModelForSequenceClassification
from hepfm.table import JetTable
from hepfm.training.batches import PaddedJets
from hepfm.training.source import Source

FINETUNING = "finetuning"
"""Under which config.json says how a network was fine-tuned."""

# Of the hash that chooses events; other than those that order labelled jets.
_SHARE_SEED = 2**33

_MOST_CONSTITUENTS = 100_000
_BATCH = 256
_PIECE = 8192


@dataclass(frozen=True, eq=False)
class Tagger:
    """A fine-tuned network and how jets are given to it.

    Attributes:
        model: with `config.id2label`, `config.problem_type` and `config.inputs`.
        n_constituents: of a jet that it sees, those of highest pt.
        missing: inputs that jets may lack.
    """

    model: PreTrainedModel
    n_constituents: int = 128
    missing: tuple[str, ...] = ()

    @classmethod
    def load(cls, name: str, *, allow_missing: bool = False) -> "Tagger":
        """Load a network that `finetune` made.

        Args:
            name: a folder, or OWNER/NAME of the Hub.
            allow_missing: whether jets may lack any input, and not only those that were missing when it was made.

        Raises:
            InputError: there is no such network, or it is no classifier.
            StorageError: the Hub cannot be reached.
        """
        model = AutoModelForSequenceClassification.from_pretrained(name)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        how = _how(model)
        n_constituents = how.get("n_constituents", cls.n_constituents)
        if type(n_constituents) is not int or not 1 <= n_constituents <= _MOST_CONSTITUENTS:
            msg = f"{name}: config.json says that the network sees {n_constituents!r} constituents. Get the file again."
            raise InputError(msg)
        missing = inputs_of(model) if allow_missing else _list(how, "missing_inputs")
        return cls(model, n_constituents, tuple(n for n in inputs_of(model) if n in missing))

    @property
    def label(self) -> str:
        """The column of jets that it learned."""
        return str(_how(self.model).get("label", "jet_label"))

    @property
    def digests(self) -> tuple[str, ...]:
        """Of the data that it was made from."""
        return tuple(map(str, _list(_how(self.model), "data")))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what the network takes of a constituent."""
        return tuple(inputs_of(self.model))

    @property
    def unseen(self) -> tuple[str, ...]:
        """Inputs that it takes for unknown whatever jets have, for those that it was fine-tuned on lacked them."""
        lacking = _list(_how(self.model), "missing_inputs")
        return tuple(name for name in self.inputs if name in lacking)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of its scores; the name of the predicted number for a regression."""
        names: dict[int, str] = dict(self.model.config.id2label)  # type: ignore[arg-type]
        return tuple(names[number] for number in sorted(names))

    @property
    def is_regression(self) -> bool:
        """Whether it predicts a number instead of classes."""
        return bool(self.model.config.problem_type == "regression")

    def columns(self, known: Sequence[str]) -> tuple[str, ...]:
        """Columns to read for it, of those that a dataset has.

        Raises:
            InputError: the dataset lacks one that may not be missing.
        """
        return needed_columns(self.inputs, known, self.missing)

    def scores(self, table: JetTable) -> NDArray[np.float32]:
        """Probabilities of the classes, shape (N, C), or predicted numbers, shape (N, 1).

        Raises:
            InputError: jets without an input, or of which the network makes no number.
        """
        jets = PaddedJets(table, self.inputs, (), self.n_constituents, trim=True, allow_missing=bool(self.missing))
        found = np.empty((table.n_jets, len(self.classes)), np.float32)
        # Jets of similar length together: little padding.
        order = np.argsort(jets.lengths, kind="stable")
        unseen = [self.inputs.index(name) for name in self.unseen]
        self.model.eval()
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                batch = {name: values.to(device) for name, values in jets.__getitems__(rows.tolist()).items()}
                batch["constituents"][..., unseen] = torch.nan
                logits = self.model(**batch).logits.float()
                found[rows] = (logits if self.is_regression else logits.softmax(-1)).cpu().numpy()
        if n_lost := int((~np.isfinite(found).all(axis=1)).sum()):
            msg = f"the network makes no number of {n_lost:,} of {len(found):,} jets: their inputs, or it, are damaged."
            raise InputError(msg)
        return found

    def score_source(
        self, source: Source, names: Sequence[str], share: float = 1.0
    ) -> Iterator[tuple[JetTable, NDArray[np.float32]]]:
        """Go through jets and their scores, in constant memory.

        Args:
            source: of jets.
            names: of columns wanted in the tables.
            share: of the events that are used: those whose hash is small, so that views have the same ones.
        """
        needed = self.columns(source.dataset.columns)
        identity = ("event_id",) * ("event_id" in source.dataset.columns)
        wanted, place = tuple(dict.fromkeys((*names, *needed, *identity))), 0
        for table in source.tables(_PIECE, wanted):
            events = table.columns.get("event_id", np.arange(place, place + table.n_jets))
            place += table.n_jets
            used = table if share >= 1 else table.select(unit_hash(events, _SHARE_SEED) < share)
            if used.n_jets:
                yield used.only(names), self.scores(used)


def _how(model: PreTrainedModel) -> dict[str, Any]:
    """What config.json says of a fine-tuning; it may come from anyone."""
    how = getattr(model.config, FINETUNING, None)
    return how if isinstance(how, dict) else {}


def _list(how: dict[str, Any], name: str) -> list[Any]:
    found = how.get(name)
    return found if isinstance(found, list) else []


def inputs_of(model: PreTrainedModel) -> Sequence[str]:
    """Names of what a network takes of a constituent."""
    config: Any = model.config
    names: Sequence[str] = config.inputs
    return names


def needed_columns(inputs: Sequence[str], known: Sequence[str], may_miss: Sequence[str]) -> tuple[str, ...]:
    """Columns to read for some inputs.

    Args:
        inputs: names of `hepfm.inputs.INPUTS`.
        known: columns that a dataset has.
        may_miss: inputs that it need not have.

    Raises:
        InputError: the dataset lacks an input that may not be missing.
    """
    if missing := [name for name in missing_inputs(inputs, known) if name not in may_miss]:
        msg = (
            f"the jets have no {', '.join(missing)}, which the network takes. "
            "--allow-missing goes on without, as unknown values; or name a column map with --columns."
        )
        raise InputError(msg)
    return tuple(name for name in columns_for(inputs) if name in known)


def missing_inputs(inputs: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Which inputs a dataset with some columns cannot give."""
    return tuple(name for name in inputs if any(column not in known for column in columns_for([name])))
