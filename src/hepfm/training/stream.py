"""The batches of a training, each of them a pure function of the seed and the step."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from hepfm.errors import InputError
from hepfm.training.batches import Batch

Make = Callable[[NDArray[np.int64], np.random.Generator], Batch]
"""Makes a batch of the chosen items, with the random numbers it may use."""

# Batches whose items are sorted by length together: the more, the less padding, and the less random the batches.
_POOL = 64


class Stream(Dataset[Batch]):
    """`stream[step]` is the batch of a step. Items of similar length come together, so that little is padded.

    Every epoch goes through all items once in a new order; what does not fill a batch waits for another epoch. A
    training that goes on at some step therefore sees what it would have seen without the interruption.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        make: Make,
        *,
        batch_size: int,
        n_steps: int,
        seed: int,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        """Plan the batches.

        Args:
            lengths: constituents of each item, shape (N,).
            make: makes the batch of some items.
            batch_size: items a step, over all processes together, a multiple of their number; all N if there are fewer.
            n_steps: of the whole training.
            seed: of the order, and of what `make` draws.
            rank: which of the processes this is; it gets every `n_ranks`-th item of a batch.
            n_ranks: number of processes that train together.

        Raises:
            InputError: there are fewer items than processes, or they cannot share a batch evenly.
        """
        if len(lengths) < n_ranks or batch_size < n_ranks:
            msg = f"{len(lengths):,} jets in batches of {batch_size:,} are too few for {n_ranks} training processes"
            raise InputError(msg)
        if batch_size % n_ranks:
            # Gradients are averaged over processes: each must have the same number of jets.
            msg = f"batches of {batch_size:,} jets cannot be shared evenly by {n_ranks} training processes"
            raise InputError(msg)
        self.batch_size = min(batch_size, len(lengths) // n_ranks * n_ranks)
        self.batches_an_epoch = len(lengths) // self.batch_size
        self._lengths, self._make, self._n_steps, self._seed = lengths, make, n_steps, seed
        self._rank, self._n_ranks = rank, n_ranks
        self._order_of = lru_cache(maxsize=2)(self._make_order)

    def __len__(self) -> int:
        """Number of steps."""
        return self._n_steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, of this process."""
        epoch, number = divmod(step, self.batches_an_epoch)
        items = self._order_of(epoch)[number][self._rank :: self._n_ranks]
        return self._make(items, np.random.default_rng((self._seed, 1, step, self._rank)))

    def _make_order(self, epoch: int) -> NDArray[np.int64]:
        """The items of each batch of an epoch, shape (batches, batch_size)."""
        rng = np.random.default_rng((self._seed, 0, epoch))
        items = rng.permutation(len(self._lengths))[: self.batches_an_epoch * self.batch_size]
        pool = _POOL * self.batch_size
        for start in range(0, len(items), pool):
            part = items[start : start + pool]
            items[start : start + pool] = part[np.argsort(self._lengths[part], kind="stable")]
        batches = items.reshape(-1, self.batch_size)
        return batches[rng.permutation(len(batches))]


class StepsFrom(Sampler[int]):
    """The steps that are left, counted when a loader begins to ask for them."""

    def __init__(self, first: Callable[[], int], n_steps: int) -> None:
        """Take where to begin, which is not known before a checkpoint is loaded, and the number of steps."""
        self._first, self._n_steps = first, n_steps

    def __iter__(self) -> Iterator[int]:
        """Step after step."""
        return iter(range(self._first(), self._n_steps))

    def __len__(self) -> int:
        """Number of steps of the whole training."""
        return self._n_steps
