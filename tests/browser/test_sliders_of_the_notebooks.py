"""Every slider of every stored notebook, moved with the mouse in a real JupyterLab."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.browser

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SLIDER = "input[type=range]"


def sliders_in(file: Path) -> int:
    """How many sliders the stored outputs of a notebook have."""
    cells = nbformat.read(file, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    pages = [output.get("data", {}).get("text/html", "") for output in outputs]
    return sum("labkit-scrubber" in page for page in pages)


WITH_SLIDERS = [file for file in NOTEBOOKS if sliders_in(file)]


def test_there_are_sliders_to_move() -> None:
    assert {file.name[:2] for file in WITH_SLIDERS} >= {"02", "06"}


@pytest.mark.parametrize("file", WITH_SLIDERS, ids=lambda file: file.stem)
def test_each_slider_shows_the_time_step_it_is_moved_to(file, lab, page, drag, screenshots) -> None:
    lab.show_every_cell()
    page.goto(lab.save_trusted(file))
    page.locator(".jp-Notebook .labkit-scrubber canvas:visible").first.wait_for()
    scrubbers = page.locator(".jp-Notebook .labkit-scrubber")
    assert scrubbers.count() == sliders_in(file)
    for scrubber in scrubbers.all():
        slider = scrubber.locator(SLIDER)
        slider.scroll_into_view_if_needed()
        canvas, last = scrubber.locator("canvas:visible").first, int(slider.get_attribute("max"))
        shown = {canvas.screenshot()}
        for step in (last, last // 2):
            drag(slider, step)
            scrubber.get_by_text(f"t = {step} of {last}").wait_for()
            shown.add(canvas.screenshot())
        assert len(shown) == 3, "three time steps are three pictures"
    page.screenshot(path=screenshots / f"lab_{file.stem}.png")
