"""The commands `handout` and `check` of the coursework."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import quoted


@dataclass(frozen=True)
class Handout:
    """Write the students' edition of the notebooks, and a tree for nbgrader.

    OUT/student has no solutions: give it to the students. OUT/nbgrader has the solutions: keep it.
    docs/course.md describes the course's year.
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """a new or empty folder"""
    language: Literal["en", "zh-TW"] = "en"
    """language of the report template and the README; the notebooks are in English"""
    rules: Annotated[Path | None, arg(metavar="FILE")] = None
    """the course's rules, a changed copy of labkit/course/course.toml; the coursework's if left
    out"""
    notebooks: Annotated[Path | None, arg(metavar="DIR")] = None
    """folder of the notebooks with solutions; those of the lab if left out"""

    def run(self) -> None:
        from labkit.course.handout import NOTEBOOKS, hand_out

        done = hand_out(
            self.out,
            language=self.language,
            rules_file=self.rules,
            notebooks=self.notebooks or NOTEBOOKS,
        )
        print(
            f"{quoted(done.out)}: {len(done.notebooks)} notebooks, {done.exercises} exercises, "
            f"{done.points:g} points"
        )
        print(f"for the students: {quoted(done.out / 'student')}")
        print(f"with solutions, for nbgrader: {quoted(done.out / 'nbgrader')}")


@dataclass(frozen=True)
class CheckExercises:
    """Check the exercises of notebooks, each in a kernel of its own.

    Only the cells that an exercise needs are run. The notebooks are read as they are saved, and are
    not changed. The exit code is 1 where an exercise does not pass.
    """

    notebooks: Annotated[Positional[tuple[Path, ...]], arg(metavar="NOTEBOOK")] = ()
    """notebooks; those of the current folder if left out"""
    seconds: Annotated[float, arg(metavar="S")] = 120.0
    """time limit of one cell"""
    rules: Annotated[Path | None, arg(metavar="FILE")] = None
    """the course's rules; course.toml beside the notebooks if left out and there is one"""

    def run(self) -> int:
        from labkit.course.student_check import check_notebooks

        results = check_notebooks(self.notebooks, seconds=self.seconds, rules_file=self.rules)
        print(results)
        return 0 if results.passed else 1
