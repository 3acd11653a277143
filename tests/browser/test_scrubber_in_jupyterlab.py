"""The scrubber in a real JupyterLab, driven in a real Chromium by mouse and keyboard."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labkit.views import scrub, side_by_side

pytestmark = pytest.mark.browser

N_PAST, SCALE, FRAMES = 2, 3, 6

CELL = f"""import numpy as np
from labkit.views import scrub
rows = dict(np.load("rows.npz"))
view = scrub(rows, n_past={N_PAST}, scale={SCALE})
view"""

VIEW = ".jp-OutputArea-child .jupyter-widgets"
PICTURE = f"{VIEW} img"
HANDLE = f"{VIEW} .noUi-handle"
STILL = ".jp-OutputArea-child .jp-RenderedImage img"

# Blob addresses cannot be fetched after their widget is gone, so the picture is copied off
# the screen's own <img>, at its natural size.
PIXELS = """img => {
    const canvas = document.createElement('canvas');
    canvas.width = img.naturalWidth;
    canvas.height = img.naturalHeight;
    canvas.getContext('2d').drawImage(img, 0, 0);
    return canvas.toDataURL('image/png');
}"""


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Two clips of noise: no two frames are alike."""
    random = np.random.default_rng(4)
    shape = (FRAMES, 3, 32, 32)
    return {name: random.integers(0, 256, shape, np.uint8) for name in ("truth", "prediction")}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, np.ndarray]) -> Path:
    """A notebook as it lies in a repository: executed elsewhere and saved with its output."""
    folder = tmp_path_factory.mktemp("notebooks")
    np.savez(folder / "rows.npz", **rows)
    bundle = scrub(rows, n_past=N_PAST, scale=SCALE)._repr_mimebundle_()
    output = {
        "output_type": "execute_result",
        "execution_count": 1,
        "metadata": {},
        "data": bundle,
    }
    cell = {
        "cell_type": "code",
        "id": "scrub",
        "metadata": {},
        "execution_count": 1,
        "source": CELL,
        "outputs": [output],
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel},
        "cells": [cell],
    }
    file = folder / "scrub.ipynb"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_scrubber_shows_the_right_frame_with_and_without_a_kernel(lab, page, rows) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{lab.url}/lab/tree/scrub.ipynb")

    # Not yet run: the saved strip is there instead of nothing.
    page.wait_for_selector(STILL, state="visible")
    _save_screenshot(page, "saved_notebook")

    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached")
    page.click(".jp-Cell .jp-InputArea-editor")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(HANDLE, state="visible")
    _expect_frame(page, rows, 0)

    _drag_to(page, 3)
    _expect_frame(page, rows, 3)
    _save_screenshot(page, "scrubber")
    page.focus(HANDLE)
    page.keyboard.press("ArrowRight")
    _expect_frame(page, rows, 4)

    lab.stop_kernels()
    _drag_to(page, 1)
    _expect_frame(page, rows, 1)
    page.focus(HANDLE)
    page.keyboard.press("ArrowLeft")
    _expect_frame(page, rows, 0)
    page.click(f"{VIEW} .jupyter-button >> nth=0")  # play, with the kernel gone
    _expect_frame(page, rows, FRAMES - 1)
    assert errors == []


def _drag_to(page, step: int) -> None:
    """Takes the slider's handle with the mouse and lets go over time step `step`."""
    handle = page.locator(HANDLE).bounding_box()
    track = page.locator(f"{VIEW} .noUi-base").bounding_box()
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * step / (FRAMES - 1), y, steps=8)
    page.mouse.up()


def _expect_frame(page, rows: dict[str, np.ndarray], step: int) -> None:
    """Waits until the picture on the screen is that of `step`, pixel for pixel."""
    wanted = side_by_side(rows, step, scale=SCALE, n_past=N_PAST)
    for _ in range(100):
        shown = _shown(page)
        if shown is not None and np.array_equal(shown, wanted):
            return
        page.wait_for_timeout(50)
    known = [side_by_side(rows, t, scale=SCALE, n_past=N_PAST) for t in range(FRAMES)]
    found = [t for t, picture in enumerate(known) if np.array_equal(picture, shown)]
    pytest.fail(f"frame {step} is not on the screen; shown: {found or 'none of the frames'}")


def _shown(page) -> np.ndarray | None:
    """The one picture that can be seen, decoded; None while there is none, or several."""
    pictures = [img for img in page.locator(PICTURE).all() if img.is_visible()]
    if len(pictures) != 1:
        return None
    data = pictures[0].evaluate(PIXELS).removeprefix("data:image/png;base64,")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def _save_screenshot(page, name: str) -> None:
    folder = os.environ.get("LABKIT_ARTEFACTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
