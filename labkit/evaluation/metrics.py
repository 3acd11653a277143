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

from labkit.errors import ShapeError

PSNR_CAP = 100.0
"""dB of two equal frames, whose PSNR is infinite: one such frame would make every mean infinite."""

Metric = Callable[[Tensor, Tensor], Tensor]
"""(prediction, truth), each (*batch, 3, H, W) -> (*batch)"""

_FRAMES_AT_ONCE = 64

LOWER_IS_BETTER = ("lpips_alex", "lpips_vgg")
"""The metrics that are distances; for all others higher is better."""


def psnr(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio of each frame in dB, over all pixels and channels, for values
    in [0, 1]; at most PSNR_CAP.

    The mean of these over frames is higher than the PSNR of the mean squared error over all frames
    (Jensen), and the course averages over channels first: state the protocol with every figure.
    """
    return _psnr(prediction, truth, axes=3)


def channel_psnr(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """PSNR of each channel of each frame in dB, averaged over the three: what the course, SVG
    (Denton & Fergus 2018) and SRVP (Franceschi et al. 2020) compute. It is never lower than `psnr`
    (Jensen). Each channel counts at most PSNR_CAP."""
    return _psnr(prediction, truth, axes=2).mean(dim=-1)


def _psnr(prediction: Tensor, truth: Tensor, axes: int) -> Tensor:
    """PSNR over the last `axes` axes; the others stay."""
    values = peak_signal_noise_ratio(
        prediction.flatten(0, -1 - axes),
        truth.flatten(0, -1 - axes),
        data_range=1.0,
        dim=tuple(range(1, 1 + axes)),
        reduction="none",
    )
    return values.clamp(max=PSNR_CAP).view(prediction.shape[:-axes])


def ssim(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity of each frame (Wang et al. 2004): 11-tap Gaussian, sigma 1.5,
    K 0.01 and 0.03, values in [0, 1]; the mean over the whole frame, which is mirrored at its
    border. Protocol `frame` uses this one.

    `interior_ssim` leaves the border out. On real frames of 64 x 64 the two differ by up to 0.06,
    and the difference can have either sign: compare figures of one kind only."""
    return ssim_map(prediction, truth).mean(dim=(-2, -1))


SSIM_BORDER = 5
"""pixels at each side where the 11-tap window reaches over the border"""


def interior_ssim(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """The same mean without the SSIM_BORDER pixels at each side, as the course's sample code, SVG
    (Denton & Fergus 2018) and scikit-image (gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1) compute it. Protocols `course` and `svg` use it."""
    return interior_mean(ssim_map(prediction, truth))


def interior_mean(maps: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch"]:
    """The mean of a map without the SSIM_BORDER pixels at each side.

    Raises:
        ShapeError: the map has no other pixels.
    """
    inside = slice(SSIM_BORDER, -SSIM_BORDER)
    inner = maps[..., inside, inside]
    if not inner.shape[-1] or not inner.shape[-2]:
        raise ShapeError(
            f"frames of {maps.shape[-2]} x {maps.shape[-1]} pixels are too small for SSIM without "
            f"its border; it needs {2 * SSIM_BORDER + 1} or more on each side"
        )
    return inner.mean(dim=(-2, -1))


def ssim_map(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch H W"]:
    """The structural similarity around each pixel, averaged over the channels."""
    # A few frames at a time fit into the cache, which halves the time.
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
