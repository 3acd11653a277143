"""Where the arm is in the training clips: the first placement of the output `scene`'s arm.

The picture of the arm starts empty. As long as it stays at one place it learns whatever is always
at that place, and where all clips show the same table this is the table. So the picture follows the
arm from the first update on: what moves in a clip is taken for the arm, and the middle of it is a
linear function of the condition, found by least squares. With `picture_start` the picture is also
painted with what moves, as it is seen from that place.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch.nn import functional as F

from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE
from labkit.model.scene import ArmPicture, SceneOutput

CLIPS = 64
"""training clips that are looked at, evenly spread"""
NOISE = 0.05
"""difference of a pixel from its median over time, in [0, 1], below which nothing has moved"""
LEAST = 0.002
"""mean difference beyond that in a frame in which something is seen to move"""
CERTAIN = 0.15
"""the same from which a pixel has certainly moved"""
PAINTED_CLIPS = 128
"""training clips that the picture is painted from, evenly spread"""
GREY, GREY_WEIGHT = 0.35, 2.0
"""colour of the picture where little was seen to move, and how many pixels it counts as"""
RIDGE = 0.01
"""penalty on the squares of the coefficients, per frame: columns may depend on each other"""


def start_at_motion(model: VideoCVAE, clips: ClipDataset) -> None:
    """Lets the picture of the arm follow what moves in these clips, before the training.

    Does nothing where the model has no such picture, where the condition has no positions (the
    place at the first frame is then not known), or where too little moves.

    Args:
        model: untrained; its statistics of the condition are set.
        clips: the training clips.
    """
    output = model.output
    if not (isinstance(output, SceneOutput) and output.motion_start):
        return
    if output.arm is None or not output.has_positions:
        return
    known, middles = [], []
    for number in np.linspace(0, clips.n_clips - 1, min(CLIPS, clips.n_clips)).astype(int):
        middle, moves = motion_middles(clips.clip(int(number)).frames)
        condition = torch.from_numpy(clips.clip_condition(int(number)))[None]
        steps = model.condition_inputs.of_steps(condition, len(middle))[0].numpy()
        known.append(steps[moves[1:]])
        middles.append(middle[1:][moves[1:]])
    x, y = np.concatenate(known).astype(float), np.concatenate(middles).astype(float)
    if len(x) < 10 * x.shape[1]:
        return
    x, y = x - x.mean(0), y - y.mean(0)
    # y = x A:  A = (x^T x + lambda I)^-1 x^T y
    fitted = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y)  # (C, 2)
    output.arm.follow(torch.from_numpy(np.float32(fitted.T)))
    if output.picture_start:
        output.arm.paint(*moved_picture(model, output.arm, clips))


@torch.no_grad()
def moved_picture(
    model: VideoCVAE, arm: ArmPicture, clips: ClipDataset
) -> tuple[Float32[torch.Tensor, "3 _ _"], Float32[torch.Tensor, "1 _ _"]]:
    """What moves in the clips, seen from the arm: the mean colour of the pixels that have moved, at
    the place of the picture that each of them reads, and the share of them that has moved.

    Args:
        model: its statistics of the condition are set.
        arm: its picture follows what moves already.
        clips: the training clips.
    Returns:
        colour and opacity, of the size of the picture.
    """
    height, width = arm.picture.shape[-2:]
    seen = torch.zeros(1, height * width)
    opacity, colour = torch.zeros_like(seen), torch.zeros(3, height * width)
    for number in np.linspace(0, clips.n_clips - 1, min(PAINTED_CLIPS, clips.n_clips)).astype(int):
        frames = np.float32(clips.clip(int(number)).frames) / 255
        moved = np.abs(frames - np.median(frames, axis=0)).mean(axis=1)  # (T, H, W)
        share = np.clip((moved - NOISE) / (CERTAIN - NOISE), 0, 1)[1:]
        condition = torch.from_numpy(clips.clip_condition(int(number)))[None]
        known = model.condition_inputs.of_steps(condition, len(frames))[0]
        grid = arm.grid(known, arm.hidden(known), width)  # (T - 1, H, W, 2)
        column = ((grid[..., 0] + 1) / 2 * (width - 1)).round().long().clamp(0, width - 1)
        row = ((grid[..., 1] + 1) / 2 * (height - 1)).round().long().clamp(0, height - 1)
        place, weight = (row * width + column).flatten(), torch.from_numpy(share).flatten()
        pixels = torch.from_numpy(frames)[1:].permute(1, 0, 2, 3).flatten(1)
        seen.index_add_(1, place, torch.ones_like(weight)[None])
        opacity.index_add_(1, place, weight[None])
        colour.index_add_(1, place, pixels * weight)
    # Places that no pixel's middle falls on are filled from their neighbours.
    seen, opacity, colour = (
        F.avg_pool2d(each.view(1, -1, height, width), 3, stride=1, padding=1)[0]
        for each in (seen, opacity, colour)
    )
    mean = (colour + GREY * GREY_WEIGHT) / (opacity + GREY_WEIGHT)
    return mean.clamp(0.03, 0.97), (opacity / seen.clamp_min(1e-3)).clamp(0.03, 0.9)


def motion_middles(
    frames: UInt8[np.ndarray, "T 3 H W"],
) -> tuple[Float32[np.ndarray, "T 2"], np.ndarray]:
    """The middle (x, y) of what moves in each frame of a clip, in half frames from the frame's
    middle, and in which frames something is seen to move (T), bool.

    What differs from the median over the clip has moved. An arm that stands still in most of the
    clip is part of the median, and is then not seen.
    """
    values = np.float32(frames) / 255
    moved = np.abs(values - np.median(values, axis=0)).mean(axis=1)  # (T, H, W)
    moved = np.clip(moved - NOISE, 0, None)
    total = moved.sum(axis=(1, 2))
    height, width = moved.shape[1:]
    across = moved.sum(axis=1) @ np.linspace(-1, 1, width, dtype=np.float32)
    down = moved.sum(axis=2) @ np.linspace(-1, 1, height, dtype=np.float32)
    middle = np.stack([across, down], axis=1) / np.maximum(total, 1e-6)[:, None]
    return np.float32(middle), total / (height * width) > LEAST
