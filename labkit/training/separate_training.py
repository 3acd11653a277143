"""Parts of the output `scene` that are trained alone, before the whole model is.

A part alone needs no rollout and no other network, so an update takes a small part of the time that
one of the whole model takes.

    arm      colour and opacity of the arm's picture, and what places it:
             x_t ~ (1 - alpha_t) median + alpha_t colour_t, where `median` is that of the clip's
             frames over time. Little of a moving arm is in it.
    pusher   single steps from true frames: table_{t-1} = (1 - alpha_{t-1}) x_{t-1} + alpha_{t-1}
             median, and from it the table of x_t, where the arm hides neither. In most steps
             nothing is pushed, so most of a batch is drawn from those in which something is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE
from labkit.model.output import warp
from labkit.model.pusher import HIDDEN, REACH, ArmMotion, PushCandidates, unlit_error
from labkit.model.scene import ArmPicture, SceneOutput, light_statistics

CLIPS = 512
"""training clips whose medians are kept, evenly spread"""
ARM_BATCH = 16
"""frames of an update, each of another clip. With as many frames in all, smaller batches and more
updates gave a better arm than larger batches and fewer updates."""
ARM_RATE = 0.005
"""Adam's learning rate at the start; it falls to 0 along a cosine"""
PUSHER_BATCH = 32
"""steps of an update"""
PUSHER_RATE = 0.003
"""Adam's learning rate at the start; it falls to 0 along a cosine"""
SEARCHED = 16384
"""steps among which those are looked for in which something is pushed"""
PUSHED_STEPS = 1 / 8
"""share of them that is kept: those in which moving with the arm explains most"""
PUSHED_SHARE = 0.6
"""share of a batch that is drawn from these"""
CLEARLY = 0.02
"""squared error, summed over colours, by which a pixel must be explained better"""


@dataclass(frozen=True)
class Steps:
    """N steps, each from frame t - 1 to frame t of a clip."""

    before: Float[Tensor, "N 3 H W"]
    """x_{t-1}"""
    target: Float[Tensor, "N 3 H W"]
    """x_t"""
    median: Float[Tensor, "N 3 H W"]
    """of the clip's frames over time"""
    known_before: Float[Tensor, "N C"]
    """the condition that leads to x_{t-1}"""
    known: Float[Tensor, "N C"]
    """the condition that leads to x_t"""
    light: Float[Tensor, "N 9"]
    """of the window's last context frame"""


class StepSampler:
    """Draws steps from training clips."""

    def __init__(self, model: VideoCVAE, clips: ClipDataset, random: np.random.Generator) -> None:
        """
        Args:
            model: its statistics of the condition are set.
            clips: the training clips.
            random: decides every draw.
        """
        self.inputs, self.clips, self.random = model.condition_inputs, clips, random
        self.numbers = np.linspace(0, clips.n_clips - 1, min(CLIPS, clips.n_clips)).astype(int)
        frames = (clips.clip(int(number)).frames for number in self.numbers)
        self.medians = torch.from_numpy(
            np.stack([np.uint8(np.median(each, axis=0)) for each in frames])
        )

    def draw(self, count: int, first: int) -> Int64[np.ndarray, "N 3"]:
        """So many steps: place of the clip among those kept, number of the window, t.

        Args:
            count: N.
            first: the smallest t.
        """
        places = self.random.integers(len(self.numbers), size=count)
        numbers = self.numbers[places]
        ends = np.append(self.clips.first_windows[1:], len(self.clips))
        windows = self.random.integers(self.clips.first_windows[numbers], ends[numbers])
        t = self.random.integers(first, self.clips.n_frames, count)
        return np.stack([places, windows, t], axis=1)

    def read(self, steps: Int64[np.ndarray, "N 3"]) -> Steps:
        """What is known of these steps. With t = 1, `known_before` is that of the step itself."""
        places, windows, t = steps.T
        batch, rows = self.clips.batch(windows.tolist()), np.arange(len(steps))
        known = self.inputs.of_steps(batch.condition, self.clips.n_frames)
        return Steps(
            batch.frames[rows, t - 1].float() / 255,
            batch.frames[rows, t].float() / 255,
            self.medians[places].float() / 255,
            known[rows, np.maximum(t - 2, 0)],
            known[rows, t - 1],
            light_statistics(batch.frames[:, self.clips.n_past - 1].float() / 255),
        )


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
    arm = placed_arm(model)
    if arm is None or not updates:
        return
    sampler = StepSampler(model, clips, np.random.default_rng(seed))
    descent = Descent(arm, ARM_RATE, updates)
    for _ in tqdm(range(updates), "training the arm", disable=not progress, unit="update"):
        steps = sampler.read(sampler.draw(ARM_BATCH, first=1))
        colour, alpha = arm(steps.known, steps.light, steps.target.shape[-1])
        composed = (1 - alpha) * steps.median + alpha * colour
        descent.update((composed - steps.target).square().mean())


def train_pusher(
    model: VideoCVAE, clips: ClipDataset, updates: int, seed: int, *, progress: bool = False
) -> None:
    """Trains the pusher on single steps. Does nothing where the model has none, or where a window
    has two frames alone: how the arm moved before a step is then not known.

    Args:
        model: its arm is trained; its statistics of the condition are set.
        clips: the training clips.
        updates: of the weights.
        seed: of the choice of steps.
        progress: show a bar.
    """
    arm = placed_arm(model)
    pusher = model.output.pusher if isinstance(model.output, SceneOutput) else None
    if arm is None or pusher is None or not updates or clips.n_frames < 3:
        return
    sampler = StepSampler(model, clips, np.random.default_rng(seed))
    pushed = pushed_steps(sampler, arm, progress=progress)
    descent = Descent(pusher, PUSHER_RATE, updates)
    count = round(PUSHED_SHARE * PUSHER_BATCH)
    for _ in tqdm(range(updates), "training the pusher", disable=not progress, unit="update"):
        chosen = pushed[sampler.random.integers(len(pushed), size=count)]
        others = sampler.draw(PUSHER_BATCH - count, first=2)
        steps = sampler.read(np.concatenate([chosen, others]))
        motion, table = moved_arm(arm, steps)
        known = torch.cat([steps.known, steps.known - steps.known_before], dim=1)
        nowhere = torch.zeros_like(table[:, :2])
        candidates = pusher(table, nowhere, table, steps.before, motion, known)[2]
        descent.update(pusher_loss(candidates, steps.target))


def pusher_loss(candidates: PushCandidates, target: Float[Tensor, "N 3 H W"]) -> Float[Tensor, ""]:
    """The gate's own loss, and the squared error of the pushed table where it is seen, apart from
    the light. The correction of the displacement is learned by the second alone."""
    gate = candidates.gate
    pushed = gate * candidates.moved + (1 - gate) * candidates.still
    error = (unlit_error(pushed, target) * candidates.seen).mean()
    return candidates.loss(target) + error


@torch.no_grad()
def pushed_steps(
    sampler: StepSampler, arm: ArmPicture, *, progress: bool = False
) -> Int64[np.ndarray, "N 3"]:
    """Steps in which moving a part of the table with the arm explains much.

    What counts is by how much the squared error falls, apart from the light, summed over the
    pixels near the arm that the arm hides neither before nor after the step.
    """
    steps = sampler.draw(SEARCHED, first=2)
    gains = []
    parts = np.array_split(steps, len(steps) // 128)
    for part in tqdm(parts, "looking for pushes", disable=not progress, leave=False):
        read = sampler.read(part)
        motion, table = moved_arm(arm, read)
        still, moved = (
            (each - read.target).square().sum(1)
            for each in (table, warp(table, motion.displacement))
        )
        covered = torch.maximum(motion.before, motion.after)[:, 0]
        reach = round(REACH * covered.shape[-1] / 64)
        near = F.max_pool2d(covered, 2 * reach + 1, 1, reach) > HIDDEN
        gain = (still - moved) * (near & (covered < HIDDEN))
        gains.append((gain * (gain > CLEARLY)).sum(dim=(1, 2)).numpy())
    order = np.argsort(-np.concatenate(gains), kind="stable")
    return steps[order[: round(PUSHED_STEPS * len(steps))]]


@torch.no_grad()
def moved_arm(arm: ArmPicture, steps: Steps) -> tuple[ArmMotion, Float[Tensor, "N 3 H W"]]:
    """How the arm moves in these steps, and the table before them."""
    motion = arm.motion(steps.known_before, steps.known, steps.light, steps.target.shape[-1])
    return motion, (1 - motion.before) * steps.before + motion.before * steps.median


def placed_arm(model: VideoCVAE) -> ArmPicture | None:
    """The picture of the arm, where the model has one whose place is known."""
    output = model.output
    return output.arm if isinstance(output, SceneOutput) and output.has_positions else None


class Descent:
    """Adam on a part of a model, with a rate that falls to 0 along a cosine."""

    def __init__(self, part: nn.Module, rate: float, updates: int) -> None:
        """
        Args:
            part: what is trained.
            rate: at the start.
            updates: in all.
        """
        self.part = part
        self.optimizer = torch.optim.Adam(part.parameters(), rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, updates)

    def update(self, loss: Float[Tensor, ""]) -> None:
        """One update; no gradient is left."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.part.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
