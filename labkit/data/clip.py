"""A clip: what every data source yields and every writer takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

ACTION_COLUMNS = ("dx", "dy", "close_gripper", "lift")
"""Names of the four action columns, after the comments in the BAIR authors' public planning
code; the data set's own files carry no description."""

POSITION_COLUMNS = ("x", "y", "z")
"""Names of the three columns of the end-effector's position."""

SPLITS = ("train", "validate", "test")
"""Names of the usual splits, in their usual order."""

REST, ARM, MOVED = 0, 1, 2
"""Region labels: nothing of interest, the arm, an object that moves in the clip."""


@dataclass(frozen=True)
class Clip:
    """One clip in memory."""

    frames: UInt8[np.ndarray, "T 3 H W"]
    """pictures, 0..255, RGB"""
    actions: Float32[np.ndarray, "T 4"]
    """what the robot was asked to do at each frame, columns `ACTION_COLUMNS`"""
    positions: Float32[np.ndarray, "T 3"] | None = None
    """where its end effector was at each frame; some sources have none"""
    labels: UInt8[np.ndarray, "T H W"] | None = None
    """region of each pixel (REST, ARM, MOVED); only a simulator knows"""
    name: str = ""
    """where the clip came from, for messages and tables"""
