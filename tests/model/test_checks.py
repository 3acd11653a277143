"""What does not fit a model is refused, with what was expected and what came."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from labkit.config import Config, DataConfig, KLConfig, ModelConfig
from labkit.errors import ConfigError, ShapeError
from labkit.model import VideoCVAE
from labkit.model.checks import check_context, check_plan, check_rollout
from labkit.presets import SMOKE


@pytest.fixture(scope="module")
def model() -> VideoCVAE:
    return VideoCVAE(SMOKE.model, 7).eval()


FRAMES, CONDITION = torch.rand(2, 2, 3, 64, 64), torch.randn(2, 6, 7)


def with_value(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed.flatten()[5] = value
    return changed


@pytest.mark.parametrize(
    ("frames", "condition", "words"),
    [
        (FRAMES[:, :, :1], CONDITION, "frames are (2, 2, 1, 64, 64); expected (B, T, 3, 64, 64)"),
        (FRAMES[..., :32], CONDITION, "frames are (2, 2, 3, 64, 32); expected (B, T, 3, 64, 64)"),
        (FRAMES[0], CONDITION, "frames are (2, 3, 64, 64); expected (B, T, 3, 64, 64)"),
        (FRAMES[:0], CONDITION[:0], "frames are (0, 2, 3, 64, 64); expected (B, T, 3, 64, 64)"),
        (FRAMES.mul(255).byte(), CONDITION, "frames are torch.uint8; expected floats in [0, 1]"),
        (FRAMES.double(), CONDITION, "frames are torch.float64; expected torch.float32"),
        (FRAMES.half(), CONDITION, "frames are torch.float16; expected torch.float32"),
        (FRAMES, CONDITION.double(), "the condition is torch.float64; expected torch.float32"),
        (FRAMES * 255, CONDITION, "; expected floats in [0, 1]"),
        (with_value(FRAMES, -0.5), CONDITION, "frames reach from -0.5 to "),
        (with_value(FRAMES, 1.25), CONDITION, " to 1.25; expected floats in [0, 1]"),
        (with_value(FRAMES, float("nan")), CONDITION, "frames hold NaN; expected floats in [0, 1]"),
        (FRAMES, CONDITION[..., :4], "condition is (2, 6, 4); expected (2, at least 5, 7)"),
        (FRAMES, CONDITION[:, :4], "condition is (2, 4, 7); expected (2, at least 5, 7)"),
        (FRAMES, CONDITION[:1], "condition is (1, 6, 7); expected (2, at least 5, 7)"),
        (FRAMES, CONDITION[0], "condition is (6, 7); expected (2, at least 5, 7)"),
        (FRAMES, CONDITION.long(), "condition is torch.int64; expected finite floats"),
        (
            FRAMES,
            with_value(CONDITION, float("nan")),
            "condition holds NaN or infinity (1 x); expected finite floats",
        ),
        (
            FRAMES,
            with_value(CONDITION, float("inf")),
            "condition holds NaN or infinity (1 x); expected finite floats",
        ),
    ],
)
def test_what_does_not_fit_says_what_was_expected(
    frames: Tensor, condition: Tensor, words: str, model: VideoCVAE
) -> None:
    with pytest.raises(ShapeError, match=re.escape(words)):
        check_rollout(model.input_sizes, frames, condition, 2, 4)


def test_what_fits_passes(model: VideoCVAE) -> None:
    check_rollout(model.input_sizes, FRAMES, CONDITION[:, :5], 2, 4)
    check_rollout(
        model.input_sizes, FRAMES.round(), CONDITION, 2, 4
    )  # 0 and 1 are within the range
    check_context(model.input_sizes, FRAMES, CONDITION[:, :1])
    target = VideoCVAE(dataclasses.replace(SMOKE.model, condition_at="target"), 7)
    check_rollout(target.input_sizes, FRAMES, CONDITION, 2, 4)
    with pytest.raises(ShapeError, match="at least 6"):
        check_rollout(target.input_sizes, FRAMES, CONDITION[:, :5], 2, 4)


def test_every_rollout_checks_what_it_is_given(model: VideoCVAE) -> None:
    wide = torch.randn(2, 6, 8)
    clip = torch.rand(2, 6, 3, 64, 64)
    with pytest.raises(ShapeError, match="frames reach"):
        model.rollout(clip * 2, CONDITION, 2, teacher_forced=True)
    with pytest.raises(ShapeError, match="the condition is"):
        model.rollout(clip, wide, 2, teacher_forced=True)
    with pytest.raises(ShapeError, match="the condition is"):
        model.predict(FRAMES, wide, 4)
    with pytest.raises(ShapeError, match="the condition is"):
        model.begin(FRAMES, wide)
    state = model.begin(FRAMES, CONDITION)
    with pytest.raises(ShapeError, match=re.escape("the condition is (2, 8); expected (2, 7)")):
        model.step(state, wide[:, 0])
    with pytest.raises(ShapeError, match=re.escape("the condition is (1, 7); expected (2, 7)")):
        model.step(state, CONDITION[:1, 0])
    with pytest.raises(ShapeError, match="NaN or infinity"):
        model.step(state, with_value(CONDITION[:, 0], float("nan")))


def test_flags_that_do_not_fit_are_refused(model: VideoCVAE) -> None:
    clip = torch.rand(2, 6, 3, 64, 64)
    for ratio in (0.5, 2):
        with pytest.raises(ShapeError, match=f"teacher_forced is {ratio}; expected True, False"):
            check_plan(ratio, None, CONDITION)
    for flags in (torch.rand(2, 5), torch.ones(5, dtype=torch.bool), torch.ones(2, 6) > 0):
        with pytest.raises(ShapeError, match="teacher_forced is torch"):
            check_plan(flags, None, CONDITION[:, :5])
    for flags in (torch.ones(2), torch.ones(1) > 0, torch.ones(3) > 0):
        with pytest.raises(ShapeError, match="z_from_prior is torch"):
            check_plan(True, flags, CONDITION[:, :5])
    for flags in (True, torch.ones(2, 5) > 0):
        model.rollout(clip, CONDITION, 2, teacher_forced=flags)


def test_a_blend_may_leave_the_range_by_rounding(model: VideoCVAE) -> None:
    """White frames, moved and blended, come out as 1.0000002: still a context."""
    check_rollout(model.input_sizes, torch.ones_like(FRAMES) + 1e-6, CONDITION, 2, 4)
    with pytest.raises(ShapeError, match=r"to 1.001; expected"):
        check_rollout(model.input_sizes, torch.ones_like(FRAMES) + 1e-3, CONDITION, 2, 4)


def test_too_few_frames_are_refused(model: VideoCVAE) -> None:
    with pytest.raises(ShapeError, match=r"2 context frames and 0 to predict; expected at least 1"):
        model.predict(FRAMES, CONDITION, 0)
    with pytest.raises(ShapeError, match=r"3 context frames and -1 to predict"):
        model.rollout(FRAMES, CONDITION, 3, teacher_forced=True)
    with pytest.raises(ShapeError, match=r"2 context frames and 0 to predict"):
        model.reconstruct(FRAMES, CONDITION, 2)
    with pytest.raises(ShapeError, match=r"0 context frames and 2 to predict"):
        model.rollout(FRAMES, CONDITION, 0, teacher_forced=True)
    with pytest.raises(ShapeError, match=re.escape("frames are (2, 0, 3, 64, 64)")):
        model.predict(FRAMES[:, :0], CONDITION, 2)
    with pytest.raises(ShapeError, match="samples is 0; expected at least 1"):
        model.predict(FRAMES, CONDITION, 2, samples=0)


def test_arrays_and_fractions_are_refused() -> None:
    """As a user meets it, in a process of its own: in the tests the types are checked before."""
    code = """
import torch
from labkit.errors import ShapeError
from labkit.model import VideoCVAE
from labkit.presets import SMOKE

model = VideoCVAE(SMOKE.model, 7).eval()
frames, condition = torch.rand(1, 2, 3, 64, 64), torch.zeros(1, 6, 7)
for call in (
    lambda: model.predict(frames.numpy(), condition, 2),
    lambda: model.predict(frames, condition.numpy(), 2),
    lambda: model.predict(frames, None, 2),
    lambda: model.predict(frames, condition, 2.5),
    lambda: model.predict(frames, condition, 2, samples=1.5),
    lambda: model.predict(frames, condition, 2, noise=[0.0]),
    lambda: model.step(model.begin(frames, condition), [0.0]),
):
    try:
        call()
    except ShapeError as error:
        print(error)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert [line.split(" (")[0] for line in printed.stdout.splitlines()] == [
        "frames are ndarray; expected a tensor",
        "the condition is ndarray; expected a tensor",
        "the condition is NoneType; expected a tensor",
        "there are 2 context frames and 2.5 to predict; expected at least 1 of each, "
        "in whole numbers",
        "samples is 1.5; expected at least 1, in whole numbers, or None",
        "the noise is list; expected a tensor",
        "the condition is list; expected a tensor",
    ]


def test_configs_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ConfigError, match="frame_size is 50; it must be a multiple of 16"):
        ModelConfig(frame_size=50)
    with pytest.raises(ConfigError, match=r"frame_size is 144; allowed: 32\.\.128"):
        ModelConfig(frame_size=144)
    with pytest.raises(ConfigError, match=r"balance is 0\.8, but model\.prior is fixed"):
        Config(kl=KLConfig(balance=0.8))
    Config(kl=KLConfig(balance=0.8), model=ModelConfig(latent_levels=2))  # these priors are learned
    for kind in ("film", "conv"):
        with pytest.raises(
            ConfigError, match=f"conditioning is {kind}, but data.condition is none"
        ):
            Config(data=DataConfig(condition="none"), model=ModelConfig(conditioning=kind))
        with pytest.raises(ConfigError, match=f"conditioning is {kind}, but there is no condition"):
            VideoCVAE(dataclasses.replace(SMOKE.model, conditioning=kind), 0)


def test_conditions_that_are_never_read_may_hold_anything() -> None:
    """c_{T-1} leads on from the last frame, to one that nobody asked for."""
    torch.manual_seed(0)
    model = VideoCVAE(SMOKE.model, 7).eval()
    condition = torch.randn(1, 8, 7)
    condition[:, 5:] = torch.nan
    with torch.no_grad():
        assert model.predict(torch.rand(1, 2, 3, 64, 64), condition, 4).isfinite().all()
        with pytest.raises(ShapeError, match="the condition holds NaN"):
            model.predict(torch.rand(1, 2, 3, 64, 64), condition, 5)
