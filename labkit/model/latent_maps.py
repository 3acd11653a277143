"""Latents that are maps, at several resolutions (after HAF-SVG, Lin et al., IJCAI 2020).

The vector z_t says what happens in a frame as a whole; below it, inside the decoder, each level
adds a latent z^l_t of its own at an eighth and a quarter of the frame's side. A level's prior and
posterior both read the decoder's features d^l, which hold everything above them:

    p(z^l_t | z^{<l}_t, past)            from d^l
    q(z^l_t | z^{<l}_t, past, x_t)       from d^l and the encoder's features of x_t

so the levels depend on one another, in the posterior as in the prior.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from labkit.model.gaussian import Gaussian


class LatentMap(nn.Module):
    """One level: a latent of a few channels at each place of a feature map."""

    def __init__(self, channels: int, target_channels: int, latent_channels: int) -> None:
        """
        Args:
            channels: of the decoder's features at this level.
            target_channels: of the encoder's at the same resolution.
            latent_channels: of the latent.
        """
        super().__init__()
        self.prior = _gaussian_net(channels, latent_channels)
        self.posterior = _gaussian_net(channels + target_channels, latent_channels)
        self.back = nn.Conv2d(latent_channels, channels, 1)
        # At first q and p are N(0, I), and z changes nothing.
        nn.init.zeros_(self.back.weight)
        nn.init.zeros_(self.back.bias)

    def forward(
        self,
        x: Float[Tensor, "N C side side"],
        target: Float[Tensor, "N T side side"] | None,
        noise: Float[Tensor, "N z"],
        z_from_prior: Bool[Tensor, " N"] | None = None,
    ) -> tuple[Float[Tensor, "N C side side"], Gaussian | None, Gaussian]:
        """Adds the level's latent to the decoder's features x.

        Args:
            x: the decoder's features.
            target: the encoder's features of x_t; None draws from the prior.
            noise: epsilon of the draw, z = channels * side * side.
            z_from_prior: which z are drawn from the prior although there is a target.
        Returns:
            the new features, q (None without a target) and p, each over (N, z).
        """
        p = _split(self.prior(x))
        q = None if target is None else _split(self.posterior(torch.cat([x, target], dim=1)))
        chosen = p if q is None else q
        if q is not None and z_from_prior is not None:
            chosen = p.where(z_from_prior, q)
        z = chosen.draw(noise)
        return x + self.back(z.view(len(x), -1, *x.shape[-2:])), q, p


def _gaussian_net(in_channels: int, latent_channels: int) -> nn.Sequential:
    last = nn.Conv2d(in_channels // 2, 2 * latent_channels, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    first = nn.Conv2d(in_channels, in_channels // 2, 3, padding=1)
    return nn.Sequential(first, nn.LeakyReLU(0.2), last)


def _split(maps: Float[Tensor, "N _ side side"]) -> Gaussian:
    mean, log_variance = maps.float().chunk(2, dim=1)
    return Gaussian(mean.flatten(1), log_variance.flatten(1))
