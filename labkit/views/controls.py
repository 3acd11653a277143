"""What the pilot's keys do: which action column a key changes, by how much, and within which range.

Steps and ranges come from the mean and the standard deviation of each column in the training data,
which are stored with the weights. So a robot with other units or other columns can be driven too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from labkit.errors import ShapeError

LIMIT = 5.0
"""largest distance of an input from the mean of its column, in standard deviations"""
ACTIONS = ("dx", "dy", "close_gripper", "lift")
"""columns of BAIR's robot and of the simulated table: two moves in metres, two states of 0 or 1"""
POSITIONS = ("x", "y", "z")
"""columns of their end effector's position, m"""
TABLE_STD = (0.037, 0.036, 1.26, 0.43)
"""standard deviations of the simulated table's actions, for weights without statistics"""

MOVES = ("left", "right", "away", "near", "raise", "lower")
"""keys that take a step and change a column"""
KEYS: dict[str, tuple[str, float]] = {
    "left": ("dx", -1),
    "right": ("dx", 1),
    "away": ("dy", 1),
    "near": ("dy", -1),
    "raise": ("lift", 1),
    "lower": ("lift", -1),
    "fingers": ("close_gripper", 1),
}
"""for the columns of `ACTIONS`: the column of each key, and its sign"""


class Statistics(NamedTuple):
    """Mean and standard deviation of each condition column in the training data: the actions, then
    the positions. `ClipDataset.condition_statistics()` gives them."""

    mean: Float[np.ndarray, " C"]
    std: Float[np.ndarray, " C"]


def statistics_of(model: Any) -> Statistics | None:
    """The statistics that are stored with the weights; None for a model that does not normalise
    its condition, and so has none."""
    if not model.config.normalise_condition:
        return None
    parts = (model.condition_mean, model.condition_std)
    return Statistics(*(each.detach().cpu().numpy() for each in parts))


def limited(
    row: Float32[np.ndarray, " C"], statistics: Statistics | None, names: Sequence[str]
) -> tuple[Float32[np.ndarray, " C"], list[str]]:
    """A row of columns within `LIMIT` standard deviations of their means.

    Returns:
        the row, and one clause for each value that was clipped.
    """
    if statistics is None:
        return row, []
    mean, std = (np.float32(each[: len(row)]) for each in statistics)
    clipped = np.clip(row, mean - LIMIT * std, mean + LIMIT * std)
    return clipped, [
        f"{name} {before:.3g} is outside the training data; clipped to {after:.3g}"
        for name, before, after in zip(names, row, clipped, strict=True)
        if before != after
    ]


def action_names(
    names: Sequence[str] | None, columns: int, statistics: Statistics | None
) -> tuple[str, ...]:
    """Names of action columns: the clip's own, BAIR's for four unnamed ones, or numbered ones.

    Another robot's third and fourth column are seldom states of 0 and 1: where 1 is more than
    `LIMIT` standard deviations away, unnamed columns are not BAIR's.
    """
    if names is not None and tuple(names) != ACTIONS:
        return tuple(names)
    fits = columns == len(ACTIONS)
    if fits and statistics is not None:
        mean, std = (each[2:4] for each in statistics)
        fits = bool((np.abs(1 - mean) <= LIMIT * std).all())
    return ACTIONS if fits else tuple(f"action_{n}" for n in range(1, columns + 1))


@dataclass
class Controls:
    """The keys of one robot, and the state of its switches."""

    names: tuple[str, ...]
    """of the action columns"""
    std: Float[np.ndarray, " A"]
    """standard deviation of each column: a move changes it by `speed` of them"""
    keys: dict[str, tuple[int, float]]
    """by key: the number of its column, and its sign"""
    levels: dict[int, tuple[float, float]]
    """columns that keep a value until a key changes it: the low and the high value"""
    high: dict[int, bool] = field(default_factory=dict)
    """whether each of these columns is at its high value"""

    @classmethod
    def choose(
        cls,
        names: Sequence[str] | None,
        columns: int,
        statistics: Statistics | None,
        keys: Mapping[str, tuple[str, float]] | None = None,
    ) -> Controls:
        """The keys for a robot.

        BAIR's four columns have their own keys (`KEYS`). Otherwise the first column is right and
        left, the second away and near, the third up and down; with four columns or more, the last
        is the fingers.

        Args:
            names: of the action columns, if the clip has them (`action_names`).
            columns: number of action columns.
            statistics: of the training data.
            keys: column and sign of some keys, instead of those above: {"raise": ("dz", 1)}.

        Raises:
            ShapeError: no statistics for columns that are not BAIR's; an unknown key or column.
        """
        names = action_names(names, columns, statistics)
        bair = names == ACTIONS
        chosen = dict(KEYS) if bair else {}
        if not bair:
            pairs = (("right", "left"), ("away", "near"), ("raise", "lower"))
            for (plus, minus), name in zip(pairs, names, strict=False):
                chosen |= {plus: (name, 1), minus: (name, -1)}
            if columns > len(pairs):
                chosen["fingers"] = (names[-1], 1)
        if statistics is None and not bair:
            raise ShapeError(
                f"the weights have no statistics of the actions {', '.join(names)}",
                hint="give statistics=dataset.condition_statistics() of the training split",
            )
        mean, std = statistics or Statistics(np.zeros(columns), np.array(TABLE_STD))
        chosen |= keys or {}
        for key, (name, _) in chosen.items():
            if key not in KEYS or name not in names:
                raise ShapeError(
                    f"no key {key!r} for a column {name!r}",
                    hint=f"keys: {', '.join(KEYS)}; columns: {', '.join(names)}",
                )
        numbered = {key: (names.index(name), sign) for key, (name, sign) in chosen.items()}
        states = {ACTIONS.index(each): (0.0, 1.0) for each in ("lift", "close_gripper") if bair}
        if "fingers" in numbered:
            last = numbered["fingers"][0]
            states.setdefault(last, (float(mean[last] - std[last]), float(mean[last] + std[last])))
        return cls(tuple(names), np.asarray(std[:columns], float), numbered, states)

    def start(self, action: Float32[np.ndarray, " A"] | None) -> None:
        """Sets the switches to where an action of the context has them; None: to low."""
        for column, (low, high) in self.levels.items():
            middle = 0.0 if (low, high) == (0.0, 1.0) else (low + high) / 2
            self.high[column] = action is not None and bool(action[column] > middle)

    def action(self, key: str, speed: float) -> Float32[np.ndarray, " A"]:
        """The action of a key: a move by `speed` standard deviations; "stay" moves nothing."""
        row = np.zeros(len(self.names), np.float32)
        if key in self.keys:
            column, sign = self.keys[key]
            if column in self.levels:
                self.high[column] = sign > 0
            else:
                row[column] = sign * speed * self.std[column]
        for column, levels in self.levels.items():
            row[column] = levels[self.high[column]]
        return row

    def toggle(self, key: str) -> bool:
        """Moves a switch to its other value; returns whether that is the high one."""
        column, _ = self.keys[key]
        self.high[column] = not self.high[column]
        return self.high[column]

    def is_high(self, key: str) -> bool | None:
        """Whether the switch of a key is at its high value; None where the key is no switch."""
        column = self.keys.get(key, (-1, 0))[0]
        return self.high.get(column)

    def effects(self, speed: float) -> dict[str, str]:
        """By key, what it does: "dx +0.037"."""
        found = {}
        for key, (column, sign) in self.keys.items():
            if column in self.levels:
                low, high = self.levels[column]
                values = (
                    f"{low:.3g} or {high:.3g}"
                    if key == "fingers"
                    else f"{(low, high)[sign > 0]:.3g}"
                )
                found[key] = f"{self.names[column]} {values}"
            else:
                found[key] = f"{self.names[column]} {sign * speed * self.std[column]:+.2g}"
        return found
