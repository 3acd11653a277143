"""Normalisation layers, and the layers by which the condition acts on convolutions.

FiLM and the conditional convolution change nothing at first.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

EMBEDDING_SIZE = 64
"""Size of the embedded condition that FiLM layers read."""


def norm_2d(kind: str, channels: int) -> nn.Module:
    """A norm of feature maps (N, channels, H, W): `batch` or `group`."""
    return nn.BatchNorm2d(channels) if kind == "batch" else _groups(channels)


def norm_1d(kind: str, channels: int) -> nn.Module:
    """A norm of vectors (N, channels): `batch`, `group` or `none`."""
    if kind == "none":
        return nn.Identity()
    return nn.BatchNorm1d(channels) if kind == "batch" else _groups(channels)


def _groups(channels: int) -> nn.GroupNorm:
    # Groups of about 8 channels (Wu & He 2018): the same function in training and in a rollout.
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 8)), channels)


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018): x' = (1 + gamma(c)) x + beta(c), with
    one gamma and one beta a channel, linear in an embedding of the condition."""

    def __init__(self, embedding_size: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding_size, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, x: Float[Tensor, "N C H W"], embedding: Float[Tensor, "N e"]
    ) -> Float[Tensor, "N C H W"]:
        """`embedding` is the embedded condition of each picture."""
        gamma, beta = self.linear(embedding)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * x + beta


class ConditionalScale(nn.Module):
    """Conditional convolution (Choi et al. 2019): output channel k of a convolution becomes
    softplus(u_k . c) x_k + v_k . c.

    There c is one-hot; a robot's condition is not, so a constant 1 joins it as a last entry,
    which makes the scale 1 at first. Where the convolution is normalised, x is what comes after.
    """

    def __init__(self, condition_size: int, channels: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.zeros(channels, condition_size + 1))
        self.v = nn.Parameter(torch.zeros(channels, condition_size + 1))
        with torch.no_grad():
            self.u[:, -1] = 0.5413248546  # softplus of it is 1

    def forward(
        self, x: Float[Tensor, "N C H W"], embedding: Float[Tensor, "N c"]
    ) -> Float[Tensor, "N C H W"]:
        """`embedding` is the condition of each picture."""
        c = F.pad(embedding, (0, 1), value=1.0)
        scale, shift = F.softplus(c @ self.u.T), c @ self.v.T
        return scale[:, :, None, None] * x + shift[:, :, None, None]


def modulation(kind: str, condition_size: int, channels: int) -> FiLM | ConditionalScale | None:
    """The layer for a block of that many channels: `film`, `conv`, or None for `input`."""
    if kind == "film":
        return FiLM(EMBEDDING_SIZE, channels)
    return ConditionalScale(condition_size, channels) if kind == "conv" else None


class ConditionEmbedding(nn.Module):
    """What the modulating layers read: an embedding of the condition for FiLM, the condition
    itself for a conditional convolution."""

    def __init__(self, kind: str, condition_size: int) -> None:
        super().__init__()
        self.embed = (
            nn.Sequential(nn.Linear(condition_size, EMBEDDING_SIZE), nn.LeakyReLU(0.2))
            if kind == "film"
            else nn.Identity()
        )

    def forward(self, condition: Float[Tensor, "N c"]) -> Float[Tensor, "N _"]:
        """The embedding of each picture's condition."""
        return self.embed(condition)
