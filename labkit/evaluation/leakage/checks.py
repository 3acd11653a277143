"""The trials: each asks a predictor one question that an honest one can only answer in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from labkit.evaluation.leakage.probe import Asking, RefusedError, change, same

UNIT, WIDE = (0.0, 1.0), (-1.0, 2.0)
"""range of the noise put in a frame's place: a picture's; or wider than any picture's, so that it
moves a clip's maximum and minimum whatever they are. The wide one serves to name a leak that is
proved already: a predictor may well ask whether its frames are in [0, 1]."""

Track = Callable[[Iterable[int], str], Iterable[int]]
"""Shows how far a loop is."""


@dataclass(frozen=True)
class Trial:
    """One question and its answer."""

    name: str
    verdict: Literal["passed", "failed", "not applicable"]
    text: str
    """what was done and what came of it, or why it could not be done"""


class Noise:
    """Noise of its own seed, the same in every proof."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed + 1)

    def like(self, frames: Tensor, bounds: tuple[float, float] = UNIT) -> Tensor:
        """Uniform noise of that shape."""
        low, high = bounds
        noise = torch.rand(frames.shape, generator=self.generator, dtype=torch.float32)
        return (low + (high - low) * noise).to(frames)

    def normal_like(self, values: Tensor) -> Tensor:
        """Standard normal noise of that shape."""
        return torch.randn(values.shape, generator=self.generator).to(values)


def replaced(values: Tensor, at: slice | int, by: Tensor | float) -> Tensor:
    """A copy in which time steps `at` hold something else."""
    copy = values.clone()
    copy[:, at] = by
    return copy


def noise_trial(ask: Asking, noise: Noise) -> Trial:
    """Every frame from n_past on replaced by noise: the predictions must not change by a bit."""
    name, future = "noise", slice(ask.n_past, None)
    try:
        made = ask(replaced(ask.frames, future, noise.like(ask.frames[:, future])))
    except RefusedError as refusal:
        return Trial(name, "not applicable", f"it refuses noise in future frames: {refusal}")
    what = "every future frame replaced by noise"
    if same(made, ask.baseline):
        return Trial(name, "passed", f"{what}: the predictions are identical to the last bit")
    far = change(ask.baseline, made).max()
    return Trial(name, "failed", f"{what}: the predictions change by up to {far:.3g}")


def context_counts(ask: Asking, noise: Noise) -> bool:
    """Whether other context frames make other predictions, or are refused."""
    context = slice(0, ask.n_past)
    made = _answer(ask, replaced(ask.frames, context, noise.like(ask.frames[:, context])))
    return made is None or not same(made, ask.baseline)


def nan_trial(ask: Asking) -> Trial:
    """The same with NaN, which goes through every sum, product and maximum it meets."""
    name = "nan"
    try:
        made = ask(replaced(ask.frames, slice(ask.n_past, None), torch.nan))
    except RefusedError as refusal:
        return Trial(name, "not applicable", f"it refuses NaN in future frames: {refusal}")
    what = "every future frame replaced by NaN"
    if same(made, ask.baseline):
        return Trial(name, "passed", f"{what}: the predictions are finite and identical")
    lost = 100 * (~made.isfinite()).double().mean().item()
    return Trial(name, "failed", f"{what}: the predictions change, {lost:.3g} % of them to NaN")


def gradient_trial(ask: Asking, noise: Noise, context_counts: bool) -> Trial:
    """d prediction / d frames: exactly zero for future frames, and not for the context's."""
    name = "gradient"
    leaf = ask.frames.clone().requires_grad_()
    try:
        # On a GPU, cuDNN's recurrent networks have no gradient outside of training.
        with torch.backends.cudnn.flags(enabled=False):
            made = ask(leaf, gradient=True)
            if not made.requires_grad:
                why = "the predictions have no gradient (torch.no_grad, .detach() or numpy)"
                return Trial(name, "not applicable", why)
            # Random weights: the sum of a softmax, say, would have no gradient at all.
            weights = noise.normal_like(made.detach())
            (gradient,) = torch.autograd.grad((made * weights).sum(), leaf, allow_unused=True)
    except (RefusedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return Trial(name, "not applicable", f"it cannot be differentiated: {reason}")
    if gradient is None:
        why = "no gradient leads from the predictions to any frame (.detach() or numpy)"
        return Trial(name, "not applicable", why)
    sizes = gradient.abs().amax(dim=(0, 2, 3, 4))
    future, context = sizes[ask.n_past :], sizes[: ask.n_past]
    told = f"largest gradient to a future frame {future.max():.3g}, to the context"
    if not bool((future == 0).all()):
        return Trial(name, "failed", f"{told} {context.max():.3g}")
    if not bool((context > 0).any()):
        if context_counts:
            why = "the gradient is zero, though the context counts: is something rounded?"
            return Trial(name, "not applicable", why)
        return Trial(name, "failed", f"{told} 0 as well: the context is not used")
    return Trial(name, "passed", f"{told} {context.max():.3g}")


def clips_trial(ask: Asking, noise: Noise) -> Trial:
    """Half of the clips replaced by others: the predictions of the other half must not change."""
    name, clips = "other clips", len(ask.frames)
    if clips == 1:
        return Trial(name, "not applicable", "there is only one clip; give two or more")
    far = 0.0
    for half in (slice(0, clips // 2), slice(clips // 2, clips)):
        frames, condition = ask.frames.clone(), ask.condition.clone()
        frames[half] = noise.like(frames[half])
        condition[half] += noise.normal_like(condition[half])
        kept = torch.ones(clips, dtype=torch.bool)
        kept[half] = False
        try:
            made = ask(frames, condition)
        except RefusedError as refusal:
            return Trial(name, "not applicable", f"it refuses other clips: {refusal}")
        far = max(far, float(change(ask.baseline[kept], made[kept]).max()))
    what = "other clips in the batch"
    if far == 0:
        return Trial(name, "passed", f"{what}: a clip's predictions are identical")
    return Trial(name, "failed", f"{what}: a clip's predictions change by up to {far:.3g}")


def frame_influence(
    ask: Asking, noise: Noise, track: Track, bounds: tuple[float, float] = UNIT
) -> Float[np.ndarray, "T horizon"]:
    """Largest change of each prediction when frame t alone is replaced by noise, row t."""

    def changed(t: int, bounds: tuple[float, float]) -> Tensor | None:
        return _answer(ask, replaced(ask.frames, t, noise.like(ask.frames[:, t], bounds)))

    rows = []
    for t in track(range(ask.frames.shape[1]), "frames"):
        made = changed(t, bounds)
        rows.append(_row(ask, changed(t, UNIT) if made is None else made))
    return np.array(rows)


def condition_influence(ask: Asking, noise: Noise, track: Track) -> Float[np.ndarray, "T horizon"]:
    """Largest change of each prediction when the conditions of frame t alone are moved by about
    one, or by one deviation of each column where that is more; row t."""
    rows: list[np.ndarray] = []
    if not ask.condition.shape[-1]:
        return np.zeros((ask.frames.shape[1], ask.horizon))
    scale = ask.condition.flatten(0, 1).std(dim=0, correction=0).clamp_min(1.0)
    for t in track(range(ask.frames.shape[1]), "conditions"):
        there = ask.condition[:, t]
        moved = replaced(ask.condition, t, there + scale * noise.normal_like(there))
        rows.append(_row(ask, _answer(ask, condition=moved)))
    return np.array(rows)


def _row(ask: Asking, made: Tensor | None) -> np.ndarray:
    """The change of each prediction; infinite where it looked, and refused what it saw."""
    return np.full(ask.horizon, np.inf) if made is None else change(ask.baseline, made)


def feedback_influence(
    ask: Asking, noise: Noise, track: Track
) -> tuple[Float[np.ndarray, "horizon horizon"] | None, str]:
    """Largest change of each prediction when predicted frame t alone is replaced by noise on its
    way, row t - n_past; or None, and why there is no such thing."""
    if not ask.takes_disturb:
        return None, (
            "it cannot be seen from outside whether predictions are fed back; let the predictor "
            "take disturb=, or name the module that makes its frames: hooked(predict, decoder)"
        )
    steps = list(range(ask.n_past, ask.n_past + ask.horizon))
    called: list[int] = []

    def untouched(t: int, frame: Tensor) -> Tensor:
        called.append(t)
        return frame

    try:
        plain = ask(disturb=untouched)
        if called != steps:
            return None, f"disturb is called with t = {called}; expected t = {steps}, in order"
        rows = []
        for t in track(steps, "feedback"):
            made = ask(disturb=_disturbing(t, noise))
            rows.append(change(plain, made))
    except RefusedError as refusal:
        return None, f"it fails with disturb=: {refusal}"
    if not same(plain, ask.baseline):
        return None, "with a disturb= that changes nothing, it predicts other frames than without"
    return np.array(rows), ""


def _disturbing(step: int, noise: Noise) -> Callable[[int, Tensor], Tensor]:
    """Replaces the predicted frame of one step by noise in [0, 1]."""

    def disturb(t: int, frame: Tensor) -> Tensor:
        return noise.like(frame) if t == step else frame

    return disturb


def only_extremes_count(ask: Asking, noise: Noise) -> bool:
    """Whether future frames count by their extremes alone: any two noises within the range of the
    context's colours make one prediction."""
    context = ask.frames[:, : ask.n_past]
    low, high = (part[:, None] for part in (context.amin((1, 3, 4)), context.amax((1, 3, 4))))
    made = []
    for _ in range(2):
        share = noise.like(ask.frames[:, ask.n_past :])
        within = low[..., None, None] + (high - low)[..., None, None] * share
        made.append(_answer(ask, replaced(ask.frames, slice(ask.n_past, None), within)))
    return made[0] is not None and made[1] is not None and same(made[0], made[1])


def order_counts(ask: Asking, noise: Noise) -> bool:
    """Whether the order of the future frames matters, by more than rounding."""
    future = noise.like(ask.frames[:, ask.n_past :])
    place = slice(ask.n_past, None)
    forth = _answer(ask, replaced(ask.frames, place, future))
    back = _answer(ask, replaced(ask.frames, place, future.flip(1)))
    if forth is None or back is None or ask.horizon < 2:
        return True
    return bool(change(forth, back).max() > 1e-3 * change(ask.baseline, forth).max())


def _answer(
    ask: Asking, frames: Tensor | None = None, condition: Tensor | None = None
) -> Tensor | None:
    try:
        return ask(frames, condition)
    except RefusedError:
        return None


def silent(steps: Iterable[int], what: str) -> Iterable[int]:
    """A Track that shows nothing."""
    return steps
