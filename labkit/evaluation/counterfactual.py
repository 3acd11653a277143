"""Simulated clips, and the same scenes simulated again with other actions."""

from __future__ import annotations

from collections.abc import Callable
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
from labkit.data.simulator import SPLIT_OFFSETS, SimulatedWorld, manifest_seed, simulate_clip
from labkit.evaluation.gripper import (
    arm_pixels,
    backdrop,
    gripper_offset,
    in_picture,
    tip_pixels,
)


@dataclass(frozen=True)
class ClipSimulator:
    """Simulates the clips of a data set again."""

    seed: int
    """of the data set"""
    first: int
    """index of the split's first clip"""

    @staticmethod
    def of(dataset: ClipDataset) -> ClipSimulator | None:
        """The simulator of a data set's clips; None where they are not a simulated pack, or were
        simulated by another version."""
        if not is_pack(dataset.root) or not dataset.has_labels or not dataset.has_positions:
            return None
        seed = manifest_seed(open_pack(Path(dataset.root)).manifest)
        first = SPLIT_OFFSETS.get(canonical_split(dataset.split))
        if seed is None or first is None:
            return None
        simulator, stored = ClipSimulator(seed, first), dataset.clip(0)
        again = simulator.clip(0, stored.actions, 0, *stored.frames.shape[::3])
        if again.positions is None or stored.positions is None:
            return None
        return simulator if np.allclose(again.positions, stored.positions, atol=1e-4) else None

    def next_position(self, size: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """The simulator's rule (position, action) -> expected position one frame later, in m."""
        return SimulatedWorld(self.seed, self.first, size).expected

    def clip(self, number: int, actions: np.ndarray, since: int, length: int, size: int) -> Clip:
        """Clip `number` of the split, with these actions from row `since` on."""
        return simulate_clip(
            self.seed, self.first + number, length, size, actions=actions[:length], since=since
        )


@dataclass(frozen=True)
class SimulatedBatch:
    """Simulated windows with their ground truth."""

    frames: Float[Tensor, "B T 3 H W"]
    condition: Float[Tensor, "B T C"]
    labels: UInt8[Tensor, "B T H W"]
    tips: Float[Tensor, "B T 2"]
    """pixel (u, v) of the finger tips"""

    @staticmethod
    def of(clips: list[Clip], dataset: ClipDataset, device: torch.device) -> SimulatedBatch:
        """The first windows of simulated clips, with the data set's kind of condition."""
        window = slice(0, dataset.n_frames)
        frames, actions, positions, labels = (
            np.stack([getattr(clip, kind)[window] for clip in clips])
            for kind in ("frames", "actions", "positions", "labels")
        )
        columns = [actions, positions] if dataset.condition == "action+position" else [actions]
        batch = Batch(
            torch.from_numpy(frames),
            torch.from_numpy(np.concatenate(columns, axis=-1)),
            torch.from_numpy(labels),
        ).to(device)
        tips = tip_pixels(positions, frames.shape[-1])
        return SimulatedBatch(batch.frames, batch.condition, batch.labels, tips)

    def offset(
        self, predicted: Float[Tensor, "B horizon 3 H W"], n_past: int
    ) -> Float[np.ndarray, "B horizon 2"]:
        """Offset (u, v) in pixels of the gripper in predicted frames from the true one."""
        arms = arm_pixels(self.labels[:, n_past:], self.tips[:, n_past:])
        plates = backdrop(self.frames, self.labels)[:, None]
        return gripper_offset(predicted, self.frames[:, n_past:], arms, plates).cpu().numpy()

    def distance(
        self, predicted: Float[Tensor, "B horizon 3 H W"], n_past: int
    ) -> Float[np.ndarray, "B horizon"]:
        """The length of that offset in pixels."""
        return np.linalg.norm(self.offset(predicted, n_past), axis=-1)

    def locator_errors(self, n_past: int) -> Float[np.ndarray, "B horizon"]:
        """The measurement's own error in pixels: the last context frame is taken as the prediction,
        and its known offset is subtracted."""
        last = self.tips[:, n_past - 1 : n_past]
        known = (last - self.tips[:, n_past:]).numpy()
        repeated = self.frames[:, n_past - 1 : n_past].expand_as(self.frames[:, n_past:])
        errors = np.linalg.norm(self.offset(repeated, n_past) - known, axis=-1)
        return np.where(in_picture(last, self.frames.shape[-1]), errors, np.nan)


def nearest(dataset: ClipDataset, count: int) -> Int64[np.ndarray, " N"]:
    """For each clip, the other one whose end effector is nearest in the last context frame."""
    clips = (dataset.clip(number) for number in range(count))
    positions = np.stack([clip.positions[dataset.n_past - 1] for clip in clips])
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)
