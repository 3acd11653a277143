"""`labkit check`: a kernel of its own for each notebook, one line for each exercise."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from labkit.cli import main
from labkit.course.student_check import check_notebooks, needed_cells
from labkit.errors import LabkitError


def notebook(folder: Path, exercises: dict[str, tuple[str, str]], first: str = "") -> Path:
    """A notebook with a first cell, and a solution and a check cell for each exercise."""
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(first), nbformat.v4.new_markdown_cell("text")]
    for name, (solution, check) in exercises.items():
        book.cells.append(nbformat.v4.new_code_cell(solution))
        cell = nbformat.v4.new_code_cell(check)
        cell.metadata.nbgrader = {"grade": True, "grade_id": f"check-{name}", "points": 2}
        book.cells.append(cell)
    file = folder / "01_mine.ipynb"
    nbformat.write(book, file)
    return file


FAILS = """
class CheckFailed(Exception):
    pass
raise CheckFailed("f: a wrong value\\n    case      1 of 3\\n    expected  4\\n    came      5"
                  "\\n    hint      the sign")
"""


def test_each_way_to_fail_is_one_line_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    file = notebook(
        tmp_path,
        {
            "good": ("def good(): return base", "assert good() == 1"),
            "value": ("def value(): return 1", f"value()\n{FAILS}"),
            "blank": ("def blank(): raise NotImplementedError()", "blank()"),
            "loop": ("def loop():\n    while True: pass", "loop()"),
            "dead": ("import os\ndef dead(): os._exit(1)", "dead()"),
            "syntax": ("def syntax(:\n    pass", "syntax()"),
            "last": ("def last(): return base", "assert last() == 1"),
        },
        first="base = 1",
    )
    before = file.read_bytes()
    results = check_notebooks([file], seconds=5)
    said = {each.exercise: each for each in results}
    assert [each.exercise for each in results if each.passed] == ["good", "last"]
    assert said["value"].what == "f: a wrong value"
    assert said["value"].rows == {
        "case": "1 of 3",
        "expected": "4",
        "came": "5",
        "hint": "the sign",
    }
    assert said["blank"].what == "is not written yet"
    assert said["loop"].what == "does not end within 5 seconds"
    assert said["dead"].what.startswith("ended the kernel")
    assert said["syntax"].what.startswith("raises SyntaxError in cell 13")
    assert "2 of 7 exercises pass: 4 of 14 points" in str(results)
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_only_the_cells_that_an_exercise_needs_are_run() -> None:
    # `g` is defined after the function that uses it, and changed once more.
    cells = ["import math", "slow()", "def f(x): return g(x)", "g = math.sqrt", "g.a = 1", "f(4)"]
    assert needed_cells(cells, 5) == [0, 2, 3, 4, 5]
    assert needed_cells(["a = 1", "b = 2", "from x import *", "b"], 3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "not a readable notebook"), (b"[]", "not a readable notebook"), (b"\xff", "not a")],
)
def test_a_damaged_notebook_is_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "01_mine.ipynb"
    file.write_bytes(content)
    with pytest.raises(LabkitError, match=words):
        check_notebooks([file])


def test_a_folder_without_notebooks(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 2
    assert "no notebook in the current folder" in capsys.readouterr().err
