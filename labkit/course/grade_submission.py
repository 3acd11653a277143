"""One submission graded: its zip, its manifest, its runs measured again, what is missing. No code
of the submission runs. Every text that comes from it is shortened and has no control characters."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import labkit
from labkit.course.grade_exercises import Exercise, autograde
from labkit.course.grade_missing import Lack, SubmittedReport, missing_of
from labkit.course.grade_notebooks import NotebookResult, read_notebooks
from labkit.course.grade_run import RunResult, TestData, grade_run
from labkit.course.grade_zip import SubmittedZip, open_zip, shown
from labkit.course.handed_out import HandedOut
from labkit.course.manifest import MANIFEST, MOST_BYTES, Manifest, read_manifest, sha256
from labkit.course.rules import Rules
from labkit.errors import LabkitError

FORMAT = 1
"""of the stored results"""
MOST_RUNS = 8
"""runs of a submission that are measured"""
MOST_NAMED = 5
"""files that a sentence names"""
WORDS_TO_COMPARE = 120
"""letters of a part of the report from which on equal texts are no accident"""
PSNR = "psnr"
"""key of the demo's part that the table of grades is for"""


@dataclass
class Graded:
    """What was found in one zip. It is stored as JSON."""

    file: str
    """the zip, below the folder of the zips"""
    student_id: str = ""
    """of the file's name; of the manifest where that has none"""
    name: str = ""
    problem: str = ""
    """why the submission could not be graded"""
    again: bool = False
    """whether the next grading tries again: the problem need not be the submission's"""
    runs: list[RunResult] = field(default_factory=list)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    """"strip" (PNG) and "gif" in base64, by the run's name"""
    missing: list[Lack] = field(default_factory=list)
    claimed_exercises: list[Exercise] = field(default_factory=list)
    """as the manifest says"""
    exercises: list[Exercise] | None = None
    """measured by nbgrader; None where the code was not run"""
    findings: list[str] = field(default_factory=list)
    """contradictions, for the instructor"""
    notes: list[str] = field(default_factory=list)
    """for the instructor: what does no harm"""
    extras: list[str] = field(default_factory=list)
    """keys of the extras that the report has text for"""
    written: dict[str, dict[str, tuple[str, int]]] = field(default_factory=dict)
    """by notebook and solution cell: digest and number of letters of the code"""
    texts: dict[str, str] = field(default_factory=dict)
    """by part of the report: digest of a long text of the student's own"""
    zip_sha256: str = ""
    made_for: dict[str, Any] = field(default_factory=dict)
    """digests of everything that the result depends on"""

    @property
    def best(self) -> RunResult | None:
        """The run that counts: the highest measured PSNR among those whose leak proof is clean."""
        counted = [run for run in self.runs if run.measured is not None and run.clean]
        return max(counted, key=lambda run: run.measured or 0.0, default=None)

    def psnr_share(self, rules: Rules) -> float | None:
        """Per cent of the PSNR points; None where nothing could be graded."""
        if self.problem:
            return None
        return rules.psnr_share(self.best.measured or 0.0) if self.best else 0

    def to_json(self) -> str:
        """The result as JSON."""
        values = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(values, indent=1, allow_nan=False, ensure_ascii=True) + "\n"

    @staticmethod
    def from_json(data: bytes) -> Graded:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: it is another file, damaged, or of another version.
        """
        try:
            values = json.loads(data)
            if values.pop("format") != FORMAT:
                raise ValueError("of another version")
            values["runs"] = [RunResult(**each) for each in values["runs"]]
            for run in values["runs"]:
                run.interval = None if run.interval is None else tuple(run.interval)
            values["missing"] = [Lack(**each) for each in values["missing"]]
            for name in ("claimed_exercises", "exercises"):
                rows = values[name]
                values[name] = None if rows is None else [Exercise(**each) for each in rows]
            return Graded(**values)
        except (TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ValueError(f"damaged: {error}") from None


@dataclass(frozen=True)
class Task:
    """What is needed to grade one zip in a process of its own."""

    zip: Path
    file: str
    """its name in messages"""
    rules: Path | None
    """the file of the rules; None: the coursework's"""
    data: TestData
    handed: HandedOut
    result: Path
    """the file to write"""
    made_for: Mapping[str, Any]
    zip_sha256: str
    exercises: Path | None = None
    """nbgrader's tree, where the student's code is to be run"""
    exercise_seconds: float = 600.0
    """time limit of all of the student's code"""


def grade_submission(task: Task) -> Graded:
    """Grades one zip. A zip that cannot be graded gives a result whose `problem` says why."""
    rules = Rules.load(task.rules)
    result = begun(task, rules)
    try:
        opened = open_zip(task.zip)
    except LabkitError as error:
        result.problem = _sentence(error)
        return result
    result.notes += opened.notes
    if MANIFEST not in opened:
        hint = "it was not made by labkit submit"
        zips = [name for name in opened.entries if name.lower().endswith(".zip")]
        hint = f"it holds another zip, {shown(zips[0])}" if zips else hint
        result.problem = f"it holds no {MANIFEST} ({hint})"
        return result
    try:
        manifest, sealed = read_manifest(opened.read(MANIFEST, MOST_BYTES), task.zip)
    except LabkitError as error:
        result.problem = _sentence(error)
        return result
    if not sealed:
        result.findings.append(f"The {MANIFEST} was edited by hand: its seal does not fit.")
    _who(result, manifest, rules)
    _compare_files(result, opened, manifest)
    _compare_versions(result, manifest, rules, task.rules)
    for record in manifest.runs[:MOST_RUNS]:
        run, pictures = grade_run(opened, record, task.data)
        run.name = shown(run.name)
        result.runs.append(run)
        if pictures is not None:
            result.pictures[run.name] = {
                "strip": base64.b64encode(pictures.strip).decode(),
                "gif": base64.b64encode(pictures.gif).decode(),
            }
    if len(manifest.runs) > MOST_RUNS:
        result.notes.append(f"It has {len(manifest.runs)} runs; the first {MOST_RUNS} are graded.")
    _compare_runs(result, task.handed)
    notebooks = read_notebooks(opened, task.handed)
    _about_notebooks(result, notebooks, manifest)
    report = SubmittedReport.read(opened)
    result.missing = missing_of(rules, opened, report, result.runs, notebooks, task.handed)
    result.extras = [part.key for part in rules.extras if report.words(part)]
    for part in (part for section in rules.report for part in section.parts):
        words = report.words(part)
        if len(words) >= WORDS_TO_COMPARE:
            result.texts[part.key] = sha256(words.encode("utf-8", "backslashreplace"))
    if task.exercises is not None:
        _run_exercises(result, opened, notebooks, task)
    return result


def begun(task: Task, rules: Rules) -> Graded:
    """The result of a zip that was not opened yet: what its name says."""
    student_id, name = who_of(PurePosixPath(task.file).name, rules) or ("", "")
    return Graded(
        task.file,
        student_id,
        name,
        zip_sha256=task.zip_sha256,
        made_for=dict(task.made_for),
    )


def who_of(file: str, rules: Rules) -> tuple[str, str] | None:
    """The student's id and name in a file's name, or None. Learning platforms put words before the
    name, and browsers "(1)" after it.

    Args:
        file: the zip's name, without folders.
        rules: say which form it has.
    """
    before, between, after = re.split(r"\{student_id\}|\{name\}", rules.file_name)
    stem = unicodedata.normalize("NFC", file)[:500]
    ending = re.escape(after.removesuffix(".zip")) + r"(?: ?\(\d+\)| - Copy| copy)?\.zip$"
    found = re.search(ending, stem, re.IGNORECASE)
    start = stem.find(before)
    if found is None or start < 0:
        return None
    middle = stem[start + len(before) : found.start()]
    id_first = rules.file_name.index("{student_id}") < rules.file_name.index("{name}")
    place = middle.find(between) if between else -1
    while place >= 0:
        pair = middle[:place], middle[place + len(between) :]
        student_id, name = pair if id_first else pair[::-1]
        if re.fullmatch(rules.student_id, student_id) and name:
            return student_id, shown(name.replace("_", " "))
        place = middle.find(between, place + 1)
    return None


def decibels(value: float | None) -> str:
    """A PSNR with two digits, cut off: 24.999 dB is below 25. "" for None."""
    return "" if value is None else f"{math.floor(round(100 * value, 6)) / 100:.2f}"


def _sentence(error: LabkitError) -> str:
    return error.what if error.hint is None else f"{error.what} ({error.hint})"


# ------------------------------------------------------------------ the manifest and the files


def _who(result: Graded, manifest: Manifest, rules: Rules) -> None:
    """Compares the file's name with the manifest. The file's name says whose submission it is."""
    said_id, said_name = shown(manifest.student_id), shown(manifest.name)
    if not result.student_id:
        result.student_id, result.name = said_id, said_name
        result.notes.append(f"The file's name is not of the course's form, {rules.file_name}.")
    elif result.student_id != said_id:
        result.findings.append(
            f"The file's name says student {result.student_id}, and the manifest says {said_id}: "
            "it may be another student's zip under a new name."
        )
    elif result.name.casefold() != unicodedata.normalize("NFC", said_name).casefold():
        result.notes.append(f"The file's name says {result.name}; the manifest says {said_name}.")


def _compare_files(result: Graded, opened: SubmittedZip, manifest: Manifest) -> None:
    found = opened.digests()
    damaged = [name for name, digest in found.items() if digest is None]
    changed = [
        name
        for name, digest in found.items()
        if digest is not None and manifest.files.get(name, digest) != digest
    ]
    gone = [name for name in manifest.files if name not in found]
    added = [name for name in found if name not in manifest.files]
    if changed:
        which = _names(changed)
        result.findings.append(f"Changed after labkit submit, by the manifest's digests: {which}.")
    if gone:
        result.findings.append(f"The manifest names files that are not in the zip: {_names(gone)}.")
    if damaged:
        result.findings.append(f"Files are damaged: {_names(damaged)}.")
    if added:
        result.notes.append(f"It holds files that the manifest does not name: {_names(added)}.")


def _names(files: Sequence[str]) -> str:
    more = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    return ", ".join(map(shown, files[:MOST_NAMED])) + more


def _compare_versions(
    result: Graded, manifest: Manifest, rules: Rules, rules_file: Path | None
) -> None:
    from labkit.course.rules import DEFAULT

    if manifest.rules and manifest.rules != sha256((rules_file or DEFAULT).read_bytes()):
        result.notes.append("It was packed with other rules (course.toml) than it is graded with.")
    theirs = shown(manifest.versions.get("labkit", "unknown"))
    if theirs != labkit.__version__:
        note = f"It was made by labkit {theirs}; this is labkit {labkit.__version__}."
        result.notes.append(note)
    for record in manifest.runs[:MOST_RUNS]:
        protocol = str((record.evaluation or {}).get("protocol", ""))
        if protocol and not protocol.startswith(f"protocol {rules.protocol}:"):
            result.findings.append(
                f"The claimed PSNR of {shown(record.name)} is not by the course's protocol, "
                f"{rules.protocol}, but by: {shown(protocol)}."
            )
        certificate = record.certificate or {}
        if certificate.get("weights_sha256", record.weights_sha256) != record.weights_sha256:
            name = shown(record.name)
            result.findings.append(f"The certificate of {name} is of other weights.")


def _compare_runs(result: Graded, handed: HandedOut) -> None:
    """Runs of one submission with the same weights, and weights that were handed out."""
    result.findings += [f"{run.name}: {said}" for run in result.runs for said in run.findings]
    for place, run in enumerate(result.runs):
        if run.tensors_sha256 in handed.runs:
            name = handed.runs[run.tensors_sha256]
            what = f"{run.name}: its weights are those of {name}, which is handed out with the lab."
            result.findings.append(what)
        for other in result.runs[:place]:
            if run.tensors_sha256 and run.tensors_sha256 == other.tensors_sha256:
                result.findings.append(
                    f"The runs {other.name} and {run.name} have the same weights: they are one "
                    "training, not two."
                )


def _about_notebooks(
    result: Graded, notebooks: Sequence[NotebookResult], manifest: Manifest
) -> None:
    for book in notebooks:
        result.findings += book.findings
        if book.problem:
            result.findings.append(f"Notebook {book.name}: {book.problem}.")
        if book.failure:
            result.notes.append(f"Notebook {book.name} stopped with an error, {book.failure}")
        if book.written:
            result.written[book.name] = dict(book.written)
    result.claimed_exercises = [
        Exercise(shown(each.exercise), points, points if each.passed else 0)
        for each in manifest.exercises[:1000]
        if 0 <= (points := float(each.points)) <= 1000
    ]


def _run_exercises(
    result: Graded, opened: SubmittedZip, notebooks: Sequence[NotebookResult], task: Task
) -> None:
    assert task.exercises is not None
    names = [book.name for book in notebooks if not book.problem]
    result.exercises, said = autograde(opened, names, task.exercises, task.exercise_seconds)
    result.findings += said
    claimed = sum(each.reached for each in result.claimed_exercises)
    measured = sum(each.reached for each in result.exercises)
    if claimed > measured:
        result.findings.append(
            f"The manifest claims {claimed:g} points for exercises; run again, they have "
            f"{measured:g}."
        )
