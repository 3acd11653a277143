"""Strips and columns: every pixel in its place, every label whole, the same bytes each time."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from labkit.errors import ShapeError
from labkit.views import filmstrip, png_bytes, side_by_side, style, to_uint8
from labkit.views.filmstrip import strip_layout
from labkit.views.side_by_side import side_by_side_layout


def noise(length: int = 5, size: int = 16, names=("truth", "prediction")) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {name: random.integers(0, 256, (length, 3, size, size), np.uint8) for name in names}


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_every_pixel_of_a_strip_is_where_the_layout_says(labels: bool, scale: int) -> None:
    rows = noise()
    options = {"scale": scale, "n_past": 2, "labels": labels}
    picture, layout = filmstrip(rows, **options), strip_layout(rows, **options)
    assert picture.shape == (layout.height, layout.width, 3)
    for top, frames in zip(layout.tops, rows.values(), strict=True):
        for left, frame in zip(layout.lefts, frames, strict=True):
            for i, j in ((0, 0), (3, 5), (15, 0), (15, 15)):
                square = picture[
                    top + i * scale : top + (i + 1) * scale,
                    left + j * scale : left + (j + 1) * scale,
                ]
                assert (square == frame[:, i, j]).all()


def test_a_strip_without_labels_has_the_plain_size() -> None:
    picture = filmstrip(noise(length=4), scale=2, labels=False)
    assert picture.shape == (2 * 32 + 2, 4 * 32 + 3 * 2, 3)


def test_context_frames_are_set_apart() -> None:
    lefts = strip_layout(noise(), scale=1, n_past=2, labels=False).lefts
    steps = np.diff(lefts)
    assert steps.tolist() == [18, 24, 18, 18]
    assert np.diff(strip_layout(noise(), scale=1, labels=False).lefts).tolist() == [18] * 4


def test_context_and_prediction_have_their_bars() -> None:
    rows = noise()
    layout = strip_layout(rows, scale=4, n_past=2)
    picture = filmstrip(rows, scale=4, n_past=2)
    head = picture[: layout.tops[0]]
    for column, color in ((1, style.CONTEXT), (2, style.BLUE)):
        here = head[:, layout.lefts[column] + 30]
        assert (here == np.array(rgb(color))).all(axis=1).sum() >= 4


@pytest.mark.parametrize("size", [4, 16, 64])
@pytest.mark.parametrize("name", ["posterior", "a_run/with-one-unbroken-and-very-long-name" * 2])
def test_labels_are_drawn_and_touch_neither_tiles_nor_edges(size: int, name: str) -> None:
    rows = noise(length=12, size=size, names=("truth", name, "repeat_last"))
    layout = strip_layout(rows, scale=1, n_past=2)
    ink = (filmstrip(rows, scale=1, n_past=2) < 200).any(axis=2)
    words = ink[:, : layout.lefts[0] - 6]
    for top, below in zip(layout.tops, (*layout.tops[1:], layout.height), strict=True):
        assert words[top:below].any()
    assert not ink[:4].any()
    assert not ink[-4:].any()
    assert not ink[:, :4].any()
    assert not ink[:, -4:].any()
    assert ink[layout.tops[0] - 12 : layout.tops[0], layout.lefts[0] :].any()


def test_chosen_steps_are_shown_in_their_order() -> None:
    rows = noise()
    strip = filmstrip(rows, steps=[0, 3], labels=False, scale=1)
    assert (strip[:16, 18:34] == rows["truth"][3].transpose(1, 2, 0)).all()
    for steps in ([3, 0], [5], [], [-1]):
        with pytest.raises(ShapeError, match=r"0\.\.4"):
            filmstrip(rows, steps=steps)


@pytest.mark.parametrize("scale", [1, 4])
def test_every_pixel_of_a_time_step_is_where_the_layout_says(scale: int) -> None:
    rows = noise()
    layout = side_by_side_layout(rows, scale=scale, n_past=2)
    for step in range(5):
        picture = side_by_side(rows, step, scale=scale, n_past=2)
        assert picture.shape == (layout.height, layout.width, 3)
        for left, frames in zip(layout.lefts, rows.values(), strict=True):
            top, (high, wide) = layout.tops[0], layout.tile
            tile = picture[top : top + high, left : left + wide]
            assert (tile[::scale, ::scale] == frames[step].transpose(1, 2, 0)).all()


def test_the_time_line_fills_up_and_tells_context_from_prediction() -> None:
    rows = noise()

    def filled(step: int, color: str) -> int:
        line = side_by_side(rows, step, n_past=2)[-12]
        return int((line == np.array(rgb(color))).all(axis=1).sum())

    grey = [filled(step, style.CONTEXT) for step in range(5)]
    blue = [filled(step, style.BLUE) for step in range(5)]
    assert grey[0] < grey[1] == grey[2] == grey[4]
    assert blue[0] == blue[1] == 0 < blue[2] < blue[3] < blue[4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "no rows"),
        ({"a": np.zeros((2, 3, 4, 4), np.float32)}, "'a' is ndarray of float32.*to_uint8"),
        ({"a": np.zeros((2, 4, 4, 3), np.uint8)}, "transpose"),
        ({"a": np.zeros((0, 3, 4, 4), np.uint8)}, r"\(0, 3, 4, 4\)"),
        ({"a": np.zeros((3, 4, 4), np.uint8)}, r"must be \(T, 3, H, W\)"),
        ({**noise(5, 4, ["a"]), **noise(4, 4, ["b"])}, r"'b' is \(4, .*'a' is \(5, .*one length"),
    ],
)
def test_clips_that_cannot_be_shown_are_named(rows: dict, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        filmstrip(rows)
    with pytest.raises(ShapeError, match=message):
        side_by_side(rows, 0)


def test_context_and_scale_out_of_range() -> None:
    with pytest.raises(ShapeError, match=r"n_past is 6; allowed: 0\.\.5"):
        filmstrip(noise(), n_past=6)
    with pytest.raises(ShapeError, match="scale is 0"):
        filmstrip(noise(), scale=0)


@pytest.mark.parametrize("length", [1, 200])
def test_one_frame_and_many(length: int) -> None:
    rows = noise(length=length, size=8)
    assert filmstrip(rows, scale=1, n_past=1).shape[1] >= length * 8
    side_by_side(rows, length - 1, n_past=1)


def test_floats_become_bytes_by_rounding() -> None:
    values = np.array([0.0, 0.5 / 255 + 1e-6, 1.0])
    assert to_uint8(values).tolist() == [0, 1, 255]
    for wrong in ([0.0, 255.0], [-0.1, 1.0], [np.nan, 0.5]):
        with pytest.raises(ShapeError, match=r"allowed: 0\.\.1"):
            to_uint8(np.array(wrong))


MAKE = """
import numpy as np
from labkit.views import filmstrip, gif_bytes, png_bytes
random = np.random.default_rng(3)
rows = {k: random.integers(0, 256, (4, 3, 16, 16), np.uint8) for k in ("truth", "posterior")}
made = png_bytes(filmstrip(rows, n_past=2)) + gif_bytes(rows, n_past=2)
"""


def test_two_processes_make_the_same_bytes() -> None:
    here: dict[str, bytes] = {}
    exec(MAKE, here)
    say = "import sys; sys.stdout.buffer.write(made)"
    there = subprocess.run([sys.executable, "-c", MAKE + say], check=True, capture_output=True)
    assert there.stdout == here["made"]


def test_a_png_holds_pixels_and_nothing_else() -> None:
    data = png_bytes(filmstrip(noise(length=2), labels=False))
    kinds, at = [], 8
    while at < len(data):
        kinds.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}


def rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))
