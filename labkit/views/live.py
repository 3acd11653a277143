"""The training curves in a notebook, updated in place during training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from labkit.views.figures import LabFigure, training_curves


@runtime_checkable
class History(Protocol):
    """What a callback receives after an epoch."""

    @property
    def rows(self) -> Sequence[Any]:
        """The history so far: one row per epoch, an object with a field for each column."""


class LiveFigure:
    """A callback of a training: `train(config, run, callbacks=[LiveFigure()])` in a notebook.

    The figure is the cell's only output and is replaced there. The last figure depends on the
    history alone, not on the speed of the training. Outside a notebook it does nothing.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        """
        Args:
            seconds: shortest time between two drawings; the last epoch is always drawn.
        """
        self.seconds = seconds
        self._rows: Sequence[Any] = ()
        self._handle: Any = None
        self._drawn = -np.inf
        self._stale = False

    def on_update(self, update: object) -> None:
        """Does nothing: the curves have one point per epoch."""

    def on_epoch(self, epoch: History) -> None:
        """Updates the curves."""
        self._rows, self._stale = epoch.rows, True
        if time.monotonic() - self._drawn >= self.seconds:
            self._show()

    def close(self) -> None:
        """Draws the last epoch, if it is not drawn yet."""
        if self._stale:
            self._show()

    def _show(self) -> None:
        from IPython import get_ipython

        if get_ipython() is None:
            return
        from IPython.display import display

        figure = figure_of(self._rows)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._drawn, self._stale = time.monotonic(), False


def figure_of(rows: Sequence[Any]) -> LabFigure:
    """The training curves of a history's rows: objects with a field for each column, where None
    is a missing value."""
    # As floats, None is NaN.
    columns = {
        name: np.array([vars(row)[name] for row in rows], dtype=float) for name in vars(rows[0])
    }
    return training_curves(columns)
