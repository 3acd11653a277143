"""Frames -> one still picture: named clips under each other, time from left to right.

Pure functions: arrays in, an array out. Also the functions that all pictures of frames share: the
check of the arguments, the enlargement, and the PNG.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from labkit.errors import ShapeError
from labkit.views import style

Rows = Mapping[str, np.ndarray]
"""Named clips, each uint8 (T, 3, H, W), all of one shape; "truth", "prediction", "posterior"
and "repeat_last" have a colour and a label of their own."""

GAP, PAD, SWATCH = 2, 8, 4  # pixels between tiles; around the picture; of a colour bar


@dataclass(frozen=True)
class Layout:
    """Where the frames are in a picture, in pixels."""

    height: int
    """of the whole picture"""
    width: int
    """of the whole picture"""
    tops: tuple[int, ...]
    """first pixel row of each row of tiles"""
    lefts: tuple[int, ...]
    """first pixel column of each column of tiles"""
    tile: tuple[int, int]
    """height and width of one enlarged frame"""


def check_rows(rows: Rows, n_past: int | None = None, scale: int = 1) -> tuple[int, int, int]:
    """Checks that the clips can be shown beside each other.

    Returns:
        T, H, W of every clip.

    Raises:
        ShapeError: no rows; a clip that is not uint8 (T, 3, H, W); clips of different lengths
            or sizes; no frames; a context longer than the clips; a scale below 1.
    """
    if not rows:
        raise ShapeError("there are no rows to show", hint='give one clip, as {"truth": frames}')
    first = ""
    for name, frames in rows.items():
        _check_clip(name, frames)
        first = first or name
        if frames.shape != rows[first].shape:
            raise ShapeError(
                f"row {name!r} is {frames.shape}, row {first!r} is {rows[first].shape}",
                hint="show clips of one length and size; put the context frames in front of a "
                "prediction",
            )
    length, _, height, width = rows[first].shape
    if n_past is not None and not 0 <= n_past <= length:
        raise ShapeError(f"n_past is {n_past}; allowed: 0..{length}, the clips' length")
    if scale < 1:
        raise ShapeError(f"scale is {scale}; allowed: 1 and more")
    return length, height, width


def _check_clip(name: str, frames: np.ndarray) -> None:
    shape = tuple(np.shape(frames))
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        hint = "frames are (T, 3, H, W)"
        if len(shape) == 4 and shape[-1] == 3:
            hint = "put the channels second: frames.transpose(0, 3, 1, 2)"
        raise ShapeError(f"row {name!r} is {shape}; it must be (T, 3, H, W)", hint=hint)
    kind = getattr(frames, "dtype", None)
    if not isinstance(frames, np.ndarray) or kind != np.uint8:
        raise ShapeError(
            f"row {name!r} is {type(frames).__name__} of {kind}; it must be numpy uint8, 0..255",
            hint="from floats in [0, 1]: labkit.views.to_uint8(frames)",
        )


def enlarge(frame: UInt8[np.ndarray, "3 H W"], scale: int) -> UInt8[np.ndarray, "H2 W2 3"]:
    """One frame as a picture, every pixel a square of `scale` x `scale` (nearest neighbour)."""
    return np.repeat(np.repeat(frame.transpose(1, 2, 0), scale, axis=0), scale, axis=1)


def letter_size(tile_width: int) -> int:
    """Pixels of a label's letters beside tiles of that width."""
    return min(max(tile_width // 8, 11), 18)


# --------------------------------------------------------------------------- a strip over time


def strip_layout(
    rows: Rows,
    *,
    scale: int = 2,
    n_past: int | None = None,
    labels: bool = True,
    steps: Sequence[int] | None = None,
) -> Layout:
    """Where `filmstrip` puts each frame; it takes the same arguments."""
    length, height, width = check_rows(rows, n_past, scale)
    shown = check_steps(steps, length)
    tile = height * scale, width * scale
    left = top = edge = 0
    slots = [tile[0]] * len(rows)
    if labels:
        size, edge = letter_size(tile[1]), PAD
        lines = [_row_label(name, size) for name in rows]
        words = max(style.text_width(line, size) for label in lines for line in label)
        left = edge + words + PAD + SWATCH + GAP
        top = edge + _head_height(size, n_past) + style.line_height(size)
        slots = [max(tile[0], len(label) * style.line_height(size)) for label in lines]
    lefts = [left]
    for before, after in itertools.pairwise(shown):
        apart = 4 * GAP if n_past is not None and before < n_past <= after else GAP
        lefts.append(lefts[-1] + tile[1] + apart)
    tops = [top + sum(slots[:row]) + row * GAP for row in range(len(rows))]
    high, wide = tops[-1] + slots[-1] + edge, lefts[-1] + tile[1] + edge
    return Layout(high, wide, tuple(tops), tuple(lefts), tile)


def filmstrip(
    rows: Rows,
    *,
    scale: int = 2,
    n_past: int | None = None,
    labels: bool = True,
    steps: Sequence[int] | None = None,
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Clips under each other, time from left to right, as one picture.

    Args:
        rows: named clips, each uint8 (T, 3, H, W); the first is the top row.
        scale: every pixel becomes a square of this side (nearest neighbour).
        n_past: how many of the first frames are context. They get a grey bar, and a gap
            separates them from the future frames, true or predicted. None: no bars.
        labels: names at the left, with the series' colour, and time steps above.
        steps: which time steps to show, in rising order; all if None.

    Returns:
        uint8 (H', W', 3) picture; the same arguments make the same pixels.

    Raises:
        ShapeError: see `check_rows`; a step that is not in the clips.
    """
    layout = strip_layout(rows, scale=scale, n_past=n_past, labels=labels, steps=steps)
    shown = check_steps(steps, len(next(iter(rows.values()))))
    sheet = Image.new("RGB", (layout.width, layout.height), style.PAPER)
    if labels:
        draw = ImageDraw.Draw(sheet)
        _draw_row_labels(draw, layout, rows)
        _draw_time_labels(draw, layout, shown)
        if n_past is not None:
            _draw_context_bars(draw, layout, shown, n_past)
    picture = np.array(sheet)
    high, wide = layout.tile
    for top, frames in zip(layout.tops, rows.values(), strict=True):
        for left, step in zip(layout.lefts, shown, strict=True):
            picture[top : top + high, left : left + wide] = enlarge(frames[step], scale)
    return picture


def check_steps(steps: Sequence[int] | None, length: int) -> list[int]:
    """The time steps to show, in order: all of them, or `steps`."""
    if steps is None:
        return list(range(length))
    shown = [int(step) for step in steps]
    if not shown or shown != sorted(set(shown)) or not 0 <= shown[0] <= shown[-1] < length:
        raise ShapeError(f"steps are {shown}; they must rise and be within 0..{length - 1}")
    return shown


def _row_label(name: str, size: int) -> list[str]:
    return style.wrap(style.label_of(name), size, 9 * size)


def _head_height(size: int, n_past: int | None) -> int:
    """Pixels of the line that says "context" and "future", with its bar."""
    return 0 if n_past is None else style.line_height(size) + SWATCH + GAP


def _draw_row_labels(draw: ImageDraw.ImageDraw, layout: Layout, rows: Rows) -> None:
    size = letter_size(layout.tile[1])
    right = layout.lefts[0] - GAP - SWATCH
    for place, (name, top) in enumerate(zip(rows, layout.tops, strict=True)):
        lines = _row_label(name, size)
        y = top + max(0, layout.tile[0] - len(lines) * style.line_height(size)) // 2
        for number, line in enumerate(lines):
            x = right - PAD - style.text_width(line, size)
            at = x, y + number * style.line_height(size)
            draw.text(at, line, fill=style.INK, font=style.font(size))
        box = (right, top, right + SWATCH - 1, top + layout.tile[0] - 1)
        draw.rectangle(box, fill=style.series(name, place).color)


def _draw_time_labels(draw: ImageDraw.ImageDraw, layout: Layout, shown: Sequence[int]) -> None:
    """Writes each time step above its frame, as "t = 3" or "3"; leaves some out if too narrow."""
    size, wide = letter_size(layout.tile[1]), layout.tile[1]
    width = style.text_width(f"t = {shown[-1]}", size)
    long = width <= wide - PAD
    if not long:
        width = style.text_width(f"{shown[-1]}", size)
    every = -(-(width + PAD // 2) // (wide + GAP))
    y = layout.tops[0] - style.line_height(size)
    for number in range(0, len(shown), every):
        text = f"t = {shown[number]}" if long else f"{shown[number]}"
        x = layout.lefts[number] + (wide - style.text_width(text, size)) // 2
        x = min(x, layout.width - style.text_width(text, size))
        draw.text((x, y), text, fill=style.INK, font=style.font(size))


def _draw_context_bars(
    draw: ImageDraw.ImageDraw, layout: Layout, shown: Sequence[int], n_past: int
) -> None:
    size, wide = letter_size(layout.tile[1]), layout.tile[1]
    parts = (
        (
            "context",
            style.CONTEXT,
            [x for x, t in zip(layout.lefts, shown, strict=True) if t < n_past],
        ),
        (
            "future",
            style.BLUE,
            [x for x, t in zip(layout.lefts, shown, strict=True) if t >= n_past],
        ),
    )
    for word, color, lefts in parts:
        if not lefts:
            continue
        left, right = lefts[0], lefts[-1] + wide - 1
        if style.text_width(word, size) <= right - left:
            draw.text((left, PAD), word, fill=color, font=style.font(size))
        y = PAD + style.line_height(size)
        draw.rectangle((left, y, right, y + SWATCH - 1), fill=color)


# ----------------------------------------------------------------------------------- to a file


def png_bytes(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A picture as a PNG; the same pixels make the same bytes (no dates, no metadata)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()
