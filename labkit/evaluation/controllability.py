"""Same past, other actions: does the arm go where it is told, and what does the condition bring?

On simulated clips the truth of other actions is known: each clip's scene is simulated again, from
step n_past - 1 on with the actions of that other clip whose arm is nearest then, so that they ask
for places within reach. There the model is judged on what would have happened. On any data the
conditions can be shuffled among clips: the PSNR that this costs is what the condition brings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from labkit.data.clip import ACTION_COLUMNS
from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError
from labkit.evaluation.counterfactual import Facts, World, nearest
from labkit.evaluation.metrics import psnr
from labkit.evaluation.regions import RegionErrors, joined_errors, region_errors
from labkit.model import VideoCVAE

OWN, OTHER, IGNORED, REPEATED, SHUFFLED = (
    "own actions",
    "other actions",
    "other actions, ignored",
    "other actions, last frame repeated",
    "shuffled conditions",
)
"""What is scored. IGNORED is the prediction of the clip's own actions held against what the other
ones bring about: a model that does not listen gets as much."""


@dataclass(frozen=True)
class Controllability:
    """Figures of every clip and time step."""

    protocol: str
    """one sentence: data, context, horizon, samples, how PSNR is averaged"""
    n_past: int
    psnr: dict[str, Float[np.ndarray, "N horizon"]]
    """dB: OWN and SHUFFLED against what happened; OTHER, IGNORED and REPEATED against what the
    other actions bring about (simulated clips only)"""
    effector_error: dict[str, Float[np.ndarray, "N horizon"]] = field(default_factory=dict)
    """pixels between the predicted gripper and the true one (`gripper_offset`); NaN where the
    true one is out of the picture. Simulated clips only"""
    locator_error: float | None = None
    """mean error in pixels of that way of measuring, on true frames whose gripper is known"""
    regions: dict[str, float] = field(default_factory=dict)
    """PSNR in dB under other actions over the arm's, moved objects' and remaining pixels"""
    examples: dict[str, UInt8[np.ndarray, "K T 3 H W"]] = field(default_factory=dict)
    """the first clips: what happened and its prediction, what other actions bring about and its
    prediction; the context in front"""

    @property
    def simulated(self) -> bool:
        """Whether the truth of other actions was known."""
        return OTHER in self.psnr

    @property
    def condition_gain(self) -> tuple[float, float]:
        """PSNR that shuffling the conditions costs, in dB, and half its 95 % interval over clips:
        what the condition brings."""
        drop = (self.psnr[OWN] - self.psnr[SHUFFLED]).mean(axis=1)
        return float(drop.mean()), float(1.96 * drop.std(ddof=1) / np.sqrt(len(drop)))

    def summary(self) -> dict[str, Any]:
        """The figures averaged over clips and steps, as JSON's own types."""
        gain, half = self.condition_gain
        return {
            "protocol": self.protocol,
            "clips": len(self.psnr[OWN]),
            "psnr": {name: _rounded(float(v.mean())) for name, v in self.psnr.items()},
            "condition_gain": {"mean": _rounded(gain), "half_interval": _rounded(half)},
            "effector_error": {
                name: {
                    "mean": _told(np.mean, v),
                    "median": _told(np.median, v),
                    "per_step": [_told(np.mean, step) for step in v.T],
                    "frames": int(np.isfinite(v).sum()),
                }
                for name, v in self.effector_error.items()
            },
            "locator_error": _rounded(self.locator_error),
            "regions": {name: _rounded(v) for name, v in self.regions.items()},
        }

    def text(self) -> str:
        """The figures in lines, for a terminal."""
        gain, half = self.condition_gain
        lines = [self.protocol]
        for name, values in self.psnr.items():
            far = self.effector_error.get(name)
            more = ""
            if far is not None:
                there = _seen(far)
                more = "   gripper never in sight"
                if there.size:
                    mean, median = there.mean(), np.median(there)
                    more = f"   gripper off by {mean:.2f} pixels (median {median:.2f})"
            lines.append(f"  {name:<34}  PSNR {values.mean():.2f} dB{more}")
        lines.append(f"what the condition brings: {gain:.2f} dB (95 % interval +-{half:.2f})")
        if self.simulated:
            places = ", ".join(f"{name} {v:.2f} dB" for name, v in self.regions.items())
            lines.append(f"other actions, by region: {places}")
            if self.locator_error is not None:
                lines.append(
                    "in true frames the gripper is found within "
                    f"{self.locator_error:.2f} pixels on average"
                )
        else:
            lines.append("not a pack of simulated clips: what other actions do is not known")
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
    """Measures how well a model's predictions follow the actions.

    Args:
        model: in evaluation mode.
        dataset: each clip's first window is taken.
        clips: how many clips; None is all.
        seed: of the samples (the same for each kind of condition) and of the shuffling.
        batch_size: clips predicted together.
        keep: how many clips to keep as examples.
        progress: show a bar.
        device: where to compute.
    Raises:
        LabkitError: the model is told no condition, or there are fewer than two clips.
    """
    if not dataset.condition_size:
        raise LabkitError("the model is told no condition: there is nothing to control it by")
    count = dataset.n_clips if clips is None else min(clips, dataset.n_clips)
    if count < 2:
        raise LabkitError(
            f"{count} clips, whose actions cannot be exchanged", hint="give 2 or more"
        )
    world = World.of(dataset)
    strangers = _shuffled(count, seed)
    donors = strangers if world is None else nearest(dataset, count)
    parts = []
    starts = range(0, count, batch_size)
    for first in tqdm(starts, disable=not progress, unit="batch", desc="other actions"):
        numbers = np.arange(first, min(first + batch_size, count))
        generator = torch.Generator(device).manual_seed(seed + first)
        parts.append(
            _judge(model, dataset, world, numbers, strangers[numbers], donors[numbers], generator)
        )
    return _joined(parts, dataset, keep)


@dataclass(frozen=True)
class _Part:
    """What one batch gives."""

    psnr: dict[str, Tensor]
    effector_error: dict[str, np.ndarray] = field(default_factory=dict)
    located: np.ndarray = field(default_factory=lambda: np.empty(0))
    """errors of the locator on true frames, pixels"""
    regions: dict[str, RegionErrors] = field(default_factory=dict)
    examples: dict[str, Tensor] = field(default_factory=dict)


def _judge(
    model: VideoCVAE,
    dataset: ClipDataset,
    world: World | None,
    numbers: np.ndarray,
    strangers: np.ndarray,
    donors: np.ndarray,
    generator: torch.Generator,
) -> _Part:
    device, n_past = generator.device, dataset.n_past
    batch, shuffled, donated = (
        dataset.batch((which * dataset.windows_a_clip).tolist()).to(device)
        for which in (numbers, strangers, donors)
    )
    context, truth = batch.frames[:, :n_past], batch.frames[:, n_past:]
    draws = generator.get_state()

    def predict(condition: Tensor) -> Tensor:
        generator.set_state(draws)  # the same z: what differs comes from the condition
        with torch.inference_mode():
            return model.predict(context, condition, truth.shape[1], generator=generator)

    own = predict(batch.condition)
    scores = {OWN: psnr(own, truth), SHUFFLED: psnr(predict(shuffled.condition), truth)}
    if world is None:
        return _Part(scores)
    actions = donated.condition[..., : len(ACTION_COLUMNS)].cpu().numpy()
    shape = dataset.n_frames, dataset.frame_size[0]
    facts = Facts.of([dataset.clip(int(n)) for n in numbers], dataset, device)
    others = Facts.of(
        [
            world.clip(int(n), told, n_past - 1, *shape)
            for n, told in zip(numbers, actions, strict=True)
        ],
        dataset,
        device,
    )
    other = predict(others.condition)
    after = others.frames[:, n_past:]
    repeated = context[:, -1:].expand_as(after)
    scores |= {
        OTHER: psnr(other, after),
        IGNORED: psnr(own, after),
        REPEATED: psnr(repeated, after),
    }
    return _Part(
        scores,
        {
            OWN: facts.distance(own, n_past),
            OTHER: others.distance(other, n_past),
            IGNORED: others.distance(own, n_past),
        },
        others.locator_errors(n_past),
        region_errors(other, after, others.labels[:, n_past:]),
        {
            "what happened": batch.frames,
            "predicted": torch.cat([context, own], 1),
            "other actions, simulated": others.frames,
            "other actions, predicted": torch.cat([context, other], 1),
        },
    )


def _shuffled(count: int, seed: int) -> np.ndarray:
    """Whose conditions each clip gets: another's, and each is given once."""
    order = np.random.default_rng(seed).permutation(count)
    donors = np.empty(count, np.int64)
    donors[order] = np.roll(order, 1)
    return donors


def _joined(parts: list[_Part], dataset: ClipDataset, keep: int) -> Controllability:
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
        locator_error=float(_seen(located).mean()) if _seen(located).size else None,
        regions={
            name: joined_errors([part.regions[name] for part in parts]).psnr()
            for name in first.regions
        },
        examples={
            name: (frames[:keep].clamp(0, 1) * 255).round().byte().cpu().numpy()
            for name, frames in first.examples.items()
        },
    )


def _seen(errors: Float[np.ndarray, "*any"]) -> Float[np.ndarray, " seen"]:
    """Those of the frames in which the gripper is in sight; NaN marks the others."""
    return errors[np.isfinite(errors)]


def _told(measure: Callable[[np.ndarray], Any], errors: Float[np.ndarray, "*any"]) -> float | None:
    there = _seen(errors)
    return _rounded(float(measure(there))) if there.size else None


def _rounded(value: float | None) -> float | None:
    """Three digits; None, which JSON knows, for NaN, which it does not."""
    return round(float(value), 3) if value is not None and np.isfinite(value) else None


def _describe(dataset: ClipDataset, count: int) -> str:
    return (
        f"{dataset.n_past} -> {dataset.n_future} frames, free-running, one sample from the prior, "
        f"condition {dataset.condition}; first windows of {count} clips of the {dataset.split} "
        f"split of {Path(dataset.root).name}; "
        "PSNR per frame over all pixels and channels, then averaged"
    )
