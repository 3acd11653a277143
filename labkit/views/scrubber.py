"""Clips with a slider: in a notebook, as a page, and as linked widgets.

A notebook shows the HTML of `scrub_page`, not a widget. Both work without a kernel, but a widget
is lost when the notebook is closed: opened again, JupyterLab shows "Error displaying widget: model
not found". The HTML works there, in an exported page too, and without scripts it is a film strip.
`Scrubber.widget` gives a slider whose value Python can read.
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
from labkit.views.scrub_page import Show, make_strips, scrub_html
from labkit.views.scrub_widget import LinkedScrubber

Samples = np.ndarray | Sequence[np.ndarray]
"""several predictions of one clip: uint8 (N, T, 3, H, W), or a list of clips"""


class Scrubber:
    """Named clips with one slider, made by `scrub`. A notebook shows it as a cell's last line."""

    def __init__(self, show: Show) -> None:
        self.show = show

    def __repr__(self) -> str:
        return f"Scrubber(rows={list(self.show.rows)}, frames={self.show.last + 1})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """What the notebook shows and stores; the same at every run.

        The picture is for viewers without HTML, such as an export to PDF: the first time steps.
        """
        strip = base64.b64encode(make_strips(self.show.rows, self.show.n_past).pngs[0])
        return {
            "text/plain": repr(self),
            "text/html": self.to_html_part(),
            "image/png": strip.decode("ascii"),
        }

    def to_html(self, title: str | None = None) -> str:
        """A whole page with the clips and the slider, which needs no other file.

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
        """The same as ipywidgets linked in the browser, with `.slider`, `.play`, `.speed`.

        For a notebook that reads the slider or links it to another widget. It is empty in a
        notebook that is opened again.
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
    """Named clips side by side with one slider, for the last line of a notebook's cell.

    If there is a truth, every other clip shows its PSNR at the current time step. The arrow keys
    step; the space key plays and pauses.

    Args:
        rows: named clips, each uint8 (T, 3, H, W), all of one shape, in the order to show.
        truth: the true frames; the other clips are compared with them.
        prediction: the model's prediction, context frames included.
        posterior: the reconstruction from the posterior, which sees the target.
        samples: uint8 (N, T, 3, H, W), or several clips: named "sample 1", "sample 2", ...
        n_past: how many of the first frames are context. A mark shows where they end, and the
            line above the frames says "context" or "future". None: neither.
        scale: every pixel becomes a square of this side (nearest neighbour).
        fps: frames per second when playing, at most 50; it can be changed beside the slider.
        difference: show |truth - clip| below each clip.

    Returns:
        an object that a notebook shows, with `.to_html()` and `.widget()`.

    Raises:
        ShapeError: no clips; clips of different lengths or sizes, not uint8, or without frames;
            a name given twice; differences without a truth.
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
