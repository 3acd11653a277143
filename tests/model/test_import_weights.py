"""Weights of the public implementations give the same outputs here.

The implementations are the test doubles of `public_model.py`. In the course's, skip features freeze
a frame later than in SVG's, at the last context frame.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from public_model import HIDDEN, HORIZON, N_PAST, G, Reference, Z
from torch import Tensor

from labkit.config import ModelConfig
from labkit.errors import RunError
from labkit.model import VideoCVAE
from labkit.model.import_weights import load_reference
from labkit.presets import COURSE, SVG

SIZES = {"encoding_size": G, "latent_size": Z, "hidden_size": HIDDEN}


COURSE_MODEL = dataclasses.replace(COURSE.model, **SIZES)
SVG_MODEL = dataclasses.replace(SVG.model, **SIZES)
CASES = {
    "course": (COURSE_MODEL, 7),
    "course, dcgan64": (dataclasses.replace(COURSE_MODEL, backbone="dcgan64"), 7),
    "course, dcgan64, learned prior that sees h alone": (
        dataclasses.replace(
            COURSE_MODEL, backbone="dcgan64", prior="learned", prior_condition=False
        ),
        7,
    ),
    "course, dcgan64, last_frame_skip": (
        dataclasses.replace(COURSE_MODEL, backbone="dcgan64", skip="previous"),
        7,
    ),
    "svg, learned prior": (SVG_MODEL, 0),
    "svg, learned prior, dcgan64, last_frame_skip": (
        dataclasses.replace(SVG_MODEL, backbone="dcgan64", skip="previous"),
        0,
    ),
    "svg, fixed prior, dcgan64": (
        dataclasses.replace(SVG_MODEL, backbone="dcgan64", prior="fixed"),
        0,
    ),
}


def make(config: ModelConfig, condition_size: int) -> tuple[Reference, VideoCVAE]:
    return Reference(config, condition_size).eval(), VideoCVAE(config, condition_size).eval()


def draws(condition_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, conditions and epsilon of one clip."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(1, N_PAST + HORIZON, 3, 64, 64, generator=generator)
    condition = torch.randn(1, N_PAST + HORIZON, condition_size, generator=generator)
    return frames, condition, torch.randn(1, N_PAST + HORIZON - 1, Z, generator=generator)


@pytest.mark.parametrize("name", CASES)
def test_same_weights_and_inputs_give_the_same_outputs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, condition_size = CASES[name]
    reference, model = make(config, condition_size)
    load_reference(model, reference.states())
    frames, condition, noise = draws(condition_size)
    monkeypatch.setattr(model, "_noise", lambda steps, *_, zero=False: noise * (0 if zero else 1))
    until = {"previous": 99, "last_context": N_PAST, "svg": N_PAST - 1}[config.skip]
    skip = {"skips_until": until}

    def close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)

    with torch.no_grad():
        for forced in (True, False):
            expected, posteriors, priors = reference.run(
                frames, condition, noise, forced=forced, from_posterior=True, **skip
            )
            rollout = model.rollout(frames, condition, N_PAST, teacher_forced=forced)
            close(rollout.frames, expected)
            close(rollout.posterior.mean, torch.stack([mu for mu, _ in posteriors], 1))
            close(rollout.posterior.log_variance, torch.stack([s for _, s in posteriors], 1))
            if priors:
                close(rollout.prior.mean, torch.stack([mu for mu, _ in priors], 1))
                close(rollout.prior.log_variance, torch.stack([s for _, s in priors], 1))
        predictions = []
        for epsilon in (noise, noise * 0):
            expected, _, _ = reference.run(
                frames, condition, epsilon, forced=False, from_posterior=False, **skip
            )
            sample = bool(epsilon.any())
            made = model.predict(frames[:, :N_PAST], condition, HORIZON, sample=sample)
            close(made, expected[:, N_PAST - 1 :])
            predictions.append(made)
    # z must matter, or everything above would be easy.
    difference = (predictions[0] - predictions[1]).abs().amax(dim=(0, 2, 3, 4))
    assert (difference > 1e-3).all()


@pytest.mark.parametrize("order", ["hcz", "chz", "hzc", "zch"])
def test_any_order_of_the_predictor_s_inputs(order: str, monkeypatch) -> None:
    """Weights made for another order have the same shapes, and would load without a word."""
    config, condition_size = CASES["course, dcgan64"]
    reference, model = make(config, condition_size)
    reference.order = order
    load_reference(model, reference.states(), order=order)
    frames, condition, noise = draws(condition_size)
    monkeypatch.setattr(model, "_noise", lambda *_, **__: noise)
    expected, _, _ = reference.run(
        frames, condition, noise, forced=False, from_posterior=False, skips_until=N_PAST
    )
    with torch.no_grad():
        made = model.predict(frames[:, :N_PAST], condition, HORIZON)
    torch.testing.assert_close(made, expected[:, N_PAST - 1 :], atol=1e-5, rtol=0)


def test_an_order_that_is_none_is_refused(states) -> None:
    with pytest.raises(RunError, match="order is 'hc'; expected h, c and z"):
        load_reference(VideoCVAE(*SMALL), states, order="hc")


SMALL = CASES["svg, fixed prior, dcgan64"]


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    return Reference(*SMALL).states()


def test_a_missing_or_needless_part_is_named(states: dict) -> None:
    model = VideoCVAE(*SMALL)
    fewer = {name: state for name, state in states.items() if name != "posterior"}
    with pytest.raises(RunError, match="parts are decoder, encoder, frame_predictor; exp"):
        load_reference(model, fewer)
    with pytest.raises(RunError, match="fixed expects none"):
        load_reference(model, {**states, "prior": states["posterior"]})


def test_missing_and_needless_tensors_are_named_and_nothing_is_taken(states: dict) -> None:
    model = VideoCVAE(*SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    encoder = {n: value for n, value in states["encoder"].items() if n != "c2.main.0.weight"}
    with pytest.raises(RunError, match=r"encoder\.c2\.main\.0\.weight is missing"):
        load_reference(model, {**states, "encoder": encoder})
    encoder = {**states["encoder"], "c6.weight": torch.zeros(1)}
    with pytest.raises(RunError, match=r"encoder\.c6\.weight is not in this model"):
        load_reference(model, {**states, "encoder": encoder})
    posterior = {**states["posterior"], "embed.weight": torch.zeros(HIDDEN, G + 1)}
    with pytest.raises(
        RunError, match=r"posterior\.embed\.weight has shape \(24, 17\).*\(24, 16\)"
    ):
        load_reference(model, {**states, "posterior": posterior})
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "group"},
        {"align": True},
        {"latent_levels": 2},
        {"predictor": "convlstm"},
        {"predictor_norm": "group"},
        {"observation": "learned"},
        {"output": "flow"},
        {"output": "cdna"},
        {"normalise_condition": True},
    ],
    ids=lambda change: "=".join(map(str, *change.items())),
)
def test_a_model_without_counterpart_is_refused(change: dict, states: dict) -> None:
    """Never half loaded in silence, the rest left random."""
    model = VideoCVAE(dataclasses.replace(SMALL[0], **change), 0)
    before = model.posterior.mean.weight.clone()
    with pytest.raises(RunError, match=r"differ in|is not in this model|is missing|has shape"):
        load_reference(model, states)
    assert torch.equal(model.posterior.mean.weight, before)


def test_names_with_a_wrapper_s_prefix_are_taken(states: dict) -> None:
    """DataParallel puts `module.` before each name."""
    plain, wrapped = VideoCVAE(*SMALL), VideoCVAE(*SMALL)
    load_reference(plain, states)
    load_reference(
        wrapped,
        {part: {f"module.{n}": v for n, v in state.items()} for part, state in states.items()},
    )
    for name, value in plain.state_dict().items():
        assert torch.equal(value, wrapped.state_dict()[name]), name
