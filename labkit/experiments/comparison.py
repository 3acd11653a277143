"""Compares runs, or arms of several runs: means, paired differences, the effect of z."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from labkit.evaluation import Evaluation
from labkit.evaluation.bootstrap import Interval, Resamples
from labkit.evaluation.sample_diversity import SampleDiversity
from labkit.evaluation.significance import Estimate, check_alike, estimate, holm
from labkit.experiments.evaluated_run import EvaluatedRun

LEVEL = 0.05
"""a difference is significant if its p, after Holm's correction, is below this"""


@dataclass(frozen=True)
class Pair:
    """The first arm's figures minus the second's, clip by clip and seed by seed."""

    first: str
    second: str
    differences: dict[str, Estimate]
    """by metric"""
    adjusted: dict[str, float]
    """p by metric, after Holm's correction over all pairs"""

    def is_significant(self, metric: str = "psnr") -> bool:
        """Whether the difference is significant."""
        return self.adjusted[metric] < LEVEL


@dataclass(frozen=True)
class Comparison:
    """Arms evaluated in the same way. An arm is one way to train: one run, or one run a seed."""

    arms: dict[str, list[EvaluatedRun]]

    @property
    def runs(self) -> list[EvaluatedRun]:
        """All runs, arm by arm."""
        return [run for runs in self.arms.values() for run in runs]

    @property
    def has_seeds(self) -> bool:
        """Whether an arm has more than one run."""
        return any(len(runs) > 1 for runs in self.arms.values())

    @property
    def first(self) -> Evaluation:
        """The first run's evaluation; its protocol and windows are those of all."""
        return self.runs[0].evaluation

    @cached_property
    def resamples(self) -> Resamples:
        """The resamples of clips that all intervals use."""
        return self.first.resamples

    @property
    def metrics(self) -> list[str]:
        """The metrics that every run has."""
        # Of the two ways to average PSNR, only the protocol's own is shown.
        return [
            metric
            for metric in self.first.scores
            if metric != "channel_psnr" and all(metric in r.evaluation.scores for r in self.runs)
        ]

    def mean(self, arm: str, metric: str = "psnr", predictor: str = "prediction") -> Estimate:
        """An arm's mean over its seeds, the clips and time."""
        return estimate(_stacked(self.arms[arm], _score(metric, predictor)), self.resamples)

    def each_seed(self, arm: str, metric: str = "psnr") -> Float[np.ndarray, " seeds"]:
        """The mean of each of an arm's runs."""
        return _stacked(self.arms[arm], _score(metric)).mean(axis=1)

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs of arms, the earlier minus the later, over the seeds that both have."""
        named = [
            each
            for each in itertools.combinations(self.arms, 2)
            if paired(*map(self.arms.__getitem__, each))[0]
        ]
        found = {
            metric: [self._difference(*each, metric) for each in named] for metric in self.metrics
        }
        grown = {metric: holm([each.p for each in row]) for metric, row in found.items()}
        return [
            Pair(
                *each,
                {metric: row[place] for metric, row in found.items()},
                {metric: row[place] for metric, row in grown.items()},
            )
            for place, each in enumerate(named)
        ]

    def sample_diversity(self, arm: str) -> SampleDiversity | None:
        """The diversity of samples over an arm's seeds; None where each clip has one sample."""
        runs = self.arms[arm]
        if any(run.evaluation.deviation is None for run in runs):
            return None

        def over(read: Callable[[Evaluation], np.ndarray]) -> Interval:
            return estimate(_stacked(runs, read), self.resamples).interval

        return SampleDiversity(
            runs[0].evaluation.samples_psnr.shape[1],
            over(lambda one: one.deviation.mean(axis=1)),  # type: ignore[union-attr]
            over(lambda one: one.samples_psnr.max(axis=1) - one.samples_psnr.mean(axis=1)),
            self.posterior_gain(arm).interval,
        )

    def posterior_gain(self, arm: str) -> Estimate:
        """PSNR in dB of the posterior, which sees its target, minus that of the prior's mean."""
        posterior, prior = _score("psnr", "posterior"), _score("psnr", "prior_mean")
        return estimate(_stacked(self.arms[arm], lambda e: posterior(e) - prior(e)), self.resamples)

    def posterior_gain_of_each(self, arm: str) -> Float[np.ndarray, " seeds"]:
        """The same of each of an arm's runs."""
        posterior, prior = _score("psnr", "posterior"), _score("psnr", "prior_mean")
        return _stacked(self.arms[arm], lambda e: posterior(e) - prior(e)).mean(axis=1)

    def last(self, arm: str, column: str) -> Float[np.ndarray, " seeds"]:
        """The last value in each run's history."""
        return np.array([run.history[column][-1] for run in self.arms[arm]])

    def _difference(self, first: str, second: str, metric: str) -> Estimate:
        one, other = paired(self.arms[first], self.arms[second])
        read = _score(metric)
        return estimate(_stacked(one, read) - _stacked(other, read), self.resamples)


def compared(arms: Mapping[str, Sequence[EvaluatedRun]]) -> Comparison:
    """Compares arms.

    Raises:
        LabkitError: two of them were not evaluated in the same way.
    """
    check_alike(
        {
            arm if len(runs) == 1 else f"{arm}, seed {run.seed}": run.evaluation
            for arm, runs in arms.items()
            for run in runs
        }
    )
    return Comparison({arm: list(runs) for arm, runs in arms.items()})


def paired(
    one: Sequence[EvaluatedRun], other: Sequence[EvaluatedRun]
) -> tuple[Sequence[EvaluatedRun], Sequence[EvaluatedRun]]:
    """The runs of the seeds that both arms have, in the same order. Two single runs are a pair
    even if their seeds differ."""
    if len(one) == len(other) == 1:
        return one, other
    here, there = ({run.seed: run for run in runs} for runs in (one, other))
    both = sorted(here.keys() & there.keys())
    return [here[seed] for seed in both], [there[seed] for seed in both]


def _score(metric: str, predictor: str = "prediction") -> Callable[[Evaluation], np.ndarray]:
    return lambda evaluation: evaluation.scores[metric][predictor].mean(axis=1)


def _stacked(
    runs: Sequence[EvaluatedRun], read: Callable[[Evaluation], np.ndarray]
) -> Float[np.ndarray, "S N"]:
    """One row a run, one column a window."""
    return np.stack([read(run.evaluation) for run in runs]).astype(np.float64)
