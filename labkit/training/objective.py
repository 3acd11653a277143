"""The training objective: the negative ELBO with a weighted KL, each term with its reduction.

For every step t = 1 .. T-1, with D = 3 * H * W values in a frame:

    fixed     L_t = || x_t - x^_t ||^2 / D  +  beta * KL_t
    learned   L_t = || x_t - x^_t ||^2 / (2 sigma^2 D) + log(sigma^2) / 2  +  beta * KL_t / D
    optimal   the same with sigma^2 = the mean of || x_t - x^_t ||^2 / D over the batch,
              which minimises it: L = log(sigma^2) / 2 + 1/2 + beta * KL / D

    KL_t = KL( q_phi(z_t | x_{1:t}, c) || p(z_t | x_{0:t-1}, c) ), summed over latent dimensions

`fixed` is the course's sample code: the squared error averaged over the D values of a frame while
the KL is summed. With a Gaussian likelihood of deviation sigma its beta is 2 sigma^2 / D, which is
not the beta of a beta-VAE. The others are sigma-VAE (Rybkin et al. 2021): with beta = 1 they are
the negative ELBO over D, up to a constant, and beta need not be tuned.

A learned prior gets the gradient of beta * KL_t alone: none as long as beta is 0. Without
`kl.anneal_prior` a term is added to each of the three that leaves the posterior as it is:

    (beta_max - beta) * KL( sg(q_phi(z_t | x_{1:t}, c)) || p_psi(z_t | x_{0:t-1}, c) )

where sg stops the gradient. Then the prior learns with beta_max throughout, and is ready when beta
has risen. At beta = beta_max the term is 0.

A model that pushes (`labkit.model.pusher`) adds the error of its gate to the squared error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.config import KLConfig
from labkit.model import Gaussian, Rollout, kl_divergence
from labkit.model.pusher import PushCandidates


@dataclass(frozen=True)
class Objective:
    """The loss of a batch and its two terms, scalars."""

    loss: Float[Tensor, ""]
    """what is minimised"""
    reconstruction: Float[Tensor, ""]
    """squared error, averaged over pixels, channels, steps and clips"""
    kl: Float[Tensor, ""]
    """nats per step, summed over latent dimensions, averaged over all steps whose z comes from the
    posterior; before free bits and balancing"""


def negative_elbo(
    rollout: Rollout,
    targets: Float[Tensor, "B S 3 H W"],
    kl_weight: float,
    observation: Literal["fixed", "learned", "optimal"] = "fixed",
    kl: KLConfig | None = None,
    joint: Callable[[Float[Tensor, ""]], Float[Tensor, ""]] | None = None,
) -> Objective:
    """The loss of a training rollout.

    Args:
        rollout: predictions of x_1 .. x_{T-1}, with the posterior and prior of each step.
        targets: the true x_1 .. x_{T-1}, in [0, 1].
        kl_weight: beta.
        observation: the variance of p(x_t | z); `learned` takes the rollout's.
        kl: free bits and balancing; None is neither.
        joint: the mean of a number over all processes that share a batch, without a gradient;
            None is one process. With it the optimal variance and free bits use the means of the
            joint batch, and the mean of the processes' gradients is the joint batch's gradient.
    """
    kl = kl or KLConfig()
    joint = joint or Tensor.detach
    # E_q[-log p(x_t | z_{1:t}, x_{<t}, c)], one draw of z, up to scale and a constant
    error = (rollout.frames - targets).square().mean()
    gate = 0.0 if rollout.push is None else push_error(rollout.push, targets)
    kl_mask = None if rollout.z_from_prior is None else (~rollout.z_from_prior).to(error.dtype)
    plain, cost = weighted_kl(
        rollout.posterior, rollout.prior, kl.free_bits, kl.balance, joint, kl_mask
    )
    weighted = kl_weight * cost
    if not kl.anneal_prior:
        # (beta_max - beta) KL(sg(q) || p), with the prior's share of the gradient
        q = rollout.posterior.detach()
        missing = (kl.balance or 1.0) * (kl.max_weight - kl_weight)
        weighted = weighted + missing * weighted_kl(q, rollout.prior, 0.0, 0.0, joint, kl_mask)[1]
    if observation == "fixed":
        return Objective(error + gate + weighted, error, plain)
    if observation == "learned":
        assert rollout.log_variance is not None
        log_variance = rollout.log_variance
        precision = torch.exp(-log_variance)
        # The gate is weighted by sigma^2 as the frames are, but does not take part in learning it.
        likelihood = 0.5 * (error * precision + gate * precision.detach() + log_variance)
    else:
        # Without a gate its value is log(sigma^2) / 2 + 1/2, its gradient that of
        # log(sigma^2) / 2, with one sigma^2 for all processes.
        variance = joint(error).clamp_min(1e-8)
        likelihood = 0.5 * ((error + gate) / variance + variance.log())
    return Objective(likelihood + weighted / targets[0, 0].numel(), error, plain)


def push_error(push: PushCandidates, targets: Float[Tensor, "B S 3 H W"]) -> Float[Tensor, ""]:
    """What the gate of a pusher is taught besides (`PushCandidates.loss`), averaged over all steps.

    Only steps that begin at a true frame have it: later in a rollout a displacement that is wrong
    already would be taken for a reason to move or to stay. The first step of all has none, because
    nobody knows where the arm was before it.
    """
    steps = push.gate.shape[1]
    if steps == 1:
        return targets.new_zeros(())
    taught = PushCandidates(*(each[:, 1:] for each in vars(push).values()))
    return taught.loss(targets[:, 1:steps]) * ((steps - 1) / targets.shape[1])


def weighted_kl(
    q: Gaussian,
    p: Gaussian,
    free_bits: float,
    balance: float,
    joint: Callable[[Float[Tensor, ""]], Float[Tensor, ""]] = Tensor.detach,
    kl_mask: Float[Tensor, "B S"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """KL(q || p), summed over the latent dimensions and averaged over steps and clips: the plain
    value, and the value in the loss.

    With a balance a (Hafner et al. 2021) the loss has a KL(sg(q) || p) + (1 - a) KL(q || sg(p)),
    where sg stops the gradient: the same value, but a larger a moves the prior more. With free bits
    (Kingma et al. 2016) the loss has max(free_bits, .) of that, so this many nats cost nothing;
    where processes share a batch, the bound applies to the `joint` mean.

    Steps whose z came from the prior have no KL, only a likelihood (the hybrid objective of Sohn
    et al. 2015): `kl_mask` is 0 there and 1 elsewhere. The plain value is averaged over the steps
    with 1; in the loss that average is multiplied by their share of all steps.
    """
    share = None if kl_mask is None else joint(kl_mask.mean()).clamp_min(1e-9)

    def average(q: Gaussian, p: Gaussian) -> Float[Tensor, ""]:
        kl = kl_divergence(q, p)
        return kl.mean() if share is None else (kl * kl_mask).mean() / share

    plain = average(q, p)
    cost = plain
    if balance:
        to_prior, to_posterior = average(q.detach(), p), average(q, p.detach())
        cost = balance * to_prior + (1 - balance) * to_posterior
    if free_bits:
        cost = torch.where(joint(cost) > free_bits, cost, cost.new_tensor(free_bits))
    return plain, cost if share is None else share * cost
