"""Encoders, decoders and recurrent parts have the shapes and sizes of the reference."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from labkit.model.backbones import Block, Decoder, Encoder
from labkit.model.recurrent import FramePredictor, GaussianLSTM
from labkit.presets import COURSE, SMOKE


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_course_preset_has_the_reference_number_of_parameters() -> None:
    model = COURSE.model
    assert count(Encoder(model)) == 8_689_600
    assert count(Decoder(model, out_channels=3, film_size=0)) == 11_822_659
    assert count(FramePredictor(128 + 7 + 64, 128, 256, 2, norm=True)) == 1_137_024
    assert count(GaussianLSTM(128, 64, 256, 1)) == 592_256


@pytest.mark.parametrize(("preset", "sides"), [(SMOKE, [32, 16, 8, 4]), (COURSE, [64, 32, 16, 8])])
def test_encoder_shapes(preset, sides) -> None:
    h, skips = Encoder(preset.model)(torch.rand(2, 3, 64, 64))
    assert h.shape == (2, preset.model.encoding_size)
    assert h.abs().max() <= 1
    assert [skip.shape[-1] for skip in skips] == sides


def test_film_starts_as_the_identity_and_then_scales_and_shifts() -> None:
    block = Block(nn.Conv2d(3, 4, 1), 4, "group", film_size=2)
    plain = Block(nn.Conv2d(3, 4, 1), 4, "group")
    plain.load_state_dict(block.state_dict(), strict=False)
    x, cue = torch.rand(2, 3, 8, 8), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(block(x, cue), plain(x))
    with torch.no_grad():
        block.film.bias[4:] = 5.0  # beta of every channel
    assert (block(x, cue) - plain(x)).min() > 0


def test_recurrent_state_carries_a_sequence_on() -> None:
    """Two calls of three steps are one call of six."""
    lstm = GaussianLSTM(5, 3, 8, 2)
    x = torch.rand(2, 6, 5)
    whole, _ = lstm(x)
    first, state = lstm(x[:, :3])
    second, _ = lstm(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first.mean, second.mean], dim=1), whole.mean)
