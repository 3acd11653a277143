"""Teacher forcing's coins: one a batch, a clip, or a step of a clip."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from labkit.config import TeacherForcingConfig
from labkit.training.data_order import seed_of
from labkit.training.run import TrainingSetup

CLIPS, N_FRAMES = 6, 12


@pytest.fixture(params=["batch", "clip", "step"])
def task(request, smoke) -> TrainingSetup:
    forcing = TeacherForcingConfig(granularity=request.param)
    return TrainingSetup(dataclasses.replace(smoke, teacher_forcing=forcing), torch.device("cpu"))


def toss(task: TrainingSetup, number: int, ratio: float) -> torch.Tensor:
    weights = {"kl_weight": 0.0, "teacher_forcing_ratio": ratio}
    return task._toss(seed_of(1, "draws", number), CLIPS, N_FRAMES, weights)


def test_heads_come_as_often_as_they_should_and_for_whom_they_should(task) -> None:
    tosses = torch.stack([toss(task, number, 0.3) for number in range(400)])
    assert tosses.shape == (400, CLIPS, N_FRAMES - 1)
    coin = task.config.teacher_forcing.granularity
    flips = {"batch": 400, "clip": 400 * CLIPS, "step": tosses.numel()}[coin]
    assert abs(tosses.float().mean().item() - 0.3) < 4 * (0.21 / flips) ** 0.5
    alike_in_time = (tosses == tosses[:, :, :1]).all().item()
    alike_among_clips = (tosses == tosses[:, :1]).all().item()
    assert (alike_in_time, alike_among_clips) == (coin != "step", coin == "batch")


def test_a_toss_repeats_and_the_ends_are_sure(task) -> None:
    assert torch.equal(toss(task, 3, 0.5), toss(task, 3, 0.5))
    assert any(not torch.equal(toss(task, 3, 0.5), toss(task, n, 0.5)) for n in range(4, 12))
    assert all(toss(task, number, 1.0).all() for number in range(50))
    assert not any(toss(task, number, 0.0).any() for number in range(50))


def test_the_rollout_is_given_the_toss(task, monkeypatch) -> None:
    given = []
    plain = task.module.rollout

    def rollout(frames, condition, n_past, *, teacher_forced, generator):
        given.append(teacher_forced)
        return plain(frames, condition, n_past, teacher_forced=teacher_forced, generator=generator)

    monkeypatch.setattr(task.module, "rollout", rollout)
    batch = next(iter(task.batches(range(1))))
    weights = {"kl_weight": 0.0, "teacher_forcing_ratio": 0.5}
    losses = task.losses(batch, 0, weights)
    expected = task._toss(seed_of(1, "draws", 0), len(batch.frames), N_FRAMES, weights)
    assert torch.equal(given[0], expected)
    assert losses["loss"].isfinite()
