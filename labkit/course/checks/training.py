"""The exercises of notebook 04: two schedules, and one training step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from labkit.course.checks.exercise import SECONDS, Case, Student, as_tensor, check, in_short
from labkit.data.dataset import Batch
from labkit.model import Rollout, VideoCVAE
from labkit.presets import SMOKE


@check
def check_kl_weight(
    yours: Callable[..., float], *, seed: int | None = None, seconds: float = SECONDS
) -> None:
    """Checks `kl_weight(epoch, epochs, kind, cycles, ratio) -> beta` in [0, 1]; epochs count
    from 0.

        "constant"    1 at every epoch
        "monotonic"   rises from 0 to 1 over the first 1 / ratio of all epochs, then stays at 1
        "cyclical"    does so in each of `cycles` cycles of equal length, and restarts at 0

    200 random draws; in most the number of cycles does not divide the number of epochs.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("kl_weight", yours, seed=seed, seconds=seconds)
    student.compare([_kl_weight_case(student, number) for number in range(200)])
    student.passes("200 random draws of epoch, kind, cycles and ratio")


def _kl_weight_case(student: Student, number: int) -> Case:
    rng = student.rng
    epochs, cycles = int(rng.integers(2, 301)), int(rng.integers(1, 8))
    epoch = int(rng.integers(0, epochs))
    ratio = float(rng.choice([1.0, 1.5, 2.0, 4.0]))
    kind = ("constant", "monotonic", "cyclical", "cyclical")[number % 4]
    if number < 20:  # most mistakes show after the first cycle, below the maximum
        kind, cycles, ratio, epochs = "cyclical", 3, 2.0, 40 + number
        epoch = epochs // 3 + 4
    exact = Fraction(ratio)
    done = Fraction(epoch, epochs)  # of all epochs
    in_cycle = done * cycles % 1
    monotonic = min(Fraction(1), exact * done)
    cyclical = min(Fraction(1), exact * in_cycle)
    right = {"constant": Fraction(1), "monotonic": monotonic, "cyclical": cyclical}[kind]
    period = max(1, epochs // cycles)
    mistakes = []
    if kind == "cyclical":
        rounded = min(Fraction(1), exact * Fraction(epoch % period, period))
        mistakes = [
            ("no restart: each cycle begins at 0 again", float(monotonic)),
            ("no restart: each cycle begins at 0 again", min(1.0, float(exact * done * cycles))),
            ("above 1: take the smaller of 1 and the ramp", float(exact * in_cycle)),
            (
                "a cycle has epochs / cycles epochs, which may be no whole number: do not round it",
                float(rounded),
            ),
        ]
    if kind == "monotonic":
        mistakes = [
            ("above 1: take the smaller of 1 and the ramp", float(exact * done)),
            ("monotonic has one ramp over the whole training", float(cyclical)),
        ]
    mistakes += [("the ramp takes 1 / ratio of its cycle", float(min(1, in_cycle / exact)))]
    signs = [
        ("above 1: take the smaller of 1 and the ramp", lambda came: float(came) > 1 + 1e-9),
        ("below 0", lambda came: float(came) < 0),
    ]
    what = f"epoch {epoch} of {epochs}, {kind}, cycles {cycles}, ratio {ratio:g}"
    arguments = (epoch, epochs, kind, cycles, ratio)
    return Case(what, arguments, float(right), mistakes, signs)


@check
def check_teacher_forcing_ratio(
    yours: Callable[..., float], *, seed: int | None = None, seconds: float = SECONDS
) -> None:
    """Checks `teacher_forcing_ratio(epoch, start, step, decay_start, bound) -> ratio`: `start` up
    to epoch `decay_start`, then `step` less with each epoch, but never below `bound`.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("teacher_forcing_ratio", yours, seed=seed, seconds=seconds)
    student.compare([_forcing_case(student, number) for number in range(200)])
    student.passes("200 random draws; the ratio never falls below its bound")


def _forcing_case(student: Student, number: int) -> Case:
    rng = student.rng
    start = float(rng.uniform(0.5, 1.0))
    step = float(rng.uniform(0.01, 0.1))
    decay_start = int(rng.integers(0, 20))
    bound = float(rng.uniform(0.0, 0.4))
    epoch = int(rng.integers(0, 60)) if number % 3 else decay_start + int(rng.integers(1, 4))
    if number == 1:  # far beyond the end of the decay
        epoch = 300
    since = max(0, epoch - decay_start)
    falling = start - step * since
    right = max(bound, falling)
    # The seed's rule: lower the ratio while it is at or above its bound.
    below = start
    for _ in range(since):
        if below >= bound:
            below -= step
    low = "the ratio ends below its bound: take the larger of the two"
    mistakes = [
        (low, falling),
        (low, below),
        ("the decay begins at decay_start, not at epoch 0", max(bound, start - step * epoch)),
        (
            "before decay_start the ratio is start; here it is larger",
            max(bound, start - step * (epoch - decay_start)),
        ),
        ("at decay_start the ratio is still start", max(bound, start - step * (since + 1))),
        ("the ratio does not fall", start),
    ]
    signs = [(low, lambda came: float(came) < bound - 1e-9)]
    what = (
        f"epoch {epoch}, start {start:.3f}, step {step:.3f}, decay_start {decay_start}, "
        f"bound {bound:.3f}"
    )
    return Case(what, (epoch, start, step, decay_start, bound), right, mistakes, signs)


# ------------------------------------------------------------------------------ one step


@check
def check_training_step(
    yours: Callable[[VideoCVAE, torch.optim.Optimizer, Batch, float, bool], Any],
    *,
    seed: int | None = None,
    seconds: float = 120.0,
) -> None:
    """Checks `training_step(model, optimizer, batch, beta, forced) -> loss`: one update of a small
    VideoCVAE with 2 context frames. The loss is the mean squared error over all values of x_1 ..
    x_{T-1}, plus beta times the KL, summed over latent dimensions and averaged over steps and
    clips.

    Two steps in a row, teacher forced and free-running: the losses must be those of the same
    steps done by the check, and so must the weights after each. `batch` has `frames` (B, T, 3, 64,
    64) in [0, 1] and `condition` (B, T, 7).

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("training_step", yours, seed=seed, seconds=seconds, allowed=_no_training)
    for forced in (True, False):
        _check_steps(student, forced)
    student.passes("two steps in a row, teacher forced and free-running, equal the check's own")


def _no_training(file: str, name: str) -> bool:
    return file.startswith("model/") or file == "data/dataset.py"


def _check_steps(student: Student, forced: bool) -> None:
    draw = student.generator()
    torch.manual_seed(int(student.rng.integers(2**31)))
    model = VideoCVAE(replace(SMOKE.model, output="sigmoid", predictor="lstm"), 7).train()
    frames = torch.rand(3, 5, 3, 64, 64, generator=draw)
    batch = Batch(frames, torch.randn(3, 5, 7, generator=draw))
    beta = float(student.rng.uniform(0.05, 0.2))
    theirs, ours = _Twin(model), _Twin(model)
    forgetful = _Twin(model)  # never clears its gradients
    what_forced = "teacher forced" if forced else "free-running"
    for number in (1, 2):
        noise = int(student.rng.integers(2**31))
        case = f"step {number}, {what_forced}, beta {beta:.3f}"
        terms = ours.step(batch, beta, forced, noise)
        forgetful.step(batch, beta, forced, noise, clear=False)
        torch.manual_seed(noise)
        loss = student(case, theirs.model, theirs.optimizer, batch, beta, forced, copied=False)
        student.judge(
            Case(f"{case}: the loss", (), terms["loss"], _wrong_losses(terms, beta)),
            loss,
            rtol=1e-4,
            atol=1e-6,
        )
        _check_posterior(student, theirs.model, case, forced)
        _check_weights(student, theirs, ours, forgetful, case)


class _Twin:
    """A copy of a model with its own optimizer."""

    def __init__(self, model: VideoCVAE) -> None:
        self.model = copy.deepcopy(model)
        # Plain SGD: the weights then show the gradient itself.
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)

    def step(
        self, batch: Batch, beta: float, forced: bool, noise: int, clear: bool = True
    ) -> dict[str, Any]:
        """One update, and its terms."""
        torch.manual_seed(noise)
        if clear:
            self.optimizer.zero_grad()
        rollout = self.model.rollout(batch.frames, batch.condition, 2, teacher_forced=forced)
        targets = batch.frames[:, 1:]
        q, p = rollout.posterior, rollout.prior
        ratio = torch.exp(q.log_variance - p.log_variance)
        distance = (q.mean - p.mean).square() * torch.exp(-p.log_variance)
        kl = 0.5 * (ratio + distance - 1 - torch.log(ratio)).sum(dim=-1)
        loss = (rollout.frames - targets).square().mean() + beta * kl.mean()
        loss.backward()
        self.optimizer.step()
        return {
            "loss": loss.item(),
            "kl": kl.detach(),
            "rollout": rollout,
            "targets": targets,
            "latents": q.mean.shape[-1],
        }


def _wrong_losses(terms: dict[str, Any], beta: float) -> list[tuple[str, float]]:
    rollout: Rollout = terms["rollout"]
    made, targets, kl = rollout.frames.detach(), terms["targets"], terms["kl"]
    error = (made - targets).square().mean()
    cross = functional.cross_entropy(made.flatten(0, 1), targets.flatten(0, 1))
    entropy = "this is a cross entropy; the squared error is ((x - x^)**2).mean()"
    return [
        (entropy, (cross + beta * kl.mean()).item()),
        (entropy, (functional.binary_cross_entropy(made, targets) + beta * kl.mean()).item()),
        ("the KL is missing", error.item()),
        ("beta is missing: the loss is MSE + beta * KL", (error + kl.mean()).item()),
        ("the KL is added to the loss, not subtracted", (error - beta * kl.mean()).item()),
        ("average the KL over steps and clips; this is its sum", (error + beta * kl.sum()).item()),
        (
            "sum the KL over the latent dimensions; this is their mean",
            (error + beta * kl.mean() / terms["latents"]).item(),
        ),
        (
            "average the squared error over all values; this is their sum",
            (error * targets.numel() + beta * kl.mean()).item(),
        ),
        (
            "x_1 counts too: the loss is over x_1 .. x_{T-1}",
            ((made - targets)[:, 1:].square().mean() + beta * kl[:, 1:].mean()).item(),
        ),
    ]


def _check_posterior(student: Student, model: VideoCVAE, case: str, forced: bool) -> None:
    gradients = [each.grad for each in model.posterior.parameters()]
    if all(each is None or not each.any() for each in gradients):
        hint = (
            "teacher forcing decides which frame is fed back; z comes from the posterior in both "
            "cases, not from a fixed Gaussian"
        )
        if all(each.grad is None or not each.grad.any() for each in model.parameters()):
            hint = "call loss.backward(), and zero_grad() before it, not after"
        raise student.fail("the posterior gets no gradient", case, hint=hint)


def _check_weights(
    student: Student, theirs: _Twin, ours: _Twin, forgetful: _Twin, case: str
) -> None:
    def flat(twin: _Twin) -> Tensor:
        return torch.cat([each.detach().flatten() for each in twin.model.parameters()])

    came, right, without = flat(theirs), flat(ours), flat(forgetful)
    if torch.allclose(came, right, rtol=1e-4, atol=1e-6):
        return
    hint = None
    if torch.allclose(came, without, rtol=1e-4, atol=1e-6):
        hint = "no zero_grad: the gradients of the step before are added to this one's"
    far = as_tensor((came - right).abs().max())
    raise student.fail(
        "the weights after the step are not right",
        case,
        expected="those of one step of the optimizer",
        came=f"up to {in_short(far)} away",
        hint=hint,
    )
