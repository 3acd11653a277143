"""From the decoder's map to pixels: painted anew, or composed from frames already seen."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.model.warping import warp

CDNA_KERNELS = 4
"""Kernels of a CDNA output."""
CDNA_SIDE = 9
"""Their height and width in pixels: an arm moves up to 6 pixels a frame, hardly more than the 4
that such a kernel can reach, and never within the 2 of a kernel of side 5."""


class PaintedOutput(nn.Module):
    """Every pixel anew: a sigmoid (SVG, and the course's sample code)."""

    in_channels = 3

    def forward(
        self,
        maps: Float[Tensor, "N 3 H W"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        anchor: Float[Tensor, "N 3 H W"],
    ) -> Float[Tensor, "N 3 H W"]:
        """Returns frames in (0, 1)."""
        return maps.float().sigmoid()


class FlowOutput(nn.Module):
    """A blend of three sources under masks that sum to 1 at each pixel, after Finn et al. 2016:
    the previous frame moved by a dense flow, the last context frame, and fresh pixels."""

    in_channels = 3 + 2 + 3  # fresh pixels, flow, masks

    def forward(
        self,
        maps: Float[Tensor, "N 8 H W"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        anchor: Float[Tensor, "N 3 H W"],
    ) -> Float[Tensor, "N 3 H W"]:
        """Returns frames in [0, 1], which a blend of such frames leaves by rounding alone."""
        fresh, flow, masks = maps.float().split((3, 2, 3), dim=1)
        # x_t = sum_k m_k * source_k,  m = softmax over k
        moved, kept, painted = masks.softmax(dim=1).chunk(3, dim=1)
        return moved * warp(previous, flow) + kept * anchor + painted * fresh.sigmoid()


class CDNAOutput(nn.Module):
    """Convolutional dynamic neural advection (Finn et al. 2016): the previous frame under a few
    kernels, each made from the predicted encoding and the same at every pixel; blended, under
    masks that sum to 1, with the last context frame and fresh pixels."""

    in_channels = 3 + CDNA_KERNELS + 2  # fresh pixels, masks

    def __init__(self, encoding_size: int) -> None:
        super().__init__()
        self.kernels = nn.Linear(encoding_size, CDNA_KERNELS * CDNA_SIDE**2)

    def forward(
        self,
        maps: Float[Tensor, "N _ H W"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        anchor: Float[Tensor, "N 3 H W"],
    ) -> Float[Tensor, "N 3 H W"]:
        """Returns frames in [0, 1]."""
        n, _, height, width = previous.shape
        fresh, masks = maps.float().split((3, CDNA_KERNELS + 2), dim=1)
        # A softmax over a kernel's cells: it moves and blurs, and makes nothing brighter.
        kernels = self.kernels(g).float().view(n, CDNA_KERNELS, -1).softmax(dim=-1)
        padding = CDNA_SIDE // 2
        around = F.pad(previous, [padding] * 4, mode="replicate")
        # Each clip has kernels of its own: clips become groups, and channels the batch.
        moved = F.conv2d(
            around.transpose(0, 1), kernels.view(-1, 1, CDNA_SIDE, CDNA_SIDE), groups=n
        ).view(3, n, CDNA_KERNELS, height, width)
        m = masks.softmax(dim=1)
        blend = torch.einsum("cnkhw,nkhw->nchw", moved, m[:, :CDNA_KERNELS])
        return blend + m[:, -2:-1] * anchor + m[:, -1:] * fresh.sigmoid()


def make_output(kind: str, encoding_size: int) -> PaintedOutput | FlowOutput | CDNAOutput:
    """The output of that kind: `sigmoid`, `flow` or `cdna`."""
    if kind == "cdna":
        return CDNAOutput(encoding_size)
    return FlowOutput() if kind == "flow" else PaintedOutput()
