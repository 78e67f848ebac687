"""Constituents of jets to codes, and back: the tokenizer of Masked Particle Modeling (arXiv:2401.13537)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from hepfm.errors import InputError
from hepfm.inputs import PT, columns_for, constituent_inputs
from hepfm.networks.locate import locate
from hepfm.networks.strict import WEIGHTS, check_folder, check_numbers, check_weights
from hepfm.padding import ragged
from hepfm.table import JetTable
from hepfm.tokenizers.configuration import TokenizerConfig
from hepfm.tokenizers.kmeans import KMeans
from hepfm.tokenizers.losses import constituent_losses, jet_losses
from hepfm.tokenizers.targets import Targets
from hepfm.tokenizers.vqvae import VqVae

PADDING = -1
"""The id where there is no constituent."""

Arrays = TypeVar("Arrays", Tensor, NDArray[Any])
# Places, padding among them, that go through the network at a time.
_PLACES = 8192
_ANOTHER = "It belongs to another tokenizer: get both files again."


@dataclass
class TokenizerOutput:
    """What training needs of a batch."""

    loss: Tensor
    ids: Tensor


class ParticleTokenizer(PreTrainedModel):
    """Gives each constituent of a jet an id, and each jet of ids its constituents.

        tokenizer = ParticleTokenizer.from_pretrained("hepfm/vqvae-512")
        ids = tokenizer.encode(jets)
        restored = tokenizer.decode(ids)

    The order of the constituents does not matter, nor what else is in the batch. `inputs` says which columns are
    taken, in which order; units are the schema's.
    """

    config_class = TokenizerConfig
    main_input_name = "constituents"
    base_model_prefix = ""

    def __init__(self, config: TokenizerConfig) -> None:
        """Make a tokenizer that has learned nothing yet."""
        super().__init__(config)
        self.settings = config.typed_settings()
        self.targets = Targets(self.settings.inputs, self.settings.angle_power)
        kind = KMeans if self.settings.context == "none" else VqVae
        self.network: VqVae | KMeans = kind(self.settings, self.targets)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        **others: Any,  # noqa: ANN401
    ) -> Self:
        """Load a tokenizer.

        Args:
            name: a folder; or OWNER/NAME: the copy in the package if there is one, else the Hub's.
            revision: of the Hub: a branch, tag or commit.
            others: further settings about the Hub, such as `local_files_only` and `token`.

        Raises:
            InputError: there is no such tokenizer; or a file is missing, damaged, of something else, or has other
                weights than the tokenizer needs.
            StorageError: the Hub cannot be reached.
        """
        folder = locate(name, others | {"revision": revision})
        settings = check_folder(folder, (TokenizerConfig.model_type,)).get("settings")
        if not isinstance(settings, dict):
            msg = f"{folder}: config.json has no table of settings. Get the file again."
            raise InputError(msg)
        try:
            tokenizer = cls(TokenizerConfig(settings))
        except InputError as error:
            msg = f"{folder}: {error}"
            raise InputError(msg) from error
        _load_strictly(tokenizer, folder / WEIGHTS)
        tokenizer.name_or_path = os.fspath(name)
        tokenizer.eval()
        return tokenizer

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the F inputs, in order."""
        return self.settings.inputs

    @property
    def n_codes(self) -> int:
        """How many different ids there are."""
        return self.settings.n_codes if isinstance(self.network, KMeans) else self.network.quantiser.n_codes

    def encode(self, constituents: Any, mask: Any = None) -> Any:  # noqa: ANN401
        """Give constituents their ids.

        Args:
            constituents: `inputs` of B jets of N places, shape (B, N, F), as a tensor or NumPy array; or jets as an
                Awkward array, as `hepfm.open(...).read()` gives them, or a `JetTable`.
            mask: where there is a constituent, bool of shape (B, N); for tensors and arrays, by default everywhere.

        Returns:
            Of a tensor or array: int64 ids of shape (B, N), -1 where there is no constituent, of the same kind. Of an
            Awkward array: ids as lists. Of a table: ids of shape (M,).

        Raises:
            InputError: another shape, an input that is missing, or a value that is no number.
        """
        if isinstance(constituents, JetTable):
            return self._encode_flat(constituent_inputs(constituents, self.inputs), constituents.offsets)
        if isinstance(constituents, ak.Array):
            table = _table_of(constituents, columns_for(self.inputs))
            return _as_lists(self._encode_flat(constituent_inputs(table, self.inputs), table.offsets), table.offsets)
        values, there = _as_arrays(constituents, mask, 3, "constituents")
        if values.shape[2] != len(self.inputs):
            msg = f"expected constituents of shape (B, N, {len(self.inputs)}): {', '.join(self.inputs)}; got "
            raise InputError(msg + str(tuple(values.shape)))
        offsets, flat = ragged(values, there)
        ids = np.full(there.shape, PADDING, np.int64)
        ids[there] = self._encode_flat(flat.astype(np.float32), offsets)
        return torch.from_numpy(ids).to(constituents.device) if isinstance(constituents, Tensor) else ids

    def decode(self, ids: Any, mask: Any = None) -> Any:  # noqa: ANN401
        """Give ids their constituents.

        Args:
            ids: shape (B, N), as a tensor or NumPy array; or lists of ids as an Awkward array.
            mask: where there is a constituent, bool of shape (B, N); by default where ids are not -1.

        Returns:
            Of a tensor or array: `inputs` in the schema's units, shape (B, N, F), 0 where there is no constituent. Of
            an Awkward array: records of lists with the inputs' names.

        Raises:
            InputError: another shape, or an id that does not exist.
        """
        if isinstance(ids, ak.Array):
            counts = ak.to_numpy(ak.num(ids, axis=1))
            offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            values = self._decode_flat(ak.to_numpy(ak.flatten(ids)).astype(np.int64), offsets)
            return ak.zip({n: _as_lists(values[:, i], offsets) for i, n in enumerate(self.inputs)}, depth_limit=1)
        if mask is None:
            mask = ids != PADDING
        given, there = _as_arrays(ids, mask, 2, "ids")
        offsets, flat = ragged(given, there)
        values = np.zeros((*there.shape, len(self.inputs)), np.float32)
        values[there] = self._decode_flat(flat.astype(np.int64), offsets)
        return torch.from_numpy(values).to(ids.device) if isinstance(ids, Tensor) else values

    def reconstruct(self, table: JetTable) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids of a table's constituents, shape (M,), and what `decode` makes of them, shape (M, F)."""
        ids = self._encode_flat(constituent_inputs(table, self.inputs), table.offsets)
        return ids, self._decode_flat(ids, table.offsets)

    def forward(self, constituents: Tensor, mask: Tensor) -> TokenizerOutput:
        """Encode and decode a batch in training.

        Args:
            constituents: `inputs`, shape (B, N, F).
            mask: bool of shape (B, N).
        """
        if isinstance(self.network, KMeans):
            msg = "K-means has no gradient; `start` finds its centres"
            raise InputError(msg)
        network, kinematics = self.network, constituents[..., :3]
        vectors = network.encode(self.targets.as_network_input(constituents), kinematics, mask)
        device = constituents.device.type
        with torch.autocast(device, enabled=False):
            quantised, ids, commitment = network.quantiser(vectors[mask].float())
        spread = vectors.new_zeros(*mask.shape, network.quantiser.dimensions, dtype=torch.float32)
        spread[mask] = quantised
        outputs = network.decode(spread, mask)
        with torch.autocast(device, enabled=False):
            outputs = outputs.float()
            loss = constituent_losses(outputs[mask], constituents[mask], self.targets, self.settings).mean()
            if self.settings.jet_weight > 0:
                restored = self.targets.kinematics(outputs)
                loss = loss + self.settings.jet_weight * jet_losses(restored, kinematics, mask).mean()
        return TokenizerOutput(loss=loss + commitment, ids=ids)

    @torch.no_grad()
    def start(self, table: JetTable, seed: int) -> None:
        """Learn what comes before training: widths of the inputs, and where codes begin (K-means: all there is).

        Args:
            table: jets to learn from.
            seed: of random choices.

        Raises:
            InputError: the jets lack an input, have a value that is no number, or are too few.
        """
        physical = constituent_inputs(table, self.inputs)
        # One would make centres of codes that are no numbers, and no jet near any code.
        self._check_numbers(physical)
        values = torch.from_numpy(physical)
        self.targets.fit(values)
        torch.manual_seed(seed)
        if isinstance(self.network, KMeans):
            self.network.fit(self.targets.as_network_input(values), seed)
            return
        self.network.quantiser.start(self._vectors(physical, table.offsets))
        self.train()

    @torch.no_grad()
    def drop_unused_codes(self, table: JetTable) -> None:
        """After training: give up cells of a grid that no constituent of the table needs; ids are numbered anew."""
        if not isinstance(self.network, KMeans):
            vectors = self._vectors(constituent_inputs(table, self.inputs), table.offsets)
            self.network.quantiser.drop_unused(vectors)

    def _vectors(self, values: NDArray[np.float32], offsets: NDArray[np.int64]) -> Tensor:
        """What is quantised of constituents that lie one after another, those of short jets first; (M, F) to (M, d)."""
        assert isinstance(self.network, VqVae)
        self.eval()
        found = [
            self.network.encode(self.targets.as_network_input(part), part[..., :3], there)[there]
            for _, part, there in self._chunks(values, offsets)
        ]
        return torch.cat(found)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; K-means has no parameter that transformers could ask."""
        return self.targets.features.mean.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.targets.features.mean.device

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave weights as the layers made them."""

    def _check_numbers(self, values: NDArray[np.float32]) -> None:
        """Check inputs, shape (M, F).

        Raises:
            InputError: one of them is no number.
        """
        if not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])
            msg = f"constituents have values of {self.inputs[place]} that are no numbers (NaN or infinite)"
            raise InputError(msg)

    @torch.no_grad()
    def _encode_flat(self, values: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids of constituents that lie one after another: (M, F) to (M,). Jets of similar length go together."""
        self._check_numbers(values)
        self.eval()
        ids = np.empty(len(values), np.int64)
        if isinstance(self.network, KMeans):
            inputs = self.targets.as_network_input(torch.from_numpy(values).to(self.device))
            ids[:] = self.network.encode(inputs).cpu().numpy()
            return ids
        for places, part, there in self._chunks(values, offsets):
            vectors = self.network.encode(self.targets.as_network_input(part), part[..., :3], there)
            ids[places] = self.network.quantiser.ids(vectors[there]).cpu().numpy()
        return ids

    @torch.no_grad()
    def _decode_flat(self, ids: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Constituents of ids that lie one after another: (M,) to (M, F)."""
        if len(ids) and not (ids.min() >= 0 and ids.max() < self.n_codes):
            wrong = ids[(ids < 0) | (ids >= self.n_codes)][0]
            msg = f"expected ids from 0 to {self.n_codes - 1} where there is a constituent, got {wrong}"
            raise InputError(msg)
        self.eval()
        values = np.empty((len(ids), len(self.inputs)), np.float32)
        if isinstance(self.network, KMeans):
            values[:] = self.targets.physical(self.network.decode(torch.from_numpy(ids).to(self.device))).cpu().numpy()
            return values
        for places, part, there in self._chunks(ids, offsets):
            vectors = self.network.quantiser.decode(part[there])
            spread = vectors.new_zeros(*there.shape, vectors.shape[-1])
            spread[there] = vectors
            outputs = self.network.decode(spread, there)
            values[places] = self.targets.physical(outputs[there]).cpu().numpy()
        return values

    def _chunks(
        self, flat: NDArray[Any], offsets: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """Jets, sorted by length, as padded batches: places in `flat`, values (B, N, ...), mask (B, N)."""
        counts = np.diff(offsets)
        order = np.argsort(counts, kind="stable")
        order = order[counts[order] > 0]
        start = 0
        while start < len(order):
            # The longest jet of a batch is its last one: grow the batch as long as it fits.
            lengths = counts[order[start : start + _PLACES]]
            fits = np.flatnonzero(lengths * np.arange(1, len(lengths) + 1) <= _PLACES)
            stop = start + max(1, len(fits))
            jets, length = order[start:stop], int(counts[order[stop - 1]])
            there = np.arange(length) < counts[jets, np.newaxis]
            places = (offsets[jets, np.newaxis] + np.arange(length))[there]
            padded = np.zeros((*there.shape, *flat.shape[1:]), flat.dtype)
            padded[there] = flat[places]
            yield places, torch.from_numpy(padded).to(self.device), torch.from_numpy(there).to(self.device)
            start = stop


def _load_strictly(tokenizer: ParticleTokenizer, path: Path) -> None:
    wanted, found = tokenizer.state_dict(), load_file(path)
    shapes = [{name: tuple(tensor.shape) for name, tensor in weights.items()} for weights in (wanted, found)]
    check_weights(path, shapes[0], shapes[1], lambda _: _ANOTHER)
    check_numbers(path, found)
    tokenizer.load_state_dict(found)
    if isinstance(tokenizer.network, VqVae) and (problem := tokenizer.network.quantiser.problem()):
        msg = f"{path}: {problem}. Get the file again."
        raise InputError(msg)


def _as_arrays(values: Any, mask: Any, n_dimensions: int, what: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:  # noqa: ANN401
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != n_dimensions:
        msg = f"expected {what} of {n_dimensions} dimensions, got shape {array.shape}"
        raise InputError(msg)
    if mask is None:
        return array, np.ones(array.shape[:2], bool)
    there = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if there.dtype != bool or there.shape != array.shape[:2]:
        msg = f"expected a bool mask of shape {array.shape[:2]}, got {there.dtype} of shape {there.shape}"
        raise InputError(msg)
    return array, there


def _table_of(jets: ak.Array, names: tuple[str, ...]) -> JetTable:
    """The named lists of an Awkward array of jets as a table."""
    for name in names:
        if name not in jets.fields:
            what = f"{PT}'s {name}" if name in ("part_px", "part_py") else name
            msg = f"the jets have no {what}, which the tokenizer takes. They have: "
            raise InputError(msg + (", ".join(jets.fields) or "no fields"))
    counts = ak.to_numpy(ak.num(jets[names[0]], axis=1))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return JetTable({}, offsets, {name: ak.to_numpy(ak.flatten(jets[name])) for name in names})


def _as_lists(flat: NDArray[Any], offsets: NDArray[np.int64]) -> ak.Array:
    layout = ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(np.ascontiguousarray(flat)))
    return ak.Array(layout)
