"""Every pair of options that may stand together builds, learns and predicts; and the sizes."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import combinations, product

import pytest
import torch

from labkit.config import Config, DataConfig, KLConfig, ModelConfig, SceneConfig
from labkit.errors import ConfigError
from labkit.model import VideoCVAE
from labkit.training.objective import negative_elbo

OPTIONS: dict[str, tuple] = {
    "backbone": ("dcgan64", "vgg64"),
    "norm": ("batch", "group"),
    "predictor": ("lstm", "convlstm"),
    "predictor_norm": ("none", "batch", "group"),
    "prior": ("fixed", "learned"),
    "prior_condition": (True, False),
    "latent_levels": (1, 2, 3),
    "skip": ("last_context", "previous", "first", "svg", "random_context"),
    "align": (False, True),
    "conditioning": ("input", "film", "conv"),
    "posterior_condition": (False, True),
    "places": (False, True),
    "output": ("sigmoid", "flow", "cdna", "layer", "scene"),
    "scene": (
        SceneConfig(),
        SceneConfig(motion_start=True),
        SceneConfig(arm=False, first_frame=False),
        SceneConfig(pictures=1, bend=False, arm_light=False, ground=False, table_light=False),
    ),
    "posterior_log_variance_start": (0.0, -6.0),
    "posterior_norm": ("none", "batch"),
    "prior_log_variance_start": (0.0, -6.0),
    "observation": ("fixed", "learned", "optimal"),
    "condition_at": ("previous", "target"),
    "normalise_condition": (False, True),
    # Not of the model itself:
    "condition": ("action+position", "action", "none"),
    "kl": ("plain", "free_bits", "balance"),
    "fed": ("forced", "free", "mixed"),
    "z_from_prior": (None, True),
    "n_past": (1, 2, 3),
}
KL = {"plain": KLConfig(), "free_bits": KLConfig(free_bits=0.5), "balance": KLConfig(balance=0.8)}
SMALL = {"width": 4, "encoding_size": 8, "latent_size": 3, "hidden_size": 8, "map_size": 4}

WELCOMING = {"prior": "learned", "condition": "action", "conditioning": "input", "kl": "plain"}
"""Options that do not stand with every value of the others, and the values that always do."""

Choice = dict[str, object]


def config_of(choice: Choice) -> Config:
    """The config of a choice of every option."""
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    model = {name: value for name, value in choice.items() if name in names}
    return Config(
        data=DataConfig(condition=choice["condition"], n_past=choice["n_past"]),
        model=ModelConfig(frame_size=32, **SMALL, **model),
        kl=KL[choice["kl"]],
    )


def allowed(choice: Choice) -> bool:
    """Whether a choice of some options can be completed to a config: the config itself says so,
    with the most welcoming value of each option left out."""
    return _builds(frozenset(item for item in choice.items() if item[0] in WELCOMING))


@cache
def _builds(items: frozenset) -> bool:
    try:
        config_of(
            {**{name: values[0] for name, values in OPTIONS.items()}, **WELCOMING, **dict(items)}
        )
    except ConfigError:
        return False
    return True


def pairwise_cover() -> list[Choice]:
    """Choices in which every allowed pair of values occurs: each is begun with a pair not seen
    yet, and takes for every other option the value that brings the most new pairs with it."""
    items = [(name, value) for name, values in OPTIONS.items() for value in values]
    missing = {
        pair for pair in combinations(items, 2) if pair[0][0] != pair[1][0] and allowed(dict(pair))
    }
    order = {item: number for number, item in enumerate(items)}

    def pairs(item: tuple, others: Choice) -> set[tuple]:
        return {tuple(sorted((item, other), key=order.__getitem__)) for other in others.items()}

    cover = []
    while missing:
        choice: Choice = dict(min(missing, key=lambda pair: [order[item] for item in pair]))
        for name in sorted(OPTIONS, key=lambda name: -len(OPTIONS[name])):
            if name in choice:
                continue
            fitting = [v for v in OPTIONS[name] if allowed({**choice, name: v})]
            choice[name] = max(fitting, key=lambda v: len(pairs((name, v), choice) & missing))
        for item in choice.items():
            missing -= pairs(item, {n: v for n, v in choice.items() if n != item[0]})
        cover.append(choice)
    return cover


COVER = pairwise_cover()


def test_the_cover_holds_every_pair_and_every_option() -> None:
    options = {field.name for field in dataclasses.fields(ModelConfig)}
    sizes = {name for name in options if name.endswith(("_size", "width", "_layers"))}
    assert options - sizes <= set(OPTIONS), "an option of the model is not tried"
    for one, other in combinations(OPTIONS, 2):
        for pair in product(OPTIONS[one], OPTIONS[other]):
            choice = dict(zip((one, other), pair, strict=True))
            if allowed(choice):
                assert any(choice.items() <= full.items() for full in COVER), choice
    assert not allowed({"conditioning": "film", "condition": "none"})
    assert not allowed({"kl": "balance", "prior": "fixed"})
    assert len(COVER) < 40


@pytest.mark.parametrize("choice", COVER, ids=[str(number) for number in range(len(COVER))])
def test_every_pair_of_options_learns_and_predicts(choice: Choice) -> None:
    torch.manual_seed(0)
    config = config_of(choice)
    n_past, n_frames = config.data.n_past, config.data.n_past + 2
    model = VideoCVAE(config.model, config.data.condition_size)
    model.to(memory_format=torch.channels_last)  # as it is trained
    if config.model.normalise_condition:
        size = config.data.condition_size
        model.set_condition_statistics(torch.ones(size), torch.full((size,), 2.0))
    frames = torch.rand(2, n_frames, 3, 32, 32)
    condition = torch.randn(2, n_frames, config.data.condition_size)
    fed = {"forced": True, "free": False, "mixed": torch.rand(2, n_frames - 1) < 0.5}
    rollout = model.rollout(
        frames,
        condition,
        n_past,
        teacher_forced=fed[choice["fed"]],
        z_from_prior=choice["z_from_prior"] and torch.tensor([True, False]),
    )
    assert rollout.frames.shape == (2, n_frames - 1, 3, 32, 32)
    latents = sum(model.latent_sizes)
    assert rollout.posterior.mean.shape == rollout.prior.mean.shape == (2, n_frames - 1, latents)
    loss = negative_elbo(rollout, frames[:, 1:], 1.0, config.model.observation, config.kl).loss
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), name
    model.eval()
    with torch.no_grad():
        made = model.predict(frames[:, :n_past], condition, 2, samples=2)
    assert made.shape == (2, 2, 2, 3, 32, 32)
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize("zero", ["flow", "layer", "film", "conv", "levels", "align"])
def test_layers_that_start_at_zero_are_left_behind(zero: str) -> None:
    """Zero weights stop gradients above them at first, not for good: within five updates a
    gradient that is not zero has reached every weight."""
    torch.manual_seed(0)
    change: dict[str, dict] = {
        "flow": {"output": "flow"},
        "layer": {"output": "layer"},
        "film": {"conditioning": "film"},
        "conv": {"conditioning": "conv"},
        "levels": {"latent_levels": 3},
        "align": {"align": True},
    }
    config = ModelConfig(norm="group", prior="learned", **SMALL, **change[zero])
    model = VideoCVAE(config, 4)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    frames, condition = torch.rand(2, 4, 3, 64, 64), torch.randn(2, 4, 4)
    moved = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for _ in range(5):
        rollout = model.rollout(frames, condition, 2, teacher_forced=True)
        optimizer.zero_grad()
        negative_elbo(rollout, frames[:, 1:], 0.01).loss.backward()
        for name, value in model.named_parameters():
            moved[name] += value.grad.abs()
        optimizer.step()
    still = [name for name, total in moved.items() if not total.any()]
    assert not still


@pytest.mark.parametrize("backbone", ["dcgan64", "vgg64"])
@pytest.mark.parametrize("side", [32, 48, 64, 96, 128])
def test_every_frame_size(side: int, backbone: str) -> None:
    for extras in ({}, {"predictor": "convlstm", "latent_levels": 3, "align": True}):
        model = VideoCVAE(ModelConfig(backbone=backbone, frame_size=side, **SMALL, **extras), 0)
        frames, condition = torch.rand(1, 3, 3, side, side), torch.zeros(1, 3, 0)
        with torch.no_grad():
            made = model.eval().predict(frames[:, :2], condition, 1)
            rollout = model.rollout(frames, condition, 2, teacher_forced=True)
        assert made.shape == (1, 1, 3, side, side)
        assert rollout.frames.shape == (1, 2, 3, side, side)
