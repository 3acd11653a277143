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
from labkit.evaluation.leakage import checks
from labkit.evaluation.leakage.certificate import Certificate
from labkit.evaluation.leakage.checks import Noise, Trial
from labkit.evaluation.leakage.diagnosis import (
    Finding,
    convention,
    feedback_fault,
    finding,
    future_frames,
)
from labkit.evaluation.leakage.probe import Predict, Probe, RefusedError, hooked
from labkit.evaluation.sampling import predicted
from labkit.model import VideoCVAE


def prove(
    predict: Predict,
    batch: Batch | tuple[Tensor, Tensor],
    n_past: int = 2,
    *,
    seed: int = 0,
    seeds: int = checks.SEEDS,
    weights: Path | str | None = None,
    data: str = "",
    progress: bool = False,
) -> Certificate:
    """Proves that a predictor reads no future frame, or names the leak.

    Future frames are replaced by noise (with many seeds), by NaN and by other pictures. Their
    gradient is computed; it must be exactly zero while the context's is not. Further trials:
    whether predictions show true frames that were not in the arguments; whether a clip's prediction
    depends on other clips; which conditions prediction t reads; whether predictions are fed back.
    Each frame and condition is also changed alone: the predictions that change name the leak
    (`diagnosis`).

    Buffers and modes of the predictor's modules are restored after each call. `certificate.LIMITS`
    says what the proof does not cover.

    Args:
        predict: (frames (B, T, 3, H, W), condition (B, T, C), n_past) -> predicted frames
            (B, T - n_past, 3, H, W), or all T with the context in front. If it takes `disturb` too
            (see `Predict`), feedback is proved; `hooked` adds that argument. Random numbers must
            come from torch's, numpy's or Python's global generators.
        batch: whole clips: a Batch or (frames in [0, 1], condition).
        n_past: number of context frames.
        seed: of the predictor's random numbers and of the noise.
        seeds: how many other seeds the noise trial is repeated with.
        weights: the file of the predictor's weights, for its SHA-256.
        data: what the clips are, for the certificate.
        progress: show a bar.
    Raises:
        ShapeError: the batch cannot be predicted, or the predictions have the wrong shape.
        LabkitError: the predictor fails on the clips, predicts NaN, changes its arguments in place,
            or differs between two calls with one seed.
    """
    frames, condition = _unpacked(batch)
    probe, noise = Probe(predict, frames, condition, n_past, seed), Noise(seed)
    track = _bar if progress else checks.silent
    context_is_read = checks.context_is_read(probe, noise)
    direct = (
        checks.noise_trial(probe, noise),
        checks.nan_trial(probe),
        checks.gradient_trial(probe, noise, context_is_read),
    )
    leaky = any(trial.verdict == "failed" for trial in direct)
    clips = checks.clips_trial(probe, noise)
    futures = checks.futures_trial(probe, noise)
    in_seeds = checks.seeds_trial(probe, noise, track, seeds)
    memory = checks.memory_trial(probe, noise)

    # For an honest predictor one clip is enough to see the influences, in a fraction of the time.
    one = probe if leaky or clips.verdict == "failed" else _one_clip(probe)
    matrix = checks.frame_influence(one, noise, track, checks.WIDE if leaky else checks.UNIT)
    conditions = checks.condition_influence(one, noise, track)
    feedback, why_not = checks.feedback_influence(one, noise, track)
    found = future_frames(
        matrix,
        n_past,
        clips_mix=clips.verdict == "failed",
        chosen_by_truth=lambda: checks.chosen_by_truth(probe, noise),
        only_extremes_are_read=lambda: checks.only_extremes_are_read(probe, noise),
        order_is_read=lambda: checks.order_is_read(probe, noise),
    )
    if found is None and context_is_read:
        # A choice by the truth need not change with any single frame.
        chosen = direct[0].verdict == "failed" and checks.chosen_by_truth(probe, noise)
        found = finding("best of N") if chosen else _without_influence(direct, futures, in_seeds)
    name, ahead = convention(conditions, n_past)
    fault = None if feedback is None else feedback_fault(_fed(feedback), n_past, found)
    findings = (
        found,
        finding("stored truth") if found is None and memory.verdict == "failed" else None,
        _of_clips(clips, found),
        finding("ignores the context") if not context_is_read else None,
        finding("future conditions", ahead=ahead) if ahead is not None and ahead > 0 else None,
        fault,
    )
    return Certificate(
        trials=(
            *direct,
            futures,
            in_seeds,
            memory,
            clips,
            _conditions_trial(name, ahead, condition.shape[2]),
            _feedback_trial(feedback, why_not),
        ),
        findings=tuple(one for one in findings if one is not None),
        convention=name,
        protocol=_protocol(frames, n_past, data),
        n_past=n_past,
        seed=seed,
        seeds=0 if in_seeds.verdict == "not applicable" else seeds,
        frames=matrix,
        conditions=conditions,
        feedback=feedback,
        weights_sha256=None if weights is None else _digest(weights),
    )


def predictor_of(model: VideoCVAE) -> Predict:
    """The predictor of a run's figures (`labkit.evaluation.sampling.predicted`) on whole clips:
    free-running, one sample from the prior; z is drawn from torch's global generator."""

    def predict(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
        return predicted(model, frames, condition, n_past)

    # The output module returns each predicted frame, and is called for no other.
    return hooked(predict, model.output)


def _unpacked(batch: Batch | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Frames as floats, and conditions."""
    frames, condition = batch if isinstance(batch, tuple) else (batch.frames, batch.condition)
    return (frames.float() / 255 if frames.dtype == torch.uint8 else frames), condition


def _bar(steps: Iterable[int], what: str) -> Iterable[int]:
    return tqdm(steps, desc=f"changing {what}", unit="step", leave=False)


def _fed(feedback: Float[np.ndarray, "horizon horizon"]) -> Bool[np.ndarray, " steps"]:
    """Whether changing each prediction but the last changes the next."""
    return feedback.diagonal(offset=1) > 0


def _one_clip(probe: Probe) -> Probe:
    """The probe on the clip in which most changes; the whole batch if the predictor refuses a
    single clip."""
    frames = probe.frames
    place = int((frames - frames[:, :1]).abs().mean(dim=(1, 2, 3, 4)).argmax())
    try:
        return probe.part(slice(place, place + 1))
    except (RefusedError, LabkitError):
        return probe


def _without_influence(
    direct: tuple[Trial, ...], futures: Trial, in_seeds: Trial
) -> Finding | None:
    """The finding where a trial failed although no single frame shows a leak."""
    noise, nan, gradient = (trial.verdict == "failed" for trial in direct)
    if noise or gradient:
        return finding("unknown")
    if futures.verdict == "failed":
        return finding("some contents")
    if in_seeds.verdict == "failed":
        return finding("some calls")
    return finding("masked") if nan else None


def _of_clips(clips: Trial, found: Finding | None) -> Finding | None:
    """The finding for a dependence on other clips, unless another finding includes it."""
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
    more = "; it contains where the arm has arrived" if ahead == 0 else ""
    return Trial(trial, "passed", f"the latest condition that prediction t reads is {name}{more}")


def _feedback_trial(feedback: np.ndarray | None, why_not: str) -> Trial:
    trial = "feedback"
    if feedback is None:
        return Trial(trial, "not applicable", why_not)
    fed = _fed(feedback)
    if not len(fed):
        return Trial(trial, "not applicable", "one frame is predicted: nothing can be fed back")
    what = f"changing predicted frame t changes frame t+1 at {fed.sum()} of {len(fed)} steps"
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
