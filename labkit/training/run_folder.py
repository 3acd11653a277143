"""Who may train into a run folder: what is there already, and a lock while a training runs."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout

from labkit.config import MACHINE_FIELDS, Config
from labkit.errors import LabkitError, RunError
from labkit.fields import differences
from labkit.files import locked, refuse_file
from labkit.training.checkpoint import CHECKPOINT, CONFIG, WEIGHTS
from labkit.training.history import HISTORY
from labkit.training.schedules import schedule_at

LOCK = ".training.lock"
"""in the run's folder, while a training writes into it"""

RESULTS = (CHECKPOINT, WEIGHTS, HISTORY, "evaluation.json", "report.html")
"""Files that a new training must not overwrite. A config alone is no result."""


@contextlib.contextmanager
def locked_run(run: Path) -> Iterator[None]:
    """Makes the folder where it is missing, and holds its lock. A folder that was made for nothing
    is removed at the end.

    Raises:
        RunError: another training holds the lock, or the folder is a file.
        LabkitError: the folder cannot be written.
    """
    try:
        refuse_file(run, RunError)
        run.mkdir(parents=True, exist_ok=True)
        (run / LOCK).touch()
    except OSError as error:
        raise LabkitError(
            f"cannot be written: {error.strerror or error}",
            file=run,
            hint="choose a folder that can be written",
        ) from None
    try:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(run / LOCK))
            except Timeout:
                raise RunError(
                    "another process is training into this folder",
                    file=run,
                    hint="wait until it has ended, or choose another folder",
                ) from None
            except (OSError, NotImplementedError):
                pass  # some network disks have no locks; it trains without one
            yield
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            run.rmdir()


def begun_run(run: Path, *, resume: bool) -> Config | None:
    """The saved config of a run to continue; None where the training starts from the beginning.

    Raises:
        RunError: a training into this folder would overwrite the results of another.
        ConfigError: the run's config cannot be read.
    """
    found = [name for name in RESULTS if (run / name).exists()]
    if not found:
        return None
    here = shlex.quote(run.as_posix())
    if CHECKPOINT not in found:
        raise RunError(
            f"there is a run in this folder already, with {found[0]} but without the {CHECKPOINT} "
            "that a training could continue",
            file=run,
            hint=f"choose another folder; --init-from {here} begins with the weights of this run",
        )
    if not resume:
        raise RunError(
            "there is a run in this folder already",
            file=run,
            hint="add --resume to go on with it, or choose another folder",
        )
    return Config.load(run / CONFIG)


def check_same_run(run: Path, old: Config, new: Config, update: int) -> None:
    """Raises RunError where a run cannot continue with new settings.

    The settings of the machine and the place of the data may change. The number of epochs may
    change too, where this changes no schedule value of an update that is done.

    Args:
        run: its folder, for the message.
        old: the config that the run was made with.
        new: the config to continue with.
        update: number of updates done.
    """
    differing = differences(_fixed(old), _fixed(new))
    if differing:
        raise RunError(
            f"the run was made with other settings: {'; '.join(differing)}",
            file=run,
            hint="resume with the same settings, or train into another folder",
        )
    epochs, before = new.training.epochs, old.training.epochs
    if epochs == before:
        return
    done = update / new.training.updates_per_epoch
    if epochs < done:
        raise RunError(f"{done:g} epochs are done already, more than {epochs}", file=run)
    for number in range(update):
        was, would = schedule_at(number, old), schedule_at(number, new)
        changed = [name for name in was if was[name] != would[name]]
        if changed:
            name = changed[0]
            raise RunError(
                f"with {epochs} epochs instead of {before} the {name} of update {number}, which is "
                f"done, would be {would[name]:.3g} instead of {was[name]:.3g}: this schedule "
                "depends on the number of epochs",
                file=run,
                hint=f"begin a new run with its weights: --init-from {shlex.quote(run.as_posix())}"
                " --out OTHER",
            )


def _fixed(config: Config) -> Mapping[str, Any]:
    """The settings that a resume may not change."""
    values = config.to_dict()
    for name in (*MACHINE_FIELDS, "epochs"):
        del values["training"][name]
    del values["data"]["root"]
    return values
