"""PSNR and SSIM against their definitions, and against scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from labkit.evaluation.metrics import PSNR_CAP, channel_psnr, psnr, ssim, ssim_map


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 3, 32, 32, generator=generator)
    noise = torch.randn(truth.shape, generator=generator)
    # Each channel has an error of its own: averaged over channels or not, PSNR differs.
    scale = torch.tensor([0.02, 0.1, 0.3])[:, None, None]
    return (truth + scale * noise).clamp(0, 1), truth


def test_psnr_is_ten_times_the_logarithm_of_the_inverse_error(pair) -> None:
    prediction, truth = pair
    expected = -10 * torch.log10((prediction - truth).square().mean(dim=(-3, -2, -1)))
    torch.testing.assert_close(psnr(prediction, truth), expected)
    off = torch.full((1, 3, 8, 8), 0.1)
    torch.testing.assert_close(psnr(off, torch.zeros_like(off)), torch.tensor([20.0]))


def test_psnr_agrees_with_scikit_image(pair) -> None:
    whole, channels = psnr(*pair), channel_psnr(*pair)
    for clip in range(2):
        for step in range(3):
            made, true = (each[clip, step].double().numpy() for each in pair)
            expected = peak_signal_noise_ratio(true, made, data_range=1.0)
            assert whole[clip, step].item() == pytest.approx(expected, abs=1e-4)
            each = [peak_signal_noise_ratio(true[c], made[c], data_range=1.0) for c in range(3)]
            assert channels[clip, step].item() == pytest.approx(np.mean(each), abs=1e-4)
    assert (channels > whole + 1).all()


def test_equal_frames_are_capped_and_do_not_spoil_a_mean(pair) -> None:
    prediction, truth = pair
    prediction[0, 0] = truth[0, 0]
    prediction[0, 1, 0] = truth[0, 1, 0]
    for measure in (psnr, channel_psnr):
        values = measure(prediction, truth)
        assert values[0, 0] == PSNR_CAP
        assert torch.isfinite(values).all()
    rest = [channel_psnr(prediction[0, 1, c].expand(3, -1, -1), truth[0, 1, c].expand(3, -1, -1))
            for c in (1, 2)]  # fmt: skip
    expected = (PSNR_CAP + sum(rest).item()) / 3
    assert channel_psnr(prediction, truth)[0, 1].item() == pytest.approx(expected, rel=1e-5)


def test_ssim_agrees_with_scikit_image(pair) -> None:
    """Over the whole frame: scikit-image's own mean leaves out a border of 5 pixels. At the
    border the two mirror the frame differently, hence the tolerance."""
    for clip in range(2):
        for step in range(3):
            prediction, truth = (t[clip, step].double().numpy() for t in pair)
            inner, expected = structural_similarity(
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
            ours = ssim_map(*pair)[clip, step, 5:-5, 5:-5]
            assert ours.mean().item() == pytest.approx(inner, abs=1e-5)
            np.testing.assert_allclose(ours, expected.mean(axis=0)[5:-5, 5:-5], atol=1e-4)
    assert ssim(pair[1], pair[1]).min().item() == pytest.approx(1.0, abs=1e-6)


def test_ssim_does_not_depend_on_how_many_frames_are_compared() -> None:
    generator = torch.Generator().manual_seed(1)
    made, truth = torch.rand(2, 70, 3, 16, 16, generator=generator)
    torch.testing.assert_close(ssim(made, truth)[66:], ssim(made[66:], truth[66:]))
