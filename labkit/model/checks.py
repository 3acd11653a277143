"""What a model is called with, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from labkit.errors import ShapeError

ROUNDING = 1e-4
"""how far frames may lie outside [0, 1]: a blend of frames, in floats, can leave it by a little"""


@dataclass(frozen=True)
class InputSizes:
    """What a model's inputs must fit."""

    frame: int
    """S: height and width of a frame in pixels"""
    condition: int
    """C: columns of the condition"""
    noise: int
    """numbers drawn at a step: the sum of all latents' sizes"""
    reads_last_condition: bool
    """whether the condition of the last frame is read (`condition_at="target"`)"""
    dtype: torch.dtype
    """of the weights"""


def check_rollout(
    sizes: InputSizes,
    frames: Tensor,
    condition: Tensor,
    n_past: int,
    horizon: int,
    check_values: bool = True,
) -> None:
    """Checks frames (B, >= n_past, 3, S, S) and the conditions of n_past + horizon frames: their
    shapes, and with `check_values` their values.

    Raises:
        ShapeError: they do not fit the model; the message says what was expected and what came.
    """
    _check_frames(sizes, frames, check_values)
    if not all(isinstance(count, Integral) and count >= 1 for count in (n_past, horizon)):
        came = f"{n_past} context frames and {horizon} to predict"
        raise ShapeError(f"there are {came}; expected at least 1 of each, in whole numbers")
    _check_condition(sizes, condition, len(frames), n_past + horizon, check_values)


def check_context(sizes: InputSizes, context: Tensor, condition: Tensor) -> None:
    """Checks frames (B, n_past, 3, S, S) and their conditions.

    Raises:
        ShapeError: as `check_rollout`.
    """
    _check_frames(sizes, context)
    _check_condition(sizes, condition, len(context), context.shape[1])


def check_samples(samples: int | None) -> None:
    """Raises ShapeError for a number of samples below 1."""
    if samples is not None and not (isinstance(samples, Integral) and samples >= 1):
        raise ShapeError(f"samples is {samples}; expected at least 1, in whole numbers, or None")


def check_plan(teacher_forced: float | Tensor, z_from_prior: Tensor | None, steps: Tensor) -> None:
    """Checks which steps are fed the true frame, and which clips take z from the prior, against
    the conditions (B, S, C) of the steps.

    Raises:
        ShapeError: they are not booleans, or have another shape.
    """
    clips, n_steps = steps.shape[:2]
    if isinstance(teacher_forced, Tensor):
        _check_flags("teacher_forced", teacher_forced, (clips, n_steps))
    elif teacher_forced not in (True, False):
        raise ShapeError(
            f"teacher_forced is {teacher_forced!r}; expected True, False, or a tensor of booleans",
            hint="a teacher-forcing ratio is a probability: draw True or False with it for each "
            "rollout",
        )
    if z_from_prior is not None:
        _check_flags("z_from_prior", z_from_prior, (clips,))


def check_noise(sizes: InputSizes, noise: Tensor | None, steps: Tensor) -> None:
    """Checks noise (N, S, z) against the conditions (N, S, C) of the steps it is for.

    Raises:
        ShapeError: it has another shape.
    """
    if noise is None:
        return
    _check_tensor("the noise", noise)
    expected = (*steps.shape[:2], sizes.noise)
    if tuple(noise.shape) != expected:
        raise ShapeError(f"the noise is {tuple(noise.shape)}; expected {expected}")
    _check_type("the noise", noise, sizes)


def check_step(sizes: InputSizes, clips: int, condition: Tensor) -> None:
    """Checks the condition (B, C) of one step of that many clips.

    Raises:
        ShapeError: it does not fit.
    """
    _check_tensor("the condition", condition)
    expected = (clips, sizes.condition)
    if tuple(condition.shape) != expected:
        raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")
    _check_finite(condition)
    _check_type("the condition", condition, sizes)


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        be = "is" if name.startswith("the ") else "are"
        raise ShapeError(
            f"{name} {be} {type(value).__name__}; expected a tensor",
            hint="torch.from_numpy makes one of an array",
        )


def _check_frames(sizes: InputSizes, frames: Tensor, check_values: bool = True) -> None:
    _check_tensor("frames", frames)
    side = sizes.frame
    if frames.ndim != 5 or tuple(frames.shape[2:]) != (3, side, side) or not frames.numel():
        raise ShapeError(f"frames are {tuple(frames.shape)}; expected (B, T, 3, {side}, {side})")
    if not frames.is_floating_point():
        raise ShapeError(f"frames are {frames.dtype}; expected floats in [0, 1]")
    _check_type("frames", frames, sizes)
    if not check_values:
        return
    low, high = (bound.item() for bound in frames.detach().aminmax())
    # A comparison with NaN is false, and so is this whole.
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        came = "hold NaN" if low != low or high != high else f"reach from {low:g} to {high:g}"
        raise ShapeError(f"frames {came}; expected floats in [0, 1]")


def _check_condition(
    sizes: InputSizes, condition: Tensor, clips: int, n_frames: int, check_values: bool = True
) -> None:
    _check_tensor("the condition", condition)
    # With c_{t-1} the last frame's own condition would lead to a frame after the last one.
    needed = n_frames if sizes.reads_last_condition else n_frames - 1
    fits = (
        condition.ndim == 3
        and condition.shape[0] == clips
        and condition.shape[1] >= needed
        and condition.shape[2] == sizes.condition
    )
    if not fits:
        expected = f"({clips}, at least {needed}, {sizes.condition})"
        raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")
    if check_values:
        _check_finite(condition[:, :needed])  # later rows are never read
    _check_type("the condition", condition, sizes)


def _check_finite(condition: Tensor) -> None:
    if not condition.is_floating_point():
        raise ShapeError(f"the condition is {condition.dtype}; expected finite floats")
    bad = int((~condition.isfinite()).sum())
    if bad:
        raise ShapeError(f"the condition holds NaN or infinity ({bad} x); expected finite floats")


def _check_type(name: str, tensor: Tensor, sizes: InputSizes) -> None:
    """Numbers of another precision than the weights fail deep inside, with no name."""
    if tensor.dtype != sizes.dtype:
        be = "is" if name.startswith("the ") else "are"
        short = str(sizes.dtype).removeprefix("torch.")
        raise ShapeError(
            f"{name} {be} {tensor.dtype}; expected {sizes.dtype}", hint=f"tensor.to(torch.{short})"
        )


def _check_flags(name: str, flags: Tensor, shape: tuple[int, ...]) -> None:
    if flags.dtype != torch.bool or tuple(flags.shape) != shape:
        came = f"{flags.dtype} {tuple(flags.shape)}"
        raise ShapeError(f"{name} is {came}; expected booleans {shape}")
