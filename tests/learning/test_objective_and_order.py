"""The objective's reductions, and the order of data and draws."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import torch

from labkit.learning.objective import negative_elbo
from labkit.learning.order import UpdateSampler, seed_of
from labkit.model import Gaussian, Rollout


def test_reductions_of_the_objective() -> None:
    """Every pixel off by 0.1: 0.01, whatever the size. Every mean 1, variance 1, four latent
    dimensions: 4 x 1/2 nats, whatever the number of clips and steps."""
    targets = torch.zeros(2, 3, 3, 8, 8)
    posterior = Gaussian(torch.ones(2, 3, 4), torch.zeros(2, 3, 4))
    prior = Gaussian(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    objective = negative_elbo(Rollout(targets + 0.1, posterior, prior), targets, kl_weight=0.5)
    torch.testing.assert_close(objective.reconstruction, torch.tensor(0.01))
    torch.testing.assert_close(objective.kl, torch.tensor(2.0))
    torch.testing.assert_close(objective.loss, torch.tensor(1.01))


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
