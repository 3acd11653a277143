"""The training objective: the negative ELBO with a weighted KL, each term with its reduction.

For every step t = 1 .. T-1:

    L_t = || x_t - x^_t ||^2 / D  +  beta * KL( q_phi(z_t | x_{1:t}, c) || p(z_t) )

with D = 3 * H * W. The squared error is averaged over the D values of a frame while the KL is
summed over latent dimensions, as in the course's sample code; so beta here is 2 sigma^2 / D of a
Gaussian likelihood with deviation sigma, and not the beta of a beta-VAE.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from labkit.model import Rollout, kl_divergence


@dataclass(frozen=True)
class Objective:
    """The loss of a batch and its two terms, scalars."""

    loss: Float[Tensor, ""]
    """reconstruction + kl_weight * kl"""
    reconstruction: Float[Tensor, ""]
    """squared error, averaged over pixels, channels, steps and clips"""
    kl: Float[Tensor, ""]
    """nats, summed over latent dimensions, averaged over steps and clips"""


def negative_elbo(
    rollout: Rollout, targets: Float[Tensor, "B S 3 H W"], kl_weight: float
) -> Objective:
    """The loss of a training rollout.

    Args:
        rollout: predictions of x_1 .. x_{T-1}, with the posterior and prior of each step.
        targets: the true x_1 .. x_{T-1}, in [0, 1].
        kl_weight: beta.
    """
    # E_q[-log p(x_t | z_{1:t}, x_{<t}, c)], one draw of z, up to scale and a constant
    reconstruction = (rollout.frames - targets).square().mean()
    # KL(q_phi(z_t | x_{1:t}, c) || p(z_t))
    kl = kl_divergence(rollout.posterior, rollout.prior).mean()
    return Objective(reconstruction + kl_weight * kl, reconstruction, kl)
