"""What is measured of the latents, on models whose latents are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labkit.data.dataset import ClipDataset
from labkit.errors import ShapeError
from labkit.evaluation.latents import Latents, Traversal, infer_latents, traverse
from labkit.model import VideoCVAE
from labkit.model.gaussian import kl_divergence
from labkit.presets import SMOKE


@pytest.fixture
def model() -> VideoCVAE:
    torch.manual_seed(0)
    return VideoCVAE(SMOKE.model, condition_size=7).eval()


@pytest.fixture
def dataset(simulated) -> ClipDataset:
    return ClipDataset(simulated, "train", n_past=2, n_future=3)


def test_the_kl_of_each_adds_up_to_that_of_the_elbo(model, dataset) -> None:
    latents = infer_latents(model, dataset, clips=3, batch_size=3, seed=5)
    batch = dataset.batch(dataset.first_windows[:3].tolist()).to("cpu")
    with torch.inference_mode():
        rollout = model.rollout(
            batch.frames,
            batch.condition,
            2,
            teacher_forced=False,
            generator=torch.Generator().manual_seed(5),
        )
    whole = kl_divergence(rollout.posterior, rollout.prior)
    np.testing.assert_allclose(latents.kl.sum(axis=-1), whole, rtol=1e-4)
    np.testing.assert_allclose(latents.q_mean, rollout.posterior.mean, rtol=1e-5)
    assert latents.kl.shape == (3, 4, model.config.latent_size)
    assert latents.by_step().shape == latents.kl.shape[1:]


def test_a_known_posterior_is_measured(model, dataset) -> None:
    size = model.config.latent_size
    with torch.no_grad():
        for head in (model.posterior.mean, model.posterior.log_variance):
            head.weight.zero_()
            head.bias.zero_()
        model.posterior.mean.bias[2] = 1.5
        model.posterior.log_variance.bias[1] = math.log(0.25)
    latents = infer_latents(model, dataset, clips=6, batch_size=4)
    expected = np.zeros(size)
    expected[2] = 1.5**2 / 2  # KL(N(m, 1) || N(0, 1)) = m^2 / 2
    expected[1] = 0.5 * (math.log(4) + 0.25 - 1)  # KL(N(0, s^2) || N(0, 1))
    np.testing.assert_allclose(latents.by_latent(), expected, atol=1e-5)
    assert latents.order()[:2].tolist() == [2, 1]
    assert latents.q_std[0, 0, 1] == pytest.approx(0.5)
    # Nats are paid, but the same for every clip: nothing is told.
    assert latents.active().size == 0


def test_a_latent_is_active_where_its_mean_depends_on_the_clip() -> None:
    shape = (50, 3, 4)
    random = np.random.default_rng(1)
    mean, one = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    mean[..., 1] = random.normal(0, 0.3, shape[:2])
    mean[..., 2] = random.normal(0, 0.02, shape[:2])
    mean[..., 3] = np.float32([0, 2, 4])  # the same for all clips: it is a clock
    latents = Latents(mean, one, np.zeros_like(mean), one, mean**2 / 2)
    assert latents.active().tolist() == [1]
    assert latents.order().tolist() == [3, 1, 2, 0]


def test_only_the_latent_turned_is_turned(model, dataset) -> None:
    batch = dataset.batch([0]).to("cpu")
    frames, condition = batch.frames[0], batch.condition[0]
    made = traverse(model, frames[:2], condition, 3, [0, 3], (-2.0, 0.0, 2.0))
    assert made.frames.shape == (2, 3, 3, 3, 64, 64)
    noise = torch.zeros(1, 4, model.config.latent_size)
    with torch.inference_mode():
        middle = model.predict(frames[None, :2], condition[None], 3, noise=noise)
        noise[:, 1:, 3] = 2.0
        turned = model.predict(frames[None, :2], condition[None], 3, noise=noise)
    for place, wanted in (((0, 1), middle), ((1, 1), middle), ((1, 2), turned)):
        np.testing.assert_allclose(made.frames[place], 255 * wanted[0].numpy(), atol=0.51)
    assert (made.frames[1, 2] != made.frames[1, 1]).any()


def test_the_effect_is_the_mean_change_between_the_ends() -> None:
    frames = np.zeros((2, 3, 1, 3, 4, 4), np.uint8)
    frames[1, 0], frames[1, 2] = 10, 4
    frames[:, 1] = 99
    assert Traversal((5, 6), (-1.0, 0.0, 1.0), frames).effect().tolist() == [0, 6]


@pytest.mark.parametrize(("latents", "values"), [([], (1.0,)), ([0], ()), ([99], (1.0,))])
def test_what_cannot_be_turned_is_named(model, latents, values) -> None:
    with pytest.raises(ShapeError, match=r"choose from 0\.\."):
        traverse(model, torch.zeros(2, 3, 64, 64), torch.zeros(4, 7), 2, latents, values)


def test_no_clips_are_named(model, dataset) -> None:
    with pytest.raises(ShapeError, match="0 clips"):
        infer_latents(model, dataset, clips=0)
