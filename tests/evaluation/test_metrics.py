"""PSNR and SSIM against their definitions."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

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


def test_ssim_agrees_with_scikit_image(pair) -> None:
    """Over the whole frame: scikit-image's own mean leaves out a border of 5 pixels. At the
    border the two mirror the frame differently, hence the tolerance."""
    for clip in range(2):
        for step in range(3):
            prediction, truth = (t[clip, step].double().numpy() for t in pair)
            _, expected = structural_similarity(
                prediction,
                truth,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
                channel_axis=0,
                full=True,
            )
            assert ssim(*pair)[clip, step].item() == pytest.approx(expected.mean(), abs=2e-3)
    assert ssim(pair[1], pair[1]).min().item() == pytest.approx(1.0, abs=1e-6)
