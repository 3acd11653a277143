"""Several futures of one clip: other actions, or other samples of z, predicted at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from labkit.errors import ShapeError
from labkit.frames import to_uint8
from labkit.views.controls import statistics_of
from labkit.views.episode import (
    Model,
    Recorded,
    Simulation,
    check_drivable,
    condition_rows,
    simulation_of,
)

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "away": (0, 1), "near": (0, -1), "stay": (0, 0)}
"""signs of dx and dy, seen from the camera: x to the right, y away from it"""


@runtime_checkable
class Predictor(Model, Protocol):
    """A model that also predicts several frames of several clips at once."""

    latent_sizes: tuple[int, ...]

    def predict(self, context: Any, condition: Any, horizon: int, *, noise: Any = None) -> Any:
        """Frames (B, horizon, 3, S, S) after the context, with that noise for z."""


@dataclass(frozen=True)
class Futures:
    """What a model predicts for one clip's context, and what really happens."""

    predicted: dict[str, np.ndarray]
    """by name: uint8 (T, 3, H, W), context frames included"""
    simulated: dict[str, np.ndarray]
    """the same plans in the simulator; empty for recorded clips"""

    def rows(self) -> dict[str, np.ndarray]:
        """Each prediction, followed by its simulation: for `scrub` and `filmstrip`."""
        rows = {}
        for name, frames in self.predicted.items():
            rows[name] = frames
            if name in self.simulated:
                rows[f"{name}, simulated"] = self.simulated[name]
        return rows


def plan(
    direction: str, steps: int = 10, *, speed: float = 0.04, lifted: bool = False
) -> Float32[np.ndarray, "{steps} 4"]:
    """The same move, repeated.

    Args:
        direction: left, right, away (from the camera), near (to it) or stay.
        steps: number of actions.
        speed: metres a frame; the data's are at most 0.066 along x and along y.
        lifted: with the gripper up, where it pushes nothing.

    Raises:
        ShapeError: an unknown direction.
    """
    if direction not in DIRECTIONS:
        raise ShapeError(f"no direction {direction!r}", hint=f"choose from {', '.join(DIRECTIONS)}")
    dx, dy = DIRECTIONS[direction]
    return np.tile(np.float32([speed * dx, speed * dy, 0, lifted]), (steps, 1))


def futures_of_plans(
    model: Predictor,
    clip: Recorded,
    plans: Mapping[str, np.ndarray],
    *,
    n_past: int = 2,
    seed: int = 0,
    world: Simulation | None = None,
) -> Futures:
    """One context, several plans, one z: the futures differ because of the actions alone.

    Args:
        model: in evaluation mode.
        clip: its first n_past frames, with their conditions, are the context.
        plans: by name, (horizon, 4) actions each, all of one length; the first row leads from the
            last context frame to the first predicted one.
        n_past: number of context frames.
        seed: of the sample of z, the same for every plan.
        world: the simulation that gives the truth; None: the clip's own, if it has one.

    Raises:
        ShapeError: no plans, plans of different lengths, or as `check_drivable`.
    """
    check_drivable(model, clip, n_past)
    given = np.float32(clip.actions[: n_past - 1])
    shapes = {np.shape(rows) for rows in plans.values()}
    if len(shapes) != 1 or 0 in (shape := next(iter(shapes))) or shape[1:] != given.shape[1:]:
        raise ShapeError(
            f"plans are {sorted(shapes)}; expected one shape (horizon, {given.shape[1]})"
        )
    world = simulation_of(clip) if world is None else world
    full_plans = {name: np.concatenate([given, np.float32(rows)]) for name, rows in plans.items()}
    noise = _draws(model, seed, 1, n_past + shape[0] - 1).repeat(len(full_plans), axis=0)
    clips = _predict(model, clip, list(full_plans.values()), noise, n_past, world)
    simulated = (
        {name: world.all_frames(rows, n_past - 1) for name, rows in full_plans.items()}
        if world
        else {}
    )
    return Futures(dict(zip(full_plans, clips, strict=True)), simulated)


def futures_of_draws(
    model: Predictor,
    clip: Recorded,
    actions: Float32[np.ndarray, "horizon 4"],
    count: int = 4,
    *,
    n_past: int = 2,
    seed: int = 0,
    world: Simulation | None = None,
) -> Futures:
    """One context, one plan, several z: the futures differ because of the latent alone.

    Args: as `futures_of_plans`; `count` is the number of samples, named "z 1", "z 2", ...

    Raises:
        ShapeError: as `futures_of_plans`.
    """
    names = [f"z {number}" for number in range(1, count + 1)]
    if not names:
        raise ShapeError("count is 0; give 1 or more")
    check_drivable(model, clip, n_past)
    world = simulation_of(clip) if world is None else world
    full_plans = np.concatenate([np.float32(clip.actions[: n_past - 1]), np.float32(actions)])
    noise = _draws(model, seed, count, len(full_plans))
    clips = _predict(model, clip, [full_plans] * count, noise, n_past, world)
    simulated = {} if world is None else {names[-1]: world.all_frames(full_plans, n_past - 1)}
    return Futures(dict(zip(names, clips, strict=True)), simulated)


def _draws(model: Predictor, seed: int, count: int, steps: int) -> Float32[np.ndarray, "_ _ _"]:
    shape = count, steps, sum(model.latent_sizes)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _predict(
    model: Predictor,
    clip: Recorded,
    full_plans: list[np.ndarray],
    noise: np.ndarray,
    n_past: int,
    world: Simulation | None,
) -> list[np.ndarray]:
    """Predictions for each plan, as one batch; context frames included."""
    import torch

    device, statistics = model.condition_mean.device, statistics_of(model)
    size, horizon = model.condition_size, len(full_plans[0]) - n_past + 1
    conditions = np.stack(
        [condition_rows(clip, rows, n_past, size, world, statistics) for rows in full_plans]
    )
    past = torch.from_numpy(clip.frames[:n_past]).to(device).float() / 255
    with torch.inference_mode():
        predicted = model.predict(
            past[None].expand(len(full_plans), -1, -1, -1, -1),
            torch.from_numpy(conditions).to(device),
            horizon,
            noise=torch.from_numpy(noise).to(device),
        )
    frames = to_uint8(predicted, clip=True)
    return [np.concatenate([clip.frames[:n_past], future]) for future in frames]
