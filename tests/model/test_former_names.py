"""Weights saved under the names of earlier versions load, and compute the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from shaken import shaken, two_clips
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from labkit.config import Config
from labkit.model import VideoCVAE
from labkit.model.parts import FORMER_NAMES
from labkit.presets import LAYER, SMOKE
from labkit.training import load_model

FORMER_CONFIG = Path(__file__).with_name("former_config.json")
SHIPPED = Path(__file__).parents[2] / "notebooks" / "demo_run"


def under_former_names(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The state dict as an earlier version saved it."""
    renamed = {}
    for name, value in state.items():
        for former, new in FORMER_NAMES.items():
            if name.startswith(prefix + new):
                name = prefix + former + name.removeprefix(prefix + new)
        renamed[name] = value
    return renamed


def test_the_former_names_load_and_predict_the_same() -> None:
    model = shaken(SMOKE.model)
    state = under_former_names(model.state_dict())
    assert {"cue.embed.0.weight", "predictor.told.bias", "output.from_told.weight"} <= set(state)
    again = VideoCVAE(SMOKE.model, model.condition_size).eval()
    again.load_state_dict(state)
    frames, condition = two_clips(5, SMOKE.model.frame_size)
    with torch.no_grad():
        expected, made = (
            one.predict(frames[:, :2], condition, 3, sample=False) for one in (model, again)
        )
    assert torch.equal(made, expected)


def test_former_names_load_into_a_moving_average() -> None:
    """A checkpoint has the average's weights under one prefix more."""
    average = AveragedModel(shaken(SMOKE.model))
    state = under_former_names(average.state_dict(), "module.")
    assert "module.cue.embed.0.weight" in state
    again = AveragedModel(VideoCVAE(SMOKE.model, average.module.condition_size))
    again.load_state_dict(state)
    for name, value in average.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_weights_without_those_parts_are_left_as_they_are() -> None:
    plain = dataclasses.replace(
        SMOKE.model, predictor="lstm", output="sigmoid", conditioning="input"
    )
    model = shaken(plain)
    assert under_former_names(model.state_dict()).keys() == model.state_dict().keys()


def test_the_shipped_run_loads() -> None:
    model, config = load_model(SHIPPED)
    side = config.model.frame_size
    with torch.no_grad():
        made = model.predict(torch.rand(1, 2, 3, side, side), torch.zeros(1, 4, 7), 2)
    assert made.isfinite().all()


def test_a_config_of_an_earlier_version_is_read_and_its_model_built() -> None:
    config = Config.load(FORMER_CONFIG)
    assert config.teacher_forcing.granularity == "batch"  # "coin" in that file
    assert config.model == LAYER.model
    VideoCVAE(config.model, 7)
