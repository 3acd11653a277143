"""The three rollouts: shapes, what is fed back, and what they may not see."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

from labkit.config import ModelConfig
from labkit.model import VideoCVAE
from labkit.model.layers import FiLM
from labkit.presets import PRESETS, SMOKE
from labkit.training.objective import negative_elbo

N_PAST, HORIZON = 2, 4
TINY = SMOKE.model
REFERENCE = dataclasses.replace(
    TINY,
    skip="last_context",
    conditioning="input",
    posterior_condition=False,
    output="sigmoid",
    norm="batch",
    predictor_norm="batch",
    normalise_condition=False,
)
VARIANTS = {
    "demo": TINY,
    "reference": REFERENCE,
    "target condition": dataclasses.replace(TINY, condition_at="target"),
    "vgg64": dataclasses.replace(REFERENCE, backbone="vgg64"),
    "flow, skips of the context": dataclasses.replace(TINY, output="flow", skip="last_context"),
}


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def make(config: ModelConfig, condition_size: int = 7) -> VideoCVAE:
    torch.manual_seed(0)
    return VideoCVAE(config, condition_size).eval()


@pytest.fixture
def clips() -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.rand(2, N_PAST + HORIZON, 3, 64, 64, generator=seeded(1))
    return frames, torch.randn(2, N_PAST + HORIZON, 7, generator=seeded(2))


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes_and_range(name, clips) -> None:
    frames, condition = clips
    model = make(VARIANTS[name])
    with torch.no_grad():
        for forced in (True, False):
            rollout = model.rollout(frames, condition, N_PAST, teacher_forced=forced)
            assert rollout.frames.shape == (2, 5, 3, 64, 64)
            assert rollout.posterior.mean.shape == (2, 5, TINY.latent_size)
        predicted = model.predict(frames[:, :N_PAST], condition, HORIZON)
    assert predicted.shape == (2, HORIZON, 3, 64, 64)
    assert predicted.min() >= 0
    assert predicted.max() <= 1


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_trained(name) -> None:
    """Gradients reach every weight, after a free-running rollout."""
    torch.manual_seed(0)
    config = PRESETS[name]
    narrow = dataclasses.replace(config.model, width=min(config.model.width, 16))
    model = VideoCVAE(narrow, config.data.condition_size)
    frames, condition = torch.rand(2, 4, 3, 64, 64), torch.randn(2, 4, model.condition_size)
    rollout = model.rollout(frames, condition, N_PAST, teacher_forced=False, generator=seeded())
    negative_elbo(rollout, frames[:, 1:], 1.0).loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", VARIANTS)
def test_free_running_equals_teacher_forced_while_the_context_lasts(name, clips) -> None:
    frames, condition = clips
    model = make(VARIANTS[name])
    with torch.no_grad():
        forced, free = (
            model.rollout(frames, condition, N_PAST, teacher_forced=mode, generator=seeded())
            for mode in (True, False)
        )
    torch.testing.assert_close(forced.frames[:, :N_PAST], free.frames[:, :N_PAST])
    assert not torch.equal(forced.frames[:, N_PAST:], free.frames[:, N_PAST:])
    torch.testing.assert_close(forced.posterior.mean, free.posterior.mean)


@pytest.mark.parametrize("name", VARIANTS)
def test_teacher_forcing_feeds_the_true_previous_frame_and_no_other(name, clips) -> None:
    """With z fixed to a constant, x^_t forced depends on x_{t-1} (and those before), not on x_t."""
    frames, condition = clips
    model = make(VARIANTS[name])
    with torch.no_grad():
        for part in (model.posterior.mean, model.posterior.log_variance):
            part.weight.zero_()
            part.bias.zero_()
        before = model.rollout(frames, condition, N_PAST, teacher_forced=True, generator=seeded())
        changed = frames.clone()
        changed[:, 3] = 1 - changed[:, 3]
        after = model.rollout(changed, condition, N_PAST, teacher_forced=True, generator=seeded())
    same = (before.frames - after.frames).flatten(2).abs().amax(dim=(0, 2)) == 0
    assert same.tolist() == [True, True, True, False, False]  # x^_1, x^_2, x^_3 | x^_4, x^_5


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("skip", ["last_context", "previous"])
def test_which_frames_the_decoder_is_given(skip, forced, clips, monkeypatch) -> None:
    """Of the context, the last frame known before the target; else the frame just fed back."""
    frames, condition = clips
    model = make(dataclasses.replace(TINY, skip=skip))
    fed, references, finest = [], [], []

    def output(maps, g, previous, reference, conditioning, plain=model.output.forward):
        fed.append(previous.unflatten(0, (2, -1)))
        references.append(reference.unflatten(0, (2, -1)))
        return plain(maps, g, previous, reference, conditioning)

    def decode(g, skips, embedding, levels, conditioning, plain=model.decoder.forward):
        finest.append(skips.at(0))
        return plain(g, skips, embedding, levels, conditioning)

    monkeypatch.setattr(model.output, "forward", output)
    monkeypatch.setattr(model.decoder, "forward", decode)
    with torch.no_grad():
        made = model.rollout(frames, condition, N_PAST, teacher_forced=forced, generator=seeded())
        expected_fed = (
            frames[:, :5] if forced else torch.cat([frames[:, :2], made.frames[:, 1:4]], 1)
        )
        expected_references = frames[:, [0, 1, 1, 1, 1]]
        source = expected_fed if skip == "previous" else expected_references
        maps = [each.unflatten(0, (2, -1)) for each in model.encoder(source.flatten(0, 1))[1]]
        features = model.decoder.prepare(maps)[0]
        alone = expected_references.flatten(0, 1)  # each frame by itself
        expected_references = model.output.prepare_reference(
            alone, model.encoder(alone)[1]
        ).unflatten(0, (2, -1))
    assert torch.equal(torch.cat(fed, dim=1), expected_fed)
    torch.testing.assert_close(torch.cat(references, dim=1), expected_references)
    torch.testing.assert_close(torch.cat(finest, dim=1), features)


def test_the_posterior_is_learned_from_free_running_batches_too(clips) -> None:
    frames, condition = clips
    model, seen = make(TINY), []
    model.posterior.register_forward_hook(lambda *call: seen.append(call[-1][0].mean))
    rollout = model.rollout(frames, condition, N_PAST, teacher_forced=False, generator=seeded())
    gradient = torch.autograd.grad(rollout.frames.sum(), seen[0])[0]
    assert (gradient.abs().amax(dim=(0, 2)) > 0).all()


def test_predict_accepts_no_future_frame(clips) -> None:
    frames, condition = clips
    names = set(inspect.signature(VideoCVAE.predict).parameters)
    given = {"generator", "sample", "samples", "noise"}
    assert names == {"self", "context", "condition", "horizon"} | given
    model = make(TINY)
    context = frames[:, :N_PAST].clone().requires_grad_()
    predicted = model.predict(context, condition, HORIZON, generator=seeded())
    frames[:, N_PAST:] = float("nan")  # what lies behind the slice cannot matter
    again = model.predict(frames[:, :N_PAST], condition, HORIZON, generator=seeded())
    assert torch.equal(predicted, again)
    assert torch.autograd.grad(predicted.sum(), context)[0].abs().sum() > 0


@pytest.mark.parametrize(("where", "read"), [("previous", 4), ("target", 5)])
def test_predict_reads_conditions_only_as_far_as_it_should(where, read, clips) -> None:
    """The last predicted frame is x_5: c_4 leads to it, or c_5 where the target's is used."""
    frames, condition = clips
    model = make(dataclasses.replace(TINY, condition_at=where))
    condition.requires_grad_()
    with torch.no_grad():
        for stage in model.decoder.modules():
            if isinstance(stage, FiLM):
                stage.linear.weight.normal_(generator=seeded())
    predicted = model.predict(frames[:, :N_PAST], condition, HORIZON, generator=seeded())
    gradient = torch.autograd.grad(predicted[:, -1].sum(), condition)[0]
    rows = gradient.abs().amax(dim=(0, 2)) > 0
    assert rows[read]
    assert not rows[read + 1 :].any()


def test_a_predicted_frame_feeds_the_next(clips) -> None:
    """What is decoded at t reaches the encoder at t + 1."""
    frames, condition = clips
    model = make(TINY)
    plain = model.predict(frames[:, :N_PAST], condition, HORIZON, generator=seeded())
    output, calls = model.output.forward, []

    def disturbed(*args: torch.Tensor) -> torch.Tensor:
        calls.append(len(calls))
        made = output(*args)
        return 1 - made if len(calls) == 2 else made  # x^_3 alone is turned to its negative

    model.output.forward = disturbed
    other = model.predict(frames[:, :N_PAST], condition, HORIZON, generator=seeded())
    assert torch.equal(plain[:, 0], other[:, 0])
    assert not torch.allclose(plain[:, 2], other[:, 2])


def test_two_rollouts_can_be_interleaved_and_repeat(clips) -> None:
    frames, condition = clips
    model = make(TINY)
    with torch.no_grad():
        first = model.predict(frames[:1, :N_PAST], condition[:1], HORIZON, sample=False)
        model.predict(frames[1:, :N_PAST], condition[1:], HORIZON, sample=False)
        again = model.predict(frames[:1, :N_PAST], condition[:1], HORIZON, sample=False)
        both = model.predict(frames[:, :N_PAST], condition, HORIZON, sample=False)
    assert torch.equal(first, again)
    torch.testing.assert_close(both[:1], first, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n_past", [1, 3])
def test_other_context_lengths_and_horizons(n_past) -> None:
    model = make(TINY, condition_size=4)
    frames, condition = torch.rand(1, 9, 3, 64, 64), torch.randn(1, 9, 4)
    with torch.no_grad():
        assert model.predict(frames[:, :n_past], condition, 9 - n_past).shape[1] == 9 - n_past
        assert model.reconstruct(frames, condition, n_past).shape[1] == 9 - n_past


def test_condition_statistics_are_applied_and_kept_with_the_weights(clips) -> None:
    frames, condition = clips
    model = make(TINY)
    model.set_condition_statistics(torch.full((7,), 2.0), torch.tensor([4.0] * 6 + [0.0]))
    scaled = model.predict(frames[:, :N_PAST], condition * 4 + 2, HORIZON, sample=False)
    assert model.condition_std[-1] == 1  # a column that never changes keeps its scale
    model.set_condition_statistics(torch.zeros(7), torch.tensor([1.0] * 6 + [0.25]))
    plain = model.predict(
        frames[:, :N_PAST],
        torch.cat([condition[..., :6], condition[..., 6:]], -1),
        HORIZON,
        sample=False,
    )
    torch.testing.assert_close(scaled, plain)
    assert {"condition_mean", "condition_std"} <= set(model.state_dict())
