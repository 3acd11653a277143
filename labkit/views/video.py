"""Frames -> an MP4 of named clips side by side, if ffmpeg is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from labkit.errors import LabkitError
from labkit.files import write_whole
from labkit.views.filmstrip import Rows, check_rows
from labkit.views.gif import frame_time
from labkit.views.side_by_side import side_by_side


def mp4_bytes(
    rows: Rows, *, scale: int = 3, fps: int | float = 5.0, n_past: int | None = None
) -> bytes:
    """The pictures of `gif_bytes` as an H.264 video, with all colours and a much smaller file.

    Args:
        rows: named clips, each uint8 (T, 3, H, W); the first is the leftmost.
        scale: every pixel becomes a square of this side (nearest neighbour).
        fps: frames per second, at most 50.
        n_past: how many of the first frames are context; None: not marked.

    Returns:
        the MP4.

    Raises:
        ShapeError: see `filmstrip.check_rows`; a rate outside 0..50.
        LabkitError: ffmpeg is not installed.
    """
    length, _, _ = check_rows(rows, n_past, scale)
    frame_time(fps)
    if not can_write_mp4():
        raise LabkitError(
            "an MP4 needs ffmpeg, which is not installed",
            hint="pip install -e '.[video]', or write a GIF with save_gif",
        )
    pictures = [side_by_side(rows, step, scale=scale, n_past=n_past) for step in range(length)]
    high, wide = pictures[0].shape[:2]
    # The usual pixel format stores colours at half resolution, so both sides must be even.
    edge = ((0, 0), (0, high % 2), (0, wide % 2), (0, 0))
    frames = np.pad(np.stack(pictures), edge, mode="edge")
    return iio.imwrite(
        "<bytes>",
        frames,
        extension=".mp4",
        plugin="FFMPEG",
        fps=fps,
        codec="libx264",
        macro_block_size=1,  # or the frames would be stretched to multiples of 16
        ffmpeg_log_level="error",
    )


def save_mp4(
    file: Path | str,
    rows: Rows,
    *,
    scale: int = 3,
    fps: int | float = 5.0,
    n_past: int | None = None,
) -> Path:
    """Writes `mp4_bytes(rows, ...)` to `file`, whole or not at all; makes its folder."""
    file = Path(file)
    write_whole(file, mp4_bytes(rows, scale=scale, fps=fps, n_past=n_past))
    return file


def can_write_mp4() -> bool:
    """Whether imageio can reach an ffmpeg: the one that imageio-ffmpeg brings, or the system's."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return False
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        return False
    return True
