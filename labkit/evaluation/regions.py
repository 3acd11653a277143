"""Figures by region: arm, moved objects, rest. The PSNR of a whole frame is mostly that of arm and
background; it changes little if a pushed object fades or stays where it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from labkit.evaluation.bootstrap import Interval, Resamples
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
        """PSNR in dB of the mean squared error over all of the region's pixels in all frames and
        clips; a single frame may have few or none of them."""
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
    """Errors of each region of `REGIONS`, by the labels of the true frames."""
    squared = (prediction - truth).square().sum(dim=-3)
    return {
        name: RegionErrors(
            (squared * (labels == label)).sum(dim=(-2, -1)),
            3.0 * (labels == label).sum(dim=(-2, -1)),
        )
        for name, label in REGIONS.items()
    }


def region_sums(
    maps: Float[Tensor, "*batch H W"], labels: UInt8[Tensor, "*batch H W"]
) -> Float[Tensor, "*batch R"]:
    """A map summed over the pixels of each region, in the order of `REGIONS`."""
    return torch.stack(
        [(maps * (labels == label)).sum(dim=(-2, -1)) for label in REGIONS.values()], dim=-1
    )


@dataclass(frozen=True)
class RegionScores:
    """Figures by region of every clip and time step, as sums over the region's pixels. Each pixel
    weighs the same, so a clip weighs as many pixels as the region has in it. The last axis is
    `REGIONS`."""

    count: Float[np.ndarray, "N horizon R"]
    """pixels"""
    squared: dict[str, Float[np.ndarray, "N horizon R"]]
    """squared errors over pixels and channels, by predictor"""
    ssim: dict[str, Float[np.ndarray, "N horizon R"]]
    """structural similarity around each pixel, by predictor"""
    deviation: Float[np.ndarray, "N horizon R"] | None = None
    """standard deviation of a pixel over the samples, in grey levels of 255"""

    def psnr(self, predictor: str, resamples: Resamples) -> Interval:
        """PSNR in dB of the mean squared error over all pixels of each region, (R,)."""
        squared, count = (a.sum(axis=1) for a in (self.squared[predictor], self.count))
        return _in_decibels(resamples.ratio(squared, 3 * count))

    def psnr_per_step(self, predictor: str, resamples: Resamples) -> Interval:
        """The same for each time step, (horizon, R)."""
        return _in_decibels(resamples.ratio(self.squared[predictor], 3 * self.count))

    def mean_ssim(self, predictor: str, resamples: Resamples) -> Interval:
        """The mean structural similarity over the pixels of each region, (R,)."""
        return resamples.ratio(self.ssim[predictor].sum(axis=1), self.count.sum(axis=1))

    def mean_deviation(self, resamples: Resamples) -> Interval:
        """The mean deviation between samples over the pixels of each region, (R,)."""
        assert self.deviation is not None
        return resamples.ratio(self.deviation.sum(axis=1), self.count.sum(axis=1))

    def shares(self) -> dict[str, float]:
        """Each region's share of all pixels."""
        total = self.count.sum(axis=(0, 1))
        return dict(zip(REGIONS, (total / total.sum()).tolist(), strict=True))


def _in_decibels(mse: Interval) -> Interval:
    """Mean squared errors as PSNR; the larger error is the lower bound."""
    value, low, high = (
        np.minimum(PSNR_CAP, -10 * np.log10(np.maximum(part, 1e-12)))
        for part in (mse.value, mse.high, mse.low)
    )
    return Interval(value, low, high)


def joined_errors(parts: list[RegionErrors]) -> RegionErrors:
    """Errors of several batches, clip after clip."""
    return RegionErrors(
        torch.cat([part.squared for part in parts]), torch.cat([part.count for part in parts])
    )
