"""Image metrics, one number a frame, by torchmetrics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

PSNR_CAP = 100.0
"""dB given to equal frames, whose PSNR is infinite: one such frame must not make a mean so."""

Metric = Callable[[Tensor, Tensor], Tensor]
"""(prediction, truth), each (*batch, 3, H, W) -> (*batch)"""

_FRAMES_AT_ONCE = 64

LOWER_IS_BETTER = ("lpips_alex", "lpips_vgg")
"""The metrics that measure a distance; of all others more is better."""


def psnr(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio of each frame in dB, over all pixels and channels, for values
    in [0, 1]; at most PSNR_CAP.

    The mean of these over frames reads higher than one PSNR of the mean squared error over the
    set (Jensen), and the course averages per channel first: name the protocol beside a figure.
    """
    return _psnr(prediction, truth, first_kept=3)


def channel_psnr(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """PSNR of each channel of each frame in dB, averaged over the three: what the course, SVG
    (Denton & Fergus 2018) and SRVP (Franceschi et al. 2020) compute. It reads no lower than `psnr`
    (Jensen). A channel counts as PSNR_CAP at most."""
    return _psnr(prediction, truth, first_kept=2).mean(dim=-1)


def _psnr(prediction: Tensor, truth: Tensor, first_kept: int) -> Tensor:
    """PSNR over the last `first_kept` axes, the rest kept."""
    values = peak_signal_noise_ratio(
        prediction.flatten(0, -1 - first_kept),
        truth.flatten(0, -1 - first_kept),
        data_range=1.0,
        dim=tuple(range(1, 1 + first_kept)),
        reduction="none",
    )
    return values.clamp(max=PSNR_CAP).view(prediction.shape[:-first_kept])


def ssim(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity of each frame (Wang et al. 2004): 11-tap Gaussian, sigma 1.5,
    K 0.01 and 0.03, values in [0, 1]. Averaged over the whole frame, mirrored at its border;
    scikit-image leaves a border of 5 pixels out, and reads some thousandths differently."""
    return ssim_map(prediction, truth).mean(dim=(-2, -1))


def ssim_map(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch H W"]:
    """The structural similarity around each pixel, averaged over the channels."""
    # A few frames at a time: what lies in the cache is compared in half the time.
    pairs = zip(
        prediction.flatten(0, -4).split(_FRAMES_AT_ONCE),
        truth.flatten(0, -4).split(_FRAMES_AT_ONCE),
        strict=True,
    )
    maps = torch.cat([_ssim_map(*pair) for pair in pairs])
    return maps.view(*prediction.shape[:-3], *prediction.shape[-2:])


def _ssim_map(prediction: Tensor, truth: Tensor) -> Tensor:
    _, maps = structural_similarity_index_measure(
        prediction,
        truth,
        gaussian_kernel=True,
        sigma=1.5,
        kernel_size=11,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    assert isinstance(maps, torch.Tensor)
    return maps.mean(dim=1)
