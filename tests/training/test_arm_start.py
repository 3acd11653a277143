"""The picture of the arm follows, before the training, what moves in the training clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.config import Config
from labkit.data import Clip, write_split
from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE
from labkit.model.scene import PLACE_RATE, SceneOutput
from labkit.training.arm_start import motion_middles, start_at_motion
from labkit.training.setup import TrainingSetup

SLOPES = (0.8, -0.5)
"""half frames by which the square goes along x and y for 1 of each position"""


def square(random: np.random.Generator, moves: bool = True) -> Clip:
    """A bright square over a pattern; the positions say where it is, the actions say nothing."""
    steps = random.uniform(-0.1, 0.1, (30, 2))
    positions = np.clip(np.cumsum(steps, axis=0), -0.6, 0.6) + np.array([5, 7])
    frames = np.tile(random.integers(60, 90, (1, 3, 64, 64), np.uint8), (30, 1, 1, 1))
    for t, (u, v) in enumerate(positions if moves else ()):
        column = round(31.5 * (1 + SLOPES[0] * (u - 5)))
        row = round(31.5 * (1 + SLOPES[1] * (v - 7)))
        frames[t, :, row - 3 : row + 4, column - 3 : column + 4] = 250
    # Row t - 1 leads to frame t, and so it has to say where the square is in frame t.
    return Clip(
        frames=frames,
        actions=np.float32(random.normal(size=(30, 1))),
        positions=np.float32(np.roll(positions, -1, axis=0)),
    )


def made(root: Path, moves: bool = True) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("validate", 2)):
        write_split(root, split, [square(random, moves) for _ in range(count)])
    return root


def on(
    config: Config, root: Path, condition: str = "action+position", start: bool = True
) -> Config:
    """The smoke preset with the output `scene` on that data."""
    scene = dataclasses.replace(config.model.scene, motion_start=start)
    model = dataclasses.replace(config.model, output="scene", scene=scene, normalise_condition=True)
    data = dataclasses.replace(config.data, root=root.as_posix(), condition=condition)
    return dataclasses.replace(config, model=model, data=data)


def weights(model: VideoCVAE) -> np.ndarray:
    """The coefficients of the picture's shift (x, y), by column of the condition."""
    assert isinstance(model.output, SceneOutput)
    assert model.output.arm is not None
    return PLACE_RATE * model.output.arm.linear.weight.detach()[[2, 5]].numpy()


def test_the_picture_follows_the_square(smoke: Config, tmp_path: Path) -> None:
    root = made(tmp_path / "square")
    setup = TrainingSetup(on(smoke, root), torch.device("cpu"))
    found = weights(setup.model) / setup.model.condition_std.numpy()
    # Read at x - shift: the signs are the other way round.
    np.testing.assert_allclose(found[:, 1:], -np.diag(SLOPES), atol=0.1)
    assert np.abs(found[:, 0]).max() < 0.02
    np.testing.assert_array_equal(weights(setup.validated_model), weights(setup.model))
    assert not weights(TrainingSetup(on(smoke, root, start=False), torch.device("cpu")).model).any()


def test_the_picture_is_painted_with_the_square(smoke: Config, tmp_path: Path) -> None:
    """Bright and opaque where the square is, in a clip that it was not painted from; transparent
    elsewhere. The default leaves the picture as it is drawn at random."""
    root = made(tmp_path / "square")
    config = on(smoke, root)
    scene = dataclasses.replace(config.model.scene, picture_start=True, pictures=1)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, scene=scene))
    model = TrainingSetup(config, torch.device("cpu")).model
    clip = square(np.random.default_rng(9))
    condition = torch.from_numpy(np.concatenate([clip.actions, clip.positions], axis=1))[None]
    known = model.condition_inputs.of_steps(condition, 30)[0]
    with torch.no_grad():
        colour, opacity = model.output.arm(known, torch.zeros(29, 9), 64)
    covered = torch.from_numpy(clip.frames[1:, :1] == 250)
    middle = -torch.nn.functional.max_pool2d(-covered.float(), 5, 1, 2) > 0  # away from its edge
    assert opacity[middle].mean() > 0.5
    assert colour[middle.expand_as(colour)].mean() > 0.85
    assert opacity[~covered].mean() < 0.08
    plain = dataclasses.replace(scene, picture_start=False)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, scene=plain))
    assert TrainingSetup(config, torch.device("cpu")).model.output.arm.picture.std() < 0.1


def test_positions_in_their_own_unit_may_lie_anywhere(smoke: Config, tmp_path: Path) -> None:
    """Not scaled, the positions are around (5, 7): a constant is part of the fit."""
    config = on(smoke, made(tmp_path / "square"))
    model = dataclasses.replace(config.model, normalise_condition=False)
    setup = TrainingSetup(dataclasses.replace(config, model=model), torch.device("cpu"))
    found = weights(setup.model)
    np.testing.assert_allclose(found[:, 1:], -np.diag(SLOPES), atol=0.2)


@pytest.mark.parametrize("condition", ["action", "action+position"])
def test_it_stays_where_no_place_is_known(smoke: Config, tmp_path: Path, condition: str) -> None:
    root = made(tmp_path / "still", moves=condition == "action")
    setup = TrainingSetup(on(smoke, root, condition), torch.device("cpu"))
    assert not weights(setup.model).any()


def test_the_middle_of_what_moves() -> None:
    clip = square(np.random.default_rng(3))
    middles, moves = motion_middles(clip.frames)
    assert moves.mean() > 0.8
    places = np.roll(clip.positions, 1, axis=0) - np.float32([5, 7])
    np.testing.assert_allclose(middles[moves], (places * SLOPES)[moves], atol=0.15)
    assert not motion_middles(np.tile(clip.frames[:1], (5, 1, 1, 1)))[1].any()


def test_other_outputs_are_left_alone(smoke: Config, simulated: Path) -> None:
    model = VideoCVAE(smoke.model, 7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start_at_motion(model, ClipDataset(simulated, "train"))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
