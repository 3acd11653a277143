"""The training history, `history.csv` in the run folder, one row per epoch; and the seconds of each
epoch, `timing.csv`.

The history is the same for every run of the same training, however often it was interrupted.
Seconds are not, so they have a file of their own.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from labkit.errors import RunError
from labkit.evaluation.sources import SOURCES
from labkit.files import reading, write_whole

HISTORY = "history.csv"
TIMING = "timing.csv"


@dataclass(frozen=True)
class EpochRow:
    """One row of the history."""

    epoch: int
    """counted from 1"""
    updates: int
    """updates of the weights done so far"""
    loss: float
    """mean over the epoch's updates: reconstruction + kl_weight * kl"""
    reconstruction: float
    """squared error, mean over pixel values and the predicted steps (11 of 12 frames), of the
    training rollouts; the course's sample code divides the sum over the steps by all 12 frames"""
    kl: float
    """nats per step, summed over latent dimensions, mean over the predicted steps likewise"""
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
    """number of active latent units on some validation clips (see `latent_use.latent_use`)"""
    posterior_gain: float | None = None
    """dB: PSNR with z from the posterior minus PSNR with z from the prior, on those clips"""
    previous_share: float | None = None
    """from 0 to 1: share of the previous frame in the predictions of those clips; this column and
    those below are empty where the output has no such source (`evaluation.sources`)"""
    context_share: float | None = None
    """share of the last context frame"""
    layer_share: float | None = None
    """share of the layer that is cut out of the last context frame"""
    table_share: float | None = None
    """share of the table"""
    arm_share: float | None = None
    """share of the arm's picture"""
    fresh_share: float | None = None
    """share of fresh pixels"""
    pushed_share: float | None = None
    """share of the table that the arm has pushed (`model.scene.pusher`)"""

    @property
    def source_shares(self) -> dict[str, float]:
        """The share of each source that the output has, by name; empty where the epoch was not
        validated."""
        shares = {name: getattr(self, f"{name}_share") for name in SOURCES}
        return {name: share for name, share in shares.items() if share is not None}


LATER = (
    "gradient_norm",
    "active_units",
    "posterior_gain",
    *(f"{name}_share" for name in SOURCES),
)
"""Columns that the histories of older runs lack; they are read as NaN."""


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
    names = [item.name for item in fields(EpochRow)]
    what = f"not a training history with the columns {', '.join(names)}"
    with reading(file, what, error=RunError, hint=AGAIN):
        table = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
        header = next(table, [])
        found: dict[str, list[float]] = {name: [] for name in names}
        for row, values in enumerate(table, start=2):
            line = dict(zip(header, values, strict=True)) | {
                name: "" for name in LATER if name not in header
            }
            for name in names:
                found[name].append(_number(line[name], name, row, file))
    return {name: np.array(column) for name, column in found.items()}


AGAIN = "labkit train --resume writes it anew from the run's checkpoint"


def _text(file: Path) -> str:
    """The text of a csv file that this module wrote; raises ValueError for more than 100 MB."""
    if file.stat().st_size > 10**8:
        raise ValueError("it is larger than 100 MB")
    return file.read_text(encoding="utf-8")


def _number(text: str, name: str, row: int, file: Path) -> float:
    """A field of the history; empty is NaN. Raises RunError for what is not a finite number."""
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise RunError(f"{name} is {text[:40]!r}, not a finite number", file=file, row=row)
    return value


class Timing:
    """Wall-clock seconds of each epoch, validation included. Time lost by a killed process is not
    counted."""

    def __init__(self, run: Path) -> None:
        """
        Args:
            run: the run's folder.
        """
        self.run = run
        self.epochs: list[float] = []
        """seconds of each epoch, the current one last"""

    def resume(self, epoch: int) -> None:
        """Continues the file of an earlier process.

        Args:
            epoch: the epoch that the training continues with, counted from 0.
        """
        seconds = read_timing(self.run) if (self.run / TIMING).is_file() else []
        self.epochs = [float(each) for each in seconds[: epoch + 1]]

    def add(self, epoch: int, seconds: float) -> None:
        """Adds to an epoch's time; epochs without a measurement have 0."""
        self.epochs += [0.0] * (epoch + 1 - len(self.epochs))
        self.epochs[epoch] += seconds

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", "seconds"])
        writer.writerows([n, f"{each:.2f}"] for n, each in enumerate(self.epochs, start=1))
        write_whole(self.run / TIMING, text.getvalue())


def read_timing(run: Path | str) -> np.ndarray:
    """Seconds of each epoch, summed over all the processes that worked on it one after another.

    Raises:
        RunError: the run has no timing, or the file is not one.
    """
    file = Path(run) / TIMING
    if not file.is_file():
        raise RunError(f"the run has no {TIMING}", file=run, hint="let it finish an epoch first")
    with reading(file, "not a timing with the columns epoch, seconds", error=RunError):
        table = csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
        return np.array([float(row["seconds"]) for row in table])
