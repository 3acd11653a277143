"""The hybrid objective: some clips of a batch learn as they will predict."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from shaken import shaken, two_clips
from torch import Tensor

from labkit.config import Config, KLConfig
from labkit.model import VideoCVAE
from labkit.presets import SMOKE
from labkit.training.loss_step import batch_losses
from labkit.training.schedules import schedule_at
from labkit.training.setup import TrainingSetup

N_PAST, HORIZON = 2, 3
VARIANTS = {
    "fixed prior": {},
    "learned prior": {"prior": "learned"},
    "latent maps": {"latent_levels": 3},
    "vector": {"prior": "learned", "predictor": "lstm", "skip": "last_context"},
}


def make(changes: dict) -> VideoCVAE:
    return shaken(dataclasses.replace(SMOKE.model, **changes))


@pytest.fixture
def clips() -> tuple[Tensor, Tensor]:
    return two_clips(N_PAST + HORIZON, SMOKE.model.frame_size)


def noise_for(model: VideoCVAE) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    size = (2, N_PAST + HORIZON - 1, sum(model.latent_sizes))
    return torch.randn(size, generator=generator)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_free_running_clip_with_z_from_the_prior_is_its_prediction(name, clips) -> None:
    model, (frames, condition) = make(VARIANTS[name]), clips
    noise = noise_for(model)
    with torch.no_grad():
        predicted = model.predict(frames[:, :N_PAST], condition, HORIZON, noise=noise)
        with_posterior, with_prior = (
            model.rollout(
                frames,
                condition,
                N_PAST,
                teacher_forced=False,
                noise=noise,
                z_from_prior=torch.tensor(of),
            ).frames[:, N_PAST - 1 :]
            for of in ([False, False], [True, True])
        )
    torch.testing.assert_close(with_prior, predicted, atol=1e-4, rtol=1e-4)  # sums in another order
    assert (with_posterior - predicted).abs().amax() > 1e-3


@pytest.mark.parametrize("name", VARIANTS)
def test_the_other_clips_are_as_without_it(name, clips) -> None:
    model, (frames, condition) = make(VARIANTS[name]), clips
    given = {"teacher_forced": True, "noise": noise_for(model)}
    with torch.no_grad():
        plain = model.rollout(frames, condition, N_PAST, **given)
        half = model.rollout(
            frames, condition, N_PAST, **given, z_from_prior=torch.tensor([True, False])
        )
    torch.testing.assert_close(half.frames[1], plain.frames[1])
    torch.testing.assert_close(half.posterior.mean[1], plain.posterior.mean[1])
    assert not torch.allclose(half.frames[0, N_PAST - 1 :], plain.frames[0, N_PAST - 1 :])
    # The step within the context knows its target in a prediction too.
    torch.testing.assert_close(half.frames[0, : N_PAST - 1], plain.frames[0, : N_PAST - 1])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.3, 1), (0.5, 2), (1.0, 4)])
def test_the_share_of_a_batch_takes_z_from_the_prior(share, count, simulated, monkeypatch) -> None:
    config: Config = dataclasses.replace(
        SMOKE,
        data=dataclasses.replace(SMOKE.data, root=simulated.as_posix()),
        kl=KLConfig(hybrid=share),
    )
    setup = TrainingSetup(config, torch.device("cpu"))
    seen = []
    rollout = setup.model.rollout

    def watched(*args, **given):
        seen.append(given.get("z_from_prior"))
        return rollout(*args, **given)

    monkeypatch.setattr(setup.model, "rollout", watched)
    (batch,) = setup.batches(range(1))
    batch_losses(setup, batch, 0, schedule_at(0, config))
    (flags,) = seen
    assert count == (0 if flags is None else int(flags.sum()))


@pytest.mark.parametrize("detached", [False, True])
def test_a_detached_prior_sends_no_gradient_to_the_encoder(detached, clips) -> None:
    model, (frames, condition) = make({"prior": "learned"}), clips
    rollout = model.rollout(
        frames, condition, N_PAST, teacher_forced=False, prior_detached=detached
    )
    rollout.prior.mean.sum().backward()
    assert any(weight.grad is not None for weight in model.prior.parameters())
    reached = [weight.grad for weight in model.encoder.parameters()]
    assert all(grad is None or not grad.any() for grad in reached) == detached


@pytest.mark.parametrize("annealed", [False, True])
def test_a_prior_that_is_not_annealed_learns_while_the_kl_waits(annealed, simulated) -> None:
    """At a KL weight of 0: the gradient of the prior's weights is 0 where it is annealed."""
    data = dataclasses.replace(SMOKE.data, root=simulated.as_posix(), n_future=3)
    config = dataclasses.replace(
        SMOKE,
        data=data,
        model=dataclasses.replace(SMOKE.model, prior="learned"),
        kl=KLConfig(wait=1.0, anneal_prior=annealed),
    )
    setup = TrainingSetup(config, torch.device("cpu"))
    (batch,) = setup.batches(range(1))
    schedule = schedule_at(0, config)
    assert schedule["kl_weight"] == 0
    batch_losses(setup, batch, 0, schedule)["loss"].backward()
    grads = [weight.grad for weight in setup.model.prior.parameters()]
    assert any(grad is not None and grad.any() for grad in grads) == (not annealed)
