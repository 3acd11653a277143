"""The exercises of notebook 03: reparameterization, and the free-running rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from labkit.course.checks.exercise import SECONDS, Case, Student, check, close, in_short
from labkit.evaluation.leakage import hooked, prove
from labkit.model import VideoCVAE
from labkit.presets import SMOKE

DRAWS = 20_000


@check
def check_reparameterize(
    yours: Callable[[Tensor, Tensor], Tensor], *, seed: int | None = None, seconds: float = SECONDS
) -> None:
    """Checks `reparameterize(mu, logvar) -> z`: a draw from N(mu, exp(logvar)) of the arguments'
    shape (B, z), with the gradients dz/dmu = 1 and dz/dlogvar = (z - mu) / 2, and with new noise
    in each call.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("reparameterize", yours, seed=seed, seconds=seconds)
    torch.manual_seed(int(student.rng.integers(2**31)))
    _check_moments(student)
    _check_noise(student)
    _check_gradients(student)
    student.passes(f"{DRAWS:,} draws have the right mean and deviation, and both gradients flow")


def _check_moments(student: Student) -> None:
    draw = student.generator()
    mu = torch.randn(1, 4, generator=draw)
    # Far enough from 0 that deviation, variance and logarithm are three different numbers.
    logvar = torch.tensor([[-2.0, -1.2, 1.2, 2.0]]) + 0.2 * torch.rand(1, 4, generator=draw)
    what = f"{DRAWS:,} draws"
    z = student(what, mu.expand(DRAWS, 4).clone(), logvar.expand(DRAWS, 4).clone())
    if torch.as_tensor(z).shape != (DRAWS, 4):
        raise student.fail(
            "the shape is not right",
            what,
            expected=f"({DRAWS}, 4)",
            came=str(tuple(torch.as_tensor(z).shape)),
        )
    z = z.detach()
    sigma = torch.exp(0.5 * logvar[0])
    deviation = z.std(dim=0)
    # Six standard errors: of a mean sigma / sqrt(n), of a deviation sigma / sqrt(2 n).
    if not ((deviation / sigma - 1).abs() < 6 / (2 * DRAWS) ** 0.5).all():
        guesses = {
            "sigma is exp(logvar / 2); logvar is used as the deviation": logvar[0].abs(),
            "sigma is exp(logvar / 2); this is exp(logvar), the variance": torch.exp(logvar[0]),
            "nothing is drawn: this is the mean": torch.zeros(4),
            "the noise is not scaled: sigma is exp(logvar / 2)": torch.ones(4),
            "the noise comes from a uniform distribution; it is N(0, 1)": sigma / 12**0.5,
        }
        fits = (name for name, each in guesses.items() if torch.allclose(deviation, each, rtol=0.1))
        raise student.fail(
            "the standard deviation of the draws is not right",
            what,
            expected=in_short(sigma),
            came=in_short(deviation),
            hint=next(fits, None),
        )
    error = (z.mean(dim=0) - mu[0]).abs() / (sigma / DRAWS**0.5)
    if not (error < 6).all():
        hint = "mu is not added" if (z.mean(dim=0).abs() < 0.1 * sigma).all() else None
        raise student.fail(
            "the mean of the draws is not right",
            what,
            expected=in_short(mu[0]),
            came=in_short(z.mean(dim=0)),
            hint=hint,
        )
    inside = (((z - mu) / sigma).abs() < 1).float().mean(dim=0)
    if not ((inside - 0.6827).abs() < 6 * (0.6827 * 0.3173 / DRAWS) ** 0.5).all():
        hint = "draw the noise by torch.randn_like; rand is uniform"
        raise student.fail("the draws are not Gaussian", what, hint=hint)


def _check_noise(student: Student) -> None:
    mu, logvar = torch.zeros(3, 2), torch.zeros(3, 2)
    first, second = (student("two calls", mu, logvar).detach() for _ in range(2))
    if torch.equal(first, second):
        hint = "draw the noise inside the function, and set no seed there"
        raise student.fail("two calls give the same z", hint=hint)
    if torch.equal(first[0], first[1]) or torch.equal(first[:, 0], first[:, 1]):
        hint = "the noise has the shape of mu: torch.randn_like(mu)"
        raise student.fail("all rows, or all dimensions, have the same noise", hint=hint)


def _check_gradients(student: Student) -> None:
    draw = student.generator()
    mu = torch.randn(3, 2, generator=draw).requires_grad_()
    logvar = torch.randn(3, 2, generator=draw).requires_grad_()
    z = student("the gradients", mu, logvar, copied=False)
    hint = "z = mu + sigma * noise, computed by torch from mu and logvar; no torch.normal, no_grad"
    if not z.requires_grad:
        raise student.fail("z has no gradient", hint=hint)
    to_mu, to_logvar = torch.autograd.grad(z.sum(), (mu, logvar), allow_unused=True)
    if to_mu is None or not torch.allclose(to_mu, torch.ones_like(mu)):
        came = "none" if to_mu is None else in_short(to_mu)
        raise student.fail("dz/dmu is not 1", expected="1", came=came, hint=hint)
    right = (z - mu).detach() / 2
    if to_logvar is None or not torch.allclose(to_logvar, right, rtol=1e-3, atol=1e-5):
        came = "none" if to_logvar is None else in_short(to_logvar)
        raise student.fail(
            "dz/dlogvar is not (z - mu) / 2", expected=in_short(right), came=came, hint=hint
        )


# -------------------------------------------------------------------------------- free_run


@check
def check_free_run(
    yours: Callable[[VideoCVAE, Tensor, Tensor, int], Tensor],
    *,
    seed: int | None = None,
    seconds: float = 120.0,
) -> None:
    """Checks `free_run(model, context, condition, horizon) -> (B, horizon, 3, 64, 64)`: the
    prediction written as a loop over `model.begin(context, condition)` and
    `model.step(state, condition_row)`.

    First on a stand-in model that notes how it is called; then on a small VideoCVAE, whose
    predictions must be those of the same calls; then `labkit.evaluation.leakage.prove` looks for
    future frames, and its findings are the message.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("free_run", yours, seed=seed, seconds=seconds, allowed=_steps_alone)
    for n_past, horizon in ((2, 3), (3, 5), (1, 4)):
        _check_calls(student, n_past, horizon)
    model, frames, condition = _small_model(student)
    _check_predictions(student, model, frames, condition)
    _check_leaks(student, model, frames, condition)
    student.passes("each step is fed its own prediction and c_{t-1}; no future frame is read")


def _steps_alone(file: str, name: str) -> bool:
    """Inside the model all is allowed but its own rollouts."""
    return file.startswith("model/") and name not in ("predict", "rollout", "reconstruct")


@dataclass
class _Calls:
    """A stand-in for the model: frames of one pixel that say how they were made."""

    begun: list[int] = field(default_factory=list)
    steps: list[tuple[int, Tensor]] = field(default_factory=list)
    wrong: str | None = None

    def begin(self, context: Tensor, condition: Tensor, **options: Any) -> int:
        """The state after the context: the number of steps done, 0."""
        self.begun.append(context.shape[1])
        return 0

    def step(self, state: int, condition: Tensor, **options: Any) -> tuple[Tensor, int]:
        """The next frame and state."""
        self.steps.append((state, condition.clone()))
        return torch.full((len(condition), 3, 64, 64), float(state)), state + 1

    def __getattr__(self, name: str) -> Any:
        if name in ("predict", "rollout", "reconstruct"):
            self.wrong = name
        raise AttributeError(f"use model.begin and model.step alone, not model.{name}")

    def __deepcopy__(self, memo: Any) -> _Calls:
        return self


def _check_calls(student: Student, n_past: int, horizon: int) -> None:
    what = f"{n_past} context frames, horizon {horizon}"
    length, clips = n_past + horizon + 2, 2
    draw = student.generator()
    context = torch.rand(clips, n_past, 3, 64, 64, generator=draw)
    condition = torch.randn(clips, length, 7, generator=draw)
    calls = _Calls()
    try:
        came = student(what, calls, context, condition, horizon)
    except Exception as error:
        if calls.wrong in ("rollout", "reconstruct"):
            hint = "z comes from the posterior there, which sees the target"
            raise student.fail(f"calls model.{calls.wrong}", what, hint=hint) from None
        if calls.wrong:
            hint = "write the loop yourself, by model.begin and model.step"
            raise student.fail(f"calls model.{calls.wrong}", what, hint=hint) from None
        raise error
    if calls.begun != [n_past]:
        hint = "call begin once: calling it again after the context feeds true frames"
        raise student.fail(
            "model.begin is not called once, with the context",
            what,
            expected=str([n_past]),
            came=str(calls.begun),
            hint=hint,
        )
    states = [state for state, _ in calls.steps]
    if states != list(range(horizon)):
        hint = None
        if set(states) == {0} and horizon > 1:
            hint = "the state that step returns is thrown away: give it to the next step"
        raise student.fail(
            "the steps are not right",
            what,
            expected=f"states {list(range(horizon))}",
            came=f"states {states}",
            hint=hint,
        )
    for number, (_, row) in enumerate(calls.steps):
        t = n_past + number
        if close(row, condition[:, t - 1], 0, 0):
            continue
        hint = None
        if close(row, condition[:, t], 0, 0):
            hint = f"this is c_{t}; the condition that leads from x_{t - 1} to x_{t} is c_{t - 1}"
        elif close(row, condition[:, number], 0, 0):
            hint = f"count from the end of the context: the step to x_{t} takes c_{t - 1}"
        raise student.fail(f"the condition of the step to x_{t} is not c_{t - 1}", what, hint=hint)
    right = torch.arange(float(horizon)).view(1, -1, 1, 1, 1).expand(clips, -1, 3, 64, 64)
    whole = "return the predicted frames alone, stacked along dim 1"
    signs = [(whole, lambda value: True)]
    student.judge(Case(f"{what}, the frames returned", (), right, (), signs), came)


def _small_model(student: Student) -> tuple[VideoCVAE, Tensor, Tensor]:
    torch.manual_seed(int(student.rng.integers(2**31)))
    model = VideoCVAE(replace(SMOKE.model, output="sigmoid", predictor="lstm"), 7).eval()
    draw = student.generator()
    frames = torch.rand(2, 6, 3, 64, 64, generator=draw)
    return model, frames, torch.randn(2, 6, 7, generator=draw)


def _check_predictions(
    student: Student, model: VideoCVAE, frames: Tensor, condition: Tensor
) -> None:
    seed = int(student.rng.integers(2**31))
    torch.manual_seed(seed)
    with torch.no_grad():
        state = model.begin(frames[:, :2], condition)
        right = []
        for t in range(2, 6):
            frame, state = model.step(state, condition[:, t - 1])
            right.append(frame)
        torch.manual_seed(seed)
        came = student("a small VideoCVAE", model, frames[:, :2], condition, 4, copied=False)
    student.judge(Case("a small VideoCVAE", (), torch.stack(right, dim=1)), came)


def _check_leaks(student: Student, model: VideoCVAE, frames: Tensor, condition: Tensor) -> None:
    def predict(frames: Tensor, condition: Tensor, n_past: int) -> Tensor:
        horizon = frames.shape[1] - n_past
        return student.function(model, frames[:, :n_past], condition, horizon)

    certificate = prove(hooked(predict, model.output), (frames, condition))
    if certificate.findings:
        found = certificate.findings[0]
        raise student.fail(f"the leak proof finds: {found.says}", hint=found.hint)
