"""`grades.csv`: one row a submission. Points that a person gives are empty columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from labkit.course.grade_submission import PSNR, Graded, decibels
from labkit.course.rules import Rules

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""


def grades_csv(results: Sequence[Graded], counts: Mapping[str, bool], rules: Rules) -> bytes:
    """The table in UTF-8 with a byte-order mark, without which Excel does not read Chinese names.
    `docs/course.md` describes the columns.

    Args:
        results: of all submissions, in the table's order.
        counts: by file, whether it is the submission of its student that counts.
        rules: the course's.
    """
    parts = [part for section in rules.report for part in section.parts]
    head = ["student_id", "name", "file", "counts", "problem", "run"]
    head += ["psnr_measured_db", "psnr_low_db", "psnr_high_db", "psnr_claimed_db"]
    head += ["leak_proof", "latest_condition", "psnr_share_percent"]
    for part in (*parts, *rules.demo, *rules.extras):
        extra = "extra " if part in rules.extras else ""
        head.append(f"{extra}{part.key} (of {part.points:g})")
    head += ["exercises_claimed", "exercises_run", "exercises_of"]
    head += ["missing_points", "missing", "findings"]
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\r\n")
    table.writerow(head)
    for result in results:
        table.writerow(map(_cell, _row(result, counts[result.file], rules, len(parts))))
    return buffer.getvalue().encode("utf-8-sig", "backslashreplace")


def _row(result: Graded, counts: bool, rules: Rules, of_report: int) -> list[object]:
    best, share = result.best, result.psnr_share(rules)
    row: list[object] = [result.student_id, result.name, result.file]
    row += ["yes" if counts else "no", result.problem]
    low, high = (best and best.interval) or (None, None)
    row += [best and best.name, decibels(best and best.measured), decibels(low), decibels(high)]
    row += [decibels(best and best.claimed), best and best.proof, best and best.convention, share]
    row += [None] * of_report
    row += [
        part.points * share / 100 if part.key == PSNR and share is not None else None
        for part in rules.demo
    ]
    row += [None] * len(rules.extras)
    exercises = result.claimed_exercises if result.exercises is None else result.exercises
    row.append(sum(each.reached for each in result.claimed_exercises))
    row.append(None if result.exercises is None else sum(e.reached for e in result.exercises))
    row.append(sum(each.points for each in exercises))
    lost = {each.where: each.points for each in result.missing}
    row += [sum(lost.values()), "; ".join(each.text(rules) for each in result.missing)]
    row.append(" ".join(result.findings))
    return row


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        plain = " ".join(value.split())
        number = plain.replace(".", "", 1).removeprefix("-").isdecimal()
        return f"'{plain}" if plain.startswith(FORMULA) and not number else plain
    return value
