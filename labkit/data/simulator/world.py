"""A simulated scene that can be asked what other actions would have done.

A pilot asks for one frame after the other, so the scene is kept in motion, and what has not moved
since the last frame is not drawn again. To go back is to begin anew: that takes milliseconds.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.data.clip import Clip
from labkit.data.simulator.physics import (
    FRAME_SECONDS,
    REACH_BACK,
    REACH_FRONT,
    REACH_X,
    Z_HIGH,
    Z_LOW,
    Z_SPEED,
    LiveTable,
    Motion,
    run,
)
from labkit.data.simulator.render import Drawn, render
from labkit.data.simulator.scene import Scene, sample_scene
from labkit.errors import DataError


@dataclass(frozen=True)
class SimulatedWorld:
    """The scene of one simulated clip, and the arm's errors in it."""

    seed: int
    index: int
    """which clip, as in `simulate_clip`"""
    size: int = 64
    """side of the pictures in pixels"""

    @functools.cached_property
    def scene(self) -> Scene:
        """What stands where at first."""
        return sample_scene(self._generators()[0])

    def control(self) -> np.random.Generator:
        """The draws of the clip's controller and of the arm's errors, from the start."""
        return self._generators()[1]

    def all_frames(
        self, actions: Float32[np.ndarray, "N 4"], since: int
    ) -> UInt8[np.ndarray, "N+1 3 H W"]:
        """Every frame of the clip, if the robot is asked for these actions from row `since` on.

        Args:
            actions: row t leads from frame t to frame t + 1: one frame more comes out.
            since: rows before it are not read; they are the clip's own.
        Raises:
            DataError: there is no row `since`, or a row from there on holds NaN.
        """
        _check(actions, since)
        # The last frame's own row leads to a frame that nobody asked for.
        rows = np.concatenate([actions, np.zeros((1, 4), np.float32)])
        motion = run(self.scene, self.control(), len(rows), rows, since)
        return render(self.scene, motion, self.size)[0]

    def last_frame(
        self, actions: Float32[np.ndarray, "N 4"], since: int
    ) -> UInt8[np.ndarray, "3 H W"]:
        """The frame that the last of the actions leads to; up to some pixels at the arm's rim it
        is the last of `film`, which smooths the arm over all of its frames.

        Raises:
            DataError: as `film`.
        """
        _check(actions, since)
        commands = [tuple(row) for row in actions[since:].tolist()]
        done = self._live.commands
        if self._live.since != since or commands[: len(done)] != done:
            self._live.begin(self, since)
            done = self._live.commands
        for row in commands[len(done) :]:
            self._live.table.advance(np.float32(row))
            done.append(row)
        effector, fingers, poses = (part[None] for part in self._live.table.now())
        row = np.zeros((1, 4), np.float32)  # of a step that nobody asked for
        motion = Motion(row, effector, fingers, poses, (False,) * len(self.scene.things))
        return render(self.scene, motion, self.size, self._live.drawn)[0][0]

    def expected(
        self, position: Float32[np.ndarray, " xyz"], action: Float32[np.ndarray, " columns"]
    ) -> Float32[np.ndarray, " xyz"]:
        """Where the end effector should be a frame after `position`, m: moved as asked for, within
        the arm's reach, higher or lower by what the lift does in the time.

        It is what is known before the frame is: the arm's own errors, an object that it comes to
        rest on and a jam against the wall are not in it.
        """
        x, y, z = (float(value) for value in position)
        goal = Z_HIGH if action[3] > 0 else Z_LOW
        far = Z_SPEED * FRAME_SECONDS
        return np.array(
            [
                np.clip(x + action[0], -REACH_X, REACH_X),
                np.clip(y + action[1], REACH_FRONT, REACH_BACK),
                z + np.clip(goal - z, -far, far),
            ],
            np.float32,
        )

    @functools.cached_property
    def _live(self) -> _Live:
        return _Live()

    def _generators(self) -> tuple[np.random.Generator, np.random.Generator]:
        parts = np.random.SeedSequence([self.seed, self.index]).spawn(2)
        scene, control = (np.random.Generator(np.random.Philox(part)) for part in parts)
        return scene, control


class _Live:
    """The scene in motion, as far as it was last asked for."""

    def __init__(self) -> None:
        self.commands: list[tuple[float, ...]] = []
        """the actions it was given, from row `since` on"""
        self.since = -1
        self.drawn = Drawn()

    def begin(self, world: SimulatedWorld, since: int) -> None:
        """From the start, up to the first row that can be given."""
        self.commands, self.since = [], since
        self.table = LiveTable(world.scene, world.control())
        for _ in range(since):
            self.table.advance()


@dataclass(frozen=True)
class SimulatedClip(Clip):
    """A clip of the simulator: what else could have happened is known too."""

    world: SimulatedWorld | None = None
    """the scene it was filmed in"""


def _check(actions: np.ndarray, since: int) -> None:
    if not (0 <= since < len(actions) and np.isfinite(actions[since:]).all()):
        raise DataError(f"actions from row {since} on hold NaN, or are not there")
