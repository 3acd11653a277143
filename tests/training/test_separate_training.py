"""The picture of the arm, and the pusher, are trained alone before the model is
(`training.arm_updates`, `training.pusher_updates`)."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_arm_start import made, on, square

from labkit.config import Config
from labkit.data import Clip, write_split
from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE
from labkit.model.pusher import PushCandidates
from labkit.model.scene import light_statistics
from labkit.training import separate_training
from labkit.training import setup as training_setup
from labkit.training.run import train
from labkit.training.separate_training import (
    StepSampler,
    moved_arm,
    placed_arm,
    pushed_steps,
    pusher_loss,
    train_pusher,
)
from labkit.training.setup import TrainingSetup


def with_updates(config: Config, updates: int) -> Config:
    training = dataclasses.replace(config.training, arm_updates=updates)
    return dataclasses.replace(config, training=training)


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Instead of training a part: the updates that each call asks for."""
    called: list[int] = []

    def count(model: VideoCVAE, clips: ClipDataset, updates: int, *_: object, **__: object) -> None:
        called.append(updates)

    monkeypatch.setattr(training_setup, name, count)
    return called


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
    called = counted(monkeypatch, "train_arm")
    config = with_updates(on(smoke, made(tmp_path / "square")), 7)
    train(config, tmp_path / "run", progress=False, minutes=1e-9)
    assert called == [7]
    train(config, tmp_path / "run", progress=False, resume=True)
    assert called == [7]


def test_its_time_counts_as_training_time(
    smoke: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is over before the model's first update, so one update is made."""
    monkeypatch.setattr(training_setup, "train_arm", lambda *_, **__: time.sleep(2))
    config = with_updates(on(smoke, made(tmp_path / "square")), 7)
    rows = train(config, tmp_path / "run", progress=False, minutes=1.9 / 60)
    assert rows[-1].updates == 1


def test_weights_of_another_run_are_taken_as_they_are(smoke: Config, tmp_path: Path) -> None:
    config = on(smoke, made(tmp_path / "square"))
    train(config, tmp_path / "run", progress=False)
    setup = TrainingSetup(with_updates(config, 3), torch.device("cpu"), init_from=tmp_path / "run")
    again = TrainingSetup(config, torch.device("cpu"), init_from=tmp_path / "run")
    torch.testing.assert_close(
        setup.model.output.arm.picture, again.model.output.arm.picture, rtol=0, atol=0
    )


BLOCK = 5
"""side of the block in pixels"""


def with_block(random: np.random.Generator) -> Clip:
    """A square with a block of a colour of the clip's own at its right side, which moves along."""
    clip = square(random)
    colour = random.integers(0, 255, (3, 1, 1), np.uint8)
    for frame in clip.frames:
        rows, columns = np.nonzero(frame[0] == 250)
        top, left = rows.min(), min(columns.max() + 2, 64 - BLOCK)
        frame[:, top : top + BLOCK, left : left + BLOCK] = colour
    return clip


def pushing(smoke: Config, root: Path, blocks: int = 8) -> tuple[VideoCVAE, ClipDataset]:
    """A model with a trained arm and a new pusher; 16 clips, of which so many have blocks.

    The arm is learned from clips without blocks: a block that is always beside it is a part of it.
    """
    config = with_pusher(with_updates(on(smoke, made(root / "squares")), 200))
    random = np.random.default_rng(5)
    clips = [(with_block if n < blocks else square)(random) for n in range(16)]
    write_split(root / "blocks", "train", clips)
    model = TrainingSetup(config, torch.device("cpu")).model
    return model, ClipDataset(root / "blocks", "train")


def with_pusher(config: Config, updates: int = 0) -> Config:
    scene = dataclasses.replace(config.model.scene, picture_start=True, pusher=True, pusher_width=8)
    training = dataclasses.replace(config.training, pusher_updates=updates)
    model = dataclasses.replace(config.model, scene=scene)
    return dataclasses.replace(config, model=model, training=training)


def test_the_pusher_learns_a_block_that_moves_along(
    smoke: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clips = pushing(smoke, tmp_path)
    monkeypatch.setattr(separate_training, "SEARCHED", 512)
    monkeypatch.setattr(separate_training, "PUSHER_BATCH", 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_pusher(model, clips, 150, 1)
    for name, value in model.state_dict().items():
        if "pusher" not in name:
            torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    # in clips with blocks of other colours
    random = np.random.default_rng(6)
    write_split(tmp_path / "others", "train", [with_block(random) for _ in range(4)])
    sampler = StepSampler(
        model, ClipDataset(tmp_path / "others", "train"), np.random.default_rng(2)
    )
    steps = sampler.read(sampler.draw(64, first=2))
    errors = []
    with torch.no_grad():
        motion, table = moved_arm(model.output.arm, steps)
        known = torch.cat([steps.known, steps.known - steps.known_before], dim=1)
        nowhere = torch.zeros_like(table[:, :2])
        _, pushed, candidates = model.output.pusher(
            table, nowhere, table, steps.before, motion, known
        )
        for made in (pushed, candidates.still):
            errors.append(((made - steps.target).square() * candidates.seen).sum().item())
    assert errors[0] < 0.7 * errors[1]


def test_steps_that_push_are_found(
    smoke: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clips = pushing(smoke, tmp_path, blocks=4)
    monkeypatch.setattr(separate_training, "SEARCHED", 512)
    sampler = StepSampler(model, clips, np.random.default_rng(2))
    found = pushed_steps(sampler, placed_arm(model))
    assert len(found) == 64
    assert (found[:, 0] < 4).mean() > 0.75
    assert found[:, 2].min() >= 2


def test_the_loss_of_the_gate_is_least_where_it_moves_what_moved() -> None:
    target = torch.full((1, 3, 8, 8), 0.8)
    moved, still = torch.full_like(target, 0.8), torch.full_like(target, 0.2)
    seen = torch.ones(1, 1, 8, 8)

    def loss(gate: float, seen: torch.Tensor = seen) -> float:
        gates = torch.full((1, 1, 8, 8), gate)
        return pusher_loss(PushCandidates(still, moved, gates, seen), target).item()

    assert loss(0.9) < loss(0.5) < loss(0.1)
    # hidden pixels give a constant price to an open gate alone, and no squared error
    assert loss(0.1, 0 * seen) < loss(0.9, 0 * seen) < 0.02


def test_only_a_new_pusher_is_trained_beforehand(
    smoke: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = counted(monkeypatch, "train_pusher")
    config = on(smoke, made(tmp_path / "square"))
    scene = dataclasses.replace(config.model.scene, picture_start=True, pusher_width=8)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, scene=scene))
    train(config, tmp_path / "plain", progress=False)
    called.clear()
    pusher = with_pusher(config, 5)
    train(pusher, tmp_path / "pusher", progress=False, init_from=tmp_path / "plain", minutes=1e-9)
    assert called == [5]
    train(pusher, tmp_path / "pusher", progress=False, resume=True)
    train(pusher, tmp_path / "again", progress=False, init_from=tmp_path / "pusher")
    assert called == [5]
    TrainingSetup(pusher, torch.device("cpu"))
    assert called == [5, 5]
