"""Whether the latent says anything: PSNR does not notice a collapsed posterior, this does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labkit.evaluation.bootstrap import Interval
from labkit.evaluation.evaluation import Evaluation

TRACE, VISIBLE = 0.1, 1.0
"""grey levels of 255: below the first, samples are the same film; from the second on they differ
to the eye"""

TOLD = 0.1
"""dB over the prior's mean from which on the posterior tells something of its target"""


@dataclass(frozen=True)
class Spread:
    """What z does to the frames, with intervals over clips."""

    samples: int
    """futures of each clip"""
    deviation: Interval
    """standard deviation of a pixel between them, grey levels of 255"""
    best_gain: Interval
    """PSNR of each clip's best sample over the mean of all, dB"""
    posterior_gain: Interval
    """PSNR of the posterior, which sees the target, over the prior's mean, dB"""

    def words(self) -> str:
        """What the figures mean."""
        deviation, told = self.deviation.value, self.posterior_gain.value >= TOLD
        if told and deviation < TRACE:
            return (
                "The posterior tells something of its target, but samples from the prior are all "
                "the same film: the two do not meet."
            )
        if told:
            return "The latent is alive: samples differ, and the posterior tells of its target."
        if deviation < TRACE:
            return (
                "The posterior has collapsed: z is ignored, every sample is the same film, and "
                "what is known beforehand carries the prediction."
            )
        if deviation < VISIBLE:
            return (
                "The latent is hardly heard: samples differ by less than a grey level, and to know "
                "the target is no help. Close to a collapsed posterior."
            )
        return "Samples differ, yet to know the target is no help: what z says is not what happens."


def spread(evaluation: Evaluation) -> Spread | None:
    """The spread between samples; None where there was one alone."""
    if evaluation.deviation is None:
        return None
    each = evaluation.samples_psnr
    seen = evaluation.psnr["posterior"] - evaluation.psnr["prior_mean"]
    mean = evaluation.resamples.mean
    return Spread(
        each.shape[1],
        mean(evaluation.deviation.mean(axis=1)),
        mean(np.max(each, axis=1) - each.mean(axis=1)),
        mean(seen.mean(axis=1)),
    )
