"""Teacher forcing is sampled once per batch, per clip, or per step of a clip."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from labkit.config import TeacherForcingConfig
from labkit.training.data_order import seed_of
from labkit.training.loss_step import batch_losses, sample_forcing
from labkit.training.setup import TrainingSetup

CLIPS, STEPS = 6, 11


@pytest.fixture(params=["batch", "clip", "step"])
def forcing(request: pytest.FixtureRequest) -> TeacherForcingConfig:
    return TeacherForcingConfig(granularity=request.param)


def sample(forcing: TeacherForcingConfig, number: int, ratio: float) -> torch.Tensor:
    return sample_forcing(forcing, ratio, seed_of(1, "draws", number), CLIPS, STEPS)


def test_steps_are_forced_as_often_as_the_ratio_says(forcing: TeacherForcingConfig) -> None:
    samples = torch.stack([sample(forcing, number, 0.3) for number in range(400)])
    assert samples.shape == (400, CLIPS, STEPS)
    independent = {"batch": 400, "clip": 400 * CLIPS, "step": samples.numel()}
    deviation = (0.21 / independent[forcing.granularity]) ** 0.5
    assert abs(samples.float().mean().item() - 0.3) < 4 * deviation
    alike_in_time = (samples == samples[:, :, :1]).all().item()
    alike_among_clips = (samples == samples[:, :1]).all().item()
    expected = (forcing.granularity != "step", forcing.granularity == "batch")
    assert (alike_in_time, alike_among_clips) == expected


def test_a_sample_repeats_and_the_ratios_0_and_1_are_certain(forcing: TeacherForcingConfig) -> None:
    first = sample(forcing, 3, 0.5)
    assert torch.equal(first, sample(forcing, 3, 0.5))
    assert any(not torch.equal(first, sample(forcing, n, 0.5)) for n in range(4, 12))
    assert all(sample(forcing, number, 1.0).all() for number in range(50))
    assert not any(sample(forcing, number, 0.0).any() for number in range(50))


def test_the_rollout_is_given_the_sample(
    forcing: TeacherForcingConfig, smoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(smoke, teacher_forcing=forcing)
    setup = TrainingSetup(config, torch.device("cpu"))
    given = []
    plain = setup.model.rollout

    def rollout(*inputs, teacher_forced, **options):
        given.append(teacher_forced)
        return plain(*inputs, teacher_forced=teacher_forced, **options)

    monkeypatch.setattr(setup.model, "rollout", rollout)
    (batch,) = setup.batches(range(1))
    losses = batch_losses(setup, batch, 0, {"kl_weight": 0.0, "teacher_forcing_ratio": 0.5})
    expected = sample_forcing(forcing, 0.5, seed_of(1, "draws", 0), len(batch.frames), STEPS)
    assert torch.equal(given[0], expected)
    assert losses["loss"].isfinite()
