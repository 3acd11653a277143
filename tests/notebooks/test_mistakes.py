"""Twelve mistakes that are often made in this coursework, and the cell that shows each.

A cell is named by its page and a line of its code. It asserts what the mistake changes, or it puts
the mistake into an exercise's check, which must refuse it.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"

CELLS = {
    "log(q - p) for log q - log p": ("01", "assert (q_here - p_here).log().isnan()"),
    "the sign of the KL changes": ("01", "assert minus < log_p < plus"),
    "different densities q in one line": ("01", "assert mixed > log_p"),
    "cross entropy as squared error": ("04", "assert cross_entropy(truth, truth) > 0.5"),
    "frames in the order of their text": ("02", "check_getitem(ByText, seed=1)"),
    "tables recognised by their order": ("02", "check_getitem(TablesAsListed, seed=1)"),
    "everything is loaded by joining": (
        "02",
        'assert written["joined"][-1] / written["joined"][0] > 60',
    ),
    "a fixed Gaussian for the posterior": ("03", "assert from_posterior > 2 * from_fixed"),
    "the ratio ends below its bound": (
        "04",
        "check_teacher_forcing_ratio(lowered_while_above, seed=1)",
    ),
    "skip features of the wrong frame": (
        "03",
        'assert effect["svg", 0] > 5 * effect["svg", 1]',
    ),
    "the last batch only; equal frames": ("05", "(check_test_psnr, last_batch_only)"),
    "a reconstruction as a prediction": ("05", "assert dishonest.findings"),
    "beta of another code": ("04", "assert abs(sigma_of(1e-4) - 0.78) < 0.01"),
    "batch norm in a rollout": ("03", "assert distance[True] < 0.3 < distance[False]"),
}


@pytest.mark.parametrize("mistake", CELLS)
def test_a_mistake_has_its_cell(mistake: str) -> None:
    page, line = CELLS[mistake]
    (file,) = FOLDER.glob(f"{page}_*.ipynb")
    cells = nbformat.read(file, as_version=4).cells
    found = [cell for cell in cells if cell.cell_type == "code" and line in cell.source]
    assert len(found) == 1, f"{len(found)} cells of {file.name} have: {line}"
    assert "assert" in found[0].source or "AssertionError" in found[0].source
