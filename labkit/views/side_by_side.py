"""Frames -> a picture of one time step, with named clips beside each other.

The frames of GIFs and videos are such pictures.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from labkit.views import style
from labkit.views.filmstrip import (
    GAP,
    PAD,
    SWATCH,
    Layout,
    Rows,
    check_rows,
    check_steps,
    enlarge,
    letter_size,
)


def side_by_side_layout(rows: Rows, *, scale: int = 4, n_past: int | None = None) -> Layout:
    """Where `side_by_side` puts each clip's frame; it is the same at every time step."""
    length, height, width = check_rows(rows, n_past, scale)
    tile = height * scale, width * scale
    size = letter_size(tile[1])
    slot = max(tile[1], 6 * size)
    lines = max(len(style.wrap(style.label_of(name), size, slot)) for name in rows)
    top = PAD + (1 + lines) * style.line_height(size) + PAD + SWATCH + GAP
    lefts = tuple(PAD + column * (slot + PAD) for column in range(len(rows)))
    wide = max(lefts[-1] + slot, PAD + style.text_width(_step_text(length - 1, length, 0), size))
    high = top + tile[0] + PAD + 2 * SWATCH + PAD
    return Layout(high, wide + PAD, (top,), lefts, tile)


def side_by_side(
    rows: Rows, step: int, *, scale: int = 4, n_past: int | None = None
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """One time step: the named clips beside each other, above a time line.

    Args:
        rows: named clips, each uint8 (T, 3, H, W); the first is the leftmost column.
        step: time step, 0..T-1.
        scale: every pixel becomes a square of this side (nearest neighbour).
        n_past: how many of the first frames are context; the picture says "context" or
            "future". None: neither.

    Returns:
        uint8 (H', W', 3) picture; the size is the same for every step.

    Raises:
        ShapeError: see `check_rows`; a step that is not in the clips.
    """
    layout = side_by_side_layout(rows, scale=scale, n_past=n_past)
    length = len(next(iter(rows.values())))
    check_steps([step], length)
    sheet = Image.new("RGB", (layout.width, layout.height), style.PAPER)
    draw = ImageDraw.Draw(sheet)
    size, (high, wide) = letter_size(layout.tile[1]), layout.tile
    color = style.BLUE if n_past is not None and step >= n_past else style.CONTEXT
    draw.text((PAD, PAD), _step_text(step, length, n_past), fill=color, font=style.font(size))
    _draw_column_labels(draw, layout, rows)
    _draw_time_line(draw, layout, step, length, n_past)
    picture = np.array(sheet)
    top = layout.tops[0]
    for left, frames in zip(layout.lefts, rows.values(), strict=True):
        picture[top : top + high, left : left + wide] = enlarge(frames[step], scale)
    return picture


def _step_text(step: int, length: int, n_past: int | None) -> str:
    kind = "" if n_past is None else "  context" if step < n_past else "  future"
    return f"t = {step} of {length - 1}{kind}"


def _draw_column_labels(draw: ImageDraw.ImageDraw, layout: Layout, rows: Rows) -> None:
    size, wide = letter_size(layout.tile[1]), layout.tile[1]
    bottom = layout.tops[0] - GAP - SWATCH
    for place, (name, left) in enumerate(zip(rows, layout.lefts, strict=True)):
        lines = style.wrap(style.label_of(name), size, max(wide, 6 * size))
        y = bottom - GAP - len(lines) * style.line_height(size)
        for number, line in enumerate(lines):
            at = left, y + number * style.line_height(size)
            draw.text(at, line, fill=style.INK, font=style.font(size))
        box = (left, bottom, left + wide - 1, bottom + SWATCH - 1)
        draw.rectangle(box, fill=style.series(name, place).color)


def _draw_time_line(
    draw: ImageDraw.ImageDraw, layout: Layout, step: int, length: int, n_past: int | None
) -> None:
    """Draws one cell for each time step along the bottom, filled up to the current one."""
    left, right = PAD, layout.width - PAD
    gap = GAP if (right - left) // length > 2 * GAP else 0
    y = layout.height - PAD - 2 * SWATCH
    edges = np.linspace(left, right + gap, length + 1).round().astype(int).tolist()
    for t, (x, after) in enumerate(itertools.pairwise(edges)):
        done = style.BLUE if n_past is not None and t >= n_past else style.CONTEXT
        box = (x, y, max(x, after - gap - 1), y + 2 * SWATCH - 1)
        draw.rectangle(box, fill=done if t <= step else style.FAINT)
