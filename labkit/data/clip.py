"""A clip: what every data source yields and every writer takes."""

from __future__ import annotations

from collections.abc import Sequence
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

FRAME_SIZES = tuple(range(32, 129, 16))
"""Heights and widths in pixels that the models take (`--model.frame-size`): 32, 48, ... 128."""

REST, ARM, MOVED = 0, 1, 2
"""Region labels: nothing of interest, the arm, an object that moves in the clip."""


@dataclass(frozen=True)
class Clip:
    """One clip in memory."""

    frames: UInt8[np.ndarray, "T 3 H W"]
    """pictures, 0..255, RGB"""
    actions: Float32[np.ndarray, "T A"]
    """what the robot was asked to do at each frame; A is 0 where nothing is known of that"""
    positions: Float32[np.ndarray, "T P"] | None = None
    """its state at each frame, such as where the end effector was; some sources have none"""
    labels: UInt8[np.ndarray, "T H W"] | None = None
    """region of each pixel (REST, ARM, MOVED); only a simulator knows"""
    name: str = ""
    """where the clip came from, for messages and tables"""
    action_columns: tuple[str, ...] | None = None
    """names of the action columns, where the source gives them"""
    position_columns: tuple[str, ...] | None = None
    """names of the position columns, where the source gives them"""
    repeated_action: bool = False
    """the source has T - 1 actions, and the last row repeats the one before"""


def column_names(kind: str, count: int, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names of a table's columns: those that are given, BAIR's, or numbers.

    Args:
        kind: `actions` or `positions`.
        count: number of columns.
        given: names from the source, where it gives them.
    """
    if given is not None:
        return tuple(given)
    usual = {"actions": ACTION_COLUMNS, "positions": POSITION_COLUMNS}[kind]
    numbered = tuple(f"{kind.removesuffix('s')}_{number}" for number in range(1, count + 1))
    return usual if count == len(usual) else numbered
