"""An episode: a robot driven step by step in a model, with the truth beside it if it is known.

It stores every step, so that steps can be undone; it knows nothing of widgets. The model is an
argument. The protocols below say what it must offer, since `views` imports no model.
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
from labkit.views.controls import (
    ACTIONS,
    POSITIONS,
    Statistics,
    action_names,
    limited,
    statistics_of,
)
from labkit.views.gif import gif_bytes

if TYPE_CHECKING:
    import torch

ACTIONS_FILE, GIF_FILE = "actions.csv", "episode.gif"
"""the files that an episode is saved as"""


@runtime_checkable
class Model(Protocol):
    """A video model that predicts frame by frame, such as `labkit.model.VideoCVAE`."""

    config: Any
    condition_size: int
    condition_mean: torch.Tensor
    """on the device of the model"""

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
    """A simulation that gives the true frames, such as `labkit.data.simulator.SimulatedWorld`."""

    def all_frames(self, actions: np.ndarray, since: int) -> np.ndarray:
        """All frames of the clip, with these actions (T - 1, 4) from row `since` on."""

    def last_frame(self, actions: np.ndarray, since: int) -> np.ndarray:
        """The last of them alone."""

    def expected(self, position: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Where the end effector should be after an action, m."""


def simulation_of(clip: Recorded) -> Simulation | None:
    """The simulation of a clip: `clip.world` of a simulated one, else None."""
    world = getattr(clip, "world", None)
    return world if isinstance(world, Simulation) else None


def expected_position(
    position: Float32[np.ndarray, " xyz"],
    action: Float32[np.ndarray, " columns"],
    world: Simulation | None = None,
    *,
    metres: bool = True,
) -> Float32[np.ndarray, " xyz"]:
    """Where the end effector should be after an action. No position of a later frame is read.

    A simulation computes it itself. For a recorded clip with BAIR's columns it is x + dx, y + dy in
    metres, at the same height: how far a lift goes is not known. With other columns the position
    stays, since what an action does to it is not known; pass a `world` with `expected` that does.
    """
    position = np.asarray(position, np.float32)
    if world is not None:
        return np.asarray(world.expected(position, action), np.float32)
    if not metres:
        return position
    return position + np.float32([action[0], action[1], 0.0])


def columns_of(clip: Recorded, statistics: Statistics | None = None) -> tuple[str, ...]:
    """Names of a clip's action columns."""
    names = getattr(clip, "action_columns", None)
    return action_names(names, clip.actions.shape[1], statistics)


def condition_rows(
    clip: Recorded,
    actions: Float32[np.ndarray, "N A"],
    n_past: int,
    size: int,
    world: Simulation | None = None,
    statistics: Statistics | None = None,
) -> Float32[np.ndarray, "N {size}"]:
    """The conditions of a model for the clip's context and a plan after it.

    Args:
        clip: only the first n_past of its positions are read.
        actions: of every step, including the context's.
        n_past: number of context frames.
        size: columns of the condition: those of the actions, with or without the positions.
        world: the simulation that gives expected positions.
        statistics: of the condition in the training data.
    """
    if size == actions.shape[1]:
        return actions
    positions = [np.float32(row) for row in clip.positions[:n_past]]
    states = len(positions[0])
    # BAIR's actions are metres along x and y; of other columns it is not known.
    named = getattr(clip, "position_columns", None) or POSITIONS
    metres = columns_of(clip, statistics) == ACTIONS and tuple(named) == POSITIONS[:states]
    for t in range(n_past - 1, len(actions) - 1):
        positions.append(expected_position(positions[t], actions[t], world, metres=metres))
    return np.concatenate([actions, np.stack(positions[: len(actions)])], axis=1)


def check_drivable(model: Model, clip: Recorded, n_past: int) -> None:
    """
    Raises:
        ShapeError: the model has no actions as input, or those of the next frame; or the clip has
            too few frames or no positions.
    """
    columns = clip.actions.shape[1]
    states = 0 if clip.positions is None else clip.positions.shape[1]
    if not columns or model.condition_size not in (columns, columns + (states or 3)):
        raise ShapeError(
            f"the model reads {model.condition_size} condition columns, the clip has {columns} "
            f"actions and {states} positions: no action to drive it by",
            hint="take a model with data.condition=action+position or action, and a clip of its "
            "data set",
        )
    if model.config.condition_at != "previous":
        raise ShapeError(
            "the model reads the condition of the next frame, which is not known when driving",
            hint="take a model with model.condition_at=previous",
        )
    if not 1 <= n_past <= len(clip.frames):
        raise ShapeError(f"n_past is {n_past}; the clip has {len(clip.frames)} frames")
    if model.condition_size > columns and clip.positions is None:
        raise ShapeError(
            "the clip has no positions, which the model reads",
            hint="take a model with data.condition=action",
        )


@dataclass(frozen=True)
class _Step:
    """One action, and the frame and state after it."""

    action: np.ndarray
    frame: np.ndarray
    truth: np.ndarray | None
    state: Any


class Episode:
    """A clip's context, and the steps that were driven after it."""

    def __init__(
        self,
        model: Model,
        clip: Recorded,
        *,
        n_past: int = 2,
        seed: int = 0,
        world: Simulation | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        """
        Args:
            model: in evaluation mode.
            clip: its first n_past frames, with their conditions, are the context. Nothing else
                of it is read.
            n_past: number of context frames.
            seed: of the samples of z.
            world: the simulation that gives the truth; None: the clip's own (`clip.world`), if
                it has one.
            statistics: of the condition in the training data; None: those of the weights. An
                input beyond 5 standard deviations is clipped, and `clipped` says so.

        Raises:
            ShapeError: the clip cannot be driven in the model (`check_drivable`).
        """
        check_drivable(model, clip, n_past)
        self.model, self.clip, self.n_past, self.seed = model, clip, n_past, seed
        self.world = simulation_of(clip) if world is None else world
        self.statistics = statistics_of(model) if statistics is None else statistics
        self.clipped: list[str] = []
        """one clause for each input of the last action that was clipped"""
        self.draw = 0
        """number of this future; the next one has other samples of z"""
        self._steps: list[_Step] = []
        self._start = self._begin()

    def __len__(self) -> int:
        """How many actions were chosen."""
        return len(self._steps)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the action columns."""
        return columns_of(self.clip, self.statistics)

    @property
    def actions(self) -> Float32[np.ndarray, "N A"]:
        """Every action, the context's first; row t leads from frame t to frame t + 1."""
        given = np.float32(self.clip.actions[: self.n_past - 1])
        return np.concatenate([given, *(step.action[None] for step in self._steps)])

    @property
    def frames(self) -> UInt8[np.ndarray, "T 3 H W"]:
        """The context, then the predicted frames."""
        return self._with_context([step.frame for step in self._steps])

    @property
    def truth(self) -> UInt8[np.ndarray, "T 3 H W"] | None:
        """The context, then the true frames for the same actions; None without a simulation."""
        return (
            None if self.world is None else self._with_context([step.truth for step in self._steps])
        )

    def rows(self) -> dict[str, np.ndarray]:
        """The clips to show: the prediction, and the truth if it is known."""
        truth = {} if self.truth is None else {"truth": self.truth}
        return {"prediction": self.frames, **truth}

    # ------------------------------------------------------------------------------------ steps

    def act(self, action: Sequence[float] | np.ndarray) -> UInt8[np.ndarray, "3 H W"]:
        """Takes one action and returns the predicted next frame.

        Raises:
            ShapeError: an action that is not one finite number for each column.
        """
        row = np.asarray(action, np.float32)
        if row.shape != self.clip.actions.shape[1:] or not np.isfinite(row).all():
            expected = f"{len(self.columns)} finite numbers ({', '.join(self.columns)})"
            raise ShapeError(f"an action is {expected}, not {action!r}")
        row, self.clipped = limited(row, self.statistics, self.columns)
        frame, state = self._predict(row)
        actions = np.concatenate([self.actions, row[None]])
        truth = None if self.world is None else self.world.last_frame(actions, self.n_past - 1)
        self._steps.append(_Step(row, frame, truth, state))
        return frame

    def undo(self) -> bool:
        """Takes the last action back; False if there is none."""
        if not self._steps:
            return False
        self._steps.pop()
        return True

    def reset(self) -> None:
        """Goes back to the context, with the same samples of z."""
        self._steps = []

    def resample(self) -> None:
        """Draws other samples of z and predicts another future of the same actions."""
        self.draw += 1
        done, self._steps, self._start = self._steps, [], self._begin()
        for step in done:
            frame, state = self._predict(step.action)
            self._steps.append(_Step(step.action, frame, step.truth, state))

    def save(self, folder: Path | str, *, scale: int = 3, fps: float = 5.0) -> tuple[Path, Path]:
        """Writes episode.gif and actions.csv into a folder, each whole or not at all.

        The csv has the course's layout: no header, one row for each frame except the last.

        Returns:
            the two files.

        Raises:
            LabkitError: they cannot be written.
        """
        gif, actions = Path(folder) / GIF_FILE, Path(folder) / ACTIONS_FILE
        write_whole(gif, gif_bytes(self.rows(), scale=scale, fps=fps, n_past=self.n_past))
        lines = [",".join(f"{value:.9g}" for value in row) + "\n" for row in self.actions]
        write_whole(actions, "".join(lines))
        return gif, actions

    # ------------------------------------------------------------------------------------ inside

    def _with_context(self, frames: list[np.ndarray]) -> np.ndarray:
        return np.stack([*self.clip.frames[: self.n_past], *frames])

    def _begin(self) -> Any:
        import torch

        context = torch.from_numpy(self.clip.frames[: self.n_past]).to(self._device)
        actions = np.zeros((self.n_past, self.clip.actions.shape[1]), np.float32)
        # The action of the last context frame is not known yet: it is the first one driven.
        actions[:-1] = self.clip.actions[: self.n_past - 1]
        with torch.inference_mode():
            return self.model.begin(
                context[None].float() / 255, self._condition(actions), generator=self._noise(0)
            )

    def _predict(self, action: np.ndarray) -> tuple[np.ndarray, Any]:
        """The next frame and the state after it."""
        import torch

        actions = np.concatenate([self.actions, action[None]])
        state = self._steps[-1].state if self._steps else self._start
        with torch.inference_mode():
            frame, state = self.model.step(
                state,
                self._condition(actions)[:, -1],
                generator=self._noise(len(self._steps) + 1),
            )
        return to_uint8(frame[0], clip=True), state

    def _condition(self, actions: np.ndarray) -> torch.Tensor:
        import torch

        size = self.model.condition_size
        rows = condition_rows(self.clip, actions, self.n_past, size, self.world, self.statistics)
        if self.statistics is not None and len(rows) > self.n_past:
            # Expected positions: the context's own are data.
            states = size - len(self.columns)
            own = getattr(self.clip, "position_columns", None)
            own = own or (
                POSITIONS if states == 3 else [f"position_{n + 1}" for n in range(states)]
            )
            names = [*self.columns, *own[:states]]
            rows = np.array(rows)
            rows[-1], clipped = limited(rows[-1], self.statistics, names)
            self.clipped += clipped
        return torch.from_numpy(rows).to(self._device)[None]

    def _noise(self, step: int) -> torch.Generator:
        """The noise of a step depends on seed, draw and step alone: a step that is undone and
        repeated has the same noise."""
        import torch

        (number,) = np.random.SeedSequence([self.seed, self.draw, step]).generate_state(1)
        return torch.Generator(self._device).manual_seed(int(number))

    @property
    def _device(self) -> torch.device:
        return self.model.condition_mean.device
