"""Every schedule, computed and drawn: KL weight, teacher-forcing ratio, learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from labkit.config import KLConfig, TeacherForcingConfig, TrainingConfig
from labkit.errors import ShapeError
from labkit.training.schedules import kl_weight, learning_rate, teacher_forcing_ratio
from labkit.views import style
from labkit.views.figures import LabFigure, freeze_layout

Panel = Mapping[str, np.ndarray]
"""Lines by name. The name of a row, such as "kl_weight", gives a line that row's own colour."""


def every_schedule(
    epochs: int = 300, points: int = 600
) -> tuple[dict[str, dict[str, dict[str, np.ndarray]]], Float[np.ndarray, " points"]]:
    """Every schedule with the course's lengths, as arrays to draw.

    Args:
        epochs: length of the training.
        points: how many points of time, evenly from the start to just before the end.

    Returns:
        by quantity, by title, by line: the values; and the points of time, in epochs.
    """
    time = np.linspace(0, epochs, points, endpoint=False)

    def line(value: Callable[[float], float]) -> np.ndarray:
        return np.array([value(epoch) for epoch in time])

    def weight(**settings: object) -> np.ndarray:
        config = KLConfig(**settings)  # type: ignore[arg-type]
        return line(lambda epoch: kl_weight(epoch, epochs, config))

    def forced(**settings: object) -> np.ndarray:
        config = TeacherForcingConfig(**settings)  # type: ignore[arg-type]
        return line(lambda epoch: teacher_forcing_ratio(epoch, config))

    def rate(**settings: object) -> np.ndarray:
        config = TrainingConfig(**settings)  # type: ignore[arg-type]
        return line(lambda epoch: learning_rate(epoch / epochs, config))

    def shapes(**settings: object) -> dict[str, np.ndarray]:
        return {each: weight(shape=each, **settings) for each in ("linear", "sigmoid", "cosine")}

    beta, ratio, eta = "kl_weight", "teacher_forcing_ratio", "learning_rate"
    return {
        beta: {
            "none: constant": {beta: weight(schedule="constant")},
            "monotonic": shapes(schedule="monotonic"),
            "cyclical, M = 3, R = 1/2": shapes(schedule="cyclical", cycles=3, ratio=2.0),
            "cyclical, M = 4, R = 4/5": {
                "linear": weight(schedule="cyclical", cycles=4, ratio=1.25)
            },
        },
        ratio: {
            "constant": {ratio: forced(schedule="constant", start=0.5)},
            "linear, from 50, to 0.2": {ratio: forced(decay_start=50, lower_bound=0.2)},
            "exponential, k = 0.98": {ratio: forced(schedule="exponential")},
            "inverse sigmoid, k = 20": {ratio: forced(schedule="inverse_sigmoid")},
        },
        eta: {
            "constant": {eta: rate()},
            "warm-up and cosine": {
                eta: rate(learning_rate_schedule="cosine", learning_rate_warm_up=0.1)
            },
            "step, 3 stages": {eta: rate(learning_rate_schedule="step")},
        },
    }, time


def schedule_figure(
    rows: Mapping[str, Mapping[str, Panel]],
    epochs: Float[np.ndarray, " points"],
) -> LabFigure:
    """Draws every schedule in a small panel, with one row of panels for each quantity.

    Args:
        rows: by quantity ("kl_weight", "teacher_forcing_ratio", "learning_rate"), panels by
            title; each panel has one line or more, one value a point of time. Made by
            `every_schedule`.
        epochs: the points of time, in epochs.

    Returns:
        figure with a row a quantity, on one scale within the row, and one legend for the
        lines with their own colour and dashes.

    Raises:
        ShapeError: there is no panel, or a line has another length than `epochs`.
    """
    _check(rows, len(epochs))
    columns = max(map(len, rows.values()))
    named = list(
        dict.fromkeys(
            name
            for key, row in rows.items()
            for panel in row.values()
            for name in panel
            if name != key
        )
    )
    with style.use_style():
        figure = LabFigure(figsize=(8.6, 0.7 + 1.75 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), columns, sharex=True, sharey="row", squeeze=False)
        for line_of_axes, (key, row) in zip(grid, rows.items(), strict=True):
            line_of_axes[0].set_ylabel(style.label_of(key).replace(" ", "\n", 1))
            for axes, (title, panel) in zip(line_of_axes, row.items(), strict=False):
                _draw(axes, key, panel, epochs, named)
                axes.set_title(title, fontsize=9)
            for axes in line_of_axes[len(row) :]:
                axes.set_visible(False)
        for column in range(columns):
            lowest = [axes for axes in grid[:, column] if axes.get_visible()][-1]
            lowest.set_xlabel("epoch")
            lowest.xaxis.set_tick_params(labelbottom=True)
        handles = {
            label: handle
            for axes in grid.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if handles:
            figure.legend(
                handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles)
            )
    return freeze_layout(figure)


def _draw(
    axes: Axes, key: str, panel: Panel, epochs: Float[np.ndarray, " points"], named: list[str]
) -> None:
    for name, values in panel.items():
        look = style.series(key) if name == key else style.series(name, named.index(name))
        label = {} if name == key else {"label": look.label}
        axes.plot(epochs, values, color=look.color, linestyle=look.dashes, **label)
    top = max(float(np.max(values)) for values in panel.values())
    if axes.get_ylim()[1] < 1.1 * top or axes.get_ylim()[0] > 0:
        axes.set_ylim(-0.05 * top, 1.1 * top)


def _check(rows: Mapping[str, Mapping[str, Panel]], points: int) -> None:
    panels = [panel for row in rows.values() for panel in row.values()]
    if not panels or not all(panels) or not all(rows.values()):
        raise ShapeError(
            "the figure needs at least one row, one panel in each row, and one line in each panel"
        )
    lengths = {np.shape(values) for panel in panels for values in panel.values()}
    if lengths != {(points,)} or not points:
        raise ShapeError(f"every line must have a value a point of time, {points}, not {lengths}")
