"""Schedules against values worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.config import Config, KLConfig, TeacherForcingConfig, TrainingConfig
from labkit.presets import COURSE, DEMO, REPORT
from labkit.training import kl_weight, learning_rate, teacher_forcing_ratio
from labkit.training.schedules import position, ramp, schedule_at

SHAPES = ("linear", "sigmoid", "cosine")
DECAYS = ("constant", "linear", "exponential", "inverse_sigmoid")
fractions = st.floats(0, 1)


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


# 100 epochs, 3 cycles of 33 1/3, which begin with the epochs 0, 34 and 67; ramps of 16 2/3.
@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0),
        (1, 0.06),
        (17, 1),
        (33, 1),
        (34, 0),
        (35, 0.06),
        (51, 1),
        (66, 1),
        (67, 0),
        (68, 0.06),
    ],
)
def test_a_cycle_can_begin_with_a_whole_epoch(epoch, expected) -> None:
    config = KLConfig(schedule="cyclical", cycles=3, ratio=2.0, cycle_start="epoch")
    assert kl_weight(epoch, 100, config) == pytest.approx(expected, abs=1e-12)
    if expected == 0:
        assert kl_weight(epoch, 100, config) == 0
    exact = dataclasses.replace(config, cycle_start="exact")
    assert kl_weight(34, 100, exact) == pytest.approx(0.04)


@given(st.integers(1, 300), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.5]))
@settings(max_examples=100, deadline=None)
def test_the_first_epoch_of_every_cycle_has_exactly_weight_0(epochs, cycles, wait) -> None:
    config = KLConfig(schedule="cyclical", cycles=cycles, wait=wait, cycle_start="epoch")
    weights = [kl_weight(epoch, epochs, config) for epoch in range(epochs)]
    exact = [
        kl_weight(epoch, epochs, dataclasses.replace(config, cycle_start="exact"))
        for epoch in range(epochs)
    ]
    waited = wait * epochs
    period = (epochs - waited) / cycles
    for cycle in range(1, cycles):
        begin = math.ceil(waited + cycle * period - 1e-9)
        if begin < epochs:
            assert weights[begin] == 0
    assert all(0 <= new <= old + 1e-9 or old == 0 for new, old in zip(weights, exact, strict=True))
    if not wait and epochs % cycles == 0:
        assert weights == pytest.approx(exact)


def test_with_a_schedule_by_update_the_first_update_of_a_cycle_has_weight_0() -> None:
    training = TrainingConfig(epochs=10, updates_per_epoch=4, schedule_by="update")
    config = Config(kl=KLConfig(cycles=3, cycle_start="epoch"), training=training)
    weights = [schedule_at(update, config)["kl_weight"] for update in range(40)]
    assert [update for update, weight in enumerate(weights) if weight == 0] == [0, 16, 28]


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


# ----------------------------------------------------------------------- shapes of a KL ramp


# By hand: cosine (1 - cos 45 deg) / 2 = 0.146447; sigmoid 1/2 + tanh(-3/2) / (2 tanh 3)
# = 1/2 - 0.905148 / 1.990110 = 0.045177.
@pytest.mark.parametrize(
    ("shape", "quarter"), [("linear", 0.25), ("cosine", 0.146447), ("sigmoid", 0.045177)]
)
def test_ramps_by_hand(shape, quarter) -> None:
    points = [ramp(x, shape) for x in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert points == pytest.approx([0, quarter, 0.5, 1 - quarter, 1], abs=1e-6)


@given(st.sampled_from(SHAPES), fractions, fractions)
@settings(max_examples=100, deadline=None)
def test_a_ramp_climbs_from_0_to_1(shape, a, b) -> None:
    low, high = sorted((a, b))
    assert -1e-12 <= ramp(low, shape) <= ramp(high, shape) + 1e-12 <= 1 + 2e-12
    assert ramp(a, shape) + ramp(1 - a, shape) == pytest.approx(1)


# 80 epochs, 4 cycles of 20, each a ramp over the first 10.
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_same_cycles(shape) -> None:
    config = KLConfig(cycles=4, ratio=2.0, shape=shape, max_weight=0.5)
    for start in (0, 20, 40, 60):
        points = [kl_weight(start + i, 80, config) for i in (0, 5, 10, 19)]
        assert points == pytest.approx([0, 0.25, 0.5, 0.5], abs=1e-12)


schedules_of_beta = st.builds(
    KLConfig,
    schedule=st.sampled_from(["constant", "monotonic", "cyclical"]),
    max_weight=st.floats(0, 1000),
    cycles=st.integers(1, 20),
    ratio=st.floats(1, 100),
    shape=st.sampled_from(SHAPES),
)


@given(schedules_of_beta, st.integers(1, 1000), fractions)
@settings(max_examples=200, deadline=None)
def test_the_weight_stays_between_0_and_its_maximum(config, epochs, part) -> None:
    assert -1e-9 <= kl_weight(part * epochs, epochs, config) <= config.max_weight
    if config.schedule != "constant":
        assert kl_weight(0, epochs, config) == pytest.approx(0, abs=1e-9)


@given(schedules_of_beta, st.integers(1, 1000), fractions, fractions)
@settings(max_examples=200, deadline=None)
def test_the_weight_never_falls_but_at_a_new_cycle(config, epochs, a, b) -> None:
    early, late = sorted((a * epochs, b * epochs))
    period = epochs / (config.cycles if config.schedule == "cyclical" else 1)
    if late < epochs and early // period == late // period:
        slack = 1e-9 * (1 + config.max_weight)
        assert kl_weight(early, epochs, config) <= kl_weight(late, epochs, config) + slack


@pytest.mark.parametrize("epochs", [20, 300])
@pytest.mark.parametrize("cycles", range(1, 13))
def test_every_cycle_that_begins_with_an_epoch_begins_at_0(cycles, epochs) -> None:
    config = KLConfig("cyclical", cycles=cycles)
    starts = [epoch for epoch in range(epochs) if epoch * cycles % epochs == 0]
    assert [kl_weight(epoch, epochs, config) for epoch in starts] == [0.0] * len(starts)
    assert all(kl_weight(e, epochs, config) > 0 for e in set(range(epochs)) - set(starts))


# ------------------------------------------------------------------------- teacher forcing


def test_exponential_teacher_forcing_by_hand() -> None:
    """0.8 until epoch 2, then halved each epoch: 0.8, 0.4, 0.2, and the bound 0.15."""
    config = TeacherForcingConfig(
        0.8, 2, lower_bound=0.15, schedule="exponential", decay_factor=0.5
    )
    ratios = [teacher_forcing_ratio(epoch, config) for epoch in range(7)]
    assert ratios == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.2, 0.15, 0.15])


def test_inverse_sigmoid_teacher_forcing_by_hand() -> None:
    """k / (k + exp(i / k)) with k = 10: 10/11 at first, 1/2 at i = 10 ln 10 = 23.02585, and
    10 / (10 + e) = 0.786270 at i = 10. Far out it is 0, not an overflow."""
    config = TeacherForcingConfig(schedule="inverse_sigmoid", decay_constant=10.0)
    points = [teacher_forcing_ratio(i, config) for i in (0, 10, 10 * math.log(10), 1e6)]
    assert points == pytest.approx([10 / 11, 0.786270, 0.5, 0.0], abs=1e-6)


def test_constant_teacher_forcing_ignores_the_step() -> None:
    config = TeacherForcingConfig(0.7, decay_step=0.5, schedule="constant")
    assert {teacher_forcing_ratio(epoch, config) for epoch in range(9)} == {0.7}


@st.composite
def forcings(draw: st.DrawFn) -> TeacherForcingConfig:
    start = draw(fractions)
    return TeacherForcingConfig(
        start=start,
        decay_start=draw(st.integers(0, 50)),
        decay_step=draw(fractions),
        lower_bound=draw(st.floats(0, start)),
        schedule=draw(st.sampled_from(DECAYS)),
        decay_factor=draw(fractions),
        decay_constant=draw(st.floats(1, 1000)),
    )


@given(forcings(), st.floats(0, 1e5), st.floats(0, 1e5))
@settings(max_examples=300, deadline=None)
def test_the_ratio_never_rises_and_never_passes_its_bound(config, a, b) -> None:
    early, late = sorted((a, b))
    before, after = teacher_forcing_ratio(early, config), teacher_forcing_ratio(late, config)
    assert config.lower_bound <= after <= before <= config.start
    assert teacher_forcing_ratio(config.decay_start - 0.5, config) == config.start


# ------------------------------------------------------------------------- by epoch, by update


def moving(by: str) -> Config:
    """Four epochs of ten updates: beta climbs over two of them, the ratio falls by 0.2 each."""
    return Config(
        kl=KLConfig(schedule="monotonic"),
        teacher_forcing=TeacherForcingConfig(decay_step=0.2),
        training=TrainingConfig(epochs=4, updates_per_epoch=10, schedule_by=by),
    )


def test_by_epoch_the_schedules_stand_still_within_one() -> None:
    config = moving("epoch")
    assert [position(u, config.training) for u in (0, 9, 10, 39)] == [0, 0, 1, 3]
    assert schedule_at(0, config) == schedule_at(9, config)
    expected = {"kl_weight": 0.5, "teacher_forcing_ratio": 0.8, "learning_rate": 0.002}
    assert schedule_at(19, config) == pytest.approx(expected)


def test_by_update_they_move_on_with_lengths_still_in_epochs() -> None:
    config = moving("update")
    assert schedule_at(0, config) == schedule_at(0, moving("epoch"))
    expected = {"kl_weight": 0.25, "teacher_forcing_ratio": 0.9, "learning_rate": 0.002}
    assert schedule_at(5, config) == pytest.approx(expected)
    assert schedule_at(10, config) == schedule_at(10, moving("epoch"))
    weights = [schedule_at(u, config)["kl_weight"] for u in range(21)]
    assert weights == pytest.approx([u / 20 for u in range(21)])


# --------------------------------------------------------------------------- learning rate


def test_the_learning_rate_falls_in_equal_stages() -> None:
    config = TrainingConfig(
        learning_rate=1.0,
        learning_rate_schedule="step",
        learning_rate_stages=4,
        learning_rate_factor=0.5,
    )
    points = [learning_rate(p, config) for p in (0.0, 0.24, 0.25, 0.5, 0.74, 0.75, 1.0)]
    assert points == [1, 1, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_warm_up_and_floor_are_settings() -> None:
    """A tenth at first, half way up the warm-up 0.55, then the cosine from 1 to 0.2: 0.6 in its
    middle."""
    config = TrainingConfig(
        learning_rate=1.0,
        learning_rate_schedule="cosine",
        learning_rate_warm_up=0.2,
        learning_rate_floor=0.2,
    )
    points = [learning_rate(p, config) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert points == pytest.approx([0.1, 0.55, 1.0, 0.6, 0.2])


@given(
    st.builds(
        TrainingConfig,
        learning_rate=st.floats(1e-6, 10),
        learning_rate_schedule=st.sampled_from(["constant", "cosine", "step"]),
        learning_rate_warm_up=fractions,
        learning_rate_floor=fractions,
        learning_rate_stages=st.integers(1, 1000),
        learning_rate_factor=fractions,
    ),
    fractions,
)
@settings(max_examples=200, deadline=None)
def test_the_learning_rate_never_passes_its_highest(config, progress) -> None:
    assert 0 <= learning_rate(progress, config) <= config.learning_rate * (1 + 1e-12)


def test_the_demo_begins_at_a_tenth_and_ends_at_a_hundredth() -> None:
    rate = DEMO.training.learning_rate
    assert learning_rate(0.0, DEMO.training) == pytest.approx(rate / 10)
    assert learning_rate(1.0, DEMO.training) == pytest.approx(rate / 100)


def test_learning_rate() -> None:
    constant = TrainingConfig(learning_rate=0.002)
    assert {learning_rate(p / 10, constant) for p in range(11)} == {0.002}
    cosine = TrainingConfig(learning_rate=1.0, learning_rate_schedule="cosine")
    points = [learning_rate(p, cosine) for p in (0.0, 0.01, 0.02, 0.51, 1.0)]
    assert points == pytest.approx([0.1, 0.55, 1.0, 0.505, 0.01])
