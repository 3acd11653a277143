"""The robot's condition as the networks read it: its units, its time, and how far the robot moved.

The condition that leads from x_{t-1} to x_t is c_{t-1} (`condition_at="previous"`) or c_t
(`"target"`). Below, the condition of step t means that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

MOVES = 2
"""The first columns of an action: dx and dy. Gripper and lift, after them, are no distances."""
SUM_SCALE = 0.3
"""Factor of sums of whole actions: over ten steps they grow far beyond the other numbers."""


@dataclass(frozen=True)
class ConditionInputs:
    """Turns the conditions of a clip into what the networks read at each step."""

    mean: Float[Tensor, " C"]
    """of each column in the training data"""
    std: Float[Tensor, " C"]
    """standard deviation of each column"""
    normalised: bool
    """whether mean and standard deviation are applied"""
    at_target: bool
    """step t reads c_t; False: c_{t-1}"""
    has_positions: bool
    """the columns after the action are the position of the end effector"""
    sums_all: bool = False
    """without positions, the change is the sum and the difference of every column (output=scene)"""

    def normalise(self, condition: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """The condition in the model's units."""
        # c' = (c - mean) / std
        return (condition - self.mean) / self.std if self.normalised else condition

    def of_steps(
        self, condition: Float[Tensor, "B _ C"], n_frames: int
    ) -> Float[Tensor, "B {n_frames}-1 C"]:
        """The normalised condition of each step t = 1 .. n_frames - 1."""
        first = 1 if self.at_target else 0
        return self.normalise(condition[:, first : first + n_frames - 1])

    def change(
        self, steps: Float[Tensor, "B S C"], origin: Float[Tensor, "B 1 _"] | None
    ) -> tuple[Float[Tensor, "B S _"], Float[Tensor, "B 1 _"]]:
        """How far the robot has moved since the last context frame.

        With positions it is the difference from that frame's condition. With actions alone it is
        the sum of the moves that lead to the target; the columns that are no moves stay as they
        are. With `sums_all` it is twice as wide (`sum_and_difference`).

        Args:
            steps: normalised conditions of S steps in a row.
            origin: what the change is counted from: `origin_at`, or the second result of the call
                for the steps before. None: these steps begin at the last context frame.
        Returns:
            the change of each step, and the origin for the steps that follow.
        """
        if self.has_positions:
            origin = steps[:, :1] if origin is None else origin
            return steps - origin, origin
        if self.sums_all:
            return self.sum_and_difference(steps, origin)
        moves = steps.clone()
        moves[..., MOVES:] = 0
        if self.normalised:  # an action of 0 is no move, whatever the mean is
            moves[..., :MOVES] += (self.mean / self.std)[:MOVES]
        total = moves.cumsum(dim=1) + (0.0 if origin is None else origin)
        # The last move that counts is the action of the frame before the target.
        done = total - moves if self.at_target else total
        others = torch.cat([torch.zeros_like(steps[..., :MOVES]), steps[..., MOVES:]], dim=-1)
        return done + others, total[:, -1:]

    def sum_and_difference(
        self, steps: Float[Tensor, "B S C"], origin: Float[Tensor, "B 1 _"] | None
    ) -> tuple[Float[Tensor, "B S _"], Float[Tensor, "B 1 _"]]:
        """Of every column the sum up to the target, and the difference from the last context
        frame: an action may be a step or a place to go to, and the data do not say which.

        Args:
            steps, origin: as in `change`; the origin holds the sum so far, then that frame's row.
        """
        if origin is None:
            origin = torch.cat([torch.zeros_like(steps[:, :1]), steps[:, :1]], dim=-1)
        before, row = origin.chunk(2, dim=-1)
        # An action of 0 adds nothing, whatever the mean is.
        moves = steps + self.mean / self.std if self.normalised else steps
        total = before + moves.cumsum(dim=1)
        done = total - moves if self.at_target else total
        change = torch.cat([SUM_SCALE * done, steps - row], dim=-1)
        return change, torch.cat([total[:, -1:], row], dim=-1)

    def origin_at(self, row: Float[Tensor, "B 1 C"]) -> Float[Tensor, "B 1 _"] | None:
        """The origin of changes, from the normalised condition of the last context frame; None
        where the first step reads that row itself."""
        if not self.at_target:
            return None
        if self.sums_all:
            return self.change(row, None)[1]
        return self.change(row, row if self.has_positions else torch.zeros_like(row))[1]

    def changes(
        self, context: Float[Tensor, "B _ C"], steps: Float[Tensor, "B S C"], n_past: int
    ) -> Float[Tensor, "B S _"]:
        """The change of every step of a rollout. A step within the context starts from the frame
        just before its target: that frame is then the last one known.

        Args:
            context: normalised conditions of the context frames.
            steps: normalised conditions of the steps t = 1 .. S.
            n_past: number of context frames.
        """
        cuts = [*range(n_past), steps.shape[1]]
        parts = [
            self.change(steps[:, start:stop], self.origin_at(context[:, start : start + 1]))[0]
            for start, stop in pairwise(cuts)
        ]
        return torch.cat(parts, dim=1)
