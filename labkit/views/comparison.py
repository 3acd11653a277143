"""Several trainings in one figure, and the page that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from labkit.errors import ShapeError
from labkit.files import write_whole
from labkit.views import style
from labkit.views.figures import LabFigure, add_caption, freeze_layout, log_scale_where_useful
from labkit.views.report import Table, data_uri

COLOURS = (
    style.BLUE,
    style.VERMILION,
    style.GREEN,
    style.PURPLE,
    style.ORANGE,
    style.SKY,
    style.BLACK,
)
DASHES = ("-", "--", "-.", ":")

History = Mapping[str, Float[np.ndarray, " epochs"]]
Bar = Float[np.ndarray, " 3"]
"""value, lower bound and upper bound; the bounds may be NaN"""

PANELS = (
    ("loss", "Training loss, with β KL", "loss"),
    ("reconstruction", "Reconstruction", "MSE, per pixel"),
    ("kl", "KL divergence", "nats per frame"),
    ("validation_psnr", "Validation PSNR (free-running, one sample)", "dB"),
    ("kl_weight", "KL weight β", ""),
    ("teacher_forcing_ratio", "Teacher-forcing ratio", ""),
)


def look_of(place: int) -> tuple[str, str]:
    """Colour and dashes of the group at that place; the first 28 all differ."""
    return COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]


def comparison_figure(
    histories: Mapping[str, Sequence[History]],
    means: Mapping[str, tuple[Bar, Float[np.ndarray, " runs"]]],
    differences: Mapping[str, tuple[Bar, bool]],
    protocol: str,
    *,
    quantity: str = "PSNR (dB)",
    over: str = "clips",
) -> LabFigure:
    """Losses, PSNR and schedules against the epochs; then the means and their differences.

    Args:
        histories: by group, the columns of each of its runs' histories (see `training_curves`).
        means: by group, the mean with its interval, and the mean of each of its runs.
        differences: by name ("cyclical − none"), the difference with its interval, and whether
            it is significant; significant differences have full dots.
        protocol: one sentence that says how the values were measured; printed below the axes.
        quantity: what was measured.
        over: what the intervals are over: "256 clips", "3 seeds x 256 clips".

    Returns:
        figure with three rows of two panels over the epochs, a thin line for each run in the
        colour of its group; below them the means, and the differences against zero.

    Raises:
        ShapeError: there is no group, or a group without a run.
    """
    if not histories or not all(histories.values()):
        raise ShapeError("a comparison needs at least one group, and each group at least one run")
    tall = 0.5 + 0.3 * max(len(means), len(differences))
    with style.use_style():
        figure = LabFigure(figsize=(8.6, 6.9 + tall), layout="constrained")
        # Apart, so that long names below take no room from the curves.
        above, below = figure.subfigures(2, 1, height_ratios=[6.2, tall + 0.1])
        curves = above.subplots(3, 2, sharex=True)
        for axes, panel in zip(curves.flat, PANELS, strict=True):
            _draw_panel(axes, histories, *panel)
        for axes in curves[-1]:
            axes.set_xlabel("epoch")
        left, right = below.subplots(1, 2)
        _draw_means(left, means, f"Mean {quantity}")
        _draw_differences(right, differences, f"Paired differences, {quantity}")
        handles, labels = curves[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
        said = "full dots: significant differences; small dots: single runs"
        add_caption(figure, f"{protocol}. Bars: 95 % intervals over {over}; {said}.")
    return freeze_layout(figure)


def _draw_panel(
    axes: Axes, histories: Mapping[str, Sequence[History]], key: str, title: str, unit: str
) -> None:
    for place, (group, runs) in enumerate(histories.items()):
        colour, dashes = look_of(place)
        for number, history in enumerate(runs):
            values = np.asarray(history[key], float)
            there = np.isfinite(values)
            axes.plot(
                np.asarray(history["epoch"], float)[there],
                values[there],
                color=colour,
                linestyle=dashes,
                linewidth=1.6 if len(runs) == 1 else 1.1,
                alpha=1.0 if len(runs) == 1 else 0.75,
                marker="o" if there.sum() == 1 else "",
                label=style.plain_text(group) if number == 0 else None,
            )
    axes.set(title=title, ylabel=unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if key in ("reconstruction", "kl"):
        log_scale_where_useful(axes)
    elif key != "loss" and key != "validation_psnr":
        top = axes.dataLim.y1 if np.isfinite(axes.dataLim.y1) and axes.dataLim.y1 else 1.0
        axes.set_ylim(-0.05 * top, 1.08 * top)


def _draw_means(
    axes: Axes, means: Mapping[str, tuple[Bar, Float[np.ndarray, " runs"]]], title: str
) -> None:
    for place, (bar, each) in enumerate(means.values()):
        colour, _ = look_of(place)
        _bar(axes, place, bar, colour, full=True)
        if len(each) > 1:
            heights = np.full(len(each), place + 0.3)
            axes.plot(each, heights, "o", color=colour, markersize=2.5, alpha=0.8, clip_on=False)
    _rows(axes, list(means), title)


def _draw_differences(axes: Axes, differences: Mapping[str, tuple[Bar, bool]], title: str) -> None:
    axes.axvline(0, color=style.CONTEXT, linewidth=1)
    for place, (bar, clear) in enumerate(differences.values()):
        _bar(axes, place, bar, style.INK, full=clear)
    _rows(axes, list(differences), title)


def _bar(axes: Axes, place: int, bar: Bar, colour: str, *, full: bool) -> None:
    value, low, high = bar
    if np.isfinite(low):
        axes.plot([low, high], [place, place], "-", color=colour, linewidth=1.6)
    axes.plot(
        [value], [place], "o", color=colour, markersize=6, mfc=colour if full else style.PAPER
    )


def _rows(axes: Axes, names: Sequence[str], title: str) -> None:
    """One row for each name, the first on top."""
    axes.set_yticks(range(len(names)), map(style.plain_text, names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(title, loc="left")


def write_comparison(
    file: Path | str,
    *,
    title: str,
    answer: Sequence[str],
    protocol: str,
    tables: Sequence[Table],
    arms: Sequence[str],
    picture: bytes,
    caption: str,
    command: str,
    notes: Sequence[str] = (),
) -> Path:
    """Writes one self-contained page and its folder. The file is written whole or not at all.

    Args:
        file: where to write it.
        title: heading of the page.
        answer: sentences, the most important one first.
        protocol: one sentence that says how the values were measured.
        tables: a row whose key is a group's name has the group's colour in front.
        arms: the groups' names, in the figure's order.
        picture: the figure, PNG or SVG.
        caption: of the figure.
        command: the command that writes this page.
        notes: more sentences for the top of the page.

    Returns:
        the file.

    Raises:
        ShapeError: bytes that are not a picture.
    """
    colours = {arm: look_of(place)[0] for place, arm in enumerate(arms)}
    page = _template().render(
        title=title,
        answer=answer,
        protocol=protocol,
        notes=notes,
        tables=[_shown(table, colours) for table in tables],
        picture=data_uri(picture, caption),
        caption=caption,
        figures=[],
        clips=[],
        command=command,
        config=[],
    )
    write_whole(file, page)
    return Path(file)


def _shown(table: Table, colours: Mapping[str, str]) -> dict[str, object]:
    rows = [
        {"label": r.label, "color": colours.get(r.key, ""), "cells": r.cells, "strong": False}
        for r in table.rows
    ]
    return {"caption": table.caption, "head": table.head, "rows": rows}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("comparison.html")
