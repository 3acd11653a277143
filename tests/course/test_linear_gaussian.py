"""The small linear-Gaussian models: each closed form against another way to the same number."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from labkit.course.linear_gaussian import LinearGaussian, StateSpace


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def small() -> tuple[LinearGaussian, torch.Tensor, torch.Tensor]:
    model = LinearGaussian.random(generator=generator(1))
    c = torch.randn(5, 3, generator=generator(2), dtype=torch.float64)
    return model, model.sample(c, generator(3)), c


def test_bound_and_gap_add_up_to_the_likelihood(small) -> None:
    model, x, c = small
    mean, covariance = torch.ones(5, 2).double(), torch.diag(torch.tensor([0.2, 0.5]).double())
    exact_mean, exact = model.posterior(x, c)
    gap = kl_divergence(MultivariateNormal(mean, covariance), MultivariateNormal(exact_mean, exact))
    assert torch.allclose(model.elbo(x, c, mean, covariance) + gap, model.log_likelihood(x, c))
    assert torch.allclose(model.elbo(x, c, exact_mean, exact), model.log_likelihood(x, c))


def test_the_likelihood_is_an_average_over_the_prior(small) -> None:
    model, x, c = small
    model = dataclasses.replace(model, variance=model.variance * 8)
    z = torch.randn(200_000, 2, generator=generator(4), dtype=torch.float64)
    mean = z @ model.W.T + (c @ model.V.T)[0]
    error = (x[0] - mean).square().sum(dim=1)
    log = -0.5 * 4 * torch.log(2 * torch.pi * model.variance) - error / (2 * model.variance)
    estimate = torch.logsumexp(log, 0) - torch.log(torch.tensor(len(z)))
    assert abs(estimate - model.log_likelihood(x, c)[0]) < 0.05


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("learned", [False, True])
def test_the_kalman_filter_finds_the_same_likelihood(size: int, learned: bool) -> None:
    model = StateSpace.random(x=3, z=size, generator=generator(5))
    if learned:
        K = torch.randn(size, 3, generator=generator(6), dtype=torch.float64)
        model = dataclasses.replace(model, K=K)
    x = model.sample(6, generator(7))
    assert torch.allclose(model.kalman_log_likelihood(x), model.log_likelihood(x))


@pytest.mark.parametrize("free_running", [False, True])
def test_the_sequences_posterior_closes_the_gap(free_running: bool) -> None:
    model = StateSpace.random(x=3, z=2, generator=generator(8))
    x = model.sample(5, generator(9))
    mean, covariance = model.posterior(x, free_running=free_running)
    log_p = model.log_likelihood(x, free_running=free_running)
    assert torch.allclose(model.elbo(x, mean, covariance, free_running=free_running), log_p)
    wider = model.elbo(x, mean, 1.5 * covariance, free_running=free_running)
    assert wider < log_p - 1e-3


def test_free_running_feeds_the_models_own_frames() -> None:
    model = StateSpace.random(x=2, z=1, generator=generator(10))
    x, z = model.sample(4, generator(11)), torch.tensor([0.5, -1.0, 2.0]).double()
    y, matrix, _ = model.linear_form(x, free_running=True)
    h, fed, expected = torch.zeros(1).double(), x[0], []
    for t in range(3):
        h = model.F @ h + z[t : t + 1]
        fed = model.A @ fed + model.H @ h
        expected.append(x[t + 1] - fed)
    assert torch.allclose(y - matrix @ z, torch.cat(expected))


def test_factorised_posteriors_are_ordered() -> None:
    model = StateSpace.random(x=3, z=1, generator=generator(12))
    x = model.sample(8, generator(13))
    exact = model.log_likelihood(x)
    best = model.elbo(x, *model.factorised(x))
    past = model.elbo(x, *model.filtered(x))
    assert past < best < exact
    # Mean field is the best of its kind: moving a variance or a mean only lowers the bound.
    mean, covariance = model.factorised(x)
    assert model.elbo(x, mean, 1.1 * covariance) < best
    assert model.elbo(x, mean + 0.05, covariance) < best


def test_the_filtered_posterior_sees_no_later_frame() -> None:
    model = StateSpace.random(x=3, z=1, generator=generator(14))
    x = model.sample(6, generator(15))
    changed = x.clone()
    changed[4:] += 1
    before, after = model.filtered(x)[0], model.filtered(changed)[0]
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3:], after[3:])
