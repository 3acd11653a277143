"""Schedules against values worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from labkit.config import KLConfig, TeacherForcingConfig, TrainingConfig
from labkit.learning import kl_weight, learning_rate, teacher_forcing_ratio
from labkit.presets import COURSE, REPORT


# 300 epochs, 3 cycles of 100, each a ramp over the first 100 / 2 = 50 epochs.
@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0.0),
        (1, 0.02),
        (25, 0.5),
        (49, 0.98),
        (50, 1.0),
        (99, 1.0),
        (100, 0.0),
        (125, 0.5),
        (199, 1.0),
        (200, 0.0),
        (299, 1.0),
    ],
)
def test_cyclical_weight_of_the_course(epoch, expected) -> None:
    assert kl_weight(epoch, 300, COURSE.kl) == pytest.approx(expected, abs=1e-12)


# 300 epochs, 4 cycles of 75, each a ramp over the first 37.5 epochs.
@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0.0),
        (15, 0.4),
        (37, 37 / 37.5),
        (38, 1.0),
        (74, 1.0),
        (75, 0.0),
        (90, 0.4),
        (150, 0.0),
        (225, 0.0),
        (240, 0.4),
        (299, 1.0),
    ],
)
def test_cyclical_weight_of_the_report(epoch, expected) -> None:
    assert kl_weight(epoch, 300, REPORT.kl) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.0), (15, 0.1), (75, 0.5), (150, 1.0), (151, 1.0), (299, 1.0)]
)
def test_monotonic_weight_climbs_once_over_the_first_half(epoch, expected) -> None:
    for cycles in (3, 4):
        config = KLConfig(schedule="monotonic", cycles=cycles, ratio=2.0)
        assert kl_weight(epoch, 300, config) == pytest.approx(expected, abs=1e-12)


def test_constant_weight_and_maximum() -> None:
    config = KLConfig(schedule="constant", max_weight=0.25)
    assert {kl_weight(epoch, 300, config) for epoch in range(300)} == {0.25}
    cyclical = dataclasses.replace(COURSE.kl, max_weight=0.25)
    weights = [kl_weight(epoch, 300, cyclical) for epoch in range(300)]
    assert min(weights) == 0
    assert max(weights) == 0.25


def test_teacher_forcing_of_the_course() -> None:
    """1.0, and 0.01 less each epoch from epoch 0 on: 0 at epoch 100, and never below."""
    ratios = [teacher_forcing_ratio(epoch, COURSE.teacher_forcing) for epoch in range(300)]
    assert ratios[:3] == pytest.approx([1.0, 0.99, 0.98])
    assert ratios[50] == pytest.approx(0.5)
    assert ratios[99] == pytest.approx(0.01)
    assert set(ratios[101:]) == {0.0}


def test_teacher_forcing_starts_late_and_never_passes_its_bound() -> None:
    """The step of 0.3 does not divide the way to the bound: 1.0, 0.7, 0.4, then 0.2, not 0.1."""
    config = TeacherForcingConfig(start=1.0, decay_start=2, decay_step=0.3, lower_bound=0.2)
    ratios = [teacher_forcing_ratio(epoch, config) for epoch in range(8)]
    assert ratios == pytest.approx([1.0, 1.0, 1.0, 0.7, 0.4, 0.2, 0.2, 0.2])


def test_learning_rate() -> None:
    constant = TrainingConfig(learning_rate=0.002)
    assert {learning_rate(p / 10, constant) for p in range(11)} == {0.002}
    cosine = TrainingConfig(learning_rate=1.0, learning_rate_schedule="cosine")
    points = [learning_rate(p, cosine) for p in (0.0, 0.01, 0.02, 0.51, 1.0)]
    assert points == pytest.approx([0.1, 0.55, 1.0, 0.505, 0.01])
