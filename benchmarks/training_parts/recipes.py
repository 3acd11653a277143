"""The course's recipe and ours, each trained for a time and judged as it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from training_parts.course import course_batches, course_optimizer, course_step
from training_parts.curves import Curve, Judge, judge_of
from training_parts.measuring import WARM_UP, Stopwatch

from labkit.config import Config, TeacherForcingConfig
from labkit.model import VideoCVAE
from labkit.training.device import Acceleration
from labkit.training.loop import TrainingLoop
from labkit.training.schedules import kl_weight, teacher_forcing_ratio
from labkit.training.setup import TrainingSetup

if TYPE_CHECKING:
    from labkit.training.events import Callback, EpochEnd, Update

USED = 0.95
"""share of the time that our updates are planned for; what they take is known only roughly"""
TIMED_ARM_UPDATES = 200
"""updates of the arm's picture alone by which their time is found"""


def follow_course(
    config: Config, folders: Path, seconds: float, clips: int, device: torch.device
) -> Curve:
    """Trains the course's way, its schedules stretched over the time, and follows it.

    Args:
        config: the recipe; its data.root holds the clips that judge it.
        folders: the training clips as pictures, in the course's layout.
        seconds: of training.
        clips: to judge by.
        device: where to compute.
    """
    torch.manual_seed(config.seed)
    model = VideoCVAE(config.model, config.data.condition_size).to(device)
    optimizer = course_optimizer(model, config.training)
    workers = 4 if device.type == "cuda" else 0
    batches = course_batches(folders, config.training.batch_size, config.seed, workers, device)
    coins = np.random.default_rng(config.seed)
    judge, updates, epochs = judge_of(config, clips, seconds), 0, config.training.epochs
    judge.start()
    while not judge.is_over:
        epoch = math.floor(epochs * min(judge.elapsed / seconds, 1.0))
        course_step(
            model,
            optimizer,
            next(batches),
            config.data.n_past,
            teacher_forced=coins.random() < teacher_forcing_ratio(epoch, config.teacher_forcing),
            kl_weight=kl_weight(epoch, epochs, config.kl),
        )
        updates += 1
        judge.look(model, device, updates)
    return judge.curve


class TimeIsUp(Exception):
    """Ends a training whose time is up."""


class Follower:
    """A callback that lets a judge look after every update that is read off the device."""

    def __init__(self, judge: Judge, device: torch.device, every: int) -> None:
        """
        Args:
            judge: who looks, and knows when the time is up.
            device: of the training.
            every: updates between two readings.
        """
        self.judge, self.device, self.every = judge, device, every
        self.trainer: TrainingLoop | None = None
        """whose weights are judged: those it keeps for use"""

    def on_update(self, update: Update) -> None:
        """Looks.

        Raises:
            TimeIsUp: the last judging is done.
        """
        trainer, last = self.trainer, update.number == update.total
        if trainer is None or (update.number % self.every and not last):
            return
        with trainer.setup.acceleration.eager():
            self.judge.look(trainer.setup.validated_model, self.device, update.number)
            if last and self.judge.curve.updates[-1:] != [update.number]:
                self.judge.judge(trainer.setup.validated_model, self.device, update.number)
        if last or self.judge.is_over:
            raise TimeIsUp

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def follow_ours(config: Config, seconds: float, clips: int, device: torch.device) -> Curve:
    """Trains as `labkit train` does, its schedules stretched over the time, and follows it.

    How many updates fit is found by timing a few first, which the clock does not count. It does
    count what is trained beforehand, the arm's picture alone. A training that is done before the
    time is up ends there; one that is late is cut off.

    Args:
        config: the recipe, with its data.
        seconds: of training.
        clips: to judge by.
        device: where to compute.
    """
    config = stretched(config, seconds, device)
    acceleration = Acceleration.choose(config.training, device)
    judge = judge_of(config, clips, seconds)
    follower = Follower(judge, device, acceleration.metrics_interval)
    with tempfile.TemporaryDirectory(prefix="labkit_quality_") as run:
        judge.start()
        trainer = make_trainer(config, acceleration, Path(run), [follower])
        follower.trainer = trainer
        with contextlib.suppress(TimeIsUp):
            trainer.fit()
    return judge.curve


def make_trainer(
    config: Config, acceleration: Acceleration, run: Path, callbacks: Sequence[Callback]
) -> TrainingLoop:
    """What `labkit train` would run."""
    setup = TrainingSetup(config, acceleration.device, acceleration=acceleration)
    return TrainingLoop(setup, run, callbacks=callbacks)


def stretched(config: Config, seconds: float, device: torch.device) -> Config:
    """The config with as many updates as fit into the time, in as many epochs as it has, so that
    its schedules run their whole course. The arm's picture alone gets fewer or more in
    proportion."""
    forced, free = (step_seconds(config, forced, device) for forced in (True, False))
    start, arm = beforehand_seconds(config, device)
    epochs, training = config.training.epochs, config.training
    ratios = [teacher_forcing_ratio(epoch, config.teacher_forcing) for epoch in range(epochs)]
    share = sum(ratios) / epochs
    arm_updates = training.arm_updates / (epochs * training.updates_per_epoch)
    each = share * forced + (1 - share) * free + arm_updates * arm
    updates = max(1, int((USED * seconds - start) / each) // epochs)
    return with_updates(config, epochs, updates, round(arm_updates * epochs * updates))


def with_updates(config: Config, epochs: int, updates: int, arm_updates: int = 0) -> Config:
    """The config with that many epochs of that many updates, judged at the end alone, and so many
    beforehand of the arm's picture alone."""
    training = dataclasses.replace(
        config.training,
        epochs=epochs,
        updates_per_epoch=updates,
        arm_updates=arm_updates,
        validation_clips=1,
        validate_every=epochs,
    )
    return dataclasses.replace(config, training=training)


def beforehand_seconds(config: Config, device: torch.device) -> tuple[float, float]:
    """Seconds until a training's first update with no updates of the arm alone, and of each of
    those."""
    counts, seconds = (0, TIMED_ARM_UPDATES), []
    for count in counts if config.training.arm_updates else counts[:1]:
        begun = time.perf_counter()
        TrainingSetup(with_updates(config, 1, 1, count), device)
        seconds.append(time.perf_counter() - begun)
    return seconds[0], max(0.0, seconds[-1] - seconds[0]) / TIMED_ARM_UPDATES


def step_seconds(config: Config, forced: bool, device: torch.device) -> float:
    """Seconds of an update, whole: with optimizer, clipping and moving average."""
    acceleration = Acceleration.choose(config.training, device)
    every = acceleration.metrics_interval
    stopwatch = Stopwatch(device, every)
    fed = TeacherForcingConfig(schedule="constant", start=float(forced))
    config = dataclasses.replace(config, teacher_forcing=fed)
    config = with_updates(config, 1, every * (WARM_UP + 4))
    with tempfile.TemporaryDirectory(prefix="labkit_quality_") as run:
        make_trainer(config, acceleration, Path(run), [stopwatch]).fit()
    return stopwatch.seconds()
