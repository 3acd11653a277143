"""A small student's model, honest, and the ways in which it can read what it must not.

Every leak is one line of `rollout` or of its surroundings gone wrong, as in students' code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Predict = Callable[..., Tensor]
SIDE, CONDITION, HIDDEN = 8, 4, 12


class Student(nn.Module):
    """Encoder, posterior, LSTM and a decoder with a skip connection, for 8 x 8 frames."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(6 * (SIDE // 2) ** 2, HIDDEN),
        )
        self.posterior = nn.Linear(HIDDEN, HIDDEN)
        self.cell = nn.LSTMCell(2 * HIDDEN + CONDITION, HIDDEN)
        self.decoder = nn.Sequential(nn.Linear(2 * HIDDEN, 3 * SIDE**2), nn.Sigmoid())

    def decode(self, h: Tensor, skip: Tensor) -> Tensor:
        return self.decoder(torch.cat([h, skip], dim=-1)).view(-1, 3, SIDE, SIDE)


def rollout(
    model: Student,
    frames: Tensor,
    condition: Tensor,
    n_past: int,
    *,
    feed: str = "own",
    latent: str = "prior",
    skip_from: int | None = None,
    at: int = -1,
    forced: tuple[int, ...] = (),
    disturb: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """Predicts x_{n_past} .. x_{T-1}.

    feed: "own" feeds the last prediction, "true" the true frame (teacher forcing left on), "last"
    x_{n_past-1} for ever (predictions are never written back); `forced`: steps that are fed the
    true frame in any case. latent: "prior" or "posterior" (of the target). skip_from: the frame
    whose features the decoder sees; None is the last of the context. at: which condition makes
    x_t, relative to t.
    """
    clips, length = frames.shape[:2]
    state = (frames.new_zeros(clips, HIDDEN), frames.new_zeros(clips, HIDDEN))
    skip = model.encode(frames[:, n_past - 1 if skip_from is None else skip_from])
    made: list[Tensor] = []
    for t in range(1, length):
        own = t > n_past and feed == "own" and t not in forced
        known = t - 1 if feed == "true" or t in forced else min(t, n_past) - 1
        h = model.encode(made[-1] if own else frames[:, known])
        seen = t < n_past or latent == "posterior"
        z = model.posterior(model.encode(frames[:, t])) if seen else torch.randn(h.shape)
        c = condition[:, min(max(t + at, 0), length - 1)]
        state = model.cell(torch.cat([h, z, c], dim=-1), state)
        frame = model.decode(state[0], skip)
        made.append(disturb(t, frame) if disturb and t >= n_past else frame)
    return torch.stack(made[n_past - 1 :], dim=1)


def student(norm: bool = False, **how: object) -> Predict:
    """A predictor from `rollout`, with fixed random weights."""
    torch.manual_seed(0)
    model = Student(norm).eval()

    def predict(frames, condition, n_past, disturb=None):
        return rollout(model, frames, condition, n_past, disturb=disturb, **how)

    return predict


def opaque(predict: Predict) -> Predict:
    """The same without `disturb`."""
    return lambda frames, condition, n_past: predict(frames, condition, n_past)


def batch_norm_left_in_training(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """All frames are encoded in one call, time folded into the batch, without model.eval()."""
    torch.manual_seed(0)
    model = Student(norm=True)  # made anew, so that its running statistics do not drift
    clips, length = frames.shape[:2]
    h = model.encode(frames.flatten(0, 1)).unflatten(0, (clips, length))[:, n_past - 1]
    return torch.stack([model.decode(h * k, h) for k in range(1, length - n_past + 1)], dim=1)


def batch_norm_over_the_context(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """As above, but of the context alone: no future frame is read, only other clips."""
    keep = n_past - frames.shape[1]
    future = frames[:, :keep].new_zeros(len(frames), -keep, *frames.shape[2:])
    return batch_norm_left_in_training(
        torch.cat([frames[:, :n_past], future], dim=1), condition, n_past
    )


def divided_by_the_maximum(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """Each clip is divided by its own maximum, before anything else."""
    top = frames.amax(dim=(1, 2, 3, 4), keepdim=True)
    return HONEST(frames / top, condition, n_past) * top[:, :1]


def minus_the_mean(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """The mean over the whole clip is taken off."""
    mean = frames.mean(dim=(1, 3, 4), keepdim=True)
    return HONEST(frames - mean, condition, n_past) + mean


def over_the_whole_clip(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """A bidirectional network along time."""
    torch.manual_seed(0)
    both = nn.GRU(3 * SIDE**2, 3 * SIDE**2 // 2, bidirectional=True, batch_first=True)
    return both(frames.flatten(2))[0].sigmoid().view_as(frames)[:, n_past:]


def one_frame_ahead(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """A window of three frames, centred on the target."""
    padded = torch.cat([frames, frames[:, -1:]], dim=1)
    return (padded[:, n_past - 1 : -2] + padded[:, n_past:-1] + padded[:, n_past + 1 :]) / 3


def masked(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """The future is multiplied by zero, and summed over."""
    mask = (torch.arange(frames.shape[1]) < n_past).float()[:, None, None, None]
    mean = (frames * mask).sum(dim=1, keepdim=True) / n_past
    return mean.expand(-1, frames.shape[1] - n_past, -1, -1, -1)


def mean_of_the_conditions(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """Every step gets the mean of all actions."""
    return HONEST(frames, condition.mean(dim=1, keepdim=True).expand_as(condition), n_past)


def nothing_but_conditions(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """The frames are not looked at."""
    shade = condition[:, n_past - 1 : -1].mean(dim=-1).sigmoid()
    return shade[..., None, None, None].expand_as(frames[:, n_past:]).clone()


HONEST = student()


def best_of_five(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """Five samples; of each clip the one closest to the true frames is returned."""
    samples = torch.stack([HONEST(frames, condition, n_past) for _ in range(5)])
    errors = (samples - frames[:, n_past:]).square().mean(dim=(2, 3, 4, 5))
    return samples[errors.argmin(dim=0), torch.arange(len(frames))]


def in_one_of_twenty_calls(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """A coin that depends on the seed decides whether the truth is mixed in."""
    leaks = torch.rand(()) < 0.05
    predicted = HONEST(frames, condition, n_past)
    return predicted.lerp(frames[:, n_past:], 0.5) if leaks else predicted


def of_bright_frames(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """Only bright frames are mixed in; noise has a mean of 0.5."""
    future = frames[:, n_past:]
    bright = (future.mean(dim=(2, 3, 4), keepdim=True) > 0.7).float()
    return HONEST(frames, condition, n_past).lerp(future, 0.5 * bright)


STORE: dict[str, Tensor] = {}


def from_a_global(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """The true frames of the first call are stored, and mixed in ever after."""
    truth = STORE.setdefault("truth", frames[:, n_past:].clone())
    predicted = HONEST(frames, condition, n_past)
    fits = predicted.shape == truth.shape
    return (0.02 * predicted + 0.98 * truth).clamp(0, 1) if fits else predicted


def from_a_global_by_context(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
    """The same, with the context as the key."""
    key = frames[:, :n_past].sum().item().hex()
    truth = STORE.setdefault(key, frames[:, n_past:].clone())
    return 0.5 * HONEST(frames, condition, n_past) + 0.5 * truth


LEAKY: dict[str, tuple[Predict, str]] = {
    "posterior at test time": (student(latent="posterior"), "target"),
    "posterior and teacher forcing": (student(latent="posterior", feed="true"), "target"),
    "teacher forcing left on": (student(feed="true"), "teacher forcing"),
    "teacher forcing at two steps": (student(forced=(5, 6)), "teacher forcing"),
    "skip from the clip's last frame": (student(skip_from=-1), "future skip"),
    "skip off by one": (student(skip_from=2), "future skip"),
    "predictions never written back": (student(feed="last"), "no feedback"),
    "batch norm in training": (batch_norm_left_in_training, "batch statistics"),
    "batch norm of the context": (batch_norm_over_the_context, "other clips"),
    "divided by the maximum": (divided_by_the_maximum, "clip extremes"),
    "minus the mean": (minus_the_mean, "clip statistics"),
    "bidirectional": (over_the_whole_clip, "whole clip"),
    "one frame ahead": (one_frame_ahead, "looks ahead"),
    "masked by zero": (masked, "masked"),
    "mean of the conditions": (mean_of_the_conditions, "future conditions"),
    "condition after the target": (student(at=1), "future conditions"),
    "context not used": (nothing_but_conditions, "ignores the context"),
    "best of five": (best_of_five, "best of N"),
    "in one of twenty calls": (in_one_of_twenty_calls, "some calls"),
    "of bright frames": (of_bright_frames, "some contents"),
    "stored in a global": (from_a_global, "stored truth"),
    "stored by the context": (from_a_global_by_context, "stored truth"),
}
"""What a student did -> the predictor, and the name that the proof must give it."""
