"""The scrubber in a real JupyterLab, driven in a real Chromium by mouse and keyboard."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from labkit.views import scrub

pytestmark = pytest.mark.browser

N_PAST, SCALE, FRAMES = 2, 3, 6

SHOW = f"""import numpy as np
from labkit.views import scrub
rows = dict(np.load("rows.npz"))
view = scrub(rows, n_past={N_PAST}, scale={SCALE})
view"""
WIDGET = f"scrub(rows, n_past={N_PAST}, scale={SCALE}, difference=True).widget()"

CANVAS = ".jp-OutputArea-child .labkit-scrubber canvas:visible"
STILL = ".jp-OutputArea-child img[alt^='Film strip']"
TILE = ".jupyter-widgets .labkit-scrubber figure > .tile"
SUBTRACTED = ".jupyter-widgets .labkit-scrubber .subtracted"
HANDLE = ".jupyter-widgets .noUi-handle >> nth=0"
TRACK = ".jupyter-widgets .noUi-base >> nth=0"


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Two clips of noise: no two frames are alike."""
    random = np.random.default_rng(4)
    shape = (FRAMES, 3, 32, 32)
    return {name: random.integers(0, 256, shape, np.uint8) for name in ("truth", "prediction")}


@pytest.fixture
def notebook(lab, rows) -> str:
    """Address of a notebook as it lies in a repository; its second cell was never run."""
    np.savez(lab.folder / "rows.npz", **rows)
    bundle = scrub(rows, n_past=N_PAST, scale=SCALE)._repr_mimebundle_()
    return lab.save_notebook("scrub.ipynb", [(SHOW, bundle), (WIDGET, None)])


def test_from_the_saved_notebook_to_the_dead_kernel_and_back(
    lab, notebook, page, rows, seen, screenshots
) -> None:
    def frames(places: str) -> list[int | None]:
        found = page.locator(places)
        found.first.wait_for()
        pairs = zip(found.all(), rows.values(), strict=True)
        return [seen(place, clip, SCALE) for place, clip in pairs]

    def expect(places: str, step: int) -> None:
        """Waits until every clip shows that time step on the screen."""
        from playwright.sync_api import Error

        shown = None
        for _ in range(100):
            # A widget makes its elements anew at every step: one may go while it is looked at.
            with contextlib.suppress(Error):
                shown = frames(places)
            if shown == [step] * len(rows):
                return
            page.wait_for_timeout(50)
        pytest.fail(f"time step {step} is not on the screen; shown: {shown}")

    # 1. Not yet run, and not trusted: the saved strip is there, whole.
    page.goto(notebook)
    page.locator(STILL).wait_for()
    assert page.locator(STILL).evaluate("img => img.naturalWidth") > FRAMES * 32
    assert page.locator(CANVAS).count() == 0
    page.screenshot(path=screenshots / "lab_saved_notebook.png")

    # 2. Run: mouse, keys, play.
    lab.run_cell(page, 0, CANVAS)
    expect(CANVAS, 0)
    drag_range(page, 3)
    expect(CANVAS, 3)
    page.screenshot(path=screenshots / "lab_scrubber.png")
    page.keyboard.press("ArrowRight")
    expect(CANVAS, 4)
    # JupyterLab, too, has a use for Enter and the arrows; here they are the scrubber's.
    page.get_by_role("button", name="one time step back").press("Enter")
    expect(CANVAS, 3)
    assert page.locator(".jp-Notebook.jp-mod-editMode").count() == 0

    # 3. The linked widget, in the next cell.
    lab.run_cell(page, 1, TILE)
    expect(TILE, 0)
    drag_handle(page, 4)
    expect(TILE, 4)
    gap = np.abs(rows["truth"].astype(int) - rows["prediction"])
    gap = np.minimum(4 * gap, 255).astype(np.uint8)
    assert seen(page.locator(SUBTRACTED), gap, SCALE) == 4
    page.screenshot(path=screenshots / "lab_widget.png")
    page.keyboard.press("Control+s")

    # 4. The kernel is gone: both go on.
    lab.stop_kernels()
    drag_range(page, 1)
    expect(CANVAS, 1)
    drag_handle(page, 1)
    expect(TILE, 1)
    page.locator(HANDLE).focus()
    page.keyboard.press("ArrowLeft")
    expect(TILE, 0)
    page.locator(".jupyter-widgets .jupyter-button >> nth=0").click()  # play
    expect(TILE, FRAMES - 1)
    page.get_by_label("loop").uncheck()
    page.get_by_role("button", name="play (space)").click()
    expect(CANVAS, FRAMES - 1)

    # 5. Opened again, in the dark theme: the slider works before anything is run.
    lab.set_theme("JupyterLab Dark")
    page.goto("about:blank")
    page.goto(notebook)
    page.locator(CANVAS).first.wait_for()
    drag_range(page, 2)
    expect(CANVAS, 2)
    page.screenshot(path=screenshots / "lab_dark_opened_again.png")


def drag_range(page, step: int) -> None:
    """Takes the thumb of the HTML scrubber's slider and lets go over time step `step`."""
    slider = page.locator(".labkit-scrubber input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    y, run = box["y"] + box["height"] / 2, box["width"] - 16
    page.mouse.move(box["x"] + 8 + run * int(slider.input_value()) / (FRAMES - 1), y)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + run * step / (FRAMES - 1), y, steps=8)
    page.mouse.up()


def drag_handle(page, step: int) -> None:
    """Takes the handle of the widget's slider and lets go over time step `step`."""
    page.locator(HANDLE).scroll_into_view_if_needed()
    handle, track = page.locator(HANDLE).bounding_box(), page.locator(TRACK).bounding_box()
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * step / (FRAMES - 1), y, steps=8)
    page.mouse.up()
