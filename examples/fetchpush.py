"""Records clips of a robot that labkit does not know: Fetch of gymnasium-robotics, which pushes a
block about on a table, in MuJoCo.

    MUJOCO_GL=egl python examples/fetchpush.py data/fetchpush

docs/your_own_robot.md says what to install before, and what to do with the clips. To record another
robot, change `Table` and `push`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import gymnasium_robotics
import mujoco
import numpy as np

from labkit.data import Clip, write_split
from labkit.data.clip import ARM, MOVED, REST
from labkit.errors import DataError

FRAMES = 30
"""of a clip"""
LEAD = 30
"""steps before the first frame: the arm comes in"""
SIDE = 64
"""of a frame, in pixels"""
ARM_BODIES = (
    *(f"{name}_link" for name in ("shoulder_pan", "shoulder_lift", "upperarm_roll", "elbow_flex")),
    *(f"{name}_link" for name in ("forearm_roll", "wrist_flex", "wrist_roll", "gripper")),
    *("l_gripper_finger_link", "r_gripper_finger_link"),
)
"""what the labels call the arm: the parts that move, and not the robot's base"""
ACTION_COLUMNS = ("dx", "dy", "dz", "gripper")
POSITION_COLUMNS = ("x", "y", "z")


class Table:
    """The environment, seen by a camera of our own."""

    def __init__(self) -> None:
        gymnasium.register_envs(gymnasium_robotics)
        self.environment = gymnasium.make("FetchPush-v4", max_episode_steps=1000)
        self.model = self.environment.unwrapped.model
        self.renderer = mujoco.Renderer(self.model, SIDE, SIDE)
        self.camera = mujoco.MjvCamera()
        self.camera.lookat[:] = (1.3, 0.75, 0.42)
        self.camera.distance, self.camera.azimuth, self.camera.elevation = 1.15, 180, -40
        self.options = mujoco.MjvOption()
        self.options.sitegroup[:] = 0  # no red dot at the goal
        bodies = [self.model.body(number).name for number in self.model.geom_bodyid]
        self.is_arm = np.array([name.removeprefix("robot0:") in ARM_BODIES for name in bodies])
        self.block = self.model.geom("object0").id

    def reset(self, seed: int, colour: np.ndarray) -> np.ndarray:
        """A new episode.

        Args:
            seed: of the block's place.
            colour: RGB of the block, 0 to 1.
        Returns:
            the observation: position of the gripper, position of the block, and more.
        """
        self.model.geom_matid[self.block] = -1
        self.model.geom_rgba[self.block, :3] = colour
        return self.environment.reset(seed=seed)[0]["observation"]

    def step(self, action: np.ndarray) -> np.ndarray:
        """The observation after one frame's time, which is 0.04 s."""
        return self.environment.step(action)[0]["observation"]

    def picture(self) -> tuple[np.ndarray, np.ndarray]:
        """A frame (3, SIDE, SIDE), uint8 RGB, and the region of each of its pixels (SIDE, SIDE)."""
        data = self.environment.unwrapped.data
        self.renderer.update_scene(data, self.camera, self.options)
        frame = self.renderer.render().transpose(2, 0, 1).copy()
        self.renderer.enable_segmentation_rendering()
        number, kind = self.renderer.render().transpose(2, 0, 1)
        self.renderer.disable_segmentation_rendering()
        thing = np.where(kind == mujoco.mjtObj.mjOBJ_GEOM, number, -1)
        regions = np.full((SIDE, SIDE), REST, np.uint8)
        regions[(thing >= 0) & self.is_arm[thing]] = ARM
        regions[thing == self.block] = MOVED
        return frame, regions


def push(observation: np.ndarray, goal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """A scripted policy: goes behind the block, seen from the goal, and pushes it there.

    Args:
        observation: of the environment.
        goal: where the block shall go, (x, y) in metres.
        noise: added to the action (3).
    Returns:
        the action (4), each from -1 to 1: a move (dx, dy, dz), and the gripper, which stays shut.
    """
    gripper, block = observation[:3], observation[3:6]
    way = goal - block[:2]
    way = way / max(np.linalg.norm(way), 1e-6)
    behind = block[:2] - 0.07 * way
    past = (gripper[:2] - block[:2]) @ way > -0.03
    if past and gripper[2] < block[2] + 0.06:
        aim = (*behind, block[2] + 0.12)  # rise first
    elif np.linalg.norm(gripper[:2] - behind) > 0.04 and past:
        aim = (*behind, block[2] + 0.09)
    elif gripper[2] > block[2] + 0.03:
        aim = (*behind, block[2])
    else:
        aim = (*(block[:2] + 0.05 * way), block[2])
    move = 9 * (np.array(aim) - gripper) + noise
    return np.float32(np.clip([*move, 0], -1, 1))


def record(table: Table, seed: int) -> Clip:
    """One episode as a clip. The same seed gives the same clip."""
    random = np.random.default_rng(seed)
    observation = table.reset(seed, colour=random.uniform(0.1, 0.9, 3))
    frames, regions, actions, positions = [], [], [], []
    goal, noise = observation[3:5], np.zeros(3)
    for time in range(-LEAD, FRAMES):
        if np.linalg.norm(observation[3:5] - goal) < 0.04:  # the block is there
            goal = random.uniform((1.2, 0.55), (1.45, 0.95))
        noise = 0.8 * noise + random.normal(0, 0.2, 3)  # never the same for two frames
        action = push(observation, goal, noise)
        if time >= 0:
            frame, region = table.picture()
            frames.append(frame)
            regions.append(region)
            actions.append(action)
            positions.append(observation[:3])
        observation = table.step(action)
    return Clip(
        frames=np.stack(frames),
        actions=np.stack(actions),
        positions=np.float32(positions),
        labels=np.stack(regions),
        name=f"episode {seed}",
        action_columns=ACTION_COLUMNS,
        position_columns=POSITION_COLUMNS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Records clips of FetchPush.")
    parser.add_argument("out", type=Path, help="folder of the data set")
    parser.add_argument("--train", type=int, default=320, help="training clips (320)")
    parser.add_argument("--validate", type=int, default=64, help="validation clips (64)")
    parser.add_argument("--test", type=int, default=64, help="test clips (64)")
    options = parser.parse_args()

    table = Table()
    first = 0
    for split in ("train", "validate", "test"):
        seeds = range(first, first + getattr(options, split))
        first = seeds.stop

        def clips(seeds: range = seeds) -> Iterator[Clip]:
            for seed in seeds:  # one at a time: memory stays small
                yield record(table, seed)

        try:
            write_split(options.out, split, clips())
        except DataError as error:  # such as an earlier recording in that folder
            parser.exit(2, f"{error}\n")
        print(f"{options.out}: {len(seeds)} clips of the split {split}")


if __name__ == "__main__":
    main()
