"""GIFs: every frame, one palette, pixels near the source, written whole."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import nbconvert
import nbformat
import numpy as np
import pytest
from PIL import Image

from labkit.errors import ShapeError
from labkit.views import animation, gif_bytes, save_gif, side_by_side
from labkit.views.side_by_side import side_by_side_layout

NAMES = ("truth", "prediction", "posterior")


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Grainy pictures with a vivid square that moves over a still one."""
    random = np.random.default_rng(5)
    ramp = np.linspace(40, 200, 32)
    clip = np.empty((6, 3, 32, 32), np.uint8)
    clip[:, 0], clip[:, 1], clip[:, 2] = ramp, ramp[:, None], 120
    clip += random.integers(0, 30, clip.shape, np.uint8)
    clip[:, :, 20:24, 20:24] = np.array([20, 230, 40])[:, None, None]
    for t in range(6):
        clip[t, :, 4:8, 4 * t : 4 * t + 4] = np.array([240, 20, 30])[:, None, None]
    return {name: np.roll(clip, shift, axis=2) for shift, name in enumerate(NAMES)}


def decode(data: bytes) -> list[np.ndarray]:
    image = Image.open(io.BytesIO(data))
    frames = []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.array(image.convert("RGB")))
    return frames


def test_frames_loop_and_times(rows) -> None:
    image = Image.open(io.BytesIO(gif_bytes(rows, n_past=2, fps=4)))
    times = []
    for number in range(image.n_frames):
        image.seek(number)
        times.append(image.info["duration"])
    assert times == [250] * 5 + [1000]
    assert image.info["loop"] == 0


def test_there_is_one_palette_for_the_whole_file(rows) -> None:
    data = gif_bytes(rows, n_past=2)
    assert local_palettes(data) == [False] * 6
    assert data[10] & 0x87 == 0x87  # a global palette of 256 colours


def test_pixels_are_near_the_source_and_labels_exact(rows) -> None:
    layout = side_by_side_layout(rows, scale=3, n_past=2)
    top, bottom = layout.tops[0], layout.tops[0] + layout.tile[0]
    for step, frame in enumerate(decode(gif_bytes(rows, n_past=2))):
        source = side_by_side(rows, step, scale=3, n_past=2).astype(int)
        error = np.abs(frame.astype(int) - source)
        assert error[top:bottom].mean() < 6
        for left, clip in zip(layout.lefts, rows.values(), strict=True):
            square = np.argwhere((clip[step] == np.array([20, 230, 40])[:, None, None]).all(0))[0]
            i, j = top + 3 * square[0] + 1, left + 3 * square[1] + 1
            assert error[i, j].max() < 24, "a vivid toy is dulled"
        assert (frame[0] == 255).all(), "paper is white"
        assert (frame[: layout.tops[0], layout.lefts[0] :] < 90).any(axis=2).sum() > 100


def test_what_stands_still_does_not_flicker(rows) -> None:
    still = {name: clip[:1].repeat(6, axis=0) for name, clip in rows.items()}
    layout = side_by_side_layout(still, scale=3, n_past=2)
    tiles = slice(layout.tops[0], layout.tops[0] + layout.tile[0])
    first, *others = decode(gif_bytes(still, n_past=2))
    assert len(others) == 5
    assert all((frame[tiles] == first[tiles]).all() for frame in others)


def test_one_frame_makes_a_gif() -> None:
    assert len(decode(gif_bytes({"truth": np.full((1, 3, 8, 8), 9, np.uint8)}))) == 1


@pytest.mark.parametrize("fps", [0, -1, 51])
def test_a_rate_out_of_range(rows, fps: float) -> None:
    with pytest.raises(ShapeError, match="fps"):
        gif_bytes(rows, fps=fps)


def test_saving_makes_the_folder_and_leaves_nothing_else(rows, tmp_path: Path) -> None:
    file = save_gif(tmp_path / "gifs" / "clip.gif", rows, n_past=2)
    assert file.read_bytes() == gif_bytes(rows, n_past=2)
    assert [entry.name for entry in file.parent.iterdir()] == ["clip.gif"]


def local_palettes(data: bytes) -> list[bool]:
    """For each frame of a GIF: does it bring a palette of its own?"""
    at, found = 13 + 3 * 256, []
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            found.append(bool(data[at + 9] & 0x80))
            at += 11 + (3 * 2 ** ((data[at + 9] & 7) + 1) if found[-1] else 0)
        else:
            at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    return found


def test_a_notebook_and_its_exported_page_show_the_gif(rows) -> None:
    shown = animation(rows, scale=1, n_past=2)
    bundle = shown._repr_mimebundle_()
    assert repr(shown) == f"Animation({shown.text})"
    assert set(bundle) == {"text/plain", "text/html"}
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "animation(rows)",
                outputs=[nbformat.v4.new_output("display_data", data=bundle)],
            )
        ]
    )
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    (data,) = re.findall(r'src="data:image/gif;base64,([^"]+)"', page)
    assert base64.b64decode(data) == gif_bytes(rows, scale=1, n_past=2)
