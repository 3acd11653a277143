"""Diagonal Gaussians: the posterior q_phi, the prior p_psi, and the KL between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """N(mean, diag(exp(log_variance))), one for each leading index."""

    mean: Float[Tensor, "*batch z"]
    log_variance: Float[Tensor, "*batch z"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch z"]:
        """A draw that gradients pass through (the reparameterization trick, Kingma & Welling
        2014)."""
        return self.draw(torch.empty_like(self.mean).normal_(generator=generator))

    def draw(self, noise: Float[Tensor, "*batch z"]) -> Float[Tensor, "*batch z"]:
        """The draw that this noise makes; zeros give the mean."""
        # z = mu + sigma * epsilon,  epsilon ~ N(0, I)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def detach(self) -> Gaussian:
        """The same, through which no gradient passes."""
        return Gaussian(self.mean.detach(), self.log_variance.detach())

    def where(self, mask: Bool[Tensor, "*batch"], other: Gaussian) -> Gaussian:
        """These Gaussians where the mask is True, the others elsewhere."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Gaussian(*(torch.where(mask[..., None], *pair) for pair in pairs))

    def unflatten(self, sizes: Sequence[int]) -> Gaussian:
        """The same, with its first index split into several."""
        return Gaussian(self.mean.unflatten(0, sizes), self.log_variance.unflatten(0, sizes))

    def __getitem__(self, index: Any) -> Gaussian:
        """The Gaussians at some leading indices, as a tensor's."""
        return Gaussian(self.mean[index], self.log_variance[index])


def concatenate(parts: Sequence[Gaussian], dim: int) -> Gaussian:
    """Gaussians side by side along an axis: steps along time, independent latents along z."""
    if len(parts) == 1:
        return parts[0]
    return Gaussian(
        torch.cat([part.mean for part in parts], dim),
        torch.cat([part.log_variance for part in parts], dim),
    )


def standard_normal_like(other: Gaussian) -> Gaussian:
    """N(0, I) of the same shape: the fixed prior of SVG-FP (Denton & Fergus 2018)."""
    return Gaussian(torch.zeros_like(other.mean), torch.zeros_like(other.log_variance))


def kl_divergence(q: Gaussian, p: Gaussian) -> Float[Tensor, ...]:
    """KL(q || p), in nats, summed over the latent dimensions: one number a leading index."""
    # KL = 1/2 sum_i [ log(s_p^2 / s_q^2) + (s_q^2 + (mu_q - mu_p)^2) / s_p^2 - 1 ]
    log_ratio = p.log_variance - q.log_variance
    squared = torch.exp(q.log_variance) + (q.mean - p.mean) ** 2
    return 0.5 * (log_ratio + squared * torch.exp(-p.log_variance) - 1).sum(dim=-1)
