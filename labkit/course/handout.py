"""The students' edition: notebooks without solutions, a report template, and a tree for nbgrader.

Both come from the same notebooks by nbgrader's own preprocessors.
"""

from __future__ import annotations

import importlib.metadata
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import labkit
from labkit.course.report_template import report_template
from labkit.course.rules import DEFAULT, LANGUAGES, Rules
from labkit.course.student_texts import INSTRUCTOR, NBGRADER, POINTS, README, STUB
from labkit.errors import ConfigError, LabkitError
from labkit.files import holds_things, reading, replacing

NOTEBOOKS = Path(labkit.__file__).parents[1] / "notebooks"
"""the notebooks with solutions; they are beside the package, not in it"""
KEPT_METADATA = ("nbgrader", "deletable", "editable", "tags")
"""of a cell; all other metadata is left out"""


@dataclass(frozen=True)
class Handout:
    """What was written."""

    out: Path
    notebooks: tuple[str, ...]
    """names of the student's notebooks"""
    exercises: int
    points: float
    """of all exercises"""


def hand_out(
    out: Path | str,
    *,
    language: str = "en",
    rules_file: Path | None = None,
    notebooks: Path = NOTEBOOKS,
) -> Handout:
    """Writes OUT/student, to give away, and OUT/nbgrader, with solutions, for the instructor. Both
    are written whole or not at all.

    Args:
        out: a new or empty folder.
        language: en or zh-TW, of the report template, the README and the stubs. The notebooks' text
            is English.
        rules_file: the course's rules; None: the coursework's.
        notebooks: folder of the notebooks with solutions.

    Raises:
        LabkitError: `out` holds something, a notebook cannot be read, or its exercises are not
            well-formed.
        ConfigError: the rules are not valid, or name an exercise that no notebook has.
    """
    out = Path(out)
    if language not in LANGUAGES:
        raise LabkitError(f"no language {language!r}", hint=f"there are: {', '.join(LANGUAGES)}")
    rules = Rules.load(rules_file)
    if out.is_dir() and holds_things(out):
        raise LabkitError("is not empty", file=out, hint="give a new folder, or empty this one")
    sources = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        hint = "clone the whole lab, or give the folder with --notebooks"
        raise LabkitError("has no notebooks such as 01_name.ipynb", file=notebooks, hint=hint)
    with_solutions = {file.stem: _with_solutions(file, rules, language) for file in sources}
    _check_exercises(with_solutions, rules, rules_file)
    blanked = {name: blank(book, name, language) for name, book in with_solutions.items()}
    with replacing(out) as fresh:
        student, tree = fresh / "student", fresh / "nbgrader"
        student.mkdir()
        for name, book in blanked.items():
            _write(book, student / f"{name}.ipynb")
        for name, book in with_solutions.items():
            if grade_cells(book):
                folder = tree / "source" / name
                folder.mkdir(parents=True)
                _write(book, folder / f"{name}.ipynb")
                _copy_runs(notebooks, folder, book)
        for book in blanked.values():
            _copy_runs(notebooks, student, book)
        _write_texts(fresh, rules, rules_file, language)
        stub = NBGRADER.format(stub=STUB[language])
        (tree / "nbgrader_config.py").write_text(stub, encoding="utf-8")
        names = [name for name, book in with_solutions.items() if grade_cells(book)]
        instructor = INSTRUCTOR.format(names=", ".join(names))
        (fresh / "README.md").write_text(instructor, encoding="utf-8")
    cells = [cell for book in with_solutions.values() for cell in grade_cells(book)]
    points = sum(cell.metadata.nbgrader.points for cell in cells)
    return Handout(out, tuple(blanked), len(cells), points)


def grade_cells(notebook: Any) -> list[Any]:
    """The check cells of a notebook: those whose nbgrader metadata has points."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade")
    ]


def blank(notebook: Any, name: str, language: str = "en") -> Any:
    """The notebook without solutions, outputs and hidden tests, with locked check cells and their
    checksums: what `nbgrader generate_assignment` makes of it.

    Raises:
        LabkitError: the marks of a solution or the metadata of an exercise are not well-formed.
    """
    preprocessors = _nbgrader()
    from traitlets.config import Config

    config = Config()
    config.ClearSolutions.code_stub = {"python": STUB[language]}
    steps = ("LockCells", "ClearSolutions", "ClearOutput", "CheckCellMetadata")
    steps += ("ClearHiddenTests", "ClearMarkScheme", "ComputeChecksums", "CheckCellMetadata")
    result, resources = _copied(notebook), {}
    log = logging.getLogger("labkit.nbgrader")
    log.propagate, log.handlers = False, [logging.NullHandler()]
    with reading(f"{name}.ipynb", "its exercises are not well-formed"):
        for step in steps:
            tool = getattr(preprocessors, step)(config=config, log=log)
            result, resources = tool.preprocess(result, resources)
    for cell in result.cells:
        if re.search(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS|MARK SCHEME)", cell.source):
            what = f"a mark such as ### BEGIN SOLUTION is left over in: {cell.source[:60]!r}"
            raise LabkitError(what, file=f"{name}.ipynb")
    return result


def _nbgrader() -> Any:
    """nbgrader's preprocessors.

    Raises:
        LabkitError: nbgrader is not installed.
    """
    try:
        import nbgrader.preprocessors
    except ImportError:
        hint = 'python -m pip install -e ".[course]" -c constraints.txt'
        raise LabkitError("nbgrader is not installed", hint=hint) from None
    return nbgrader.preprocessors


def _copied(notebook: Any) -> Any:
    import nbformat

    return nbformat.reads(nbformat.writes(notebook), as_version=4)


def _with_solutions(file: Path, rules: Rules, language: str) -> Any:
    """A source notebook without outputs and foreign metadata, its points those of the rules."""
    import nbformat

    with reading(file, "not a readable notebook"):
        notebook = nbformat.reads(file.read_text(encoding="utf-8"), as_version=4)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.NotebookNode(kernelspec=kernel, language_info={"name": "python"})
    for cell in notebook.cells:
        kept = {key: value for key, value in cell.metadata.items() if key in KEPT_METADATA}
        cell.metadata = nbformat.NotebookNode(kept)
        cell.pop("attachments", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for cell in grade_cells(notebook):
        mark = cell.metadata.nbgrader
        mark.points = rules.exercise_points.get(mark.grade_id, mark.get("points", 0))
        name = mark.grade_id.removeprefix("check-")
        first = POINTS[language].format(name=name, points=mark.points)
        cell.source = f"{first}\n{cell.source}"
    return notebook


def _check_exercises(notebooks: dict[str, Any], rules: Rules, rules_file: Path | None) -> None:
    ids = [
        cell.metadata.nbgrader.grade_id for book in notebooks.values() for cell in grade_cells(book)
    ]
    for name in rules.exercise_points:
        if name not in ids:
            hint = f"there are: {', '.join(ids)}"
            what = f"exercises.{name}: no notebook has this exercise"
            raise ConfigError(what, file=rules_file or DEFAULT, hint=hint)


def _write(notebook: Any, file: Path) -> None:
    import nbformat

    file.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def _copy_runs(notebooks: Path, folder: Path, notebook: Any) -> None:
    """Copies the folders beside the notebooks that its code names, such as demo_run."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for place in sorted(path for path in notebooks.iterdir() if path.is_dir()):
        named = f'"{place.name}"' in code or f'"{place.name}/' in code
        if named and not (folder / place.name).exists():
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.tmp")
            shutil.copytree(place, folder / place.name, ignore=ignored)


def _write_texts(fresh: Path, rules: Rules, rules_file: Path | None, language: str) -> None:
    student = fresh / "student"
    rows = [(section.title, section.points) for section in rules.report]
    rows += [(part.title, part.points) for part in (*rules.demo, *rules.extras)]
    table = "\n".join(f"| {title.in_(language)} | {points:g} |" for title, points in rows)
    title = rules.title.in_(language)
    readme = README[language].format(title=title, table=table, protocol=rules.protocol)
    (student / "README.md").write_text(readme, encoding="utf-8")
    (student / "report.md").write_text(report_template(rules, language), encoding="utf-8")
    version = importlib.metadata.version("labkit")
    (student / "requirements.txt").write_text(f"labkit[course]=={version}\n", encoding="utf-8")
    shutil.copyfile(rules_file or DEFAULT, student / "course.toml")
