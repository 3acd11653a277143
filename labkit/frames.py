"""Frames as bytes: from a model's floats in [0, 1] to the uint8 that pictures are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from labkit.errors import ShapeError


def to_uint8(frames: Any, *, clip: bool = False) -> np.ndarray:
    """Floats in [0, 1] as uint8 in 0..255, rounded.

    Args:
        frames: numpy array or torch tensor on any device, of any shape.
        clip: values outside [0, 1] become 0 or 1, and NaN becomes 0, as a model's output needs it.

    Returns:
        numpy array of the same shape.

    Raises:
        ShapeError: without `clip`, a value is outside [0, 1] or not finite.
    """
    if hasattr(frames, "detach"):
        frames = frames.detach().float().cpu().numpy()
    frames = np.asarray(frames)
    if clip:
        frames = np.clip(np.nan_to_num(frames), 0, 1)
    elif not ((frames >= 0) & (frames <= 1)).all():
        low, high = float(np.min(frames)), float(np.max(frames))
        raise ShapeError(f"values lie in {low:g}..{high:g}; allowed: 0..1", hint="clip them first")
    return np.rint(frames * 255).astype(np.uint8)
