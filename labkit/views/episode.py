"""An episode: a robot driven step by step inside a model, with or without a truth beside it.

It holds all that a pilot has done and can undo, and knows nothing of widgets. The model is an
object that is handed in: what it must be able to do is written down here, for `views` imports
no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.errors import ShapeError
from labkit.files import write_whole
from labkit.frames import to_uint8
from labkit.views.gif import gif_bytes

if TYPE_CHECKING:
    import torch

ACTIONS, GIF = "actions.csv", "episode.gif"
"""the files that an episode is saved as"""


@runtime_checkable
class Model(Protocol):
    """A video model that predicts frame by frame, such as `labkit.model.VideoCVAE`."""

    config: Any
    condition_size: int
    condition_mean: torch.Tensor
    """tells which device the model is on"""

    def begin(self, context: Any, condition: Any, *, generator: Any = None) -> Any:
        """The state after the context (1, n_past, 3, S, S) with its conditions."""

    def step(self, state: Any, condition: Any, *, generator: Any = None) -> tuple[Any, Any]:
        """The next frame (1, 3, S, S) and the state after it; `state` stays as it is."""


@runtime_checkable
class Recorded(Protocol):
    """A clip, such as `labkit.data.clip.Clip`."""

    frames: np.ndarray
    actions: np.ndarray
    positions: np.ndarray | None


@runtime_checkable
class Simulation(Protocol):
    """What knows what really happens, such as `labkit.data.simulator.SimulatedWorld`."""

    def all_frames(self, actions: np.ndarray, since: int) -> np.ndarray:
        """All frames of the clip, with these actions (T - 1, 4) from row `since` on."""

    def last_frame(self, actions: np.ndarray, since: int) -> np.ndarray:
        """The last of them alone."""

    def expected(self, position: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Where the end effector should be after an action, m."""


def simulation_of(clip: Recorded) -> Simulation | None:
    """The world a clip was filmed in, where that can be asked: `clip.world` of a simulated one."""
    world = getattr(clip, "world", None)
    return world if isinstance(world, Simulation) else None


def expected_position(
    position: Float32[np.ndarray, " xyz"],
    action: Float32[np.ndarray, " columns"],
    world: Simulation | None = None,
) -> Float32[np.ndarray, " xyz"]:
    """Where the end effector should be after an action, told from nothing but what is known by
    then: no position of a frame to come is read.

    Where there is a world, its own convention says so. Otherwise x + dx, y + dy, with the action
    read as metres, and the height stays: how far a lift goes is not known of real clips.
    """
    if world is not None:
        return np.asarray(world.expected(position, action), np.float32)
    return np.asarray(position, np.float32) + np.float32([action[0], action[1], 0.0])


def condition_rows(
    clip: Recorded,
    actions: Float32[np.ndarray, "N 4"],
    n_past: int,
    size: int,
    world: Simulation | None = None,
) -> Float32[np.ndarray, "N {size}"]:
    """The conditions of a model for the clip's context and a plan after it.

    Args:
        clip: the first n_past of its positions are read, and no others.
        actions: of every step, the context's too.
        n_past: number of context frames.
        size: columns of the condition: 7 with positions, 4 without.
        world: what tells expected positions.
    """
    if size == actions.shape[1]:
        return actions
    positions = [np.float32(row) for row in clip.positions[:n_past]]
    for t in range(n_past - 1, len(actions) - 1):
        positions.append(expected_position(positions[t], actions[t], world))
    return np.concatenate([actions, np.stack(positions[: len(actions)])], axis=1)


def check_drivable(model: Model, clip: Recorded, n_past: int) -> None:
    """
    Raises:
        ShapeError: the model listens to no action or to that of the frame to come, or the clip
            has too few frames or no positions.
    """
    columns = clip.actions.shape[1]
    if model.condition_size not in (columns, columns + 3):
        raise ShapeError(
            f"the model is told {model.condition_size} numbers a frame: no action to drive it by",
            hint="take a model with data.condition=action+position or action",
        )
    if model.config.condition_at != "previous":
        raise ShapeError(
            "the model is told the condition of the frame to come, which no pilot knows",
            hint="take a model with model.condition_at=previous",
        )
    if not 1 <= n_past <= len(clip.frames):
        raise ShapeError(f"n_past is {n_past}; the clip has {len(clip.frames)} frames")
    if model.condition_size > columns and clip.positions is None:
        raise ShapeError(
            "the clip has no positions, which the model is told",
            hint="take a model with data.condition=action",
        )


@dataclass(frozen=True)
class _Step:
    """What one action led to."""

    action: np.ndarray
    frame: np.ndarray
    truth: np.ndarray | None
    state: Any


class Episode:
    """A clip's context, and then whatever the pilot does."""

    def __init__(
        self,
        model: Model,
        clip: Recorded,
        *,
        n_past: int = 2,
        seed: int = 0,
        world: Simulation | None = None,
    ) -> None:
        """
        Args:
            model: in evaluation mode.
            clip: its first n_past frames, with their conditions, are the past; nothing else of
                it is read.
            n_past: number of context frames.
            seed: of the draws of z.
            world: what knows the truth; None is the clip's own (`clip.world`), if it has one.
        Raises:
            ShapeError: the clip cannot be driven in the model (`check_drivable`).
        """
        check_drivable(model, clip, n_past)
        self.model, self.clip, self.n_past, self.seed = model, clip, n_past, seed
        self.world = simulation_of(clip) if world is None else world
        self.draw = 0
        """number of this future: z is drawn anew for the next"""
        self._steps: list[_Step] = []
        self._start = self._begin()

    def __len__(self) -> int:
        """How many actions were chosen."""
        return len(self._steps)

    @property
    def actions(self) -> Float32[np.ndarray, "N 4"]:
        """Every row so far, the context's first; row t leads from frame t to frame t + 1."""
        given = np.float32(self.clip.actions[: self.n_past - 1])
        return np.concatenate([given, *(step.action[None] for step in self._steps)])

    @property
    def frames(self) -> UInt8[np.ndarray, "T 3 H W"]:
        """The context, then what the model predicts."""
        return self._film([step.frame for step in self._steps])

    @property
    def truth(self) -> UInt8[np.ndarray, "T 3 H W"] | None:
        """The context, then what really happens under the same actions; None: nobody knows."""
        return None if self.world is None else self._film([step.truth for step in self._steps])

    def rows(self) -> dict[str, np.ndarray]:
        """The clips to show: the prediction, and the truth where it is known."""
        truth = {} if self.truth is None else {"truth": self.truth}
        return {"prediction": self.frames, **truth}

    # -------------------------------------------------------------------------- what one can do

    def act(self, action: Sequence[float] | np.ndarray) -> UInt8[np.ndarray, "3 H W"]:
        """Takes one action (dx, dy, close, lift) and returns the next frame as predicted.

        Raises:
            ShapeError: an action that is not four finite numbers.
        """
        row = np.asarray(action, np.float32)
        if row.shape != self.clip.actions.shape[1:] or not np.isfinite(row).all():
            raise ShapeError(f"an action is dx, dy, close, lift: four numbers, not {action!r}")
        frame, state = self._predict(row)
        told = np.concatenate([self.actions, row[None]])
        truth = None if self.world is None else self.world.last_frame(told, self.n_past - 1)
        self._steps.append(_Step(row, frame, truth, state))
        return frame

    def undo(self) -> bool:
        """Takes the last action back; False where there is none."""
        if not self._steps:
            return False
        self._steps.pop()
        return True

    def reset(self) -> None:
        """Back to the context, with the z of this future."""
        self._steps = []

    def resample(self) -> None:
        """Draws z anew, and makes the same actions lead to another future."""
        self.draw += 1
        done, self._steps, self._start = self._steps, [], self._begin()
        for step in done:
            frame, state = self._predict(step.action)
            self._steps.append(_Step(step.action, frame, step.truth, state))

    def save(self, folder: Path | str, *, scale: int = 3, fps: float = 5.0) -> tuple[Path, Path]:
        """Writes episode.gif and actions.csv into a folder, each whole or not at all.

        The csv is as in the course's layout: no header, one row a frame that has a next one.

        Returns:
            the two files.
        Raises:
            LabkitError: they cannot be written.
        """
        gif, actions = Path(folder) / GIF, Path(folder) / ACTIONS
        write_whole(gif, gif_bytes(self.rows(), scale=scale, fps=fps, n_past=self.n_past))
        lines = [",".join(f"{value:.9g}" for value in row) + "\n" for row in self.actions]
        write_whole(actions, "".join(lines))
        return gif, actions

    # ------------------------------------------------------------------------------------ inside

    def _film(self, made: list[np.ndarray]) -> np.ndarray:
        return np.stack([*self.clip.frames[: self.n_past], *made])

    def _begin(self) -> Any:
        import torch

        context = torch.from_numpy(self.clip.frames[: self.n_past]).to(self._device)
        told = np.zeros((self.n_past, self.clip.actions.shape[1]), np.float32)
        # The last context frame's own action is the pilot's to choose.
        told[:-1] = self.clip.actions[: self.n_past - 1]
        with torch.inference_mode():
            return self.model.begin(
                context[None].float() / 255, self._condition(told), generator=self._noise(0)
            )

    def _predict(self, action: np.ndarray) -> tuple[np.ndarray, Any]:
        """The next frame and the state after it."""
        import torch

        told = np.concatenate([self.actions, action[None]])
        state = self._steps[-1].state if self._steps else self._start
        with torch.inference_mode():
            frame, state = self.model.step(
                state,
                self._condition(told)[:, -1],
                generator=self._noise(len(self._steps) + 1),
            )
        return to_uint8(frame[0], clip=True), state

    def _condition(self, told: np.ndarray) -> torch.Tensor:
        import torch

        size = self.model.condition_size
        rows = condition_rows(self.clip, told, self.n_past, size, self.world)
        return torch.from_numpy(rows).to(self._device)[None]

    def _noise(self, step: int) -> torch.Generator:
        """Each step's draw follows from seed, draw and step alone: undone and done again, it is
        the same."""
        import torch

        (number,) = np.random.SeedSequence([self.seed, self.draw, step]).generate_state(1)
        return torch.Generator(self._device).manual_seed(int(number))

    @property
    def _device(self) -> torch.device:
        return self.model.condition_mean.device
