"""What a model is called with, checked before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from labkit.errors import ShapeError

if TYPE_CHECKING:
    from labkit.model.rollout import RolloutState
    from labkit.model.video_cvae import VideoCVAE


def check_rollout(
    model: VideoCVAE, frames: Tensor, condition: Tensor, n_past: int, horizon: int
) -> None:
    """Checks frames (B, >= n_past, 3, S, S) and the conditions of n_past + horizon frames.

    Raises:
        ShapeError: they do not fit the model; the message says what was expected and what came.
    """
    side = model.config.frame_size
    if frames.ndim != 5 or tuple(frames.shape[2:]) != (3, side, side):
        raise ShapeError(f"frames are {tuple(frames.shape)}; expected (B, T, 3, {side}, {side})")
    if not frames.is_floating_point():
        raise ShapeError(f"frames are {frames.dtype}; expected floats in [0, 1]")
    if n_past < 1 or horizon < 0:
        raise ShapeError(f"n_past is {n_past} and the horizon {horizon}; expected at least 1")
    _check_range(frames)
    needed = n_past + horizon - (1 if model.config.condition_at == "previous" else 0)
    _check_condition(model, condition, len(frames), needed)


def check_step(model: VideoCVAE, state: RolloutState, condition: Tensor) -> None:
    """Checks the condition (B, C) of one step.

    Raises:
        ShapeError: it does not fit the model or the state.
    """
    expected = (len(state.frame), model.condition_size)
    if tuple(condition.shape) != expected:
        raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")


def _check_range(frames: Tensor) -> None:
    low, high = (bound.item() for bound in frames.detach().aminmax())
    # A comparison with NaN is false, and so is this whole.
    if not (low >= 0 and high <= 1):
        came = "hold NaN" if low != low or high != high else f"reach from {low:g} to {high:g}"
        raise ShapeError(f"frames {came}; expected floats in [0, 1]")


def _check_condition(model: VideoCVAE, condition: Tensor, clips: int, needed: int) -> None:
    fits = (
        condition.ndim == 3
        and condition.shape[0] == clips
        and condition.shape[1] >= needed
        and condition.shape[2] == model.condition_size
    )
    if not fits:
        expected = f"({clips}, at least {needed}, {model.condition_size})"
        raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")
    if not condition.is_floating_point() or not condition.isfinite().all():
        raise ShapeError("the condition holds values that are not finite floats")
