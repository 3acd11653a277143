"""PSNR of a training's predictions, by the clock."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.evaluation.protocol import validation_psnr

GRID = (5, 10, 15, 20, 30, 40, 50, 60, 90, 120, 180, 240, 360, 480, 600, 720, 900, 1200, 1800, 3600)
"""seconds of training after which predictions are judged"""


@dataclass
class Curve:
    """PSNR in dB of the validation clips, by seconds of training."""

    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The highest PSNR."""
        return max(self.psnr, default=math.nan)

    def first(self, psnr: float) -> float:
        """Seconds until that PSNR was first reached; NaN if it never was."""
        both = zip(self.seconds, self.psnr, strict=True)
        return next((s for s, p in both if p >= psnr), math.nan)

    def at(self, seconds: float) -> float:
        """PSNR of the judging that was due at that time: the first one from it on, after the
        update that was under way. NaN where there is none."""
        both = zip(self.seconds, self.psnr, strict=True)
        return next((p for s, p in both if s >= seconds), math.nan)


class Judge:
    """Judges a model at the times of the grid. Its clock stands still meanwhile."""

    def __init__(self, validation: ClipDataset, clips: int, seconds: float, seed: int) -> None:
        """
        Args:
            validation: whose first windows are predicted.
            clips: how many.
            seconds: length of the training; the last judging is at its end.
            seed: of the samples from the prior.
        """
        self.validation, self.clips, self.seed = validation, clips, seed
        self.seconds = seconds
        self.curve = Curve()
        self._due = [*(s for s in GRID if s < seconds), seconds]
        self._start = time.perf_counter()

    def start(self) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        return time.perf_counter() - self._start

    @property
    def is_over(self) -> bool:
        """Whether the time is up, and the last judging done."""
        return not self._due

    def look(self, model: torch.nn.Module, device: torch.device, updates: int) -> None:
        """Judges the model if that is due; a late one serves for all that were due."""
        elapsed = self.elapsed
        if self._due and elapsed >= self._due[0]:
            self.judge(model, device, updates)
            self._due = [s for s in self._due if s > elapsed]

    def judge(self, model: torch.nn.Module, device: torch.device, updates: int) -> None:
        """Judges the model now."""
        stopped = time.perf_counter()
        was_training = model.training
        model.eval()
        with torch.no_grad():
            psnr = validation_psnr(
                model, self.validation, clips=self.clips, seed=self.seed, device=device
            )
        model.train(was_training)
        self.curve.seconds.append(stopped - self._start)
        self.curve.psnr.append(psnr)
        self.curve.updates.append(updates)
        self._start += time.perf_counter() - stopped


def judge_of(config: Config, clips: int, seconds: float) -> Judge:
    """The judge of a training on that data, with those conditions."""
    split = config.data.validation_split
    validation = ClipDataset.from_config(config.data, split, windows="first", labels=False)
    return Judge(validation, clips, seconds, config.seed)
