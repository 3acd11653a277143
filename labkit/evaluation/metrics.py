"""Image metrics, one number a frame, by torchmetrics."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

PSNR_CAP = 100.0
"""dB given to equal frames, whose PSNR is infinite: one such frame must not make a mean so."""


def psnr(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio of each frame in dB, over all pixels and channels, for values
    in [0, 1]; at most PSNR_CAP.

    The mean of these over frames reads higher than one PSNR of the mean squared error over the
    set (Jensen), and the course averages per channel first: name the protocol beside a figure.
    """
    batch = prediction.shape[:-3]
    values = peak_signal_noise_ratio(
        prediction.flatten(0, -4),
        truth.flatten(0, -4),
        data_range=1.0,
        dim=(1, 2, 3),
        reduction="none",
    )
    return values.clamp(max=PSNR_CAP).view(batch)


def ssim(
    prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity of each frame (Wang et al. 2004): 11-tap Gaussian, sigma 1.5,
    K 0.01 and 0.03, values in [0, 1]. Averaged over the whole frame, mirrored at its border;
    scikit-image leaves a border of 5 pixels out, and reads some thousandths differently."""
    batch = prediction.shape[:-3]
    values = structural_similarity_index_measure(
        prediction.flatten(0, -4),
        truth.flatten(0, -4),
        gaussian_kernel=True,
        sigma=1.5,
        kernel_size=11,
        data_range=1.0,
        reduction="none",
    )
    assert isinstance(values, torch.Tensor)
    return values.view(batch)
