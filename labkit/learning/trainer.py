"""One training loop. It knows nothing of this model in particular: a `Task` brings the module,
its batches, a loss with named parts, and a way to judge the result."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from labkit.config import TrainingConfig
from labkit.errors import TrainingError
from labkit.learning.checkpoint import WEIGHTS, load_checkpoint, save_checkpoint
from labkit.learning.history import EpochRow, write_history
from labkit.learning.schedules import learning_rate


@runtime_checkable
class Task(Protocol):
    """What the trainer has to be told of a model and its data."""

    module: nn.Module

    def batches(self, updates: range) -> Iterable[Any]:
        """The batch of each of those updates, counted from the start of the training."""

    def losses(self, batch: Any, update: int, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """Named scalars of one update: "loss" is minimised, "reconstruction" and "kl" are told."""

    def schedule(self, epoch: int) -> dict[str, float]:
        """The epoch's "kl_weight" and "teacher_forcing_ratio"."""

    def validate(self, module: nn.Module) -> float:
        """How good the module is, in dB; the highest is kept."""

    def save(self, module: nn.Module, file: Path) -> None:
        """Writes the module's weights for use."""


class Trainer:
    """Fits a task and keeps its run folder: checkpoint, best weights and history."""

    def __init__(self, task: Task, config: TrainingConfig, run: Path, *, progress: bool) -> None:
        self.task, self.config, self.run, self.progress = task, config, run, progress
        self.optimizer = torch.optim.Adam(
            task.module.parameters(), config.learning_rate, (config.adam_beta1, 0.999)
        )
        self.average = (
            AveragedModel(
                task.module, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
            )
            if config.ema_decay
            else None
        )
        self.update = 0
        self.best_psnr = -math.inf
        self.rows: list[EpochRow] = []

    @property
    def judged(self) -> nn.Module:
        """The module that is validated and kept: the moving average where there is one."""
        return self.task.module if self.average is None else self.average.module

    def fit(self, minutes: float | None = None) -> list[EpochRow]:
        """Trains to the last epoch, or until the minutes are over, but for one update at
        least; returns the history.

        Raises:
            TrainingError: a loss or gradient is not finite. What was saved at the end of the
                last epoch stays as it was.
        """
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        total = self.config.epochs * self.config.updates_per_epoch
        bar = tqdm(
            total=total,
            initial=self.update,
            disable=not self.progress,
            unit="update",
            desc="training",
            leave=True,
        )
        with bar:
            in_time = True
            while in_time and self.update < total:
                in_time = self._epoch(deadline, bar)
        return self.rows

    def resume(self) -> None:
        """Takes up the run's checkpoint.

        Raises:
            RunError: there is no checkpoint, or it is damaged.
        """
        state = load_checkpoint(self.run)
        self.task.module.load_state_dict(state["module"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.update, self.best_psnr = state["update"], state["best_psnr"]
        self.rows = [EpochRow(**row) for row in state["rows"]]

    def _epoch(self, deadline: float, bar: tqdm) -> bool:
        """The rest of the current epoch: updates, validation, files. False: out of time."""
        started = time.monotonic()
        per_epoch = self.config.updates_per_epoch
        epoch = self.update // per_epoch
        weights = self.task.schedule(epoch)
        sums = dict.fromkeys(("loss", "reconstruction", "kl"), 0.0)
        first = self.update
        for batch in self.task.batches(range(first, (epoch + 1) * per_epoch)):
            values = self._step(batch, weights)
            sums = {name: total + values[name] for name, total in sums.items()}
            bar.set_postfix(self._told(epoch, values, weights), refresh=False)
            bar.update()
            if time.monotonic() > deadline:
                break
        done = self.update - first
        in_time = time.monotonic() <= deadline
        last = self.update == self.config.epochs * per_epoch or not in_time
        psnr = self._validate() if last or (epoch + 1) % self.config.validate_every == 0 else None
        self.rows.append(
            EpochRow(
                epoch=epoch + 1,
                updates=self.update,
                **{name: total / done for name, total in sums.items()},
                validation_psnr=psnr,
                **weights,
                learning_rate=self.optimizer.param_groups[0]["lr"],
                seconds=round(time.monotonic() - started, 2),
            )
        )
        self._save()
        return in_time

    def _told(
        self, epoch: int, values: Mapping[str, float], weights: Mapping[str, float]
    ) -> dict[str, str]:
        """What the progress bar says, in its order."""
        return {
            "epoch": f"{epoch + 1}/{self.config.epochs}",
            "loss": f"{values['loss']:.5f}",
            "KL": f"{values['kl']:.2f}",
            "beta": f"{weights['kl_weight']:.2g}",
            "teacher": f"{weights['teacher_forcing_ratio']:.2f}",
            "best dB": f"{self.best_psnr:.2f}" if math.isfinite(self.best_psnr) else "-",
        }

    def _step(self, batch: Any, weights: Mapping[str, float]) -> dict[str, float]:
        """One update of the weights."""
        total = self.config.epochs * self.config.updates_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.update / total, self.config)
        losses = self.task.losses(batch, self.update, weights)
        values = {name: value.item() for name, value in losses.items()}
        # Before the gradients: torch's grid_sample, which composed outputs use, can crash the
        # process in its backward pass when it meets a NaN (seen with torch 2.15 on a CPU).
        if not all(map(math.isfinite, values.values())):
            raise self._not_finite(values)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        limit = self.config.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.task.module.parameters(), limit).item()
        if not math.isfinite(norm):
            raise self._not_finite({**values, "gradient norm": norm})
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.task.module)
        self.update += 1
        return values

    def _not_finite(self, values: Mapping[str, float]) -> TrainingError:
        told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        kept = (
            f"the checkpoint of update {self.rows[-1].updates} is kept"
            if self.rows
            else "no epoch was finished, so there is no checkpoint"
        )
        return TrainingError(
            f"training stopped at update {self.update}: {told}; {kept}",
            file=self.run,
            mend="train again with a lower --training.learning-rate, a --training.gradient-clip "
            "such as 1, or a lower --kl.max-weight",
        )

    def _validate(self) -> float:
        """Judges the module, and keeps its weights when they are the best so far."""
        module = self.judged
        module.eval()
        with torch.no_grad():
            psnr = self.task.validate(module)
        module.train()
        # `not <=`: the first weights are kept even where the figure is NaN.
        if not psnr <= self.best_psnr:
            self.best_psnr = psnr
            self.task.save(module, self.run / WEIGHTS)
        return psnr

    def _save(self) -> None:
        save_checkpoint(
            self.run,
            {
                "module": self.task.module.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "update": self.update,
                "best_psnr": self.best_psnr,
                "rows": [vars(row) for row in self.rows],
            },
        )
        write_history(self.run, self.rows)
