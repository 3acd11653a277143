"""The figures of single updates: when they are read off the device, and what a NaN leads to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.errors import TrainingError
from labkit.training.distributed import Processes

TERMS = ("loss", "reconstruction", "kl")
"""What a task's losses tell; after them comes the gradient's norm."""


class StepMetrics:
    """Figures that wait on the device. To read one is to wait for the device, so a GPU's are read
    some updates at a time; a CPU's at once, before a NaN gets into the weights."""

    def __init__(self, run: Path, processes: Processes, interval: int) -> None:
        """
        Args:
            run: the run's folder, for messages.
            processes: whose figures are averaged.
            interval: updates between two readings.
        """
        self.run, self.processes, self.interval = run, processes, interval
        self.kept: int | None = None
        """updates that the last checkpoint has"""
        self._waiting: list[tuple[dict[str, float], Float[Tensor, 4]]] = []

    def are_due(self, update: int) -> bool:
        """Whether they are read after that many updates."""
        return update % self.interval == 0

    def joint(self, values: Float[Tensor, " terms"]) -> Float[Tensor, " terms"]:
        """Their means over all processes, where they are read at once."""
        return self.processes.mean(values) if self.interval == 1 else values

    def check_at_once(self, update: int, values: Float[Tensor, " terms"]) -> None:
        """Raises TrainingError for what is not finite, where they are read at once."""
        if self.interval == 1:
            self._check(update, values.tolist())

    def add(self, weights: dict[str, float], values: Float[Tensor, 4]) -> None:
        """Takes the figures of one more update, and the schedules at it."""
        self._waiting.append((weights, values))

    def read(self, done: int) -> Iterator[tuple[int, dict[str, float], dict[str, float]]]:
        """The updates since the last time: number from 0, schedules, figures by name.

        Called before anything is kept, so that no file ever holds weights that came of a NaN.

        Args:
            done: updates done.
        Raises:
            TrainingError: a figure is not finite.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        values = torch.stack([each for _, each in waiting])
        values = values if self.interval == 1 else self.processes.mean(values)
        rows = zip(range(done - len(waiting), done), waiting, values.tolist(), strict=True)
        for number, (weights, _), row in rows:
            self._check(number, row)
            yield number, weights, dict(zip((*TERMS, "gradient_norm"), row, strict=True))

    def _check(self, update: int, values: Sequence[float]) -> None:
        if all(map(math.isfinite, values)):
            return
        named = zip((*TERMS, "gradient norm"), values, strict=False)
        told = ", ".join(f"{name} {value:.4g}" for name, value in named)
        kept = "there is no checkpoint yet"
        if self.kept is not None:
            kept = f"the checkpoint of update {self.kept} is kept"
        raise TrainingError(
            f"training stopped at update {update}: {told}; {kept}",
            file=self.run,
            hint="train again with a lower --training.learning-rate, a --training.gradient-clip "
            "such as 1, or a lower --kl.max-weight",
        )
