"""Clips under a slider, in a notebook: every picture is with the browser from the start.

The slider, the play button and the pictures are linked on the client side, so that dragging
takes no round trip to the kernel and goes on when the kernel is gone.
"""

from __future__ import annotations

import base64
from typing import Any

import ipywidgets as widgets
import numpy as np

from labkit.views.columns import side_by_side
from labkit.views.filmstrip import Rows, check_rows, filmstrip, png_bytes
from labkit.views.gif import frame_time

_STRIP_STEPS = 12  # a still strip of more frames than this could not be read


class Scrubber(widgets.VBox):
    """A slider and a play button over named clips; made by `scrub`."""

    def __init__(self, rows: Rows, n_past: int | None, scale: int, fps: int | float) -> None:
        length, _, _ = check_rows(rows, n_past, scale)
        last = length - 1
        self.names = tuple(rows)
        self.frames = length
        self.fallback = _still(rows, n_past)
        """a strip as a PNG, for a saved notebook that nobody has run"""
        self.play = widgets.Play(
            min=0,
            max=last,
            interval=frame_time(fps),
            show_repeat=True,
            tooltip="play",
            layout=widgets.Layout(width="auto"),
        )
        self.slider = widgets.IntSlider(
            min=0,
            max=last,
            description="t",
            tooltip="time step (arrow keys move it)",
            layout=widgets.Layout(width="26em", max_width="100%"),
        )
        self.stack = widgets.Stack(
            [_picture(rows, step, n_past, scale) for step in range(length)], selected_index=0
        )
        self.links = (
            widgets.jslink((self.play, "value"), (self.slider, "value")),
            widgets.jslink((self.slider, "value"), (self.stack, "selected_index")),
        )
        super().__init__([widgets.HBox([self.play, self.slider]), self.stack])

    def __repr__(self) -> str:
        return f"Scrubber(rows={list(self.names)}, frames={self.frames})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live view where there is a kernel, and a still strip where there is none.

        The strip is a PNG and not HTML because strict notebook comparison leaves pictures and
        the view's model id, which changes with every run, out; the text is the same each time.
        """
        data = dict(super()._repr_mimebundle_(**kwargs) or {})
        data["text/plain"] = repr(self)
        data["image/png"] = base64.b64encode(self.fallback).decode("ascii")
        return data


def scrub(
    rows: Rows, n_past: int | None = None, scale: int = 4, fps: int | float = 5.0
) -> Scrubber:
    """Named clips side by side under one slider, for the last line of a notebook's cell.

    Args:
        rows: named clips, each uint8 (T, 3, H, W), all of one shape; the first is leftmost.
        n_past: how many of the first frames are context; each picture then says whether it
            shows context or prediction. None: it says neither.
        scale: every pixel becomes a square of this side (nearest neighbour).
        fps: frames a second when playing, at most 50.

    Returns:
        a widget with `.slider`, `.play` and `.stack`, whose repr is the same at every run.

    Raises:
        ShapeError: no rows; clips of different lengths or sizes, of another type than uint8,
            or with no frames; see `filmstrip.check_rows`.
    """
    return Scrubber(rows, n_past, scale, fps)


def _picture(rows: Rows, step: int, n_past: int | None, scale: int) -> widgets.Image:
    data = png_bytes(side_by_side(rows, step, scale=scale, n_past=n_past))
    # Larger than the notebook it shrinks, in proportion.
    return widgets.Image(value=data, format="png", layout=widgets.Layout(max_width="100%"))


def _still(rows: Rows, n_past: int | None) -> bytes:
    length = len(next(iter(rows.values())))
    steps = np.unique(np.linspace(0, length - 1, min(length, _STRIP_STEPS)).round().astype(int))
    return png_bytes(filmstrip(rows, scale=1, n_past=n_past, steps=steps.tolist()))
