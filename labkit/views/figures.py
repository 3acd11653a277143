"""Arrays -> figures. Each function returns its figure; it neither shows nor saves it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from labkit.errors import ShapeError
from labkit.views import style

_CURVES = ("reconstruction", "kl", "validation_psnr", "kl_weight", "teacher_forcing_ratio")


class LabFigure(Figure):
    """A matplotlib Figure that a notebook shows, without pyplot's global list of figures."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG; the same figure makes the same bytes (no version, no date).

    Args:
        figure: any matplotlib figure.
        dpi: dots per inch; a figure is 8 inches wide.
    """
    buffer = io.BytesIO()
    with style.use_style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def training_curves(history: Mapping[str, Float[np.ndarray, " epochs"]]) -> LabFigure:
    """Losses, PSNR, KL weight and teacher-forcing ratio over the epochs, on one time axis.

    Args:
        history: columns by name, one value per epoch: "epoch", "reconstruction" (MSE over
            pixels), "kl" (nats), "validation_psnr" (dB, NaN where an epoch was not validated),
            "kl_weight", "teacher_forcing_ratio", and "loss" if it is there.

    Returns:
        figure with four panels, one below the other: MSE, KL, PSNR, and the schedules (KL weight
        on the left axis, teacher-forcing ratio on the right).

    Raises:
        ShapeError: a column is missing, or has another length, or there is no epoch.
    """
    _check_columns(history, ("epoch", *_CURVES))
    with style.use_style():
        figure = LabFigure(figsize=(8, 8.4), layout="constrained")
        losses, kl, psnr, weight = figure.subplots(4, 1, sharex=True)
        _line(losses, history, "reconstruction")
        total = _losses(losses, history)
        _line(kl, history, "kl")
        _line(psnr, history, "validation_psnr")
        _line(weight, history, "kl_weight")
        ratio = weight.twinx()
        _line(ratio, history, "teacher_forcing_ratio")
        losses.set(title="Training loss", ylabel="MSE, per pixel")
        kl.set(title="KL divergence of the posterior from the prior", ylabel="nats per frame")
        psnr.set(title="PSNR on the validation clips (free-running, one sample)", ylabel="dB")
        weight.set(title="Schedules", xlabel="epoch", ylabel=style.label_of("kl_weight"))
        _second_axis(ratio, "teacher_forcing_ratio")
        ratio.set(ylim=(-0.05, 1.08))
        log_scale_where_useful(losses)
        log_scale_where_useful(kl)
        _room_for_zero(weight, history["kl_weight"])
        _legend(losses, *total)
        _legend(weight, ratio)
        weight.xaxis.set_major_locator(MaxNLocator(integer=True))
    return freeze_layout(figure)


def _losses(axes: Axes, history: Mapping[str, np.ndarray]) -> list[Axes]:
    """Draws the loss, if there is one. A loss with values of 0 or less (`observation=optimal`: a
    logarithm) gets a second axis, which is returned."""
    if "loss" not in history:
        return []
    if np.nanmin(history["loss"]) > 0:
        _line(axes, history, "loss")
        return []
    second = axes.twinx()
    _line(second, history, "loss")
    _second_axis(second, "loss")
    return [second]


def psnr_over_time(
    curves: Mapping[str, Float[np.ndarray, "clips horizon"]],
    n_past: int,
    protocol: str,
    *,
    quantity: str = "PSNR (dB)",
) -> LabFigure:
    """A measure of each predicted frame against its time step, with its uncertainty.

    Args:
        curves: by method, one value for each clip and predicted frame; "prediction",
            "posterior" and "repeat_last" have their own colours and labels.
        n_past: number of context frames, so that the first column is time step t = n_past.
        protocol: one sentence that says how the values were measured; printed below the axes.
        quantity: what the values are, for the axis and the title.

    Returns:
        figure with one line for each method: the mean over clips, in a band of +-1.96 standard
        errors of that mean (no band for a single clip).

    Raises:
        ShapeError: no method, or methods with different numbers of clips or time steps.
    """
    _check_same_shape(curves)
    with style.use_style():
        figure = LabFigure(figsize=(8, 4.4), layout="constrained")
        axes = figure.subplots()
        for place, (key, values) in enumerate(curves.items()):
            _mean_and_band(axes, values, n_past, style.series(key, place), place)
        clips, horizon = next(iter(curves.values())).shape
        band = "mean over clips, band: 95 % interval of that mean" if clips > 1 else "one clip"
        axes.set(
            title=f"{quantity} at each predicted time step ({band})",
            xlabel=f"time step t   (context: t = 0..{n_past - 1})",
            ylabel=quantity,
            xticks=range(n_past, n_past + horizon, -(-horizon // 16)),
        )
        axes.set_xlim(n_past - 0.3, n_past + horizon - 0.7)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
        add_caption(figure, protocol)
    return freeze_layout(figure)


def schedules(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " epochs"]]],
) -> LabFigure:
    """Several schedules in small panels: values against the epoch.

    Args:
        panels: title -> series by name, one value per epoch, such as
            {"cyclical, 3 cycles": {"kl_weight": ..., "teacher_forcing_ratio": ...}}.

    Returns:
        figure with the panels in rows of two or three, all on the same scales.

    Raises:
        ShapeError: there is no panel, or one without a series.
    """
    if not panels or not all(panels.values()):
        raise ShapeError("the figure needs at least one panel, and each panel at least one series")
    columns = min(len(panels), 2 if len(panels) in (2, 4) else 3)
    rows = -(-len(panels) // columns)
    keys = list(dict.fromkeys(key for group in panels.values() for key in group))
    with style.use_style():
        figure = LabFigure(figsize=(8, 0.6 + 2.0 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (title, group) in zip(grid.flat, panels.items(), strict=False):
            for key, values in group.items():
                look = style.series(key, keys.index(key))
                axes.plot(values, color=look.color, linestyle=look.dashes, label=look.label)
            axes.set_title(title)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in list(grid.flat[: len(panels)])[-columns:]:
            axes.set_xlabel("epoch")
            axes.xaxis.set_tick_params(labelbottom=True)
        found = {
            label: handle
            for axes in grid.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3)
    return freeze_layout(figure)


# -------------------------------------------------------------------------------------- parts


def freeze_layout(figure: LabFigure) -> LabFigure:
    """Lays the figure out once and switches the layout engine off.

    The engine would move the axes a little at each drawing.
    """
    with style.use_style():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        # Axes of their final size can have longer tick labels than those that were laid out.
        figure.draw_without_rendering()
        over = figure.get_tightbbox().x1 - figure.bbox_inches.x1
    if over > 0:
        boxes = [axes.get_position() for axes in figure.axes]
        left, right = min(box.x0 for box in boxes), max(box.x1 for box in boxes)
        shrink = 1 - (over / figure.bbox_inches.width + 0.005) / (right - left)
        for axes, box in zip(figure.axes, boxes, strict=True):
            start = left + shrink * (box.x0 - left)
            axes.set_position((start, box.y0, shrink * box.width, box.height))
    return figure


def _line(axes: Axes, history: Mapping[str, np.ndarray], key: str) -> None:
    """Draws one column over the epochs; epochs without a value are left out."""
    epochs = np.asarray(history["epoch"], dtype=float)
    values = np.asarray(history[key], dtype=float)
    there = np.isfinite(values)
    look = style.series(key)
    axes.plot(
        epochs[there],
        values[there],
        color=look.color,
        linestyle=look.dashes,
        label=look.label,
        marker="o" if there.sum() <= 30 else "",
    )


def _mean_and_band(
    axes: Axes, values: np.ndarray, n_past: int, look: style.Series, place: int
) -> None:
    clips, horizon = values.shape
    steps, mean = np.arange(n_past, n_past + horizon), values.mean(axis=0)
    label = f"{style.plain_text(look.label)}: mean {mean.mean():.4g}"
    axes.plot(steps, mean, label=label, **layer(look, place))
    if clips > 1:
        # s.e.m. = standard deviation over clips / sqrt(clips)
        half = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(clips)
        axes.fill_between(steps, mean - half, mean + half, color=look.color, alpha=0.18, lw=0)


def layer(look: style.Series, place: int) -> dict[str, Any]:
    """The look of the curve at that place. The first curve is drawn on top. The others have rings
    as markers, each larger than the last, so that a covered curve can still be seen."""
    ring = {"markersize": 5.2 + 1.5 * place, "markerfacecolor": "none"} if place else {}
    line = {"color": look.color, "linestyle": look.dashes, "marker": "o"}
    return {**line, **ring, "zorder": 9 - place}


def log_scale_where_useful(axes: Axes) -> None:
    """Sets a log axis if all values are positive and span more than a factor of 3."""
    values = np.concatenate([line.get_ydata() for line in axes.lines] or [np.ones(1)])
    if values.size and values.min() > 0 and values.max() > 3 * values.min():
        axes.set_yscale("log")
        # Within one decade, ticks at 1, 2 and 5 alone could leave an axis with a single number.
        close = values.max() < 10 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if close else (1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")


def _room_for_zero(axes: Axes, values: np.ndarray) -> None:
    """Sets the axis from 0 to the largest value, with powers of ten."""
    top = float(np.nanmax(values, initial=0.0))
    axes.set_ylim(-0.05 * (top or 1.0), 1.08 * (top or 1.0))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)


def _second_axis(axes: Axes, key: str) -> None:
    """Sets up an axis at the right for `key`, without a grid."""
    axes.set(ylabel=style.label_of(key))
    axes.spines["right"].set_visible(True)
    axes.grid(visible=False)


def _legend(axes: Axes, other: Axes | None = None) -> None:
    """One legend for an axis and its second axis, above the right end."""
    handles, labels = axes.get_legend_handles_labels()
    if other is not None:
        more = other.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "ncols": len(handles)}
    axes.legend(handles, labels, borderaxespad=0.0, **place)


def add_caption(figure: Figure, text: str) -> None:
    """Writes small text below the axes, wrapped; `$` is printed as it is."""
    lines = textwrap.fill(" ".join(text.split()), 125)
    figure.supxlabel(style.plain_text(lines), x=0.01, ha="left", fontsize=8.5, color="#4a4a4a")


def _check_columns(history: Mapping[str, np.ndarray], needed: tuple[str, ...]) -> None:
    missing = [key for key in needed if key not in history]
    if missing:
        raise ShapeError(f"the history lacks {', '.join(missing)}")
    lengths = {key: len(history[key]) for key in needed}
    if 0 in lengths.values() or len(set(lengths.values())) > 1:
        raise ShapeError(f"the history's columns must have one length, not {lengths}")


def _check_same_shape(curves: Mapping[str, np.ndarray]) -> None:
    if not curves:
        raise ShapeError("there are no curves to draw")
    shapes = {key: np.shape(values) for key, values in curves.items()}
    shape = next(iter(shapes.values()))
    if len(shape) != 2 or 0 in shape or len(set(shapes.values())) > 1:
        raise ShapeError(f"curves must be (clips, horizon) of one shape, not {shapes}")
