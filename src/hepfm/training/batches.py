"""Jets as padded PyTorch tensors, at the speed of memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepfm.errors import HepfmError, InputError
from hepfm.inputs import constituent_inputs
from hepfm.schema import unknown_name
from hepfm.table import JetTable

try:
    import torch
    from torch.utils.data import Dataset
except ImportError as error:
    message = 'tensors need PyTorch, which is not installed: pip install "hepfm[models]"'
    raise HepfmError(message) from error

Batch = dict[str, torch.Tensor]

# Of lengths that are trimmed. As many sizes of tensors as there are lengths leave so many holes between them that a
# training holds several times the memory that it uses (measured: 120 steps of fine-tuning, 2.7 GB; so, 1.7 GB).
_STEP = 8

_CONSTITUENTS = ("part_deta", "part_dphi", "part_px", "part_py", "part_pz", "part_energy")


def trimmed_length(counts: NDArray[np.int64]) -> int:
    """How many places jets of so many constituents get in a batch, at least one and not many more than they need."""
    return -(-max(1, int(counts.max(initial=1))) // _STEP) * _STEP


class PaddedJets(Dataset[Batch]):
    """Jets in memory, of which `torch.utils.data.DataLoader` makes padded batches.

        table = hepfm.open("resim-jets").read_table(split="train", variation="nominal")
        jets = PaddedJets(table, targets=["jet_label"])
        loader = DataLoader(jets, batch_size=512, shuffle=True, collate_fn=jets.collate)

    A batch of B jets has "constituents", float32 of shape (B, L, F), zero where a jet has fewer constituents than L;
    "mask", bool of shape (B, L), true where there is one; and each target under its name, shape (B,).
    """

    def __init__(
        self,
        table: JetTable,
        constituents: Sequence[str] = _CONSTITUENTS,
        targets: Sequence[str] = (),
        n_constituents: int = 128,
        *,
        trim: bool = False,
        allow_missing: bool = False,
        further: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Arrange the jets so that those of a batch are gathered fast.

        Args:
            table: N jets, as `Dataset.read_table` gives them.
            constituents: names of the F inputs wanted, some of `hepfm.inputs.INPUTS`.
            targets: names of columns of numbers, one a jet.
            n_constituents: L. Of longer jets those of highest transverse momentum are kept.
            trim: whether a batch is only as long as its longest jet, or up to seven places longer.
            allow_missing: whether inputs that the table lacks are NaN.
            further: arrays of a value a constituent, shape (M,), which come padded with zeros under their names.

        Raises:
            InputError: the table lacks a column, or one of them is text.
        """
        for name in targets:
            if name not in table.columns:
                raise InputError(unknown_name("column of jets", name, table.columns))
            if table.columns[name].dtype.kind not in "biuf":
                msg = f"column {name!r} holds text; a tensor holds numbers. Choose another, such as jet_label."
                raise InputError(msg)
        if n_constituents < 1:
            msg = f"the number of constituents must be at least 1, got {n_constituents}"
            raise InputError(msg)
        # All values of a constituent lie together: a batch touches as little memory as there can be.
        self._values = constituent_inputs(table, constituents, allow_missing=allow_missing)
        self._offsets = table.offsets
        self._longest, self._trim = n_constituents, trim
        self._targets = {name: table.columns[name] for name in targets}
        self._further = dict(further or {})

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Constituents of each jet, at most L; shape (N,)."""
        return np.minimum(np.diff(self._offsets), self._longest)

    def __len__(self) -> int:
        """Number of jets."""
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> Batch:
        """One jet, as a batch without its first dimension."""
        return {name: values[0] for name, values in self.__getitems__([row]).items()}

    def __getitems__(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Batch:
        """Some jets as one batch; PyTorch's loaders ask for all of a batch at once."""
        chosen = np.asarray(rows, dtype=np.int64)
        starts = self._offsets[chosen]
        counts = np.minimum(self._offsets[chosen + 1] - starts, self._longest)
        length = min(trimmed_length(counts), self._longest) if self._trim else self._longest
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        batch = np.zeros((len(chosen) * length, self._values.shape[1]), np.float32)
        places, sources = (
            np.repeat(np.arange(len(chosen)) * length, counts) + within,
            np.repeat(starts, counts) + within,
        )
        batch[places] = self._values[sources]
        tensors = {
            "constituents": torch.from_numpy(batch.reshape(len(chosen), length, self._values.shape[1])),
            "mask": torch.from_numpy(np.arange(length) < counts[:, np.newaxis]),
        }
        for name, values in self._further.items():
            flat = np.zeros(len(chosen) * length, values.dtype)
            flat[places] = values[sources]
            tensors[name] = torch.from_numpy(flat.reshape(len(chosen), length))
        return tensors | {name: torch.from_numpy(values[chosen]) for name, values in self._targets.items()}

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """For a loader's `collate_fn`: `__getitems__` has made the batch already."""
        return batch
