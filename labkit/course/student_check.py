"""`labkit check`: a student's exercises, checked in a kernel of their own.

Of a notebook only those cells run that an exercise needs: its check cell, and before it the cells
that define the names that are used. So a check takes seconds although a notebook trains a model.
The notebook's file is only read.
"""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.course.kernel_guard import start_options
from labkit.course.rules import Rules
from labkit.errors import LabkitError
from labkit.files import reading

SECONDS = 120.0
"""time limit of one cell"""
MOST_BYTES = 100_000_000
"""of a notebook's file"""
MOST_LETTERS = 1_000_000
"""that a cell may print; one that prints more fails"""
ROWS = ("case", "expected", "came", "hint")


@dataclass(frozen=True)
class Result:
    """One exercise."""

    notebook: str
    exercise: str
    points: float
    passed: bool
    what: str
    """one sentence: passes, or what is wrong"""
    rows: dict[str, str] = field(default_factory=dict)
    """case, expected, came and hint, where the check says them"""


class Results(list[Result]):
    """The exercises of several notebooks. Printed, and in a notebook, it is a table."""

    @property
    def passed(self) -> bool:
        """Whether every exercise passes."""
        return all(each.passed for each in self)

    @property
    def reached(self) -> float:
        """Sum of the points of the exercises that pass."""
        return sum(each.points for each in self if each.passed)

    def __str__(self) -> str:
        width = max([len("exercise"), *(len(each.exercise) for each in self)])
        lines = []
        for notebook in dict.fromkeys(each.notebook for each in self):
            lines += [notebook, f"  {'exercise':<{width}}  points  result"]
            for each in (each for each in self if each.notebook == notebook):
                share = f"{each.points if each.passed else 0:g}/{each.points:g}"
                lines.append(f"  {each.exercise:<{width}}  {share:>6}  {each.what}")
                indent = " " * (width + 12)
                lines += [f"{indent}{name:<9} {text}" for name, text in each.rows.items()]
            lines.append("")
        total = sum(each.points for each in self)
        passing = sum(each.passed for each in self)
        lines.append(
            f"{passing} of {len(self)} exercises pass: {self.reached:g} of {total:g} points"
        )
        return "\n".join(lines)

    __repr__ = __str__


def progress(
    notebooks: Sequence[Path | str] = (), *, seconds: float = SECONDS, rules: Path | None = None
) -> Results:
    """Checks the exercises of notebooks as they are saved, also from a cell of one of them. Save
    the notebook first.

    Args:
        notebooks: files; those of the current folder if left out.
        seconds: time limit of a cell.
        rules: the course's rules, which may change points. course.toml beside the notebooks is
            used if left out.

    Raises:
        LabkitError: there is no notebook with exercises, or one cannot be read.
    """
    return check_notebooks([Path(each) for each in notebooks], seconds=seconds, rules_file=rules)


def check_notebooks(
    files: Sequence[Path] = (), *, seconds: float = SECONDS, rules_file: Path | None = None
) -> Results:
    """Checks the exercises of notebooks, each in a kernel of its own.

    Args:
        files: notebooks; those of the current folder that have exercises if empty.
        seconds: time limit of a cell.
        rules_file: the course's rules; course.toml of the first notebook's folder if None.

    Raises:
        LabkitError: there is no notebook with exercises, or one cannot be read.
    """
    if not seconds > 0:
        raise LabkitError(f"the time limit is {seconds:g} seconds", hint="give more than 0")
    named = bool(files)
    files = list(files) or sorted(Path().glob("[0-9][0-9]_*.ipynb"))
    if not files:
        hint = "change to the folder of your notebooks, or name them: labkit check FILE.ipynb"
        raise LabkitError("no notebook in the current folder", hint=hint)
    beside = files[0].parent / "course.toml"
    if rules_file is None and beside.is_file():
        rules_file = beside
    rules = Rules.load(rules_file)
    books = {file: _read(file) for file in files}
    results = Results()
    for file, book in books.items():
        marked = _exercises(book)
        if not marked and named:
            raise LabkitError("has no exercises", file=file, hint="name another notebook")
        if marked:
            # A notebook's own cell runs within an event loop; a new thread has none.
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                work = pool.submit(lambda b=book, f=file: asyncio.run(_run(b, f, rules, seconds)))
                results += work.result()
    if not results:
        raise LabkitError("the notebooks have no exercises", hint="get the course's notebooks")
    return results


def has_exercises(file: Path) -> bool:
    """Whether a notebook has exercises.

    Raises:
        LabkitError: it cannot be read.
    """
    return bool(_exercises(_read(file)))


def _read(file: Path) -> Any:
    try:
        import nbclient  # noqa: F401
        import nbformat
    except ImportError:
        hint = 'python -m pip install "labkit[course]"'
        raise LabkitError("nbclient is not installed", hint=hint) from None
    hint = "save it in JupyterLab again, or take the handed-out copy"
    with reading(file, "not a readable notebook", hint=hint):
        if file.stat().st_size > MOST_BYTES:
            raise LabkitError("is larger than 100 MB", file=file, hint="clear its outputs")
        book = nbformat.reads(file.read_text(encoding="utf-8-sig"), as_version=4)
        nbformat.validate(book)
    return book


def _exercises(book: Any) -> list[int]:
    """Indices of the check cells."""
    return [
        number
        for number, cell in enumerate(book.cells)
        if cell.cell_type == "code" and _mark(cell).get("grade") and _mark(cell).get("grade_id")
    ]


def _mark(cell: Any) -> dict[str, Any]:
    mark = cell.metadata.get("nbgrader", {})
    return mark if isinstance(mark, dict) else {}


def _number(value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1000
    return value if good else 0


# --------------------------------------------------------------- which cells an exercise needs


def needed_cells(sources: Sequence[str], last: int) -> list[int]:
    """Indices of the cells to run for the cell `last`, itself included: each cell before it that
    defines a name which a chosen cell uses.

    Args:
        sources: the code of every cell, in order ("" for a cell of text).
    """
    cells = [names(source) for source in sources[: last + 1]]
    chosen, wanted = {last}, set(cells[last][1])
    grown = True
    while grown:  # a function may use what a cell after it defines
        more = {n for n, (defined, _) in enumerate(cells) if defined & wanted or "*" in defined}
        grown = not more <= chosen
        chosen |= more
        wanted = wanted.union(*(cells[number][1] for number in chosen))
    return sorted(chosen)


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell's code defines at its top level, and all names that it uses. A cell
    that is no valid Python defines what its lines `def NAME`, `class NAME` and `NAME =` say: it
    must run, so that its error is seen."""
    plain = "\n".join("" if line.lstrip()[:1] in "%!?" else line for line in source.split("\n"))
    try:
        tree = ast.parse(plain)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = re.findall(r"^\s*(?:def|class) +(\w+)|^(\w+) *=", source, re.MULTILINE)
        return {name for pair in found for name in pair if name}, set()
    defined, used = set(), set()
    inner: set[int] = set()
    for node in ast.walk(tree):  # a parent comes before its children
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            if id(node) not in inner and not isinstance(node, ast.Lambda):
                defined.add(node.name)
            inner |= {id(child) for child in ast.walk(node)}
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                used.add(node.id)
            elif id(node) not in inner:
                defined.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in inner:
            for alias in node.names:
                defined.add((alias.asname or alias.name).split(".")[0])
        # x.weight = ..., x[0] = ...: these change x
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            owner = node.value
            while isinstance(owner, ast.Attribute | ast.Subscript):
                owner = owner.value
            if isinstance(owner, ast.Name) and id(node) not in inner:
                defined.add(owner.id)
    return defined, used


# ------------------------------------------------------------------------------- running


class _Failed(Exception):
    """A cell did not end well; `dead` says that the kernel cannot go on."""

    def __init__(self, cell: int, name: str, text: str, dead: bool = False) -> None:
        super().__init__(text)
        self.cell, self.name, self.text, self.dead = cell, name, text, dead


async def _run(book: Any, file: Path, rules: Rules, seconds: float) -> list[Result]:
    sources = [cell.source if cell.cell_type == "code" else "" for cell in book.cells]
    results, waiting = [], _exercises(book)
    while waiting:
        client = _client(book, file, seconds)
        try:
            async with client.async_setup_kernel():
                done: dict[int, _Failed | None] = {}
                dead = False
                while waiting and not dead:
                    check = waiting.pop(0)
                    failed = _changed(book.cells[check])
                    for number in needed_cells(sources, check) if failed is None else ():
                        if number not in done:
                            done[number] = await _execute(client, book.cells[number], number)
                        if (failed := done[number]) is not None:
                            break
                    results.append(_result(book.cells[check], file, rules, failed, check, seconds))
                    dead = isinstance(failed, _Failed) and failed.dead
        except RuntimeError as error:
            hint = "does `python -m ipykernel --version` work?"
            raise LabkitError(f"no kernel starts: {error}", file=file, hint=hint) from None
    return results


def _client(book: Any, file: Path, seconds: float) -> Any:
    import nbformat
    from nbclient import NotebookClient

    copy = nbformat.reads(nbformat.writes(book), as_version=4)
    return NotebookClient(
        copy,
        kernel_name="python3",
        resources={"metadata": {"path": str(file.resolve().parent)}},
        timeout=max(1, round(seconds)),
        startup_timeout=180,
        shutdown_kernel="immediate",
        # A student's history of commands is not the check's.
        extra_arguments=[
            "--log-level=ERROR",
            "--HistoryManager.enabled=False",
            *start_options(MOST_LETTERS),
        ],
    )


async def _execute(client: Any, cell: Any, number: int) -> _Failed | None:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        await client.async_execute_cell(client.nb.cells[number], number)
    except CellTimeoutError:
        return _Failed(number, "timeout", "", dead=True)
    except DeadKernelError:
        return _Failed(number, "dead", "", dead=True)
    except CellExecutionError as error:
        return _Failed(number, str(error.ename), str(error.evalue))
    return None


def _changed(cell: Any) -> _Failed | None:
    """A check cell with a checksum that is not that of its text was edited."""
    checksum = _mark(cell).get("checksum")
    if not checksum:
        return None
    try:
        from nbgrader.utils import compute_checksum
    except ImportError:
        return None
    return None if compute_checksum(cell) == checksum else _Failed(-1, "changed", "")


def _result(
    cell: Any, file: Path, rules: Rules, failed: _Failed | None, check: int, seconds: float
) -> Result:
    mark = _mark(cell)
    grade_id = str(mark["grade_id"])
    points = rules.exercise_points.get(grade_id, _number(mark.get("points")))
    name, rows = grade_id.removeprefix("check-"), {}
    if failed is None:
        return Result(file.name, name, points, True, "passes")
    where = "" if failed.cell in (check, -1) else f" in cell {failed.cell + 1}"
    if failed.name == "CheckFailed":
        what, rows = _in_rows(failed.text)
    elif failed.name == "NotImplementedError":
        what = "is not written yet"
    elif failed.name == "changed":
        what = "the check cell was changed"
        rows = {"hint": "take the cell from the handed-out notebook"}
    elif failed.name == "timeout":
        what = f"does not end within {seconds:g} seconds{where}"
        rows = {"hint": "look for a loop whose condition never becomes false"}
    elif failed.name == "dead":
        what = f"ended the kernel{where}: does it exit, or need too much memory?"
    else:
        first = (failed.text.strip() or "no message").splitlines()[0][:200]
        what = f"raises {failed.name}{where}: {first}"
    return Result(file.name, name, points, False, what, rows)


def _in_rows(text: str) -> tuple[str, dict[str, str]]:
    """The message of CheckFailed, taken apart: what is wrong, and its rows."""
    first, *rest = text.strip().splitlines() or [""]
    rows: dict[str, str] = {}
    for line in rest:
        name, _, value = line.strip().partition(" ")
        if name in ROWS:
            rows[name] = value.strip()[:500]
    return first[:500], rows
