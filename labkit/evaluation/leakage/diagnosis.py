"""From what the trials saw to the likely leak, in words, with how to fix it.

The key is the influence matrix: which future frame x_t reaches which prediction x^_t'. Predictions
are fed back and recurrent states remember, so an influence spreads to later predictions; what tells
leaks apart is the *first* prediction that a frame reaches.

    x_t first reaches            likely leak
    x^_t                         the target is encoded: the posterior at test time
    x^_{t+1}                     true frames are fed back: teacher forcing left on
    all, one row t               skip features (or more) of one future frame
    all, every row               statistics over the clip: batch norm, maximum, mean; or a network
                                 that runs over the whole clip
    x^_{t-k}                     the index is off by k
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Finding:
    """A leak, or a fault of the rollout."""

    leak: str
    """its short name, one of LEAKS"""
    says: str
    """what happens, in a sentence"""
    hint: str
    """what to change"""


LEAKS: dict[str, tuple[str, str]] = {
    "target": (
        "the target x_t is read to predict itself{at}: the posterior q(z_t | x_t) is used at test "
        "time, or the target's own skip features",
        "draw z_t from the prior when predicting, and encode the last prediction instead of x[t]",
    ),
    "teacher forcing": (
        "the true x_{{t-1}} is fed to predict x_t{at}: teacher forcing is left on",
        "at test time feed the last prediction from step n_past on: teacher forcing ratio 0",
    ),
    "future skip": (
        "every prediction reads {frames}, which is not context: skip features are taken there",
        "take skip features from frame n_past - 1 at the latest{hint}",
    ),
    "batch statistics": (
        "every prediction reads all frames, of the other clips too: batch norm is in training mode "
        "and takes its statistics over time and batch, or the batch is normalised as a whole",
        "call model.eval() before predicting; normalise by fixed numbers",
    ),
    "clip extremes": (
        "every prediction reads the largest or smallest value of the whole clip: the clip is "
        "normalised by its maximum",
        "divide by 255, or by the maximum of the context frames alone",
    ),
    "clip statistics": (
        "every prediction reads all frames, whatever their order: the clip is normalised by its "
        "mean or deviation, or a norm layer takes its statistics over the whole clip",
        "take statistics of the context frames alone, or of the training set",
    ),
    "whole clip": (
        "every prediction reads all frames, and their order matters: a network runs over the whole "
        "clip (bidirectional, attention without a mask, or convolution over time)",
        "give the network frames[:, :n_past]",
    ),
    "looks ahead": (
        "x^_t reads the future up to x_{{t+{ahead}}}: an index is off, or a window is centred on t",
        "give the network frames[:, :n_past]",
    ),
    "masked": (
        "future frames are read and then multiplied by zero: they change no number, but NaN in "
        "them does",
        "cut them off, frames[:, :n_past], instead of masking them",
    ),
    "other clips": (
        "a clip's prediction depends on the other clips of its batch: batch norm is in training "
        "mode, or the batch is normalised as a whole",
        "call model.eval() before predicting; normalise each clip by fixed numbers",
    ),
    "future conditions": (
        "x^_t reads conditions up to c_{{t+{ahead}}}: actions of the robot that come later",
        "give step t the condition c_{{t-1}} alone: no mean, no network over all of them",
    ),
    "no feedback": (
        "predictions are never fed back: disturbing one leaves the next as it is, so that each "
        "step goes on from a known frame",
        "write each prediction to where the next step reads its frame: x_prev = x_hat",
    ),
    "partial feedback": (
        "predictions are not always fed back: disturbing x^_t leaves the next as it is at t = {at}",
        "from step n_past on feed the last prediction, at every step",
    ),
    "ignores the context": (
        "no prediction depends on any context frame",
        "feed the context frames: predictions of nothing cannot be right",
    ),
    "unknown": (
        "future frames are read, in a way that one frame alone does not show",
        "give the network frames[:, :n_past]",
    ),
}  # fmt: skip
"""Name -> what happens, and the hint."""


def finding(leak: str, hint: str = "", **words: object) -> Finding:
    """The finding of that name, its gaps filled."""
    says, hint = LEAKS[leak]
    filled = {"at": "", "hint": hint, **words}
    return Finding(leak, says.format(**filled), hint.format(**filled))


def future_frames(
    influence: Float[np.ndarray, "T horizon"],
    n_past: int,
    *,
    clips_mix: bool,
    only_extremes_count: Callable[[], bool],
    order_counts: Callable[[], bool],
) -> Finding | None:
    """Names the leak by the rows of future frames; None where they are all zero.

    Args:
        influence: change of each prediction by each frame.
        n_past: number of context frames.
        clips_mix: whether a prediction depends on the other clips too.
        only_extremes_count, order_counts: further trials, made only where they are needed.
    """
    reached = influence[n_past:] > 0
    rows = np.flatnonzero(reached.any(axis=1))
    if not len(rows):
        return None
    horizon = reached.shape[1]
    first = reached[rows].argmax(axis=1)
    lag = first - rows
    if lag.min() >= 1:
        return finding("teacher forcing", at=_steps(first, horizon - 1, n_past))
    if len(rows) == 1 and horizon > 1 and first[0] == 0:
        return _skip(rows.tolist(), horizon, n_past)
    if lag.min() == 0:
        return finding("target", at=_steps(rows[lag == 0], horizon, n_past))
    if (first > 0).any():
        return finding("looks ahead", ahead=int(-lag.min()))
    if len(rows) < horizon:
        return _skip(rows.tolist(), horizon, n_past)
    if only_extremes_count():
        return finding("clip extremes")
    if clips_mix:
        return finding("batch statistics")
    return finding("whole clip" if order_counts() else "clip statistics")


def _skip(rows: list[int], horizon: int, n_past: int) -> Finding:
    """One future frame, or a few, that every prediction reads."""
    named = ", ".join(f"x_{n_past + row}" for row in rows)
    hint = ""
    if rows == [horizon - 1]:
        named += " (the clip's last)"
        hint = ": frames[:, -1] is the clip's last frame, frames[:, n_past - 1] the context's"
    elif rows == [0]:
        hint = ": the context ends at index n_past - 1, not at n_past"
    return finding("future skip", frames=named, hint=hint)


def _steps(rows: np.ndarray, possible: int, n_past: int) -> str:
    """ " at t = 4, 7" where it is not at every step."""
    if len(rows) == possible:
        return ""
    return f" at t = {', '.join(str(n_past + row) for row in sorted(rows))}"


def convention(influence: Float[np.ndarray, "T horizon"], n_past: int) -> tuple[str, int | None]:
    """Which condition is the latest that a prediction reads: "c_{t-1}" (it leads from x_{t-1} to
    x_t), "c_t" (the target's own), ...; and how many steps after t it lies, None where no
    condition is read."""
    latest: list[int] = []
    for s, row in enumerate(influence > 0):
        for step in np.flatnonzero(row)[:1]:
            t = n_past + int(step)
            # What is known at the first prediction reaches it first, however early it was.
            if step > 0 or s >= n_past - 1:
                latest.append(s - t)
    if latest:
        ahead = max(latest)
        return f"c_{{t{ahead:+d}}}" if ahead else "c_t", ahead
    if (influence > 0).any():
        return "of the context alone", -n_past
    return "none", None


def feedback_fault(
    fed: Bool[np.ndarray, " steps"], n_past: int, frames: Finding | None
) -> Finding | None:
    """Names what is wrong where disturbing x^_t does not change x^_{t+1}."""
    if fed.all() or (frames is not None and frames.leak == "teacher forcing"):
        return None
    if not fed.any():
        return finding("no feedback")
    return finding("partial feedback", at=", ".join(str(n_past + t) for t in np.flatnonzero(~fed)))
