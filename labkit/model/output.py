"""From the decoder's map to pixels: painted anew, or composed from frames already seen; and the
warp that moves pictures and feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Maps = Sequence[Float[Tensor, "N _ _ _"]]
"""The encoder's feature maps of a frame, finest first."""

SourceWeights = dict[str, Float[Tensor, "N 1 H W"]]
"""The weight of each source of a frame at each pixel, by the source's name; they sum to 1."""

CDNA_KERNELS = 4
"""Kernels of a CDNA output."""
CDNA_SIDE = 9
"""Their height and width in pixels: an arm moves up to 6 pixels a frame, hardly more than the 4
that such a kernel can reach, and never within the 2 of a kernel of side 5."""
CORRECTION = 0.1
"""Frames by which a layer's shift may differ from what is linear in the condition; where there
is no condition, all that it can be shifted by."""


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


class Output(nn.Module):
    """What all outputs have."""

    in_channels: int
    """of the decoder's map"""
    half_size: bool = False
    """the decoder's map has half of the frame's side"""
    reads_latent: bool = False
    """`conditioning` ends with z_t"""
    carries: bool = False
    """`push` changes the reference from step to step"""

    def prepare_reference(
        self,
        frames: Float[Tensor, "N 3 H W"],
        maps: Maps,
        first: Float[Tensor, "N 3 H W"] | None = None,
    ) -> Float[Tensor, "N _ H W"]:
        """The reference frame that `forward` reads at the steps to come, made once a clip. Its
        first three channels are the frame itself.

        Args:
            frames: context frames.
            maps: their feature maps.
            first: the first context frame of each one's clip; None: the frames themselves.
        """
        return frames

    def push(
        self,
        reference: Float[Tensor, "N _ H W"],
        conditioning: Float[Tensor, "N _"] | None,
        before: Float[Tensor, "N C"] | None,
    ) -> tuple[Float[Tensor, "N _ H W"], Any]:
        """The reference frame as this step finds it, made before `forward` is called. Here
        nothing changes in it.

        Args:
            reference: what `prepare_reference` made, or what `push` made of it at the step before.
            conditioning: as in `forward`.
            before: the condition of the step before; that of this step, where there is none.
        Returns:
            the reference for this step and the next, and what the step chose from (`Pusher`).
        """
        return reference, None

    def forward(
        self,
        maps: Float[Tensor, "N _ _ _"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        reference: Float[Tensor, "N _ H W"],
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> Float[Tensor, "N 3 H W"]:
        """Frames in [0, 1], which a blend of such frames leaves by rounding alone.

        Args:
            maps: of the decoder.
            g: predicted encoding.
            previous: x_{t-1}, true or predicted.
            reference: what `prepare_reference` made of the last context frame.
            conditioning: the condition, (N, C), and its change since the reference frame; None is
                no condition.
        """
        return self.compose(maps, g, previous, reference, conditioning)[0]

    def compose(
        self,
        maps: Float[Tensor, "N _ _ _"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        reference: Float[Tensor, "N _ H W"],
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> tuple[Float[Tensor, "N 3 H W"], SourceWeights]:
        """The frames of `forward`, and the weight of each source at each pixel."""
        raise NotImplementedError


class PaintedOutput(Output):
    """Every pixel anew: a sigmoid (SVG, and the course's sample code)."""

    in_channels = 3

    def compose(
        self,
        maps: Float[Tensor, "N 3 H W"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        reference: Float[Tensor, "N 3 H W"],
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> tuple[Float[Tensor, "N 3 H W"], SourceWeights]:
        """As `Output.compose`."""
        return maps.float().sigmoid(), {"fresh": torch.ones_like(previous[:, :1])}


class FlowOutput(Output):
    """A blend of three sources under masks that sum to 1 at each pixel, after Finn et al. 2016:
    the previous frame moved by a dense flow, the last context frame, and fresh pixels."""

    in_channels = 3 + 2 + 3  # fresh pixels, flow, masks

    def compose(
        self,
        maps: Float[Tensor, "N 8 H W"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        reference: Float[Tensor, "N 3 H W"],
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> tuple[Float[Tensor, "N 3 H W"], SourceWeights]:
        """As `Output.compose`."""
        fresh, flow, masks = maps.float().split((3, 2, 3), dim=1)
        # x_t = sum_k m_k * source_k,  m = softmax over k
        moved, still, painted = masks.softmax(dim=1).chunk(3, dim=1)
        frames = moved * warp(previous, flow) + still * reference + painted * fresh.sigmoid()
        return frames, {"previous": moved, "context": still, "fresh": painted}


class CDNAOutput(Output):
    """Convolutional dynamic neural advection (Finn et al. 2016): the previous frame under a few
    kernels, each made from the predicted encoding and the same at every pixel; blended, under
    masks that sum to 1, with the last context frame and fresh pixels."""

    in_channels = 3 + CDNA_KERNELS + 2  # fresh pixels, masks

    def __init__(self, encoding_size: int) -> None:
        super().__init__()
        self.kernels = nn.Linear(encoding_size, CDNA_KERNELS * CDNA_SIDE**2)

    def compose(
        self,
        maps: Float[Tensor, "N _ H W"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        reference: Float[Tensor, "N 3 H W"],
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> tuple[Float[Tensor, "N 3 H W"], SourceWeights]:
        """As `Output.compose`."""
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
        still, painted = m[:, -2:-1], m[:, -1:]
        by_kernels = m[:, :CDNA_KERNELS].sum(dim=1, keepdim=True)
        weights = {"previous": by_kernels, "context": still, "fresh": painted}
        return blend + still * reference + painted * fresh.sigmoid(), weights


class LayerOutput(Output):
    """FlowOutput with one source more: a layer, cut out of the last context frame and moved as a
    whole (layers: Wang & Adelson 1994; a picture moved by few numbers: the spatial transformer
    predictor of Finn et al. 2016).

    A mask is cut from the encoder's features of that frame, once a clip: in practice it finds
    the arm. At each step frame and mask are shifted, scaled and sheared together, by four numbers
    that are made from g, from the condition and from what has changed in it since that frame.
    However far the horizon, the layer is read from a frame that was seen, and is as sharp; what is
    warped from prediction to prediction blurs.
    """

    in_channels = 3 + 2 + 4  # fresh pixels, flow, masks

    def __init__(
        self, encoding_size: int, condition_size: int, channels: Sequence[int], hidden: int = 32
    ) -> None:
        """
        Args:
            encoding_size: of g.
            condition_size: C.
            channels: of the encoder's maps that the mask is cut from, finest first.
            hidden: units between g, the condition and the four numbers.
        """
        super().__init__()
        self.squeeze = nn.ModuleList(nn.Conv2d(each, 16, 1) for each in channels)
        self.mask = nn.Sequential(
            nn.Conv2d(16 + 3, 16, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 1, 3, padding=1),
        )
        self.from_g = nn.Linear(encoding_size, hidden)
        self.to_pose = nn.Linear(hidden, 4)
        self.from_conditioning = nn.Linear(2 * condition_size, hidden) if condition_size else None
        # Most of it is linear: an arm that goes twice as far is shifted twice as far. No constant:
        # one would carry the layer out of the frame, to show its border as ground.
        self.direct = nn.Linear(2 * condition_size, 4, bias=False) if condition_size else None
        for parameter in self.to_pose.parameters():  # nothing moves at first
            nn.init.zeros_(parameter)
        if self.direct is not None:
            nn.init.zeros_(self.direct.weight)

    def prepare_reference(
        self,
        frames: Float[Tensor, "N 3 H W"],
        maps: Maps,
        first: Float[Tensor, "N 3 H W"] | None = None,
    ) -> Float[Tensor, "N 4 H W"]:
        """The frame, and the logit of the layer's mask."""
        parts = [squeeze(each) for squeeze, each in zip(self.squeeze, maps, strict=False)]
        size = frames.shape[-2:]
        full = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in parts]
        features = F.leaky_relu(torch.stack(full).sum(0), 0.2)
        return torch.cat([frames, self.mask(torch.cat([features, frames], dim=1)).float()], dim=1)

    def compose(
        self,
        maps: Float[Tensor, "N 9 H W"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        reference: Float[Tensor, "N 4 H W"],
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> tuple[Float[Tensor, "N 3 H W"], SourceWeights]:
        """As `Output.compose`."""
        fresh, flow, masks = maps.float().split((3, 2, 4), dim=1)
        layer_frame = self.warp_layer(reference, g, conditioning)  # (N, 4, H, W)
        # Where the layer was cut out, the last context frame does not show what is behind it.
        zero = torch.zeros_like(reference[:, :1])
        bias = torch.cat([zero, -reference[:, 3:], zero, layer_frame[:, 3:]], dim=1)
        # x_t = sum_k m_k * source_k,  m = softmax over k
        moved, still, painted, layer = (masks + bias).softmax(dim=1).chunk(4, dim=1)
        composed = (
            moved * warp(previous, flow) + still * reference[:, :3] + painted * fresh.sigmoid()
        )
        weights = {"previous": moved, "context": still, "layer": layer, "fresh": painted}
        return composed + layer * layer_frame[:, :3], weights

    def warp_layer(
        self,
        reference: Float[Tensor, "N 4 H W"],
        g: Float[Tensor, "N g"],
        conditioning: Float[Tensor, "N c"] | None,
    ) -> Float[Tensor, "N 4 H W"]:
        """Frame and mask of the layer, moved to where it is at this step."""
        height, width = reference.shape[-2:]
        with torch.autocast(g.device.type, enabled=False):
            hidden, linear = self.from_g(g.float()), 0.0
            if (
                conditioning is not None
                and self.from_conditioning is not None
                and self.direct is not None
            ):
                c = conditioning.float()
                hidden, linear = hidden + self.from_conditioning(c), self.direct(c)
            pose = linear + CORRECTION * self.to_pose(F.leaky_relu(hidden, 0.2)).tanh()
        # Where each pixel is read, in half frames from the middle of the frame:
        # x' = (1 + a/2) x + b/2 y + 2 s,  y' = (1 + a/2) y + 2 r
        a, b, s, r = (each[:, None, None] for each in pose.unbind(dim=1))
        x = torch.linspace(-1, 1, width, device=pose.device)[None, None, :]
        y = torch.linspace(-1, 1, height, device=pose.device)[None, :, None]
        scale = 1 + 0.5 * a
        grid = torch.stack([scale * x + 0.5 * b * y + 2 * s, scale * y + 2 * r + 0 * x], dim=-1)
        return F.grid_sample(reference, grid, padding_mode="border", align_corners=True)


def make_output(
    kind: str, encoding_size: int, condition_size: int, channels: Sequence[int]
) -> Output:
    """The output of that kind: `sigmoid`, `flow`, `cdna` or `layer`.

    Args:
        kind: which.
        encoding_size: of g.
        condition_size: columns of the condition.
        channels: of the encoder's maps, finest first.
    """
    if kind == "layer":
        return LayerOutput(encoding_size, condition_size, channels[:3])
    if kind == "cdna":
        return CDNAOutput(encoding_size)
    return FlowOutput() if kind == "flow" else PaintedOutput()
