"""Figures by region: arm, moved objects, rest. A whole frame's PSNR is mostly arm and background,
and hardly notices whether a pushed object moves, fades or stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from labkit.evaluation.metrics import PSNR_CAP

REGIONS = {"rest": 0, "arm": 1, "moved": 2}
"""Region names and the label of each in `Batch.labels` (`labkit.data.clip`)."""


@dataclass(frozen=True)
class RegionErrors:
    """Squared errors summed over the pixels of one region, and how many values they are."""

    squared: Float[Tensor, "*batch"]
    """sum of squared errors over the region's pixels and channels of a frame"""
    count: Float[Tensor, "*batch"]
    """3 x the region's pixels in that frame; 0 where it has none"""

    def psnr(self) -> float:
        """PSNR in dB of the mean squared error over all the region's pixels, in all frames and
        clips together: a frame may have few of them, or none."""
        return psnr_of_mse(self.squared.sum().item() / max(self.count.sum().item(), 1.0))

    def per_step(self) -> Float[np.ndarray, " steps"]:
        """The same for each time step, (clips, steps) errors given."""
        mse = self.squared.sum(0) / self.count.sum(0).clamp_min(1)
        return np.array([psnr_of_mse(value) for value in mse.tolist()])


def psnr_of_mse(mse: float) -> float:
    """PSNR in dB for values in [0, 1], at most PSNR_CAP."""
    return min(PSNR_CAP, -10 * float(np.log10(max(mse, 1e-12))))


def region_errors(
    prediction: Float[Tensor, "*batch 3 H W"],
    truth: Float[Tensor, "*batch 3 H W"],
    labels: UInt8[Tensor, "*batch H W"],
) -> dict[str, RegionErrors]:
    """Errors of each region of `REGIONS`, told apart by the labels of the true frames."""
    squared = (prediction - truth).square().sum(dim=-3)
    return {
        name: RegionErrors(
            (squared * (labels == label)).sum(dim=(-2, -1)),
            3.0 * (labels == label).sum(dim=(-2, -1)),
        )
        for name, label in REGIONS.items()
    }


def joined_errors(parts: list[RegionErrors]) -> RegionErrors:
    """Errors of several batches, clip after clip."""
    return RegionErrors(
        torch.cat([part.squared for part in parts]), torch.cat([part.count for part in parts])
    )
