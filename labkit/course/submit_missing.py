"""What the rules ask for and a submission lacks, in order of the points that it can cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from labkit.course.rules import Part, Rules
from labkit.course.student_check import Result
from labkit.course.submit_notebooks import Notebook
from labkit.course.submit_report import Report, has_formula, own_words, shows
from labkit.course.submit_runs import StudentRun

PSNR = "psnr"
"""key of the demo's part that the table of grades is for"""
SCHEDULES = ("monotonic", "cyclical")
"""the methods of KL annealing that `two_schedules` asks for"""


@dataclass(frozen=True)
class Missing:
    """One thing that is missing."""

    points: float
    """as many as it can cost: those of the part or the exercise; 0 where no points are tied to
    it"""
    where: str
    """the part, the exercise, or the file"""
    what: str
    """what is missing and, where a command mends it, which"""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def missing_of(
    rules: Rules,
    report: Report | None,
    runs: Sequence[StudentRun],
    notebooks: Sequence[Notebook],
    exercises: Sequence[Result],
    notes: Sequence[str] = (),
) -> list[Missing]:
    """What is missing, the most points first.

    Args:
        rules: the course's.
        report: the student's; None where there is no file.
        runs: those handed in.
        notebooks: executed.
        exercises: the results of their checks.
        notes: sentences on the PDF.
    """
    texts = {} if report is None else report.parts()
    found: list[Missing] = []

    def add(part: Part, lacking: Iterable[str]) -> None:
        if what := "; ".join(lacking):
            found.append(Missing(part.points, str(part.title), what))

    for part in (part for section in rules.report for part in section.parts):
        lacking = list(_of(part, texts, runs))
        if report is None and "text" in part.needs:
            lacking[0] = "there is no report"
        add(part, lacking)
    for part in rules.demo:
        add(part, _of_demo(part, runs))
    for part in rules.extras:  # nobody has to do an extra
        if own_words(texts.get(part.key, ""), part):
            add(part, _of(part, texts, runs))
    for each in exercises:
        if not each.passed:
            name = f"exercise {each.exercise} of {each.notebook}"
            found.append(Missing(each.points, name, each.what))
    for book in notebooks:
        if book.problem is not None:
            found.append(Missing(0, book.file.name, book.problem))
    said = " ".join(each.what for each in found)
    for problem in (problem for run in runs for problem in run.problems):
        if problem not in said:
            found.append(Missing(0, "runs", problem))
    if report is not None:
        found += [Missing(0, report.file.name, note) for note in notes]
    # Equal points stay in the order of the report.
    return sorted(found, key=lambda each: -each.points)


def _of(part: Part, texts: dict[str, str], runs: Sequence[StudentRun]) -> Iterator[str]:
    """What a part of the report lacks."""
    text = texts.get(part.key)
    if text is None and "text" in part.needs:
        yield f"the report has no such part: put <!-- part: {part.key} --> below its heading"
        text = ""
        needs = [need for need in part.needs if need != "text"]
    else:
        needs = list(part.needs)
    for need in needs:
        yield from _CHECKS[need](part, text or "", runs)


def _of_demo(part: Part, runs: Sequence[StudentRun]) -> Iterator[str]:
    if part.key == PSNR and not any(run.evaluation for run in runs):
        yield from _from_runs(runs, "no evaluation by the course's protocol", "evaluation")
        if not runs:
            return
    for need in part.needs:
        if need in ("gif", "strip", "curves", "two_schedules", "certificate"):
            yield from _CHECKS[need](part, "", runs)


def _from_runs(runs: Sequence[StudentRun], what: str, word: str) -> Iterator[str]:
    """What the runs lack, in their own words where they say why."""
    if not runs:
        yield f"{what}: no run is handed in, give one with --run RUN"
        return
    said = [problem for run in runs for problem in run.problems if word in problem]
    yield from said[:1] or [what]


def _text(part: Part, text: str, runs: Sequence[StudentRun]) -> Iterator[str]:
    if not own_words(text, part):
        yield "it has no words of your own"


def _derivation(part: Part, text: str, runs: Sequence[StudentRun]) -> Iterator[str]:
    if not has_formula(text) and own_words(text, part):
        yield "it has no equation; LaTeX stands between dollar signs"


def _gif(part: Part, text: str, runs: Sequence[StudentRun]) -> Iterator[str]:
    if not shows(text, ".gif") and not any(run.gifs for run in runs):
        yield from _from_runs(runs, "no GIF of a test clip", "evaluation")


def _strip(part: Part, text: str, runs: Sequence[StudentRun]) -> Iterator[str]:
    if not shows(text, ".png", ".jpg", ".jpeg", ".svg") and not any(run.strips for run in runs):
        if "gif" in part.needs and not shows(text, ".gif"):
            return  # the same run gives both, and the GIF's line says so
        yield from _from_runs(runs, "no prediction at each time step", "evaluation")


def _curves(part: Part, text: str, runs: Sequence[StudentRun]) -> Iterator[str]:
    drawn = any(run.has_curves for run in runs)
    if not shows(text, ".png", ".jpg", ".jpeg", ".svg") and not drawn:
        yield from _from_runs(runs, "no curves of a training", "curves")


def _two_schedules(part: Part, text: str, runs: Sequence[StudentRun]) -> Iterator[str]:
    there = {run.config.kl.schedule for run in runs}
    lacking = [each for each in SCHEDULES if each not in there]
    if lacking:
        how = " and ".join(f"labkit train course --kl.schedule {each}" for each in lacking)
        names = " and no ".join(f"{each} KL annealing" for each in lacking)
        yield f"no run with {names} is handed in: {how}, then --run RUN for each"


def _certificate(part: Part, text: str, runs: Sequence[StudentRun]) -> Iterator[str]:
    proofs = [run for run in runs if run.certificate is not None]
    if not proofs:
        yield from _from_runs(runs, "no certificate of the leak proof", "labkit prove")
    for run in proofs:
        assert run.certificate is not None
        if run.certificate["clean"] is not True:
            yield f"the leak proof of {run.name} says: {run.certificate['verdict']}"


_CHECKS: dict[str, Callable[[Part, str, Sequence[StudentRun]], Iterator[str]]] = {
    "text": _text,
    "derivation": _derivation,
    "gif": _gif,
    "strip": _strip,
    "curves": _curves,
    "two_schedules": _two_schedules,
    "certificate": _certificate,
}
"""By what a part needs (rules.NEEDS): sentences on what it lacks."""
