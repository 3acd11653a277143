"""Convolutional encoders and decoders with skip connections (SVG, Denton & Fergus 2018).

An encoder turns a square frame of side S into an encoding h and four feature maps (at S/2, S/4,
S/8 and S/16 for dcgan64; at S, S/2, S/4 and S/8 for vgg64). A decoder turns a predicted encoding
g and those maps into a full-size map. S is a multiple of 16; the names are the reference's, whose
S is 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.config import ModelConfig
from labkit.model.gaussian import Gaussian
from labkit.model.latent_maps import LatentMap
from labkit.model.layers import modulation, norm_2d
from labkit.model.output import Aligner
from labkit.model.places import PlaceMaps


class Block(nn.Module):
    """Convolution, norm, the condition's modulation where there is one, leaky ReLU."""

    def __init__(
        self, conv: nn.Module, channels: int, norm: str, modulate: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv, self.channels = conv, channels
        self.norm = norm_2d(norm, channels)
        self.modulate = modulate

    def forward(
        self, x: Float[Tensor, "N _ _ _"], embedding: Float[Tensor, "N e"] | None = None
    ) -> Float[Tensor, "N _ _ _"]:
        """`embedding` is the embedded condition of each picture."""
        return self.finish(self.conv(x), embedding)

    def finish(
        self, x: Float[Tensor, "N _ _ _"], embedding: Float[Tensor, "N e"] | None
    ) -> Float[Tensor, "N _ _ _"]:
        """What comes after the convolution."""
        x = self.norm(x)
        if self.modulate is not None:
            x = self.modulate(x, embedding)
        return F.leaky_relu(x, 0.2)


class Encoder(nn.Module):
    """Frame -> encoding h and skip features, finest first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w, norm = config.width, config.norm
        channels = (3, w, 2 * w, 4 * w, 8 * w)
        self.pool = config.backbone == "vgg64"
        if self.pool:
            stages = [
                nn.Sequential(
                    *(
                        Block(nn.Conv2d(c, b, 3, padding=1), b, norm)
                        for c in (a, *[b] * (depth - 1))
                    )
                )
                for (a, b), depth in zip(pairwise(channels), (2, 2, 3, 3), strict=True)
            ]
        else:
            stages = [
                nn.Sequential(Block(nn.Conv2d(a, b, 4, stride=2, padding=1), b, norm))
                for a, b in pairwise(channels)
            ]
        self.stages = nn.ModuleList(stages)
        self.to_encoding = nn.Conv2d(8 * w, config.encoding_size, config.frame_size // 16)
        self.encoding_norm = norm_2d(norm, config.encoding_size)

    def forward(
        self, frames: Float[Tensor, "N 3 S S"]
    ) -> tuple[Float[Tensor, "N g"], list[Tensor]]:
        """Returns h in (-1, 1) and the four feature maps, each (N, channels, side, side)."""
        maps = []
        x = frames
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
            if self.pool:
                x = F.max_pool2d(x, 2)
        h = self.encoding_norm(self.to_encoding(x)).tanh()
        return h.flatten(1), maps


class Join(nn.Module):
    """A convolution over two maps side by side, as the sum of each one's share.

    By linearity conv([x, skip]) = conv_x(x) + conv_skip(skip). So a skip map that serves many
    steps is convolved once, and it is never copied.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, channels: int) -> None:
        """
        Args:
            conv: over the channels of both.
            channels: how many of them, the first ones, are x's.
        """
        super().__init__()
        self.conv, self.channels = conv, channels

    def forward(self, x: Float[Tensor, "N _ _ _"]) -> Float[Tensor, "N _ _ _"]:
        """x's share, with the bias."""
        return self._share(x, slice(None, self.channels), self.conv.bias)

    def skip(self, skip: Float[Tensor, "M _ _ _"]) -> Float[Tensor, "M _ _ _"]:
        """The skip map's share."""
        return self._share(skip, slice(self.channels, None), None)

    def _share(self, x: Tensor, part: slice, bias: Tensor | None) -> Tensor:
        if isinstance(self.conv, nn.ConvTranspose2d):
            weight = self.conv.weight[part]
            return F.conv_transpose2d(x, weight, bias, self.conv.stride, self.conv.padding)
        return F.conv2d(x, self.conv.weight[:, part], bias, self.conv.stride, self.conv.padding)


@dataclass(frozen=True)
class Skips:
    """Skip features of some source frames of each clip, and the step that each belongs to."""

    maps: Sequence[Float[Tensor, "B F _ _ _"]]
    """finest first: the encoder's maps, or the shares that `Decoder.prepare` made of them"""
    source: Sequence[int]
    """which of the F frames each of the S steps uses"""

    def at(self, level: int) -> Float[Tensor, "B S _ _ _"]:
        """A level's map of each step; a view where one frame serves all steps."""
        maps = self.maps[level]
        if len(set(self.source)) == 1:
            chosen = maps[:, self.source[0]].unsqueeze(1)
            return chosen.expand(-1, len(self.source), -1, -1, -1)
        return maps if list(self.source) == [*range(maps.shape[1])] else maps[:, self.source]


@dataclass
class Levels:
    """What the latent maps inside the decoder read, and the Gaussians they return."""

    noise: Float[Tensor, "N z"]
    """epsilon of all levels, side by side"""
    targets: Sequence[Float[Tensor, "N _ _ _"]] | None
    """the encoder's features of x_t at each level; None draws from the prior"""
    z_from_prior: Bool[Tensor, " N"] | None = None
    """which of them draw from the prior although there are targets"""
    posteriors: list[Gaussian] = field(default_factory=list)
    """q of each level"""
    priors: list[Gaussian] = field(default_factory=list)
    """p of each level"""


class Decoder(nn.Module):
    """Predicted encoding g and skip features -> a full-size map, without a final activation."""

    def __init__(
        self,
        config: ModelConfig,
        out_channels: int,
        condition_size: int,
        *,
        change_size: int = 0,
        half_size: bool = False,
    ) -> None:
        """
        Args:
            config: the model's shape.
            out_channels: of the map.
            condition_size: C.
            change_size: numbers of the condition's change, which `places` reads besides.
            half_size: the map has half of the frame's side; of a composed output and dcgan64.
        """
        super().__init__()
        self.half_size = half_size
        w, norm = config.width, config.norm

        def block(conv: nn.Module, channels: int) -> Block:
            kind = config.conditioning
            return Block(conv, channels, norm, modulation(kind, condition_size, channels))

        self.upsample = config.backbone == "vgg64"
        self.from_map = config.predictor == "convlstm"
        # Channels of the first map, after it is joined with the coarsest skip, and after each
        # further stage. A map from a ConvLSTM enters where the first stage would have ended.
        plans = ((8, 8, 8, 4), (4, 4, 4, 2), (2, 2, 1), (1, 1))
        if self.from_map:
            self.from_encoding = None
        else:
            side = config.frame_size // 16
            self.from_encoding = block(nn.ConvTranspose2d(config.encoding_size, 8 * w, side), 8 * w)
        stages = []
        for plan in plans[self.from_map : None if self.upsample else 3]:
            if self.upsample:
                convs = [
                    (nn.Conv2d(a * w * (2 if first else 1), b * w, 3, padding=1), b * w)
                    for first, (a, b) in zip((True, False, False), pairwise(plan), strict=False)
                ]
            else:
                a, b = plan[0], plan[-1]
                convs = [(nn.ConvTranspose2d(2 * a * w, b * w, 4, stride=2, padding=1), b * w)]
            (joint, channels), *rest = convs
            first = block(Join(joint, plan[0] * w), channels)
            stages.append(nn.ModuleList([first, *(block(*conv) for conv in rest)]))
        self.stages = nn.ModuleList(stages)
        last: nn.Module
        if self.upsample:
            last = nn.ConvTranspose2d(w, out_channels, 3, padding=1)
        elif config.output == "sigmoid":
            last = Join(nn.ConvTranspose2d(2 * w, out_channels, 4, stride=2, padding=1), w)
        else:
            last = Join(nn.Conv2d(2 * w, w, 3, padding=1), w)
        self.to_output = last
        # Pixels that are moved again at every step must not show a transposed convolution's
        # checkerboard: enlarged first, then convolved (Odena et al. 2016).
        enlarged = config.output != "sigmoid" and not self.upsample
        self.enlarged = nn.Conv2d(w, out_channels, 3, padding=1) if enlarged else None
        widths = [plan[0] * w for plan in plans[self.from_map :]]
        self.aligners = nn.ModuleList(Aligner(c) for c in widths if config.align)
        placed = [stage[0].channels for stage in stages[not self.from_map :][:2]]
        self.places = (
            PlaceMaps(condition_size + change_size, placed)
            if config.places and condition_size
            else None
        )
        self.levels = nn.ModuleList(
            LatentMap(scale * w, (2 if self.upsample else 1) * scale * w, config.level_size)
            for scale in (4, 2)[: config.latent_levels - 1]
        )

    @property
    def joins(self) -> list[Join]:
        """Where skip features come in, coarsest first."""
        first = [stage[0].conv for stage in self.stages]
        return first if self.upsample else [*first, self.to_output]

    def prepare(self, maps: Sequence[Float[Tensor, "B F _ _ _"]]) -> list[Tensor]:
        """Skip features as `forward` reads them: the part of the work that is the same at every
        step that uses these frames, done once. Finest first, as they came."""
        if len(self.aligners):
            return list(maps)  # the decoder moves them first, differently at each step
        used = zip(self.joins, reversed(maps[: len(self.joins)]), strict=True)
        shares = [join.skip(each.flatten(0, 1)).unflatten(0, each.shape[:2]) for join, each in used]
        return shares[::-1]

    def forward(
        self,
        g: Float[Tensor, "N ..."],
        skips: Skips,
        embedding: Float[Tensor, "N e"] | None = None,
        levels: Levels | None = None,
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> Float[Tensor, "N out _ _"]:
        """A map for each of N = B * S steps.

        Args:
            g: predicted encodings (N, g), or maps of them (N, c, side, side).
            skips: prepared.
            embedding: the embedded condition of each step.
            levels: for the latent maps; their Gaussians are added to it.
            conditioning: the condition and its change, for the place maps.
        """
        place_maps: list[Tensor] = []
        x = g if self.from_encoding is None else self.from_encoding(g[:, :, None, None], embedding)
        count = len(self.joins)
        for number, stage in enumerate(self.stages):
            if self.from_map or number:
                x = self._latent(x, number - (not self.from_map), levels)
            if self.upsample:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            first, *rest = stage
            joint = self._add_skip(x, number, first.conv, skips.at(count - 1 - number))
            level = number - (not self.from_map)
            if level == 0 and self.places is not None and conditioning is not None:
                place_maps = self.places(conditioning, joint.shape[-1])
            if 0 <= level < len(place_maps):
                joint = joint + place_maps[level].to(joint.dtype)
            x = first.finish(joint, embedding)
            for block in rest:
                x = block(x, embedding)
        if self.upsample:
            return self.to_output(x)
        x = self._add_skip(x, count - 1, self.to_output, skips.at(0))
        if self.enlarged is None:
            return x
        x = F.leaky_relu(x, 0.2)
        if not self.half_size:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
        return self.enlarged(x)

    def _add_skip(
        self, x: Float[Tensor, "N _ _ _"], number: int, join: Join, skip: Tensor
    ) -> Float[Tensor, "N _ _ _"]:
        """The convolution over x and the skip map of a join."""
        if len(self.aligners):
            return join(x) + join.skip(self.aligners[number](x, skip.flatten(0, 1)))
        own = join(x)
        return (own.unflatten(0, skip.shape[:2]) + skip).flatten(0, 1)

    def _latent(self, x: Tensor, level: int, levels: Levels | None) -> Tensor:
        """x with the latent map of that level, where there is one."""
        if level >= len(self.levels) or levels is None:
            return x
        latent = self.levels[level]
        size = latent.back.in_channels * x.shape[-1] ** 2
        before = sum(part.mean.shape[1] for part in levels.priors)
        noise = levels.noise[:, before : before + size]
        target = None if levels.targets is None else levels.targets[level]
        x, q, p = latent(x, target, noise, levels.z_from_prior)
        levels.priors.append(p)
        levels.posteriors += [] if q is None else [q]
        return x


def map_level(config: ModelConfig) -> int:
    """Which of the encoder's maps has an eighth of the frame's side."""
    return 3 if config.backbone == "vgg64" else 2


def skip_frame(config: ModelConfig, n_past: int) -> int:
    """The context frame whose skip features serve the steps after it (`ModelConfig.skip`)."""
    return {"first": 0, "svg": max(0, n_past - 2)}.get(config.skip, n_past - 1)


def drawn_skip_frame(n_past: int, generator: torch.Generator | None) -> int:
    """A context frame drawn at random, for a training rollout (SRVP, Franceschi et al. 2020)."""
    device = None if generator is None else generator.device
    return int(torch.randint(n_past, (), generator=generator, device=device))
