"""What the rollouts compute and what they do not: samples, steps, states, calls, teacher forcing,
and the frame whose features the decoder sees."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from shaken import shaken, two_clips
from torch import Tensor

from labkit.config import ModelConfig
from labkit.model import VideoCVAE
from labkit.model.backbones import Join
from labkit.model.layers import FiLM
from labkit.model.output import Aligner

SIDE, N_PAST, HORIZON = 32, 2, 3
N_FRAMES = N_PAST + HORIZON
PLAIN = ModelConfig(
    frame_size=SIDE,
    width=4,
    encoding_size=8,
    latent_size=3,
    hidden_size=8,
    map_size=4,
    norm="group",
    predictor_norm="group",
)
VARIANTS = {
    "plain": PLAIN,
    "full": dataclasses.replace(
        PLAIN,
        prior="learned",
        latent_levels=3,
        skip="previous",
        align=True,
        conditioning="film",
        posterior_condition=True,
        output="flow",
    ),
    "maps": dataclasses.replace(
        PLAIN,
        backbone="vgg64",
        predictor="convlstm",
        prior="learned",
        conditioning="conv",
        output="cdna",
        condition_at="target",
    ),
    "layer": dataclasses.replace(PLAIN, predictor="convlstm", skip="previous", output="layer"),
}


@pytest.fixture
def clips() -> tuple[Tensor, Tensor]:
    return two_clips(N_FRAMES, SIDE)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def give_noise(model: VideoCVAE, monkeypatch: pytest.MonkeyPatch, *rolls: Tensor) -> None:
    """Hands out this noise, one piece a call, in place of random numbers."""
    left = list(rolls)
    monkeypatch.setattr(model, "_noise", lambda *_, **__: left.pop(0))


# ------------------------------------------------------------------------ samples and steps


@pytest.mark.parametrize("name", VARIANTS)
def test_samples_of_a_batch_are_single_predictions(name, clips, monkeypatch) -> None:
    model, (frames, condition) = shaken(VARIANTS[name]), clips
    context = frames[:, :N_PAST]
    noise = torch.randn(2, 3, N_FRAMES - 1, sum(model.latent_sizes), generator=seeded())
    give_noise(model, monkeypatch, noise.flatten(0, 1), *noise.unbind(1))
    many = model.predict(context, condition, HORIZON, samples=3)
    assert many.shape == (2, 3, HORIZON, 3, SIDE, SIDE)
    for number in range(3):
        single = model.predict(context, condition, HORIZON)
        torch.testing.assert_close(many[:, number], single, atol=1e-5, rtol=1e-4)
    assert (many[:, 0] - many[:, 1]).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-4


def test_samples_differ_by_their_draws_alone(clips) -> None:
    model, (frames, condition) = shaken(VARIANTS["full"]), clips
    context = frames[:, :N_PAST]
    drawn = model.predict(context, condition, HORIZON, samples=3, generator=seeded())
    again = model.predict(context, condition, HORIZON, samples=3, generator=seeded())
    assert torch.equal(drawn, again)
    assert not torch.allclose(drawn[:, 0], drawn[:, 1])
    means = model.predict(context, condition, HORIZON, samples=3, sample=False)
    torch.testing.assert_close(means[:, 0], means[:, 2])
    torch.testing.assert_close(
        means[:, 0], model.predict(context, condition, HORIZON, sample=False), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("n_past", [1, 2, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_steps_make_what_predict_makes(name, n_past, clips, monkeypatch) -> None:
    model, (frames, condition) = shaken(VARIANTS[name]), clips
    horizon, first = N_FRAMES - n_past, 1 if model.config.condition_at == "target" else 0
    noise = torch.randn(2, N_FRAMES - 1, sum(model.latent_sizes), generator=seeded())
    pieces = noise.split((n_past - 1, *[1] * horizon), dim=1)
    give_noise(model, monkeypatch, noise, *pieces)
    expected = model.predict(frames[:, :n_past], condition, horizon)
    state = model.begin(frames[:, :n_past], condition)
    for t in range(horizon):
        frame, state = model.step(state, condition[:, n_past - 1 + t + first])
        assert torch.equal(frame, expected[:, t])


def flat(state: object) -> list[Tensor]:
    """Every tensor of a state, copied."""
    if isinstance(state, Tensor):
        return [state.clone()]
    if dataclasses.is_dataclass(state):
        return flat(list(vars(state).values()))
    return [each for part in state for each in flat(part)] if state is not None else []


@pytest.mark.parametrize("name", VARIANTS)
def test_a_state_stays_and_futures_go_out_from_it(name, clips) -> None:
    model, (frames, condition) = shaken(VARIANTS[name]), clips
    state = model.begin(frames[:, :N_PAST], condition, sample=False)
    _, state = model.step(state, condition[:, 1], sample=False)
    before = flat(state)
    one, _ = model.step(state, condition[:, 2], sample=False)
    other, _ = model.step(state, condition[:, 2] + 1, sample=False)
    again, _ = model.step(state, condition[:, 2], sample=False)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)
    assert all(torch.equal(a, b) for a, b in zip(before, flat(state), strict=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_two_rollouts_interleaved_are_as_apart(name, clips) -> None:
    model, (frames, condition) = shaken(VARIANTS[name]), clips

    def begin(clip: int):
        context = frames[clip : clip + 1, :N_PAST]
        return model.begin(context, condition[clip : clip + 1], sample=False)

    def step(state, clip: int, t: int):
        return model.step(state, condition[clip : clip + 1, t], sample=False)

    apart = []
    for clip in (0, 1):
        state = begin(clip)
        for t in range(1, 4):
            frame, state = step(state, clip, t)
            apart.append(frame)
    states, together = [begin(0), begin(1)], {}
    for t in range(1, 4):
        for clip in (1, 0):
            together[clip, t], states[clip] = step(states[clip], clip, t)
    for (clip, t), frame in together.items():
        assert torch.equal(frame, apart[3 * clip + t - 1])


# ---------------------------------------------------------------------------------- calls


@pytest.fixture
def calls(monkeypatch) -> Counter:
    """Counts, once it has been given a model, the calls and pictures of encoder and decoder."""
    return Counter()


def count(model: VideoCVAE, calls: Counter) -> None:
    def note(name: str):
        def hook(_, inputs, __) -> None:
            calls[name] += 1
            calls[f"{name}, pictures"] += len(inputs[0])

        return hook

    model.encoder.register_forward_hook(note("encoder"))
    model.decoder.register_forward_hook(note("decoder"))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_teacher_forced_rollout_is_one_call_of_each(name, clips, calls) -> None:
    model = shaken(VARIANTS[name]).train()
    count(model, calls)
    model.rollout(*clips, N_PAST, teacher_forced=True)
    assert calls == {
        "encoder": 1,
        "encoder, pictures": 2 * N_FRAMES,
        "decoder": 1,
        "decoder, pictures": 2 * (N_FRAMES - 1),
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_a_free_rollout_encodes_each_predicted_frame_once(name, clips, calls) -> None:
    model = shaken(VARIANTS[name]).train()
    count(model, calls)
    model.rollout(*clips, N_PAST, teacher_forced=False)
    # The steps of the context in one call; then one a step.
    assert calls["encoder, pictures"] == 2 * (N_FRAMES + HORIZON - 1)
    assert calls["encoder"] == 1 + HORIZON - 1
    assert calls["decoder, pictures"] == 2 * (N_FRAMES - 1)
    assert calls["decoder"] == 1 + HORIZON - 1


@pytest.mark.parametrize("samples", [None, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_predict_decodes_nothing_within_the_context(name, samples, clips, calls) -> None:
    model, (frames, condition) = shaken(VARIANTS[name]), clips
    count(model, calls)
    model.predict(frames[:, :3], condition, 2, samples=samples)
    rows = 2 * (samples or 1)
    assert calls["decoder"] == 2
    assert calls["decoder, pictures"] == 2 * rows
    # The context once a clip, whatever the samples; then every prediction but the last.
    assert calls["encoder, pictures"] == 2 * 3 + rows


@pytest.mark.parametrize("backbone", ["dcgan64", "vgg64"])
@pytest.mark.parametrize("call", ["forced", "free", "predict"])
def test_skip_features_are_convolved_once_a_rollout(backbone, call, clips, monkeypatch) -> None:
    model = shaken(dataclasses.replace(PLAIN, backbone=backbone))
    frames, condition = clips
    seen: list[tuple[int, ...]] = []
    plain = Join.skip
    monkeypatch.setattr(Join, "skip", lambda self, x: (seen.append(x.shape), plain(self, x))[1])
    if call == "predict":
        model.predict(frames[:, :N_PAST], condition, HORIZON, samples=3)
    else:
        model.rollout(frames, condition, N_PAST, teacher_forced=call == "forced")
    assert len(seen) == len(model.decoder.joins) == 4
    context_frames = 1 if call == "predict" else N_PAST
    assert {shape[0] for shape in seen} == {2 * context_frames}


# ------------------------------------------------------------------- which frame is fed back


def flags(*rows: str) -> Tensor:
    """One row a clip, one letter a step: T is fed the true frame, f the predicted one."""
    return torch.tensor([[letter == "T" for letter in row] for row in rows])


@pytest.mark.parametrize("name", VARIANTS)
def test_a_clip_of_a_mixed_batch_is_as_in_a_pure_one(name, clips) -> None:
    model = shaken(VARIANTS[name])

    def roll(forced: bool | Tensor) -> Tensor:
        return model.rollout(*clips, N_PAST, teacher_forced=forced, generator=seeded()).frames

    forced, free, mixed = roll(True), roll(False), roll(flags("TTTT", "ffff"))
    torch.testing.assert_close(mixed[0], forced[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mixed[1], free[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mixed[1], forced[1], atol=1e-4)
    assert torch.equal(roll(flags("ffff", "ffff")), free)


def test_a_step_flag_feeds_the_true_frame_at_that_step_alone(clips, monkeypatch) -> None:
    model, (frames, condition) = shaken(VARIANTS["full"]), clips
    fed = []
    plain = model.output.forward
    monkeypatch.setattr(
        model.output, "forward", lambda *a: (fed.append(a[2].unflatten(0, (2, -1))), plain(*a))[1]
    )
    made = model.rollout(frames, condition, N_PAST, teacher_forced=flags("TTfT", "TTTf")).frames
    fed = torch.cat(fed, dim=1)
    for clip, row in enumerate(("TTfT", "TTTf")):
        for t, letter in enumerate(row):
            expected = frames[clip, t] if letter == "T" else made[clip, t - 1]
            assert torch.equal(fed[clip, t], expected), (clip, t)


# --------------------------------------------------------------- which features are joined


def seen_by_decoder(
    model: VideoCVAE, frames: Tensor, condition: Tensor, monkeypatch, **how: object
) -> tuple[list[int | str], Tensor]:
    """Which frame's features each step of a rollout was given: its number, or "own" for those of
    a prediction just fed back."""
    finest = []
    plain = model.decoder.forward

    def decode(g, skips, *rest):
        finest.append(skips.at(0))
        return plain(g, skips, *rest)

    monkeypatch.setattr(model.decoder, "forward", decode)
    n_past = how.pop("n_past", 3)
    made = model.rollout(frames, condition, n_past, **how).frames
    monkeypatch.setattr(model.decoder, "forward", plain)

    def prepared(pictures: Tensor) -> Tensor:
        maps = [
            each.unflatten(0, pictures.shape[:2])
            for each in model.encoder(pictures.flatten(0, 1))[1]
        ]
        return model.decoder.prepare(maps)[0]

    of_frames, of_made = prepared(frames), prepared(made)
    found: list[int | str] = []
    for t, given in enumerate(torch.cat(finest, dim=1).unbind(1)):
        close = [
            n for n, m in enumerate(of_frames.unbind(1)) if torch.allclose(given, m, atol=1e-5)
        ]
        if t and torch.allclose(given, of_made[:, t - 1], atol=1e-5):
            close.append("own")
        assert len(close) == 1, (t, close)
        found += close
    return found, made


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(
    ("skip", "forced", "free"),
    [
        ("last_context", [0, 1, 2, 2, 2, 2], [0, 1, 2, 2, 2, 2]),
        ("first", [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
        ("previous", [0, 1, 2, 3, 4, 5], [0, 1, 2, "own", "own", "own"]),
        ("svg", [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]),
        ("random_context", [0, 1, 2, 2, 2, 2], [0, 1, 2, 2, 2, 2]),
    ],
)
def test_which_features_the_decoder_sees(skip, forced, free, align, monkeypatch) -> None:
    model = shaken(dataclasses.replace(PLAIN, skip=skip, align=align))
    frames, condition = torch.rand(1, 7, 3, SIDE, SIDE, generator=seeded()), torch.zeros(1, 7, 4)
    found, _ = seen_by_decoder(model, frames, condition, monkeypatch, teacher_forced=True)
    assert found == forced
    found, _ = seen_by_decoder(model, frames, condition, monkeypatch, teacher_forced=False)
    assert found == free


def test_a_random_context_frame_is_drawn_for_each_training_rollout(monkeypatch) -> None:
    model = shaken(dataclasses.replace(PLAIN, skip="random_context")).train()
    frames, condition = torch.rand(1, 6, 3, SIDE, SIDE, generator=seeded()), torch.zeros(1, 6, 4)
    drawn = set()
    for seed in range(8):
        how = {"teacher_forced": True}
        found, _ = seen_by_decoder(
            model, frames, condition, monkeypatch, generator=seeded(seed), **how
        )
        again, _ = seen_by_decoder(
            model, frames, condition, monkeypatch, generator=seeded(seed), **how
        )
        assert found == again
        # Never a frame that comes after the one that is fed.
        assert found == [min(t, found[-1]) for t in range(5)]
        drawn.add(found[-1])
    assert drawn == {0, 1, 2}
    context = frames[:, :3]
    made = model.predict(context, condition, 2, sample=False)  # no training rollout: nothing drawn
    torch.testing.assert_close(made, model.eval().predict(context, condition, 2, sample=False))


def test_an_aligner_begins_as_a_plain_skip_and_then_moves() -> None:
    aligner, x, skip = Aligner(3), torch.rand(1, 3, 8, 8), torch.rand(1, 5, 8, 8)
    torch.testing.assert_close(aligner(x, skip), skip)
    aligner.flow.bias[0] = 1.0  # read one pixel further right
    torch.testing.assert_close(aligner(x, skip)[..., :-1], skip[..., 1:])


def test_an_aligned_model_begins_as_one_without(clips) -> None:
    torch.manual_seed(0)
    aligned = VideoCVAE(dataclasses.replace(PLAIN, align=True), 4).eval()
    plain = VideoCVAE(PLAIN, 4).eval()
    plain.load_state_dict(aligned.state_dict(), strict=False)
    one, two = (
        model.rollout(*clips, N_PAST, teacher_forced=False, generator=seeded()).frames
        for model in (aligned, plain)
    )
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_condition_reaches_the_decoder_where_it_should(clips) -> None:
    """With the condition cut off from the predictor, it still acts by FiLM and by conv."""
    frames, condition = clips
    for conditioning, acts in (("input", False), ("film", True), ("conv", True)):
        model = shaken(dataclasses.replace(PLAIN, conditioning=conditioning))
        model.predictor.embed.weight[:, 8:12] = 0
        assert any(isinstance(m, FiLM) for m in model.modules()) == (conditioning == "film")
        one, two = (
            model.predict(frames[:, :N_PAST], c, 1, sample=False) for c in (condition, -condition)
        )
        assert torch.equal(one, two) != acts
