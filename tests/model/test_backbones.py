"""Encoders, decoders and recurrent parts have the shapes and sizes of the reference."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from labkit.model import VideoCVAE
from labkit.model.backbones import Decoder, Encoder, Skips
from labkit.model.recurrent import ConvLSTMPredictor, GaussianLSTM
from labkit.presets import COURSE, SMOKE


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_course_preset_has_the_reference_number_of_parameters() -> None:
    model = VideoCVAE(COURSE.model, COURSE.data.condition_size)
    parts = (model.encoder, model.decoder, model.predictor, model.posterior)
    assert [count(part) for part in parts] == [8_689_600, 11_822_659, 1_137_024, 592_256]
    assert count(model) == sum(map(count, parts))


@pytest.mark.parametrize(("preset", "sides"), [(SMOKE, [32, 16, 8, 4]), (COURSE, [64, 32, 16, 8])])
def test_encoder_shapes(preset, sides) -> None:
    h, skips = Encoder(preset.model)(torch.rand(2, 3, 64, 64))
    assert h.shape == (2, preset.model.encoding_size)
    assert h.abs().max() <= 1
    assert [skip.shape[-1] for skip in skips] == sides


@pytest.mark.parametrize(
    ("output", "checkered"), [("sigmoid", True), ("flow", False), ("cdna", False), ("layer", False)]
)
def test_the_last_convolution_of_a_composed_output_makes_no_checkerboard(output, checkered) -> None:
    """An even map stays even: what is moved at every step must not bring a pattern of its own."""
    torch.manual_seed(0)
    config = dataclasses.replace(SMOKE.model, output=output)
    decoder = Decoder(config, 8, condition_size=7)
    decoder.stages = nn.ModuleList()  # the last convolution alone is left
    even = torch.ones(1, 2 * config.width, 32, 32)
    share = decoder.joins[-1].skip(even[:, : config.width])
    made = decoder(even[:, config.width :], Skips([share[:, None]], [0]))
    inner = made[..., 4:-4, 4:-4]
    assert (inner.std(dim=(-2, -1)).max() > 1e-3) == checkered


def test_recurrent_state_carries_a_sequence_on() -> None:
    """Two calls of three steps are one call of six."""
    lstm = GaussianLSTM(5, 3, 8, 2)
    x = torch.rand(2, 6, 5)
    whole, _ = lstm(x)
    first, state = lstm(x[:, :3])
    second, _ = lstm(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first.mean, second.mean], dim=1), whole.mean)


def test_convolutional_state_carries_a_sequence_on() -> None:
    predictor = ConvLSTMPredictor(4, 3, 6, hidden=5, layers=2)
    maps, conditioning = torch.rand(2, 6, 4, 4, 4), torch.rand(2, 6, 3)
    whole, last = predictor(maps, conditioning)
    assert whole.shape == (2, 6, 6, 4, 4)
    first, state = predictor(maps[:, :3], conditioning[:, :3])
    second, again = predictor(maps[:, 3:], conditioning[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(again, last)
    fresh, _ = predictor(maps[:, 3:], conditioning[:, 3:])
    assert not torch.allclose(fresh, second)
