"""What a training tells those who watch it: a progress bar, TensorBoard, a figure, a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from labkit.training.history import EpochRow
    from labkit.training.latent_use import LatentUse


@dataclass(frozen=True)
class Update:
    """One update of the weights, just done."""

    number: int
    """updates done so far, this one included, counted from the start of the whole training"""
    total: int
    """updates of the whole training"""
    epoch: int
    """the epoch it belongs to, counted from 0"""
    epochs: int
    """epochs of the whole training"""
    values: Mapping[str, float]
    """loss, reconstruction, kl, gradient_norm (before clipping)"""
    weights: Mapping[str, float]
    """kl_weight, teacher_forcing_ratio, learning_rate"""
    clips: int
    """windows the update saw: the joint batch of all processes"""


@dataclass(frozen=True)
class Examples:
    """A few validation clips and what the model made of them, the context frames in front."""

    truth: UInt8[np.ndarray, "N T 3 H W"]
    """what happened, 0..255"""
    prediction: UInt8[np.ndarray, "N T 3 H W"]
    """free-running, one sample from the prior"""
    n_past: int
    """number of context frames"""


@dataclass(frozen=True)
class EpochEnd:
    """One epoch, just done and saved. It is told on rank 0 only."""

    rows: Sequence[EpochRow]
    """the history so far, this epoch's row the last"""
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
    """Someone who is told of a training as it runs. It never changes it."""

    def on_update(self, told: Update) -> None:
        """After each update of the weights."""

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """After each epoch's row of the history is made and saved."""

    def close(self) -> None:
        """Once, when the training ends, however it ends."""


# Who watches: progress_bar.ProgressBar, tensorboard.TensorBoard, latent_use.Advice, and in a
# notebook views.LiveFigure. What `EpochEnd` is given beside the row: latent_use.examine.
