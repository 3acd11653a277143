"""Moving pictures and feature maps about: the dense warp, and skip features aligned by it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def warp(
    maps: Float[Tensor, "N C H W"], flow: Float[Tensor, "N 2 H W"]
) -> Float[Tensor, "N C H W"]:
    """Backward warp: pixel (x, y) is read at (x, y) + flow, in pixels (x first), bilinearly;
    outside the map its border is repeated."""
    height, width = maps.shape[-2:]
    ys = torch.arange(height, device=flow.device, dtype=flow.dtype)
    xs = torch.arange(width, device=flow.device, dtype=flow.dtype)
    # grid_sample counts from -1 to 1 between the outer pixels' centres.
    x = (xs[None, None, :] + flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    y = (ys[None, :, None] + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=True)


class Aligner(nn.Module):
    """Moves skip features to where the decoder wants them (the feature aligner of HAF-SVG, Lin et
    al. 2020, done with a dense flow): features of an earlier frame lie where things were, and
    joined as they are they blur what has moved since."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.flow = nn.Conv2d(channels, 2, 3, padding=1)
        # Start as a plain skip connection: nothing moves.
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)

    def forward(
        self, x: Float[Tensor, "N C H W"], skip: Float[Tensor, "N S H W"]
    ) -> Float[Tensor, "N S H W"]:
        """`skip` as the decoder's own features x ask for it."""
        return warp(skip.float(), self.flow(x).float()).to(skip.dtype)
