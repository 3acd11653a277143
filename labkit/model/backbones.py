"""Convolutional encoders and decoders with skip connections (SVG, Denton & Fergus 2018).

An encoder turns a 64 x 64 frame into an encoding h and four feature maps (at 32, 16, 8 and 4
pixels for dcgan64; at 64, 32, 16 and 8 for vgg64). A decoder turns a predicted encoding g and
those maps into a full-size map. With `film` the condition scales and shifts the decoder's
features at every stage (Perez et al. 2018).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.config import ModelConfig

FRAME_SIZE = 64
"""Height and width of the frames these backbones take, in pixels."""


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    # Groups of about 8 channels: the same function in training and in a rollout.
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 8)), channels)


class Block(nn.Module):
    """Convolution, norm, FiLM where there is a condition, leaky ReLU."""

    def __init__(self, conv: nn.Module, channels: int, norm: str, film_size: int = 0) -> None:
        super().__init__()
        self.conv = conv
        self.norm = _norm(norm, channels)
        self.film = nn.Linear(film_size, 2 * channels) if film_size else None
        if self.film is not None:
            # Start as the identity: the condition comes in as far as it helps.
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(
        self, x: Float[Tensor, "N _ _ _"], cue: Float[Tensor, "N e"] | None = None
    ) -> Float[Tensor, "N _ _ _"]:
        """`cue` is the embedded condition of each picture."""
        x = self.norm(self.conv(x))
        if self.film is not None:
            # x' = (1 + gamma(c)) * x + beta(c), one gamma and beta a channel
            gamma, beta = self.film(cue)[:, :, None, None].chunk(2, dim=1)
            x = (1 + gamma) * x + beta
        return F.leaky_relu(x, 0.2)


class Stage(nn.Module):
    """Blocks in a row, all given the same cue."""

    def __init__(self, *blocks: Block) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, x: Float[Tensor, "N _ _ _"], cue: Float[Tensor, "N e"] | None = None
    ) -> Float[Tensor, "N _ _ _"]:
        """Applies the blocks in order."""
        for block in self.blocks:
            x = block(x, cue)
        return x


class Encoder(nn.Module):
    """Frame -> encoding h and skip features, finest first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w, norm = config.width, config.norm
        channels = (3, w, 2 * w, 4 * w, 8 * w)
        self.pool = config.backbone == "vgg64"
        if self.pool:
            stages = [
                Stage(
                    *(
                        Block(nn.Conv2d(c, b, 3, padding=1), b, norm)
                        for c in (a, *[b] * (depth - 1))
                    )
                )
                for (a, b), depth in zip(pairwise(channels), (2, 2, 3, 3), strict=True)
            ]
        else:
            stages = [
                Stage(Block(nn.Conv2d(a, b, 4, stride=2, padding=1), b, norm))
                for a, b in pairwise(channels)
            ]
        self.stages = nn.ModuleList(stages)
        self.to_encoding = nn.Conv2d(8 * w, config.encoding_size, 4)
        self.encoding_norm = _norm(norm, config.encoding_size)

    def forward(
        self, frames: Float[Tensor, "N 3 64 64"]
    ) -> tuple[Float[Tensor, "N g"], list[Tensor]]:
        """Returns h in (-1, 1) and the four feature maps, each (N, channels, side, side)."""
        skips = []
        x = frames
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
            if self.pool:
                x = F.max_pool2d(x, 2)
        h = self.encoding_norm(self.to_encoding(x)).tanh()
        return h.flatten(1), skips


class Decoder(nn.Module):
    """Predicted encoding g and skip features -> a full-size map, without a final activation."""

    def __init__(self, config: ModelConfig, out_channels: int, film_size: int) -> None:
        super().__init__()
        w, norm = config.width, config.norm
        self.upsample = config.backbone == "vgg64"
        self.from_encoding = Stage(
            Block(nn.ConvTranspose2d(config.encoding_size, 8 * w, 4), 8 * w, norm, film_size)
        )
        if self.upsample:
            # Channels in (doubled by the skip), then out of each convolution of a stage.
            plans = ((8, 8, 8, 4), (4, 4, 4, 2), (2, 2, 1), (1, 1))
            stages = []
            for first, *rest in plans:
                ins = (2 * first, *rest[:-1])
                stages.append(
                    Stage(
                        *(
                            Block(
                                nn.Conv2d(a * w, b * w, 3, padding=1),
                                b * w,
                                norm,
                                film_size,
                            )
                            for a, b in zip(ins, rest, strict=True)
                        )
                    )
                )
            self.to_output = nn.ConvTranspose2d(w, out_channels, 3, padding=1)
        else:
            stages = [
                Stage(
                    Block(
                        nn.ConvTranspose2d(2 * a * w, b * w, 4, stride=2, padding=1),
                        b * w,
                        norm,
                        film_size,
                    )
                )
                for a, b in ((8, 4), (4, 2), (2, 1))
            ]
            self.to_output = nn.ConvTranspose2d(2 * w, out_channels, 4, stride=2, padding=1)
        self.stages = nn.ModuleList(stages)

    def forward(
        self,
        g: Float[Tensor, "N g"],
        skips: list[Tensor],
        cue: Float[Tensor, "N e"] | None = None,
    ) -> Float[Tensor, "N out 64 64"]:
        """`skips` as the encoder gives them, finest first."""
        x = self.from_encoding(g[:, :, None, None], cue)
        coarse_to_fine = skips[::-1]
        for stage, skip in zip(self.stages, coarse_to_fine, strict=False):
            if self.upsample:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = stage(torch.cat([x, skip], dim=1), cue)
        if not self.upsample:
            x = torch.cat([x, coarse_to_fine[-1]], dim=1)
        return self.to_output(x)
