"""The coursework: rules, hand out, check, hand in and grade; the exercises' checks."""

from __future__ import annotations

from typing import Any

__all__ = ["progress"]


def progress(*notebooks: str, **options: Any) -> Any:
    """A table of the exercises that pass, from a cell: `labkit.course.progress()`. It reads the
    notebooks as they are saved. `labkit.course.student_check.progress` has the options."""
    from labkit.course.student_check import progress as check

    return check(notebooks, **options)
