"""A student's exercises, graded by nbgrader's autograde. This runs the student's code: in a process
with limits of time, memory and files, which is no sandbox.

nbgrader takes the check cells from the instructor's notebooks, so a student who changed them gains
nothing. The points are those of its gradebook.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.course.grade_notebooks import MOST_NOTEBOOK
from labkit.course.grade_zip import SubmittedZip, shown
from labkit.course.handout import hand_out
from labkit.course.process_tree import end_with_children
from labkit.errors import LabkitError

STUDENT = "student"
"""name of the only student in a copy of the tree"""
SECONDS_A_CELL = 120
MOST_WRITTEN = 500_000_000
"""bytes of a file that the code may write"""
MOST_MEMORY = 8_000_000_000
"""bytes of memory of nbgrader, and of a kernel"""
START = 300.0
"""seconds that making the tree may take for each notebook"""


_LIMITED = f"""
import runpy, sys
try:
    import resource
    for kind, most in (
        (resource.RLIMIT_FSIZE, {MOST_WRITTEN}),
        (resource.RLIMIT_DATA, {MOST_MEMORY}),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
except ImportError:  # Windows
    pass
sys.argv[0] = "nbgrader"
runpy.run_module("nbgrader", run_name="__main__")
"""
"""nbgrader with limits, which its kernels inherit"""


@dataclass(frozen=True)
class Exercise:
    """Points of one exercise."""

    name: str
    points: float
    """as many as it has"""
    reached: float


def instructors_tree(out: Path, notebooks: Path, rules_file: Path | None) -> Path:
    """nbgrader's tree with the assignments released, from which each submission gets a copy.

    Args:
        out: a new folder. The tree has the solutions in it.
        notebooks: folder of the notebooks with solutions.
        rules_file: the course's rules.
    Returns:
        the tree.
    Raises:
        LabkitError: nbgrader is not installed, or cannot make an assignment.
    """
    hand_out(out, rules_file=rules_file, notebooks=notebooks)
    tree = out / "nbgrader"
    config = tree / "nbgrader_config.py"
    more = f"c.Execute.timeout = {SECONDS_A_CELL}\n"
    config.write_text(config.read_text(encoding="utf-8") + more, encoding="utf-8")
    for folder in sorted((tree / "source").iterdir()):
        done, said = _nbgrader(tree, START, "generate_assignment", folder.name)
        if not done:
            what = f"nbgrader cannot make the assignment {folder.name}: {said}"
            raise LabkitError(what, file=notebooks)
    return tree


def autograde(
    opened: SubmittedZip, names: Sequence[str], tree: Path, seconds: float
) -> tuple[list[Exercise], list[str]]:
    """Runs the exercises of a submission.

    Args:
        opened: the zip.
        names: of its notebooks, without folder and ending.
        tree: as `instructors_tree` made it; it is not changed.
        seconds: for all notebooks together.
    Returns:
        the exercises, with the points that nbgrader gave, and findings.
    """
    until, findings = time.monotonic() + seconds, []
    with tempfile.TemporaryDirectory(prefix="labkit-exercises-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(tree, copy)
        assignments = sorted(each.name for each in (copy / "source").iterdir())
        for name in assignments:
            if name not in names:
                continue
            place = copy / "submitted" / STUDENT / name
            place.mkdir(parents=True)
            data = opened.read(f"source/{name}.ipynb", MOST_NOTEBOOK)
            (place / f"{name}.ipynb").write_bytes(data)
            for given in (copy / "source" / name).iterdir():  # runs that the notebook draws
                if given.is_dir():
                    shutil.copytree(given, place / given.name)
            done, said = _nbgrader(
                copy, until - time.monotonic(), "autograde", name, "--student", STUDENT
            )
            if not done:
                findings.append(f"Exercises of {name} could not be run: {said}.")
        return _points(copy, assignments), findings


def _points(tree: Path, assignments: Sequence[str]) -> list[Exercise]:
    """What the gradebook says of each check cell."""
    from nbgrader.api import Gradebook, MissingEntry

    found = []
    with Gradebook(f"sqlite:///{tree / 'gradebook.db'}") as book:
        for name in assignments:
            cells = book.find_notebook(name, name).grade_cells
            reached: dict[str, float] = {}
            with contextlib.suppress(MissingEntry):
                submitted = book.find_submission_notebook(name, name, STUDENT)
                reached = {grade.name: float(grade.score or 0) for grade in submitted.grades}
            for cell in sorted(cells, key=lambda each: each.name):
                points = reached.get(cell.name, 0.0)
                exercise = cell.name.removeprefix("check-")
                found.append(Exercise(exercise, float(cell.max_score), points))
    return found


def _nbgrader(tree: Path, seconds: float, *words: str) -> tuple[bool, str]:
    """Runs nbgrader with limits, and ends it and its kernels when the time is over.

    Returns:
        whether it went well, and else why not.
    """
    if seconds <= 0:
        return False, "the time is over"
    # nbgrader starts the program alembic, which an activated environment has on its PATH.
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-c", _LIMITED, *words],
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, "PATH": paths},
        )
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_with_children(process.pid)
            process.wait()
        said.seek(0, os.SEEK_END)
        said.seek(max(0, said.tell() - 100_000))
        lines = said.read().decode("utf-8", "replace").split("\n")
    if code == 0:
        return True, ""
    if code is None:
        return False, f"they did not end within {seconds / 60:.3g} minutes"
    reason = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
    return False, shown(reason)
