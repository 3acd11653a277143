"""The intervals: against scipy's, over clips and not windows, and where there is too little."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from labkit.evaluation import bootstrap as module
from labkit.evaluation.bootstrap import Resamples


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, 3.0, (60, 4)).astype(np.float32)


def test_a_mean_has_the_interval_that_scipy_gives(values) -> None:
    found = Resamples(np.arange(60), count=5000).mean(values)
    other = bootstrap((values,), np.mean, axis=0, method="percentile", n_resamples=5000, rng=0)
    np.testing.assert_allclose(found.value, values.mean(axis=0), rtol=1e-6)
    width = found.high - found.low
    assert (width > 1).all()
    for ours, theirs in ((found.low, other.confidence_interval.low),
                         (found.high, other.confidence_interval.high)):  # fmt: skip
        assert np.abs(ours - theirs).max() < 0.06 * width.min()


def test_nineteen_in_twenty_intervals_hold_the_true_mean() -> None:
    random, hits = np.random.default_rng(1), 0
    for _ in range(400):
        found = Resamples(np.arange(50), count=400).mean(random.normal(7, 2, 50))
        hits += bool(found.low <= 7 <= found.high)
    assert 0.91 < hits / 400 < 0.98


def test_windows_of_one_clip_are_drawn_together(values) -> None:
    """Each value 10 times over says no more than once."""
    once = Resamples(np.arange(60)).mean(values)
    again = Resamples(np.repeat(np.arange(60), 10)).mean(values.repeat(10, axis=0))
    np.testing.assert_allclose(again.low, once.low, rtol=1e-6)
    np.testing.assert_allclose(again.high, once.high, rtol=1e-6)


def test_a_ratio_weighs_clips_by_their_parts() -> None:
    above, below = np.array([1.0, 30.0, 0.0]), np.array([1.0, 10.0, 0.0])
    found = Resamples(np.arange(3)).ratio(above, below)
    assert found.value == pytest.approx(31 / 11)
    assert found.low == 1.0  # a draw of the first clip alone, or with the empty one
    assert found.high == 3.0


def test_one_clip_has_no_interval_and_nothing_no_figure(values) -> None:
    one = Resamples(np.zeros(1, int)).mean(values[:1])
    np.testing.assert_allclose(one.value, values[0])
    assert np.isnan(one.low).all()
    nothing = Resamples(np.arange(4)).ratio(np.zeros((4, 2)), np.zeros((4, 2)))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_draws_are_the_same_each_time_and_in_blocks(values, monkeypatch) -> None:
    whole = Resamples(np.arange(60)).mean(values)
    np.testing.assert_array_equal(Resamples(np.arange(60)).mean(values).low, whole.low)
    monkeypatch.setattr(module, "_BLOCK", 60 * 7)
    parts = Resamples(np.arange(60)).mean(values)
    np.testing.assert_allclose([parts.low, parts.high], [whole.low, whole.high], rtol=1e-6)
    assert parts[1:3].value.shape == (2,)
