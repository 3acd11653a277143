"""`train`: a whole training, from its config to its run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from labkit.config import MACHINE_FIELDS, Config
from labkit.data.dataset import with_columns
from labkit.errors import LabkitError, RunError
from labkit.fields import differences
from labkit.training.callbacks import Advice
from labkit.training.checkpoint import CHECKPOINT, CONFIG, clear_unfinished
from labkit.training.device import Acceleration
from labkit.training.distributed import Processes, local_device
from labkit.training.events import Callback
from labkit.training.history import EpochRow
from labkit.training.loop import TrainingLoop
from labkit.training.progress_bar import ProgressBar, say
from labkit.training.setup import TrainingSetup


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
    Returns:
        the history, one row an epoch.
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
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    device = local_device(device)
    with Processes.join(device) as processes:
        begun = processes.of_first(lambda: _claim(run, config, resume))
        acceleration = Acceleration.choose(config.training, device, processes.world)
        setup = TrainingSetup(config, device, acceleration=acceleration, processes=processes)
        shown = [*([ProgressBar()] if progress else []), Advice(say), *callbacks]
        loop = TrainingLoop(setup, run, callbacks=shown)
        if begun:
            loop.resume()
        if processes.is_first:
            clear_unfinished(run)
            setup.config.save(run / CONFIG)
            if report is not None:
                if resume and not begun:
                    report(f"{run} has no checkpoint to go on from: it starts from the beginning")
                name = type(setup.optimizer).__name__
                report(acceleration.sentence(name, setup.clips_in_words, processes.world))
        return loop.fit(minutes)


def check_minutes(minutes: float | None) -> None:
    """Raises LabkitError for a time limit that is not above 0."""
    if minutes is not None and not minutes > 0:
        raise LabkitError(f"minutes is {minutes}", hint="give more than 0, or leave it out")


def _claim(run: Path, config: Config, resume: bool) -> bool:
    """Whether there is a checkpoint to continue from.

    Raises:
        RunError: training into this folder would lose something.
    """
    begun = (run / CHECKPOINT).exists()
    if begun and not resume:
        raise RunError(
            "there is a run in this folder already",
            file=run,
            hint="add --resume to go on with it, or choose another folder",
        )
    if begun:
        old, new = Config.load(run / CONFIG).to_dict(), with_columns(config).to_dict()
        for each in (old, new):
            for name in MACHINE_FIELDS:
                del each["training"][name]
        differing = differences(old, new)
        if differing:
            raise RunError(
                f"the run was made with other settings: {'; '.join(differing)}",
                file=run,
                hint="resume with the same settings, or train into another folder",
            )
    return begun
