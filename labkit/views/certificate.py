"""A leakage certificate as one picture: which frame influences which prediction, and the checks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import Rectangle

from labkit.errors import ShapeError
from labkit.views import style
from labkit.views.figures import LabFigure

FINE, WRONG = style.BLUE, style.VERMILION
"""an allowed influence, and a forbidden one"""
_MARKS = {"passed": ("\N{CHECK MARK}", style.GREEN), "failed": ("\N{BALLOT X}", WRONG)}
_PALEST = 0.3
"""colour strength of the smallest influence; the largest has 1, and no influence is white"""


def certificate(
    frames: Float[np.ndarray, "T horizon"],
    conditions: Float[np.ndarray, "_ _"],
    feedback: Float[np.ndarray, "_ _"] | None,
    *,
    n_past: int,
    headline: str,
    trials: Sequence[tuple[str, str, str]],
    findings: Sequence[tuple[str, str]] = (),
    protocol: str = "",
) -> LabFigure:
    """Draws a certificate.

    Args:
        frames: row t, column t' - n_past: how much prediction t' changes when frame t alone is
            replaced by noise; exactly 0 is no influence, infinity an unlimited one.
        conditions: the same for the condition of frame t.
        feedback: row t - n_past: the same for predicted frame t, as the input of the next step.
            None where it could not be measured.
        n_past: number of context frames.
        headline: the result in a few words.
        trials: (name, "passed" or "failed" or "not applicable", what was measured).
        findings: (name of the leak, what happens, with a hint).
        protocol: one sentence that says what was checked.

    Returns:
        figure: the checks above, the matrices below. Forbidden influences are orange.

    Raises:
        ShapeError: the matrices have different sizes.
    """
    _check(frames, conditions, feedback, n_past)
    lines = [_wrapped(text, 84) for _, _, text in trials]
    lines += [_wrapped(f"{name}: {text}", 104) for name, text in findings]
    written = 0.45 + 0.2 * sum(map(len, lines)) + 0.1 * bool(findings)
    drawn = 3.2
    with style.use_style():
        figure = LabFigure(figsize=(8, written + drawn), layout="constrained")
        grid = figure.add_gridspec(2, 3, height_ratios=[written, drawn])
        clean = not findings and all(verdict != "failed" for _, verdict, _ in trials)
        _write(figure, grid[0, :], headline, clean, trials, lines)
        length, steps = len(frames), np.arange(n_past, frames.shape[1] + n_past)
        rows, columns = np.arange(length)[:, None], steps[None]
        _matrix(
            figure.add_subplot(grid[1, 0]), frames, rows >= np.full_like(columns, n_past), n_past,
            0, "frames", "frame disturbed",
        )  # fmt: skip
        _matrix(
            figure.add_subplot(grid[1, 1]), conditions, rows > columns, n_past, 0,
            "conditions", "condition disturbed",
        )  # fmt: skip
        axes = figure.add_subplot(grid[1, 2])
        if feedback is None:
            axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=style.CONTEXT)
            axes.set(title="predictions fed back", xticks=[], yticks=[])
        else:
            _fed_back(axes, feedback, n_past)
        caption = (
            f"{protocol}. White: exactly no influence. Orange: a forbidden influence; an orange "
            "frame: an influence that is missing."
        )
        figure.supxlabel(
            textwrap.fill(caption, 118).replace("$", r"\$"),
            x=0.01,
            ha="left",
            fontsize=8.5,
            color="#4a4a4a",
        )
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


_SYMBOL = re.compile(r"\b([xc])(\^?)_(?:\{([^}]*)\}|(t|\d+)\b)")


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of that width; x_t, x^_t and c_{t-1} are set as mathematics, other text as it is."""

    def set_in_type(found: re.Match[str]) -> str:
        letter, hat, braced, bare = found.groups()
        drawn = rf"\hat{{{letter}}}" if hat else letter
        return f"${drawn}_{{{braced or bare}}}$"

    lines = textwrap.wrap(text, width)
    return [_SYMBOL.sub(set_in_type, line.replace("$", r"\$")) for line in lines]


def _write(
    figure: LabFigure,
    place: SubplotSpec,
    headline: str,
    clean: bool,
    trials: Sequence[tuple[str, str, str]],
    lines: Sequence[Sequence[str]],
) -> None:
    """The checks, one per line, from the top of the figure down."""
    axes = figure.add_subplot(place)
    axes.set_axis_off()
    step = 0.2 / (0.45 + 0.2 * sum(map(len, lines)) + 0.1 * (len(lines) > len(trials)))
    color = style.GREEN if clean else WRONG
    axes.text(
        0, 1, headline.replace("$", r"\$"), va="top", fontsize=13, fontweight="bold", color=color
    )
    at = 1 - 1.8 * step
    for (name, verdict, _), text in zip(trials, lines, strict=False):
        mark, color = _MARKS.get(verdict, ("\N{EN DASH}", style.CONTEXT))
        axes.text(0.0, at, mark, va="top", color=color, fontweight="bold")
        axes.text(0.03, at, name, va="top")
        axes.text(0.17, at, "\n".join(text), va="top", color="#4a4a4a", linespacing=1.15)
        at -= step * len(text)
    at -= 0.5 * step
    for text in lines[len(trials) :]:
        axes.text(0.0, at, "\n".join(text), va="top", color=WRONG, linespacing=1.15)
        at -= step * len(text)


def _matrix(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    wrong: Bool[np.ndarray, "rows columns"],
    n_past: int,
    first: int,
    title: str,
    what: str,
) -> None:
    """One matrix of influences: a row for each disturbed input, a column for each prediction."""
    there = values > 0
    size = np.log10(np.where(there & np.isfinite(values), values, 1.0))
    low, high = (size[there].min(), size[there].max()) if there.any() else (0.0, 0.0)
    size = np.where(np.isinf(values), high, size)
    strength = _PALEST + (1 - _PALEST) * (size - low) / max(high - low, 1e-9)
    strength = np.where(there, np.clip(strength, 0, 1), 0)[..., None]
    colour = np.where(wrong[..., None], to_rgb(WRONG), to_rgb(FINE))
    rows, columns = values.shape
    box = (n_past - 0.5, n_past + columns - 0.5, first + rows - 0.5, first - 0.5)
    axes.imshow(1 - strength * (1 - colour), extent=box, aspect="auto", interpolation="nearest")
    axes.set(title=title, xlabel="prediction t", ylabel=f"{what}")
    axes.set_xticks(_few(n_past, columns))
    axes.set_yticks(_few(first, rows))
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
    if first < n_past < first + rows:
        axes.axhline(n_past - 0.5, color=style.CONTEXT, linewidth=1, linestyle="--")


def _fed_back(axes: Axes, feedback: Float[np.ndarray, "horizon horizon"], n_past: int) -> None:
    """Predictions against predictions: the next one must change, an earlier one must not."""
    row, column = np.indices(feedback.shape)
    _matrix(
        axes, feedback, column < row, n_past, n_past, "predictions fed back", "prediction disturbed"
    )
    for t in np.flatnonzero(feedback.diagonal(offset=1) == 0):
        corner = (n_past + t + 0.5, n_past + t - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=WRONG, linewidth=1.6))


def _few(first: int, count: int) -> range:
    """At most about eight ticks, whole numbers."""
    return range(first, first + count, -(-count // 8))


def _check(
    frames: np.ndarray, conditions: np.ndarray, feedback: np.ndarray | None, n_past: int
) -> None:
    horizon = frames.shape[1]
    if not (horizon >= 1 and n_past >= 1 and len(frames) == n_past + horizon):
        raise ShapeError(f"influences of frames are {frames.shape}; expected (n_past + H, H)")
    if conditions.shape != frames.shape:
        raise ShapeError(f"influences of conditions are {conditions.shape}, frames {frames.shape}")
    if feedback is not None and feedback.shape != (horizon, horizon):
        raise ShapeError(
            f"influences of predictions are {feedback.shape}, not {(horizon, horizon)}"
        )
