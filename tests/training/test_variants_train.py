"""Every choice of the model family, as a run: it trains, is saved, and predicts the same again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.experiments.questions import changed
from labkit.presets import PRESETS
from labkit.training import load_model
from labkit.training.loop import TrainingLoop
from labkit.training.setup import TrainingSetup

LEVELS = {"model.latent_levels": 3}
LEARNED = {"model.prior": "learned"}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "vgg64": {"model.backbone": "vgg64"},
    "batch norm": {"model.norm": "batch"},
    "LSTM": {"model.predictor": "lstm", "model.predictor_layers": 2},
    "LSTM, batch norm": {"model.predictor": "lstm", "model.predictor_norm": "batch"},
    "learned prior, balanced": LEARNED | {"kl.balance": 0.8},
    "learned prior, not annealed": LEARNED | {"kl.anneal_prior": False},
    "posterior's mean normalised": {"model.posterior_norm": "batch"},
    "the last weights kept": {"training.keep": "last"},
    "latent maps": LEVELS,
    "latent maps, learned prior": LEVELS | LEARNED,
    "skips of the last context frame": {"model.skip": "last_context"},
    "skips of the first frame": {"model.skip": "first"},
    "skips of SVG's loop": {"model.skip": "svg"},
    "skips of a random context frame": {"model.skip": "random_context"},
    "aligned skips": {"model.align": True},
    "condition to the predictor alone": {"model.conditioning": "input"},
    "conditional convolution": {"model.conditioning": "conv"},
    "posterior without the condition": {"model.posterior_condition": False},
    "painted": {"model.output": "sigmoid"},
    "flow without a layer": {"model.output": "flow"},
    "CDNA": {"model.output": "cdna"},
    "scene": {"model.output": "scene"},
    "scene that follows what moves": {
        "model.output": "scene",
        "model.scene": {"motion_start": True, "picture_start": True},
    },
    "fixed variance": {"model.observation": "fixed"},
    "learned variance": {"model.observation": "learned"},
    "condition of the target": {"model.condition_at": "target"},
    "no condition": {"data.condition": "none", "model.conditioning": "input"},
    "free bits": {"kl.free_bits": 2.0},
    "half of the clips from the prior": LEVELS | {"kl.hybrid": 0.5},
    "forcing per clip": {"teacher_forcing.granularity": "clip"},
    "forcing per step": {"teacher_forcing.granularity": "step"},
}
TINY = {"model.width": 4, "model.encoding_size": 8, "model.latent_size": 3, "model.hidden_size": 8}


def trained_and_loaded(config: Config, run: Path) -> None:
    """A run of two updates, and what is read of it predicts as what was trained."""
    config = changed(config, {"training.epochs": 1, "training.updates_per_epoch": 2})
    setup = TrainingSetup(config, torch.device("cpu"))
    before = [weight.detach().clone() for weight in setup.model.parameters()]
    run.mkdir()
    config.save(run / "config.json")
    TrainingLoop(setup, run).fit()
    assert any(not torch.equal(a, b) for a, b in zip(before, setup.model.parameters(), strict=True))
    loaded, saved = load_model(run)
    assert saved == config
    batch = ClipDataset.from_config(config.data, "test").batch([0, 1]).to("cpu")
    context = batch.frames[:, : config.data.n_past]

    def predicted(model: torch.nn.Module) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        with torch.inference_mode():
            return model.predict(context, batch.condition, 3, generator=generator, samples=2)

    # Training keeps the channels last, which rounds otherwise.
    trained = predicted(setup.validated_model.eval().to(memory_format=torch.contiguous_format))
    assert trained.isfinite().all()
    assert torch.equal(predicted(loaded), trained)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_saves_and_loads(name: str, smoke: Config, tmp_path: Path) -> None:
    trained_and_loaded(changed(smoke, VARIANTS[name]), tmp_path / "run")


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "smoke"])
def test_a_preset_trains_saves_and_loads(name: str, smoke: Config, tmp_path: Path) -> None:
    """At a size that fits a test."""
    few = {"training.batch_size": 2, "training.validation_clips": 2}
    config = changed(PRESETS[name], TINY | few | {"data.root": smoke.data.root})
    trained_and_loaded(config, tmp_path / "run")


def test_the_variants_differ(smoke: Config) -> None:
    """No entry above is the preset again."""
    configs = [dataclasses.astuple(changed(smoke, changes)) for changes in VARIANTS.values()]
    assert all(a != b for n, a in enumerate(configs) for b in configs[:n])
