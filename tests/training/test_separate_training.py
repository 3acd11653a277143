"""The picture of the arm is trained alone before the model is (`training.arm_updates`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from test_arm_start import made, on, square

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE
from labkit.model.scene import light_statistics
from labkit.training import setup as training_setup
from labkit.training.run import train
from labkit.training.setup import TrainingSetup


def with_updates(config: Config, updates: int) -> Config:
    training = dataclasses.replace(config.training, arm_updates=updates)
    return dataclasses.replace(config, training=training)


def composed_error(model: VideoCVAE) -> float:
    """Mean squared error of arm over median on a clip that nothing was learned from."""
    clip = square(np.random.default_rng(9))
    frames = torch.from_numpy(clip.frames) / 255
    condition = torch.from_numpy(np.concatenate([clip.actions, clip.positions], axis=1))[None]
    known = model.condition_inputs.of_steps(condition, 30)[0]
    with torch.no_grad():
        colour, alpha = model.output.arm(known, light_statistics(frames[:1]).expand(29, -1), 64)
    median = frames.median(dim=0).values
    return ((1 - alpha) * median + alpha * colour - frames[1:]).square().mean().item()


def test_the_picture_learns_the_square(smoke: Config, tmp_path: Path) -> None:
    config = on(smoke, made(tmp_path / "square"))
    scene = dataclasses.replace(config.model.scene, picture_start=True)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, scene=scene))
    errors = [
        composed_error(TrainingSetup(with_updates(config, updates), torch.device("cpu")).model)
        for updates in (0, 300)
    ]
    assert errors[1] < 0.4 * errors[0]


def test_the_seed_decides(smoke: Config, tmp_path: Path) -> None:
    config = with_updates(on(smoke, made(tmp_path / "square")), 3)
    seeds = (1, 1, 2)
    pictures = []
    for seed in seeds:
        setup = TrainingSetup(dataclasses.replace(config, seed=seed), torch.device("cpu"))
        start = TrainingSetup(with_updates(setup.config, 0), torch.device("cpu"))
        pictures.append(setup.model.output.arm.picture - start.model.output.arm.picture)
        torch.testing.assert_close(
            setup.validated_model.output.arm.picture, setup.model.output.arm.picture
        )
        assert setup.model.output.arm.picture.grad is None
    torch.testing.assert_close(pictures[0], pictures[1], rtol=0, atol=0)
    assert not torch.equal(pictures[0], pictures[2])
    assert pictures[0].any()


def test_nothing_is_trained_where_no_place_is_known(smoke: Config, tmp_path: Path) -> None:
    config = on(smoke, made(tmp_path / "square"), condition="action")
    states = [
        TrainingSetup(with_updates(config, updates), torch.device("cpu")).model.state_dict()
        for updates in (0, 3)
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=0)


def test_a_resumed_run_does_not_train_the_picture_again(
    smoke: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def count(model: VideoCVAE, clips: ClipDataset, updates: int, *_: object, **__: object) -> None:
        called.append(updates)

    monkeypatch.setattr(training_setup, "train_arm", count)
    config = with_updates(on(smoke, made(tmp_path / "square")), 7)
    train(config, tmp_path / "run", progress=False, minutes=1e-9)
    assert called == [7]
    train(config, tmp_path / "run", progress=False, resume=True)
    assert called == [7]


def test_weights_of_another_run_are_taken_as_they_are(smoke: Config, tmp_path: Path) -> None:
    config = on(smoke, made(tmp_path / "square"))
    train(config, tmp_path / "run", progress=False)
    setup = TrainingSetup(with_updates(config, 3), torch.device("cpu"), init_from=tmp_path / "run")
    again = TrainingSetup(config, torch.device("cpu"), init_from=tmp_path / "run")
    torch.testing.assert_close(
        setup.model.output.arm.picture, again.model.output.arm.picture, rtol=0, atol=0
    )
