"""A map of where several sampled futures of one clip differ: their standard deviation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from labkit.errors import ShapeError
from labkit.views import style
from labkit.views.figures import LabFigure, add_caption, freeze_layout

MOST_COLUMNS = 10
"""largest number of time steps shown; of a longer horizon every second, third, ..."""


def deviation_map(
    truth: UInt8[np.ndarray, "horizon 3 H W"],
    prediction: UInt8[np.ndarray, "horizon 3 H W"],
    deviation: Float[np.ndarray, "horizon H W"],
    n_past: int,
    protocol: str,
    possible: Float[np.ndarray, "horizon H W"] | None = None,
) -> LabFigure:
    """Draws the standard deviation of each pixel between samples, below the frames.

    Args:
        truth: the true frames.
        prediction: one of the samples.
        deviation: standard deviation of each pixel over the samples, mean of its channels, in
            grey levels of 255.
        n_past: number of context frames, so that the first frame is that of time step n_past.
        protocol: one sentence: how many samples, of what; printed below the map.
        possible: the same deviation over futures that are known to be possible, for a further row
            in the same colours; values above the largest of `deviation` get its colour.

    Returns:
        figure with three or four rows, a column for each time step, and the scale at the right.

    Raises:
        ShapeError: the shapes differ, or the deviation is not finite.
    """
    shape = truth.shape
    maps = [("deviation", deviation)]
    if possible is not None:
        maps.append(("possible\ndeviation", possible))
    for _, each in maps:
        if prediction.shape != shape or each.shape != (shape[0], *shape[2:]) or 0 in shape:
            raise ShapeError(f"frames {shape} and {prediction.shape}, deviation {each.shape}")
        if not np.isfinite(each).all():
            raise ShapeError("the deviation between samples is not finite")
    steps = range(0, shape[0], -(-shape[0] // MOST_COLUMNS))
    top = max(float(deviation.max()), 1e-3)
    rows = [("ground\ntruth", truth), ("one\nsample", prediction), *maps]
    with style.use_style():
        tile = min(7.0 / len(steps), 1.4) * shape[2] / shape[3]
        figure = LabFigure(figsize=(8, len(rows) * tile + 0.75), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.02)
        grid = figure.subplots(len(rows), len(steps), squeeze=False)
        for line, (name, frames) in zip(grid, rows, strict=True):
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
            for axes, step in zip(line, steps, strict=True):
                frame = frames[step]
                look = {"cmap": "cividis", "vmin": 0, "vmax": top} if frame.ndim == 2 else {}
                if frame.ndim == 3:
                    frame = frame.transpose(1, 2, 0)
                shown = axes.imshow(frame, interpolation="nearest", **look)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
        for axes, step in zip(grid[0], steps, strict=True):
            axes.set_title(f"t = {n_past + step}", fontsize=9, loc="center")
        bar = figure.colorbar(
            shown,
            ax=grid[2:].ravel().tolist(),
            pad=0.01,
            fraction=0.05,
            aspect=8 * len(maps),
            extend="neither" if possible is None else "max",
        )
        bar.set_label("grey levels", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        add_caption(figure, protocol)
    return freeze_layout(figure)
