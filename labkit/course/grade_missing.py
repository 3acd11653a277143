"""What the rules ask for and a submission lacks, found in the zip itself. What its manifest says is
missing is not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.course.grade_notebooks import NotebookResult
from labkit.course.grade_run import RunResult
from labkit.course.grade_zip import SubmittedZip
from labkit.course.handed_out import HandedOut
from labkit.course.rules import Part, Rules
from labkit.course.submit_report import Report, has_formula, own_words, shows
from labkit.errors import LabkitError

MOST_REPORT = 4_000_000
"""bytes of a report that is read"""
SCHEDULES = ("monotonic", "cyclical")
PICTURES = (".png", ".jpg", ".jpeg", ".svg")

WORDS = {
    "en": {
        "report": "there is no report.md that can be read",
        "pdf": "there is no report.pdf",
        "source": "there are no notebooks",
        "text": "it has no text",
        "derivation": "it has no equation",
        "gif": "there is no GIF of a test clip",
        "strip": "there is no prediction at each time step",
        "curves": "there are no curves of a training",
        "monotonic": "there is no run with monotonic KL annealing",
        "cyclical": "there is no run with cyclical KL annealing",
        "certificate": "there is no certificate of the leak proof",
        "run": "there is no run whose PSNR can be measured",
        "notebook": "there is no such notebook",
        "unreadable": "the notebook cannot be read",
        "unwritten": "it is not written",
    },
    "zh-TW": {
        "report": "沒有可讀取的 report.md",
        "pdf": "沒有 report.pdf",
        "source": "沒有 notebook",
        "text": "沒有文字說明",
        "derivation": "沒有算式",
        "gif": "沒有測試影片的 GIF",
        "strip": "沒有每個時間點的預測畫面",
        "curves": "沒有訓練曲線",
        "monotonic": "沒有單調式 KL 退火的訓練",
        "cyclical": "沒有循環式 KL 退火的訓練",
        "certificate": "沒有未來畫面洩漏檢驗的證明",
        "run": "沒有可以測得 PSNR 的訓練",
        "notebook": "沒有這個 notebook",
        "unreadable": "notebook 無法讀取",
        "unwritten": "尚未作答",
    },
}
"""by language: what is missing, by its key"""


@dataclass(frozen=True)
class Lack:
    """One thing that is missing."""

    where: str
    """key of a part of the rules; "notebook NAME", "exercise NAME", or "files" """
    what: str
    """of WORDS"""
    points: float
    """of the part or the exercises: as many as it can cost"""

    def text(self, rules: Rules, language: str = "en") -> str:
        """The lack as a sentence without a full stop."""
        parts = {part.key: part.title for part in rules.parts}
        where = parts[self.where].in_(language) if self.where in parts else self.where
        return f"{where}: {WORDS[language][self.what]}"


@dataclass(frozen=True)
class SubmittedReport:
    """The report's parts, without what `labkit submit` wrote. None where it cannot be read."""

    parts: Mapping[str, str] | None

    @staticmethod
    def read(opened: SubmittedZip) -> SubmittedReport:
        """Reads report.md."""
        try:
            text = opened.read("report.md", MOST_REPORT).decode("utf-8-sig")
            return SubmittedReport(Report(Path("report.md"), text).parts())
        except (LabkitError, UnicodeDecodeError):
            return SubmittedReport(None)

    def words(self, part: Part) -> str:
        """The student's own words in a part."""
        return own_words((self.parts or {}).get(part.key, ""), part)


def missing_of(
    rules: Rules,
    opened: SubmittedZip,
    report: SubmittedReport,
    runs: Sequence[RunResult],
    notebooks: Sequence[NotebookResult],
    handed: HandedOut,
) -> list[Lack]:
    """What is missing, the most points first.

    Args:
        rules: the course's.
        opened: the zip.
        report: its report.
        runs: those that were measured, and those that could not be.
        notebooks: those that are there.
        handed: which notebooks and exercises were handed out.
    """
    there = _There(opened, runs)
    found = []
    for part in (part for section in rules.report for part in section.parts):
        found += [Lack(part.key, what, part.points) for what in _of(part, report, there)]
    for part in rules.demo:
        if part.key == "psnr" and not any(run.measured is not None for run in runs):
            found.append(Lack(part.key, "run", part.points))
        needs = [need for need in part.needs if need not in ("text", "derivation")]
        for need in needs:
            found += [Lack(part.key, what, part.points) for what in there.lacks(need, "")]
    for part in rules.extras:  # nobody has to do an extra
        if report.words(part):
            found += [Lack(part.key, what, part.points) for what in _of(part, report, there)]
    found += _of_notebooks(notebooks, handed)
    if not opened.start("report.pdf").startswith(b"%PDF"):
        found.append(Lack("files", "pdf", 0))
    if not notebooks and not handed.notebooks:
        found.append(Lack("files", "source", 0))
    return sorted(found, key=lambda each: -each.points)


def _of(part: Part, report: SubmittedReport, there: _There) -> list[str]:
    """Keys of WORDS: what a part of the report lacks."""
    text = (report.parts or {}).get(part.key, "")
    found = []
    for need in part.needs:
        if need in ("text", "derivation") and report.parts is None:
            found.append("report")
        elif need == "text":
            found += [] if report.words(part) else ["text"]
        elif need == "derivation":
            found += [] if has_formula(text) else ["derivation"]
        else:
            found += there.lacks(need, text)
    return list(dict.fromkeys(found))


class _There:
    """The pictures, certificates and schedules of a submission. A picture counts by its first
    bytes, not by its name."""

    def __init__(self, opened: SubmittedZip, runs: Sequence[RunResult]) -> None:
        names = [name for name in opened.entries if name.startswith("runs/")]
        gifs = [name for name in names if "/gifs/" in name]
        strips = [name for name in names if "/strips/" in name]
        curves = [name for name in names if name.endswith("/curves.png")]
        self.gif = any(opened.start(name).startswith(b"GIF8") for name in gifs)
        self.strip = any(opened.start(name).startswith(b"\x89PNG") for name in strips)
        self.curves = any(opened.start(name).startswith(b"\x89PNG") for name in curves)
        self.certificate = any(name.endswith("/certificate.json") for name in names)
        own = [name for name in opened.entries if name.startswith("report_files/own_")]
        self.own = {name: opened.start(name) for name in own}
        schedules = [run.settings.get("kl", {}).get("schedule") for run in runs if run.settings]
        self.schedules = set(schedules)

    def lacks(self, need: str, text: str) -> list[str]:
        """Keys of WORDS: what is missing of a need. The student's own picture in the text of the
        part counts too."""
        own_gif = shows(text, ".gif") and any(b.startswith(b"GIF8") for b in self.own.values())
        own = shows(text, *PICTURES) and any(not b.startswith(b"GIF8") for b in self.own.values())
        match need:
            case "gif":
                return [] if self.gif or own_gif else ["gif"]
            case "strip":
                return [] if self.strip or own else ["strip"]
            case "curves":
                return [] if self.curves or own else ["curves"]
            case "two_schedules":
                return [each for each in SCHEDULES if each not in self.schedules]
            case "certificate":
                return [] if self.certificate else ["certificate"]
        return []


def _of_notebooks(notebooks: Sequence[NotebookResult], handed: HandedOut) -> list[Lack]:
    found = []
    there = {book.name: book for book in notebooks}
    for name, given in handed.notebooks.items():
        points = sum(given.points.values())
        book = there.get(name)
        if book is None:
            found.append(Lack(f"notebook {name}", "notebook", points))
        elif book.problem:
            found.append(Lack(f"notebook {name}", "unreadable", points))
        else:
            for grade_id in given.solutions:
                if grade_id not in book.written:
                    worth = given.points.get(grade_id, 0)
                    found.append(Lack(f"exercise {grade_id}", "unwritten", worth))
    return found
