"""Whether the latent is used. A collapsed posterior does not show in PSNR; it shows here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labkit.evaluation.bootstrap import Interval
from labkit.evaluation.evaluation import Evaluation

SAME, VISIBLE = 0.1, 1.0
"""grey levels of 255: below the first, samples count as equal; from the second on, the difference
between samples can be seen"""

INFORMATIVE = 0.1
"""dB above the prior's mean from which on the posterior counts as informative about its target"""


@dataclass(frozen=True)
class SampleDiversity:
    """What z changes in the frames, with intervals over clips."""

    samples: int
    """number of samples of each clip"""
    deviation: Interval
    """standard deviation of a pixel between samples, grey levels of 255"""
    best_gain: Interval
    """PSNR of each clip's best sample above the mean of all its samples, dB"""
    posterior_gain: Interval
    """PSNR of the posterior, which sees its target, above that of the prior's mean, dB"""

    def sentence(self) -> str:
        """What the figures mean."""
        deviation = self.deviation.value
        informative = self.posterior_gain.value >= INFORMATIVE
        if informative and deviation < SAME:
            return (
                "The posterior carries information about its target, but all samples from the "
                "prior are the same: posterior and prior do not match."
            )
        if informative:
            return (
                "The latent is in use: samples differ, and the posterior carries information about "
                "its target."
            )
        if deviation < SAME:
            return (
                "The posterior has collapsed: z has no effect, all samples are the same, and the "
                "prediction depends on context and condition alone."
            )
        if deviation < VISIBLE:
            return (
                "The latent has almost no effect: samples differ by less than one grey level, and "
                "the posterior is not better than the prior's mean. This is close to a collapsed "
                "posterior."
            )
        return (
            "Samples differ, but the posterior is not better than the prior's mean: z carries no "
            "information about what happens."
        )


def sample_diversity(evaluation: Evaluation) -> SampleDiversity | None:
    """The diversity of an evaluation's samples; None where each clip has only one."""
    if evaluation.deviation is None:
        return None
    samples = evaluation.samples_psnr
    gain = evaluation.psnr["posterior"] - evaluation.psnr["prior_mean"]
    mean = evaluation.resamples.mean
    return SampleDiversity(
        samples.shape[1],
        mean(evaluation.deviation.mean(axis=1)),
        mean(np.max(samples, axis=1) - samples.mean(axis=1)),
        mean(gain.mean(axis=1)),
    )
