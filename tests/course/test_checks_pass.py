"""Every check passes a right solution with one fixed line, and refuses what is no solution."""

from __future__ import annotations

import contextlib
import functools
import random
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
import solutions
import torch

from labkit.course import checks
from labkit.course.checks.exercise import CheckFailed
from labkit.data.dataset import ClipDataset
from labkit.evaluation import psnr
from labkit.model import VideoCVAE, kl_divergence
from labkit.training import kl_weight, negative_elbo

SOLUTIONS: dict[str, tuple[Any, ...]] = {
    "kl_gaussian": (solutions.kl_gaussian,),
    "em": (solutions.e_step, solutions.m_step),
    "sequence_elbo": (solutions.sequence_elbo,),
    "getitem": (solutions.FolderClips,),
    "reparameterize": (solutions.reparameterize,),
    "free_run": (solutions.free_run,),
    "kl_weight": (solutions.kl_weight,),
    "teacher_forcing_ratio": (solutions.teacher_forcing_ratio,),
    "training_step": (solutions.training_step,),
    "psnr": (solutions.psnr,),
    "test_psnr": (solutions.test_psnr,),
    "expected_condition": (solutions.expected_condition,),
}
CONSTANTS: dict[str, Any] = {
    "kl_gaussian": lambda *a: torch.ones(len(a[0]), requires_grad=True),
    "sequence_elbo": lambda *a: -3.0,
    "getitem": lambda folders: (
        [(torch.zeros(12, 3, 64, 64, dtype=torch.uint8), torch.zeros(12, 7))] * 3
    ),
    "reparameterize": lambda mu, logvar: torch.zeros_like(mu),
    "free_run": lambda model, context, condition, horizon: torch.zeros(2, horizon, 3, 64, 64),
    "kl_weight": lambda *a: 0.5,
    "teacher_forcing_ratio": lambda *a: 0.5,
    "training_step": lambda *a: 0.1,
    "psnr": lambda x, y, averaging: 25 * torch.ones(x.shape[:2]),
    "test_psnr": lambda *a: 25.0,
    "expected_condition": lambda p, actions: torch.zeros(len(actions), 7),
}


def check_of(name: str) -> Any:
    return getattr(checks, f"check_{name}")


def failure(name: str, *functions: Any, **options: Any) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        check_of(name)(*functions, **options)
    return caught.value


def test_each_check_has_a_solution_here() -> None:
    named = {name.removeprefix("check_") for name in checks.__all__ if name.startswith("check_")}
    assert named == set(SOLUTIONS)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_right_solution_passes_with_the_same_line_each_time(name: str, capsys) -> None:
    lines = set()
    for seed in (None, 1):
        check_of(name)(*SOLUTIONS[name], seed=seed)
        lines.add(capsys.readouterr().out)
    assert len(lines) == 1
    (line,) = lines
    assert line.count("\n") == 1
    assert ": passed. " in line


@pytest.mark.parametrize("name", ["kl_gaussian", "em", "sequence_elbo", "psnr", "kl_weight"])
def test_cheap_checks_pass_whatever_is_drawn(name: str) -> None:
    for seed in range(15):
        check_of(name)(*SOLUTIONS[name], seed=seed)


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_refused(name: str) -> None:
    assert str(failure(name, CONSTANTS[name]))


def test_a_constant_is_called_one() -> None:
    error = failure("kl_weight", CONSTANTS["kl_weight"], seed=3)
    assert "is it a constant?" in str(error)


def test_constant_steps_of_em_are_refused() -> None:
    error = failure("em", lambda x, c, model: (torch.zeros(3, 1), torch.eye(1)), solutions.m_step)
    assert error.exercise == "e_step"
    error = failure("em", solutions.e_step, lambda *a: (torch.zeros(4, 2), torch.tensor(1.0)))
    assert error.exercise == "m_step"


# ------------------------------------------------------------------ the package's own function


def packaged(model, context, condition, horizon):
    return model.predict(context, condition, horizon)


def wrapped_kl(mu_q, logvar_q, mu_p, logvar_p):
    from labkit.model import Gaussian

    return kl_divergence(Gaussian(mu_q, logvar_q), Gaussian(mu_p, logvar_p))


def wrapped_posterior(x, c, model):
    return model.posterior(x, c)


def wrapped_elbo(x, mu, logvar, model):
    return model.elbo(x, mu.flatten(), torch.diag(torch.exp(logvar.flatten())))


class WrappedClips:
    def __init__(self, folders):
        self.folders = folders

    def __getitem__(self, i):
        from labkit.data.layout import read_clip

        clip = read_clip(self.folders[i], 0, 12)
        rows = np.concatenate([clip.actions, clip.positions], axis=1)
        return torch.from_numpy(clip.frames), torch.from_numpy(rows)


def wrapped_weight(epoch, epochs, kind, cycles, ratio):
    from labkit.config import KLConfig

    return kl_weight(epoch, epochs, KLConfig(schedule=kind, cycles=cycles, ratio=ratio))


def wrapped_step(model, optimizer, batch, beta, forced):
    optimizer.zero_grad()
    rollout = model.rollout(batch.frames, batch.condition, 2, teacher_forced=forced)
    loss = negative_elbo(rollout, batch.frames[:, 1:], beta).loss
    loss.backward()
    optimizer.step()
    return loss


def wrapped_psnr(x, y, averaging):
    return psnr(x, y)


@pytest.mark.parametrize(
    ("name", "functions", "called"),
    [
        ("kl_gaussian", (wrapped_kl,), "kl_divergence"),
        ("em", (wrapped_posterior, solutions.m_step), "posterior"),
        ("sequence_elbo", (wrapped_elbo,), "elbo"),
        ("getitem", (WrappedClips,), "read_clip"),
        ("free_run", (packaged,), "predict"),
        ("kl_weight", (wrapped_weight,), "kl_weight"),
        ("training_step", (wrapped_step,), "negative_elbo"),
        ("psnr", (wrapped_psnr,), "psnr"),
    ],
)
def test_a_wrapped_function_of_the_package_is_refused(name, functions, called) -> None:
    error = failure(name, *functions)
    assert "calls" in str(error)
    assert called in str(error) or "Config" in str(error) or "config" in str(error)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("kl_gaussian", kl_divergence),
        ("getitem", ClipDataset),
        ("kl_weight", kl_weight),
        ("psnr", psnr),
        ("free_run", VideoCVAE.predict),
        ("training_step", negative_elbo),
    ],
)
def test_the_packages_own_function_is_refused(name: str, function: Any) -> None:
    error = failure(name, function)
    assert "the package's own function" in str(error)
    assert "the package's own function" in str(failure(name, functools.partial(function)))


@pytest.mark.parametrize("function", [torch.add, max, torch.distributions.kl_divergence, np.mean])
def test_a_librarys_function_is_refused(function: Any) -> None:
    assert "a library's function" in str(failure("kl_gaussian", function))


def test_what_is_no_function_is_refused() -> None:
    assert "is a int, not a function" in str(failure("kl_weight", 3))


# ------------------------------------------------------------------- errors, loops and silence


def test_an_error_is_one_sentence_with_the_students_line() -> None:
    def divides(epoch, epochs, kind, cycles, ratio):
        return epoch / (epochs - epochs)

    error = failure("kl_weight", divides)
    assert "raises ZeroDivisionError: " in str(error)
    assert "return epoch / (epochs - epochs)" in str(error)
    assert error.__cause__ is None


def test_a_blank_and_a_forgotten_return_are_named() -> None:
    def blank(*arguments):
        raise NotImplementedError

    assert "is not written yet" in str(failure("kl_weight", blank))
    assert "returns nothing" in str(failure("kl_weight", lambda *arguments: None))


def loops(*arguments):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def test_an_endless_loop_ends_in_a_sentence() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    error = failure("kl_weight", loops, seconds=0.2)
    assert "does not end within 0.2 seconds" in str(error)
    assert signal.getsignal(signal.SIGALRM) == handler


def test_an_endless_loop_ends_in_another_thread_too() -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            checks.check_kl_weight(loops, seconds=0.2)
        except CheckFailed as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert "does not end within" in str(caught[0])


def test_a_check_leaves_the_global_generators_and_the_default_type_alone() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.set_default_dtype(torch.float64)
    try:
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        checks.check_reparameterize(solutions.reparameterize)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_failed_case_comes_back_with_its_seed() -> None:
    first = failure("psnr", lambda x, y, averaging: (x - y).mean(dim=(2, 3, 4)))
    seed = int(str(first).split("(seed=")[1].split(")")[0])
    again = failure("psnr", lambda x, y, averaging: (x - y).mean(dim=(2, 3, 4)), seed=seed)
    assert str(again) == str(first)


def test_a_notebook_shows_the_message_without_a_traceback() -> None:
    error = failure("kl_weight", CONSTANTS["kl_weight"])
    assert error._render_traceback_() == str(error).splitlines()
    assert str(error).startswith("kl_weight: ")
