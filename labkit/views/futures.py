"""Same past, several futures: other plans for the arm, or other draws of z, predicted at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from labkit.errors import ShapeError
from labkit.frames import to_uint8
from labkit.views.episode import (
    Filmed,
    Model,
    World,
    check_drivable,
    condition_rows,
    world_of,
)

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "away": (0, 1), "near": (0, -1), "stay": (0, 0)}
"""dx and dy of a move, seen from the camera: x to the right, y away from it"""


@runtime_checkable
class Predictor(Model, Protocol):
    """A model that also predicts several frames of several clips at once."""

    latent_sizes: tuple[int, ...]

    def predict(self, context: Any, condition: Any, horizon: int, *, noise: Any = None) -> Any:
        """Frames (B, horizon, 3, S, S) after the context, with that noise for z."""


@dataclass(frozen=True)
class Futures:
    """What a model predicts of one past, and what really happens."""

    predicted: dict[str, np.ndarray]
    """by name: uint8 (T, 3, H, W), the context in front"""
    simulated: dict[str, np.ndarray]
    """the same plans in the world itself; empty where nobody knows"""

    def rows(self) -> dict[str, np.ndarray]:
        """Each prediction, with what really happens under it: for `scrub` and `filmstrip`."""
        rows = {}
        for name, frames in self.predicted.items():
            rows[name] = frames
            if name in self.simulated:
                rows[f"{name}, simulated"] = self.simulated[name]
        return rows


def plan(
    direction: str, steps: int = 10, *, speed: float = 0.04, lifted: bool = False
) -> Float32[np.ndarray, "{steps} 4"]:
    """The same move over and over.

    Args:
        direction: left, right, away (from the camera), near (to it) or stay.
        steps: number of actions.
        speed: metres a frame; the data's are at most 0.066 along x and along y.
        lifted: with the gripper up, where it pushes nothing.
    Raises:
        ShapeError: a direction that is none.
    """
    if direction not in DIRECTIONS:
        raise ShapeError(f"no direction {direction!r}", hint=f"choose from {', '.join(DIRECTIONS)}")
    dx, dy = DIRECTIONS[direction]
    return np.tile(np.float32([speed * dx, speed * dy, 0, lifted]), (steps, 1))


def futures_of_plans(
    model: Predictor,
    clip: Filmed,
    plans: Mapping[str, np.ndarray],
    *,
    n_past: int = 2,
    seed: int = 0,
    world: World | None = None,
) -> Futures:
    """One past, several plans, one z: what differs comes from the actions alone.

    Args:
        model: in evaluation mode.
        clip: its first n_past frames, with their conditions, are the past.
        plans: by name, (horizon, 4) actions each, all of one length; the first row leads from the
            last context frame to the first predicted one.
        n_past: number of context frames.
        seed: of the draw of z, the same for every plan.
        world: what knows the truth; None is the clip's own, if it has one.
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
    world = world_of(clip) if world is None else world
    told = {name: np.concatenate([given, np.float32(rows)]) for name, rows in plans.items()}
    noise = _draws(model, seed, 1, n_past + shape[0] - 1).repeat(len(told), axis=0)
    films = _predict(model, clip, list(told.values()), noise, n_past, world)
    simulated = {name: world.film(rows, n_past - 1) for name, rows in told.items()} if world else {}
    return Futures(dict(zip(told, films, strict=True)), simulated)


def futures_of_draws(
    model: Predictor,
    clip: Filmed,
    actions: Float32[np.ndarray, "horizon 4"],
    count: int = 4,
    *,
    n_past: int = 2,
    seed: int = 0,
    world: World | None = None,
) -> Futures:
    """One past, one plan, several z: what differs comes from the latent alone.

    Args: as `futures_of_plans`; `count` is the number of draws, named "z 1", "z 2", ...

    Raises:
        ShapeError: as `futures_of_plans`.
    """
    names = [f"z {number}" for number in range(1, count + 1)]
    if not names:
        raise ShapeError("count is 0; ask for 1 or more draws")
    check_drivable(model, clip, n_past)
    world = world_of(clip) if world is None else world
    told = np.concatenate([np.float32(clip.actions[: n_past - 1]), np.float32(actions)])
    noise = _draws(model, seed, count, len(told))
    films = _predict(model, clip, [told] * count, noise, n_past, world)
    simulated = {} if world is None else {names[-1]: world.film(told, n_past - 1)}
    return Futures(dict(zip(names, films, strict=True)), simulated)


def _draws(model: Predictor, seed: int, count: int, steps: int) -> Float32[np.ndarray, "_ _ _"]:
    shape = count, steps, sum(model.latent_sizes)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _predict(
    model: Predictor,
    clip: Filmed,
    told: list[np.ndarray],
    noise: np.ndarray,
    n_past: int,
    world: World | None,
) -> list[np.ndarray]:
    """Predictions under each row of actions, as one batch; the context in front."""
    import torch

    device = model.condition_mean.device
    size, horizon = model.condition_size, len(told[0]) - n_past + 1
    conditions = np.stack([condition_rows(clip, rows, n_past, size, world) for rows in told])
    past = torch.from_numpy(clip.frames[:n_past]).to(device).float() / 255
    with torch.inference_mode():
        made = model.predict(
            past[None].expand(len(told), -1, -1, -1, -1),
            torch.from_numpy(conditions).to(device),
            horizon,
            noise=torch.from_numpy(noise).to(device),
        )
    frames = to_uint8(made, clip=True)
    return [np.concatenate([clip.frames[:n_past], film]) for film in frames]
