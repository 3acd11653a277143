"""The exercises of notebook 01: the KL, the two steps of EM, and the ELBO of a sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from labkit.course.checks.exercise import SECONDS, Case, Student, check, in_short
from labkit.course.linear_gaussian import LinearGaussian, StateSpace


@check
def check_kl_gaussian(
    yours: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    *,
    seed: int | None = None,
    seconds: float = SECONDS,
) -> None:
    """Checks `kl_gaussian(mu_q, logvar_q, mu_p, logvar_p) -> (B,)`: KL(q || p) of diagonal
    Gaussians in nats, summed over the latent dimensions; every argument is (B, z).

    The right results are those of torch.distributions. In one case q equals p.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("kl_gaussian", yours, seed=seed, seconds=seconds)
    cases = [_kl_case(student, equal=number == 19) for number in range(20)]
    student.compare(cases)
    _check_gradient(student, cases[0])
    student.passes("20 random cases equal torch's KL; it is 0 where q = p")


def _kl_case(student: Student, equal: bool) -> Case:
    rows, size = student.rng.choice([2, 3, 4, 5, 6], 2, replace=False)
    draw = student.generator()

    def normal() -> Tensor:
        return torch.randn(int(rows), int(size), generator=draw, dtype=torch.float64)

    mu_q, logvar_q, mu_p, logvar_p = normal(), normal() - 0.5, normal(), normal()
    if equal:
        mu_p, logvar_p = mu_q, logvar_q
    q = Normal(mu_q, torch.exp(0.5 * logvar_q))
    p = Normal(mu_p, torch.exp(0.5 * logvar_p))
    each = kl_divergence(q, p)
    right = each.sum(dim=-1)
    swapped = kl_divergence(p, q).sum(dim=-1)
    to_standard = kl_divergence(q, Normal(torch.zeros_like(mu_q), torch.ones_like(mu_q))).sum(-1)
    distance = (mu_q - mu_p).square()
    ratio = torch.exp(logvar_q - logvar_p)

    def formula(log: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
        return 0.5 * (log + (numerator + distance) / denominator - 1).sum(dim=-1)

    var_q, var_p = torch.exp(logvar_q), torch.exp(logvar_p)
    std_q, std_p = torch.exp(0.5 * logvar_q), torch.exp(0.5 * logvar_p)
    squares = torch.exp(2 * logvar_q), torch.exp(2 * logvar_p)
    log_ratio = logvar_p - logvar_q
    sigma = (
        "a standard deviation stands where a variance belongs: logvar is the logarithm of "
        "sigma^2, so the variance is exp(logvar)"
    )
    difference = "log q - log p is log(q / p), not log(q - p)"
    sign = "the sign is wrong: KL = E_q[log q - log p], which is never negative"
    mistakes = [
        ("q and p are exchanged: this is KL(p || q)", swapped),
        ("p is not used: this is the KL to N(0, I)", to_standard),
        (sign, -right),
        (sign, formula(-log_ratio, var_q, var_p)),
        ("sum over the latent dimensions; this is their mean", each.mean(dim=-1)),
        ("the factor 1/2 is missing", 2 * right),
        ("the term -1 of each dimension is missing", right + size / 2),
        (sigma, formula(log_ratio, std_q, std_p)),
        (sigma, formula(2 * log_ratio, *squares)),
        (sigma, formula(0.5 * log_ratio, std_q, std_p)),
        (sigma, formula(log_ratio, *squares)),
        (
            "the exponential is missing: the arguments are log variances",
            _no_exp(mu_q, logvar_q, mu_p, logvar_p),
        ),
        (difference, formula(torch.log(var_p - var_q), var_q, var_p)),
        (difference, formula(torch.log((var_p - var_q).abs()), var_q, var_p)),
        (
            "the squared distance of the means is missing",
            0.5 * (log_ratio + ratio - 1).sum(dim=-1),
        ),
    ]
    one = "return one number for each row: sum over the last dimension alone"
    signs = [
        (difference, lambda came: torch.as_tensor(came).isnan().any()),
        (one, lambda came: torch.as_tensor(came).shape != right.shape),
        (sign, lambda came: (torch.as_tensor(came) < -1e-9).any()),
    ]
    what = "q equals p" if equal else f"(B, z) = ({rows}, {size})"
    # Where q equals p most mistakes vanish as well.
    return Case(what, (mu_q, logvar_q, mu_p, logvar_p), right, () if equal else mistakes, signs)


def _no_exp(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """The formula with log variances in the place of variances."""
    inner = logvar_p - logvar_q + (logvar_q + (mu_q - mu_p).square()) / logvar_p - 1
    return 0.5 * inner.sum(dim=-1)


def _check_gradient(student: Student, case: Case) -> None:
    arguments = tuple(each.clone().requires_grad_() for each in case.arguments)
    came = student(case.what, *arguments, copied=False)
    if not torch.as_tensor(came).requires_grad:
        hint = "use torch's functions on the arguments; no .item(), .detach(), numpy or no_grad"
        raise student.fail("no gradient leads to the arguments", case.what, hint=hint)


# ------------------------------------------------------------------------------- EM


@check
def check_em(
    e_step: Callable[..., Any],
    m_step: Callable[..., Any],
    *,
    seed: int | None = None,
    seconds: float = SECONDS,
) -> None:
    """Checks the two steps of EM for `labkit.course.linear_gaussian.LinearGaussian`:

        e_step(x, c, model) -> mean (N, z), covariance (z, z)            of p(z | x, c)
        m_step(x, c, model, mean, covariance) -> W (x, z), variance ()   V stays as it is

    After an E step L must equal log p; over 10 rounds log p must never fall.

    Args:
        e_step, m_step: the student's functions.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or a function is refused.
    """
    first = Student("e_step", e_step, seed=seed, seconds=seconds)
    second = Student("m_step", m_step, seed=first.seed, seconds=seconds)
    problems = [_em_problem(first) for _ in range(5)]
    first.compare([_e_case(*problem) for problem in problems])
    second.compare([_m_case(*problem) for problem in problems])
    for number, (model, x, c) in enumerate(problems, start=1):
        _rounds(first, second, model, x, c, f"{number} of {len(problems)}")
    print("e_step, m_step: passed. L = log p after each E step, and log p never falls")


def _em_problem(student: Student) -> tuple[LinearGaussian, Tensor, Tensor]:
    rng, draw = student.rng, student.generator()
    sizes = {"x": int(rng.integers(3, 7)), "z": int(rng.integers(1, 4)), "c": 2}
    truth = LinearGaussian.random(**sizes, generator=draw)
    c = torch.randn(int(rng.integers(8, 25)), 2, generator=draw, dtype=torch.float64)
    x = truth.sample(c, draw)
    start = LinearGaussian.random(**sizes, generator=draw)
    variance = torch.tensor(float(rng.uniform(0.5, 2.0)), dtype=torch.float64)
    return LinearGaussian(start.W, truth.V, variance), x, c


UNCENTRED = "x is not centred: take V c off before anything else, x - c @ V.T"


def _e_case(model: LinearGaussian, x: Tensor, c: Tensor) -> Case:
    mean, covariance = model.posterior(x, c)
    nothing = torch.zeros_like(c)
    W, variance = model.W, model.variance
    identity = torch.eye(W.shape[1], dtype=torch.float64)
    deviation = dataclasses.replace(model, variance=variance.sqrt())
    mistakes = [
        (UNCENTRED, model.posterior(x, nothing)),
        (UNCENTRED, model.posterior(x - x.mean(dim=0), nothing)),
        (
            "model.variance is s^2 already",
            dataclasses.replace(model, variance=variance**2).posterior(x, c),
        ),
        ("s^2 is needed, not s", deviation.posterior(x, c)),
        (
            "the covariance is missing its inverse: (I + W^T W / s^2)^-1",
            (mean, identity + W.T @ W / variance),
        ),
    ]
    what = f"N = {len(x)}, x and z have {len(W)} and {W.shape[1]} dimensions"
    return Case(what, (x, c, model), (mean, covariance), mistakes)


def _m_case(model: LinearGaussian, x: Tensor, c: Tensor) -> Case:
    mean, covariance = model.posterior(x, c)
    right = _maximum(x - c @ model.V.T, mean, covariance)
    n, size = x.shape
    W, variance = right
    centred = x - c @ model.V.T
    no_spread = (centred - mean @ W.T).square().mean()
    mistakes = [
        (UNCENTRED, _maximum(x, mean, covariance)),
        (
            "E[z z^T] is mean mean^T + covariance; the covariance is missing",
            _maximum(centred, mean, 0 * covariance),
        ),
        ("the variance is averaged over all N x entries", (W, variance * size)),
        ("the variance is averaged over all N x entries", (W, variance * n * size)),
        ("return the variance s^2, not its root", (W, variance.sqrt())),
        ("the spread of z adds trace(W covariance W^T) to the squared error", (W, no_spread)),
    ]
    what = f"N = {n}, x and z have {size} and {W.shape[1]} dimensions"
    return Case(what, (x, c, model, mean, covariance), right, mistakes)


def _maximum(y: Tensor, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """W and s^2 that maximise L, by the normal equations of sampled regressors."""
    # An independent way: z is written as mean +- each column of a root of the covariance, whose
    # first two moments are exact, and W is an ordinary least-squares fit to those points.
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * (values.clamp_min(0) * len(values)).sqrt()
    points = torch.cat([mean + sign * each for each in root.T for sign in (1.0, -1.0)])
    targets = y.repeat(2 * len(values), 1)
    W = torch.linalg.lstsq(points, targets).solution.T
    return W, (targets - points @ W.T).square().mean()


def _rounds(
    first: Student, second: Student, model: LinearGaussian, x: Tensor, c: Tensor, place: str
) -> None:
    before = model.log_likelihood(x, c).sum()
    for number in range(1, 11):
        case = f"{place}, round {number}"
        mean, covariance = first(case, x, c, model)
        bound = model.elbo(x, c, mean, covariance).sum()
        if not torch.allclose(bound, before, rtol=1e-6, atol=1e-6):
            raise first.fail(
                "L is not log p after the E step",
                case,
                expected=in_short(before),
                came=in_short(bound),
            )
        W, variance = second(case, x, c, model, mean, covariance)
        model = LinearGaussian(W, model.V, torch.as_tensor(variance, dtype=torch.float64))
        after = model.log_likelihood(x, c).sum()
        if not after >= before - 1e-7 * before.abs():
            raise second.fail(
                "log p falls after the M step",
                case,
                expected=f"at least {in_short(before)}",
                came=in_short(after),
            )
        before = after


# ------------------------------------------------------------------------- the sequence's ELBO


@check
def check_sequence_elbo(
    yours: Callable[..., Tensor], *, seed: int | None = None, seconds: float = SECONDS
) -> None:
    """Checks `sequence_elbo(x, mu, logvar, model) -> ()`: step 8 of the derivation for
    `labkit.course.linear_gaussian.StateSpace` with the fixed prior, in nats.

    x is (T, x) with x_0 given; mu and logvar are (T-1, z), of q(z_t). The right result is the
    joint ELBO of all latents in one vector, for T = 3 .. 6.

    Args:
        yours: the student's function.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the function is refused.
    """
    student = Student("sequence_elbo", yours, seed=seed, seconds=seconds)
    student.compare([_sequence_case(student, frames) for frames in (3, 4, 5, 6) * 3])
    student.passes("12 random sequences, T = 3 .. 6, equal the joint ELBO")


def _sequence_case(student: Student, frames: int) -> Case:
    draw = student.generator()
    size = int(student.rng.integers(1, 3))
    model = StateSpace.random(x=int(student.rng.integers(2, 5)), z=size, generator=draw)
    model = dataclasses.replace(model, variance=model.variance * float(student.rng.uniform(0.5, 2)))
    x = model.sample(frames, draw)
    mu = torch.randn(frames - 1, size, generator=draw, dtype=torch.float64)
    logvar = torch.randn(frames - 1, size, generator=draw, dtype=torch.float64) - 1
    right = model.elbo(x, mu.flatten(), torch.diag(torch.exp(logvar.flatten())))
    kl = kl_divergence(
        MultivariateNormal(mu.flatten(), torch.diag(torch.exp(logvar.flatten()))),
        MultivariateNormal(torch.zeros(mu.numel()).to(mu), torch.eye(mu.numel()).to(mu)),
    )

    def with_steps(forget: bool, spread: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Step 8 with a mistake in how the latents before t count."""
        mean = torch.zeros(size).to(x)
        covariance = torch.zeros(size, size).to(x)
        total = -kl
        for t in range(1, frames):
            mean = mu[t - 1] + (0 if forget else model.F @ mean)
            covariance = spread(covariance, torch.diag(torch.exp(logvar[t - 1])))
            error = (x[t] - model.A @ x[t - 1] - model.H @ mean).square().sum()
            error = error + torch.trace(model.H @ covariance @ model.H.T)
            scale = len(model.A) / 2 * torch.log(2 * torch.pi * model.variance)
            total = total - scale - error / (2 * model.variance)
        return total

    def kept(before: Tensor, own: Tensor) -> Tensor:
        return model.F @ before @ model.F.T + own

    assert torch.allclose(with_steps(False, kept), right), "two ways to the same ELBO disagree"
    forgets = "x_t depends on all of z_1 .. z_t: h_t = F h_{t-1} + z_t"
    constant = (frames - 1) * len(model.A) / 2 * torch.log(2 * torch.pi * model.variance)
    mistakes = [
        (forgets, with_steps(True, lambda before, own: own)),
        (forgets, with_steps(True, kept)),
        (
            f"the spread of the earlier latents is missing; {forgets}",
            with_steps(False, lambda before, own: own),
        ),
        (
            "the expectation over z is missing: the spread of q adds a trace to the squared error",
            with_steps(False, lambda before, own: 0 * own),
        ),
        ("the KL is subtracted, not added", right + 2 * kl),
        ("the KL to the prior is missing", right + kl),
        ("this is the negative ELBO; return the bound itself", -right),
        ("the constant -D/2 log(2 pi s^2) of each step is missing", right + constant),
        ("sum over the time steps; this is their mean", right / (frames - 1)),
    ]
    what = f"T = {frames}, x and z have {len(model.A)} and {size} dimensions"
    return Case(what, (x, mu, logvar, model), right, mistakes)
