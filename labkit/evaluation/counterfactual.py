"""Simulated clips, and what would have become of them with other actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from labkit.data.clip import Clip
from labkit.data.dataset import Batch, ClipDataset
from labkit.data.layout import canonical_split
from labkit.data.pack import is_pack, open_pack
from labkit.data.simulator import SPLIT_OFFSETS, seed_of, simulate_clip
from labkit.evaluation.gripper import (
    arm_pixels,
    backdrop,
    gripper_offset,
    in_picture,
    tip_pixels,
)


@dataclass(frozen=True)
class World:
    """The simulator that made a data set's clips."""

    seed: int
    """of the data set"""
    first: int
    """index of the split's first clip"""

    @staticmethod
    def of(dataset: ClipDataset) -> World | None:
        """The one of these clips; None where they are not a simulated pack, or not one of this
        version's."""
        if not is_pack(dataset.root) or not dataset.has_labels or not dataset.has_positions:
            return None
        seed = seed_of(str(open_pack(Path(dataset.root)).manifest.get("source", "")))
        first = SPLIT_OFFSETS.get(canonical_split(dataset.split))
        if seed is None or first is None:
            return None
        world, told = World(seed, first), dataset.clip(0)
        again = world.clip(0, told.actions, 0, *told.frames.shape[::3])
        fits = again.positions is not None and told.positions is not None
        return world if fits and np.allclose(again.positions, told.positions, atol=1e-4) else None

    def clip(self, number: int, actions: np.ndarray, since: int, length: int, size: int) -> Clip:
        """The clip of that number, with other actions from row `since` on."""
        return simulate_clip(
            self.seed, self.first + number, length, size, actions=actions[:length], since=since
        )


@dataclass(frozen=True)
class Facts:
    """Simulated windows with all that is known of them."""

    frames: Float[Tensor, "B T 3 H W"]
    condition: Float[Tensor, "B T C"]
    labels: UInt8[Tensor, "B T H W"]
    tips: Float[Tensor, "B T 2"]
    """pixel of the finger tips"""

    @staticmethod
    def of(clips: list[Clip], dataset: ClipDataset, device: torch.device) -> Facts:
        """The first windows of simulated clips, with the condition that the data set gives."""
        window = slice(0, dataset.n_frames)
        frames, actions, positions, labels = (
            np.stack([getattr(clip, kind)[window] for clip in clips])
            for kind in ("frames", "actions", "positions", "labels")
        )
        told = [actions, positions] if dataset.condition == "action+position" else [actions]
        batch = Batch(
            torch.from_numpy(frames),
            torch.from_numpy(np.concatenate(told, axis=-1)),
            torch.from_numpy(labels),
        ).to(device)
        tips = tip_pixels(positions, frames.shape[-1])
        return Facts(batch.frames, batch.condition, batch.labels, tips)

    def offset(
        self, guess: Float[Tensor, "B horizon 3 H W"], n_past: int
    ) -> Float[np.ndarray, "B horizon 2"]:
        """How far the gripper in predicted frames is from the true one, in pixels (u, v)."""
        arms = arm_pixels(self.labels[:, n_past:], self.tips[:, n_past:])
        plates = backdrop(self.frames, self.labels)[:, None]
        return gripper_offset(guess, self.frames[:, n_past:], arms, plates).cpu().numpy()

    def distance(
        self, guess: Float[Tensor, "B horizon 3 H W"], n_past: int
    ) -> Float[np.ndarray, "B horizon"]:
        """The same as one number."""
        return np.linalg.norm(self.offset(guess, n_past), axis=-1)

    def locator_errors(self, n_past: int) -> Float[np.ndarray, "B horizon"]:
        """The same of a true frame, the last of the context, whose gripper is known: what is left
        after the known offset is the locator's own error."""
        last = self.tips[:, n_past - 1 : n_past]
        known = (last - self.tips[:, n_past:]).numpy()
        repeated = self.frames[:, n_past - 1 : n_past].expand_as(self.frames[:, n_past:])
        far = np.linalg.norm(self.offset(repeated, n_past) - known, axis=-1)
        return np.where(in_picture(last, self.frames.shape[-1]), far, np.nan)


def nearest(dataset: ClipDataset, count: int) -> Int64[np.ndarray, " N"]:
    """For each clip, the other one whose end effector is nearest in the last context frame."""
    clips = (dataset.clip(number) for number in range(count))
    places = np.stack([clip.positions[dataset.n_past - 1] for clip in clips])
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return apart.argmin(axis=1)
