"""The KL of two Gaussians, the reparameterized draw, and the composed output's parts."""

from __future__ import annotations

import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from labkit.model.gaussian import Gaussian, kl_divergence, standard_normal_like
from labkit.model.output import FlowOutput, warp


def some_gaussian(seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64))


def test_kl_agrees_with_torch_distributions() -> None:
    q, p = some_gaussian(0), some_gaussian(1)
    expected = reference_kl(
        Normal(q.mean, (0.5 * q.log_variance).exp()), Normal(p.mean, (0.5 * p.log_variance).exp())
    ).sum(dim=-1)
    torch.testing.assert_close(kl_divergence(q, p), expected)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros(4, 3, dtype=torch.float64))


def test_kl_of_a_known_case() -> None:
    """One dimension, N(1, 1) against N(0, 1): 1/2."""
    q = Gaussian(torch.tensor([[1.0]]), torch.tensor([[0.0]]))
    assert kl_divergence(q, standard_normal_like(q)).item() == 0.5


def test_kl_agrees_with_a_monte_carlo_estimate() -> None:
    """KL(q || p) = E_q[log q(z) - log p(z)], by draws of q."""
    q, p = (some_gaussian(seed)[0, 0] for seed in (0, 1))
    noise = torch.randn(100_000, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z = q.draw(noise)
    ratios = sum(
        sign * Normal(g.mean, (0.5 * g.log_variance).exp()).log_prob(z).sum(dim=-1)
        for sign, g in ((1, q), (-1, p))
    )
    error = ratios.std() / len(z) ** 0.5
    assert error < 0.05
    assert abs(ratios.mean() - kl_divergence(q, p)) < 4 * error


def test_samples_have_the_mean_and_deviation_and_carry_gradients() -> None:
    mean = torch.full((20_000, 1), 3.0, requires_grad=True)
    q = Gaussian(mean, torch.full((20_000, 1), 2 * torch.log(torch.tensor(0.5)).item()))
    z = q.sample(torch.Generator().manual_seed(0))
    assert abs(z.mean().item() - 3.0) < 0.02
    assert abs(z.std().item() - 0.5) < 0.02
    assert torch.autograd.grad(z.sum(), mean)[0].unique().tolist() == [1.0]


def test_warp_moves_pixels_by_the_flow() -> None:
    frames = torch.rand(1, 3, 8, 8)
    flow = torch.zeros(1, 2, 8, 8)
    torch.testing.assert_close(warp(frames, flow), frames)
    flow[:, 0] = 2.0  # read two pixels further right
    torch.testing.assert_close(warp(frames, flow)[..., :6], frames[..., 2:])
    torch.testing.assert_close(warp(frames, flow)[..., 7], frames[..., 7])  # border repeated


def test_masks_choose_the_source() -> None:
    previous, reference = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    fresh, g = torch.rand(1, 3, 8, 8), torch.zeros(1, 2)
    for chosen, source in enumerate((previous, reference, fresh)):
        maps = torch.zeros(1, 8, 8, 8)
        maps[:, :3] = torch.logit(fresh)
        maps[:, 5 + chosen] = 100.0
        torch.testing.assert_close(FlowOutput()(maps, g, previous, reference), source)
