"""The figures of each update: when they are read off the device, and the check for NaN."""

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
"""The figures of a loss step; the gradient's norm comes after them."""


class StepMetrics:
    """Figures that wait on the device until they are read.

    To read a figure is to wait for the device. So those of a GPU are read every few updates; those
    of a CPU at once, before a NaN gets into the weights.
    """

    def __init__(self, run: Path, processes: Processes, interval: int) -> None:
        """
        Args:
            run: the run's folder, for messages.
            processes: whose figures are averaged.
            interval: updates between two values that are read from the device.
        """
        self.run, self.processes, self.interval = run, processes, interval
        self.saved: int | None = None
        """number of updates in the last checkpoint"""
        self._waiting: list[tuple[dict[str, float], Float[Tensor, 4]]] = []

    def are_due(self, update: int) -> bool:
        """Whether they are read after that many updates."""
        return update % self.interval == 0

    def joint(self, values: Float[Tensor, " terms"]) -> Float[Tensor, " terms"]:
        """Their means over all processes, where they are read at once."""
        return self.processes.mean(values) if self.interval == 1 else values

    def check_at_once(self, update: int, values: Float[Tensor, " terms"]) -> None:
        """Raises TrainingError for values that are not finite, where they are read at once."""
        if self.interval == 1:
            self._check(update, values.tolist())

    def add(self, schedule: dict[str, float], values: Float[Tensor, 4]) -> None:
        """Adds the figures of one more update, and its schedule values."""
        self._waiting.append((schedule, values))

    def read(self, done: int) -> Iterator[tuple[int, dict[str, float], dict[str, float]]]:
        """The updates since the last reading: number from 0, schedule values, figures by name.

        It is called before anything is saved, so no file ever holds weights that are NaN.

        Args:
            done: number of updates done.
        Raises:
            TrainingError: a figure is not finite.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        values = torch.stack([each for _, each in waiting])
        values = values if self.interval == 1 else self.processes.mean(values)
        rows = zip(range(done - len(waiting), done), waiting, values.tolist(), strict=True)
        for number, (schedule, _), row in rows:
            self._check(number, row)
            yield number, schedule, dict(zip((*TERMS, "gradient_norm"), row, strict=True))

    def _check(self, update: int, values: Sequence[float]) -> None:
        if all(map(math.isfinite, values)):
            return
        named = zip((*TERMS, "gradient norm"), values, strict=False)
        figures = ", ".join(f"{name} {value:.4g}" for name, value in named)
        saved = "there is no checkpoint yet"
        if self.saved is not None:
            saved = f"the checkpoint of update {self.saved} is unchanged"
        raise TrainingError(
            f"training stopped at update {update}: {figures}; {saved}",
            file=self.run,
            hint="train again with a lower --training.learning-rate, a --training.gradient-clip "
            "such as 1, or a lower --kl.max-weight",
        )
