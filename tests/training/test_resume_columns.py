"""A run of the output `scene`, on a robot with other columns than BAIR's, from a version that took
such columns for actions alone: it is still read, and a resume says why it cannot go on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from labkit.config import Config
from labkit.data import Clip, write_split
from labkit.data.dataset import ClipDataset
from labkit.errors import RunError
from labkit.training import load_model, read_history, setup, train


@pytest.fixture
def robot(simulated: Path, tmp_path: Path) -> Path:
    """The simulated clips with two columns of actions and two of positions."""
    root = tmp_path / "robot"
    for split in ("train", "validate"):
        clips = ClipDataset(simulated, split, n_future=28)

        def cut(clip: Clip) -> Clip:
            return Clip(
                frames=clip.frames,
                actions=np.ascontiguousarray(clip.actions[:, :2]),
                positions=np.ascontiguousarray(clip.positions[:, :2]),
                action_columns=("left", "right"),
                position_columns=("u", "v"),
            )

        write_split(root, split, [cut(clips.clip(n)) for n in range(clips.n_clips)])
    return root


@pytest.fixture
def config(smoke: Config, robot: Path) -> Config:
    """The smoke preset with the output `scene`, on that robot."""
    model = dataclasses.replace(smoke.model, output="scene", normalise_condition=True)
    data = dataclasses.replace(smoke.data, root=robot.as_posix())
    return dataclasses.replace(smoke, model=model, data=data)


def longer(config: Config) -> Config:
    """The config with one epoch more, at the same learning rates."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=2))


@pytest.fixture
def one_epoch(config: Config) -> Config:
    training = dataclasses.replace(
        config.training, epochs=1, learning_rate_schedule="constant", updates_per_epoch=2
    )
    kl = dataclasses.replace(config.kl, schedule="constant")
    return dataclasses.replace(config, training=training, kl=kl)


def test_a_resume_without_stored_columns_takes_those_of_the_data(
    one_epoch: Config, tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(longer(one_epoch), whole, progress=False)
    train(one_epoch, run, progress=False)
    stored = json.loads((run / "config.json").read_text())
    for name in ("action_columns", "position_columns", "hold_out"):
        del stored["data"][name]
    (run / "config.json").write_text(json.dumps(stored))
    train(longer(one_epoch), run, resume=True, progress=False)
    resumed = Config.load(run / "config.json")
    assert resumed.data.condition_columns == ("left", "right", "u", "v")
    np.testing.assert_array_equal(read_history(run)["loss"], read_history(whole)["loss"])
    ours, theirs = (load_file(each / "model.safetensors") for each in (run, whole))
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])


def test_weights_that_took_positions_for_actions(
    one_epoch: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        # As that version: positions where there are seven columns, and else none.
        made = setup.VideoCVAE
        patch.setattr(setup, "VideoCVAE", lambda model, columns, _: made(model, columns))
        train(one_epoch, run, progress=False)
    file = run / "model.safetensors"
    model = json.loads(shape_of(file))["model"]
    save_file(load_file(file), file, {"shape": json.dumps({"model": model, "condition_size": 4})})
    assert not load_model(run)[0].has_positions
    before = {each.name: each.read_bytes() for each in run.iterdir() if each.is_file()}
    with pytest.raises(RunError, match="the checkpoint does not fit the config") as caught:
        train(longer(one_epoch), run, resume=True, progress=False)
    assert "\n" not in str(caught.value)
    assert {each.name: each.read_bytes() for each in run.iterdir() if each.is_file()} == before


def shape_of(file: Path) -> str:
    """The settings in the metadata of a file of weights."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.metadata()["shape"]
