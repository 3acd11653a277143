"""The order of the data and of every random draw: pure functions of the seed and the update.

Nothing here remembers anything, so a resumed run sees what an uninterrupted one would have seen,
and several processes that share a batch need not talk about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from labkit.errors import ConfigError


def seed_of(seed: int, stream: str, number: int) -> int:
    """A seed for one purpose (`stream`) at one point (`number`) of a run, 0 .. 2^63 - 1."""
    words = [seed, *stream.encode(), number]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=4)
def _permutation(seed: int, number: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed_of(seed, "order", number)).permutation(length)


class UpdateSampler(Sampler[list[int]]):
    """The batch of each update: cuts from an endless row of permutations of the windows, so
    every window comes equally often and a data set smaller than a batch serves too.

    Several processes (`rank` of `world`) share one joint batch, which does not depend on their
    number: each takes its own equal share of the rows, and the shares, put together in the order
    of the ranks, are the joint batch. The mean of the ranks' gradients is then the gradient of
    the joint batch.
    """

    def __init__(
        self,
        n_windows: int,
        batch_size: int,
        seed: int,
        updates: range,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """
        Args:
            n_windows: size of the data set, 1 or more.
            batch_size: windows in a joint batch: all processes together.
            seed: of the permutations.
            updates: the updates to give batches for, counted from the start of the training. It
                may be set anew between two passes of one DataLoader, which keeps its workers.
            rank: number of this process, from 0.
            world: number of processes.

        Raises:
            ConfigError: the data set is empty, the batch cannot be divided evenly among the
                processes, or there is no such rank.
        """
        if n_windows < 1:
            mend = "give a data set with at least one window"
            raise ConfigError(f"there are {n_windows} windows to draw from", mend=mend)
        if world < 1 or not 0 <= rank < world:
            mend = "ranks count from 0 up to the number of processes, exclusive"
            raise ConfigError(f"there is no process of rank {rank} among {world}", mend=mend)
        if batch_size < 1 or batch_size % world:
            mend = f"set training.batch_size to a multiple of {world}, or use fewer processes"
            what = f"a batch of {batch_size} cannot be divided evenly among {world} processes"
            raise ConfigError(what, mend=mend)
        self.n_windows, self.batch_size, self.seed = n_windows, batch_size, seed
        self.updates, self.rank, self.world = updates, rank, world

    def __len__(self) -> int:
        return len(self.updates)

    def __iter__(self) -> Iterator[list[int]]:
        for update in self.updates:
            yield self.batch(update)

    def batch(self, update: int) -> list[int]:
        """Indices of this process's windows of that update, `batch_size / world` of them."""
        share = self.batch_size // self.world
        first = update * self.batch_size + self.rank * share
        cuts = (divmod(place, self.n_windows) for place in range(first, first + share))
        return [int(_permutation(self.seed, n, self.n_windows)[place]) for n, place in cuts]
