"""PSNR and SSIM against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.evaluation.metrics import PSNR_CAP, psnr, ssim


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 3, 32, 32, generator=generator)
    noise = torch.randn(truth.shape, generator=generator)
    return (truth + 0.1 * noise).clamp(0, 1), truth


def test_psnr_is_ten_times_the_logarithm_of_the_inverse_error(pair) -> None:
    prediction, truth = pair
    expected = -10 * torch.log10((prediction - truth).square().mean(dim=(-3, -2, -1)))
    torch.testing.assert_close(psnr(prediction, truth), expected)
    off = torch.full((1, 3, 8, 8), 0.1)
    torch.testing.assert_close(psnr(off, torch.zeros_like(off)), torch.tensor([20.0]))


def test_equal_frames_are_capped_and_do_not_spoil_a_mean(pair) -> None:
    prediction, truth = pair
    prediction[0, 0] = truth[0, 0]
    values = psnr(prediction, truth)
    assert values[0, 0] == PSNR_CAP
    assert torch.isfinite(values).all()


def test_ssim_agrees_with_a_direct_computation(pair) -> None:
    """Gaussian windows of sigma 1.5, by scipy, away from the border where conventions differ."""
    from scipy.ndimage import gaussian_filter

    prediction, truth = (t[0, 0].double().numpy() for t in pair)

    def blur(image: np.ndarray) -> np.ndarray:
        return np.stack([gaussian_filter(c, 1.5, truncate=3.5) for c in image])

    c1, c2 = 0.01**2, 0.03**2
    mx, my = blur(prediction), blur(truth)
    vx, vy = blur(prediction**2) - mx**2, blur(truth**2) - my**2
    cov = blur(prediction * truth) - mx * my
    maps = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    expected = maps[:, 5:-5, 5:-5].mean()
    assert ssim(*pair)[0, 0].item() == pytest.approx(expected, abs=2e-3)
    assert ssim(pair[1], pair[1]).min().item() == pytest.approx(1.0, abs=1e-6)
