"""The objective: its terms by hand, by torch.distributions and by draws, and its gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from labkit.config import KLConfig
from labkit.model import Gaussian, Rollout
from labkit.model import kl_divergence as own_kl
from labkit.model.pusher import PushCandidates
from labkit.training.objective import negative_elbo, push_error, weighted_kl

B, S, Z, SIDE = 2, 3, 4, 8
D = 3 * SIDE * SIDE


def gaussian(seed: int, *, learned: bool = False) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, B, S, Z, generator=generator, dtype=torch.float64)
    return Gaussian(mean.requires_grad_(learned), log_variance.requires_grad_(learned))


def normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, (0.5 * gaussian.log_variance).exp())


def some_rollout(log_variance: float | None = None) -> tuple[Rollout, Tensor]:
    """A rollout that gradients are asked of, and its targets."""
    generator = torch.Generator().manual_seed(9)
    shape = (2, B, S, 3, SIDE, SIDE)
    frames, targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    told = None if log_variance is None else torch.tensor(log_variance, dtype=torch.float64)
    return (
        Rollout(
            frames.requires_grad_(),
            gaussian(0),
            gaussian(1),
            None if told is None else told.requires_grad_(),
        ),
        targets,
    )


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


def test_the_kl_is_that_of_torch_and_that_of_draws() -> None:
    q, p = gaussian(0), gaussian(1)
    expected = kl_divergence(normal(q), normal(p)).sum(dim=-1)
    torch.testing.assert_close(own_kl(q, p), expected)
    torch.testing.assert_close(weighted_kl(q, p, 0.0, 0.0)[0], expected.mean())
    # KL(q || p) = E_q[log q(z) - log p(z)]
    torch.manual_seed(0)
    z = normal(q).sample((40_000,))
    ratio = (normal(q).log_prob(z) - normal(p).log_prob(z)).sum(dim=-1)
    error = 5 * ratio.std(dim=0) / math.sqrt(len(z))
    assert ((ratio.mean(dim=0) - own_kl(q, p)).abs() < error).all()
    assert (error < 0.1 * own_kl(q, p)).all()  # fine enough to see a mistake


@pytest.mark.parametrize("free_bits", [0.0, 1e3])
def test_steps_that_did_not_use_the_posterior_pay_no_kl(free_bits: float) -> None:
    """Sohn et al. (2015): a clip with z from the prior has a likelihood alone."""
    rollout, targets = some_rollout()
    steps = own_kl(rollout.posterior, rollout.prior)
    from_prior = torch.zeros(steps.shape, dtype=torch.bool)
    from_prior[0, 1:] = True
    kl = KLConfig(free_bits=free_bits)
    loss = negative_elbo(
        dataclasses.replace(rollout, z_from_prior=from_prior), targets, 0.5, "fixed", kl
    )
    error, share = (rollout.frames - targets).pow(2).mean(), 1 - from_prior.float().mean()
    nats = steps[~from_prior].mean()
    torch.testing.assert_close(loss.kl, nats)
    torch.testing.assert_close(loss.loss, error + 0.5 * share * nats.clamp_min(free_bits))
    everyone = dataclasses.replace(rollout, z_from_prior=torch.ones_like(from_prior))
    torch.testing.assert_close(negative_elbo(everyone, targets, 0.5).loss, error)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_with_sigma_it_is_the_elbo(beta: float) -> None:
    """Negative ELBO over D of a Gaussian likelihood, but for log(2 pi) / 2."""
    rollout, targets = some_rollout(log_variance=-3.0)
    likelihood = Normal(rollout.frames, math.exp(-1.5)).log_prob(targets).flatten(2).sum(dim=-1)
    kl = kl_divergence(normal(rollout.posterior), normal(rollout.prior)).sum(dim=-1)
    expected = (-likelihood + beta * kl).mean() / D - 0.5 * math.log(2 * math.pi)
    objective = negative_elbo(rollout, targets, beta, "learned")
    torch.testing.assert_close(objective.loss, expected)
    torch.testing.assert_close(objective.kl, kl.mean())
    torch.testing.assert_close(objective.reconstruction, (rollout.frames - targets).pow(2).mean())


def test_the_course_loss_is_the_elbo_of_a_sigma_that_beta_implies() -> None:
    """beta = 2 sigma^2 / D: the same gradient up to a factor."""
    rollout, targets = some_rollout(log_variance=math.log(0.05))
    fixed = negative_elbo(rollout, targets, 2 * 0.05 / D, "fixed").loss
    elbo = negative_elbo(rollout, targets, 1.0, "learned").loss
    torch.testing.assert_close(fixed, 2 * 0.05 * (elbo - 0.5 * math.log(0.05)))


def test_the_learned_variance_is_drawn_to_the_mean_squared_error() -> None:
    rollout, targets = some_rollout(log_variance=0.0)
    error = (rollout.frames - targets).pow(2).mean().detach()

    def slope(log_variance: float) -> float:
        there, _ = some_rollout(log_variance)
        loss = negative_elbo(there, targets, 1.0, "learned").loss
        return torch.autograd.grad(loss, there.log_variance)[0].item()

    best = error.log().item()
    assert abs(slope(best)) < 1e-12
    assert slope(best - 0.1) < 0 < slope(best + 0.1)


def test_a_gates_error_moves_the_gate_and_not_the_learned_variance() -> None:
    """sigma^2 is that of the frames, whatever the pusher's gate costs."""
    rollout, targets = some_rollout(log_variance=-1.0)
    gate = torch.full((B, S, 1, SIDE, SIDE), 0.3, dtype=torch.float64, requires_grad=True)
    push = PushCandidates(targets - 0.5, targets, gate, torch.ones_like(gate))
    slopes = {}
    for pushed in (None, push):
        loss = negative_elbo(
            dataclasses.replace(rollout, push=pushed), targets, 1.0, "learned"
        ).loss
        slopes[pushed is push] = torch.autograd.grad(loss, rollout.log_variance, retain_graph=True)
    assert slopes[True] == slopes[False]
    found = torch.autograd.grad(loss, gate)[0]
    expected = torch.autograd.grad(0.5 * math.e * push_error(push, targets), gate)[0]
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 0


def test_the_optimal_variance_is_the_learned_one_at_its_best() -> None:
    rollout, targets = some_rollout()
    error = (rollout.frames - targets).pow(2).mean().item()
    optimal = negative_elbo(rollout, targets, 0.7, "optimal")
    gradient = torch.autograd.grad(optimal.loss, rollout.frames)[0]
    there, _ = some_rollout(log_variance=math.log(error))
    learned = negative_elbo(there, targets, 0.7, "learned")
    torch.testing.assert_close(optimal.loss, learned.loss)
    torch.testing.assert_close(gradient, torch.autograd.grad(learned.loss, there.frames)[0])
    by_hand = 0.5 * math.log(error) + 0.5 + 0.7 * optimal.kl.item() / D
    assert optimal.loss.item() == pytest.approx(by_hand)


def test_an_error_of_zero_stays_finite() -> None:
    rollout, _ = some_rollout()
    loss = negative_elbo(rollout, rollout.frames.detach(), 1.0, "optimal").loss
    assert loss.isfinite()
    assert torch.autograd.grad(loss, rollout.frames)[0].isfinite().all()


def gradients(free_bits: float, balance: float) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """KL as told, as charged, and the gradient of what is charged: for q and for p."""
    q, p = gaussian(0, learned=True), gaussian(1, learned=True)
    told, cost = weighted_kl(q, p, free_bits, balance)
    parts = [q.mean, q.log_variance, p.mean, p.log_variance]
    found = torch.autograd.grad(cost, parts, allow_unused=True, retain_graph=True)
    return told, cost, torch.cat(found[:2]), list(found[2:])


def test_free_bits_cost_nothing() -> None:
    plain, _, q_plain, _ = gradients(0.0, 0.0)
    told, cost, q_grad, p_grad = gradients(plain.item() + 1, 0.0)
    assert cost.item() == pytest.approx(plain.item() + 1)
    assert not q_grad.any()
    assert not any(each.any() for each in p_grad)
    assert told.item() == plain.item()  # what is told is the KL itself
    _, cost, q_grad, _ = gradients(plain.item() - 1, 0.0)
    assert cost.item() == plain.item()
    assert torch.equal(q_grad, q_plain)


@pytest.mark.parametrize("balance", [0.8, 0.5, 1.0])
def test_balancing_shares_the_gradient_and_keeps_the_value(balance: float) -> None:
    plain, _, q_plain, p_plain = gradients(0.0, 0.0)
    told, cost, q_grad, p_grad = gradients(0.0, balance)
    torch.testing.assert_close(cost, plain)
    assert told.item() == plain.item()
    torch.testing.assert_close(q_grad, (1 - balance) * q_plain)
    for balanced, whole in zip(p_grad, p_plain, strict=True):
        torch.testing.assert_close(balanced, balance * whole)
        assert whole.any()


@pytest.mark.parametrize("observation", ["fixed", "learned", "optimal"])
def test_the_config_reaches_the_loss(observation: str) -> None:
    """The KL told is the plain one whatever becomes of its gradient; the loss has the other."""
    rollout, targets = some_rollout(log_variance=-3.0)
    plain = negative_elbo(rollout, targets, 1.0, observation)
    more = plain.kl.item() + 5
    lifted = negative_elbo(rollout, targets, 1.0, observation, KLConfig(free_bits=more))
    assert lifted.kl.item() == plain.kl.item()
    expected = 5 if observation == "fixed" else 5 / D
    assert (lifted.loss - plain.loss).item() == pytest.approx(expected)


@pytest.mark.parametrize("beta", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("balance", [0.0, 0.8])
def test_a_prior_that_is_not_annealed_learns_with_the_largest_weight(
    beta: float, balance: float
) -> None:
    """The posterior's gradient is scaled by beta, the prior's by max_weight whatever beta is."""

    def found(weight: float, kl: KLConfig) -> list[Tensor]:
        q, p = gaussian(0, learned=True), gaussian(1, learned=True)
        frames = torch.zeros(B, S, 3, SIDE, SIDE, dtype=torch.float64)
        objective = negative_elbo(Rollout(frames, q, p), frames, weight, "fixed", kl)
        leaves = [q.mean, q.log_variance, p.mean, p.log_variance]
        return list(torch.autograd.grad(objective.loss, leaves))

    kl = KLConfig(max_weight=2.0, balance=balance)
    whole = found(2.0, kl)
    q_mean, q_variance, p_mean, p_variance = found(
        beta, dataclasses.replace(kl, anneal_prior=False)
    )
    torch.testing.assert_close(q_mean, beta / 2 * whole[0])
    torch.testing.assert_close(q_variance, beta / 2 * whole[1])
    torch.testing.assert_close(p_mean, whole[2])
    torch.testing.assert_close(p_variance, whole[3])
    assert whole[2].any()
    assert not torch.allclose(found(0.4, kl)[2], whole[2])  # annealed, it is scaled by beta
