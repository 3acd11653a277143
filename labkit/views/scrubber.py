"""Clips under a slider: in a notebook, in a page of its own, and as linked widgets.

What a notebook shows is the HTML of `scrub_page` and not a widget's view. Both answer without
the kernel, but a view lasts only as long as the session that made it: in a notebook that was
run, saved and opened again, JupyterLab shows "Error displaying widget: model not found" in its
place. The HTML works there too, in an exported page, and where scripts may not run it is still
a film strip. `Scrubber.widget` is there for what HTML cannot do: a slider that Python can read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from labkit.errors import ShapeError
from labkit.files import write_whole
from labkit.views import style
from labkit.views.filmstrip import Rows
from labkit.views.scrub_page import Show, film, scrub_html
from labkit.views.scrub_widget import LinkedScrubber

Samples = np.ndarray | Sequence[np.ndarray]
"""several predictions of one clip: uint8 (N, T, 3, H, W), or a clip each"""


class Scrubber:
    """Named clips under one slider; made by `scrub`. As a cell's last line it shows itself."""

    def __init__(self, show: Show) -> None:
        self.show = show

    def __repr__(self) -> str:
        return f"Scrubber(rows={list(self.show.rows)}, frames={self.show.last + 1})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """What the notebook shows and keeps: the same at every run.

        The picture is for what shows no HTML, such as an export as PDF through LaTeX: the film
        strip's first time steps.
        """
        strip = base64.b64encode(film(self.show.rows, self.show.n_past).strips[0])
        return {
            "text/plain": repr(self),
            "text/html": self.to_html_part(),
            "image/png": strip.decode("ascii"),
        }

    def to_html(self, title: str | None = None) -> str:
        """A whole page with the clips under a slider, which needs nothing but itself.

        Args:
            title: the page's heading; the clips' names if None. It is escaped.
        """
        names = ", ".join(style.label_of(name) for name in self.show.rows)
        return scrub_html(self.show, names if title is None else title)

    def to_html_part(self) -> str:
        """The same for the middle of another page, such as a report."""
        return scrub_html(self.show)

    def save_html(self, file: Path | str, title: str | None = None) -> Path:
        """Writes `to_html(title)` to `file`, whole or not at all; makes its folder."""
        file = Path(file)
        write_whole(file, self.to_html(title))
        return file

    def widget(self) -> LinkedScrubber:
        """The same as ipywidgets, linked on the client side, with `.slider`, `.play`, `.speed`.

        For a notebook that reads the slider or links it to something else. Its view is empty in
        a notebook that is opened again; the scrubber itself is not.
        """
        return LinkedScrubber(self.show)


def scrub(
    rows: Rows | None = None,
    *,
    truth: UInt8[np.ndarray, "T 3 H W"] | None = None,
    prediction: UInt8[np.ndarray, "T 3 H W"] | None = None,
    posterior: UInt8[np.ndarray, "T 3 H W"] | None = None,
    samples: Samples | None = None,
    n_past: int | None = None,
    scale: int = 4,
    fps: int | float = 5.0,
    difference: bool = False,
) -> Scrubber:
    """Named clips side by side under one slider, for the last line of a notebook's cell.

    Every clip but the truth says its PSNR at the time step shown, where there is a truth. The
    arrow keys step, space plays and pauses.

    Args:
        rows: named clips, each uint8 (T, 3, H, W), all of one shape, in the order to show.
        truth: the clip itself; others are compared with it.
        prediction: what the model makes of the context frames.
        posterior: its reconstruction, which sees the target.
        samples: uint8 (N, T, 3, H, W), or several clips: named "sample 1", "sample 2", ...
        n_past: how many of the first frames are context: a mark shows where they end, and
            above the frames stands "context" or "predicted". None: neither.
        scale: every pixel becomes a square of this side (nearest neighbour).
        fps: frames a second when playing, at most 50; can be changed beside the slider.
        difference: show |truth - clip| below each clip from the start.

    Returns:
        an object that shows itself, with `.to_html()` and `.widget()`, whose repr is the same
        at every run.

    Raises:
        ShapeError: no clips; clips of different lengths or sizes, of another type than uint8,
            or with no frames; a name given twice; differences without a truth to take them of.
    """
    named = {"truth": truth, "prediction": prediction, "posterior": posterior}
    given = {name: clip for name, clip in named.items() if clip is not None}
    every: dict[str, np.ndarray] = {}
    for group in (given, rows or {}, _samples(samples)):
        for name, clip in group.items():
            if name in every:
                raise ShapeError(f"there are two clips called {name!r}", hint="rename one")
            every[name] = clip
    return Scrubber(Show(every, n_past, scale, float(fps), difference))


def _samples(samples: Samples | None) -> Mapping[str, np.ndarray]:
    if samples is None:
        return {}
    shape = np.shape(samples) if isinstance(samples, np.ndarray) else None
    if shape is not None and len(shape) != 5:
        raise ShapeError(
            f"samples are {shape}; they must be (N, T, 3, H, W)",
            hint="for a single one: samples=[frames]",
        )
    return {f"sample {number}": clip for number, clip in enumerate(samples, start=1)}
