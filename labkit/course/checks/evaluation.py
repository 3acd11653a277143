"""The exercises of notebooks 05 and 06: PSNR, and conditions that read no future row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from labkit.course.checks.exercise import SECONDS, Case, Student, as_tensor, check, in_short

CAP = 100.0
"""dB of two equal frames, whose PSNR would be infinite"""
EQUAL = "the PSNR of equal frames is infinite: count it as 100 dB"


def _psnr(prediction: np.ndarray, truth: np.ndarray, averaging: str) -> np.ndarray:
    """PSNR of each frame in dB, by numpy in float64."""
    squared = (prediction.astype(np.float64) - truth.astype(np.float64)) ** 2
    axes = (-3, -2, -1) if averaging == "frame" else (-2, -1)
    error = squared.mean(axis=axes)
    with np.errstate(divide="ignore"):
        values = np.minimum(-10 * np.log10(error), CAP)
    return values if averaging == "frame" else values.mean(axis=-1)


@check
def check_psnr(
    yours: Callable[[Tensor, Tensor, str], Tensor],
    *,
    seed: int | None = None,
    seconds: float = SECONDS,
) -> None:
    """Checks `psnr(prediction, truth, averaging) -> (B, T)` in dB, for frames (B, T, 3, H, W) in
    [0, 1].

        averaging="frame"     one PSNR of each frame, over all pixels and channels
        averaging="channel"   the course's: one PSNR of each channel, then the mean of the three

    Two equal frames (or channels) count as 100 dB.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("psnr", yours, seed=seed, seconds=seconds)
    cases = [
        _psnr_case(student, averaging, equal)
        for equal in (False, False, True)
        for averaging in ("frame", "channel")
    ]
    student.compare(cases, rtol=1e-4, atol=1e-4)
    student.passes("both protocols, and equal frames")


def _pair(student: Student, clips: int, steps: int) -> tuple[Tensor, Tensor]:
    """Truth and a prediction whose error differs by clip, step and channel."""
    draw = student.generator()
    truth = torch.rand(clips, steps, 3, 8, 8, generator=draw)
    size = 0.02 + 0.3 * torch.rand(clips, steps, 3, 1, 1, generator=draw)
    noise = size * torch.randn(clips, steps, 3, 8, 8, generator=draw)
    return (truth + noise).clamp(0, 1), truth


def _psnr_case(student: Student, averaging: str, equal: bool) -> Case:
    clips, steps = (int(number) for number in student.rng.choice([2, 3, 4, 5], 2, replace=False))
    prediction, truth = _pair(student, clips, steps)
    if equal:
        prediction[0, 1] = truth[0, 1]
    x, y = prediction.numpy(), truth.numpy()
    right = _psnr(x, y, averaging)
    other = _psnr(x, y, "channel" if averaging == "frame" else "frame")
    squared = (x.astype(np.float64) - y) ** 2
    uncapped = -10 * np.log10(np.maximum(squared.mean(axis=(-3, -2, -1)), 1e-300))
    mistakes = [
        (f'this is the other protocol; averaging is "{averaging}"', other),
        ("the frames have values in [0, 1]: the largest value is 1, not 255", right + 48.1308036),
        ("10 log10 of the mean squared error, not 20", np.where(right < CAP, 2 * right, CAP)),
        ("the logarithm has base 10", uncapped * np.log(10)),
        ("the sign is wrong: a smaller error is a larger PSNR", -right),
        ("the mean of the error comes before the square", _of_mean_error(x, y)),
    ]
    one = "one number for each frame is asked for: average over pixels and channels alone"
    signs = [
        (one, lambda came: tuple(came.shape) != right.shape),
        (EQUAL, lambda came: not torch.as_tensor(came).isfinite().all()),
        (EQUAL, lambda came: equal and float(torch.as_tensor(came).max()) > CAP),
    ]
    what = f'averaging "{averaging}", (B, T) = ({clips}, {steps})' + (
        ", two frames are equal" if equal else ""
    )
    return Case(what, (prediction, truth, averaging), right, mistakes, signs)


def _of_mean_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -20 * np.log10(np.abs((x - y).astype(np.float64).mean(axis=(-3, -2, -1))) + 1e-300)


@check
def check_test_psnr(
    yours: Callable[[Sequence[tuple[Tensor, Tensor]], str], float],
    *,
    seed: int | None = None,
    seconds: float = SECONDS,
) -> None:
    """Checks `test_psnr(loader, averaging) -> dB`: the mean PSNR of all frames of all clips. The
    loader yields (prediction, truth) batches, each (B, T, 3, H, W) in [0, 1]; the last batch is
    smaller than the others.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("test_psnr", yours, seed=seed, seconds=seconds)
    cases = [
        _loader_case(student, averaging, equal)
        for equal in (False, True)
        for averaging in ("frame", "channel")
    ]
    student.compare(cases, rtol=1e-5, atol=1e-4)
    student.passes("both protocols, an uneven last batch, and equal frames")


def _loader_case(student: Student, averaging: str, equal: bool) -> Case:
    loader = [_pair(student, clips, 4) for clips in (4, 4, 1)]
    if equal:
        loader[1][0][2, 3] = loader[1][1][2, 3]
    arrays = [(x.numpy(), y.numpy()) for x, y in loader]
    each = [_psnr(x, y, averaging) for x, y in arrays]
    right = float(np.concatenate(each).mean())
    other = "channel" if averaging == "frame" else "frame"
    squares = np.concatenate(
        [((x - y).astype(np.float64) ** 2).mean((-3, -2, -1)) for x, y in arrays]
    )
    mistakes = [
        ("the last batch only: collect the values of all batches", float(each[-1].mean())),
        (
            "the mean of the batches' means: the smaller last batch then counts too much",
            float(np.mean([values.mean() for values in each])),
        ),
        (
            "this is the PSNR of the mean error; the mean of the PSNRs is asked for",
            float(-10 * np.log10(squares.mean())),
        ),
        (
            f'this is the other protocol; averaging is "{averaging}"',
            float(np.concatenate([_psnr(x, y, other) for x, y in arrays]).mean()),
        ),
        ("the last batch is left out", float(np.concatenate(each[:-1]).mean())),
        (
            "only the last time step counts here; all 4 do",
            float(np.concatenate(each)[:, -1].mean()),
        ),
    ]
    signs = [(EQUAL, lambda came: not np.isfinite(float(came)))]
    what = f'averaging "{averaging}", batches of 4, 4 and 1 clips' + (
        ", two frames are equal" if equal else ""
    )
    return Case(what, (loader, averaging), right, mistakes, signs)


# ------------------------------------------------------------------------- expected conditions


@check
def check_expected_condition(
    yours: Callable[[Tensor, Tensor], Tensor], *, seed: int | None = None, seconds: float = SECONDS
) -> None:
    """Checks `expected_condition(p_1, actions) -> (N, 7)`: the conditions of N frames from what is
    known at the first of them.

    p_1 (3,) is the measured position at the last context frame, and actions (N, 4) are those from
    this frame on. Row k holds the action of step k and the position expected there: p_1 plus the
    moves (dx, dy) of the actions before step k. The height stays that of p_1.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("expected_condition", yours, seed=seed, seconds=seconds)
    cases = [_plan_case(student) for _ in range(20)]
    student.compare(cases)
    _check_causal(student, cases[0])
    student.passes("20 random plans; no row depends on a later action")


def _plan_case(student: Student) -> Case:
    draw = student.generator()
    steps = int(student.rng.integers(3, 13))
    p_1 = 0.1 * torch.randn(3, generator=draw)
    actions = torch.cat(
        [
            0.066 * (2 * torch.rand(steps, 2, generator=draw) - 1),
            torch.randint(0, 4, (steps, 1), generator=draw).float(),
            torch.randint(0, 2, (steps, 1), generator=draw).float(),
        ],
        dim=1,
    )
    moves = np.zeros((steps, 3))
    moves[:, :2] = actions[:, :2].numpy()
    start = p_1.double().numpy()
    places = [start]
    for move in moves[:-1]:
        places.append(places[-1] + move)

    def rows(positions: np.ndarray) -> np.ndarray:
        return np.concatenate([actions.double().numpy(), np.asarray(positions)], axis=1)

    with_lift = np.concatenate([moves[:, :2], actions[:, 3:].double().numpy()], axis=1)
    right = rows(np.stack(places))
    mistakes = [
        (
            "row k uses its own action: the position at step k comes from the actions before it",
            rows(start + np.cumsum(moves, axis=0)),
        ),
        ("the position never moves: add the actions up", rows(np.tile(start, (steps, 1)))),
        (
            "only the last action is added; add up all actions since p_1",
            rows(np.concatenate([start[None], start + moves[:-1]])),
        ),
        (
            "the height stays that of p_1: how far a lift goes is not known",
            rows(start + np.concatenate([np.zeros((1, 3)), np.cumsum(with_lift, axis=0)[:-1]])),
        ),
        (
            "positions come first here; a row is (action, position)",
            np.concatenate([np.stack(places), actions.double().numpy()], axis=1),
        ),
        ("p_1 is missing", rows(np.stack(places) - start)),
    ]
    elsewhere = (
        "the positions do not start at p_1: a measured position of the clip may have been used"
    )
    signs = [(elsewhere, lambda came: (as_tensor(came)[0, 4:] - p_1).abs().max() > 1e-5)]
    return Case(f"{steps} actions", (p_1, actions), right, mistakes, signs)


def _check_causal(student: Student, case: Case) -> None:
    """The rows before a changed action must not change."""
    p_1, actions = case.arguments
    before = as_tensor(student(case.what, p_1, actions))
    middle = len(actions) // 2
    changed = actions.clone()
    changed[middle:] += 1
    after = as_tensor(student(case.what, p_1, changed))
    if not torch.allclose(before[:middle], after[:middle]):
        raise student.fail(
            "rows before the changed action change",
            case.what,
            expected=in_short(before[:middle]),
            came=in_short(after[:middle]),
            hint="a row may read no later action",
        )
