"""The progress bar: one line that says how the training stands."""

from __future__ import annotations

import math
import sys

from tqdm.auto import tqdm

from labkit.training.events import EpochEnd, Update


class ProgressBar:
    """Losses, PSNR, KL weight, ratio, clips/s and the time left, on one line that is renewed."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.psnr = "-"
        self.told: Update | None = None

    def on_update(self, told: Update) -> None:
        """Moves the bar by one update."""
        if self.bar is None:  # only now is it known where a resumed training goes on
            self.bar = tqdm(
                total=told.total,
                initial=told.number - 1,
                unit="update",
                desc="training",
                dynamic_ncols=True,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            )
        self.told = told
        self._write(refresh=False)
        self.bar.update()

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Takes up the epoch's PSNR, and the best so far."""
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
        if self.bar is not None and self.told is not None:
            told = line(self.told, self.psnr, self.bar.format_dict["rate"])
            self.bar.set_postfix(told, refresh=refresh)


def line(told: Update, psnr: str, rate: float | None) -> dict[str, str]:
    """What the bar says beside the updates and the time left, in its order.

    Args:
        told: the last update.
        psnr: of the last validation.
        rate: updates a second; None while it is not known.
    """
    values, weights = told.values, told.weights
    return {
        "epoch": f"{told.epoch + 1}/{told.epochs}",
        "loss": f"{values['loss']:.4g}",
        "MSE": f"{values['reconstruction']:.4g}",
        "KL": f"{values['kl']:.2f}",
        "PSNR": psnr,
        "beta": f"{weights['kl_weight']:.2g}",
        "teacher": f"{weights['teacher_forcing_ratio']:.2f}",
        "clips/s": "-" if rate is None else f"{rate * told.clips:.3g}",
    }


def say(words: str) -> None:
    """Prints a line without tearing a progress bar."""
    tqdm.write(f"note: {words}", file=sys.stderr)
