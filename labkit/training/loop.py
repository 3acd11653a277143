"""One training loop. It knows nothing of this model in particular (`labkit.training.task`).

What it does depends on the config, the seed and the number of the update alone. So a run may end
at any moment, and go on from its last checkpoint to the same weights and the same history.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labkit.config import TrainingConfig
from labkit.training.checkpoint import WEIGHTS, Progress, load_progress, save_progress
from labkit.training.device import Acceleration
from labkit.training.distributed import Processes, unsynchronised
from labkit.training.events import Callback, EpochEnd, Update
from labkit.training.history import EpochRow, write_history
from labkit.training.schedules import learning_rate
from labkit.training.signals import SignalHandler, TrainingStopped
from labkit.training.step_metrics import TERMS, StepMetrics
from labkit.training.task import Task
from labkit.training.timing import Timing
from labkit.training.validation import Validation, judge

OUT_OF_TIME = -1
"""Why an epoch is left, where it is no signal: the minutes are over."""


class TrainingLoop:
    """Fits a task and keeps its run folder: checkpoint, best weights, history and timing."""

    def __init__(
        self,
        task: Task,
        config: TrainingConfig,
        run: Path,
        *,
        acceleration: Acceleration | None = None,
        processes: Processes | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """
        Args:
            task: what to fit; its module lies on its device already.
            config: how.
            run: the folder, written by the first process alone.
            acceleration: how the device computes; None is plainly, on a CPU.
            processes: those that share the batches; None is this one alone.
            callbacks: told of every update and epoch, in the first process alone.
        """
        self.task, self.config, self.run = task, config, run
        self.acceleration = acceleration or Acceleration(torch.device("cpu"))
        self.processes = processes or Processes()
        self.callbacks = callbacks if self.processes.is_first else ()
        self.optimizer = self.acceleration.optimizer(task.module, config)
        self.average = (
            AveragedModel(
                task.module, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
            )
            if config.ema_decay
            else None
        )
        self.losses = self.processes.shared(task.module, task.losses)
        self.progress = Progress()
        self.timing = Timing(run)
        self._metrics = StepMetrics(run, self.processes, self.acceleration.metrics_interval)
        self._stopping = SignalHandler()
        self._deadline = math.inf
        self._saved_at = self._clock = time.monotonic()

    @property
    def update(self) -> int:
        """Updates done."""
        return self.progress.update

    @property
    def rows(self) -> list[EpochRow]:
        """The history: epochs that are finished."""
        return self.progress.rows

    @property
    def judged(self) -> nn.Module:
        """The module that is validated and kept: the moving average where there is one."""
        return self.task.module if self.average is None else self.average.module

    def fit(self, minutes: float | None = None) -> list[EpochRow]:
        """Trains to the last epoch, or until the minutes are over, but for one update at least.

        A training that is out of time is judged as it stands, so that there is something to use;
        one that is resumed takes that judgement back, and ends as if it had never stopped.

        Returns:
            the history; where time was short its last row is of a part of an epoch.

        Raises:
            TrainingError: a loss or gradient is not finite. The last checkpoint stays as it was.
            TrainingStopped: Ctrl-C or SIGTERM came; everything is saved.
        """
        self._deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._saved_at = self._clock = time.monotonic()
        self._stopping = SignalHandler(alone=self.processes.world == 1)
        with contextlib.ExitStack() as stack:
            for callback in self.callbacks:
                stack.callback(callback.close)
            stack.enter_context(self._stopping)
            stack.enter_context(self.acceleration.kernels())
            cause = 0
            while not cause and len(self.rows) < self.config.epochs:
                cause = self._epoch()
            if cause > 0:
                self.processes.wait()  # for the first one's files
                raise TrainingStopped(cause, self.update, self.run)
            return self._judge_as_it_stands() if cause else self.rows

    def resume(self) -> None:
        """Takes up the run's checkpoint.

        Raises:
            RunError: there is no checkpoint, or it is damaged.
        """
        state, self.progress = self.processes.of_first(lambda: load_progress(self.run))
        self.task.module.load_state_dict(state["module"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for group, own in zip(
            state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True
        ):
            group["fused"] = own["fused"]  # the machine's choice, not the checkpoint's
        self.optimizer.load_state_dict(state["optimizer"])
        self._metrics.kept = self.update
        if self.processes.is_first:
            self.progress.restore(self.run)
            self.timing.resume(len(self.rows))
            write_history(self.run, self.rows)

    # ------------------------------------------------------------------------- an epoch

    def _epoch(self) -> int:
        """The rest of the current epoch: updates, validation, files. Returns why it was left:
        a signal's number, OUT_OF_TIME, or 0 where training goes on."""
        per_epoch = self.config.updates_per_epoch
        end = (len(self.rows) + 1) * per_epoch
        for batch in self.task.batches(range(self.update, end)):
            self._do_update(batch)
            every = self.config.checkpoint_every
            asked = bool(every) and self.update % every == 0
            if asked or self.update == end or self._metrics.are_due(self.update):
                cause = self._look_up(save=asked)
                if cause > 0 or (cause and self.update < end):
                    return cause
        self._finish_epoch()
        return self._look_up()

    def _finish_epoch(self) -> None:
        """Validates where that is due, and writes the epoch down."""
        row, judgement = self._row(), None
        last = row.epoch == self.config.epochs
        if self.processes.is_first and (last or row.epoch % self.config.validate_every == 0):
            judgement = self._judge()
            row = judgement.on(row)
            # `not <=`: the first weights are kept even where the figure is NaN.
            if not judgement.psnr <= self.progress.best_psnr:
                self.progress.best_psnr = judgement.psnr
                # Before the checkpoint that counts on it: a run that is killed in between comes
                # to the same weights again.
                self.task.save(self.judged, self.run / WEIGHTS)
        self.progress.finish_epoch(row)
        self._save()
        self._tell(self.rows, judgement)

    def _look_up(self, save: bool = False) -> int:
        """Between two updates: reads the losses, saves where it is time to, and asks whether to
        go on. All processes come here at the same updates, and to the same answer."""
        self._read()
        now, minutes = time.monotonic(), self.config.checkpoint_minutes
        long_ago = bool(minutes) and now - self._saved_at > 60 * minutes
        number, late, save_now = self.processes.highest(
            self._stopping.number,
            now > self._deadline,
            self.processes.is_first and (save or long_ago),
        )
        if number or late or save_now:
            self._save()
        return number or (OUT_OF_TIME if late else 0)

    # ------------------------------------------------------------------------ an update

    def _weights(self, update: int) -> dict[str, float]:
        """The schedules at an update, counted from 0."""
        done = update / (self.config.epochs * self.config.updates_per_epoch)
        return {**self.task.schedule(update), "learning_rate": learning_rate(done, self.config)}

    def _do_update(self, batch: Any) -> None:
        """One update of the weights."""
        weights = self._weights(self.update)
        for group in self.optimizer.param_groups:
            group["lr"] = weights["learning_rate"]
        self.optimizer.zero_grad(set_to_none=True)
        parts = range(self.config.accumulation_steps)
        values = torch.stack([self._backward(batch, weights, part) for part in parts]).sum(0)
        limit = self.config.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.task.module.parameters(), limit)
        values = torch.cat([values, norm.detach().reshape(1)])
        self._metrics.check_at_once(self.update, values)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.task.module)
        self.progress.update += 1
        self._metrics.add(weights, values)

    def _backward(
        self, batch: Any, weights: Mapping[str, float], part: int
    ) -> Float[Tensor, " terms"]:
        """The gradient of one part of the batch, added to what is there; returns its share of the
        batch's losses."""
        parts = self.config.accumulation_steps
        last = part == parts - 1
        with contextlib.nullcontext() if last else unsynchronised(self.losses):
            losses = self.losses(batch, self.update, weights, part)
            values = torch.stack([losses[name].detach() for name in TERMS]) / parts
            values = self._metrics.joint(values)
            # Before the gradients: torch's grid_sample, which composed outputs use, can crash the
            # process in its backward pass on a CPU when it meets a NaN (seen with torch 2.15).
            self._metrics.check_at_once(self.update, values)
            (losses["loss"] / parts).backward()
        return values

    def _read(self) -> None:
        """Takes in the updates whose figures were not read yet."""
        for number, weights, values in self._metrics.read(self.update):
            self.progress.add(values)
            self._tell_update(number, values, weights)

    # --------------------------------------------------------------- judging, keeping, telling

    def _judge(self) -> Validation:
        with self.acceleration.eager():
            return judge(self.task, self.judged)

    def _judge_as_it_stands(self) -> list[EpochRow]:
        """For a training that is out of time: keeps its weights for use if they are the best so
        far, and a last row. The checkpoint knows of neither, but for what a resume puts back."""
        rows = list(self.rows)
        if not self.processes.is_first:
            return rows
        if self.progress.summed:
            rows.append(self._row())
        elif rows[-1].validation_psnr is not None:
            return rows
        judgement = self._judge()
        rows[-1] = judgement.on(rows[-1])
        if not judgement.psnr <= self.progress.best_psnr:
            self.progress.displace(self.run)
            self._save()
            self.task.save(self.judged, self.run / WEIGHTS)
        write_history(self.run, rows)
        self._tell(rows, judgement)
        return rows

    def _row(self) -> EpochRow:
        """The current epoch so far."""
        weights = self._weights(self.update - 1)
        epoch = len(self.rows) + 1
        means = self.progress.means()
        return EpochRow(epoch, self.update, validation_psnr=None, **means, **weights)

    def _save(self) -> None:
        """Writes checkpoint, history and timing; the old ones stay good until the new are there."""
        now = time.monotonic()
        self._metrics.kept, self._saved_at = self.update, now
        if not self.processes.is_first:
            return
        state = {
            "module": self.task.module.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_progress(self.run, state, self.progress)
        write_history(self.run, self.rows)
        at_end = not self.progress.summed
        self.timing.add(len(self.rows) - (1 if at_end else 0), now - self._clock)
        self._clock = now
        self.timing.write()

    def _tell_update(
        self, number: int, values: Mapping[str, float], weights: Mapping[str, float]
    ) -> None:
        per_epoch, epochs = self.config.updates_per_epoch, self.config.epochs
        told = Update(
            number=number + 1,
            total=epochs * per_epoch,
            epoch=number // per_epoch,
            epochs=epochs,
            values=values,
            weights=weights,
            clips=self.config.batch_size,
        )
        for callback in self.callbacks:
            callback.on_update(told)

    def _tell(self, rows: Sequence[EpochRow], judgement: Validation | None) -> None:
        found = (judgement.latents, judgement.examples) if judgement else ()
        news = EpochEnd(rows, self.progress.best_psnr, *found)
        for callback in self.callbacks:
            callback.on_epoch(news)
