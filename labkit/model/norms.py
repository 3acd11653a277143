"""Normalisation layers by name."""

from __future__ import annotations

import math

from torch import nn


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
