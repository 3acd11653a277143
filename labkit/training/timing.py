"""What each epoch took: `timing.csv` in the run folder. It is kept apart from the history, which
comes out the same however often a training was interrupted; a clock does not."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from labkit.errors import RunError
from labkit.files import write_whole

TIMING = "timing.csv"


class Timing:
    """Wall-clock seconds of each epoch, validation included; what a kill lost is not counted."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.epochs: list[float] = []
        """seconds of each epoch, the current one last"""

    def resume(self, epoch: int) -> None:
        """Takes up the file of an earlier process, up to the epoch that goes on, from 0."""
        seconds = read_timing(self.run) if (self.run / TIMING).is_file() else []
        self.epochs = [float(each) for each in seconds[: epoch + 1]]

    def add(self, epoch: int, seconds: float) -> None:
        """Adds to an epoch's time; epochs that nobody timed have 0."""
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
    """Seconds of each epoch, an epoch's whole time over all the processes that worked at it.

    Raises:
        RunError: the run has no timing, or it is not one.
    """
    file = Path(run) / TIMING
    if not file.is_file():
        raise RunError(f"the run has no {TIMING}", file=run, hint="let it finish an epoch first")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return np.array([float(row["seconds"]) for row in csv.DictReader(stream)])
    except (KeyError, TypeError, ValueError):
        raise RunError("not a timing; its columns should be epoch, seconds", file=file) from None
