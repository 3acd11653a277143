"""`labkit grade`: a folder of submissions -> grades.csv, a page for the instructor, a page for each
student.

OUT has `grades.csv`, `index.html`, `feedback/ID.html` and `results/`, one JSON a submission. A
grading that was stopped goes on from there: a result is used again while the zip, the rules, the
test clips and the options are the same.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

import labkit
from labkit.course.grade_exercises import instructors_tree
from labkit.course.grade_pages import feedback_page, index_page
from labkit.course.grade_processes import Limits, grade_all
from labkit.course.grade_run import TestData
from labkit.course.grade_similarity import similarities
from labkit.course.grade_submission import Graded, Task
from labkit.course.grade_table import grades_csv
from labkit.course.grade_zip import shown
from labkit.course.handed_out import HandedOut, handed_out
from labkit.course.handout import NOTEBOOKS
from labkit.course.manifest import sha256
from labkit.course.rules import DEFAULT, LANGUAGES, Rules, course_protocol
from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError
from labkit.files import replacing, write_whole

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
"""endings of files that are taken for submissions; only a zip can be graded"""
TABLE, INDEX, FEEDBACK, RESULTS = "grades.csv", "index.html", "feedback", "results"


@dataclass(frozen=True)
class Grading:
    """What was done."""

    out: Path
    results: tuple[Graded, ...]
    reused: int
    """results of an earlier grading that were used again"""

    @property
    def failed(self) -> int:
        """Number of submissions that could not be graded."""
        return sum(bool(each.problem) for each in self.results)


def grade(
    zips: Path,
    data: TestData,
    *,
    out: Path = Path("grades"),
    rules_file: Path | None = None,
    language: str = "en",
    workers: int = 1,
    minutes: float = 60,
    gigabytes: float = 8,
    notebooks: Path = NOTEBOOKS,
    run_exercises: bool = False,
    command: str = "labkit grade",
    progress: bool = True,
) -> Grading:
    """Grades every zip of a folder and of the folders in it. No code of a submission runs, unless
    `run_exercises` asks for it.

    Args:
        zips: the folder.
        data: the course's test clips; its protocol is replaced by that of the rules.
        out: folder of the grades.
        rules_file: the course's rules; None: the coursework's.
        language: of the feedback pages, en or zh-TW.
        workers: submissions graded at once, each by one thread.
        minutes: time limit of one submission, and as much again for its exercises.
        gigabytes: limit of its memory.
        notebooks: folder of the notebooks with solutions, for comparison.
        run_exercises: run the students' notebooks by nbgrader's autograde. This is no sandbox.
        command: shown on the page.
        progress: show a bar.
    Raises:
        LabkitError: there is no such folder, or no zip in it; the rules or the test clips cannot be
            read; the grades cannot be written.
    """
    if language not in LANGUAGES:
        raise LabkitError(f"no language {language!r}", hint=f"there are: {', '.join(LANGUAGES)}")
    for name, value in (("minutes", minutes), ("gigabytes", gigabytes)):
        if not value > 0:
            raise LabkitError(f"--{name} is {value:g}", hint="give more than 0")
    rules = Rules.load(rules_file)
    files = _zips(zips, out)
    data = TestData(data.root, data.split, data.clips, data.device, course_protocol(rules))
    digest = clips_of(data)
    handed = handed_out(notebooks, rules)
    made_for = {
        "labkit": labkit.__version__,
        "rules": sha256((rules_file or DEFAULT).read_bytes()),
        "data": digest,
        "handed_out": handed.digest(),
        "exercises": run_exercises,
    }
    tasks = _with_names_of_their_own(
        [_task(file, zips, out, rules_file, data, handed, made_for, minutes) for file in files]
    )
    left = [task for task in tasks if not _is_done(task)]
    bar = tqdm(total=len(tasks), disable=not progress, unit="zip", desc="grading")
    with tempfile.TemporaryDirectory(prefix="labkit-nbgrader-") as place, bar:
        if run_exercises and left:
            tree = instructors_tree(Path(place) / "tree", notebooks, rules_file)
            left = [replace(task, exercises=tree) for task in left]
        bar.update(len(tasks) - len(left))
        limits = Limits(60 * minutes * (2 if run_exercises else 1), gigabytes)
        grade_all(left, rules, limits, workers, lambda task: bar.update())
    results = sorted((_stored(task) for task in tasks), key=lambda each: each.file.casefold())
    times = {task.file: task.zip.stat().st_mtime for task in tasks}
    counts = _duplicates(results, times)
    for file, said in similarities(results, handed).items():
        next(each for each in results if each.file == file).findings.extend(said)
    _write(out, results, counts, rules, language, command)
    return Grading(out, tuple(results), len(tasks) - len(left))


def clips_of(data: TestData) -> str:
    """A digest of the test clips, and of how they are used.

    Raises:
        DataError: there is no such data set or split.
    """
    options: dict[str, Any] = {"n_past": 1, "n_future": 1, "labels": False}
    dataset = ClipDataset(data.root, data.split, condition="none", **options)
    if dataset.action_columns:
        condition = "action+position" if dataset.has_positions else "action"
        dataset = ClipDataset(data.root, data.split, condition=condition, **options)
    digest = hashlib.sha256(f"{data.clips} {data.protocol} {data.device}".encode())
    for first in range(0, len(dataset), 1024):
        batch = dataset.batch(range(first, min(first + 1024, len(dataset))))
        digest.update(batch.frames.numpy().tobytes())
        digest.update(batch.condition.numpy().tobytes())
    return digest.hexdigest()


def _zips(folder: Path, out: Path) -> list[Path]:
    if not folder.is_dir():
        hint = "give the folder that holds the submissions"
        raise LabkitError("there is no such folder", file=folder, hint=hint)
    inside = out.resolve()
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in ARCHIVES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and not file.resolve().is_relative_to(inside)
    ]
    if not found:
        raise LabkitError("holds no zip", file=folder, hint="labkit submit makes them")
    return found


def _task(
    file: Path,
    folder: Path,
    out: Path,
    rules_file: Path | None,
    data: TestData,
    handed: HandedOut,
    made_for: dict[str, object],
    minutes: float,
) -> Task:
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # grading it says why
        digest = ""
    name = file.relative_to(folder).as_posix()
    key = sha256(name.encode("utf-8", "surrogateescape"))[:12]
    plain = re.sub(r"[^\w.-]+", "-", file.stem, flags=re.ASCII)[:60]
    return Task(
        zip=file,
        file=shown(name),
        rules=rules_file,
        data=data,
        handed=handed,
        result=out / RESULTS / f"{plain}-{key}.json",
        made_for={**made_for, "zip": digest},
        zip_sha256=digest,
        exercise_seconds=60 * minutes,
    )


def _with_names_of_their_own(tasks: Sequence[Task]) -> list[Task]:
    """Two long names can be shortened to the same."""
    taken: dict[str, int] = {}
    found = []
    for task in tasks:
        number = taken[task.file] = taken.get(task.file, 0) + 1
        found.append(task if number == 1 else replace(task, file=f"{task.file} #{number}"))
    return found


def _is_done(task: Task) -> bool:
    try:
        stored = Graded.from_json(task.result.read_bytes())
    except (OSError, ValueError):
        return False
    return stored.made_for == dict(task.made_for) and not stored.again


def _stored(task: Task) -> Graded:
    try:
        return Graded.from_json(task.result.read_bytes())
    except (OSError, ValueError) as error:
        what = f"the result cannot be read: {error}"
        raise LabkitError(what, file=task.result, hint="grade again") from None


def _duplicates(results: Sequence[Graded], times: dict[str, float]) -> dict[str, bool]:
    """Which submissions count, by file. Of several of one student the one with the latest time of
    change does; each names the others."""
    counts = {each.file: True for each in results}
    for student_id in {each.student_id.casefold() for each in results if each.student_id}:
        own = [each for each in results if each.student_id.casefold() == student_id]
        if len(own) < 2:
            continue
        own.sort(key=lambda each: (times[each.file], each.file))
        for each in own:
            others = ", ".join(other.file for other in own if other is not each)
            counts[each.file] = each is own[-1]
            which = "This one counts" if each is own[-1] else f"{own[-1].file} counts"
            each.findings.append(
                f"Student {each.student_id} has {len(own)} submissions, also {others}. "
                f"{which}: its file has the latest time of change."
            )
    return counts


def _write(
    out: Path,
    results: Sequence[Graded],
    counts: dict[str, bool],
    rules: Rules,
    language: str,
    command: str,
) -> None:
    pages = {
        each.file: name
        for each, name in zip(results, _page_names(results, counts), strict=True)
        if name is not None
    }
    with replacing(out / FEEDBACK) as fresh:
        for each in results:
            if each.file in pages:
                page = feedback_page(each, rules, language)
                (fresh / pages[each.file]).write_text(page, encoding="utf-8")
    write_whole(out / TABLE, grades_csv(results, counts, rules))
    links = {file: f"{FEEDBACK}/{name}" for file, name in pages.items()}
    page = index_page(results, counts, links, rules, command)
    write_whole(out / INDEX, page)


def _page_names(results: Sequence[Graded], counts: dict[str, bool]) -> list[str | None]:
    """The file of each student's page: ID.html; None for a submission that does not count, or of
    nobody known. Some disks take two names that differ in case for one."""
    names: list[str | None] = []
    for each in results:
        name = None
        if counts[each.file] and each.student_id:
            plain = re.sub(r"[^\w.-]+", "-", each.student_id, flags=re.ASCII).strip(".-")
            name = f"{plain[:60] or 'student'}.html"
            number, taken = 2, [str(other).casefold() for other in names]
            while name.casefold() in taken:
                name, number = f"{plain[:60]}-{number}.html", number + 1
        names.append(name)
    return names
