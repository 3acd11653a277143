"""The training on one page gives the engine's weights and moving average, bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from labkit.config import Config
from labkit.reference.training import train as train_on_one_page
from labkit.training import train
from labkit.training.checkpoint import load_checkpoint, load_model


def twelve_updates(smoke: Config, model: dict, training: dict) -> Config:
    """Three epochs of four updates; teacher forcing at 1, 0.5 and 0."""
    forcing = dataclasses.replace(smoke.teacher_forcing, decay_step=0.5)
    changes = {"epochs": 3, "updates_per_epoch": 4, "validate_every": 3} | training
    return dataclasses.replace(
        smoke,
        model=dataclasses.replace(smoke.model, **model),
        teacher_forcing=forcing,
        training=dataclasses.replace(smoke.training, **changes),
    )


@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({}, {}),
        (
            # Batch norm has buffers, which the average holds too.
            {"norm": "batch", "observation": "fixed", "normalise_condition": False},
            {"schedule_by": "update", "learning_rate_schedule": "constant", "gradient_clip": 0.0},
        ),
    ],
    ids=["smoke", "batch norm, by update"],
)
def test_weights_and_average_are_the_engines(
    model: dict, training: dict, smoke: Config, tmp_path: Path
) -> None:
    config = twelve_updates(smoke, model, training)
    run = tmp_path / "run"
    train(config, run, progress=False)
    engine = load_checkpoint(run)
    assert engine["update"] == 12
    found, average = train_on_one_page(config)
    torch.testing.assert_close(dict(found.state_dict()), dict(engine["module"]), rtol=0, atol=0)
    torch.testing.assert_close(dict(average.state_dict()), dict(engine["average"]), rtol=0, atol=0)
    # The run has one validation, at the end; what it saves for use is the average.
    saved = load_model(run)[0].state_dict()
    torch.testing.assert_close(saved, dict(average.module.state_dict()), rtol=0, atol=0)
    assert any(not torch.equal(saved[name], weight) for name, weight in found.named_parameters())
