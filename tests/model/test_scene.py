"""Output `scene`: a table composed once per clip, a learned arm, light and fresh pixels."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from labkit.config import ModelConfig, SceneConfig
from labkit.model import VideoCVAE
from labkit.model.scene import ArmPicture, Table, moments
from labkit.training.objective import negative_elbo
from tests.model.shaken import two_clips

SMALL = {"width": 4, "encoding_size": 8, "latent_size": 3, "hidden_size": 8, "map_size": 4}
N_PAST, HORIZON = 2, 3


def scene(condition_size: int = 7, parts: dict | None = None, **choice) -> VideoCVAE:
    torch.manual_seed(0)
    settings = {"norm": "group", "predictor_norm": "none", "places": True, **SMALL, **choice}
    config = ModelConfig(output="scene", scene=SceneConfig(**(parts or {})), **settings)
    return VideoCVAE(config, condition_size)


def shaken(model: VideoCVAE) -> VideoCVAE:
    """The same in which nothing is zero any more."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def clips(side: int, columns: int, n_frames: int = N_PAST + HORIZON) -> tuple[Tensor, Tensor]:
    frames, _ = two_clips(n_frames, side)
    return frames, torch.randn(2, n_frames, columns, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("columns", [7, 4, 0])
@pytest.mark.parametrize("backbone", ["dcgan64", "vgg64"])
@pytest.mark.parametrize("predictor", ["lstm", "convlstm"])
@pytest.mark.parametrize("where", ["previous", "target"])
def test_step_by_step_is_predict(columns, backbone, predictor, where) -> None:
    model = shaken(scene(columns, backbone=backbone, predictor=predictor, condition_at=where))
    frames, condition = clips(64, columns)
    with torch.no_grad():
        whole = model.predict(frames[:, :N_PAST], condition, HORIZON, sample=False)
        state = model.begin(frames[:, :N_PAST], condition[:, :N_PAST], sample=False)
        for t in range(HORIZON):
            row = condition[:, N_PAST + t - (where == "previous")]
            frame, state = model.step(state, row, sample=False)
            torch.testing.assert_close(frame, whole[:, t], atol=1e-5, rtol=1e-5)
    assert whole.shape == (2, HORIZON, 3, 64, 64)
    assert whole.min() >= 0
    assert whole.max() <= 1


@pytest.mark.parametrize("columns", [7, 4, 0])
@pytest.mark.parametrize("n_past", [1, 2, 3])
def test_a_free_rollout_is_a_prediction(columns, n_past) -> None:
    """With z = 0 the training rollout ends in the frames that `predict` makes."""
    model = shaken(scene(columns, latent_size=1))
    for gaussian in (model.posterior.mean, model.posterior.log_variance):
        nn.init.zeros_(gaussian.weight)
        nn.init.zeros_(gaussian.bias)
    frames, condition = clips(64, columns, n_past + HORIZON)
    noise = torch.zeros(2, n_past + HORIZON - 1, 1)
    with torch.no_grad():
        rolled = model.rollout(frames, condition, n_past, teacher_forced=False, noise=noise)
        made = model.predict(frames[:, :n_past], condition, HORIZON, sample=False)
    torch.testing.assert_close(rolled.frames[:, n_past - 1 :], made, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [32, 48, 64, 96, 128])
@pytest.mark.parametrize("backbone", ["dcgan64", "vgg64"])
def test_every_frame_size(side, backbone) -> None:
    frames, condition = clips(side, 4, 3)
    with torch.no_grad():
        made = scene(4, backbone=backbone, frame_size=side).predict(frames[:, :2], condition, 1)
    assert made.shape == (2, 1, 3, side, side)


PARTS = [
    {},
    {"arm": False},
    {"pictures": 1},
    {"bend": False},
    {"arm_light": False},
    {"arm_light": False, "pictures": 1},
    {"first_frame": False},
    {"ground": False},
    {"first_frame": False, "ground": False},
    {"table_light": False},
    {"pusher": True},
]


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("columns", [7, 4, 0])
def test_every_choice_learns_and_reaches_every_weight(parts, columns) -> None:
    """Zero weights stop gradients above them at first, not for good: within a few updates a
    gradient that is not zero has reached every weight."""
    model = scene(columns, parts, places=bool(columns))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    frames, condition = clips(64, columns)
    moved = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for _ in range(4):
        rollout = model.rollout(frames, condition, N_PAST, teacher_forced=False)
        optimizer.zero_grad()
        negative_elbo(rollout, frames[:, 1:], 0.01).loss.backward()
        for name, value in model.named_parameters():
            assert value.grad is not None, name
            assert value.grad.isfinite().all(), name
            moved[name] += value.grad.abs()
        optimizer.step()
    assert not [name for name, total in moved.items() if not total.any()]


def test_nothing_is_read_from_a_predicted_frame() -> None:
    """With decoder and arm silent, every frame is the same table, however far the horizon."""
    model = scene(7, {"arm": False})
    for last in (model.decoder.enlarged, model.decoder.to_output.conv):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    frames, condition = clips(64, 7)
    with torch.no_grad():
        made = model.eval().predict(frames[:, :N_PAST], condition, HORIZON)
    torch.testing.assert_close(made[:, 0], made[:, -1])


def test_the_arm_goes_where_the_condition_says() -> None:
    """A picture with one opaque square; the placement linear in the first two columns."""
    arm = ArmPicture(2, 32, 1, bend=True, light=False)
    with torch.no_grad():
        arm.picture.fill_(-1.0)
        arm.picture[:, 3, 28:36, 14:18] = 1.0
        arm.linear.weight[2, 0] = arm.linear.weight[5, 1] = 1.0
        known = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.0, -0.1]])
        _, alpha = arm(known, torch.zeros(3, 9), 32)
    _, x, y = moments(alpha)[:, :3].unbind(1)
    # x_0 = PLACE_RATE * 0.2 more is read: the arm stands that much further left.
    assert x[1] - x[0] == pytest.approx(-0.5, abs=0.02)
    assert y[2] - y[0] == pytest.approx(0.25, abs=0.02)
    assert x[2] - x[0] == pytest.approx(0.0, abs=0.02)


def test_moments_of_a_rectangle() -> None:
    mask = torch.zeros(1, 1, 41, 41)
    mask[..., 20:31, 10:21] = 1.0
    area, x, y, var_x, var_y, both = moments(mask)[0].tolist()
    assert area == pytest.approx(121 / 41**2)
    assert (x, y) == (pytest.approx(-0.25, abs=1e-4), pytest.approx(0.25, abs=1e-4))
    assert var_x == pytest.approx(var_y, abs=1e-4) == pytest.approx(0.025, abs=1e-3)
    assert both == pytest.approx(0.0, abs=1e-4)


def test_the_table_looks_behind_what_hides_it() -> None:
    table = Table(first=True, ground=True, width=4)
    frames, first = torch.full((1, 3, 32, 32), 0.25), torch.full((1, 3, 32, 32), 0.75)
    with torch.no_grad():
        for hidden, in_first, expected in ((-50, 0, 0.25), (50, -50, 0.75), (50, 50, 0.5)):
            table.out.weight.zero_()
            table.out.bias.copy_(torch.tensor([hidden, in_first, 0.0, 0, 0, 0]))
            made, share = table(frames, first)
            torch.testing.assert_close(made, torch.full_like(made, expected), atol=1e-4, rtol=0)
            assert share.mean() == pytest.approx(float(hidden > 0), abs=1e-4)


@pytest.mark.parametrize("where", ["previous", "target"])
def test_actions_alone_are_summed_and_compared(where, monkeypatch) -> None:
    """Of every column the sum from the last context frame to the target, and the difference."""
    model = scene(4, condition_at=where, normalise_condition=True).eval()
    frames, condition = clips(64, 4)
    mean, std = torch.full((4,), 0.5), torch.full((4,), 2.0)
    model.set_condition_statistics(mean, std)
    seen: list[Tensor] = []

    def compose(maps, g, previous, reference, conditioning, plain=model.output.compose):
        seen.append(conditioning)
        return plain(maps, g, previous, reference, conditioning)

    monkeypatch.setattr(model.output, "compose", compose)
    with torch.no_grad():
        model.predict(frames[:, :N_PAST], condition, HORIZON)
    for number, conditioning in enumerate(seen):
        target = N_PAST + number
        used, total, difference = conditioning.split(4, dim=1)
        row = condition[:, target - (where == "previous")]
        torch.testing.assert_close(used, (row - mean) / std)
        expected = 0.3 * condition[:, N_PAST - 1 : target].sum(1) / std
        torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(difference, (row - condition[:, N_PAST - 1]) / std)


def test_many_samples_of_a_clip() -> None:
    n = 3
    model = shaken(scene(0, places=False))
    frames, condition = clips(64, 0)
    with torch.no_grad():
        made = model.predict(frames[:, :N_PAST], condition, HORIZON, samples=n)
    assert made.shape == (2, n, HORIZON, 3, 64, 64)
    assert not torch.allclose(made[:, 0], made[:, 1])


def test_both_gaussians_start_at_the_given_variance() -> None:
    config = dataclasses.replace(
        scene().config,
        prior="learned",
        posterior_log_variance_start=-6.0,
        prior_log_variance_start=-2.0,
    )
    model = VideoCVAE(config, 7)
    assert (model.posterior.log_variance.bias == -6).all()
    assert (model.prior.log_variance.bias == -2).all()


@pytest.mark.parametrize("output", ["sigmoid", "flow", "cdna", "layer", "scene"])
def test_weights_of_the_sources_sum_to_one(output, monkeypatch) -> None:
    if output == "scene":
        model = shaken(scene(7))
    else:
        torch.manual_seed(0)
        model = shaken(VideoCVAE(ModelConfig(output=output, **SMALL), 7))
    frames, condition = clips(64, 7)
    seen = []

    def compose(*inputs, plain=model.output.compose):
        made, weights = plain(*inputs)
        seen.append(weights)
        return made, weights

    monkeypatch.setattr(model.output, "compose", compose)
    with torch.no_grad():
        model.predict(frames[:, :N_PAST], condition, HORIZON)
    assert len(seen) == HORIZON
    for weights in seen:
        torch.testing.assert_close(sum(weights.values()), torch.ones(2, 1, 64, 64))
