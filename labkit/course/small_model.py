"""A small version of the course's model, trained for some seconds where a page needs weights that
are not random."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from labkit.config import ModelConfig
from labkit.data.simulator import simulate_clip
from labkit.model import VideoCVAE
from labkit.presets import preset
from labkit.training import negative_elbo


def small_course_model() -> ModelConfig:
    """The preset `course` with smaller sizes: dcgan64 of width 8, g 32, z 8, LSTMs of 64 units.
    Batch norm, painted frames, LSTMs over vectors, skip features of the last context frame."""
    sizes = {"width": 8, "encoding_size": 32, "latent_size": 8, "hidden_size": 64}
    return dataclasses.replace(preset("course").model, backbone="dcgan64", **sizes)


def simulated_windows(
    count: int, *, first: int = 0, steps: int = 12, seed: int = 1
) -> tuple[Float[Tensor, "B T 3 64 64"], Float[Tensor, "B T 7"]]:
    """The first `steps` frames of simulated clips, in [0, 1], and their conditions.

    Args:
        count: number of clips.
        first: number of the first clip.
        steps: frames of each.
        seed: of the simulated table.
    """
    clips = [simulate_clip(seed=seed, index=first + number) for number in range(count)]
    frames = np.stack([clip.frames[:steps] for clip in clips])
    rows = [np.concatenate([clip.actions, clip.positions], axis=1)[:steps] for clip in clips]
    return torch.from_numpy(frames).float() / 255, torch.from_numpy(np.stack(rows))


def train_small(
    frames: Float[Tensor, "N T 3 64 64"],
    condition: Float[Tensor, "N T C"],
    *,
    updates: int = 80,
    batch: int = 8,
    beta: float = 1e-4,
    seed: int = 1,
) -> VideoCVAE:
    """A `small_course_model` after some teacher-forced updates with Adam at 0.002.

    Args:
        frames, condition: the training clips.
        updates: number of updates.
        batch: clips in each.
        beta: KL weight.
        seed: of weights, order and noise.
    """
    torch.manual_seed(seed)
    model = VideoCVAE(small_course_model(), condition.shape[-1]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    for _ in range(updates):
        chosen = torch.randperm(len(frames))[:batch]
        rollout = model.rollout(frames[chosen], condition[chosen], 2, teacher_forced=True)
        optimizer.zero_grad()
        negative_elbo(rollout, frames[chosen, 1:], beta).loss.backward()
        optimizer.step()
    return model.eval()
