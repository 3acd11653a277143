"""The notebooks as a student runs them: "Run All Cells" in a real JupyterLab, without outputs.

All six take minutes: LABKIT_ALL_PAGES=1 pytest tests/browser/test_run_all_cells.py
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PAGES = [file.name for file in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))]
if not os.environ.get("LABKIT_ALL_PAGES"):
    PAGES = [name for name in PAGES if name.startswith(("01", "06"))]
SECONDS_A_PAGE = 900


@pytest.mark.parametrize("name", PAGES)
def test_every_cell_runs_without_an_error(name: str, lab, page, screenshots) -> None:
    folder = lab.save_course(NOTEBOOKS)
    lab.show_every_cell()
    page.goto(f"{lab.url}/lab/workspaces/run-{name[:2]}/tree/{folder}/{name}")
    lab.run_all_cells(page, SECONDS_A_PAGE)
    page.screenshot(path=screenshots / f"lab_run_{name[:2]}.png")
    cells = nbformat.read(lab.folder / folder / name, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", f"{cell.source}\n\n{output.evalue}"
            assert output.get("name") != "stderr", output.text
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
