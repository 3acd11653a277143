"""A notebook of a submission as a page from disk, with the network off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

# In a process of its own: playwright and the execution of notebooks both use asyncio.
MAKE = """
import sys
from pathlib import Path
import nbformat
from labkit.course.submit_notebooks import execute, to_page

folder = Path(sys.argv[1])
book = nbformat.v4.new_notebook()
book.cells = [
    nbformat.v4.new_markdown_cell("The bound: $$\\\\log p(x) \\\\ge \\\\mathcal{L}(x)$$"),
    nbformat.v4.new_code_cell(
        "import numpy as np\\n"
        "from labkit.views import animation, scrub\\n"
        "frames = np.zeros((6, 3, 16, 16), np.uint8)\\n"
        "frames[:] = 40 * np.arange(6)[:, None, None, None]\\n"
        "scrub({'truth': frames, 'prediction': frames}, n_past=2, scale=4)"
    ),
    nbformat.v4.new_code_cell("animation({'truth': frames}, n_past=2, fps=10)"),
]
nbformat.write(book, folder / "01_mine.ipynb")
done = execute(folder / "01_mine.ipynb")
assert done.problem is None, done.problem
page = to_page(done.notebook, "01_mine", folder)
(folder / "01_mine.html").write_text(page, encoding="utf-8")
"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    done = subprocess.run([sys.executable, "-c", MAKE, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "01_mine.html"


def test_its_slider_is_alive_its_gif_moves_and_it_asks_for_nothing(
    page_file: Path, page, screenshots: Path
) -> None:
    page.context.set_offline(True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    picture = page.locator(".labkit-scrubber canvas:visible").first
    picture.wait_for()
    slider = page.get_by_role("slider", name="time step")
    slider.focus()
    page.keyboard.press("Home")
    first = picture.screenshot()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext").startswith("t = 5 of 5")
    assert picture.screenshot() != first
    gif = page.locator("img[src^='data:image/gif']")
    seen = {gif.screenshot()}
    for _ in range(100):
        page.wait_for_timeout(50)
        seen.add(gif.screenshot())
        if len(seen) > 2:
            break
    assert len(seen) > 2, "the GIF stands still"
    page.locator("math").first.wait_for()
    page.screenshot(path=screenshots / "submitted_page.png", full_page=True)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
