"""Frames -> an animated GIF of named clips side by side, with one palette for all frames."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor

from labkit.errors import ShapeError
from labkit.files import write_whole
from labkit.views import style
from labkit.views.filmstrip import Rows, check_rows
from labkit.views.side_by_side import side_by_side

_GREYS = 16
_MARKS = (style.CONTEXT, style.FAINT, *dict.fromkeys(s.color for s in style.SERIES.values()))


def gif_bytes(
    rows: Rows, *, scale: int = 3, fps: int | float = 5.0, n_past: int | None = None
) -> bytes:
    """An endless GIF: the clips side by side, with their names and the time step.

    A GIF has 256 colours. They are chosen once from all frames of all clips, without dithering:
    with a palette for each frame, or with dither noise, objects that stand still would flicker.
    The last frame is shown for one second.

    Args:
        rows: named clips, each uint8 (T, 3, H, W); the first is the leftmost.
        scale: every pixel becomes a square of this side (nearest neighbour).
        fps: frames per second, at most 50 (browsers slow down faster GIFs).
        n_past: how many of the first frames are context; None: not marked.

    Returns:
        the GIF; the same arguments make the same bytes.

    Raises:
        ShapeError: see `filmstrip.check_rows`; a rate outside 0..50.
    """
    length, _, _ = check_rows(rows, n_past, scale)
    milliseconds = frame_time(fps)
    colors = _colors(rows)
    pictures = [
        _in_colors(side_by_side(rows, step, scale=scale, n_past=n_past), colors)
        for step in range(length)
    ]
    times = [milliseconds] * (length - 1) + [max(1000, milliseconds)]
    return iio.imwrite(
        "<bytes>",
        np.stack(pictures),
        extension=".gif",
        plugin="pillow",
        mode="P",  # the arrays are places in the palette, which is then not chosen anew
        is_batch=True,
        palette=colors.tobytes(),
        duration=times if length > 1 else times[0],
        loop=0,
    )


class Animation:
    """A GIF that a notebook shows, made by `animation`."""

    def __init__(self, gif: bytes, text: str) -> None:
        self.gif, self.text = gif, text

    def __repr__(self) -> str:
        return f"Animation({self.text})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        """An <img> that holds the GIF. IPython's Image is lost in an exported page."""
        data = base64.b64encode(self.gif).decode("ascii")
        image = f'<img alt="{html.escape(self.text)}" src="data:image/gif;base64,{data}">'
        return {"text/plain": repr(self), "text/html": image}


def animation(
    rows: Rows, *, scale: int = 3, fps: int | float = 5.0, n_past: int | None = None
) -> Animation:
    """`gif_bytes(rows, ...)` for the last line of a notebook's cell, also in an exported page."""
    names = ", ".join(style.label_of(name) for name in rows)
    length = len(next(iter(rows.values()), ()))
    gif = gif_bytes(rows, scale=scale, fps=fps, n_past=n_past)
    return Animation(gif, f"{names}: {length} frames")


def save_gif(
    file: Path | str,
    rows: Rows,
    *,
    scale: int = 3,
    fps: int | float = 5.0,
    n_past: int | None = None,
) -> Path:
    """Writes `gif_bytes(rows, ...)` to `file`, whole or not at all; makes its folder."""
    file = Path(file)
    write_whole(file, gif_bytes(rows, scale=scale, fps=fps, n_past=n_past))
    return file


def frame_time(fps: int | float) -> int:
    """Milliseconds that a frame is shown.

    Raises:
        ShapeError: a rate that is not above 0 and at most 50.
    """
    if not 0 < fps <= 50:
        raise ShapeError(f"fps is {fps}; allowed: above 0, up to 50")
    return round(1000 / fps)


def in_256_colours(png: bytes) -> bytes:
    """The picture with a palette of 256 colours, which makes the file about three times smaller.

    The lab's own colours and greys stay as they are. The others are chosen from the picture,
    without dithering. The same picture makes the same bytes.

    Args:
        png: a PNG; transparent pixels become opaque.
    """
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    # Every other pixel in both directions is enough to choose the colours, and faster.
    colors = _colors({"picture": picture[::2, ::2].transpose(2, 0, 1)[None]})
    small = Image.fromarray(_in_colors(picture, colors))
    small.putpalette(colors.tobytes())
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def _colors(rows: Rows) -> UInt8[np.ndarray, "256 3"]:
    """The palette: the labels' colours, the rest chosen from the pixels of all the frames."""
    greys = [(level, level, level) for level in range(256)]
    fixed = [*greys[:: 255 // (_GREYS - 1)], *map(ImageColor.getrgb, _MARKS)]
    pixels = np.concatenate(
        [frames.transpose(0, 2, 3, 1).reshape(-1, 3) for frames in rows.values()]
    )
    # Median cut alone makes the few vivid pixels of small objects grey; k-means keeps them vivid.
    chosen = Image.fromarray(pixels[None]).quantize(
        256 - len(fixed), method=Image.Quantize.MEDIANCUT, kmeans=1
    )
    fitted = map(tuple, np.reshape(chosen.getpalette(), (-1, 3)).tolist())
    # Each colour once; greys fill the rest, so that there are always 256.
    return np.array(list(dict.fromkeys([*fixed, *fitted, *greys]))[:256], dtype=np.uint8)


def _in_colors(
    picture: UInt8[np.ndarray, "H W 3"], colors: UInt8[np.ndarray, "256 3"]
) -> UInt8[np.ndarray, "H W"]:
    """For each pixel the number of the nearest colour, the first if two are equally near.

    pillow's own search rounds colours first, which turns white into off-white.
    """
    red, green, blue = np.moveaxis(picture.astype(np.uint32), -1, 0)
    packed, place = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    seen = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.float32)
    known = colors.astype(np.float32)
    # |s - k|^2 = |s|^2 - 2 s.k + |k|^2; the first term is the same for every k. All values
    # are whole numbers below 2^24, so float32 holds them exactly.
    nearest = ((known**2).sum(axis=1) - 2 * seen @ known.T).argmin(axis=1).astype(np.uint8)
    return nearest[place.reshape(picture.shape[:2])]
