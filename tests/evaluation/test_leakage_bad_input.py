"""What `prove` cannot work with: one sentence each."""

from __future__ import annotations

import pytest
import torch
from leaky import CONDITION, HONEST, SIDE

from labkit.errors import LabkitError, ShapeError
from labkit.evaluation.leakage import prove


def batch_of(clips: int = 2, length: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(clips, length, 3, SIDE, SIDE, generator=generator)
    return frames, torch.randn(clips, length, CONDITION, generator=generator)


def fails_with(said: str, predict=HONEST, batch=None, n_past: int = 2, kind=LabkitError) -> None:
    with pytest.raises(kind) as caught:
        prove(predict, batch_of() if batch is None else batch, n_past)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------- the batch


def test_clips_that_cannot_be_predicted() -> None:
    frames, condition = batch_of()
    fails_with("no clips", batch=batch_of(0), kind=ShapeError)
    fails_with("5 frames, of which 5 are context", n_past=5, kind=ShapeError)
    fails_with("of which 0 are context", n_past=0, kind=ShapeError)
    fails_with("expected floats (B, T, 3, H, W)", batch=(frames[0], condition), kind=ShapeError)
    fails_with("expected (2, 5, C)", batch=(frames, condition[:, :4]), kind=ShapeError)
    fails_with("leave [0, 1]", batch=(frames * 2, condition), kind=ShapeError)
    fails_with("hold NaN", batch=(frames.where(frames > 0.1, torch.nan), condition))
    fails_with("condition holds NaN", batch=(frames, condition / 0))


def test_clips_in_which_nothing_moves() -> None:
    frames, condition = batch_of()
    still = frames[:, :1].expand_as(frames).clone()
    fails_with("all frames of each clip are equal", batch=(still, condition), kind=ShapeError)
    still[0, 3, 0, 0, 0] = 0.5  # one clip that moves will do
    assert prove(HONEST, (still, condition)).clean


def test_bytes_are_taken_as_pictures() -> None:
    frames, condition = batch_of()
    assert prove(HONEST, ((frames * 255).byte(), condition)).clean


# ------------------------------------------------------------------------ the predictor


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda f, c, n: HONEST(f, c, n)[:, :-1], "returns (2, 2, 3, 8, 8); expected floats"),
        (lambda f, c, n: (HONEST(f, c, n), 0.0), "returns tuple; expected a tensor"),
        (lambda f, c, n: list(HONEST(f, c, n).unbind(1)), "returns list; expected a tensor"),
        (lambda f, c, n: (HONEST(f, c, n) * 255).byte(), "of torch.uint8; expected floats"),
        (lambda f, c, n: HONEST(f, c, n).detach().numpy(), "returns ndarray"),
        (lambda f, c, n: HONEST(f, c, n) / 0, "hold NaN or infinity"),
        (lambda f, c: f, "fails on the clips as they are: TypeError"),
        (lambda f, c, n: HONEST(f, c[..., :2], n), "fails on the clips as they are: RuntimeError"),
    ],
)
def test_an_answer_that_is_none(wrong, said: str) -> None:
    fails_with(said, wrong)


def test_a_predictor_that_writes_into_its_arguments() -> None:
    def into_frames(frames, condition, n_past):
        frames[:, n_past:] = HONEST(frames, condition, n_past)
        return frames[:, n_past:]

    def into_condition(frames, condition, n_past):
        condition -= condition.mean()
        return HONEST(frames, condition, n_past)

    batch = batch_of()
    before = [part.clone() for part in batch]
    fails_with("changes its argument frames in place (start it with frames", into_frames, batch)
    fails_with("changes its argument condition in place", into_condition, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, batch, strict=True))


def test_a_predictor_that_differs_from_itself() -> None:
    own = torch.Generator().manual_seed(0)
    steps = iter(range(1000))

    def draws(frames, condition, n_past):
        return HONEST(frames, condition, n_past) + torch.rand((), generator=own)

    def remembers(frames, condition, n_past):
        return HONEST(frames, condition, n_past) + next(steps)

    for predict in (draws, remembers):
        fails_with("two calls of the predictor with one seed give different predictions", predict)


def test_weights_that_are_not_there(tmp_path) -> None:
    with pytest.raises(LabkitError, match=r"gone\.safetensors: cannot be read"):
        prove(HONEST, batch_of(), weights=tmp_path / "gone.safetensors")


def test_a_predictor_that_refuses_part_of_a_trial_is_not_failed_for_it() -> None:
    def careful(frames, condition, n_past):
        if not frames.isfinite().all():
            raise ValueError("frames must be finite")
        return HONEST(frames, condition, n_past)

    certificate = prove(careful, batch_of())
    assert certificate.clean
    nan = certificate.trials[1]
    assert nan.verdict == "not applicable"
    assert "ValueError: frames must be finite" in nan.text


def test_one_clip_cannot_show_what_others_do_to_it() -> None:
    trial = {one.name: one for one in prove(HONEST, batch_of(1)).trials}["other clips"]
    assert trial.verdict == "not applicable"
    assert "only one clip" in trial.text
