"""MP4s: right where there is an ffmpeg, one clear sentence where there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from labkit.errors import LabkitError, ShapeError
from labkit.views import save_mp4, side_by_side, video


def rows(length: int = 5) -> dict[str, np.ndarray]:
    """Smooth pictures, which a video keeps; the two differ from frame to frame."""
    ramp = np.linspace(20, 200, 32).astype(np.uint8)
    clip = np.empty((length, 3, 32, 32), np.uint8)
    clip[:, 0], clip[:, 1], clip[:, 2] = ramp, ramp[:, None], 90
    clip[:, 1] += np.arange(length, dtype=np.uint8)[:, None, None] * 8
    return {"truth": clip, "prediction": clip[::-1].copy()}


def test_without_ffmpeg_one_sentence_names_the_way_out(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(video, "can_write_mp4", lambda: False)
    with pytest.raises(LabkitError, match=r"needs ffmpeg.*\[video\].*save_gif"):
        save_mp4(tmp_path / "clip.mp4", rows())
    assert list(tmp_path.iterdir()) == []


def test_clips_are_checked_before_ffmpeg_is(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(video, "can_write_mp4", lambda: False)
    for wrong, options in (({}, {}), (rows(), {"fps": 0}), (rows(), {"n_past": 9})):
        with pytest.raises(ShapeError):
            save_mp4(tmp_path / "clip.mp4", wrong, **options)


# imageio-ffmpeg leaves the pipes of the reader for the garbage collector to close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("length", [1, 5])
def test_a_video_shows_the_frames(length: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        pytest.skip("there is no ffmpeg: pip install -e '.[video]'")
    file = save_mp4(tmp_path / "videos" / "clip.mp4", rows(length), n_past=1, scale=3, fps=10)
    assert [entry.name for entry in file.parent.iterdir()] == ["clip.mp4"]
    frames = iio.imread(file, plugin="FFMPEG")
    assert len(frames) == length
    for step, frame in enumerate(frames):
        wanted = side_by_side(rows(length), step, scale=3, n_past=1)
        high, wide = wanted.shape[:2]
        assert frame.shape == (high + high % 2, wide + wide % 2, 3)
        error = np.abs(frame[:high, :wide].astype(int) - wanted)
        assert error.mean() < 5
    assert iio.immeta(file, plugin="FFMPEG")["fps"] == 10
