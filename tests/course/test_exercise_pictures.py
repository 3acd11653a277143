"""Frames with marks on them."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.course.pictures import numbered, with_actions
from labkit.course.small_model import simulated_windows
from labkit.data.clip import Clip
from labkit.data.simulator import simulate_clip
from labkit.errors import ShapeError
from labkit.evaluation.gripper import tip_pixels


def test_numbers_mark_the_corner_alone() -> None:
    frames = np.random.default_rng(0).integers(0, 200, (2, 3, 64, 64), np.uint8)
    marked = numbered(frames, [3, 12], scale=2)
    assert marked.shape == (2, 3, 128, 128)
    plain = frames.repeat(2, axis=2).repeat(2, axis=3)
    assert np.array_equal(marked[:, :, 40:, :], plain[:, :, 40:, :])
    assert not np.array_equal(marked[0, :, :20, :20], plain[0, :, :20, :20])
    same = numbered(frames[[0, 0]], [3, 12], scale=2)
    assert not np.array_equal(same[0], same[1])


def test_as_many_numbers_as_frames_are_needed() -> None:
    with pytest.raises(ShapeError, match="2 frames and 1 numbers"):
        numbered(np.zeros((2, 3, 8, 8), np.uint8), [1])


def test_an_arrow_starts_at_the_position_and_points_along_the_action() -> None:
    positions = np.float32([[0.0, 0.0, 0.012]])
    frames = np.zeros((1, 3, 64, 64), np.uint8)
    drawn = {}
    for name, dx in (("right", 0.05), ("left", -0.05), ("still", 0.0)):
        clip = Clip(frames, np.float32([[dx, 0, 0, 0]]), positions)
        rows, columns = np.nonzero(with_actions(clip, scale=4)[0].sum(axis=0))
        drawn[name] = columns.mean()
        place = 4 * tip_pixels(positions, 64).numpy()[0]
        assert (np.abs(columns - place[0]) + np.abs(rows - place[1])).min() < 12
    assert drawn["left"] < drawn["still"] - 5
    assert drawn["right"] > drawn["still"] + 5


def test_a_clip_without_positions_cannot_be_marked() -> None:
    clip = Clip(np.zeros((1, 3, 64, 64), np.uint8), np.zeros((1, 4), np.float32))
    with pytest.raises(ShapeError, match="no positions"):
        with_actions(clip)


def test_simulated_windows_are_the_simulators_clips() -> None:
    frames, condition = simulated_windows(2, first=5, steps=4)
    clip = simulate_clip(seed=1, index=6)
    assert np.allclose(frames[1].numpy() * 255, clip.frames[:4], atol=1e-3)
    assert np.array_equal(condition[1, :, :4].numpy(), clip.actions[:4])
    assert np.array_equal(condition[1, :, 4:].numpy(), clip.positions[:4])
