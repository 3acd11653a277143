"""End-effector positions that are added up from the actions.

The condition c_t has the position that the robot measured at frame t. At predicted steps this
position is known only after the step, so a prediction that is given it knows where the arm arrived.
Here the positions after the context are computed from the last context position and the actions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from labkit.data.clip import ACTION_COLUMNS, POSITION_COLUMNS
from labkit.data.dataset import ClipDataset
from labkit.evaluation.counterfactual import ClipSimulator

NextPosition = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(position (3,) in m, action (4,)) -> expected position (3,) one frame later"""


def next_position(
    position: Float32[np.ndarray, " xyz"], action: Float32[np.ndarray, " columns"]
) -> Float32[np.ndarray, " xyz"]:
    """x + dx, y + dy, in m; the height stays, since the effect of a lift is not known for real
    clips."""
    return np.asarray(position, np.float32) + np.float32([action[0], action[1], 0.0])


def next_position_of(dataset: ClipDataset) -> NextPosition | None:
    """The rule for a data set: that of the simulator for simulated clips, which knows the arm's
    reach and the effect of a lift; `next_position` for other clips with BAIR's columns; None where
    the effect of an action on the position is not known."""
    columns = tuple(dataset.action_columns), tuple(dataset.position_columns)
    if columns != (ACTION_COLUMNS, POSITION_COLUMNS):
        return None
    simulator = ClipSimulator.of(dataset)
    return next_position if simulator is None else simulator.next_position(dataset.frame_size[0])


def integrated(
    condition: Float[Tensor, "B T C"], n_past: int, rule: NextPosition = next_position
) -> Float[Tensor, "B T C"]:
    """Conditions (action, position) whose positions from frame n_past on are computed from the
    position of frame n_past - 1 and the actions."""
    actions, positions = np.split(condition.cpu().numpy().copy(), [len(ACTION_COLUMNS)], axis=-1)
    for clip in range(len(actions)):
        for t in range(n_past, actions.shape[1]):
            positions[clip, t] = rule(positions[clip, t - 1], actions[clip, t - 1])
    rows = np.concatenate([actions, positions], axis=-1)
    return torch.from_numpy(rows).to(condition)
