"""The pilot in a real JupyterLab, driven in a real Chromium by keyboard and mouse."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from labkit.data.simulator import SPLIT_OFFSETS, simulate_clip
from labkit.training import load_model
from labkit.views.pilot import Pilot, pilot

pytestmark = pytest.mark.browser

RUN = Path(__file__).parents[2] / "notebooks" / "demo_run"
SEED, INDEX, SCALE = 1, SPLIT_OFFSETS["test"], 3

SHOW = f"""import torch
from labkit.data.simulator import simulate_clip
from labkit.training import load_model
from labkit.views import pilot
torch.set_num_threads(1)
model, _ = load_model("{RUN.as_posix()}")
pilot(model, simulate_clip({SEED}, {INDEX}, 4), scale={SCALE}, folder="episode")"""

CANVAS = ".labkit-pilot canvas"
STILL = ".labkit-pilot-still img"


@pytest.fixture(scope="module")
def twin() -> Pilot:
    """The same pilot in this process: what the page must show."""
    model, _ = load_model(RUN)
    return pilot(model, simulate_clip(SEED, INDEX, 4), scale=SCALE)


def arm_column(frame: np.ndarray) -> float:
    """Where the arm is: the middle column of the dark pixels in the frame's upper half."""
    dark = frame[:, :32].max(axis=0) < 60
    return float(np.nonzero(dark)[1].mean())


def test_keys_drive_the_arm_and_the_saved_page_stays_a_picture(
    lab, page, chromium, twin, seen, screenshots
) -> None:
    def expect() -> None:
        """Waits until both screens show the twin's last frames."""
        from playwright.sync_api import Error

        wanted = list(twin.episode.rows().values())
        shown = None
        for _ in range(200):
            with contextlib.suppress(Error):
                places = page.locator(CANVAS).all()
                pairs = zip(places, wanted, strict=True)
                shown = [seen(place, clip[-1:], SCALE) for place, clip in pairs]
            if shown == [0, 0]:
                return
            page.wait_for_timeout(50)
        pytest.fail(f"{twin!r} is not on the screen: {page.locator('.where').text_content()}")

    def press(key: str, what: str) -> None:
        page.keyboard.press(key)
        twin.press(what)
        expect()

    # 1. As it lies in a repository, not run and not trusted: a still picture.
    twin.drive(["right"] * 3)
    page.goto(lab.save_notebook("pilot.ipynb", [(SHOW, twin.still()), ("1 + 1", None)]))
    twin.press("reset")
    page.locator(STILL).wait_for()
    assert page.locator(STILL).evaluate("img => img.naturalWidth") > 5 * 64
    page.screenshot(path=screenshots / "lab_pilot_saved.png")

    # 2. Run: the strip makes room for the arm, which goes where the keys say.
    lab.run_cell(page, 0, CANVAS)
    expect()
    page.locator(STILL).wait_for(state="hidden")
    page.locator(".labkit-pilot .where").click()
    before = arm_column(twin.episode.frames[-1])
    for _ in range(4):
        press("ArrowRight", "right")
    assert arm_column(twin.episode.frames[-1]) > before + 4, "predicted: to the right"
    assert arm_column(twin.episode.truth[-1]) > before + 4, "and so it is"
    page.screenshot(path=screenshots / "lab_pilot.png")
    press("ArrowUp", "away")
    press("ArrowDown", "near")
    press("ArrowLeft", "left")
    press("u", "raise")
    press("Backspace", "undo")
    press("z", "resample")
    # JupyterLab would delete the cell at d d, edit it at Enter, and put a new one in at b.
    press("d", "lower")
    press("d", "lower")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    press("s", "stay")
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == 2
    assert page.locator(".jp-Notebook.jp-mod-editMode").count() == 0

    # 3. The same by mouse, and by keys again after it.
    page.get_by_role("button", name="move right").click()
    twin.press("right")
    expect()
    press("ArrowRight", "right")
    page.get_by_role("button", name="save the episode").click()
    page.get_by_text("saved episode/episode.gif").wait_for()
    twin.folder = lab.folder / "twin"
    twin.press("save")
    for name in ("actions.csv", "episode.gif"):
        assert (lab.folder / "episode" / name).read_bytes() == (twin.folder / name).read_bytes()
    press("r", "reset")

    # 4. A screen reader is told what there is.
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('.labkit-pilot :is(button, input, canvas)')]
            .filter(e => !e.getAttribute('aria-label')).length"""
    )
    assert nameless == 0
    page.get_by_role("img", name="the model predicts, t = 1").wait_for()

    # 5. Without a kernel it says so.
    page.keyboard.press("Control+s")
    page.wait_for_timeout(500)
    lab.stop_kernels()
    page.locator(".labkit-pilot .where").click()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Run the cell again to drive on.").wait_for()

    # 6. Opened again, in the dark theme: the strip, and no error in the widget's place.
    lab.set_theme("JupyterLab Dark")
    again = chromium.new_context(viewport={"width": 1200, "height": 1000}).new_page()
    failed = []
    again.on("console", lambda message: failed.append("model not found" in message.text))
    again.goto(f"{lab.url}/lab/tree/pilot.ipynb")
    again.locator(STILL).wait_for(timeout=120_000)
    for _ in range(600):  # JupyterLab looks for the widget of the session before
        if any(failed):
            break
        again.wait_for_timeout(100)
    assert any(failed)
    assert again.locator(STILL).is_visible()
    assert not again.get_by_text("Error displaying widget").is_visible()
    again.screenshot(path=screenshots / "lab_pilot_opened_again.png")
    lab.run_cell(again, 0, CANVAS)
    again.locator(".labkit-pilot .where").click()
    again.keyboard.press("ArrowRight")
    again.get_by_text("step 1").wait_for()
    again.screenshot(path=screenshots / "lab_pilot_dark.png")
    again.context.close()
