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
from labkit.training.run import TrainingSetup

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
def test_a_blind_free_running_clip_is_its_prediction(name, clips) -> None:
    model, (frames, condition) = make(VARIANTS[name]), clips
    noise = noise_for(model)
    with torch.no_grad():
        told = model.predict(frames[:, :N_PAST], condition, HORIZON, noise=noise)
        seeing, blind = (
            model.rollout(
                frames, condition, N_PAST, teacher_forced=False, noise=noise, blind=torch.tensor(of)
            ).frames[:, N_PAST - 1 :]
            for of in ([False, False], [True, True])
        )
    torch.testing.assert_close(blind, told, atol=1e-4, rtol=1e-4)  # sums in another order
    assert (seeing - told).abs().amax() > 1e-3


@pytest.mark.parametrize("name", VARIANTS)
def test_the_other_clips_are_as_without_it(name, clips) -> None:
    model, (frames, condition) = make(VARIANTS[name]), clips
    given = {"teacher_forced": True, "noise": noise_for(model)}
    with torch.no_grad():
        plain = model.rollout(frames, condition, N_PAST, **given)
        half = model.rollout(frames, condition, N_PAST, **given, blind=torch.tensor([True, False]))
    torch.testing.assert_close(half.frames[1], plain.frames[1])
    torch.testing.assert_close(half.posterior.mean[1], plain.posterior.mean[1])
    assert not torch.allclose(half.frames[0, N_PAST - 1 :], plain.frames[0, N_PAST - 1 :])
    # The step within the context knows its target in a prediction too.
    torch.testing.assert_close(half.frames[0, : N_PAST - 1], plain.frames[0, : N_PAST - 1])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.3, 1), (0.5, 2), (1.0, 4)])
def test_the_share_of_a_batch_is_blind(share, count, simulated, monkeypatch) -> None:
    config: Config = dataclasses.replace(
        SMOKE,
        data=dataclasses.replace(SMOKE.data, root=simulated.as_posix()),
        kl=KLConfig(hybrid=share),
    )
    task = TrainingSetup(config, torch.device("cpu"))
    seen = []
    rollout = task.module.rollout

    def watched(*args, **given):
        seen.append(given.get("blind"))
        return rollout(*args, **given)

    monkeypatch.setattr(task.module, "rollout", watched)
    (batch,) = task.batches(range(1))
    task.losses(batch, 0, task.schedule(0))
    (blind,) = seen
    assert count == (0 if blind is None else int(blind.sum()))
