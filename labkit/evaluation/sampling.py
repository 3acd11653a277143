"""Many samples of the same clip, predicted and scored a few at a time to bound the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from labkit.data.dataset import Batch
from labkit.evaluation.scoring import Scored, Scorer, concatenated
from labkit.model import VideoCVAE


@dataclass(frozen=True)
class Samples:
    """N samples of each of B clips: their figures, and the frames of two of them."""

    psnr: Float[Tensor, "B N horizon"]
    """of each sample, on the CPU"""
    scored: Scored | None
    """every figure of each sample in a best-of-N; None otherwise"""
    first: Float[Tensor, "B horizon 3 H W"]
    """the first sample"""
    best: Float[Tensor, "B horizon 3 H W"]
    """the sample with the highest PSNR in the mean over time"""
    deviation: Float[Tensor, "B horizon H W"] | None
    """standard deviation of each pixel over the samples, mean of its channels, in grey levels of
    255; None for one sample"""


def predicted(
    model: VideoCVAE,
    frames: Float[Tensor, "B T 3 H W"],
    condition: Float[Tensor, "B T C"],
    n_past: int,
    **drawn: Any,
) -> Float[Tensor, "B *samples_and_horizon 3 H W"]:
    """The free-running predictions of the frames after the context, on which every figure is based.

    Whole clips may be given: this function passes on only the context frames to the model. It is
    the function that `labkit prove` examines.

    Args:
        frames: of whole clips.
        condition: of each frame.
        n_past: number of context frames.
        drawn: how z is drawn, as in `VideoCVAE.predict`.
    """
    return model.predict(frames[:, :n_past], condition, frames.shape[1] - n_past, **drawn)


@dataclass(frozen=True)
class Sampler:
    """Draws samples of clips. The noise of a sample depends only on the seed, the clip and the
    sample's number: not on the batch, the number of samples, the horizon or the device."""

    model: VideoCVAE
    seed: int
    at_once: int
    """sequences predicted in one call; it bounds the memory"""

    def noise(
        self, windows: Sequence[tuple[int, int]], samples: range, steps: int
    ) -> Float[Tensor, "_ {steps} z"]:
        """epsilon of these samples of each window (clip number, start): all samples of the first
        window, then of the next."""
        size = sum(self.model.latent_sizes)
        drawn = [
            np.random.default_rng([self.seed, *window, number]).standard_normal(
                (steps, size), np.float32
            )
            for window in windows
            for number in samples
        ]
        return torch.from_numpy(np.stack(drawn)).to(self.model.condition_mean.device)

    def draw(
        self,
        batch: Batch,
        n_past: int,
        windows: Sequence[tuple[int, int]],
        count: int,
        scorer: Scorer,
    ) -> Samples:
        """Predicts `count` samples of each window, in parts that fit `at_once`.

        Args:
            batch: the windows' frames in [0, 1] and conditions, on the model's device.
            n_past: number of context frames, which are given to the model.
            windows: clip number and start of each.
            count: N.
            scorer: what is measured.
        """
        truth = batch.frames[:, n_past:]
        clips, horizon = truth.shape[:2]
        step = max(1, self.at_once // clips)
        psnr, scored = [], []
        reached = torch.full((clips,), -torch.inf)
        first = best = offset = squared = torch.empty(0)
        for start in range(0, count, step):
            numbers = range(start, min(start + step, count))
            frames = predicted(
                self.model,
                batch.frames,
                batch.condition,
                n_past,
                samples=len(numbers),
                noise=self.noise(windows, numbers, n_past + horizon - 1),
            )
            target = truth[:, None].expand_as(frames)
            if scorer.protocol.best_of > 1:
                labels = batch.labels
                if labels is not None:
                    labels = labels[:, None, n_past:].expand(-1, len(numbers), -1, -1, -1)
                scored.append(scorer(frames, target, labels))
                values = scored[-1].values["psnr"]
            else:
                values = scorer.psnr(frames, target).cpu()
            psnr.append(values)
            if start == 0:
                first, best = frames[:, 0].clone(), frames[:, 0].clone()
                offset, squared = torch.zeros_like(first), torch.zeros_like(first)
            highest, which = values.mean(dim=-1).max(dim=1)
            better = torch.nonzero(highest > reached).flatten()
            best[better.to(best.device)] = frames[better, which[better]]
            reached[better] = highest[better]
            # Differences from the first sample, not from 0: equal samples give exactly 0.
            difference = frames - first[:, None]
            offset += difference.sum(dim=1)
            squared += difference.square().sum(dim=1)
        return Samples(
            torch.cat(psnr, dim=1),
            concatenated(scored) if scored else None,
            first,
            best,
            _deviation(offset, squared, count),
        )


def _deviation(
    offset: Float[Tensor, "B horizon 3 H W"], squared: Float[Tensor, "B horizon 3 H W"], count: int
) -> Float[Tensor, "B horizon H W"] | None:
    if count == 1:
        return None
    # s^2 = (sum d^2 - (sum d)^2 / N) / (N - 1)
    variance = (squared - offset.square() / count) / (count - 1)
    return 255 * variance.clamp_min(0).sqrt().mean(dim=-3)
