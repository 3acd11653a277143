"""What a model is called with, checked before anything is computed."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labkit.errors import ShapeError

if TYPE_CHECKING:
    from labkit.model.state import RolloutState
    from labkit.model.video_cvae import VideoCVAE

ROUNDING = 1e-4
"""how far frames may lie outside [0, 1]: a blend of frames, in floats, can leave it by a little"""


def check_rollout(
    model: VideoCVAE,
    frames: Tensor,
    condition: Tensor,
    n_past: int,
    horizon: int,
    values: bool = True,
) -> None:
    """Checks frames (B, >= n_past, 3, S, S) and the conditions of n_past + horizon frames: their
    shapes, and their values where asked to.

    Raises:
        ShapeError: they do not fit the model; the message says what was expected and what came.
    """
    _check_frames(model, frames, values)
    if not all(isinstance(count, Integral) and count >= 1 for count in (n_past, horizon)):
        came = f"{n_past} context frames and {horizon} to predict"
        raise ShapeError(f"there are {came}; expected at least 1 of each, in whole numbers")
    _check_condition(model, condition, len(frames), n_past + horizon, values)


def check_context(model: VideoCVAE, context: Tensor, condition: Tensor) -> None:
    """Checks frames (B, n_past, 3, S, S) and their conditions.

    Raises:
        ShapeError: as `check_rollout`.
    """
    _check_frames(model, context)
    _check_condition(model, condition, len(context), context.shape[1])


def check_samples(samples: int | None) -> None:
    """Raises ShapeError for a number of samples below 1."""
    if samples is not None and not (isinstance(samples, Integral) and samples >= 1):
        raise ShapeError(f"samples is {samples}; expected at least 1, in whole numbers, or None")


def check_plan(teacher_forced: float | Tensor, blind: Tensor | None, steps: Tensor) -> None:
    """Checks which steps are fed the true frame, and which clips are blind, against the conditions
    (B, S, C) of the steps.

    Raises:
        ShapeError: they are no booleans, or of another shape.
    """
    clips, n_steps = steps.shape[:2]
    if isinstance(teacher_forced, Tensor):
        _check_flags("teacher_forced", teacher_forced, (clips, n_steps))
    elif teacher_forced not in (True, False):
        raise ShapeError(
            f"teacher_forced is {teacher_forced!r}; expected True, False, or a tensor of booleans",
            hint="a ratio is a share of the rollouts: toss a coin for each",
        )
    if blind is not None:
        _check_flags("blind", blind, (clips,))


def check_noise(model: VideoCVAE, noise: Tensor | None, steps: Tensor) -> None:
    """Checks noise (N, S, z) against the conditions (N, S, C) of the steps it is for.

    Raises:
        ShapeError: it has another shape.
    """
    if noise is None:
        return
    _check_tensor("the noise", noise)
    expected = (*steps.shape[:2], sum(model.latent_sizes))
    if tuple(noise.shape) != expected:
        raise ShapeError(f"the noise is {tuple(noise.shape)}; expected {expected}")
    _check_type("the noise", noise, model)


def check_step(model: VideoCVAE, state: RolloutState, condition: Tensor) -> None:
    """Checks the condition (B, C) of one step.

    Raises:
        ShapeError: it does not fit the model or the state.
    """
    _check_tensor("the condition", condition)
    expected = (len(state.frame), model.condition_size)
    if tuple(condition.shape) != expected:
        raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")
    _check_finite(condition)
    _check_type("the condition", condition, model)


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        be = "is" if name.startswith("the ") else "are"
        raise ShapeError(
            f"{name} {be} {type(value).__name__}; expected a tensor",
            hint="torch.from_numpy makes one of an array",
        )


def _check_frames(model: VideoCVAE, frames: Tensor, values: bool = True) -> None:
    _check_tensor("frames", frames)
    side = model.config.frame_size
    if frames.ndim != 5 or tuple(frames.shape[2:]) != (3, side, side) or not frames.numel():
        raise ShapeError(f"frames are {tuple(frames.shape)}; expected (B, T, 3, {side}, {side})")
    if not frames.is_floating_point():
        raise ShapeError(f"frames are {frames.dtype}; expected floats in [0, 1]")
    _check_type("frames", frames, model)
    if not values:
        return
    low, high = (bound.item() for bound in frames.detach().aminmax())
    # A comparison with NaN is false, and so is this whole.
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        came = "hold NaN" if low != low or high != high else f"reach from {low:g} to {high:g}"
        raise ShapeError(f"frames {came}; expected floats in [0, 1]")


def _check_condition(
    model: VideoCVAE, condition: Tensor, clips: int, n_frames: int, values: bool = True
) -> None:
    _check_tensor("the condition", condition)
    # The last frame's own condition leads on from it, to a frame that nobody asked for.
    needed = n_frames - (1 if model.config.condition_at == "previous" else 0)
    fits = (
        condition.ndim == 3
        and condition.shape[0] == clips
        and condition.shape[1] >= needed
        and condition.shape[2] == model.condition_size
    )
    if not fits:
        expected = f"({clips}, at least {needed}, {model.condition_size})"
        raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")
    if values:
        _check_finite(condition[:, :needed])  # what comes later is never read
    _check_type("the condition", condition, model)


def _check_finite(condition: Tensor) -> None:
    if not condition.is_floating_point():
        raise ShapeError(f"the condition is {condition.dtype}; expected finite floats")
    bad = int((~condition.isfinite()).sum())
    if bad:
        raise ShapeError(f"the condition holds NaN or infinity ({bad} x); expected finite floats")


def _check_type(name: str, tensor: Tensor, model: VideoCVAE) -> None:
    """Numbers of another precision than the weights fail deep inside, with no name."""
    wanted = next(model.parameters()).dtype
    if tensor.dtype != wanted:
        be = "is" if name.startswith("the ") else "are"
        short = str(wanted).removeprefix("torch.")
        raise ShapeError(
            f"{name} {be} {tensor.dtype}; expected {wanted}", hint=f"tensor.to(torch.{short})"
        )


def _check_flags(name: str, flags: Tensor, shape: tuple[int, ...]) -> None:
    if flags.dtype != torch.bool or tuple(flags.shape) != shape:
        came = f"{flags.dtype} {tuple(flags.shape)}"
        raise ShapeError(f"{name} is {came}; expected booleans {shape}")
