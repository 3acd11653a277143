"""The scrubber's parts, without a browser: pictures, links, what a saved notebook keeps."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from labkit.errors import ShapeError
from labkit.views import scrub, side_by_side

VIEW = "application/vnd.jupyter.widget-view+json"


def clips(length: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        name: random.integers(0, 256, (length, 3, 8, 8), np.uint8)
        for name in ("truth", "prediction")
    }


def pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def test_each_picture_is_its_time_step() -> None:
    rows = clips()
    view = scrub(rows, n_past=2, scale=3)
    assert len(view.stack.children) == 4
    for step, picture in enumerate(view.stack.children):
        wanted = side_by_side(rows, step, scale=3, n_past=2)
        np.testing.assert_array_equal(pixels(picture.value), wanted)


def test_links_are_made_in_the_browser() -> None:
    view = scrub(clips(), fps=10)
    ends = [(link.source, link.target) for link in view.links]
    assert ends == [
        ((view.play, "value"), (view.slider, "value")),
        ((view.slider, "value"), (view.stack, "selected_index")),
    ]
    assert {link._model_name for link in view.links} == {"LinkModel"}
    assert {link._model_module for link in view.links} == {"@jupyter-widgets/controls"}
    # A link on the kernel's side would have moved the picture here.
    view.slider.value = 2
    assert view.stack.selected_index == 0
    assert (view.slider.min, view.slider.max, view.play.max) == (0, 3, 3)
    assert view.play.interval == 100


def test_the_output_is_the_same_at_every_run() -> None:
    first, second = (scrub(clips(), n_past=2)._repr_mimebundle_() for _ in range(2))
    assert first[VIEW] != second[VIEW]
    assert {k: v for k, v in first.items() if k != VIEW} == {
        k: v for k, v in second.items() if k != VIEW
    }
    assert first["text/plain"] == "Scrubber(rows=['truth', 'prediction'], frames=4)"
    assert set(first) == {VIEW, "text/plain", "image/png"}


def test_a_long_clip_keeps_a_readable_strip() -> None:
    rows = {"truth": np.zeros((200, 3, 8, 8), np.uint8)}
    bundle = scrub(rows, scale=1)._repr_mimebundle_()
    strip = pixels(base64.b64decode(bundle["image/png"]))
    assert strip.shape[1] < 400
    assert (strip == 0).all(axis=2).sum() >= 12 * 64


def test_one_frame_works() -> None:
    view = scrub({"truth": np.zeros((1, 3, 8, 8), np.uint8)}, n_past=1)
    assert view.slider.max == 0
    assert repr(view) == "Scrubber(rows=['truth'], frames=1)"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "no rows"),
        ({**clips(), "posterior": np.zeros((3, 3, 8, 8), np.uint8)}, "'posterior' is"),
        ({"truth": np.zeros((3, 3, 8, 8))}, "float64"),
    ],
)
def test_clips_that_cannot_be_scrubbed(rows, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        scrub(rows)
