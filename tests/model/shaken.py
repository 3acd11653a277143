"""A model as after some training, and clips for it."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.config import ModelConfig
from labkit.model import VideoCVAE

CONDITION_SIZE = 4


def shaken(config: ModelConfig) -> VideoCVAE:
    """A model in which nothing is zero any more."""
    torch.manual_seed(0)
    model = VideoCVAE(config, CONDITION_SIZE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def two_clips(n_frames: int, side: int) -> tuple[Tensor, Tensor]:
    """Frames and conditions of two clips."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(2, n_frames, 3, side, side, generator=generator)
    return frames, torch.randn(2, n_frames, CONDITION_SIZE, generator=generator)
