"""Differences between models: intervals and tests against values worked out by other means."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from labkit.errors import LabkitError
from labkit.evaluation import Evaluation
from labkit.evaluation.bootstrap import Resamples
from labkit.evaluation.significance import (
    check_alike,
    crossed,
    estimate,
    holm,
    sign_flip,
    windows_of,
)


def evaluation(**changes) -> Evaluation:
    scores = np.full((3, 4), 20.0)
    table = {"prediction": scores}
    values = {
        "protocol": "protocol frame: 2 -> 4 frames; 3 first windows of the test split of sim; PSNR",
        "name": "frame",
        "n_past": 2,
        "best_of": 1,
        "scores": {"psnr": table, "channel_psnr": table, "ssim": table},
        "samples_psnr": scores[:, :2],
        "deviation": None,
        "regions": None,
        "clip_ids": np.array(["a", "b", "c"]),
        "clip_numbers": np.arange(3),
        "starts": np.zeros(3, int),
        "examples": {},
    }
    return Evaluation(**{**values, **changes})


def test_the_sign_flip_test_by_hand_and_by_all_flips() -> None:
    # Of the 8 ways to sign 1, 2 and 3 two have a mean as far from 0 as theirs.
    assert sign_flip(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / 8)
    assert sign_flip(np.zeros(4)) == 1
    assert sign_flip(np.array([5.0])) == 1
    values = np.random.default_rng(0).normal(0.3, 1, 10)
    flips = np.array(list(itertools.product((-1, 1), repeat=10)))
    share = np.mean(np.abs((flips * values).mean(axis=1)) >= abs(values.mean()) - 1e-12)
    assert sign_flip(values) == pytest.approx(share)


def test_on_many_clips_the_test_agrees_with_the_t_test() -> None:
    values = np.random.default_rng(1).normal(0.15, 1, 200)
    assert sign_flip(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert sign_flip(-values) == sign_flip(values)


def test_one_training_is_compared_over_clips() -> None:
    values = np.random.default_rng(2).normal(1, 1, (1, 100))
    found = estimate(values, Resamples(np.arange(100)))
    assert found.over == "100 clips"
    low, high = stats.t.interval(0.95, 99, values.mean(), stats.sem(values[0]))
    assert found.interval.low == pytest.approx(low, abs=0.05)
    assert found.interval.high == pytest.approx(high, abs=0.05)
    assert found.p < 0.001


def test_windows_of_one_clip_are_one_unit() -> None:
    """Ten copies of each clip's figure tell no more than one."""
    once = np.random.default_rng(3).normal(0.2, 1, (1, 12))
    one = estimate(once, Resamples(np.arange(12)))
    ten = estimate(np.repeat(once, 10, axis=1), Resamples(np.repeat(np.arange(12), 10)))
    assert (ten.clips, ten.p) == (12, one.p)
    assert float(ten.interval.low) == pytest.approx(float(one.interval.low))
    seeds = estimate(
        np.repeat(np.vstack([once, once + 0.1]), 10, axis=1),
        Resamples(np.repeat(np.arange(12), 10)),
    )
    assert seeds.over == "2 seeds x 12 clips"
    assert float(seeds.interval.low) == pytest.approx(
        float(estimate(np.vstack([once, once + 0.1]), Resamples(np.arange(12))).interval.low)
    )


def test_where_only_seeds_differ_it_is_a_t_test_over_seeds() -> None:
    seeds = np.array([0.1, 0.5, 0.3])
    low, high, p = crossed(np.repeat(seeds[:, None], 50, axis=1))
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 2, 0.3, stats.sem(seeds)))
    assert p == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)


def test_where_only_clips_differ_it_is_a_t_test_over_clips() -> None:
    clips = np.random.default_rng(4).normal(0.2, 1, 40)
    low, high, p = crossed(np.repeat(clips[None], 3, axis=0))
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 39, clips.mean(), stats.sem(clips)))
    assert p == pytest.approx(stats.ttest_1samp(clips, 0).pvalue)
    # More copies of the same weights are no more evidence.
    assert crossed(np.repeat(clips[None], 9, axis=0)) == pytest.approx((low, high, p))


def test_two_equal_sides_and_a_single_clip() -> None:
    assert crossed(np.zeros((3, 5))) == (0, 0, 1)
    assert crossed(np.ones((3, 5))) == (1, 1, 0)
    low, high, p = crossed(np.ones((3, 1)))
    assert np.isnan([low, high]).all()
    assert p == 1


@pytest.mark.parametrize(("of_seed", "of_clip"), [(0.3, 0.2), (0.05, 1.0), (0.0, 0.5), (1.0, 0.0)])
def test_intervals_over_seeds_and_clips_hold_what_they_promise(of_seed, of_clip) -> None:
    """95 % intervals of 3 seeds x 40 clips hold the true mean, 0, in 93 % of 600 draws or more.
    Those from the worst of three seeds to the best, which are the widest that a bootstrap over
    them can give, hold it three times in four where seeds are what differs."""
    random = np.random.default_rng(5)
    held, by_bootstrap = [], []
    for _ in range(600):
        table = random.normal(0, of_seed, (3, 1)) + random.normal(0, of_clip, (1, 40))
        table = table + random.normal(0, 0.5, (3, 40))
        low, high, p = crossed(table)
        held.append(low <= 0 <= high)
        assert (p < 0.05) == (not held[-1])
        means = table.mean(axis=1)
        by_bootstrap.append(means.min() <= 0 <= means.max())
    assert 0.93 <= np.mean(held) <= 1
    if of_seed == 1:
        assert np.mean(by_bootstrap) < 0.8
        assert np.mean(held) < 0.97


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02]) == [0.02]
    assert holm([0.5, 0.9]) == [1, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "course"}, "a and b were not evaluated alike: protocol frame and course"),
        ({"best_of": 5}, "number of samples 1 and 5"),
        ({"n_past": 3}, "context frames 2 and 3"),
        (
            {"scores": {"psnr": {"prediction": np.zeros((3, 9))}}},
            "horizon 4 and 9",
        ),
        (
            {
                "clip_ids": np.array(["a", "b", "d"]),
                "protocol": "protocol frame; 3 first windows of the validate split of real; PSNR",
            },
            "on other clips: 3 first windows of the test split of sim, and 3 first windows of the "
            "validate split of real",
        ),
        ({"clip_ids": np.array(["a", "b"])}, "on other clips"),
    ],
)
def test_other_protocols_and_clips_are_refused_by_name(changes, words) -> None:
    with pytest.raises(LabkitError) as told:
        check_alike({"a": evaluation(), "b": evaluation(**changes)})
    assert words in str(told.value)
    assert "labkit evaluate" in str(told.value)


def test_the_windows_come_from_the_protocols_sentence() -> None:
    check_alike({"a": evaluation(), "b": evaluation()})
    assert windows_of(evaluation()) == "3 first windows of the test split of sim"
    assert windows_of(evaluation(protocol="my own")) == "3 windows"


def test_an_interval_over_two_seeds_has_one_degree_of_freedom_at_least() -> None:
    """A variance that is subtracted can make Satterthwaite's number as small as it likes."""
    widest = stats.t.ppf(0.975, 1)
    for seed in range(300):
        table = np.random.default_rng(seed).normal(size=(2, 64))
        low, high, _ = crossed(table)
        variance = 64 * table.mean(axis=1).var(ddof=1) + 2 * table.mean(axis=0).var(ddof=1)
        assert high - low <= 2.001 * widest * np.sqrt(variance / table.size)
