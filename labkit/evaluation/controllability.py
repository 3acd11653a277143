"""Does the prediction follow the actions? The context stays, the actions change.

Simulated clips: the scene of each clip is simulated again from step n_past - 1 on, with the actions
of another clip. That clip is the one whose end effector is nearest at this step, so that the
positions it goes to are within reach. The prediction is compared with this simulation.

Any clips: the conditions are shuffled among the clips. The loss in PSNR measures how much the
condition contributes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from labkit.data.clip import ACTION_COLUMNS
from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError
from labkit.evaluation.bootstrap import Interval, Resamples
from labkit.evaluation.counterfactual import ClipSimulator, SimulatedBatch, nearest
from labkit.evaluation.metrics import psnr
from labkit.evaluation.regions import RegionErrors, joined_errors, region_errors
from labkit.frames import to_uint8
from labkit.model import VideoCVAE

OWN, OTHER, IGNORED, REPEATED, SHUFFLED = (
    "own actions",
    "other actions",
    "other actions, ignored",
    "other actions, last frame repeated",
    "shuffled conditions",
)
"""What is scored. IGNORED compares the prediction for the clip's own actions with the outcome
of the other actions: a model that ignores the actions scores the same there as under OTHER."""


@dataclass(frozen=True)
class Controllability:
    """Figures of every clip and time step."""

    protocol: str
    """one sentence: data, context, horizon, samples, how PSNR is averaged"""
    n_past: int
    psnr: dict[str, Float[np.ndarray, "N horizon"]]
    """dB. OWN and SHUFFLED are compared with the recorded frames; OTHER, IGNORED and REPEATED with
    the simulated outcome of the other actions (simulated clips only)"""
    effector_error: dict[str, Float[np.ndarray, "N horizon"]] = field(default_factory=dict)
    """distance in pixels between the predicted and the true gripper (`gripper_offset`); NaN where
    the true one is outside the picture. Simulated clips only"""
    locator_error: float | None = None
    """mean error in pixels of that measurement itself, on true frames with a known gripper"""
    regions: dict[str, float] = field(default_factory=dict)
    """PSNR in dB under other actions over the arm's, moved objects' and remaining pixels"""
    examples: dict[str, UInt8[np.ndarray, "K T 3 H W"]] = field(default_factory=dict)
    """the first clips, context frames included: recorded frames and their prediction, simulated
    outcome of the other actions and its prediction"""

    @property
    def simulated(self) -> bool:
        """Whether the truth of other actions was known."""
        return OTHER in self.psnr

    @property
    def condition_gain(self) -> Interval:
        """What the condition contributes: the PSNR in dB that shuffling the conditions costs, with
        its bootstrap interval over clips."""
        drop = (self.psnr[OWN] - self.psnr[SHUFFLED]).mean(axis=1)
        return Resamples(np.arange(len(drop))).mean(drop)

    def summary(self) -> dict[str, Any]:
        """The figures averaged over clips and steps, as JSON's own types."""
        gain = self.condition_gain
        return {
            "protocol": self.protocol,
            "clips": len(self.psnr[OWN]),
            "psnr": {name: _rounded(float(v.mean())) for name, v in self.psnr.items()},
            "condition_gain": {
                "mean": _rounded(gain.value),
                "interval": [_rounded(gain.low), _rounded(gain.high)],
            },
            "effector_error": {
                name: {
                    "mean": _over_finite(np.mean, v),
                    "median": _over_finite(np.median, v),
                    "per_step": [_over_finite(np.mean, step) for step in v.T],
                    "frames": int(np.isfinite(v).sum()),
                }
                for name, v in self.effector_error.items()
            },
            "locator_error": _rounded(self.locator_error),
            "regions": {name: _rounded(v) for name, v in self.regions.items()},
        }

    def text(self) -> str:
        """The figures in lines, for a terminal."""
        gain = self.condition_gain
        lines = [self.protocol]
        for name, values in self.psnr.items():
            errors = self.effector_error.get(name)
            gripper = ""
            if errors is not None:
                visible = _finite(errors)
                gripper = "   gripper never visible"
                if visible.size:
                    mean, median = visible.mean(), np.median(visible)
                    gripper = f"   gripper off by {mean:.2f} pixels (median {median:.2f})"
            lines.append(f"  {name:<34}  PSNR {values.mean():.2f} dB{gripper}")
        lines.append(
            f"the condition contributes {gain.value:.2f} dB "
            f"(95 % interval over clips {gain.low:.2f} to {gain.high:.2f})"
        )
        if self.simulated:
            by_region = ", ".join(f"{name} {v:.2f} dB" for name, v in self.regions.items())
            lines.append(f"other actions, by region: {by_region}")
            if self.locator_error is not None:
                lines.append(
                    "measured on true frames, the gripper is found within "
                    f"{self.locator_error:.2f} pixels on average"
                )
        else:
            lines.append(
                "the clips are not simulated, so the outcome of other actions is not known"
            )
        return "\n".join(lines)


def controllability(
    model: VideoCVAE,
    dataset: ClipDataset,
    *,
    clips: int | None = 64,
    seed: int = 0,
    batch_size: int = 16,
    keep: int = 2,
    progress: bool = False,
    device: str | torch.device = "cpu",
) -> Controllability:
    """Measures how closely a model's predictions follow the actions.

    Args:
        model: in evaluation mode.
        dataset: each clip's first window is taken.
        clips: how many clips; None is all.
        seed: of the samples (the same for each kind of condition) and of the shuffling.
        batch_size: clips predicted together.
        keep: number of clips whose frames are returned as examples.
        progress: show a bar.
        device: where to compute.
    Raises:
        LabkitError: the model has no condition, or there are fewer than two clips.
    """
    if not dataset.condition_size:
        raise LabkitError(
            "the model has no condition, so actions cannot change its predictions",
            hint="use a run trained with --data.condition action or action+position",
        )
    count = dataset.n_clips if clips is None else min(clips, dataset.n_clips)
    if count < 2:
        raise LabkitError(
            f"--clips is {count}: actions can only be exchanged between clips",
            hint="give 2 or more",
        )
    simulator = ClipSimulator.of(dataset)
    shuffled = shuffled_indices(count, seed)
    # The clip whose actions each clip gets.
    sources = shuffled if simulator is None else nearest(dataset, count)
    parts = []
    starts = range(0, count, batch_size)
    for first in tqdm(starts, disable=not progress, unit="batch", desc="other actions"):
        numbers = np.arange(first, min(first + batch_size, count))
        generator = torch.Generator(device).manual_seed(seed + first)
        clips_of_batch = numbers, shuffled[numbers], sources[numbers]
        parts.append(_measure(model, dataset, simulator, *clips_of_batch, generator))
    return _combine(parts, dataset, keep)


@dataclass(frozen=True)
class _BatchResult:
    """The figures of one batch."""

    psnr: dict[str, Tensor]
    effector_error: dict[str, np.ndarray] = field(default_factory=dict)
    located: np.ndarray = field(default_factory=lambda: np.empty(0))
    """errors of the locator on true frames, pixels"""
    regions: dict[str, RegionErrors] = field(default_factory=dict)
    examples: dict[str, Tensor] = field(default_factory=dict)


def _measure(
    model: VideoCVAE,
    dataset: ClipDataset,
    simulator: ClipSimulator | None,
    numbers: np.ndarray,
    shuffled: np.ndarray,
    sources: np.ndarray,
    generator: torch.Generator,
) -> _BatchResult:
    device, n_past = generator.device, dataset.n_past
    batch, shuffled_batch, source_batch = (
        dataset.batch(dataset.first_windows[which].tolist()).to(device)
        for which in (numbers, shuffled, sources)
    )
    context, truth = batch.frames[:, :n_past], batch.frames[:, n_past:]
    draws = generator.get_state()

    def predict(condition: Tensor) -> Tensor:
        generator.set_state(draws)  # the same z for every condition
        with torch.inference_mode():
            return model.predict(context, condition, truth.shape[1], generator=generator)

    own = predict(batch.condition)
    scores = {OWN: psnr(own, truth), SHUFFLED: psnr(predict(shuffled_batch.condition), truth)}
    if simulator is None:
        return _BatchResult(scores)
    actions = source_batch.condition[..., : len(ACTION_COLUMNS)].cpu().numpy()
    shape = dataset.n_frames, dataset.frame_size[0]
    recorded = SimulatedBatch.of([dataset.clip(int(n)) for n in numbers], dataset, device)
    simulated = SimulatedBatch.of(
        [
            simulator.clip(int(n), other, n_past - 1, *shape)
            for n, other in zip(numbers, actions, strict=True)
        ],
        dataset,
        device,
    )
    other = predict(simulated.condition)
    outcome = simulated.frames[:, n_past:]
    scores |= {
        OTHER: psnr(other, outcome),
        IGNORED: psnr(own, outcome),
        REPEATED: psnr(context[:, -1:].expand_as(outcome), outcome),
    }
    return _BatchResult(
        scores,
        {
            OWN: recorded.distance(own, n_past),
            OTHER: simulated.distance(other, n_past),
            IGNORED: simulated.distance(own, n_past),
        },
        simulated.locator_errors(n_past),
        region_errors(other, outcome, simulated.labels[:, n_past:]),
        {
            "what happened": batch.frames,
            "predicted": torch.cat([context, own], 1),
            "other actions, simulated": simulated.frames,
            "other actions, predicted": torch.cat([context, other], 1),
        },
    )


def shuffled_indices(count: int, seed: int) -> Int64[np.ndarray, " N"]:
    """For each clip the number of the clip whose condition it gets: a permutation of the clips
    that leaves none in its place (a derangement)."""
    order = np.random.default_rng(seed).permutation(count)
    sources = np.empty(count, np.int64)
    sources[order] = np.roll(order, 1)
    return sources


def _combine(parts: list[_BatchResult], dataset: ClipDataset, keep: int) -> Controllability:
    first = parts[0]
    located = np.concatenate([part.located for part in parts])
    return Controllability(
        protocol=_describe(dataset, sum(len(part.psnr[OWN]) for part in parts)),
        n_past=dataset.n_past,
        psnr={
            name: torch.cat([part.psnr[name] for part in parts]).cpu().numpy()
            for name in first.psnr
        },
        effector_error={
            name: np.concatenate([part.effector_error[name] for part in parts])
            for name in first.effector_error
        },
        locator_error=float(_finite(located).mean()) if _finite(located).size else None,
        regions={
            name: joined_errors([part.regions[name] for part in parts]).psnr()
            for name in first.regions
        },
        examples={
            name: to_uint8(frames[:keep], clip=True) for name, frames in first.examples.items()
        },
    )


def _finite(errors: Float[np.ndarray, "*any"]) -> Float[np.ndarray, " visible"]:
    """The errors of the frames in which the gripper is visible; NaN marks the others."""
    return errors[np.isfinite(errors)]


def _over_finite(
    average: Callable[[np.ndarray], Any], errors: Float[np.ndarray, "*any"]
) -> float | None:
    visible = _finite(errors)
    return _rounded(float(average(visible))) if visible.size else None


def _rounded(value: Any) -> float | None:
    """Rounded to three digits; None for NaN, which JSON cannot hold."""
    return round(float(value), 3) if value is not None and np.isfinite(value) else None


def _describe(dataset: ClipDataset, count: int) -> str:
    return (
        f"{dataset.n_past} -> {dataset.n_future} frames, free-running, one sample from the prior, "
        f"condition {dataset.condition}; first windows of {count} clips of the {dataset.split} "
        f"split of {Path(dataset.root).name}; "
        "PSNR per frame over all pixels and channels, then averaged"
    )
