"""The command `submit` of the coursework."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import UseAppendAction, arg

from labkit.cli.options import Device, Threads, quoted, use
from labkit.cli.reading import Flag

if TYPE_CHECKING:
    from labkit.course.submit_missing import Missing


@dataclass(frozen=True)
class Submit:
    """Make the zip to hand in: executed notebooks, runs, and the report as PDF with their figures.

    The notebooks are executed in a new kernel each, their exercises are checked, and the leak proof
    is run on the weights of each run. The report is report.md with figures, tables and GIFs of the
    runs in it; your words stay as they are, and none are written for you. Then everything that the
    course asks for and that is missing is listed, what costs most points first. Your own files are
    not changed.

    For instance: labkit submit --student-id 0856123 --name "Ming Wang" --run runs/cyclical
    --run runs/monotonic
    """

    student_id: Annotated[str, arg(metavar="ID")]
    """your student id"""
    name: Annotated[str, arg(metavar="NAME")]
    """your name, in quotes if it has spaces; also in Chinese letters"""
    runs: Annotated[
        UseAppendAction[tuple[tuple[Path, ...], ...]], arg(metavar="RUN", name="run")
    ] = ()
    """folders of the runs to hand in, the best one first; may be given several times"""
    notebooks: Annotated[tuple[Path, ...], arg(metavar="NOTEBOOK")] = (Path(),)
    """notebooks, or a folder of notebooks such as 01_name.ipynb; the current folder if left out"""
    report: Annotated[Path | None, arg(metavar="FILE.md")] = None
    """the report; report.md beside the notebooks if left out"""
    language: Annotated[Literal["en", "zh-TW"] | None, arg(metavar="en|zh-TW")] = None
    """language of what is put into the report; the report's own if left out"""
    rules: Annotated[Path | None, arg(metavar="FILE")] = None
    """the course's rules; course.toml beside the notebooks if left out and there is one"""
    out: Annotated[Path, arg(metavar="DIR")] = Path()
    """folder of the zip"""
    check_only: Flag = False
    """do everything, list what is missing, and write nothing; the exit code is 1 if something is
    missing"""
    overwrite: Flag = False
    """replace a zip that is already there"""
    seconds: Annotated[float, arg(metavar="S")] = 600.0
    """time limit of one cell of a notebook"""
    device: Device = None
    """where the leak proof is computed: cpu, cuda or mps; a GPU if there is one and this is left
    out"""
    threads: Threads = None
    """threads of the CPU; torch's own choice if left out"""
    progress: Flag = True
    """show no progress bar"""

    interrupted = "interrupted; nothing was written"

    def run(self) -> int:
        from labkit.course.submit import submit
        from labkit.data.download.transfer import size_text

        device = use(self.device, self.threads)
        made = submit(
            self.student_id,
            self.name,
            runs=[folder for folders in self.runs for folder in folders],
            notebooks=self.notebooks,
            report=self.report,
            language=self.language,
            rules_file=self.rules,
            out=self.out,
            check_only=self.check_only,
            overwrite=self.overwrite,
            device=device,
            seconds=self.seconds,
            progress=self.progress,
        )
        print(_listed(made.missing))
        if self.check_only:
            print(f"nothing was written; without --check-only it is {quoted(made.file)}")
            return 1 if made.missing else 0
        counts = f"{_count(made.notebooks, 'notebook')}, {_count(made.runs, 'run')}"
        print(f"{quoted(made.file)} is written: {size_text(made.size)}, {counts}")
        return 0


def _listed(missing: Sequence[Missing]) -> str:
    """What is missing, one a line, after the points that it can cost."""
    if not missing:
        return "nothing is missing that labkit submit looks for"
    lines = ["what is missing, and the points that it can cost:"]
    for each in missing:
        points = f"{each.points:g}" if each.points else "-"
        lines += textwrap.wrap(
            str(each),
            100,
            initial_indent=f"{points:>6}  ",
            subsequent_indent=" " * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
