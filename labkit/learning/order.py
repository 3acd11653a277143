"""The order of the data and of every random draw: pure functions of the seed and the update.

Nothing here remembers anything, so a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler


def seed_of(seed: int, stream: str, number: int) -> int:
    """A seed for one purpose (`stream`) at one point (`number`) of a run, 0 .. 2^63 - 1."""
    words = [seed, *stream.encode(), number]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=4)
def _permutation(seed: int, number: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed_of(seed, "order", number)).permutation(length)


class UpdateSampler(Sampler[list[int]]):
    """The batch of each update: cuts from an endless row of permutations of the windows, so
    every window comes equally often and a data set smaller than a batch serves too."""

    def __init__(self, n_windows: int, batch_size: int, seed: int, updates: range) -> None:
        """
        Args:
            n_windows: size of the data set.
            batch_size: windows in a batch.
            seed: of the permutations.
            updates: the updates to give batches for, counted from the start of the training.
        """
        self.n_windows, self.batch_size, self.seed = n_windows, batch_size, seed
        self.updates = updates

    def __len__(self) -> int:
        return len(self.updates)

    def __iter__(self) -> Iterator[list[int]]:
        for update in self.updates:
            yield self.batch(update)

    def batch(self, update: int) -> list[int]:
        """Indices of that update's windows."""
        places = range(update * self.batch_size, (update + 1) * self.batch_size)
        cuts = (divmod(place, self.n_windows) for place in places)
        return [int(_permutation(self.seed, n, self.n_windows)[place]) for n, place in cuts]
