"""TensorBoard: the training's curves, and pictures of the validation rollout.

tensorboard --logdir runs
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from labkit.errors import LabkitError
from labkit.evaluation.sources import SOURCES
from labkit.training.events import EpochEnd, Examples, Update
from labkit.training.progress_bar import say

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
"""of the events, in the run's folder"""

EPOCH_TAGS = {
    "loss": "train/loss",
    "reconstruction": "train/reconstruction",
    "kl": "train/kl",
    "gradient_norm": "train/gradient_norm",
    "validation_psnr": "validation/psnr",
    "active_units": "latent/active_units",
    "posterior_gain": "latent/posterior_gain",
    "kl_weight": "schedule/kl_weight",
    "teacher_forcing_ratio": "schedule/teacher_forcing_ratio",
    "learning_rate": "schedule/learning_rate",
    **{f"{name}_share": f"sources/{name}" for name in SOURCES},
}
"""Columns of the history, and their names in TensorBoard. Their step is the number of updates."""


class TensorBoard:
    """Writes every epoch's row, the use of the latent, and strips of frames as TensorBoard events.

    A resumed training removes from the curves what was written after its checkpoint.
    """

    def __init__(self, run: Path | str, say: Callable[[str], None] = say) -> None:
        """
        Args:
            run: the run's folder; the events go into `tensorboard/` there.
            say: receives a line where the events can no longer be written.
        Raises:
            LabkitError: TensorBoard is not installed.
        """
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise LabkitError(
                "TensorBoard is not installed",
                hint="`pip install tensorboard`, or give --no-tensorboard",
            ) from None
        self.folder = Path(run) / FOLDER
        self.writer: SummaryWriter | None = None
        self.say, self.failed = say, False
        self._hook: Any = None

    def on_update(self, update: Update) -> None:
        """Opens the file at the first update, and writes the losses of every tenth update."""
        if self.failed:
            return
        with self._going_on():
            if self.writer is None:
                self._open(update.number)
            if update.number % EVERY == 0:
                for name in ("loss", "gradient_norm"):
                    if name in update.values:
                        self._writer.add_scalar(
                            f"update/{name}", update.values[name], update.number
                        )

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Writes the epoch."""
        if self.writer is None:
            return
        with self._going_on():
            self._write(epoch_end)
            self.writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with self._going_on():
            writer, self.writer = self.writer, None
            if writer is not None:
                writer.close()
        if self._hook is not None:
            threading.excepthook, self._hook = self._hook, None

    @property
    def _writer(self) -> SummaryWriter:
        assert self.writer is not None
        return self.writer

    def _open(self, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._hook, threading.excepthook = threading.excepthook, self._thread_failed
        self.writer = SummaryWriter(str(self.folder), purge_step=first)

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread, whose OSError comes to the next call here as well."""
        if not isinstance(failure.exc_value, OSError) and self._hook is not None:
            self._hook(failure)

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """A context in which a file that cannot be written ends the curves, not the training."""
        try:
            yield
        except OSError as error:
            self.failed, self.writer = True, None
            self.say(
                f"{self.folder}: cannot be written: {error.strerror or error}; the training goes "
                "on without curves for TensorBoard"
            )

    def _write(self, epoch_end: EpochEnd) -> None:
        writer, step = self._writer, epoch_end.row.updates
        row: dict[str, Any] = vars(epoch_end.row)
        for name, tag in EPOCH_TAGS.items():
            if row[name] is not None:
                writer.add_scalar(tag, row[name], step)
        if epoch_end.latents is not None:
            for t, nats in enumerate(epoch_end.latents.kl_per_step.tolist(), start=1):
                writer.add_scalar(f"latent_kl_per_step/t{t:02}", nats, step)
            writer.add_histogram("latent/kl_per_unit", epoch_end.latents.kl.mean(dim=0), step)
        if epoch_end.examples is not None:
            for number, picture in enumerate(strips(epoch_end.examples)):
                writer.add_image(f"validation/clip_{number}", picture, step, dataformats="HWC")


EVERY = 10
"""The losses of every such update are written, besides the means of each epoch."""


def strips(examples: Examples, gap: int = 2) -> UInt8[np.ndarray, "N H2 W2 3"]:
    """One picture per clip: the recorded frames above, the predicted ones below, time from left to
    right, and a wider gap where the context ends.

    Args:
        examples: clips of T frames.
        gap: white pixels between two frames.
    """
    n, t, _, height, width = examples.truth.shape
    lefts = [i * (width + gap) + (2 * gap if i >= examples.n_past else 0) for i in range(t)]
    shape = (n, 2 * height + gap, lefts[-1] + width, 3)
    picture = np.full(shape, 255, np.uint8)
    for row, clips in enumerate((examples.truth, examples.prediction)):
        top = row * (height + gap)
        for i, left in enumerate(lefts):
            frame = clips[:, i].transpose(0, 2, 3, 1)  # (N, H, W, 3)
            picture[:, top : top + height, left : left + width] = frame
    return picture
