"""`train`: a whole training, from its config to its run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from labkit.config import Config
from labkit.errors import DataError, LabkitError
from labkit.training.callbacks import Advice
from labkit.training.checkpoint import CHECKPOINT, CONFIG, WEIGHTS, Progress, clear_unfinished
from labkit.training.device import Acceleration
from labkit.training.distributed import Processes, local_device
from labkit.training.events import Callback
from labkit.training.history import EpochRow
from labkit.training.loop import TrainingLoop
from labkit.training.progress_bar import ProgressBar, say
from labkit.training.run_folder import begun_run, check_same_run, locked_run
from labkit.training.setup import TrainingSetup, clips_digest
from labkit.training.threads import chosen_by_user, limit_to_cores


def train(
    config: Config,
    run: Path | str,
    *,
    resume: bool = False,
    minutes: float | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
    callbacks: Sequence[Callback] = (),
    report: Callable[[str], None] | None = None,
    init_from: Path | str | None = None,
    time_threads: bool = False,
) -> list[EpochRow]:
    """Trains a model and writes everything about it into the run folder.

    Where torchrun started several processes, they train it together and all return the same.

    Args:
        config: all settings of the run.
        run: its folder; it is created where it is missing.
        resume: continue from the run's checkpoint, as if the training had never stopped; from the
            start where there is no checkpoint yet.
        minutes: stop after this time, with everything saved; None is no limit.
        progress: show a bar.
        device: where to compute; None is a GPU where there is one.
        callbacks: receive every update and epoch (`labkit.training.events`).
        report: receives the line on how the device is used, such as `print`; None is silent.
        init_from: folder of a run whose weights are the first ones, for fine-tuning; a run that is
            resumed ignores it.
        time_threads: on a CPU, time the first update with all threads and with one, and take the
            faster; False keeps torch's number. Environment variables such as OMP_NUM_THREADS
            decide where they are set.
    Returns:
        the history, one row per epoch.
    Raises:
        RunError: the run exists already, or cannot be resumed with this config.
        DataError: the data set cannot be read, or lacks what the config asks for.
        ConfigError: the batch cannot be divided among the processes.
        TrainingError: a loss is not finite.
        TrainingStopped: Ctrl-C or SIGTERM came; everything is saved.
        LabkitError: the minutes are not above 0, or a file cannot be written.
    """
    run = Path(run)
    check_minutes(minutes)
    root = os.path.abspath(config.data.root)  # so that the run may be used from any folder
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=root))
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    device = local_device(device)
    say_line = report or (lambda line: None)
    with Processes.join(device) as processes, contextlib.ExitStack() as stack:

        def enter() -> Config | None:
            stack.enter_context(locked_run(run))
            return begun_run(run, resume=resume)

        old = processes.of_first(enter)
        acceleration = Acceleration.choose(config.training, device, processes.world)
        setup = TrainingSetup(
            config,
            device,
            acceleration=acceleration,
            processes=processes,
            init_from=None if old is not None or init_from is None else Path(init_from),
            resumed=old is not None,
            progress=progress,
        )
        shown = [*([ProgressBar()] if progress else []), Advice(say), *callbacks]
        loop = TrainingLoop(setup, run, callbacks=shown)
        digest = clips_digest(setup.clips)
        if old is not None:

            def check(saved: Progress) -> None:
                check_same_run(run, with_data_of(old, setup.config), setup.config, saved.update)
                check_same_clips(saved, digest, root)

            if loop.resume(check) and processes.is_first:
                say_line(f"{run / WEIGHTS} was missing: written from the {CHECKPOINT}")
        loop.progress.clips = digest
        timed = ""
        if device.type == "cpu":
            timed = _decide_threads(loop, time_threads and processes.world == 1)
        if processes.is_first:
            clear_unfinished(run)
            setup.config.save(run / CONFIG)
            held_out = setup.config.data.hold_out
            if held_out:
                of = f"{held_out} of the {setup.clips.n_clips + held_out} training clips"
                say_line(f"held out to validate on: the last {of} (data.hold_out)")
            if resume and old is None:
                say_line(f"{run} has no checkpoint to go on from: it starts from the beginning")
            name = type(setup.optimizer).__name__
            line = acceleration.sentence(name, setup.clips_in_words, processes.world)
            say_line(f"{line}; {timed}" if timed else line)
        # At least one update is made, however long single parts were trained.
        left = None if minutes is None else max(minutes - setup.seconds_alone / 60, 1e-9)
        rows = loop.fit(left)
        total = config.training.epochs * config.training.updates_per_epoch
        if processes.is_first and loop.update < total:
            say_line(
                f"the {minutes:g} minutes are over: stopped after update {loop.update} of {total}, "
                "with everything saved"
            )
            say_line(f"to go on: labkit train --resume --out {shlex.quote(run.as_posix())}")
        return rows


def with_data_of(old: Config, new: Config) -> Config:
    """An earlier config with the place and the columns of the data as they are now; older versions
    saved no columns."""
    names = ("root", "action_columns", "position_columns")
    data = {name: getattr(new.data, name) for name in names}
    return dataclasses.replace(old, data=dataclasses.replace(old.data, **data))


def check_same_clips(saved: Progress, digest: str, root: str) -> None:
    """Raises DataError where the training clips are not those that the run was trained on."""
    if saved.clips and saved.clips != digest:
        raise DataError(
            "the training clips are not those that this run was trained on",
            file=root,
            hint="give --data.root of the same clips, or begin a new run with --init-from RUN",
        )


def _decide_threads(loop: TrainingLoop, time_threads: bool) -> str:
    """Sets the number of CPU threads; returns what was measured, in words. A resumed run takes the
    number of its checkpoint, since another number rounds differently."""
    timed = ""
    saved = loop.progress.threads
    if time_threads and not chosen_by_user():
        limit_to_cores()
        if 0 < saved <= torch.get_num_threads():
            torch.set_num_threads(saved)
        elif not saved:
            timed = loop.choose_threads()
    loop.progress.threads = torch.get_num_threads()
    return timed


def check_minutes(minutes: float | None) -> None:
    """Raises LabkitError for a time limit that is not above 0."""
    if minutes is not None and not minutes > 0:
        raise LabkitError(f"minutes is {minutes}", hint="give more than 0, or leave it out")
