"""Schedules: pure functions of the epoch, so that they can be tested, tabulated and plotted.

An epoch may be a fraction: `position` says at which point of the schedules an update is.
"""

from __future__ import annotations

import math
from typing import Literal

from labkit.config import Config, KLConfig, TeacherForcingConfig, TrainingConfig


def position(update: int, training: TrainingConfig) -> float:
    """The epoch at which an update's KL weight and teacher-forcing ratio are taken.

    Args:
        update: counted from 0 over the whole training.
        training: `schedule_by` epoch gives the whole epoch that the update is in, so that the
            schedules change once per epoch; `schedule_by` update adds the fraction that is done.
    """
    if training.schedule_by == "epoch":
        return update // training.updates_per_epoch
    return update / training.updates_per_epoch


def schedule_at(update: int, config: Config) -> dict[str, float]:
    """The "kl_weight", "teacher_forcing_ratio" and "learning_rate" of an update, counted from 0."""
    training = config.training
    epoch = position(update, training)
    return {
        "kl_weight": kl_weight(epoch, training.epochs, config.kl),
        "teacher_forcing_ratio": teacher_forcing_ratio(epoch, config.teacher_forcing),
        "learning_rate": learning_rate(
            update / (training.epochs * training.updates_per_epoch), training
        ),
    }


def kl_weight(epoch: float, epochs: float, config: KLConfig) -> float:
    """The KL weight beta at an epoch, counted from 0.

    Monotonic annealing (Bowman et al. 2016) is one cycle over the whole training; cyclical
    annealing (Fu et al. 2019) has `config.cycles` = M of them. In each cycle the weight climbs
    from 0 to the maximum over the first 1/ratio of the cycle (R = 1/ratio) and stays there.

    Args:
        epoch: the epoch, or a point within it.
        epochs: length of the whole training.
        config: kind, wait, maximum, cycles, ratio and the shape of a ramp.
    """
    # 0) beta is 0 while the schedule waits, which then takes the rest of the training
    waited = config.wait * epochs
    if epoch < waited:
        return 0.0
    epoch, epochs = epoch - waited, epochs - waited
    # 1) no annealing
    if config.schedule == "constant":
        return config.max_weight
    # 2) where in its cycle the epoch lies, as a fraction
    fraction = epoch / epochs
    if config.schedule == "cyclical":
        # A remainder by the number of epochs, not by the period, which may not be a whole number
        # of epochs: so a new cycle begins at exactly 0.
        fraction = epoch * config.cycles % epochs / epochs
        if config.cycle_start == "epoch":
            fraction = _from_whole_epoch(epoch, epochs, config.cycles, waited)
    # 3) beta = beta_max * f(min(1, fraction / R)),  1 / R = ratio
    return config.max_weight * ramp(min(1.0, config.ratio * fraction), config.shape)


def _from_whole_epoch(epoch: float, epochs: float, cycles: int, waited: float) -> float:
    """The fraction of a cycle that is done at an epoch, where cycle m = 0, 1, ... begins at the
    first whole epoch at or after m periods.

    Args:
        epoch: counted from the first cycle's begin.
        epochs: of all cycles.
        cycles: M.
        waited: epochs before the first cycle.
    """
    # The first cycle begins when the wait is over, be that a whole epoch or not.
    places = (waited + m * epochs / cycles for m in range(1, cycles))
    begins = [0.0, *(math.ceil(place - 1e-9) - waited for place in places)]  # 1e-9: rounding
    begun = max(begin for begin in begins if begin <= epoch)
    return (epoch - begun) * cycles / epochs


def ramp(x: float, shape: Literal["linear", "sigmoid", "cosine"]) -> float:
    """The height of a ramp when a fraction x of it is done: f(0) = 0, f(1/2) = 1/2, f(1) = 1.

    The three shapes of Fu et al. (2019). Their sigmoid, 1 / (1 + exp(6 - 12 x)), runs from 0.0025
    to 0.9975; here it is stretched to run from 0 to 1.
    """
    # 1) f(x) = x
    if shape == "linear":
        return x
    # 2) f(x) = (1 - cos(pi x)) / 2
    if shape == "cosine":
        return 0.5 - 0.5 * math.cos(math.pi * x)
    # 3) 1 / (1 + exp(-12 u)) = (1 + tanh(6 u)) / 2 with u = x - 1/2, stretched
    return 0.5 + 0.5 * math.tanh(6 * (x - 0.5)) / math.tanh(3)


def teacher_forcing_ratio(epoch: float, config: TeacherForcingConfig) -> float:
    """The probability of feeding true frames at an epoch, counted from 0: constant, or one of
    the three decays of scheduled sampling (Bengio et al. 2015), never below the bound."""
    # i: epochs since the decay began
    i = max(0.0, epoch - config.decay_start)
    # 1) constant, and before the decay begins
    if config.schedule == "constant" or epoch < config.decay_start:
        return config.start
    # 2) linear: start - c i
    if config.schedule == "linear":
        ratio = config.start - config.decay_step * i
    # 3) exponential: start * k^i, k <= 1
    elif config.schedule == "exponential":
        ratio = config.start * config.decay_factor**i
    # 4) inverse sigmoid: start * k / (k + exp(i / k)), k >= 1; at i = 0 it is k / (k + 1)
    else:
        k = config.decay_constant
        # exp(710) is too large for a float; the ratio is 0 there anyway.
        ratio = config.start * k / (k + math.exp(min(i / k, 700.0)))
    return max(config.lower_bound, ratio)


def learning_rate(progress: float, config: TrainingConfig) -> float:
    """The learning rate when that fraction of all updates is done, 0 <= progress <= 1."""
    highest = config.learning_rate
    # 1) constant, as in the course
    if config.learning_rate_schedule == "constant":
        return highest
    # 2) equal stages, each with a fraction of the rate of the one before
    if config.learning_rate_schedule == "step":
        stage = min(int(progress * config.learning_rate_stages), config.learning_rate_stages - 1)
        return highest * config.learning_rate_factor**stage
    # 3) linear warm-up from a tenth
    warm_up, floor = config.learning_rate_warm_up, config.learning_rate_floor
    if progress < warm_up:
        return highest * (0.1 + 0.9 * progress / warm_up)
    # 4) cosine down to the floor (Loshchilov & Hutter 2017)
    done = (progress - warm_up) / (1 - warm_up) if warm_up < 1 else 1.0
    return highest * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
