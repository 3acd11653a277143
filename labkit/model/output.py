"""From the decoder's map to pixels: painted anew, or composed from frames already seen."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PaintedOutput(nn.Module):
    """Every pixel anew: a sigmoid (SVG, and the course's sample code)."""

    in_channels = 3

    def forward(
        self,
        maps: Float[Tensor, "N 3 H W"],
        previous: Float[Tensor, "N 3 H W"],
        anchor: Float[Tensor, "N 3 H W"],
    ) -> Float[Tensor, "N 3 H W"]:
        """Returns frames in (0, 1)."""
        return maps.sigmoid()


class ComposedOutput(nn.Module):
    """A blend of three sources under masks that sum to 1 at each pixel, after Finn et al. 2016:
    the previous frame moved by a dense flow, the last context frame, and fresh pixels."""

    in_channels = 3 + 2 + 3  # fresh pixels, flow, masks

    def forward(
        self,
        maps: Float[Tensor, "N 8 H W"],
        previous: Float[Tensor, "N 3 H W"],
        anchor: Float[Tensor, "N 3 H W"],
    ) -> Float[Tensor, "N 3 H W"]:
        """Returns frames in [0, 1]: a blend of frames in [0, 1] cannot leave it."""
        fresh, flow, masks = maps.float().split((3, 2, 3), dim=1)
        # x_t = sum_k m_k * source_k,  m = softmax over k
        moved, kept, painted = masks.softmax(dim=1).chunk(3, dim=1)
        return moved * warp(previous, flow) + kept * anchor + painted * fresh.sigmoid()


def warp(
    frames: Float[Tensor, "N 3 H W"], flow: Float[Tensor, "N 2 H W"]
) -> Float[Tensor, "N 3 H W"]:
    """Backward warp: pixel (x, y) is read at (x, y) + flow, in pixels (x first), bilinearly;
    outside the frame its border is repeated."""
    height, width = frames.shape[-2:]
    ys = torch.arange(height, device=flow.device, dtype=flow.dtype)
    xs = torch.arange(width, device=flow.device, dtype=flow.dtype)
    # grid_sample counts from -1 to 1 between the outer pixels' centres.
    x = (xs[None, None, :] + flow[:, 0]) * (2 / (width - 1)) - 1
    y = (ys[None, :, None] + flow[:, 1]) * (2 / (height - 1)) - 1
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=True)
