"""A simulated scene, asked for one frame after the other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from labkit.data.simulator import SimulatedWorld, physics, simulate_clip
from labkit.errors import DataError

SINCE = 1


@pytest.fixture(scope="module")
def clip():
    return simulate_clip(3, 1, n_frames=10)


def test_the_clips_own_actions_give_its_frames(clip) -> None:
    film = clip.world.all_frames(clip.actions[:-1], SINCE)
    np.testing.assert_array_equal(film, clip.frames)


def test_frame_by_frame_it_is_the_same_film(clip) -> None:
    world = SimulatedWorld(3, 1)
    for last in (5, 6, 9, 2):  # a pilot also goes back
        frame = world.last_frame(clip.actions[:last], SINCE)
        apart = np.abs(frame.astype(int) - clip.frames[last])
        # The arm is smoothed by its length over all of a film's frames.
        assert (apart > 1).mean() < 0.01
        assert apart.max() < 16


def test_what_was_drawn_before_leaves_no_trace(clip) -> None:
    world, used = SimulatedWorld(3, 1), SimulatedWorld(3, 1)
    for last in (9, 4):
        used.last_frame(clip.actions[:last], SINCE)
    for last in (6, 9):
        once = SimulatedWorld(3, 1).last_frame(clip.actions[:last], SINCE)
        np.testing.assert_array_equal(used.last_frame(clip.actions[:last], SINCE), once)
        np.testing.assert_array_equal(world.last_frame(clip.actions[:last], SINCE), once)


def test_the_arm_is_nearly_where_it_is_expected() -> None:
    apart = []
    for index in range(6):
        clip = simulate_clip(5, index, n_frames=12)
        for t in range(11):
            guess = clip.world.expected(clip.positions[t], clip.actions[t])
            apart.append(np.abs(guess - clip.positions[t + 1]))
    # Rests on an object (z) and jams are not expected, and rare; the error is 6 % and 1 mm.
    assert np.median(apart, axis=0) == pytest.approx([0, 0, 0], abs=0.003)
    assert np.mean(np.max(apart, axis=1) < 0.02) > 0.8


def test_the_arm_is_expected_within_its_reach() -> None:
    world = SimulatedWorld(3, 1)
    corner = np.array([0.26, -0.21, physics.Z_LOW], np.float32)
    pushed = world.expected(corner, np.array([0.06, -0.06, 0, 1], np.float32))
    rise = physics.Z_SPEED * physics.FRAME_SECONDS
    expected = [physics.REACH_X, physics.REACH_FRONT, physics.Z_LOW + rise]
    assert pushed == pytest.approx(expected, abs=1e-6)


def test_actions_that_cannot_be_followed_are_named(clip) -> None:
    with pytest.raises(DataError, match="row 4"):
        clip.world.all_frames(clip.actions[:4], 4)
    broken = np.full((3, 4), np.nan, np.float32)
    with pytest.raises(DataError, match="row 1"):
        clip.world.last_frame(broken, 1)


def test_a_simulated_clip_travels_between_processes(clip) -> None:
    clip.world.last_frame(clip.actions[:2], SINCE)
    again = pickle.loads(pickle.dumps(clip))
    assert again.world == clip.world
