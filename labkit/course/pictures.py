"""Frames with marks on them: their numbers, and what the robot does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from labkit.data.clip import Clip
from labkit.errors import ShapeError
from labkit.evaluation.gripper import tip_pixels
from labkit.views import style

ARROW_MOVES = 3.0
"""an action's arrow is as long as this many such moves, so that it can be seen"""


def _enlarged(frame: UInt8[np.ndarray, "3 H W"], scale: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
    size = picture.width * scale, picture.height * scale
    return picture.resize(size, Image.Resampling.NEAREST)


def numbered(
    frames: UInt8[np.ndarray, "T 3 H W"], numbers: Sequence[int], *, scale: int = 2
) -> UInt8[np.ndarray, "T 3 H2 W2"]:
    """Enlarged frames, each with its own number in the upper left corner.

    Args:
        frames: the pictures.
        numbers: what stands on each.
        scale: every pixel becomes a square of this side.
    Raises:
        ShapeError: there are not as many numbers as frames.
    """
    if len(numbers) != len(frames):
        raise ShapeError(f"{len(frames)} frames and {len(numbers)} numbers")
    pictures, size = [], 9 * scale
    for frame, number in zip(frames, numbers, strict=True):
        picture = _enlarged(frame, scale)
        draw = ImageDraw.Draw(picture)
        width = style.text_width(str(number), size) + 6
        draw.rectangle((0, 0, width, style.line_height(size) + 1), fill=style.PAPER)
        draw.text((3, 0), str(number), fill=style.INK, font=style.font(size))
        pictures.append(np.asarray(picture).transpose(2, 0, 1))
    return np.stack(pictures)


def with_actions(clip: Clip, *, scale: int = 4) -> UInt8[np.ndarray, "T 3 H2 W2"]:
    """Enlarged frames of a simulated clip: a ring marks the end effector's position, an arrow the
    action of the frame, three times as long as the move it asks for.

    The marks are placed by the simulated table's camera; of real clips it is not known.

    Args:
        clip: a clip with positions.
        scale: every pixel becomes a square of this side.
    Raises:
        ShapeError: the clip has no positions.
    """
    if clip.positions is None:
        raise ShapeError("the clip has no positions", hint="choose a clip that has them")
    moves = np.zeros_like(clip.positions)
    moves[:, :2] = ARROW_MOVES * clip.actions[:, :2]
    side = clip.frames.shape[-1]
    starts = scale * tip_pixels(clip.positions, side).numpy()
    ends = scale * tip_pixels(clip.positions + moves, side).numpy()
    pictures = []
    for frame, start, end in zip(clip.frames, starts, ends, strict=True):
        picture = _enlarged(frame, scale)
        draw = ImageDraw.Draw(picture)
        for color, width in ((style.PAPER, scale + 2), (style.VERMILION, scale - 1)):
            draw.line((*start, *end), fill=color, width=width)
            draw.polygon(_head(start, end, 3 * scale), outline=color, fill=style.VERMILION)
            draw.circle(tuple(start), 2 * scale, outline=color, width=max(2, scale // 2))
        pictures.append(np.asarray(picture).transpose(2, 0, 1))
    return np.stack(pictures)


def _head(start: np.ndarray, end: np.ndarray, size: float) -> list[tuple[float, float]]:
    """The triangle at an arrow's end."""
    along = end - start
    length = float(np.hypot(*along))
    along = along / length if length > 1e-6 else np.zeros(2)
    across = np.array([-along[1], along[0]])
    base = end - size * along
    return [tuple(end), tuple(base + size / 2 * across), tuple(base - size / 2 * across)]
