"""The share of each source in predicted frames."""

from __future__ import annotations

import pytest
import torch

from labkit.config import ModelConfig
from labkit.evaluation.sources import (
    SOURCES,
    UNUSED,
    predicted_sources,
    source_shares,
    unused_sources,
)
from labkit.model import VideoCVAE

HORIZON = 3
SMALL = {"width": 4, "encoding_size": 8, "latent_size": 3, "hidden_size": 8, "map_size": 4}
SOURCES_OF = {
    "sigmoid": ["fresh"],
    "flow": ["previous", "context", "fresh"],
    "cdna": ["previous", "context", "fresh"],
    "layer": ["previous", "context", "layer", "fresh"],
    "scene": ["table", "arm", "fresh"],
}


@pytest.mark.parametrize("output", SOURCES_OF)
def test_the_weights_of_all_sources_sum_to_one(output) -> None:
    torch.manual_seed(0)
    model = VideoCVAE(ModelConfig(output=output, norm="group", **SMALL), 7).eval()
    frames, condition = torch.rand(2, 2, 3, 64, 64), torch.randn(2, 2 + HORIZON, 7)
    made, weights = predicted_sources(
        model, frames, condition, HORIZON, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        plain = model.predict(
            frames, condition, HORIZON, generator=torch.Generator().manual_seed(1)
        )
    assert torch.equal(made, plain)
    assert not model.output._forward_hooks
    assert list(weights) == SOURCES_OF[output]
    assert set(weights) <= set(SOURCES)
    torch.testing.assert_close(sum(weights.values()), torch.ones(2, HORIZON, 1, 64, 64))


def test_the_weights_are_those_that_compose_the_frame() -> None:
    """Table and arm alone, black and white: the frame is the weight of the arm."""
    torch.manual_seed(0)
    model = VideoCVAE(ModelConfig(output="scene", norm="group", **SMALL), 7).eval()
    with torch.no_grad():
        for part in (model.decoder.enlarged, model.output.table.out):
            part.weight.zero_()
            part.bias.zero_()
        model.output.arm.picture[:, :3] = 10.0  # white
        model.decoder.enlarged.bias[1:] = -50.0  # black and not shown
        frames = torch.zeros(1, 2, 3, 64, 64)
        model.output.table.out.bias[3:] = -50.0  # black ground
        made, weights = predicted_sources(model, frames, torch.randn(1, 5, 7), HORIZON)
    assert weights["fresh"].max() < 1e-6
    torch.testing.assert_close(made[:, :, :1], weights["arm"], atol=1e-3, rtol=0)


def test_shares_by_hand() -> None:
    arm = torch.zeros(1, 1, 1, 4, 4)
    arm[..., :2] = 0.5
    weights = {"arm": arm, "table": 1 - arm}
    assert source_shares(weights) == {"frame": {"arm": 0.25, "table": 0.75}}
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    labels[..., 0] = 1
    shares = source_shares(weights, labels)
    assert set(shares) == {"frame", "rest", "arm"}  # nothing moved
    assert shares["arm"] == {"arm": 0.5, "table": 0.5}
    assert shares["rest"]["arm"] == pytest.approx(0.5 * 4 / 12)


def test_what_is_not_in_use() -> None:
    shares = {"table": 1 - 1.5 * UNUSED, "arm": 0.9 * UNUSED, "layer": UNUSED, "fresh": 0.0}
    assert unused_sources(shares) == ["arm"]
