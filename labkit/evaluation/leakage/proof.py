"""`prove`: all trials of one predictor on one batch, and what they say together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from labkit.data.dataset import Batch
from labkit.errors import LabkitError
from labkit.evaluation.leakage import checks as tried
from labkit.evaluation.leakage.certificate import Certificate
from labkit.evaluation.leakage.checks import Noise, Trial
from labkit.evaluation.leakage.diagnosis import (
    Finding,
    convention,
    feedback_fault,
    finding,
    future_frames,
)
from labkit.evaluation.leakage.probe import Asking, Predict, hooked
from labkit.evaluation.sampling import predicted
from labkit.model import VideoCVAE


def prove(
    predict: Predict,
    batch: Batch | tuple[Tensor, Tensor],
    n_past: int = 2,
    *,
    seed: int = 0,
    weights: Path | str | None = None,
    data: str = "",
    progress: bool = False,
) -> Certificate:
    """Puts a predictor to the proof that it reads no future frame.

    Three independent trials: every frame from n_past on replaced by noise, then by NaN, and the
    gradient with respect to them, which must be exactly zero while the context's is not. Besides:
    whether a clip's prediction depends on other clips; which conditions prediction t reads; and
    whether predictions are fed back. Each frame and condition is also disturbed alone: which
    predictions change names the leak (`diagnosis`).

    What it cannot see: truth that reaches the predictor otherwise than by its arguments, such as
    weights fitted to these very clips.

    Args:
        predict: (frames (B, T, 3, H, W), condition (B, T, C), n_past) -> predicted frames
            (B, T - n_past, 3, H, W), or all T with the context in front. Where it takes
            `disturb` too (see `Predict`), feeding back is proved; `hooked` makes such a one.
            Random draws come from torch's, numpy's or Python's global generators.
        batch: the clips, whole: a Batch or (frames in [0, 1], condition).
        n_past: number of context frames.
        seed: of the predictor's draws and of the noise.
        weights: the file the predictor was loaded from, for its SHA-256.
        data: what the clips are, for the certificate.
        progress: show a bar.
    Raises:
        ShapeError: the batch is none that can be predicted, or the answer has the wrong shape.
        LabkitError: the predictor fails on the clips as they are, answers with NaN, changes its
            arguments in place, or differs from itself under one seed.
    """
    frames, condition = _unpacked(batch)
    ask, noise = Asking(predict, frames, condition, n_past, seed), Noise(seed)
    track = _bar if progress else tried.silent
    counts = tried.context_counts(ask, noise)
    three = (
        tried.noise_trial(ask, noise),
        tried.nan_trial(ask),
        tried.gradient_trial(ask, noise, counts),
    )
    leaky = any(trial.verdict == "failed" for trial in three)
    matrix = tried.frame_influence(ask, noise, track, tried.WIDE if leaky else tried.UNIT)
    conditions = tried.condition_influence(ask, noise, track)
    feedback, why_not = tried.feedback_influence(ask, noise, track)
    clips = tried.clips_trial(ask, noise)
    found = future_frames(
        matrix,
        n_past,
        clips_mix=clips.verdict == "failed",
        only_extremes_count=lambda: tried.only_extremes_count(ask, noise),
        order_counts=lambda: tried.order_counts(ask, noise),
    )
    name, ahead = convention(conditions, n_past)
    fault = None if feedback is None else feedback_fault(_fed(feedback), n_past, found)
    findings = (
        found or (_unseen(three) if counts else None),
        _of_clips(clips, found),
        finding("ignores the context") if not counts else None,
        finding("future conditions", ahead=ahead) if ahead is not None and ahead > 0 else None,
        fault,
    )
    return Certificate(
        trials=(
            *three,
            clips,
            _conditions_trial(name, ahead, condition.shape[2]),
            _feedback_trial(feedback, why_not),
        ),
        findings=tuple(one for one in findings if one is not None),
        convention=name,
        protocol=_protocol(frames, n_past, data),
        n_past=n_past,
        seed=seed,
        frames=matrix,
        conditions=conditions,
        feedback=feedback,
        weights_sha256=None if weights is None else _digest(weights),
    )


def predictor_of(model: VideoCVAE) -> Predict:
    """The predictor that a run's figures are made with (`labkit.evaluation.sampling.predicted`),
    given whole clips: free-running, one sample from the prior; z comes from torch's global
    generator."""

    def predict(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
        return predicted(model, frames, condition, n_past)

    # The output makes each predicted frame, and is called for no other.
    return hooked(predict, model.output)


def _unpacked(batch: Batch | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Frames as floats, and conditions."""
    frames, condition = batch if isinstance(batch, tuple) else (batch.frames, batch.condition)
    return (frames.float() / 255 if frames.dtype == torch.uint8 else frames), condition


def _bar(steps: Iterable[int], what: str) -> Iterable[int]:
    return tqdm(steps, desc=f"disturbing {what}", unit="step", leave=False)


def _fed(feedback: Float[np.ndarray, "horizon horizon"]) -> Bool[np.ndarray, " steps"]:
    """Whether disturbing each prediction but the last changes the next."""
    return feedback.diagonal(offset=1) > 0


def _unseen(three: tuple[Trial, ...]) -> Finding | None:
    """What is left where no single frame shows a leak, and the trials still do."""
    noise, nan, gradient = (trial.verdict == "failed" for trial in three)
    if noise or gradient:
        return finding("unknown")
    return finding("masked") if nan else None


def _of_clips(clips: Trial, found: Finding | None) -> Finding | None:
    """The dependence on other clips, where no finding says so already."""
    if clips.verdict != "failed" or (found is not None and found.leak == "batch statistics"):
        return None
    return finding("other clips")


def _conditions_trial(name: str, ahead: int | None, columns: int) -> Trial:
    trial = "conditions"
    if ahead is None:
        why = "no condition changes any prediction" if columns else "there are no conditions"
        return Trial(trial, "not applicable", why)
    if ahead > 0:
        return Trial(trial, "failed", f"prediction t reads conditions up to {name}")
    more = "; it tells where the arm has arrived" if ahead == 0 else ""
    return Trial(trial, "passed", f"the latest condition that prediction t reads is {name}{more}")


def _feedback_trial(feedback: np.ndarray | None, why_not: str) -> Trial:
    trial = "feedback"
    if feedback is None:
        return Trial(trial, "not applicable", why_not)
    fed = _fed(feedback)
    if not len(fed):
        return Trial(trial, "not applicable", "one frame is predicted: there is nothing to feed")
    what = f"disturbing predicted frame t changes frame t+1 at {fed.sum()} of {len(fed)} steps"
    return Trial(trial, "passed" if fed.all() else "failed", what)


def _protocol(frames: Tensor, n_past: int, data: str) -> str:
    clips, length = frames.shape[:2]
    of = f" of {data}" if data else ""
    return f"{n_past} -> {length - n_past} frames, {clips} clip{'s' if clips > 1 else ''}{of}"


def _digest(weights: Path | str) -> str:
    try:
        with Path(weights).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LabkitError(f"cannot be read: {error.strerror or error}", file=weights) from None
