"""The order of data and draws."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from labkit.learning.order import UpdateSampler, seed_of


def test_every_window_comes_equally_often() -> None:
    sampler = UpdateSampler(n_windows=10, batch_size=4, seed=0, updates=range(25))
    batches = list(sampler)
    assert len(sampler) == 25
    assert {len(batch) for batch in batches} == {4}
    assert set(Counter(chain.from_iterable(batches)).values()) == {10}


def test_the_order_is_the_same_from_any_starting_point_and_differs_between_seeds() -> None:
    whole = list(UpdateSampler(10, 4, 0, range(12)))
    assert list(UpdateSampler(10, 4, 0, range(5, 12))) == whole[5:]
    assert list(UpdateSampler(10, 4, 1, range(12))) != whole


def test_a_data_set_smaller_than_a_batch_serves() -> None:
    assert sorted(UpdateSampler(2, 4, 0, range(1)).batch(0)) == [0, 0, 1, 1]


def test_seeds_differ_between_streams_and_numbers() -> None:
    seeds = {seed_of(s, name, n) for s in (0, 1) for name in ("draws", "order") for n in range(50)}
    assert len(seeds) == 200
