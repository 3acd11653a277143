"""The training history: one row an epoch, `history.csv` in the run folder. It holds nothing that
differs from one run of the same training to the next; what each epoch took is in `timing.csv`."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from labkit.errors import RunError
from labkit.files import write_whole

HISTORY = "history.csv"


@dataclass(frozen=True)
class EpochRow:
    """One row of the history."""

    epoch: int
    """counted from 1"""
    updates: int
    """weight updates done so far"""
    loss: float
    """mean over the epoch's updates: reconstruction + kl_weight * kl"""
    reconstruction: float
    """mean squared error a pixel value, of the training rollouts"""
    kl: float
    """nats a step, summed over latent dimensions"""
    validation_psnr: float | None
    """dB, free-running from the prior, one sample; empty where the epoch was not validated"""
    kl_weight: float
    """beta of this epoch's last update"""
    teacher_forcing_ratio: float
    """of this epoch's last update"""
    learning_rate: float
    """of this epoch's last update"""
    gradient_norm: float | None = None
    """mean over the epoch's updates, before any clipping; empty in histories of older runs"""
    active_units: int | None = None
    """latent units that the validation clips move (see `latent_use.latent_use`)"""
    posterior_gain: float | None = None
    """dB by which the posterior's rollout is better than the prior's, on those clips"""


LATER = ("gradient_norm", "active_units", "posterior_gain")
"""Columns that older runs lack; they read as NaN there."""


def write_history(run: Path, rows: list[EpochRow]) -> None:
    """Writes all rows, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [item.name for item in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
        )
    write_whole(run / HISTORY, text.getvalue())


def read_history(run: Path | str) -> dict[str, np.ndarray]:
    """The columns of a run's history as float arrays; NaN where a field is empty.

    Raises:
        RunError: the run has no history, or it is not one.
    """
    file = Path(run) / HISTORY
    if not file.is_file():
        raise RunError(f"the run has no {HISTORY}", file=run, hint="let it finish an epoch first")
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = [item.name for item in fields(EpochRow)]
    try:
        return {
            name: np.array([float(row[name]) if row[name] else np.nan for row in rows])
            if name not in LATER or all(name in row for row in rows)
            else np.full(len(rows), np.nan)
            for name in names
        }
    except (KeyError, TypeError, ValueError):
        raise RunError(
            f"not a training history; its columns should be {', '.join(names)}", file=file
        ) from None
