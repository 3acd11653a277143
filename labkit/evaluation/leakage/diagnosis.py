"""From the results of the trials to the likely leak, with a hint.

The influence matrix shows which future frame x_t changes which prediction x^_t'. Predictions are
fed back and recurrent states remember, so an influence spreads to later predictions. The *first*
prediction that a frame changes identifies the leak.

    x_t first changes            likely leak
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
    """how to fix it"""


LEAKS: dict[str, tuple[str, str]] = {
    "target": (
        "the target x_t is read to predict itself{at}: the posterior q(z_t | x_t) is used at test "
        "time, or the target's own skip features",
        "draw z_t from the prior when predicting, and encode the last prediction instead of x[t]",
    ),
    "teacher forcing": (
        "the true x_{{t-1}} is the input for x_t{at}: teacher forcing is left on",
        "at test time feed the last prediction from step n_past on: teacher forcing ratio 0",
    ),
    "future skip": (
        "every prediction reads {frames}, which is not context: skip features are taken there",
        "take skip features from frame n_past - 1 at the latest{more}",
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
        "future frames are read and then multiplied by zero: their values change no prediction, "
        "but NaN in them does",
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
        "predictions are never fed back: changing one does not change the next, so each step "
        "starts from a known frame",
        "write each prediction to where the next step reads its frame: x_prev = x_hat",
    ),
    "partial feedback": (
        "predictions are not always fed back: changing x^_t does not change the next at t = {at}",
        "from step n_past on feed the last prediction, at every step",
    ),
    "ignores the context": (
        "no prediction depends on any context frame",
        "feed the context frames: predictions of nothing cannot be right",
    ),
    "unknown": (
        "future frames are read, in a way that does not show with one frame alone",
        "give the network frames[:, :n_past]",
    ),
    "best of N": (
        "several samples are predicted, and the one closest to the true frames is returned: the "
        "choice reads the future",
        "return one sample, or all of them; choose the best in the evaluation, and report it as "
        "best of N",
    ),
    "some calls": (
        "future frames are read in some calls only, depending on the random numbers",
        "give the network frames[:, :n_past] in every call",
    ),
    "some contents": (
        "future frames are read only if they look in a certain way, such as bright",
        "give the network frames[:, :n_past]",
    ),
    "stored truth": (
        "the predictions show true frames that were not in the arguments of the call: they are "
        "stored in a global variable, an attribute or a file",
        "store no frames between calls; the predictor may depend on its arguments and weights only",
    ),
}  # fmt: skip
"""Name -> what happens, and the hint."""


def finding(leak: str, more: str = "", **words: object) -> Finding:
    """The finding of that name, its gaps filled; `more` is put into the hint."""
    says, hint = LEAKS[leak]
    filled = {"at": "", "more": more, **words}
    return Finding(leak, says.format(**filled), hint.format(**filled))


def future_frames(
    influence: Float[np.ndarray, "T horizon"],
    n_past: int,
    *,
    clips_mix: bool,
    chosen_by_truth: Callable[[], bool],
    only_extremes_are_read: Callable[[], bool],
    order_is_read: Callable[[], bool],
) -> Finding | None:
    """Names the leak by the rows of future frames; None if they are all zero.

    Args:
        influence: change of each prediction with each frame.
        n_past: number of context frames.
        clips_mix: whether a prediction depends on the other clips too.
        chosen_by_truth, only_extremes_are_read, order_is_read: further trials, made only where they
            are needed.
    """
    reached = influence[n_past:] > 0
    rows = np.flatnonzero(reached.any(axis=1))
    if not len(rows):
        return None
    if chosen_by_truth():
        return finding("best of N")
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
    if only_extremes_are_read():
        return finding("clip extremes")
    if clips_mix:
        return finding("batch statistics")
    return finding("whole clip" if order_is_read() else "clip statistics")


def _skip(rows: list[int], horizon: int, n_past: int) -> Finding:
    """The finding for one future frame, or a few, that every prediction reads."""
    named = ", ".join(f"x_{n_past + row}" for row in rows)
    more = ""
    if rows == [horizon - 1]:
        named += " (the clip's last)"
        more = ": frames[:, -1] is the clip's last frame, frames[:, n_past - 1] the context's"
    elif rows == [0]:
        more = ": the context ends at index n_past - 1, not at n_past"
    return finding("future skip", frames=named, more=more)


def _steps(rows: np.ndarray, possible: int, n_past: int) -> str:
    """ " at t = 4, 7"; empty if it is every step."""
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
            # Earlier conditions also change the first prediction first, so they say nothing.
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
    """Names the fault where changing x^_t does not change x^_{t+1}."""
    if fed.all() or (frames is not None and frames.leak == "teacher forcing"):
        return None
    if not fed.any():
        return finding("no feedback")
    return finding("partial feedback", at=", ".join(str(n_past + t) for t in np.flatnonzero(~fed)))
