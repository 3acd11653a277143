"""Parts of the output `scene` that are trained alone, before the whole model is.

A part alone needs no rollout and no other network, so an update takes a small part of the time that
one of the whole model takes.

    arm   colour and opacity of the arm's picture, and what places it:
          frame_t ~ (1 - alpha) median + alpha colour, where `median` is that of the clip's frames
          over time. Little of a moving arm is in it.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm.auto import tqdm

from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE
from labkit.model.scene import SceneOutput, light_statistics

ARM_CLIPS = 512
"""training clips that the arm is learned from, evenly spread"""
ARM_BATCH = 16
"""frames of an update, each of another clip. With as many frames in all, smaller batches and more
updates gave a better arm than larger batches and fewer updates."""
ARM_RATE = 0.005
"""Adam's learning rate at the start; it falls to 0 along a cosine"""


def train_arm(
    model: VideoCVAE, clips: ClipDataset, updates: int, seed: int, *, progress: bool = False
) -> None:
    """Trains the picture of the arm, and what places it, on single frames.

    Does nothing where the model has no such picture, or where the condition has no positions: the
    place of the arm in a frame is then not known.

    Args:
        model: its statistics of the condition are set.
        clips: the training clips.
        updates: of the weights.
        seed: of the choice of frames.
        progress: show a bar.
    """
    output = model.output
    if not (updates and isinstance(output, SceneOutput)):
        return
    if output.arm is None or not output.has_positions:
        return
    random = np.random.default_rng(seed)
    numbers = np.linspace(0, clips.n_clips - 1, min(ARM_CLIPS, clips.n_clips)).astype(int)
    medians = torch.from_numpy(
        np.stack(
            [np.uint8(np.median(clips.clip(int(number)).frames, axis=0)) for number in numbers]
        )
    )
    ends = np.append(clips.first_windows[1:], len(clips))
    optimizer = torch.optim.Adam(output.arm.parameters(), ARM_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    bar = tqdm(desc="training the arm", total=updates, unit="update", disable=not progress)
    for _ in range(updates):
        chosen = random.integers(len(numbers), size=ARM_BATCH)
        first, end = clips.first_windows[numbers[chosen]], ends[numbers[chosen]]
        batch = clips.batch(random.integers(first, end).tolist())
        rows, t = np.arange(ARM_BATCH), random.integers(1, clips.n_frames, ARM_BATCH)
        last_context = batch.frames[:, clips.n_past - 1].float() / 255
        target, median = batch.frames[rows, t].float() / 255, medians[chosen].float() / 255
        known = model.condition_inputs.of_steps(batch.condition, clips.n_frames)[rows, t - 1]
        colour, alpha = output.arm(known, light_statistics(last_context), target.shape[-1])
        loss = ((1 - alpha) * median + alpha * colour - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.update()
    bar.close()
    output.arm.zero_grad()
