"""The stored notebooks: those of the sources, executed in order, with outputs fit to compare.

That the outputs are what the code prints is nbval's part of `make test`.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted({file.stem for file in FOLDER.glob("[0-9][0-9]_*") if file.suffix != ""})

UNFIT = {
    "a memory address": r"\b0x[0-9a-f]{6,}\b",
    "an absolute path": r"(?<![\w./])/(home|root|Users|tmp|usr|var|opt|work)/|\b[A-Z]:\\",
    "a timing": r"\b\d+(\.\d+)? ?(s|ms|µs|us|sec|seconds|minutes)/?(it|epoch)?\b|Wall time|it/s",
    "a progress bar": r"\d+%\|",
}
"""What differs from run to run, or from machine to machine."""


def load_build() -> ModuleType:
    """notebooks/build.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("build_notebooks", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load_build()


def stored(name: str) -> nbformat.NotebookNode:
    """A notebook as it is stored."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    """Its code cells."""
    return [cell for cell in stored(name).cells if cell.cell_type == "code"]


def texts(output: nbformat.NotebookNode) -> list[str]:
    """The parts of an output that a reader reads: no pictures."""
    data = output.get("data", {})
    readable = [value for kind, value in data.items() if kind.startswith("text/")]
    return [output.get("text", ""), *(re.sub(r"data:image[^'\"]*", "", text) for text in readable)]


def test_each_notebook_has_a_source_and_each_source_a_notebook() -> None:
    assert NAMES
    for name in NAMES:
        assert (FOLDER / f"{name}.py").is_file(), f"{name}.ipynb has no source"
        assert (FOLDER / f"{name}.ipynb").is_file(), f"{name}.py is not built: make notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_the_inputs_are_the_source_cell_by_cell(name: str) -> None:
    source = BUILD.read_source(FOLDER / f"{name}.py")
    notebook = stored(name)
    assert len(notebook.cells) == len(source.cells), "make notebooks"
    for made, written in zip(notebook.cells, source.cells, strict=True):
        assert (made.cell_type, made.source) == (written.cell_type, written.source)
        assert made.metadata.get("nbgrader") == written.metadata.get("nbgrader")


@pytest.mark.parametrize("name", NAMES)
def test_every_code_cell_was_executed_in_order(name: str) -> None:
    counts = [cell.execution_count for cell in code_cells(name)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_no_error_is_stored_and_nothing_on_stderr(name: str) -> None:
    for cell in code_cells(name):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.get("text")


@pytest.mark.parametrize("name", NAMES)
def test_outputs_hold_nothing_of_one_run_or_one_machine(name: str) -> None:
    for cell in code_cells(name):
        for output in cell.outputs:
            for text in texts(output):
                for what, pattern in UNFIT.items():
                    found = re.search(pattern, text)
                    assert not found, f"{what}, {found[0]!r}, in the output of: {cell.source}"


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_of_no_run_and_no_machine(name: str) -> None:
    notebook = stored(name)
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "widgets"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python"}
    for cell in notebook.cells:
        assert "execution" not in cell.metadata


@pytest.mark.parametrize("name", NAMES)
def test_the_first_code_cell_sets_the_lab_up(name: str) -> None:
    assert "lab_setup(" in code_cells(name)[0].source


@pytest.mark.parametrize("name", NAMES)
def test_a_code_cell_is_one_idea(name: str) -> None:
    for cell in code_cells(name):
        assert len(cell.source.splitlines()) <= 20, cell.source
        assert "NBVAL_IGNORE_OUTPUT" not in cell.source
        assert "NBVAL_SKIP" not in cell.source


COURSE_PAGES = (
    "01_elbo_derivation",
    "02_dataloader",
    "03_model",
    "04_training",
    "05_results",
    "06_drive_the_arm",
)
"""Pages in the form of the course: goals, checked claims, exercises, summary, links."""

GRADER = {"grade", "grade_id", "locked", "schema_version", "solution", "task"}
"""What nbgrader's schema 3 asks for in a cell; a graded one has points besides."""


def exercise_cells(name: str) -> list[nbformat.NotebookNode]:
    """The cells that nbgrader knows, in order."""
    return [cell for cell in stored(name).cells if "nbgrader" in cell.metadata]


@pytest.mark.parametrize("name", COURSE_PAGES)
def test_exercises_have_nbgraders_metadata(name: str) -> None:
    cells = exercise_cells(name)
    ids = [cell.metadata.nbgrader.grade_id for cell in cells]
    assert len(set(ids)) == len(ids) >= 2
    for cell in cells:
        mark = cell.metadata.nbgrader
        assert set(mark) == GRADER | ({"points"} if mark.grade else set()), mark
        assert mark.schema_version == 3
        assert mark.solution != mark.grade, "a solution, or a check of one"
        assert mark.locked == mark.grade, "students write in solutions alone"
        assert not mark.grade or mark.points > 0


@pytest.mark.parametrize("name", COURSE_PAGES)
def test_solutions_are_marked_and_followed_by_their_check(name: str) -> None:
    cells = [cell for cell in stored(name).cells if cell.cell_type == "code"]
    waiting: list[str] = []
    for cell in cells:
        mark = cell.metadata.get("nbgrader")
        lines = [line.strip() for line in cell.source.splitlines()]
        markers = [line for line in lines if line.startswith("###")]
        if mark is None:
            assert not markers, "a solution that the students' edition would keep"
            assert not waiting, f"no check between {waiting} and: {cell.source}"
        elif mark.solution:
            assert markers == ["### BEGIN SOLUTION", "### END SOLUTION"]
            waiting.append(mark.grade_id)
        else:
            assert re.fullmatch(r"check_\w+\([\w, ]+\)", cell.source), cell.source
            assert waiting, f"a check without a solution: {cell.source}"
            assert "passed" in cell.outputs[0].text
            waiting = []
    assert not waiting


@pytest.mark.parametrize("name", COURSE_PAGES)
def test_a_page_has_goals_summary_mistakes_exercises_and_links(name: str) -> None:
    prose = "\n".join(cell.source for cell in stored(name).cells if cell.cell_type == "markdown")
    places = [
        prose.find(part)
        for part in (
            "**After this page you can**",
            "**You need**",
            "**Time**",
            "**Exercise 1.**",
            "## Summary",
            "## What can go wrong",
            "## More exercises",
            "## Links",
            "Next: [",
        )
    ]
    assert -1 not in places
    assert places == sorted(places)
    goals = prose[places[0] : places[1]]
    assert 3 <= len(re.findall(r"^\d\. ", goals, re.MULTILINE)) <= 5
    links = prose[places[7] :]
    for file in re.findall(r"`((?:labkit|data|docs|notebooks)/[\w./]+)`", links):
        assert (FOLDER.parent / file).exists(), file


@pytest.mark.parametrize("name", COURSE_PAGES)
def test_sections_are_numbered_without_a_gap(name: str) -> None:
    prose = "\n".join(cell.source for cell in stored(name).cells if cell.cell_type == "markdown")
    numbers = re.findall(r"^## (\d)\.(\d+) ", prose, re.MULTILINE)
    page = str(int(name[:2]))
    assert numbers == [(page, str(number)) for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("name", COURSE_PAGES)
def test_claims_are_asserted(name: str) -> None:
    cells = code_cells(name)
    asserts = sum("assert " in cell.source or "check_" in cell.source for cell in cells)
    assert asserts >= len(cells) / 2


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_a_source_are_short_but_for_cell_headers(name: str) -> None:
    for line in (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines():
        assert len(line) <= 100 or line.startswith("# %% "), line


def test_widgets_are_numbered_as_they_were_made() -> None:
    first, second = "f" * 32, "0a" * 16
    state = {first: {}, second: {"children": f"IPY_MODEL_{first}"}}
    notebook = nbformat.v4.new_notebook(
        metadata={"widgets": {BUILD.WIDGETS: {"state": state}}},
    )
    named = BUILD.with_stable_widget_ids(json.dumps(state), notebook)
    assert json.loads(named) == {"0" * 32: {}, f"{1:032x}": {"children": f"IPY_MODEL_{'0' * 32}"}}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("<object at 0x7f3a2b1c9d>", False),
        ("saved to /home/ada/run", False),
        ("3.2 s", False),
        ("epoch 1, 12 seconds", False),
        ("loss 0.25 after 3 epochs, at 24.5 dB, 10 frames/s is a rate", True),
        ("runs/demo/report.html and (B/T)", True),
    ],
)
def test_what_is_unfit_is_recognised(text: str, fits: bool) -> None:
    assert fits == (not any(re.search(pattern, text) for pattern in UNFIT.values()))
