"""How a model uses its latent z_t: KL of steps and units, active units, the posterior's gain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from labkit.model import Gaussian

ACTIVE_VARIANCE = 0.01
"""A latent unit is active where its posterior mean varies by more than this over the data, as in
Burda et al. (2016)."""

COLLAPSED_KL = 0.1
"""nats per step, all units together: below this the posterior carries almost no information"""

COLLAPSED_GAIN = 0.1
"""dB: a posterior that saw the target and gains less than this over the prior is of no use"""


@dataclass(frozen=True)
class LatentUse:
    """How a few clips use the latent z_t."""

    kl: Float[Tensor, "S z"]
    """nats of each step t = 1 .. T-1 and each unit, averaged over the clips"""
    variance: Float[Tensor, " z"]
    """variance of each unit's posterior mean over clips and steps, after the prior's mean is
    subtracted"""
    posterior_gain: float
    """dB: PSNR of the frames after the context with z from the posterior, which saw them, minus
    PSNR with z from the prior; both free-running, one sample"""

    @property
    def kl_per_step(self) -> Float[Tensor, " S"]:
        """Nats of each step, summed over the units."""
        return self.kl.sum(dim=1)

    @property
    def active_units(self) -> int:
        """Number of units whose posterior mean varies by more than ACTIVE_VARIANCE."""
        return int((self.variance > ACTIVE_VARIANCE).sum())

    @property
    def collapsed(self) -> bool:
        """Whether the posterior is no better than the prior: its gain is below COLLAPSED_GAIN, and
        either its KL is below COLLAPSED_KL or no unit is active."""
        uninformative = self.kl_per_step.mean().item() < COLLAPSED_KL or not self.active_units
        return uninformative and self.posterior_gain < COLLAPSED_GAIN


def latent_use(q: Gaussian, p: Gaussian, posterior_gain: float) -> LatentUse:
    """KL of every step and unit, and how far each unit's posterior mean moves with the data.

    Burda et al. (2016) call a unit active where A_u = Var_x( E_q(u|x)[u] ) > 0.01. Here the data
    points are the steps of all clips. The mean of a learned prior is subtracted first, because
    what the prior knows without the target is not the posterior's work; the mean of N(0, I) is 0.

    Args:
        q: the posterior, (B, S, z).
        p: the prior, (B, S, z).
        posterior_gain: see LatentUse.
    """
    shift = (q.mean - p.mean).float()
    kl = kl_divergence(_normal(q), _normal(p))  # (B, S, z), in nats
    variance = shift.flatten(0, 1).var(dim=0, unbiased=False)
    return LatentUse(kl.mean(dim=0).cpu(), variance.cpu(), posterior_gain)


def _normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean.float(), torch.exp(0.5 * gaussian.log_variance.float()))
