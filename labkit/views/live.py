"""The training curves in a notebook, drawn anew in place while the model learns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from labkit.views.figures import LabFigure, training_curves


@runtime_checkable
class History(Protocol):
    """What is told after an epoch: the history so far, an object with a field a column each."""

    @property
    def rows(self) -> Sequence[Any]:
        """One an epoch."""


class LiveFigure:
    """A callback of a training: `train(config, run, callbacks=[LiveFigure()])` in a notebook.

    The figure takes the cell's one output and is replaced there, so that nothing flickers or
    piles up. What stands there at the end depends on the history alone, not on how quickly it
    came. Outside a notebook it does nothing.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        """
        Args:
            seconds: at least so long between two drawings; the last epoch is always drawn.
        """
        self.seconds = seconds
        self._rows: Sequence[Any] = ()
        self._handle: Any = None
        self._drawn = -np.inf
        self._stale = False

    def on_update(self, told: object) -> None:
        """Nothing: a point is an epoch."""

    def on_epoch(self, news: History) -> None:
        """Draws the curves anew."""
        self._rows, self._stale = news.rows, True
        if time.monotonic() - self._drawn >= self.seconds:
            self._show()

    def close(self) -> None:
        """Draws what was left out for lack of time."""
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
    """The training curves of rows of a history, as objects with a field a column; None is a
    value that is not there."""
    # As floats, None is NaN.
    columns = {
        name: np.array([vars(row)[name] for row in rows], dtype=float) for name in vars(rows[0])
    }
    return training_curves(columns)
