"""The trials. Each changes an input, to which the predictions of an honest predictor can respond in
only one way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from labkit.errors import LabkitError
from labkit.evaluation.leakage.probe import Probe, RefusedError, change, same

UNIT, WIDE = (0.0, 1.0), (-1.0, 2.0)
"""range of the noise in a frame's place: that of a picture; or a wider one, which always moves a
clip's maximum and minimum. The wide one only names a leak that is already proved: an honest
predictor may check whether its frames are in [0, 1]."""

SEEDS = 60
"""number of seeds in `seeds_trial`. A leak in one of 20 calls is missed by 0.95^60 = 5 % of proofs;
one in 10 calls by 0.2 %."""

Track = Callable[[Iterable[int], str], Iterable[int]]
"""Shows the progress of a loop."""


@dataclass(frozen=True)
class Trial:
    """One trial and its result."""

    name: str
    verdict: Literal["passed", "failed", "not applicable"]
    text: str
    """what was done and what was seen, or why it could not be done"""


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
    """A copy in which time steps `at` are replaced."""
    copy = values.clone()
    copy[:, at] = by
    return copy


# ------------------------------------------------------------------------ no future frame is read


def noise_trial(probe: Probe, noise: Noise) -> Trial:
    """Every frame from n_past on replaced by noise: the predictions must not change by one bit."""
    name, future = "noise", slice(probe.n_past, None)
    try:
        predicted = probe(replaced(probe.frames, future, noise.like(probe.frames[:, future])))
    except RefusedError as refusal:
        return Trial(name, "not applicable", f"it refuses noise in future frames: {refusal}")
    what = "every future frame replaced by noise"
    if same(predicted, probe.baseline):
        return Trial(name, "passed", f"{what}: the predictions are identical to the last bit")
    largest = change(probe.baseline, predicted).max()
    return Trial(name, "failed", f"{what}: the predictions change by up to {largest:.3g}")


def nan_trial(probe: Probe) -> Trial:
    """The same with NaN, which passes through every sum, product and maximum."""
    name = "nan"
    try:
        predicted = probe(replaced(probe.frames, slice(probe.n_past, None), torch.nan))
    except RefusedError as refusal:
        return Trial(name, "not applicable", f"it refuses NaN in future frames: {refusal}")
    what = "every future frame replaced by NaN"
    if same(predicted, probe.baseline):
        return Trial(name, "passed", f"{what}: the predictions are finite and identical")
    lost = 100 * (~predicted.isfinite()).double().mean().item()
    return Trial(name, "failed", f"{what}: the predictions change, {lost:.3g} % of them to NaN")


def gradient_trial(probe: Probe, noise: Noise, context_is_read: bool) -> Trial:
    """d prediction / d frames: exactly zero for future frames, and not for the context's."""
    name = "gradient"
    leaf = probe.frames.clone().requires_grad_()
    try:
        # On a GPU, cuDNN's recurrent networks have no gradient outside of training.
        with torch.backends.cudnn.flags(enabled=False):
            predicted = probe(leaf, gradient=True)
            if not predicted.requires_grad:
                why = "the predictions have no gradient (torch.no_grad, .detach() or numpy)"
                return Trial(name, "not applicable", why)
            # Random weights: the sum of a softmax, for example, has no gradient at all.
            weights = noise.normal_like(predicted.detach())
            (gradient,) = torch.autograd.grad((predicted * weights).sum(), leaf, allow_unused=True)
    except (RefusedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return Trial(name, "not applicable", f"it cannot be differentiated: {reason}")
    if gradient is None:
        why = "no gradient leads from the predictions to any frame (.detach() or numpy)"
        return Trial(name, "not applicable", why)
    sizes = gradient.abs().amax(dim=(0, 2, 3, 4))
    future, context = sizes[probe.n_past :], sizes[: probe.n_past]
    what = f"largest gradient with respect to a future frame {future.max():.3g}, to the context"
    if not bool((future == 0).all()):
        return Trial(name, "failed", f"{what} {context.max():.3g}")
    if not bool((context > 0).any()):
        if context_is_read:
            why = (
                "the gradient with respect to the context is zero although the predictions depend "
                "on it: it is cut off (.detach(), torch.no_grad) or a value is rounded on the way"
            )
            return Trial(name, "not applicable", why)
        return Trial(name, "failed", f"{what} 0 as well: the context is not used")
    return Trial(name, "passed", f"{what} {context.max():.3g}")


def futures_trial(probe: Probe, noise: Noise) -> Trial:
    """Other futures than noise, whose mean is always 0.5: a predictor could read the future only
    where it is bright, dark, or a picture."""
    name, future = "other futures", slice(probe.n_past, None)
    true = probe.frames[:, future]
    # One brightness for each frame, and a little noise around it.
    levels = noise.like(true[..., :1, :1, :1]).expand_as(true)
    futures = {
        "black": torch.zeros_like(true),
        "white": torch.ones_like(true),
        "random brightness": (levels + 0.1 * (noise.like(true) - 0.5)).clamp(0, 1),
    }
    if len(true) > 1:
        futures["another clip's"] = true.roll(1, dims=0)
    changed, refused = [], []
    for kind, frames in futures.items():
        predicted = _predicted(probe, replaced(probe.frames, future, frames))
        if predicted is None:
            refused.append(kind)
        elif not same(predicted, probe.baseline):
            changed.append(f"{kind} ({change(probe.baseline, predicted).max():.3g})")
    if changed:
        return Trial(name, "failed", f"the predictions change with futures: {', '.join(changed)}")
    if len(refused) == len(futures):
        return Trial(name, "not applicable", "it refuses other futures")
    kinds = ", ".join(kind for kind in futures if kind not in refused)
    return Trial(name, "passed", f"futures {kinds}: the predictions are identical")


def seeds_trial(probe: Probe, noise: Noise, track: Track, seeds: int = SEEDS) -> Trial:
    """The noise trial with many seeds, since a predictor could read the future in some calls only.
    To save time it takes the first frames of one clip."""
    name, changed, done = "seeds", [], 0
    for number in track(range(seeds), "seeds"):
        seed = probe.seed + 1 + number
        try:
            part = probe.part(slice(0, 1), probe.n_past + 2, seed)
            future = slice(part.n_past, None)
            predicted = part(replaced(part.frames, future, noise.like(part.frames[:, future])))
        except (RefusedError, LabkitError) as refusal:
            if not done:  # it may need the whole batch
                return _seeds_on_whole_batch(probe, noise, track, refusal)
            continue
        done += 1
        if not same(predicted, part.baseline):
            changed.append(seed)
    return _seeds_result(name, changed, done)


def _seeds_on_whole_batch(
    probe: Probe, noise: Noise, track: Track, refusal: Exception, seeds: int = 5
) -> Trial:
    """The trial for a predictor that refuses a part of the batch."""
    changed, future = [], slice(probe.n_past, None)
    try:
        for number in track(range(seeds), "seeds"):
            part = probe.part(seed=probe.seed + 1 + number)
            predicted = part(replaced(part.frames, future, noise.like(part.frames[:, future])))
            if not same(predicted, part.baseline):
                changed.append(part.seed)
    except (RefusedError, LabkitError):
        return Trial("seeds", "not applicable", f"it fails with other seeds: {refusal}")
    return _seeds_result("seeds", changed, seeds)


def _seeds_result(name: str, changed: list[int], done: int) -> Trial:
    what = f"{done} seeds, future frames replaced by noise"
    if not changed:
        return Trial(name, "passed", f"{what}: the predictions are identical with every seed")
    with_seeds = f"with {len(changed)} of them, the first is {changed[0]}"
    return Trial(name, "failed", f"{what}: the predictions change {with_seeds}")


def memory_trial(probe: Probe, noise: Noise) -> Trial:
    """All frames replaced by noise and the conditions by another clip's: the predictions must not
    resemble the true frames, nor the noise in the future's place. They could if the predictor has
    stored the true frames outside of its arguments."""
    name, n_past = "stored truth", probe.n_past
    if probe.horizon < 2:
        return Trial(name, "not applicable", "one frame is predicted: it has no change over time")
    frames, condition = noise.like(probe.frames), probe.condition
    if len(condition) > 1:
        condition = condition.roll(1, dims=0)
    try:
        predicted = probe(frames, condition).double()
    except RefusedError as refusal:
        return Trial(name, "not applicable", f"it refuses noise as the context: {refusal}")
    true, last = (probe.frames[:, at].double() for at in (slice(n_past, None), [n_past - 1]))
    closer = _mse(predicted, true) < 0.5 * _mse(last, true)
    stored = closer & (_correlation(predicted, true) > 0.8)
    fed = _correlation(predicted, frames[:, n_past:].double()) > 0.3
    what = "context, future and conditions replaced"
    if bool(stored.any()):
        clips = f"{int(stored.sum())} of {len(stored)} clips"
        return Trial(name, "failed", f"{what}: the predictions still show the true frames, {clips}")
    if bool(fed.any()):
        text = f"{what}: the predictions show the noise that was put in the future's place"
        return Trial(name, "failed", text)
    return Trial(name, "passed", f"{what}: the predictions do not resemble the true frames")


def _mse(a: Tensor, b: Tensor) -> Float[Tensor, " B"]:
    return (a - b).square().mean(dim=(1, 2, 3, 4))


def _correlation(a: Tensor, b: Tensor) -> Float[Tensor, " B"]:
    """Correlation of the changes since the first frame, for each clip; 0 where nothing changes."""
    x, y = ((each[:, 1:] - each[:, :1]).flatten(1) for each in (a, b))
    size = x.norm(dim=1) * y.norm(dim=1)
    return torch.where(size > 0, (x * y).sum(dim=1) / size.clamp_min(1e-12), 0.0)


# ------------------------------------------------------------------------------------ other inputs


def context_is_read(probe: Probe, noise: Noise) -> bool:
    """Whether other context frames change the predictions, or are refused."""
    context = slice(0, probe.n_past)
    frames = replaced(probe.frames, context, noise.like(probe.frames[:, context]))
    predicted = _predicted(probe, frames)
    return predicted is None or not same(predicted, probe.baseline)


def clips_trial(probe: Probe, noise: Noise) -> Trial:
    """Half of the clips replaced by noise: the predictions of the other half must not change."""
    name, clips = "other clips", len(probe.frames)
    if clips == 1:
        return Trial(name, "not applicable", "there is only one clip; give two or more")
    largest = 0.0
    for half in (slice(0, clips // 2), slice(clips // 2, clips)):
        frames, condition = probe.frames.clone(), probe.condition.clone()
        frames[half] = noise.like(frames[half])
        condition[half] += noise.normal_like(condition[half])
        others = torch.ones(clips, dtype=torch.bool)
        others[half] = False
        try:
            predicted = probe(frames, condition)
        except RefusedError as refusal:
            return Trial(name, "not applicable", f"it refuses other clips: {refusal}")
        largest = max(largest, float(change(probe.baseline[others], predicted[others]).max()))
    what = "other clips in the batch replaced"
    if largest == 0:
        return Trial(name, "passed", f"{what}: a clip's predictions are identical")
    return Trial(name, "failed", f"{what}: a clip's predictions change by up to {largest:.3g}")


# --------------------------------------------------------------------------------------- influences


def frame_influence(
    probe: Probe, noise: Noise, track: Track, bounds: tuple[float, float] = UNIT
) -> Float[np.ndarray, "T horizon"]:
    """Largest change of each prediction when frame t alone is replaced by noise, row t."""

    def with_noise(t: int, bounds: tuple[float, float]) -> Tensor | None:
        frame = noise.like(probe.frames[:, t], bounds)
        return _predicted(probe, replaced(probe.frames, t, frame))

    rows = []
    for t in track(range(probe.frames.shape[1]), "frames"):
        predicted = with_noise(t, bounds)
        rows.append(_row(probe, with_noise(t, UNIT) if predicted is None else predicted))
    return np.array(rows)


def condition_influence(probe: Probe, noise: Noise, track: Track) -> Float[np.ndarray, "T horizon"]:
    """Largest change of each prediction when the conditions of frame t alone are moved by about
    one, or by one standard deviation of each column if that is more; row t."""
    rows: list[np.ndarray] = []
    if not probe.condition.shape[-1]:
        return np.zeros((probe.frames.shape[1], probe.horizon))
    scale = probe.condition.flatten(0, 1).std(dim=0, correction=0).clamp_min(1.0)
    for t in track(range(probe.frames.shape[1]), "conditions"):
        values = probe.condition[:, t]
        moved = replaced(probe.condition, t, values + scale * noise.normal_like(values))
        rows.append(_row(probe, _predicted(probe, condition=moved)))
    return np.array(rows)


def _row(probe: Probe, predicted: Tensor | None) -> np.ndarray:
    """The change of each prediction; infinite where the predictor refused what it read."""
    if predicted is None:
        return np.full(probe.horizon, np.inf)
    return change(probe.baseline, predicted)


def feedback_influence(
    probe: Probe, noise: Noise, track: Track
) -> tuple[Float[np.ndarray, "horizon horizon"] | None, str]:
    """Largest change of each prediction when predicted frame t alone is replaced by noise before
    it is used again, row t - n_past; or None, and the reason."""
    if not probe.takes_disturb:
        return None, (
            "it cannot be seen from outside whether predictions are fed back; give the predictor "
            "an argument disturb=, or name the module that returns its frames: "
            "hooked(predict, decoder)"
        )
    steps = list(range(probe.n_past, probe.n_past + probe.horizon))
    called: list[int] = []

    def unchanged(t: int, frame: Tensor) -> Tensor:
        called.append(t)
        return frame

    try:
        plain = probe(disturb=unchanged)
        if called != steps:
            return None, f"disturb is called with t = {called}; expected t = {steps}, in order"
        rows = []
        for t in track(steps, "feedback"):
            rows.append(change(plain, probe(disturb=_disturbing(t, noise))))
    except RefusedError as refusal:
        return None, f"it fails with disturb=: {refusal}"
    if not same(plain, probe.baseline):
        return None, "with a disturb= that changes nothing, it predicts other frames than without"
    return np.array(rows), ""


def _disturbing(step: int, noise: Noise) -> Callable[[int, Tensor], Tensor]:
    """Replaces the predicted frame of one step by noise in [0, 1]."""

    def disturb(t: int, frame: Tensor) -> Tensor:
        return noise.like(frame) if t == step else frame

    return disturb


# --------------------------------------------------------------------- further trials, for the name


def only_extremes_are_read(probe: Probe, noise: Noise) -> bool:
    """Whether only the extremes of future frames are read: two noises within the range of the
    context's values give the same predictions."""
    context = probe.frames[:, : probe.n_past]
    low, high = (part[:, None] for part in (context.amin((1, 3, 4)), context.amax((1, 3, 4))))
    results = []
    for _ in range(2):
        share = noise.like(probe.frames[:, probe.n_past :])
        within = low[..., None, None] + (high - low)[..., None, None] * share
        frames = replaced(probe.frames, slice(probe.n_past, None), within)
        results.append(_predicted(probe, frames))
    return results[0] is not None and results[1] is not None and same(results[0], results[1])


def order_is_read(probe: Probe, noise: Noise) -> bool:
    """Whether the order of the future frames matters, by more than rounding."""
    noisy, future = noise.like(probe.frames[:, probe.n_past :]), slice(probe.n_past, None)
    forward = _predicted(probe, replaced(probe.frames, future, noisy))
    backward = _predicted(probe, replaced(probe.frames, future, noisy.flip(1)))
    if forward is None or backward is None or probe.horizon < 2:
        return True
    return bool(change(forward, backward).max() > 1e-3 * change(probe.baseline, forward).max())


def chosen_by_truth(probe: Probe, noise: Noise) -> bool:
    """Whether a clip's prediction is one of a few candidates, chosen by the future frames: small
    changes of the future leave it equal to the last bit, large ones exchange it for another."""
    future = slice(probe.n_past, None)
    true = probe.frames[:, future]
    noises = [noise.like(true) for _ in range(4)]
    shades = [torch.full_like(true, level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)]
    results: list[Tensor] = [probe.baseline]
    stable = total = 0
    for number, frames in enumerate([*noises, *shades, true.flip(1), true.roll(1, dims=0)]):
        predicted = _predicted(probe, replaced(probe.frames, future, frames))
        if predicted is None:
            return False
        results.append(predicted)
        if number < len(noises):
            moved = (frames + 2e-3 * (noise.like(frames) - 0.5)).clamp(0, 1)
            again = _predicted(probe, replaced(probe.frames, future, moved))
            if again is None:
                return False
            stable += sum(same(a, b) for a, b in zip(predicted, again, strict=True))
            total += len(predicted)
    candidates = max(_distinct([each[clip] for each in results]) for clip in range(len(true)))
    return stable >= 0.9 * total and 3 <= candidates < len(results)


def _distinct(results: list[Tensor]) -> int:
    """Number of different tensors."""
    different: list[Tensor] = []
    for result in results:
        if not any(same(result, other) for other in different):
            different.append(result)
    return len(different)


def _predicted(
    probe: Probe, frames: Tensor | None = None, condition: Tensor | None = None
) -> Tensor | None:
    """The predictions; None where the predictor refuses its input."""
    try:
        return probe(frames, condition)
    except RefusedError:
        return None


def silent(steps: Iterable[int], what: str) -> Iterable[int]:
    """A Track that shows nothing."""
    return steps
