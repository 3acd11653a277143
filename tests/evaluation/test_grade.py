"""The course's table, as its specification has it."""

from __future__ import annotations

import pytest

from labkit.evaluation.protocol import grade


@pytest.mark.parametrize(
    ("psnr", "share"),
    [
        (100.0, 100),
        (25.0, 100),
        (24.999, 90),
        (24.0, 90),
        (23.5, 80),
        (22.0, 70),
        (21.0, 60),
        (20.0, 50),
        (19.999, 0),
        (float("nan"), 0),
    ],
)
def test_a_bound_belongs_to_its_grade(psnr: float, share: int) -> None:
    assert grade(psnr) == share
