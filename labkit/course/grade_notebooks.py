"""The notebooks of a submission, read and never run: which are there, which exercises are written,
and what was changed in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from labkit.course.grade_zip import SubmittedZip, shown
from labkit.course.handed_out import (
    HandedOut,
    code_cells,
    code_digest,
    exercise_mark,
    plain_code,
    source_of,
)
from labkit.errors import LabkitError

MOST_NOTEBOOK = 200_000_000
"""bytes of a notebook that is read"""
LONG = 120
"""letters of code from which on equal cells are no accident"""


@dataclass
class NotebookResult:
    """What was found in one notebook."""

    name: str
    """its file's name without folder and ending"""
    problem: str = ""
    """why it cannot be read"""
    failure: str = ""
    """the first error among its stored outputs"""
    written: dict[str, tuple[str, int]] = field(default_factory=dict)
    """digest and number of letters of each written solution, by its grade_id"""
    findings: list[str] = field(default_factory=list)


def read_notebooks(opened: SubmittedZip, handed: HandedOut) -> list[NotebookResult]:
    """Reads the notebooks in source/."""
    found = []
    for file in sorted(opened.entries):
        path = PurePosixPath(file)
        if path.suffix == ".ipynb" and path.parts[0] == "source":
            found.append(_read(opened, file, path.stem, handed))
    return found


def _read(opened: SubmittedZip, file: str, name: str, handed: HandedOut) -> NotebookResult:
    result = NotebookResult(shown(name))
    try:
        cells = code_cells(opened.read(file, MOST_NOTEBOOK))
    except LabkitError as error:
        result.problem = error.what
        return result
    except ValueError:
        result.problem = f"{shown(file)} is no readable notebook"
        return result
    given = handed.notebooks.get(name)
    result.failure = _failure(cells)
    for cell in cells:
        mark, source = exercise_mark(cell), source_of(cell)
        grade_id = shown(str(mark.get("grade_id", "")))
        if mark.get("solution") and "NotImplementedError" not in source:
            digest = code_digest(source)
            result.written[grade_id] = digest, len(plain_code(source))
            is_given = given is not None and given.solutions.get(grade_id) == digest
            if is_given and result.written[grade_id][1] >= LONG:
                result.findings.append(
                    f"{name}: the code of {grade_id} is the instructor's solution, but for "
                    "comments and layout."
                )
        elif mark.get("grade") and given is not None and grade_id in given.checks:
            changed = code_digest(source) != given.checks[grade_id]
            result.findings += [f"{name}: the check cell {grade_id} was changed."] * changed
    if given is not None:
        there = {shown(str(exercise_mark(cell).get("grade_id"))) for cell in cells}
        gone = [grade_id for grade_id in given.checks if grade_id not in there]
        if gone:
            result.findings.append(f"{name}: check cells were deleted: {', '.join(gone)}.")
    return result


def _failure(cells: list[dict[str, Any]]) -> str:
    """The first error among the stored outputs, in one line."""
    for cell in cells:
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, Mapping) and output.get("output_type") == "error":
                words = f"{output.get('ename')}: {output.get('evalue')}"
                return shown(" ".join(words.split()))
    return ""
