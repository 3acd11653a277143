"""A layer cut from the last context frame and moved by the condition."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from labkit.model import VideoCVAE
from labkit.model.output import LayerOutput
from labkit.presets import SMOKE
from tests.model.shaken import two_clips

SIDE, C = 16, 3
MOVED, KEPT, FRESH, LAYER = range(4)


def layer_output(*, change: Tensor | None = None) -> LayerOutput:
    """An output whose layer is shifted by `change`, (2, C), times the change of the condition."""
    torch.manual_seed(0)
    output = LayerOutput(5, C, (2, 4))
    with torch.no_grad():
        if change is not None:
            output.direct.weight[2:, C:] = change
    return output


def choosing(source: int) -> Tensor:
    """Decoder's maps that want one source everywhere, with no flow and black fresh pixels."""
    maps = torch.zeros(2, LayerOutput.in_channels, SIDE, SIDE)
    maps[:, :3] = -100.0
    maps[:, 5 + source] = 100.0
    return maps


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def with_mask(frames: Tensor, logit: float) -> Tensor:
    return torch.cat([frames, torch.full_like(frames[:, :1], logit)], dim=1)


def test_a_reference_frame_is_the_frame_and_one_logit_a_pixel(frames) -> None:
    output = layer_output()
    maps = [torch.rand(2, 2, SIDE // 2, SIDE // 2), torch.rand(2, 4, SIDE // 4, SIDE // 4)]
    prepared = output.prepare_reference(frames, maps)
    assert prepared.shape == (2, 4, SIDE, SIDE)
    assert torch.equal(prepared[:, :3], frames)
    coarse = output.prepare_reference(frames, [maps[0], maps[1] + 1])
    assert not torch.allclose(coarse[:, 3], prepared[:, 3])  # every map matters
    other = output.prepare_reference(1 - frames, maps)
    assert not torch.allclose(other[:, 3], prepared[:, 3])  # and the frame


def test_at_first_the_layer_lies_where_it_was_cut(frames) -> None:
    conditioning = torch.randn(2, 2 * C)
    made = layer_output()(
        choosing(LAYER), torch.randn(2, 5), frames, with_mask(frames, 0.0), conditioning
    )
    torch.testing.assert_close(made, frames, atol=1e-5, rtol=0)


def test_it_is_shifted_by_what_has_changed_in_the_condition(frames) -> None:
    # Shifts are in frames; between the outer pixels' centres there are SIDE - 1 pixels.
    change = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]) / (SIDE - 1)
    conditioning = torch.zeros(2, 2 * C)
    conditioning[0, C:] = torch.tensor(
        [3.0, -2.0, 7.0]
    )  # read 3 columns to the right, 2 rows higher
    previous = torch.zeros_like(frames)
    output = layer_output(change=change)
    made = output(
        choosing(LAYER), torch.randn(2, 5), previous, with_mask(frames, 0.0), conditioning
    )
    torch.testing.assert_close(made[0, :, 2:, :-3], frames[0, :, :-2, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(made[1], frames[1], atol=1e-5, rtol=0)


def test_the_mask_moves_with_the_layer_and_leaves_where_it_was(frames) -> None:
    """With no wish of the decoder's, it shows the layer where the mask has come to, and the last
    context frame is not shown where it was cut out."""
    reference = with_mask(frames, 0.0)
    reference[:, 3, :, 2:6] = 50.0
    change = torch.tensor([[-8.0, 0, 0], [0, 0, 0]]) / (SIDE - 1)  # 8 columns to the right
    conditioning = torch.zeros(2, 2 * C)
    conditioning[:, C] = 1.0
    white = torch.ones_like(frames)
    maps = choosing(LAYER)
    maps[:, :3] = 100.0  # fresh pixels: white, as the previous frame
    maps[:, 5:] = torch.tensor([0.0, 0, 0, -20])[:, None, None]
    made = layer_output(change=change)(maps, torch.zeros(2, 5), white, reference, conditioning)
    torch.testing.assert_close(made[..., 10:14], frames[..., 2:6], atol=1e-5, rtol=0)
    torch.testing.assert_close(made[..., 2:6], white[..., 2:6])
    third = (2 * white + frames) / 3  # the context frame beside two white sources
    torch.testing.assert_close(made[..., 6:10], third[..., 6:10], atol=1e-5, rtol=0)


def test_nothing_leaves_the_range(frames) -> None:
    output = layer_output()
    for part in (output.to_pose, output.direct):
        nn.init.normal_(part.weight)
    maps = 5 * torch.randn(2, LayerOutput.in_channels, SIDE, SIDE)
    made = output(maps, torch.randn(2, 5), frames.round(), with_mask(frames.round(), 3.0))
    assert made.min() >= -1e-6
    assert made.max() <= 1 + 1e-6


def test_with_no_condition_g_alone_moves_it(frames) -> None:
    output = LayerOutput(5, 0, (2, 4))
    nn.init.normal_(output.to_pose.weight)
    reference, conditioning = with_mask(frames, 0.0), torch.zeros(2, 0)
    one, other = (output.warp_layer(reference, g, conditioning) for g in torch.randn(2, 2, 5))
    assert not torch.allclose(one, other)


def moves(action: Tensor) -> Tensor:
    """dx and dy alone."""
    return torch.cat([action[..., :2], torch.zeros_like(action[..., 2:])], dim=-1)


def expected_change(condition: Tensor, reference: int, target: int, used: int) -> Tensor:
    """From x_reference to x_target, for a step that reads c_used (`ConditionInputs.change`)."""
    if condition.shape[-1] == 7:
        return condition[:, used] - condition[:, reference]
    came = moves(condition[:, reference:target]).sum(dim=1)
    return came + condition[:, used] - moves(condition[:, used])


@pytest.mark.parametrize("columns", [7, 4])
@pytest.mark.parametrize("where", ["previous", "target"])
@pytest.mark.parametrize("n_past", [1, 3])
def test_change_is_counted_from_the_last_context_frame(columns, where, n_past, monkeypatch) -> None:
    torch.manual_seed(0)
    model = VideoCVAE(dataclasses.replace(SMOKE.model, condition_at=where), columns).eval()
    frames, _ = two_clips(n_past + 3, SMOKE.model.frame_size)
    # Numbers of their own scale and mean, of which an action of zero is no move all the same.
    condition = 3 * torch.randn(2, n_past + 3, columns) + 1
    mean, std = condition.mean(dim=(0, 1)), condition.std(dim=(0, 1))
    model.set_condition_statistics(mean, std)
    seen: list[Tensor] = []

    def output(maps, g, previous, reference, conditioning, plain=model.output.forward):
        seen.append(conditioning.unflatten(0, (2, -1)))
        return plain(maps, g, previous, reference, conditioning)

    monkeypatch.setattr(model.output, "forward", output)
    scaled, expected = (condition - mean) / std, []
    for target in range(1, n_past + 3):
        used, reference = target - (where == "previous"), min(target, n_past) - 1
        change = expected_change(condition, reference, target, used) / std
        if columns == 4:  # gripper and lift are no distances, and as they are
            change[:, 2:] = scaled[:, used, 2:]
        expected.append(torch.cat([scaled[:, used], change], dim=-1))
    expected = torch.stack(expected, dim=1)
    with torch.no_grad():
        model.predict(frames[:, :n_past], condition, 3)
        torch.testing.assert_close(torch.cat(seen, dim=1), expected[:, n_past - 1 :])
        seen.clear()
        state = model.begin(frames[:, :n_past], condition[:, :n_past])
        for t in range(n_past, n_past + 3):
            _, state = model.step(state, condition[:, t - (where == "previous")])
        torch.testing.assert_close(torch.cat(seen, dim=1), expected[:, n_past - 1 :])
        for forced in (True, False):
            seen.clear()
            model.rollout(frames, condition, n_past, teacher_forced=forced)
            torch.testing.assert_close(torch.cat(seen, dim=1), expected)


def test_a_layer_is_scaled_and_sheared_about_the_middle() -> None:
    output = layer_output()
    ramp = torch.linspace(-1, 1, SIDE)
    reference = torch.zeros(1, 4, SIDE, SIDE)
    reference[:, 0], reference[:, 1] = ramp, ramp[:, None]  # each pixel says where it lies: x, y
    conditioning = torch.zeros(1, 2 * C)
    conditioning[0, C], conditioning[0, C + 1] = -0.4, 0.2
    with torch.no_grad():
        output.direct.weight[0, C] = output.direct.weight[1, C + 1] = 1.0
        made = output.warp_layer(reference, torch.zeros(1, 5), conditioning)
    x, y = ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)
    torch.testing.assert_close(made[0, 0], 0.8 * x + 0.1 * y, atol=1e-5, rtol=0)
    torch.testing.assert_close(made[0, 1], 0.8 * y, atol=1e-5, rtol=0)
