"""Scores over time with intervals: one panel for the whole frame and one for each region."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from labkit.errors import ShapeError
from labkit.views import style
from labkit.views.figures import LabFigure, add_caption, freeze_layout, layer

Curve = Float[np.ndarray, "_ _"]
"""(3, horizon): the mean at each time step, and the lower and upper bound of its interval"""


def score_panels(
    panels: Mapping[str, Mapping[str, Curve]],
    n_past: int,
    protocol: str,
    *,
    quantity: str = "PSNR (dB)",
) -> LabFigure:
    """Draws a measure of each predicted frame against its time step, in one or more panels.

    Args:
        panels: title ("whole frame", "arm") -> curves by method, each (3, horizon): mean, lower
            bound and upper bound of its interval. Bounds that are NaN are not drawn.
        n_past: number of context frames, so that the first value is of time step n_past.
        protocol: one sentence that says how the values were measured; printed below the axes.
        quantity: what the values are, for the axes.

    Returns:
        figure with two panels in a row and one legend.

    Raises:
        ShapeError: no panel, an empty panel, or curves of different shapes.
    """
    _check(panels)
    wide = min(2, len(panels))
    tall = -(-len(panels) // wide)
    with style.use_style():
        height = 4.4 if tall == 1 else 1.3 + 2.4 * tall
        figure = LabFigure(figsize=(8, height), layout="constrained")
        grid = figure.subplots(tall, wide, squeeze=False, sharex=True)
        for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
            for place, (key, curve) in enumerate(curves.items()):
                _draw(axes, curve, n_past, style.series(key, place), place)
            horizon = np.shape(next(iter(curves.values())))[1]
            axes.set(
                title=style.plain_text(title),
                xticks=range(n_past, n_past + horizon, -(-horizon // 10)),
            )
            axes.set_xlim(n_past - 0.3, n_past + horizon - 0.7)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in list(grid.flat[: len(panels)])[-wide:]:
            axes.set_xlabel(f"time step t   (context: t = 0..{n_past - 1})")
            axes.xaxis.set_tick_params(labelbottom=True)
        for row in grid:
            row[0].set_ylabel(quantity)
        handles = dict(
            zip(*reversed(grid.flat[0].get_legend_handles_labels()), strict=True)  # by label
        )
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=2)
        bands = any(np.isfinite(c[1]).any() for curves in panels.values() for c in curves.values())
        said = " Bands: 95 % bootstrap intervals over clips." if bands else ""
        add_caption(figure, f"{protocol}.{said}")
    return freeze_layout(figure)


def _draw(axes: Axes, curve: np.ndarray, n_past: int, look: style.Series, place: int) -> None:
    """One curve and its band."""
    mean, low, high = curve
    steps = np.arange(n_past, n_past + len(mean))
    axes.plot(steps, mean, label=style.plain_text(look.label), **layer(look, place))
    if np.isfinite(low).any():
        axes.fill_between(steps, low, high, color=look.color, alpha=0.18, lw=0)


def _check(panels: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    if not panels or not all(panels.values()):
        raise ShapeError("there are no curves to draw")
    shapes = {np.shape(curve) for curves in panels.values() for curve in curves.values()}
    if len(shapes) > 1 or any(len(s) != 2 or s[0] != 3 or not s[1] for s in shapes):
        raise ShapeError(f"curves must be (3, horizon) of one horizon, not {sorted(shapes)}")
