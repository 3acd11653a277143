"""The latent's use in figures, and the warnings about a training in words."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from labkit.config import ModelConfig
from labkit.data.dataset import Batch
from labkit.model import Gaussian, Rollout, VideoCVAE, kl_divergence
from labkit.training import EpochRow
from labkit.training.callbacks import Advice
from labkit.training.events import EpochEnd
from labkit.training.latent_use import LatentUse, latent_use
from labkit.training.validation import examine

B, S, Z = 5, 3, 4


def gaussian(mean: Tensor, deviation: float = 1.0) -> Gaussian:
    return Gaussian(mean, torch.full_like(mean, 2 * math.log(deviation)))


def rows(norms: list[float | None], updates: int = 200) -> list[EpochRow]:
    return [
        EpochRow(
            epoch=i + 1,
            updates=updates,
            loss=1.0,
            reconstruction=0.01,
            kl=2.0,
            validation_psnr=20.0,
            kl_weight=1.0,
            teacher_forcing_ratio=1.0,
            learning_rate=1e-3,
            gradient_norm=norm,
            **OLD,
        )
        for i, norm in enumerate(norms)
    ]


OLD = {"seconds": 1.0} if "seconds" in {f.name for f in dataclasses.fields(EpochRow)} else {}


def test_kl_and_active_units_by_hand() -> None:
    """Unit 0 follows the data: means -1 and 1, variance 1, KL 1/2. Unit 1 is always at 2: KL 2,
    but it says nothing of the data. Unit 2 is the prior; unit 3 moves by +-0.09: variance
    0.0081, which is not above 0.01."""
    mean = torch.zeros(2, S, Z)
    mean[0, :, 0], mean[1, :, 0] = -1, 1
    mean[:, :, 1] = 2
    mean[0, :, 3], mean[1, :, 3] = -0.09, 0.09
    use = latent_use(gaussian(mean), gaussian(torch.zeros_like(mean)), 1.5)
    torch.testing.assert_close(use.kl, torch.tensor([[0.5, 2.0, 0.0, 0.00405]] * S))
    torch.testing.assert_close(use.variance, torch.tensor([1.0, 0.0, 0.0, 0.0081]))
    torch.testing.assert_close(use.kl_per_step, torch.full((S,), 2.50405))
    assert use.active_units == 1
    assert not use.collapsed


def test_a_unit_that_follows_a_learned_prior_is_not_active() -> None:
    torch.manual_seed(0)
    mean = torch.randn(B, S, Z)
    assert latent_use(gaussian(mean), gaussian(torch.zeros_like(mean)), 0.0).active_units == Z
    assert latent_use(gaussian(mean), gaussian(mean), 0.0).active_units == 0


def test_its_sum_is_the_kl_of_the_objective() -> None:
    torch.manual_seed(0)
    q, p = Gaussian(*torch.randn(2, B, S, Z)), Gaussian(*torch.randn(2, B, S, Z))
    torch.testing.assert_close(latent_use(q, p, 0.0).kl_per_step, kl_divergence(q, p).mean(dim=0))


def use(nats: float, gain: float, active: int = 1) -> LatentUse:
    variance = torch.where(torch.arange(Z) < active, 0.5, 0.001)
    return LatentUse(torch.full((S, Z), nats / Z), variance, gain)


@pytest.mark.parametrize(
    ("nats", "gain", "active", "collapsed"),
    [
        (0.05, 0.01, 1, True),
        (0.05, -0.2, 1, True),
        (0.05, 0.5, 1, False),
        (0.5, 0.01, 1, False),
        (4.0, 0.01, 0, True),  # nats that are the same for every clip
        (4.0, 0.5, 0, False),
    ],
)
def test_collapsed_is_no_gain_and_no_information(nats, gain, active, collapsed) -> None:
    assert use(nats, gain, active).collapsed == collapsed


def advise(epochs: list[EpochEnd]) -> list[str]:
    said: list[str] = []
    advice = Advice(said.append)
    for epoch_end in epochs:
        advice.on_epoch(epoch_end)
    advice.close()
    return said


def test_a_collapse_is_reported_once_in_words_and_with_what_to_try() -> None:
    epoch_ends = [EpochEnd(rows([1.0]), 20.0, use(0.02, 0.0, 0))] * 9
    (words,) = advise(epoch_ends)
    for part in ("collapsed", "KL 0.020", "0 of 4", "+0.00 dB", "--kl.hybrid"):
        assert part in words
    assert not advise(epoch_ends[:2])


def test_a_collapse_is_not_reported_of_the_start_or_of_one_bad_epoch() -> None:
    early = EpochEnd(rows([1.0], updates=99), 20.0, use(0.02, 0.0))
    bad, good = (EpochEnd(rows([1.0]), 20.0, use(nats, 0.0)) for nats in (0.02, 5.0))
    unvalidated = EpochEnd(rows([1.0]), 20.0)
    assert not advise([early] * 9)
    assert not advise([bad, bad, good, bad, bad])
    assert len(advise([bad, unvalidated, bad, unvalidated, bad])) == 1


def test_exploding_gradients_are_reported_once_with_what_to_try() -> None:
    calm, wild = [1.0, 2.0, 1.0, 1.5], [1.0, 2.0, 1.0, 40.0]
    assert not advise([EpochEnd(rows(calm), 20.0)])
    (words,) = advise([EpochEnd(rows(wild), 20.0)] * 3)
    for part in ("40", "--training.gradient-clip 1", "--training.learning-rate"):
        assert part in words
    assert not advise([EpochEnd(rows([None, None, None, 40.0]), 20.0)])
    assert not advise([EpochEnd(rows([1.0, 40.0]), 20.0)])  # too early to say what is usual


def with_shares(shares: list[dict[str, float] | None], updates: int = 200) -> list[EpochEnd]:
    """One epoch for each entry; None is an epoch without a validation."""
    history = [
        dataclasses.replace(row, **{f"{name}_share": share for name, share in (each or {}).items()})
        for row, each in zip(rows([None] * len(shares), updates), shares, strict=True)
    ]
    return [EpochEnd(history[: i + 1], 20.0) for i in range(len(history))]


def test_a_source_that_is_not_in_use_is_reported_once_with_what_to_try() -> None:
    unused = {"table": 0.99, "arm": 0.001, "fresh": 0.0}
    said = advise(with_shares([unused, None, unused, None, unused, unused]))
    assert len(said) == 1
    assert "`arm` 0.10%" in said[0]
    assert "fresh" not in said[0]
    assert "--teacher-forcing.start 0" in said[0]


def test_a_source_is_not_reported_of_the_start_or_of_two_validations() -> None:
    used, unused = {"table": 0.9, "arm": 0.1}, {"table": 1.0, "arm": 0.0}
    assert not advise(with_shares([unused] * 5, updates=90))
    assert not advise(with_shares([unused, unused, used, unused, unused, None]))


@pytest.fixture(scope="module")
def model() -> VideoCVAE:
    torch.manual_seed(0)
    config = ModelConfig(
        width=4, norm="group", encoding_size=8, latent_size=Z, hidden_size=8, predictor_norm="none"
    )
    return VideoCVAE(config, 7).eval()


def some_batch() -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(B, 2 + S, 3, 64, 64), torch.randn(B, 2 + S, 7))


def test_examining_a_model(model) -> None:
    batch = some_batch()
    before = torch.get_rng_state()
    found, examples, shares = examine(model, batch, 2, seed=3, examples=2)
    assert torch.equal(before, torch.get_rng_state())  # the training's own draws are untouched
    assert found.kl.shape == (1 + S, Z)
    assert found.kl.min() >= 0
    assert examples.truth.shape == examples.prediction.shape == (2, 2 + S, 3, 64, 64)
    assert (examples.truth[:, :2] == examples.prediction[:, :2]).all()  # the context
    assert (examples.truth[:, 2:] != examples.prediction[:, 2:]).any()
    again, _, same_shares = examine(model, batch, 2, seed=3, examples=2)
    assert same_shares == shares
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(found.kl, again.kl)
    assert found.posterior_gain == again.posterior_gain


class Fixed(VideoCVAE):
    """Off by 0.1 where it predicts, by 0.01 where it has seen the target: 20 and 40 dB."""

    def predict(self, context, condition, horizon, **_):
        return torch.full((len(context), horizon, 3, 64, 64), 0.6)

    def rollout(self, frames, condition, n_past, **_):
        made = torch.full_like(frames[:, 1:], 0.51)
        made[:, : n_past - 1] = 0.0  # a frame of the context, which does not count
        mean = torch.zeros(len(frames), made.shape[1], Z)
        return Rollout(made, gaussian(mean), gaussian(mean))


def test_the_gain_by_hand(model) -> None:
    batch = some_batch()
    batch = Batch(torch.full_like(batch.frames, 0.5), batch.condition)
    found, examples, _ = examine(Fixed(model.config, 7), batch, 2, seed=0, examples=1)
    assert found.posterior_gain == pytest.approx(20.0, abs=1e-3)
    assert found.active_units == 0
    assert examples.prediction[0, :, 0, 0, 0].tolist() == [128, 128, 153, 153, 153]


def test_an_arm_that_pushes_nothing_gets_advice_of_its_own() -> None:
    """Its gate has a loss of its own, so it can still open; and another source is named as well."""
    still = {"table": 0.8, "arm": 0.2, "pushed": 0.0001}
    said = advise(with_shares([still] * 4))
    assert len(said) == 1
    assert "`pushed` is 0.01% of the predicted frames" in said[0]
    assert "--training.growing-windows" in said[0]
    assert "--init-from" in said[0]
    assert "cannot come into use" not in said[0]
    both = {"table": 1.0, "arm": 0.0, "pushed": 0.0}
    said = advise(with_shares([still] * 3 + [both] * 3))
    assert len(said) == 2
    assert "`arm` 0.00% of the frame" in said[1]
    assert "pushed" not in said[1]
