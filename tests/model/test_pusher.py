"""The pusher: parts of the table that move along with the arm."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from labkit.config import ModelConfig, SceneConfig
from labkit.data.dataset import Batch
from labkit.model import VideoCVAE
from labkit.model.pusher import SHADE, STAY, PushCandidates
from labkit.model.scene import SceneOutput
from labkit.presets import SMOKE
from labkit.training.loss_step import growing_horizon, shorter_windows
from labkit.training.objective import push_error
from tests.model.shaken import two_clips

SMALL = {"width": 4, "encoding_size": 8, "latent_size": 1, "hidden_size": 8, "map_size": 4}
N_PAST, HORIZON, COLUMNS = 2, 3, 7


def pushing(**choice) -> VideoCVAE:
    torch.manual_seed(0)
    settings = {"norm": "group", "predictor_norm": "none", "places": True, **SMALL, **choice}
    scene = SceneConfig(pusher=True, pusher_width=4)
    model = VideoCVAE(ModelConfig(output="scene", scene=scene, **settings), COLUMNS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        model.output.pusher.out.bias[2] = 0.0
        for gaussian in (model.posterior.mean, model.posterior.log_variance):
            nn.init.zeros_(gaussian.weight)
            nn.init.zeros_(gaussian.bias)
    return model.eval()


def clips(n_frames: int) -> tuple[Tensor, Tensor]:
    frames, _ = two_clips(n_frames, 64)
    condition = torch.randn(2, n_frames, COLUMNS, generator=torch.Generator().manual_seed(3))
    return frames, condition


@pytest.mark.parametrize("where", ["previous", "target"])
@pytest.mark.parametrize("n_past", [1, 2, 3])
def test_the_three_rollouts_push_alike(where, n_past) -> None:
    model = pushing(condition_at=where)
    frames, condition = clips(n_past + HORIZON)
    noise = torch.zeros(2, n_past + HORIZON - 1, 1)
    with torch.no_grad():
        rolled = model.rollout(frames, condition, n_past, teacher_forced=False, noise=noise)
        made = model.predict(frames[:, :n_past], condition, HORIZON, sample=False)
        many = model.predict(frames[:, :n_past], condition, HORIZON, sample=False, samples=2)
        state = model.begin(frames[:, :n_past], condition[:, :n_past], sample=False)
        steps = []
        for t in range(HORIZON):
            row = condition[:, n_past + t - (where == "previous")]
            frame, state = model.step(state, row, sample=False)
            steps.append(frame)
    near = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(rolled.frames[:, n_past - 1 :], made, **near)
    torch.testing.assert_close(torch.stack(steps, dim=1), made, **near)
    torch.testing.assert_close(many[:, 1], made, **near)


def test_what_was_pushed_stays_pushed_whatever_frames_are_fed() -> None:
    """The table depends on the conditions and the last context frame alone."""
    model = pushing()
    frames, condition = clips(N_PAST + HORIZON)
    tables: dict[bool, list[Tensor]] = {True: [], False: []}
    for forced in tables:

        def push(*inputs, plain=model.output.push, seen=tables[forced]):
            made = plain(*inputs)
            seen.extend(made[0].unflatten(0, (2, -1)).unbind(1))
            return made

        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(model.output, "push", push)
            model.rollout(frames, condition, N_PAST, teacher_forced=forced)
    assert len(tables[True]) == len(tables[False]) == N_PAST + HORIZON - 1
    for forced, free in zip(tables[True], tables[False], strict=True):
        torch.testing.assert_close(forced, free)
    displaced = [each[:, -2:].abs().amax() for each in tables[True]]
    assert displaced[0] < 2.5  # nobody knows where the arm was before: only the correction
    assert all(each > 0.1 for each in displaced[1:])


def output_that_shifts(pixels: float) -> SceneOutput:
    """One whose arm is shifted to the right by so many pixels by 1 in the first column, whose gate
    is open everywhere near it, and which corrects nothing."""
    model = pushing()
    output = model.output
    with torch.no_grad():
        arm, pusher = output.arm, output.pusher
        for layer in (arm.linear, arm.place, pusher.out):
            for parameter in layer.parameters():
                parameter.zero_()
        arm.picture[:, 3] = 10.0  # an arm everywhere, so that everything is near it
        middles = torch.zeros(2, COLUMNS)
        middles[0, 0] = pixels / 31.5
        arm.follow(middles)
        pusher.out.bias[2] = 20.0
    return output


def test_the_arms_own_displacement_moves_the_table_step_by_step() -> None:
    output = output_that_shifts(2.0)
    frame = torch.rand(1, 3, 64, 64)
    table = torch.rand(1, 3, 64, 64)
    reference = torch.cat([frame, table, torch.zeros(1, 1, 64, 64), table, 0 * table[:, :2]], 1)
    rows = [torch.zeros(1, COLUMNS) for _ in range(3)]
    rows[1][0, 0], rows[2][0, 0] = 1.0, 2.5  # 2 pixels to the right, then 3 more
    with torch.no_grad():
        for before, row, shift in ((rows[0], rows[1], 2), (rows[1], rows[2], 5)):
            reference, candidates = output.push(reference, row, before)
            pushed = reference[:, 3:6]
            torch.testing.assert_close(
                pushed[..., 8:], table[..., 8 - shift : 64 - shift], atol=2e-3, rtol=0
            )
            assert (candidates.seen == 0).all()
        still, _ = output.push(reference, rows[2], rows[2])  # the arm rests
    torch.testing.assert_close(still[:, 3:6], reference[:, 3:6], atol=2e-3, rtol=0)


def test_nothing_moves_far_from_the_arm() -> None:
    """However open the gate is: an arm that is seen in the left half alone moves nothing that is
    more than 8 pixels to the right of it."""
    output = output_that_shifts(2.0)
    table = torch.rand(1, 3, 64, 64)
    reference = torch.cat([table, table, 0 * table[:, :1], table, 0 * table[:, :2]], dim=1)
    row = torch.eye(COLUMNS)[:1]
    with torch.no_grad():
        output.arm.picture[:, 3, :, 24:] = -10.0
        pushed = output.push(reference, row, torch.zeros_like(row))[0][:, 3:6]
    torch.testing.assert_close(pushed[..., 44:], table[..., 44:], atol=1e-3, rtol=0)
    torch.testing.assert_close(pushed[..., 8:16], table[..., 6:14], atol=2e-3, rtol=0)


def test_a_rotated_or_scaled_arm_moves_its_points_by_different_amounts() -> None:
    """The displacement is where the same point of the picture was before."""
    output = output_that_shifts(0.0)
    with torch.no_grad():
        output.arm.linear.weight[0, 1] = 0.04  # column 1 makes it narrower
        arm = output.arm.motion(
            torch.zeros(1, COLUMNS), torch.eye(COLUMNS)[1:2], torch.zeros(1, 9), 64
        )
        p_before = output.arm.grid(
            torch.zeros(1, COLUMNS), output.arm.hidden(torch.zeros(1, COLUMNS)), 64
        )
    x = torch.linspace(-1, 1, 64)
    moved = x + arm.displacement[0, 0, 0] / 31.5
    expected = arm.coordinates[0, 0, 0]
    torch.testing.assert_close(0.9 * moved, expected, atol=1e-5, rtol=0)
    assert arm.displacement[0, 1].abs().max() < 1e-5
    assert p_before.shape == (1, 64, 64, 2)


RED, BLUE = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])


def pixel(colour: Tensor) -> Tensor:
    """A frame of one pixel."""
    return colour.view(1, 1, 3, 1, 1)


def candidates(gate: Tensor, seen: Tensor | None = None) -> PushCandidates:
    """Of frames of one pixel: it stays red or moves and becomes blue."""
    seen = torch.ones_like(gate) if seen is None else seen
    return PushCandidates(pixel(RED), pixel(BLUE), gate, seen)


def slope(candidates: PushCandidates, targets: Tensor) -> Tensor:
    """Gradient of the loss at each pixel's gate: below 0 where it is taught to open."""
    gate = candidates.gate.requires_grad_()
    return torch.autograd.grad(candidates.loss(targets), gate)[0]


@pytest.mark.parametrize(("share", "sign"), [(1.0, -1), (0.0, 1), (0.5, 1)])
def test_the_gate_learns_which_candidate_is_better(share, sign) -> None:
    """Open where moving is better, shut where staying is, and shut where both are alike. The
    gradient of a gate that is nearly shut does not vanish."""
    target = pixel((1 - share) * RED + share * BLUE)
    gradient = slope(candidates(torch.full((1, 1, 1, 1, 1), 0.01)), target).item()
    assert math.copysign(1, gradient) == sign

    def error(own: float) -> float:  # of a colour that the target has this much of
        return (min(max(own, 1 / SHADE), SHADE) - own) ** 2 + (1 - own) ** 2

    gain = error(1 - share) - error(share)
    expected = -gain / 0.01 if gain > 0 else (STAY - gain) / 0.99
    assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_shadow_that_comes_is_no_reason_to_move() -> None:
    """The arm's shadow falls on the ground: what moves with the arm is darker, and so is right."""
    ground = torch.tensor([0.6, 0.5, 0.4])
    gate = torch.full((1, 1, 1, 1, 1), 0.3)
    for light, opens in ((0.85, False), (1.2, False), (0.4, True)):
        shadow = pixel(light * ground)
        candidates = PushCandidates(pixel(ground), shadow, gate.clone(), torch.ones_like(gate))
        assert (slope(candidates, shadow).item() < -1e-6) == opens


def test_the_middle_of_an_object_moves_with_its_edges() -> None:
    """The middle looks the same whether it moves or not."""
    still, moved = (pixel(RED).expand(1, 1, 3, 5, 5).clone() for _ in range(2))
    moved[..., 1, :] = BLUE[:, None]
    gate = torch.full((1, 1, 1, 5, 5), 0.3)
    found = slope(PushCandidates(still, moved, gate, torch.ones_like(gate)), moved.clone()).sign()
    assert found[0, 0, 0, :, 2].tolist() == [-1, -1, -1, 1, 1]


def test_where_the_arm_hides_the_table_the_gate_is_taught_to_stay_shut() -> None:
    gate = torch.full((1, 1, 1, 1, 1), 0.5, requires_grad=True)
    hidden = candidates(gate, torch.zeros(1, 1, 1, 1, 1))
    (gradient,) = torch.autograd.grad(hidden.loss(torch.ones(1, 1, 3, 1, 1)), gate)
    assert gradient.item() == pytest.approx(STAY / 0.5)


def test_only_steps_from_true_frames_teach_the_gate() -> None:
    """And not the first, before which nobody knows where the arm was."""
    model = pushing().train()
    frames, condition = clips(N_PAST + HORIZON)
    rollout = model.rollout(frames, condition, N_PAST, teacher_forced=False)
    targets = frames[:, 1:]
    assert rollout.push.gate.shape[:2] == (2, N_PAST)
    second = PushCandidates(*(each[:, 1:2] for each in vars(rollout.push).values()))
    expected = second.loss(targets[:, 1:2]) / (N_PAST + HORIZON - 1)
    torch.testing.assert_close(push_error(rollout.push, targets), expected)
    alone = model.rollout(frames, condition, 1, teacher_forced=False)
    assert push_error(alone.push, targets) == 0


def test_no_pusher_without_positions_or_without_an_arm() -> None:
    for columns, scene in ((4, SceneConfig(pusher=True)), (7, SceneConfig(pusher=True, arm=False))):
        model = VideoCVAE(ModelConfig(output="scene", scene=scene, **SMALL), columns)
        assert model.output.pusher is None
        assert not model.output.carries


@pytest.mark.parametrize(
    ("growing", "horizons"),
    [(0.0, [10] * 8), (0.5, [1, 1, 1, 2, 10, 10, 10, 10]), (1.0, [1, 1, 1, 1, 1, 1, 2, 4])],
)
def test_windows_grow_over_the_training(growing, horizons) -> None:
    training = dataclasses.replace(
        SMOKE.training, epochs=2, updates_per_epoch=4, growing_windows=growing
    )
    config = dataclasses.replace(SMOKE, training=training)
    assert [growing_horizon(config, update) for update in range(8)] == horizons


def test_a_horizon_never_exceeds_that_of_the_data() -> None:
    training = dataclasses.replace(SMOKE.training, growing_windows=1.0)
    data = dataclasses.replace(SMOKE.data, n_future=3)
    config = dataclasses.replace(SMOKE, training=training, data=data)
    last = training.epochs * training.updates_per_epoch - 1
    assert growing_horizon(config, last) == 3


def test_shorter_windows_keep_frames_and_conditions_together() -> None:
    frames = torch.arange(2 * 12).view(2, 12, 1, 1, 1).expand(2, 12, 3, 1, 1).float()
    batch = Batch(frames, torch.arange(2 * 12).view(2, 12, 1).float())
    firsts = set()
    for seed in range(40):
        cut = shorter_windows(batch, 5, seed)
        assert cut.frames.shape == (4, 5, 3, 1, 1)
        assert torch.equal(cut.frames[:, :, 0, 0, 0], cut.condition[:, :, 0])
        first = int(cut.condition[0, 0, 0])
        starts = torch.tensor([first, first + 5, first + 12, first + 17])
        assert torch.equal(cut.condition[:, 0, 0], starts.float())
        assert torch.equal(cut.condition[:, :, 0].diff(dim=1), torch.ones(4, 4))
        firsts.add(first)
    assert firsts == {0, 1, 2}


def test_the_share_of_what_was_pushed_is_a_source_of_its_own() -> None:
    """By more than half a pixel; the shares still sum to 1."""
    output = output_that_shifts(2.0)
    with torch.no_grad():
        output.arm.picture[:, 3] = -10.0  # an arm that hides nothing
        maps = torch.zeros(1, output.in_channels, 32, 32)
        reference = torch.zeros(1, 12, 64, 64)
        reference[:, -2, :16] = 0.4
        reference[:, -1, 16:32] = 0.6
        _, weights = output.compose(
            maps, torch.zeros(1, 8), reference[:, :3], reference, torch.zeros(1, 2 * COLUMNS)
        )
    rows = weights["pushed"][0, 0].mean(dim=1) > 0.5
    assert torch.equal(rows, torch.arange(64).ge(16) & torch.arange(64).lt(32))
    torch.testing.assert_close(sum(weights.values()), torch.ones(1, 1, 64, 64))
