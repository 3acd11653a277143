"""The page of the model computes what the engine computes, in every rollout."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from labkit.config import ModelConfig
from labkit.errors import ConfigError
from labkit.model import VideoCVAE
from labkit.presets import PRESETS
from labkit.reference.model import unroll

N_PAST, HORIZON = 2, 5
SHOWN = ("course", "spec", "report", "svg")


def after_some_training(config: ModelConfig, condition_size: int) -> VideoCVAE:
    """A narrow model whose weights and batch statistics are not those it began with."""
    torch.manual_seed(0)
    model = VideoCVAE(dataclasses.replace(config, width=4), condition_size).eval()
    with torch.no_grad():
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                if name.startswith("bias"):
                    value.normal_(0, 0.1)
                elif value.ndim == 1:
                    value.uniform_(0.5, 1.5)
                else:  # large enough that frames, states and z show in the pixels
                    transposed = isinstance(module, nn.ConvTranspose2d)
                    fan_in = 4 * len(value) if transposed else value[0].numel()
                    value.normal_(0, (1.5 if value.ndim == 2 else 1.2) * fan_in**-0.5)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model


@pytest.fixture(params=SHOWN)
def shown(request) -> tuple[VideoCVAE, Tensor, Tensor, Tensor]:
    """A model, and frames, conditions and noise for it."""
    preset = PRESETS[request.param]
    model = after_some_training(preset.model, preset.data.condition_size)
    generator, steps = torch.Generator().manual_seed(1), N_PAST + HORIZON - 1
    frames = torch.rand(2, steps + 1, 3, 64, 64, generator=generator)
    condition = torch.randn(2, steps + 1, model.condition_size, generator=generator)
    return model, frames, condition, torch.randn(2, steps, *model.latent_sizes, generator=generator)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def close(made: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("forced", [True, False])
def test_the_training_rollout(shown, forced) -> None:
    model, frames, condition, noise = shown
    page = unroll(model, frames, condition, N_PAST, noise, teacher_forced=forced)
    engine = model.rollout(frames, condition, N_PAST, teacher_forced=forced, noise=noise)
    close(page.frames, engine.frames)
    for t, q in enumerate(page.posteriors):
        close(q.mean, engine.posterior.mean[:, t])
        close(q.log_variance, engine.posterior.log_variance[:, t])
    assert len(page.posteriors) == noise.shape[1]
    assert len(page.priors) == (noise.shape[1] if model.prior is not None else 0)
    for t, p in enumerate(page.priors):
        close(p.mean, engine.prior.mean[:, t])
        close(p.log_variance, engine.prior.log_variance[:, t])


def test_pred_rec(shown) -> None:
    model, frames, condition, noise = shown
    page = unroll(model, frames, condition, N_PAST, noise).frames[:, N_PAST - 1 :]
    close(page, model.reconstruct(frames, condition, N_PAST, noise=noise))


def test_pred_norm_bit_for_bit(shown) -> None:
    model, frames, condition, noise = shown
    context = frames[:, :N_PAST]
    page = unroll(model, context, condition, N_PAST, noise, z_from="prior")
    predicted = page.frames[:, N_PAST - 1 :]
    engine = model.predict(context, condition, HORIZON, noise=noise)
    close(predicted, engine)
    if model.prior is None:  # a learned prior's LSTM is given two steps at once by the engine
        assert torch.equal(predicted, engine)
    assert len(page.posteriors) == N_PAST - 1


@pytest.mark.parametrize("skip", ["previous", "first", "svg", "last_context"])
@pytest.mark.parametrize("n_past", [1, 3])
def test_other_skips_and_context_lengths(skip, n_past) -> None:
    config = dataclasses.replace(PRESETS["course"].model, skip=skip, condition_at="target")
    model = after_some_training(config, 4)
    frames, condition = torch.rand(1, 6, 3, 64, 64), torch.randn(1, 6, 4)
    noise = torch.randn(1, 5, config.latent_size)
    page = unroll(model, frames[:, :n_past], condition, n_past, noise, z_from="prior")
    close(
        page.frames[:, n_past - 1 :],
        model.predict(frames[:, :n_past], condition, 6 - n_past, noise=noise),
    )


def test_the_rollouts_differ(shown) -> None:
    """Or the tests above could pass on one rollout for all."""
    model, frames, condition, noise = shown
    forced, rec, norm = (
        unroll(model, frames, condition, N_PAST, noise, **how).frames[:, N_PAST:]
        for how in ({"teacher_forced": True}, {}, {"z_from": "prior"})
    )
    assert (forced - rec).abs().amax() > 1e-4
    assert (rec - norm).abs().amax() > 1e-4


def test_a_model_with_other_parts_is_refused() -> None:
    model = VideoCVAE(PRESETS["smoke"].model, 7)
    with pytest.raises(ConfigError, match="does not show"):
        unroll(model, torch.rand(1, 3, 3, 64, 64), torch.zeros(1, 3, 7), 2, torch.zeros(1, 2, 4))
