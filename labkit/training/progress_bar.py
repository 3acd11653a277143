"""The progress bar: one line with the state of the training."""

from __future__ import annotations

import math
import sys

from tqdm.auto import tqdm

from labkit.training.events import EpochEnd, Update


class ProgressBar:
    """Losses, PSNR, KL weight, ratio, clips/s and the time left, on one line that is rewritten."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.psnr = "-"
        self.last: Update | None = None

    def on_update(self, update: Update) -> None:
        """Moves the bar by one update."""
        if self.bar is None:  # the first update says where a resumed training continues
            self.bar = tqdm(
                total=update.total,
                initial=update.number - 1,
                unit="update",
                desc="training",
                dynamic_ncols=True,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            )
        self.last = update
        self._write(refresh=False)
        self.bar.update()

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Shows the epoch's PSNR, and the best so far."""
        if epoch_end.row.validation_psnr is not None:
            best = (
                f" (best {epoch_end.best_psnr:.2f})" if math.isfinite(epoch_end.best_psnr) else ""
            )
            self.psnr = f"{epoch_end.row.validation_psnr:.2f} dB{best}"
            self._write(refresh=True)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self.bar is not None:
            self.bar.close()

    def _write(self, *, refresh: bool) -> None:
        if self.bar is not None and self.last is not None:
            figures = line(self.last, self.psnr, self.bar.format_dict["rate"])
            self.bar.set_postfix(figures, refresh=refresh)


def line(update: Update, psnr: str, rate: float | None) -> dict[str, str]:
    """The figures that the bar shows beside the updates and the time left.

    Args:
        update: the last update.
        psnr: of the last validation.
        rate: updates per second; None while it is not known.
    """
    values, schedule = update.values, update.schedule
    return {
        "epoch": f"{update.epoch + 1}/{update.epochs}",
        "loss": f"{values['loss']:.4g}",
        "MSE": f"{values['reconstruction']:.4g}",
        "KL": f"{values['kl']:.2f}",
        "PSNR": psnr,
        "beta": f"{schedule['kl_weight']:.2g}",
        "teacher": f"{schedule['teacher_forcing_ratio']:.2f}",
        "clips/s": "-" if rate is None else f"{rate * update.clips:.3g}",
    }


def say(words: str) -> None:
    """Prints a line without tearing a progress bar."""
    tqdm.write(f"note: {words}", file=sys.stderr)
