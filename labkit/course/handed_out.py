"""What the course itself hands out: exercises, their solutions, and the weights of the lab's own
runs. The grader compares submissions with it, so that code and texts that all students got raise
no suspicion.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.course.grade_run import fingerprint
from labkit.course.manifest import sha256
from labkit.course.rules import Rules
from labkit.errors import LabkitError
from labkit.training.checkpoint import CONFIG, WEIGHTS, load_model

MOST_CODE = 50_000
"""letters of a cell that is parsed"""


@dataclass(frozen=True)
class HandedOutNotebook:
    """The exercises of one notebook."""

    points: Mapping[str, float] = field(default_factory=dict)
    """by the exercise's name"""
    checks: Mapping[str, str] = field(default_factory=dict)
    """digest of each check cell's code, by its grade_id"""
    solutions: Mapping[str, str] = field(default_factory=dict)
    """digest of the instructor's code of each solution cell, by its grade_id"""


@dataclass(frozen=True)
class HandedOut:
    """The notebooks by their name without ending, and the lab's own runs by their digest."""

    notebooks: Mapping[str, HandedOutNotebook] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)
    """name of a run by the digest of its weights"""

    def digest(self) -> str:
        """Changes when something of it changes."""
        plain = {
            name: [dict(book.points), dict(book.checks), dict(book.solutions)]
            for name, book in self.notebooks.items()
        }
        return sha256(json.dumps([plain, dict(self.runs)], sort_keys=True).encode())


def handed_out(folder: Path, rules: Rules) -> HandedOut:
    """Reads the notebooks with solutions and the runs beside them. What cannot be read is left
    out, also the whole folder: the package can be installed without it.

    Args:
        folder: `labkit.course.handout.NOTEBOOKS`.
        rules: may change the points of exercises.
    """
    notebooks = {}
    for file in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        try:
            cells = code_cells(file.read_bytes())
        except (OSError, ValueError):
            continue
        notebooks[file.stem] = _exercises(cells, rules)
    runs = {}
    for config in sorted(folder.glob(f"*/**/{CONFIG}")):
        run = config.parent
        if (run / WEIGHTS).is_file():
            try:
                model, _ = load_model(run)
            except LabkitError:
                continue
            runs[fingerprint(model)[0]] = run.relative_to(folder).as_posix()
    return HandedOut(notebooks, runs)


def _exercises(cells: list[dict[str, Any]], rules: Rules) -> HandedOutNotebook:
    points, checks, solutions = {}, {}, {}
    for cell in cells:
        mark = exercise_mark(cell)
        name = str(mark.get("grade_id", ""))
        if mark.get("grade"):
            given = rules.exercise_points.get(name, mark.get("points", 0))
            points[name.removeprefix("check-")] = float(given)
            checks[name] = code_digest(source_of(cell))
        elif mark.get("solution"):
            solutions[name] = code_digest(source_of(cell))
    return HandedOutNotebook(points, checks, solutions)


# ------------------------------------------------------------------------ cells of notebooks


def code_cells(data: bytes) -> list[dict[str, Any]]:
    """The code cells of a notebook, from its bytes. Nothing of it is run.

    Raises:
        ValueError: it is no notebook.
    """
    try:
        book = json.loads(data)
        cells = book["cells"]
        return [cell for cell in cells if cell["cell_type"] == "code" and source_of(cell) != ""]
    except (RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no notebook: {type(error).__name__}") from None


def source_of(cell: Mapping[str, Any]) -> str:
    """A cell's code; a notebook's file may hold it as a list of lines."""
    source = cell["source"]
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def exercise_mark(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's metadata of nbgrader; empty where there is none."""
    metadata = cell.get("metadata")
    mark = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return mark if isinstance(mark, dict) else {}


def plain_code(source: str) -> str:
    """Code without comments and layout. Code that is no Python, or long, is only without blanks."""
    if len(source) <= MOST_CODE:
        try:
            return ast.unparse(ast.parse(source))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return " ".join(source.split())


def code_digest(source: str) -> str:
    """The digest of `plain_code`."""
    return sha256(plain_code(source).encode("utf-8", "backslashreplace"))
