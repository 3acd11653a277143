"""Confidence intervals of means over clips: the percentile bootstrap (Efron 1979).

Whole clips are resampled, never frames or windows. The frames of one clip are similar; resampled
independently they would make every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

LEVEL = 0.95
"""confidence level: the share of such intervals that contain the true mean"""

_BLOCK = 2**22
"""number of counts drawn in one block: 32 MB"""


@dataclass(frozen=True)
class Interval:
    """A figure and its interval, numbers or arrays of one shape. The bounds are NaN for a single
    clip; the figure is NaN too where there is nothing to average."""

    value: Float[np.ndarray, "*shape"]
    low: Float[np.ndarray, "*shape"]
    high: Float[np.ndarray, "*shape"]

    def __getitem__(self, index: Any) -> Interval:
        return Interval(*(np.asarray(part[index]) for part in vars(self).values()))


@dataclass(frozen=True)
class Resamples:
    """Resamples of the clips with replacement, each as large as the set. All figures use the same
    resamples, so that those of two predictors can be compared."""

    clip_numbers: Int[np.ndarray, " N"]
    """the clip that each row of values belongs to"""
    count: int = 2000
    """number of resamples"""
    seed: int = 0
    level: float = LEVEL

    def mean(self, values: Float[np.ndarray, "N ..."]) -> Interval:
        """The mean over rows, with its interval."""
        return self.ratio(values, np.ones_like(values))

    def ratio(
        self,
        numerators: Float[np.ndarray, "N ..."],
        denominators: Float[np.ndarray, "N ..."],
    ) -> Interval:
        """Sum of numerators / sum of denominators, with its interval: a mean whose rows have
        different weights, such as the pixels of a region."""
        above, below = self._by_clip(numerators), self._by_clip(denominators)
        shape = numerators.shape[1:]
        value = _divided(above.sum(axis=0), below.sum(axis=0)).reshape(shape)
        if self._clips < 2:
            return Interval(value, np.full(shape, np.nan), np.full(shape, np.nan))
        drawn = np.concatenate([_divided(c @ above, c @ below) for c in self._counts()])
        tail = 50 * (1 - self.level)
        # A resample without a single pixel of a region has no figure and is left out.
        empty = np.isnan(drawn).all(axis=0)
        drawn[:, empty] = 0
        low, high = np.nanpercentile(drawn, [tail, 100 - tail], axis=0)
        low[empty] = high[empty] = np.nan
        return Interval(value, low.reshape(shape), high.reshape(shape))

    @property
    def _clips(self) -> int:
        return int(self._places.max(initial=-1)) + 1

    @cached_property
    def _places(self) -> np.ndarray:
        return np.unique(self.clip_numbers, return_inverse=True)[1]

    def _by_clip(self, values: np.ndarray) -> np.ndarray:
        """The rows summed clip by clip, (clips, columns)."""
        rows = values.reshape(len(values), -1).astype(np.float64)
        summed = np.zeros((self._clips, rows.shape[1]))
        np.add.at(summed, self._places, rows)
        return summed

    def _counts(self) -> Iterator[Float[np.ndarray, "draws clips"]]:
        """How often each clip is in each resample, one block of resamples at a time."""
        clips = self._clips
        if self.count * clips <= _BLOCK:
            yield self._few
            return
        random, step = np.random.default_rng(self.seed), max(1, _BLOCK // clips)
        for first in range(0, self.count, step):
            yield _counts(random, clips, min(step, self.count - first))

    @cached_property
    def _few(self) -> np.ndarray:
        return _counts(np.random.default_rng(self.seed), self._clips, self.count)


def _counts(random: np.random.Generator, clips: int, draws: int) -> np.ndarray:
    return random.multinomial(clips, np.full(clips, 1 / clips), size=draws).astype(np.float64)


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below; NaN where `below` is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
