"""Whether one model is better than another: means and paired differences, each with an interval
and a test.

What is resampled decides what a figure is about:

- One training on each side: clips. Both are evaluated on the same clips, and the difference is
  taken clip by clip, so that most of a clip's difficulty cancels. The interval is a percentile
  bootstrap over clips; the test flips the signs of whole clips (a paired permutation test, Fisher
  1935). The result holds for these two sets of weights; another seed may give another result.
- Several trainings on each side: seeds and clips, both random and crossed, since every training is
  evaluated on every clip. The result holds for the way of training.

A bootstrap does not work in the second case: with three seeds its widest interval reaches from the
worst seed to the best, which covers the true mean in three of four cases at any level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from labkit.errors import LabkitError
from labkit.evaluation.bootstrap import LEVEL, Interval, Resamples
from labkit.evaluation.evaluation import Evaluation

FLIPS = 9999
"""number of random sign flips; with up to 13 clips all possible flips are taken instead"""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, and the p value of the hypothesis that it is 0."""

    interval: Interval
    p: float
    """two-sided; 1 where there are too few clips for a test"""
    seeds: int
    """number of trainings"""
    clips: int

    @property
    def over(self) -> str:
        """What the interval is over: "256 clips", "3 seeds x 256 clips"."""
        clips = _counted(self.clips, "clip")
        return clips if self.seeds == 1 else f"{self.seeds} seeds x {clips}"


def estimate(values: Float[np.ndarray, "S N"], resamples: Resamples) -> Estimate:
    """The mean of S trainings' figures (or differences of figures) on N windows.

    Args:
        values: one row a training, one column a window; all rows of the same windows.
        resamples: of the windows' clips. The unit is a clip, not a window.
    """
    table = _by_clip(values, resamples)
    seeds, clips = table.shape
    if seeds == 1:
        interval = resamples.mean(values[0])
        return Estimate(interval, sign_flip(table[0]), 1, clips)
    low, high, p = crossed(table, level=resamples.level)
    return Estimate(Interval(*map(np.asarray, (values.mean(), low, high))), p, seeds, clips)


def sign_flip(differences: Float[np.ndarray, " clips"], seed: int = 0) -> float:
    """The two-sided p of a paired permutation test: the share of random sign flips whose mean is at
    least as far from 0 as the observed mean."""
    if len(differences) < 2:
        return 1.0
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        batch=max(1, 2**22 // len(differences)),
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(found.pvalue))


def crossed(
    table: Float[np.ndarray, "seeds clips"], level: float = LEVEL
) -> tuple[float, float, float]:
    """The interval of a mean over seeds and clips, both random and crossed, and its test.

    The standard error is that of a two-way random-effects layout. The t distribution's degrees of
    freedom are Satterthwaite's (1946). Comparisons of radiologists treat readers and cases in this
    way (Obuchowski and Rockette 1995, Hillis 2007).

    Args:
        table: one value a seed and clip; two seeds or more.
        level: of the interval.
    Returns:
        the lower bound, the upper bound, and p (two-sided, that the mean is 0). NaN, NaN and 1
        for a single clip, whose variance over clips is not known.
    """
    seeds, clips = table.shape
    if clips < 2:
        return float("nan"), float("nan"), 1.0
    mean, by_seed, by_clip = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_clip + mean
    # Mean squares; E[of_seeds] = s_e^2 + C s_seed^2, E[of_clips] = s_e^2 + S s_clip^2
    of_seeds = clips * by_seed.var(ddof=1)
    of_clips = seeds * by_clip.var(ddof=1)
    of_rest = np.square(rest).sum() / ((seeds - 1) * (clips - 1))
    # S C Var(mean) = C s_seed^2 + S s_clip^2 + s_e^2; a negative estimate of a variance counts as 0
    total, doubt = of_seeds, of_seeds**2 / (seeds - 1)
    if of_clips > of_rest:
        total += of_clips - of_rest
        doubt += of_clips**2 / (clips - 1) + of_rest**2 / ((seeds - 1) * (clips - 1))
    if total <= 0:
        return float(mean), float(mean), 1.0 if mean == 0 else 0.0
    error = np.sqrt(total / (seeds * clips))
    # Where one variance is subtracted, Satterthwaite's number can fall below that of each part.
    freedom = max(total**2 / doubt, min(seeds, clips) - 1)
    half = stats.t.ppf(0.5 + level / 2, freedom) * error
    p = 2 * stats.t.sf(abs(mean) / error, freedom)
    return float(mean - half), float(mean + half), float(p)


def holm(values: Sequence[float]) -> list[float]:
    """p values of several tests, corrected so that the chance of one or more false findings among
    all of them stays below the level (Holm 1979)."""
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    # p_(i) -> max over j <= i of min(1, (m - j + 1) p_(j))
    grown = np.maximum.accumulate(np.minimum(1.0, factors * np.asarray(values)[order]))
    adjusted = np.empty(len(values))
    adjusted[order] = grown
    return adjusted.tolist()


def check_alike(evaluations: Mapping[str, Evaluation]) -> None:
    """
    Raises:
        LabkitError: the evaluations are not by the same protocol on the same windows, so that they
            cannot be compared clip by clip; the message names what differs.
    """
    (first, one), *others = evaluations.items()
    for name, other in others:
        for what, old, new in (
            ("protocol", one.name, other.name),
            ("context frames", one.n_past, other.n_past),
            ("horizon", one.psnr["prediction"].shape[1], other.psnr["prediction"].shape[1]),
            ("number of samples", one.best_of, other.best_of),
        ):
            if old != new:
                raise LabkitError(
                    f"{first} and {name} were not evaluated alike: {what} {old} and {new}",
                    hint="run labkit evaluate on both with the same --protocol",
                )
        if one.clips != other.clips or (one.clip_ids != other.clip_ids).any():
            raise LabkitError(
                f"{first} and {name} were evaluated on other clips: {windows_of(one)}, and "
                f"{windows_of(other)}",
                hint="run labkit evaluate on both with the same --data, --split, --clips and "
                "--windows",
            )


def windows_of(evaluation: Evaluation) -> str:
    """The windows of an evaluation, from its protocol's sentence: "256 first windows of the test
    split of simulated"."""
    parts = [part for part in evaluation.protocol.split("; ") if "split of" in part]
    return parts[0] if parts else _counted(evaluation.clips, "window")


def _by_clip(values: np.ndarray, resamples: Resamples) -> Float[np.ndarray, "seeds clips"]:
    """Means over each clip's windows."""
    _, places, counts = np.unique(resamples.clip_numbers, return_inverse=True, return_counts=True)
    summed = np.zeros((len(counts), len(values)))
    np.add.at(summed, places, values.T.astype(np.float64))
    return (summed / counts[:, None]).T


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
