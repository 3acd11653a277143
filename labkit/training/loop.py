"""The training loop: epochs of updates, a validation after each, and the files of the run.

What it does depends on the config, the seed and the number of the update alone. So a run may end
at any moment, and continue from its last checkpoint to the same weights and the same history.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labkit.data.dataset import Batch
from labkit.errors import RunError, ShapeError, TrainingError
from labkit.files import reading
from labkit.training.checkpoint import (
    CHECKPOINT,
    DELETE,
    WEIGHTS,
    Progress,
    load_progress,
    save_model,
    save_progress,
)
from labkit.training.distributed import unsynchronised
from labkit.training.events import Callback, EpochEnd, Update
from labkit.training.history import EpochRow, Timing, write_history
from labkit.training.loss_step import batch_losses
from labkit.training.schedules import schedule_at
from labkit.training.setup import TrainingSetup, check_conditions
from labkit.training.signals import SignalHandler, TrainingStopped
from labkit.training.step_metrics import TERMS, StepMetrics
from labkit.training.threads import choose_threads
from labkit.training.validation import Validation, validate

OUT_OF_TIME = -1
"""Why an epoch ends early, where no signal came: the minutes are over."""


class TrainingLoop:
    """Trains a model and writes its run folder: checkpoint, best weights, history and timing."""

    def __init__(
        self, setup: TrainingSetup, run: Path, *, callbacks: Sequence[Callback] = ()
    ) -> None:
        """
        Args:
            setup: what to train.
            run: the folder; only the first process writes into it.
            callbacks: receive every update and epoch, in the first process alone.
        """
        self.setup, self.run = setup, run
        self.config, self.processes = setup.config.training, setup.processes
        self.callbacks = callbacks if self.processes.is_first else ()
        self.losses = self.processes.shared(setup.model, partial(batch_losses, setup))
        self.progress = Progress()
        self.timing = Timing(run)
        self._metrics = StepMetrics(run, self.processes, setup.acceleration.metrics_interval)
        self._signals = SignalHandler()
        self._deadline = math.inf
        self._saved_at = self._clock = time.monotonic()

    @property
    def update(self) -> int:
        """Number of updates done."""
        return self.progress.update

    @property
    def rows(self) -> list[EpochRow]:
        """The history: the finished epochs."""
        return self.progress.rows

    def fit(self, minutes: float | None = None) -> list[EpochRow]:
        """Trains to the last epoch, or until the minutes are over, but for one update at least.

        A training that runs out of time is validated as it stands, so that there are weights to
        use. When it is resumed this validation is undone, and the training ends as if it had never
        stopped.

        Returns:
            the history; where time was short its last row is of a part of an epoch.

        Raises:
            TrainingError: a loss or gradient is not finite. The last checkpoint is unchanged.
            TrainingStopped: Ctrl-C or SIGTERM came; everything is saved.
        """
        self._deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._saved_at = self._clock = time.monotonic()
        self._signals = SignalHandler(alone=self.processes.world == 1)
        with contextlib.ExitStack() as stack:
            for callback in self.callbacks:
                stack.callback(callback.close)
            stack.enter_context(self._signals)
            stack.enter_context(self.setup.acceleration.kernels())
            cause = 0
            while not cause and len(self.rows) < self.config.epochs:
                cause = self._epoch()
            if cause > 0:
                self.processes.wait()  # until the first one has written its files
                raise TrainingStopped(cause, self.update, self.run)
            return self._validate_as_it_stands() if cause else self.rows

    def resume(self, check: Callable[[Progress], None] | None = None) -> bool:
        """Continues from the run's checkpoint.

        Args:
            check: called with the checkpoint's progress before anything is changed; it may raise.
        Returns:
            whether the file of the best weights was missing, and was written from the checkpoint.
        Raises:
            RunError: there is no checkpoint, it is damaged, or it is of another model.
        """
        state, progress = self.processes.of_first(lambda: load_progress(self.run))
        if check is not None:
            check(progress)
        what = "the checkpoint does not fit the config"
        with reading(self.run / CHECKPOINT, what, error=RunError, hint=DELETE):
            self._load(state)
        self.progress = progress
        self._metrics.saved = self.update
        missing = not (self.run / WEIGHTS).is_file() and bool(self.rows)
        if self.processes.is_first:
            restored = progress.displaced is not None
            progress.restore(self.run)
            self.timing.resume(len(self.rows))
            write_history(self.run, self.rows)
            if missing and not restored:
                self._save_weights()
        return missing

    def _save_weights(self) -> None:
        """Writes the weights for use, with the names of the condition's columns."""
        columns = self.setup.config.data.condition_columns
        save_model(self.setup.validated_model, self.run / WEIGHTS, columns)

    def _load(self, state: dict[str, Any]) -> None:
        """Takes the tensors of a checkpoint; raises where they do not fit the model."""
        model, average, optimizer = self.setup.model, self.setup.average, self.setup.optimizer
        model.load_state_dict(state["module"])
        if average is not None:
            average.load_state_dict(state["average"])
        for group, own in zip(
            state["optimizer"]["param_groups"], optimizer.param_groups, strict=True
        ):
            group["fused"] = own["fused"]  # the machine decides that, not the checkpoint
        optimizer.load_state_dict(state["optimizer"])
        for weight, values in optimizer.state.items():
            for name, value in values.items():
                shape = torch.Size() if name == "step" else weight.shape
                if not torch.is_tensor(value) or value.shape != shape:
                    raise ValueError(f"{name} of the optimizer has another shape")

    # ------------------------------------------------------------------------- an epoch

    def _epoch(self) -> int:
        """The rest of the current epoch: updates, validation, files. Returns why it ended early:
        a signal's number or OUT_OF_TIME; 0 where the training goes on."""
        per_epoch = self.config.updates_per_epoch
        end = (len(self.rows) + 1) * per_epoch
        for batch in self.setup.batches(range(self.update, end)):
            self._do_update(batch)
            every = self.config.checkpoint_every
            save = bool(every) and self.update % every == 0
            if save or self.update == end or self._metrics.are_due(self.update):
                cause = self._between_updates(save=save)
                if cause > 0 or (cause and self.update < end):
                    return cause
        self._finish_epoch()
        return self._between_updates()

    def _finish_epoch(self) -> None:
        """Validates where that is due, and adds the epoch to the history."""
        row, validation = self._row(), None
        last = row.epoch == self.config.epochs
        if self.processes.is_first and (last or row.epoch % self.config.validate_every == 0):
            validation = validate(self.setup)
            row = validation.on(row)
            if self._are_kept(validation):
                if not (self.run / CHECKPOINT).exists():
                    self._save()  # so weights are never without a checkpoint
                if not validation.psnr <= self.progress.best_psnr:
                    self.progress.best_psnr = validation.psnr
                # Before the checkpoint that counts on it: a run that is killed in between
                # computes the same weights again.
                self._save_weights()
        self.progress.finish_epoch(row)
        self._save()
        self._report_epoch(self.rows, validation)

    def _between_updates(self, save: bool = False) -> int:
        """Reads the losses, saves where that is due, and decides whether to go on. All processes
        do this after the same updates, and decide the same.

        Returns:
            a signal's number, OUT_OF_TIME, or 0 to go on.
        """
        self._read()
        now, minutes = time.monotonic(), self.config.checkpoint_minutes
        long_ago = bool(minutes) and now - self._saved_at > 60 * minutes
        number, late, save_now = self.processes.highest(
            self._signals.number,
            now > self._deadline,
            self.processes.is_first and (save or long_ago),
        )
        if number or late or save_now:
            self._save()
        return number or (OUT_OF_TIME if late else 0)

    # ------------------------------------------------------------------------ an update

    def _do_update(self, batch: Batch) -> None:
        """One update of the weights, and of their moving average."""
        setup, schedule = self.setup, schedule_at(self.update, self.setup.config)
        for group in setup.optimizer.param_groups:
            group["lr"] = schedule["learning_rate"]
        try:
            values = self.gradients(batch, schedule)
        except (TrainingError, ShapeError):
            check_conditions(setup.clips)  # a fault of the data is reported as one
            raise
        limit = self.config.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(setup.model.parameters(), limit)
        values = torch.cat([values, norm.detach().reshape(1)])
        self._metrics.check_at_once(self.update, values)
        setup.optimizer.step()
        if setup.average is not None:
            setup.average.update_parameters(setup.model)
        self.progress.update += 1
        self._metrics.add(schedule, values)

    def choose_threads(self) -> str:
        """Sets the number of CPU threads with which the gradient of the next batch is faster: all
        of torch's, or one. No weight, statistic or draw changes.

        Returns:
            what was measured, in words; empty where there was nothing to choose.
        """
        setup = self.setup
        buffers = {name: value.clone() for name, value in setup.model.named_buffers()}
        random_state = torch.get_rng_state()
        batch = next(iter(setup.batches(range(self.update, self.update + 1))))
        schedule = schedule_at(self.update, setup.config)
        measured = choose_threads(partial(self.gradients, batch, schedule))
        setup.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in setup.model.named_buffers():
                value.copy_(buffers[name])
        torch.set_rng_state(random_state)
        return measured

    def gradients(self, batch: Batch, schedule: Mapping[str, float]) -> Float[Tensor, " terms"]:
        """Computes the gradient of the batch's loss, and leaves it in the model's parameters.

        Args:
            batch: this process's share of the batch of the current update.
            schedule: of this update, see `schedules.schedule_at`.
        Returns:
            the batch's losses, in the order of TERMS.
        Raises:
            TrainingError: one of them is not finite.
        """
        self.setup.optimizer.zero_grad(set_to_none=True)
        self.setup.acceleration.begin_update()
        parts = range(self.config.accumulation_steps)
        return torch.stack([self._backward(batch, schedule, part) for part in parts]).sum(0)

    def _backward(
        self, batch: Batch, schedule: Mapping[str, float], part: int
    ) -> Float[Tensor, " terms"]:
        """Adds the gradient of one part of the batch; returns that part's share of the losses."""
        parts = self.config.accumulation_steps
        last = part == parts - 1
        with contextlib.nullcontext() if last else unsynchronised(self.losses):
            losses = self.losses(batch, self.update, schedule, part)
            values = torch.stack([losses[name].detach() for name in TERMS]) / parts
            values = self._metrics.joint(values)
            # Before the gradients: torch's grid_sample, which composed outputs use, can crash the
            # process in its backward pass on a CPU when it meets a NaN (seen with torch 2.15).
            self._metrics.check_at_once(self.update, values)
            (losses["loss"] / parts).backward()
        return values

    def _read(self) -> None:
        """Reads the figures of the updates since the last reading, and reports them."""
        per_epoch, epochs = self.config.updates_per_epoch, self.config.epochs
        try:
            figures = list(self._metrics.read(self.update))
        except TrainingError:
            check_conditions(self.setup.clips)
            raise
        for number, schedule, values in figures:
            self.progress.add(values)
            update = Update(
                number=number + 1,
                total=epochs * per_epoch,
                epoch=number // per_epoch,
                epochs=epochs,
                values=values,
                schedule=schedule,
                clips=self.config.batch_size,
            )
            for callback in self.callbacks:
                callback.on_update(update)

    # -------------------------------------------------------------- validation, files, reports

    def _validate_as_it_stands(self) -> list[EpochRow]:
        """For a training that ran out of time: saves its weights for use if they are the best so
        far, and adds a last row to the history. The checkpoint has neither; it has what a resume
        needs to undo both."""
        rows = list(self.rows)
        if not self.processes.is_first:
            return rows
        if self.progress.summed:
            rows.append(self._row())
        elif rows[-1].validation_psnr is not None:
            return rows
        validation = validate(self.setup)
        rows[-1] = validation.on(rows[-1])
        if self._are_kept(validation):
            self.progress.displace(self.run)
            self._save()
            self._save_weights()
        write_history(self.run, rows)
        self._report_epoch(rows, validation)
        return rows

    def _are_kept(self, validation: Validation) -> bool:
        """Whether the validated weights take the place of those that are kept."""
        # `not <=`: the first weights are saved even where the PSNR is NaN.
        return self.config.keep == "last" or not validation.psnr <= self.progress.best_psnr

    def _row(self) -> EpochRow:
        """The current epoch so far, as a row of the history."""
        schedule = schedule_at(self.update - 1, self.setup.config)
        epoch = len(self.rows) + 1
        means = self.progress.means()
        return EpochRow(epoch, self.update, validation_psnr=None, **means, **schedule)

    def _save(self) -> None:
        """Writes checkpoint, history and timing. The old files stay until the new ones are
        complete."""
        now = time.monotonic()
        self._metrics.saved, self._saved_at = self.update, now
        if not self.processes.is_first:
            return
        setup = self.setup
        state = {
            "module": setup.model.state_dict(),
            "average": None if setup.average is None else setup.average.state_dict(),
            "optimizer": setup.optimizer.state_dict(),
        }
        save_progress(self.run, state, self.progress)
        write_history(self.run, self.rows)
        at_end = not self.progress.summed
        self.timing.add(len(self.rows) - (1 if at_end else 0), now - self._clock)
        self._clock = now
        self.timing.write()

    def _report_epoch(self, rows: Sequence[EpochRow], validation: Validation | None) -> None:
        found = (validation.latents, validation.examples) if validation else ()
        epoch_end = EpochEnd(rows, self.progress.best_psnr, *found)
        for callback in self.callbacks:
            callback.on_epoch(epoch_end)
