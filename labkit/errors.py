"""The errors a user can cause. Each says what is wrong, where, and what mends it."""

from __future__ import annotations

from pathlib import Path


class LabkitError(Exception):
    """Base of every error that is the input's fault, not the program's.

    The command line prints `str(error)` as its one line and exits with 2; code that uses
    the package can catch this one class.
    """

    def __init__(
        self,
        what: str,
        *,
        file: Path | str | None = None,
        row: int | None = None,
        hint: str | None = None,
    ) -> None:
        """
        Args:
            what: one clause that says what is wrong.
            file: the file or folder it was found in.
            row: the row of that file, counted from 1 as an editor counts.
            hint: what the user can do about it.
        """
        self.what, self.file, self.row, self.hint = what, file, row, hint
        where = "" if file is None else f"{file}{'' if row is None else f', row {row}'}: "
        super().__init__(f"{where}{what}{'' if hint is None else f' ({hint})'}")


class ConfigError(LabkitError):
    """A hyper-parameter that is unknown, of the wrong type or out of its range."""


class DataError(LabkitError):
    """A clip, a data set or a pack that cannot be read as one."""


class ShapeError(LabkitError):
    """A tensor whose shape or range does not fit the model it was given to."""


class RunError(LabkitError):
    """A run folder that is missing, unfinished or made with another config."""


class TrainingError(LabkitError):
    """A training run that cannot go on, such as one whose loss is not finite."""
