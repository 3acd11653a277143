"""Scores predicted frames against true ones: every metric, over the whole frame and by region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from labkit.evaluation.metrics import (
    LOWER_IS_BETTER,
    Metric,
    channel_psnr,
    interior_mean,
    psnr,
    ssim_map,
)
from labkit.evaluation.protocol import Protocol
from labkit.evaluation.regions import region_sums


@dataclass(frozen=True)
class Scored:
    """Figures of frames, on the CPU. The leading axes are clips, or clips and samples."""

    values: dict[str, Float[Tensor, "*batch horizon"]]
    """by metric"""
    regions: dict[str, Float[Tensor, "*batch horizon R"]] = field(default_factory=dict)
    """sums over each region's pixels: "squared" (squared errors of all channels) and "ssim"; empty
    without labels"""

    def best(self) -> Scored:
        """The best of each clip's samples by the mean over time, for each metric separately. The
        errors of regions are of the sample chosen by PSNR, their SSIM of that chosen by SSIM."""
        chosen = {name: _best(name, values) for name, values in self.values.items()}
        return Scored(
            {name: _taken(values, chosen[name]) for name, values in self.values.items()},
            {
                name: _taken(sums, chosen["psnr" if name == "squared" else name])
                for name, sums in self.regions.items()
            },
        )


@dataclass(frozen=True)
class Scorer:
    """The metrics of a protocol."""

    protocol: Protocol
    perceptual: Mapping[str, Metric] = field(default_factory=dict)
    """further metrics by name"""

    @property
    def psnr(self) -> Metric:
        """PSNR as the protocol averages it."""
        return psnr if self.protocol.averaging == "frame" else channel_psnr

    def _ssim(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(-2, -1)) if self.protocol.ssim == "frame" else interior_mean(maps)

    def __call__(
        self,
        predicted: Float[Tensor, "*batch horizon 3 H W"],
        truth: Float[Tensor, "*batch horizon 3 H W"],
        labels: UInt8[Tensor, "*batch horizon H W"] | None,
    ) -> Scored:
        """Every figure of predicted frames; regions follow the labels of the true frames."""
        similarity = ssim_map(predicted, truth)
        values = {
            "psnr": self.psnr(predicted, truth),
            "channel_psnr": channel_psnr(predicted, truth),
            "ssim": self._ssim(similarity),
            **{name: metric(predicted, truth) for name, metric in self.perceptual.items()},
        }
        regions = {}
        if labels is not None:
            squared = (predicted - truth).square().sum(dim=-3)
            regions = {
                "squared": region_sums(squared, labels).cpu(),
                "ssim": region_sums(similarity, labels).cpu(),
            }
        return Scored({name: each.cpu() for name, each in values.items()}, regions)


def concatenated(parts: list[Scored]) -> Scored:
    """Samples of the same clips, concatenated along axis 1."""
    return Scored(
        {name: torch.cat([part.values[name] for part in parts], dim=1) for name in parts[0].values},
        {
            name: torch.cat([part.regions[name] for part in parts], dim=1)
            for name in parts[0].regions
        },
    )


def _best(metric: str, values: Float[Tensor, "B N horizon"]) -> Tensor:
    """The number of each clip's best sample."""
    over_time = values.mean(dim=-1)
    return (-over_time if metric in LOWER_IS_BETTER else over_time).argmax(dim=1)


def _taken(values: Float[Tensor, "B N *rest"], chosen: Tensor) -> Tensor:
    return values[torch.arange(len(values)), chosen]
