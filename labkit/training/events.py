"""What a training reports while it runs, and the interface of the callbacks that receive it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from labkit.training.history import EpochRow
from labkit.training.latent_use import LatentUse


@dataclass(frozen=True)
class Update:
    """One finished update of the weights."""

    number: int
    """updates done so far, including this one, counted from the start of the whole training"""
    total: int
    """updates of the whole training"""
    epoch: int
    """the epoch it belongs to, counted from 0"""
    epochs: int
    """epochs of the whole training"""
    values: Mapping[str, float]
    """loss, reconstruction, kl, gradient_norm (before clipping)"""
    schedule: Mapping[str, float]
    """kl_weight, teacher_forcing_ratio, learning_rate"""
    clips: int
    """windows in the update: the joint batch of all processes"""


@dataclass(frozen=True)
class Examples:
    """A few validation clips and their predictions, both with the context frames in front."""

    truth: UInt8[np.ndarray, "N T 3 H W"]
    """the recorded frames, 0..255"""
    prediction: UInt8[np.ndarray, "N T 3 H W"]
    """free-running, one sample from the prior"""
    n_past: int
    """number of context frames"""


@dataclass(frozen=True)
class EpochEnd:
    """One epoch that is finished and saved. Only the process of rank 0 reports it."""

    rows: Sequence[EpochRow]
    """the history so far; this epoch's row is the last"""
    best_psnr: float
    """dB, the best so far; -inf before the first validation"""
    latents: LatentUse | None = None
    """how the validation clips used the latent; None where the epoch was not validated"""
    examples: Examples | None = None
    """predictions to look at; None where the epoch was not validated"""

    @property
    def row(self) -> EpochRow:
        """This epoch's row of the history."""
        return self.rows[-1]


@runtime_checkable
class Callback(Protocol):
    """Receives the events of a training. It never changes the training.

    The callbacks of the lab: progress_bar.ProgressBar, tensorboard.TensorBoard, callbacks.Advice,
    and views.LiveFigure in a notebook.
    """

    def on_update(self, update: Update) -> None:
        """Called after each update of the weights."""

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Called after each epoch, when its row of the history is saved."""

    def close(self) -> None:
        """Called once at the end of the training, also after an error."""
