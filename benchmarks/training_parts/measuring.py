"""Time, memory and arithmetic of training steps, ours and the course's way."""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from loading import memory
from training_parts.course import course_batches, course_optimizer, course_step
from training_parts.operations import arithmetic_rate, step_operations

from labkit.config import Config, TeacherForcingConfig
from labkit.model import VideoCVAE
from labkit.training.device import Acceleration
from labkit.training.loop import TrainingLoop
from labkit.training.setup import TrainingSetup

if TYPE_CHECKING:
    from labkit.training.events import EpochEnd, Update

WARM_UP = 1
"""steps on a CPU, and readings on a GPU, that are not counted"""


@dataclass(frozen=True)
class Job:
    """Which training steps to measure."""

    config: Config
    """its data.root holds `folders` and `pack`; its batch size is used"""
    teacher_forced: bool
    """fed true frames, or its own predictions after the context"""
    course_way: bool
    """frame by frame from PNGs, or as `labkit train` does on this device"""
    steps: int
    """that are counted, 1 or more; on a GPU ours is read 20 at a time, and this is rounded up"""
    threads: int
    """CPU threads"""
    device: str
    """cpu or cuda"""


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    batch: int
    """clips in a step"""
    seconds: float
    """a step, the median"""
    peak: float
    """most memory, MiB: of the whole process on a CPU; of tensors on a GPU"""
    operations: float
    """of a step (`operations`)"""
    rate: float
    """operations a second of a large matrix product in the same precision"""
    how: str
    """what was chosen for the device, in words"""

    @property
    def clips(self) -> float:
        """Clips a second."""
        return self.batch / self.seconds

    @property
    def share(self) -> float:
        """The share of the device's arithmetic rate that is achieved."""
        return self.operations / self.seconds / self.rate


def operations(job: Job) -> float:
    """Floating-point operations of a step, as this way of computing needs them."""
    batch = job.config.training.batch_size
    return step_operations(job.config, batch, job.teacher_forced, job.course_way)


def measure(job: Job, operations: float) -> Figures | None:
    """Trains for a few steps in this process; None where the GPU's memory does not suffice."""
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    batch = job.config.training.batch_size
    try:
        seconds, peak, bf16, how = (_course if job.course_way else _ours)(job, device)
    except torch.cuda.OutOfMemoryError:
        return None
    return Figures(batch, seconds, peak, operations, arithmetic_rate(device, bf16), how)


def _course(job: Job, device: torch.device) -> tuple[float, float, bool, str]:
    """Seconds a step, peak memory, whether in bf16, and how, of the course's way."""
    config, training = job.config, job.config.training
    # A GPU would wait for the pictures; a CPU is busy with the arithmetic, and its memory is told.
    workers = 4 if device.type == "cuda" else 0
    torch.manual_seed(config.seed)
    model = VideoCVAE(config.model, config.data.condition_size).to(device)
    optimizer = course_optimizer(model, training)
    folder = Path(config.data.root) / "folders" / "train"
    batches = course_batches(folder, training.batch_size, config.seed, workers, device)
    times = []
    for _ in range(WARM_UP + job.steps):
        start = time.perf_counter()
        course_step(
            model,
            optimizer,
            next(batches),
            config.data.n_past,
            teacher_forced=job.teacher_forced,
            kl_weight=config.kl.max_weight,
        )
        times.append(time.perf_counter() - start)
    batches.close()
    how = f"fp32, plain Adam, clips from PNG by {workers or 'no'} workers"
    return statistics.median(times[WARM_UP:]), peak_memory(device), False, how


def _ours(job: Job, device: torch.device) -> tuple[float, float, bool, str]:
    """The same of ours."""
    root = str(Path(job.config.data.root) / "pack")
    acceleration = Acceleration.choose(job.config.training, device)
    every = acceleration.metrics_interval
    stopwatch = Stopwatch(device, every)
    config = dataclasses.replace(
        job.config,
        data=dataclasses.replace(job.config.data, root=root),
        teacher_forcing=TeacherForcingConfig(
            schedule="constant", start=1.0 if job.teacher_forced else 0.0
        ),
        training=dataclasses.replace(
            job.config.training,
            epochs=1,
            updates_per_epoch=every * (WARM_UP + math.ceil(job.steps / every)),
            arm_updates=0,  # only the updates of the whole model are timed
            validation_clips=1,
        ),
    )
    setup = TrainingSetup(config, device, acceleration=acceleration)
    with tempfile.TemporaryDirectory(prefix="labkit_training_") as run:
        TrainingLoop(setup, Path(run), callbacks=[stopwatch]).fit()
    how = acceleration.sentence(type(setup.optimizer).__name__, setup.clips_in_words)
    return stopwatch.seconds(), stopwatch.peak, acceleration.bf16, how


class Stopwatch:
    """A callback that times updates. Their figures are read at once on a CPU, and some updates at
    a time on a GPU, which is then done with all of them."""

    def __init__(self, device: torch.device, every: int) -> None:
        """
        Args:
            device: of the training.
            every: updates between two readings.
        """
        self.device, self.every = device, every
        self.times: list[float] = []
        self.peak = 0.0
        """most memory so far, MiB"""

    def on_update(self, told: Update) -> None:
        """Stops the time of a reading's last update."""
        if told.number % self.every == 0:
            self.times.append(time.perf_counter())
            self.peak = peak_memory(self.device)

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def seconds(self) -> float:
        """Of an update, the median of the readings; what came before the first one's end, such
        as compiling, does not count."""
        times = self.times[WARM_UP - 1 :]
        return statistics.median(b - a for a, b in pairwise(times)) / self.every


def peak_memory(device: torch.device) -> float:
    """Most memory until now in MiB: resident in this process, or of tensors on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return memory()[1]
