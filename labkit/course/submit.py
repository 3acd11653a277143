"""`labkit submit`: a student's notebooks, runs and report as one zip.

Layout of the zip:

    manifest.json
    report.md, report.pdf
    report_files/       pictures that the report shows
    source/             notebooks as executed, and their code as .py
    html/               notebooks as pages that need no network
    runs/NAME/          config, weights, history, evaluation, certificate, pictures, strips/, gifs/

The same inputs give the same bytes, unless an output of a notebook is different each time, such as
a measured time. No file of the student's is changed.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from labkit.course.manifest import (
    MANIFEST,
    ExerciseRecord,
    Manifest,
    NotebookRecord,
    machine,
    sha256,
    versions,
)
from labkit.course.report_pdf import check_installed, report_pdf
from labkit.course.rules import DEFAULT, LANGUAGES, Rules, checked_name, course_protocol
from labkit.course.student_check import SECONDS as SECONDS_A_CHECK
from labkit.course.student_check import Result, check_notebooks, has_exercises
from labkit.course.submit_blocks import blocks_of
from labkit.course.submit_missing import Missing, missing_of
from labkit.course.submit_notebooks import (
    SECONDS_A_CELL,
    Notebook,
    execute,
    read_notebook,
    to_page,
)
from labkit.course.submit_report import Filled, Report, filled, language_of, read_report
from labkit.course.submit_runs import StudentRun, names_of, student_run
from labkit.errors import LabkitError
from labkit.files import write_whole

REPORT = "report.md"
RULES = "course.toml"
"""the rules of a handed-out folder, beside its notebooks"""
STORED = (".png", ".gif", ".jpg", ".jpeg", ".webp", ".pdf", ".safetensors", ".npz")
"""endings of files that hardly get smaller in a zip"""
STAGES = 3
"""of the progress bar after the notebooks and the runs: exercises, report, zip"""


@dataclass(frozen=True)
class Submission:
    """What was made."""

    file: Path
    """the zip"""
    missing: tuple[Missing, ...]
    """the most points first"""
    notebooks: int
    runs: int
    size: int
    """bytes of the zip; 0 where it was only checked"""


@dataclass(frozen=True)
class _Inputs:
    """Everything that can be read before the long work begins."""

    rules: Rules
    rules_file: Path
    books: tuple[Path, ...]
    report: Report | None
    out: Path


def submit(
    student_id: str,
    name: str,
    *,
    runs: Sequence[Path] = (),
    notebooks: Sequence[Path] = (Path(),),
    report: Path | None = None,
    language: str | None = None,
    rules_file: Path | None = None,
    out: Path | None = None,
    check_only: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    seconds: float = SECONDS_A_CELL,
    progress: bool = True,
) -> Submission:
    """Makes a student's submission, and says what it lacks. Nothing is written before everything is
    made; a cell that fails is named and does not stop the others.

    Args:
        student_id, name: of the student; the rules say which form they have.
        runs: folders of the runs to hand in, in the order in which the report shows them.
        notebooks: files, or folders whose notebooks such as 01_name.ipynb are taken.
        report: the report's Markdown; report.md beside the notebooks if None.
        language: en or zh-TW, of what is put into the report; the report's own if None.
        rules_file: the course's rules; course.toml beside the notebooks if None and there is one.
        out: folder of the zip; the current one if None.
        check_only: do everything except writing the zip.
        overwrite: replace a zip of that name.
        device: where the leak proof is computed.
        seconds: time limit of a notebook's cell.
        progress: show a bar.

    Raises:
        LabkitError: the student id or the name has not the right form, the zip is already there, a
            notebook, a run or the report is not there or cannot be read, or the zip cannot be
            written.
    """
    if not seconds > 0:
        raise LabkitError(f"the time limit is {seconds:g} seconds", hint="give more than 0")
    if language is not None and language not in LANGUAGES:
        raise LabkitError(f"no language {language!r}", hint=f"there are: {', '.join(LANGUAGES)}")
    check_installed()
    inputs = _read(student_id, name, notebooks, report, rules_file, out, check_only, overwrite)
    bar = _Bar(inputs.books, len(runs), progress)
    try:
        handed_in = _runs(runs, inputs.rules, device, bar, progress)
        executed = [_executed(file, seconds, bar) for file in inputs.books]
        exercises = _checked(inputs, seconds, bar)
        bar.now("the report")
        shown, pdf, notes = _report(inputs, handed_in, student_id, name, language)
        missing = missing_of(inputs.rules, inputs.report, handed_in, executed, exercises, notes)
        bar.done()
        if check_only:
            return Submission(inputs.out, tuple(missing), len(executed), len(handed_in), 0)
        bar.now("the zip")
        files = _files(handed_in, executed, shown, pdf)
        manifest = _manifest(
            inputs, student_id, name, handed_in, executed, exercises, missing, files
        )
        data = zip_of({MANIFEST: manifest.to_json().encode(), **files})
        _refuse_existing(inputs.out, overwrite)  # the notebooks may have taken an hour
        write_whole(inputs.out, data)
        bar.done()
    finally:
        bar.close()
    return Submission(inputs.out, tuple(missing), len(executed), len(handed_in), len(data))


class _Bar:
    """One bar over the runs, the notebooks' cells, the exercises, the report and the zip."""

    def __init__(self, books: Sequence[Path], runs: int, progress: bool) -> None:
        self.cells = {file: len(read_notebook(file).cells) for file in books}
        total = sum(self.cells.values()) + runs + STAGES
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}]"
        self.bar = tqdm(
            total=total, disable=not progress, unit="step", bar_format=form, dynamic_ncols=True
        )

    def now(self, what: str) -> None:
        self.bar.set_description(what)

    def done(self, steps: int = 1) -> None:
        self.bar.update(steps)

    def close(self) -> None:
        self.bar.close()


# -------------------------------------------------------------------------- reading


def _read(
    student_id: str,
    name: str,
    notebooks: Sequence[Path],
    report: Path | None,
    rules_file: Path | None,
    out: Path | None,
    check_only: bool,
    overwrite: bool,
) -> _Inputs:
    books = _books(notebooks)
    folder = books[0].parent
    beside = folder / RULES
    rules_file = rules_file or (beside if beside.is_file() else DEFAULT)
    rules = Rules.load(rules_file)
    file = (out or Path()) / rules.zip_name(student_id, name)
    if out is not None and out.exists() and not out.is_dir():
        raise LabkitError("is a file", file=out, hint="--out is the folder of the zip")
    if not check_only:
        _refuse_existing(file, overwrite)
    place = report or folder / REPORT
    if place.is_file():
        return _Inputs(rules, rules_file, books, read_report(place), file)
    if report is not None or not check_only:
        hint = "give it with --report FILE.md; labkit handout writes an empty one"
        raise LabkitError("there is no such report", file=place, hint=hint)
    return _Inputs(rules, rules_file, books, None, file)


def _books(places: Sequence[Path]) -> tuple[Path, ...]:
    """The notebooks' files; each can be read, and no two have one name."""
    found: list[Path] = []
    for place in places:
        here = sorted(place.glob("[0-9][0-9]_*.ipynb")) if place.is_dir() else [place]
        if not here:
            hint = "change to the folder of your notebooks, or give --notebooks"
            raise LabkitError("has no notebooks such as 01_name.ipynb", file=place, hint=hint)
        found += [file for file in here if file not in found]
    for number, file in enumerate(found):
        if file.suffix != ".ipynb":
            raise LabkitError("is no notebook", file=file, hint="its name must end in .ipynb")
        read_notebook(file)
        if file.name in [each.name for each in found[:number]]:
            hint = "in a submission each notebook has another name"
            raise LabkitError(f"there are two notebooks {file.name}", file=file, hint=hint)
    return tuple(found)


def _refuse_existing(file: Path, overwrite: bool) -> None:
    if file.exists() and not overwrite:
        hint = "move it away, or give --overwrite"
        raise LabkitError("is already there", file=file, hint=hint)


# --------------------------------------------------------------------------- making


def _runs(
    folders: Sequence[Path], rules: Rules, device: str, bar: _Bar, progress: bool
) -> list[StudentRun]:
    protocol = course_protocol(rules)
    unlike = list({folder.resolve(): folder for folder in folders}.values())
    made = []
    for folder, name in zip(unlike, names_of(unlike), strict=True):
        bar.now(f"run {name}")
        made.append(student_run(folder, name, protocol=protocol, device=device, progress=progress))
        bar.done()
    return made


def _executed(file: Path, seconds: float, bar: _Bar) -> Notebook:
    """A notebook after its execution. The bar moves by all of its cells, also where it ends
    early."""
    bar.now(file.name)
    reached = 0

    def cell_done(done: int, of: int) -> None:
        nonlocal reached
        bar.done(done - reached)
        reached = done

    book = execute(file, seconds=seconds, cell_done=cell_done)
    bar.done(bar.cells[file] - reached)
    return book


def _checked(inputs: _Inputs, seconds: float, bar: _Bar) -> list[Result]:
    bar.now("the exercises")
    books = [file for file in inputs.books if has_exercises(file)]
    limit = min(seconds, SECONDS_A_CHECK)
    results = check_notebooks(books, seconds=limit, rules_file=inputs.rules_file) if books else []
    bar.done()
    return list(results)


def _report(
    inputs: _Inputs,
    runs: Sequence[StudentRun],
    student_id: str,
    name: str,
    language: str | None,
) -> tuple[Filled, bytes, tuple[str, ...]]:
    """The filled report, its PDF, and what the PDF lacks."""
    if inputs.report is None:
        return Filled(""), b"", ()
    rules = inputs.rules
    language = language or language_of(inputs.report, rules)
    blocks = blocks_of(runs, rules, language)
    shown = filled(inputs.report, blocks.texts, blocks.pictures)
    title = rules.title.in_(language)
    pdf = report_pdf(
        _without_title(shown.text, title),
        inputs.report.folder,
        title=title,
        author=f"{checked_name(name)} · {student_id}",
        language=language,
        pictures=shown.pictures,
    )
    return shown, pdf.data, pdf.notes


def _without_title(text: str, title: str) -> str:
    """Without a first heading that is the title, which the PDF shows above it."""
    return re.sub(rf"\A\s*#[ \t]+{re.escape(title)}[ \t]*\r?\n", "", text)


def _files(
    runs: Sequence[StudentRun], notebooks: Sequence[Notebook], shown: Filled, pdf: bytes
) -> dict[str, bytes]:
    """Every file of the zip but the manifest, by its name there."""
    files = {"report.md": shown.text.encode(), "report.pdf": pdf, **shown.pictures}
    for book in notebooks:
        page = to_page(book.notebook, book.stem, book.file.parent)
        files[f"source/{book.stem}.ipynb"] = book.to_json().encode()
        files[f"source/{book.stem}.py"] = book.to_python().encode()
        files[f"html/{book.stem}.html"] = page.encode("utf-8", "backslashreplace")
    for run in runs:
        files |= {f"runs/{run.name}/{name}": data for name, data in run.files.items()}
    return dict(sorted(files.items()))


def _manifest(
    inputs: _Inputs,
    student_id: str,
    name: str,
    runs: Sequence[StudentRun],
    notebooks: Sequence[Notebook],
    exercises: Sequence[Result],
    missing: Sequence[Missing],
    files: Mapping[str, bytes],
) -> Manifest:
    digests = {file: sha256(data) for file, data in files.items()}
    return Manifest(
        student_id=student_id,
        name=checked_name(name),
        versions=versions(),
        machine=machine(),
        runs=tuple(run.record for run in runs),
        notebooks=tuple(
            NotebookRecord(file, digests[file], book.problem)
            for book in notebooks
            for file in (f"source/{book.stem}.ipynb",)
        ),
        exercises=tuple(
            ExerciseRecord(each.exercise, each.points, each.passed, each.what) for each in exercises
        ),
        missing=tuple(map(str, missing)),
        files=digests,
        rules=sha256(inputs.rules_file.read_bytes()),
    )


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """A zip of some files, in their order. The same files give the same bytes: it has no time and
    no owner."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o100644 << 16
            stored = name.lower().endswith(STORED)
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data, compresslevel=None if stored else 9)
    return buffer.getvalue()
