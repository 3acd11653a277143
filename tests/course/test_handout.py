"""The students' edition has no solution in it; nbgrader's own tools run on the tree beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.cli import main
from labkit.course.handout import NOTEBOOKS, blank, grade_cells, hand_out
from labkit.course.rules import DEFAULT
from labkit.errors import LabkitError

SOURCES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module", params=["en"])
def handed_out(request, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("course") / "out"
    hand_out(out, language=request.param)
    return out


def solution_lines() -> set[str]:
    """The lines of all solutions that are in no other line of the notebooks' code and text."""
    inside, outside = set(), set()
    for file in SOURCES:
        for cell in nbformat.read(file, as_version=4).cells:
            within = False
            for line in cell.source.splitlines():
                if "END SOLUTION" in line:
                    within = False
                (inside if within else outside).add(line.strip())
                if "BEGIN SOLUTION" in line:
                    within = True
    return {
        line for line in inside if len(line) > 12 and not any(line in other for other in outside)
    }


def test_no_solution_is_in_any_file_of_the_students(handed_out: Path) -> None:
    lines = solution_lines()
    assert len(lines) > 20
    for file in (handed_out / "student").rglob("*"):
        if file.is_file():
            text = file.read_bytes().decode("utf-8", "replace")
            found = [line for line in lines if line in text or json.dumps(line)[1:-1] in text]
            assert not found, f"{file.name}: {found}"
            assert "BEGIN SOLUTION" not in text


def test_the_students_notebooks_have_stubs_locked_checks_and_no_outputs(handed_out: Path) -> None:
    for file in SOURCES:
        source = nbformat.read(file, as_version=4)
        book = nbformat.read(handed_out / "student" / file.name, as_version=4)
        nbformat.validate(book)
        assert [cell.cell_type for cell in book.cells] == [c.cell_type for c in source.cells]
        for cell in book.cells:
            if cell.cell_type == "code":
                assert cell.outputs == []
                assert cell.execution_count is None
            mark = cell.metadata.get("nbgrader", {})
            if mark.get("solution"):
                assert "YOUR CODE HERE" in cell.source
                assert cell.metadata.deletable is False
        for cell in grade_cells(book):
            points = cell.metadata.nbgrader.points
            assert points > 0
            assert f": {points:g} points" in cell.source.splitlines()[0]
            assert cell.metadata.editable is False
            assert cell.metadata.nbgrader.checksum


def test_the_report_has_every_heading_question_and_weight(handed_out: Path) -> None:
    report = (handed_out / "student" / "report.md").read_text(encoding="utf-8")
    assert "## 2. Derivation of the CVAE objective (10 points)" in report
    assert "## 4. Results and discussion (30 points)" in report
    assert report.count("<!-- part: ") == 7 + 3
    assert "EM algorithm" in report


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["handout", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def one_notebook(tmp_path: Path, cells: list[tuple[str, dict | None]]) -> Path:
    """A folder with the notebook 01_small.ipynb of these cells: code and nbgrader metadata."""
    book = nbformat.v4.new_notebook()
    for source, mark in cells:
        cell = nbformat.v4.new_code_cell(source)
        if mark is not None:
            cell.metadata.nbgrader = {"schema_version": 3, "task": False, **mark}
        book.cells.append(cell)
    folder = tmp_path / "sources"
    folder.mkdir()
    nbformat.write(book, folder / "01_small.ipynb")
    return folder


SOLUTION = {"grade": False, "grade_id": "double", "locked": False, "solution": True}
CHECK = {"grade": True, "grade_id": "check-double", "locked": True, "solution": False, "points": 3}
SMALL = [
    ("def double(x):\n    ### BEGIN SOLUTION\n    return x + x\n    ### END SOLUTION", SOLUTION),
    ("assert double(4) == 8", CHECK),
]


@pytest.mark.parametrize(
    "cells",
    [
        [("### BEGIN SOLUTION\nsecret = 1", SOLUTION), SMALL[1]],
        [("### BEGIN SOLUTION\nsecret = 1\n### END SOLUTION", None), SMALL[1]],
        [*SMALL, SMALL[1]],
    ],
)
def test_marks_that_are_not_well_formed_write_nothing(tmp_path: Path, cells) -> None:
    folder = one_notebook(tmp_path, cells)
    with pytest.raises(LabkitError, match="not well-formed"):
        hand_out(tmp_path / "out", notebooks=folder)
    assert not (tmp_path / "out").exists()


def test_points_come_from_the_rules(tmp_path: Path) -> None:
    folder = one_notebook(tmp_path, SMALL)
    text = DEFAULT.read_text(encoding="utf-8")
    rules = tmp_path / "my.toml"
    rules.write_text(text.replace("[exercises]", "[exercises]\ncheck-double = 9"), "utf-8")
    assert hand_out(tmp_path / "out", notebooks=folder, rules_file=rules).points == 9
    rules.write_text(text.replace("[exercises]", "[exercises]\ncheck-none = 9"), "utf-8")
    with pytest.raises(LabkitError, match=r"check-none: no notebook has this exercise"):
        hand_out(tmp_path / "out2", notebooks=folder, rules_file=rules)


def test_the_chinese_edition(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hand_out(out, notebooks=one_notebook(tmp_path, SMALL), language="zh-TW")
    report = (out / "student" / "report.md").read_text(encoding="utf-8")
    assert "## 1. 簡介 (5 分)" in report
    assert not re.search("points", report)
    assert "請在此處作答" in (out / "student" / "01_small.ipynb").read_text(encoding="utf-8")


def nbgrader(tree: Path, *words: str) -> None:
    # nbgrader starts the program alembic, which an activated environment has on its PATH.
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words],
        cwd=tree,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": paths},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def autograded(
    tree: Path, assignment: str, books: dict[str, Any]
) -> dict[str, tuple[float, float]]:
    """(score, most) that nbgrader gives to each student's notebook of a released assignment."""
    from nbgrader.api import Gradebook

    for student, book in books.items():
        folder = tree / "submitted" / student / assignment
        folder.mkdir(parents=True)
        nbformat.write(book, folder / f"{assignment}.ipynb")
    nbgrader(tree, "autograde", assignment)
    with Gradebook(f"sqlite:///{tree / 'gradebook.db'}") as gradebook:
        found = {name: gradebook.find_submission(assignment, name) for name in books}
        return {name: (each.score, each.max_score) for name, each in found.items()}


def test_nbgrader_gives_full_points_to_the_solution_and_none_to_the_blank(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hand_out(out, notebooks=one_notebook(tmp_path, SMALL))
    tree, student = out / "nbgrader", out / "student" / "01_small.ipynb"
    nbgrader(tree, "generate_assignment", "01_small")
    released = nbformat.read(tree / "release/01_small/01_small.ipynb", as_version=4)
    given = nbformat.read(student, as_version=4)
    assert [c.source for c in given.cells] == [c.source for c in released.cells]
    assert [c.metadata for c in given.cells] == [c.metadata for c in released.cells]
    solved = nbformat.read(student, as_version=4)
    solved.cells[0].source = "def double(x):\n    return 2 * x"
    scores = autograded(tree, "01_small", {"blank": given, "solved": solved})
    assert scores == {"blank": (0, 3), "solved": (3, 3)}


def test_nbgrader_grades_a_notebook_of_the_course(handed_out: Path, tmp_path: Path) -> None:
    name = "01_elbo_derivation"
    tree = tmp_path / "nbgrader"
    shutil.copytree(handed_out / "nbgrader", tree)
    nbgrader(tree, "generate_assignment", name)
    blank_book, solved = (
        nbformat.read(tree / folder / name / f"{name}.ipynb", as_version=4)
        for folder in ("release", "source")
    )
    most = sum(cell.metadata.nbgrader.get("points", 0) for cell in grade_cells(solved))
    assert most > 0
    scores = autograded(tree, name, {"blank": blank_book, "solved": solved})
    assert scores == {"blank": (0, most), "solved": (most, most)}


def test_blank_keeps_what_is_no_solution() -> None:
    book = nbformat.read(SOURCES[0], as_version=4)
    before = nbformat.writes(book)
    blanked = blank(book, SOURCES[0].stem)
    assert nbformat.writes(book) == before
    assert "### BEGIN SOLUTION" in before
    assert blanked.cells[0].source == book.cells[0].source


def test_an_interrupted_handout_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    folder = one_notebook(tmp_path, SMALL)

    def full(*given: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(LabkitError, match="No space left"):
        hand_out(tmp_path / "out", notebooks=folder)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sources"]
