"""Schedules: pure functions of the epoch, so that they can be tested, tabulated and plotted."""

from __future__ import annotations

import math

from labkit.config import KLConfig, TeacherForcingConfig, TrainingConfig


def kl_weight(epoch: float, epochs: int, config: KLConfig) -> float:
    """The KL weight beta at an epoch, counted from 0.

    Monotonic annealing (Bowman et al. 2016) is one cycle over the whole training; cyclical
    annealing (Fu et al. 2019) has `config.cycles`. In each cycle the weight climbs linearly
    from 0 to the maximum over the first 1/ratio of the cycle and stays there.

    Args:
        epoch: the epoch, or a point within it.
        epochs: length of the whole training.
        config: kind, maximum, cycles and ratio.
    """
    # 1) no annealing
    if config.schedule == "constant":
        return config.max_weight
    # 2) where in its cycle the epoch lies, as a fraction
    cycles = config.cycles if config.schedule == "cyclical" else 1
    period = epochs / cycles
    fraction = (epoch % period if config.schedule == "cyclical" else epoch) / period
    # 3) beta = beta_max * min(1, R' * fraction),  R' = ratio
    return config.max_weight * min(1.0, config.ratio * fraction)


def teacher_forcing_ratio(epoch: int, config: TeacherForcingConfig) -> float:
    """The probability of feeding true frames at an epoch, counted from 0: linear decay
    (scheduled sampling, Bengio et al. 2015), never below the bound."""
    steps = max(0, epoch - config.decay_start)
    return max(config.lower_bound, config.start - config.decay_step * steps)


def learning_rate(progress: float, config: TrainingConfig) -> float:
    """The learning rate when that fraction of all updates is done, 0 <= progress <= 1."""
    # 1) constant, as in the course
    if config.learning_rate_schedule == "constant":
        return config.learning_rate
    # 2) linear warm-up over the first 2 % of the updates
    warm_up = 0.02
    if progress < warm_up:
        return config.learning_rate * (0.1 + 0.9 * progress / warm_up)
    # 3) cosine down to a hundredth (Loshchilov & Hutter 2017)
    done = (progress - warm_up) / (1 - warm_up)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
