"""The command `labkit grade`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import Device, cores, quoted, use, wrapped
from labkit.cli.reading import Flag

NO_SANDBOX = (
    "--run-exercises runs the students' code on this machine with your rights. Time, memory and "
    "the size of files are limited, but this is no sandbox: the code can read your files and use "
    "the network. Do it in a container or on a machine without anything of value."
)


@dataclass(frozen=True)
class Grade:
    """Grade the submissions in a folder: grades.csv, a page for you, a page for each student.

    Every zip of FOLDER and of the folders in it is graded, and no code of it is run: the manifest's
    digests are checked, the weights are evaluated by the course's protocol and proved not to read
    future frames, and what is missing is listed. A zip that cannot be graded says why and does not
    stop the others; the exit code is 0. The same command goes on where it was stopped.

    Points of the report, of the demo's questions and of the extras are empty columns of grades.csv.
    """

    zips: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """folder of the zips that the students handed in"""
    data: Annotated[Path, arg(metavar="ROOT")]
    """folder of the data set with the course's test clips"""
    split: str = "test"
    """split of the test clips"""
    out: Annotated[Path, arg(metavar="DIR")] = Path("grades")
    """folder of the grades"""
    rules: Annotated[Path | None, arg(metavar="FILE")] = None
    """the course's rules; the coursework's if left out"""
    language: Literal["en", "zh-TW"] = "en"
    """language of the students' pages"""
    clips: Annotated[int | None, arg(metavar="N")] = None
    """evaluate only on the first N clips"""
    workers: Annotated[int | None, arg(metavar="N")] = None
    """submissions graded at once, each by one thread; one per core if left out,
    two on a GPU"""
    minutes: Annotated[float, arg(metavar="M")] = 60
    """time limit of one submission; as much again where its exercises are run"""
    gigabytes: Annotated[float, arg(metavar="GB")] = 8
    """limit of one submission's memory; not on a GPU"""
    device: Device = None
    """cpu, cuda or mps; a GPU if there is one and this is left out"""
    notebooks: Annotated[Path | None, arg(metavar="DIR")] = None
    """folder of the notebooks with solutions; those of the lab if left out"""
    run_exercises: Flag = False
    """run the students' notebooks by nbgrader's autograde, for the points of the exercises. This is
    no sandbox"""
    progress: Flag = True
    """show no progress bar"""

    interrupted = "interrupted; the same command goes on"

    def run(self) -> None:
        from labkit.course.grade import grade
        from labkit.course.grade_run import TestData
        from labkit.course.handout import NOTEBOOKS

        if self.run_exercises:
            print(wrapped(NO_SANDBOX), flush=True)
        words = ["labkit", "grade", self.zips.as_posix(), "--data", self.data.as_posix()]
        words += ["--split", self.split] if self.split != "test" else []
        words += ["--out", self.out.as_posix()] if self.out != Path("grades") else []
        words += ["--rules", str(self.rules)] if self.rules is not None else []
        words += ["--clips", str(self.clips)] if self.clips is not None else []
        words += ["--run-exercises"] if self.run_exercises else []
        device = use(self.device, None)
        done = grade(
            self.zips,
            TestData(self.data, self.split, self.clips, device),
            out=self.out,
            rules_file=self.rules,
            language=self.language,
            workers=2 if self.workers is None and device != "cpu" else cores(self.workers),
            minutes=self.minutes,
            gigabytes=self.gigabytes,
            notebooks=self.notebooks or NOTEBOOKS,
            run_exercises=self.run_exercises,
            command=shlex.join(words),
            progress=self.progress,
        )
        graded = len(done.results) - done.failed
        again = f", {done.reused} of them before" if done.reused else ""
        print(f"{graded} of {len(done.results)} submissions are graded{again}")
        for result in done.results:
            if result.problem:
                print(f"not graded: {result.file}: {result.problem}")
        print(f"look at {quoted(done.out / 'index.html')} and {quoted(done.out / 'grades.csv')}")
