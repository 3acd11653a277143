"""The order of the data, and the seed of every random draw: pure functions of seed and update.

Nothing here has a state. So a resumed run gets the same batches as an uninterrupted one, and
processes that share a batch need not communicate about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Rows:
    """The rows of a joint batch that one process gets in one of the batch's parts."""

    first: int
    count: int
    total: int
    """rows of the joint batch"""

    @classmethod
    def of(cls, total: int, *, rank: int = 0, world: int = 1, part: int, parts: int) -> Rows:
        """A process's share of a part of a batch of `total` rows, which divides evenly."""
        count = total // (world * parts)
        return cls((part * world + rank) * count, count, total)

    @property
    def numbers(self) -> range:
        """The rows, counted from 0."""
        return range(self.first, self.first + self.count)


class UpdateSampler(Sampler[list[int]]):
    """The batch of each update. The windows are permuted again and again; the permutations, one
    after another, are cut into batches. So every window comes equally often, and a data set may
    be smaller than a batch.

    Several processes (`rank` of `world`) share one joint batch, which does not depend on their
    number. Each takes an equal share of the rows; the shares in the order of the ranks are the
    joint batch. So the mean of the ranks' gradients is the gradient of the joint batch. Where
    gradients are accumulated this holds for each part of the batch, and a process's windows are
    its shares of the parts, one after another.
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
        parts: int = 1,
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
            parts: number of parts of the joint batch, for accumulated gradients; the processes
                share each part.

        Raises:
            ConfigError: the data set is empty, the batch cannot be divided evenly among the
                processes and parts, or there is no such rank.
        """
        if n_windows < 1:
            hint = "give a data set with at least one window"
            raise ConfigError(f"there are {n_windows} windows to draw from", hint=hint)
        if world < 1 or not 0 <= rank < world:
            hint = "ranks count from 0 up to the number of processes, exclusive"
            raise ConfigError(f"there is no process of rank {rank} among {world}", hint=hint)
        if batch_size < 1 or batch_size % (world * parts):
            among = f"{world} processes" if parts == 1 else f"{world} x {parts} parts"
            hint = f"set training.batch_size to a multiple of {world * parts}"
            hint += ", or use fewer processes" if world > 1 else ""
            what = f"a batch of {batch_size} cannot be divided evenly among {among}"
            raise ConfigError(what, hint=hint)
        self.parts = [
            Rows.of(batch_size, rank=rank, world=world, part=part, parts=parts)
            for part in range(parts)
        ]
        self.n_windows, self.batch_size, self.seed = n_windows, batch_size, seed
        self.updates, self.rank, self.world = updates, rank, world

    def __len__(self) -> int:
        return len(self.updates)

    def __iter__(self) -> Iterator[list[int]]:
        for update in self.updates:
            yield self.batch(update)

    def batch(self, update: int) -> list[int]:
        """Indices of this process's windows of that update, `batch_size / world` of them."""
        first = update * self.batch_size
        places = (first + row for rows in self.parts for row in rows.numbers)
        cuts = (divmod(place, self.n_windows) for place in places)
        return [int(_permutation(self.seed, n, self.n_windows)[place]) for n, place in cuts]
