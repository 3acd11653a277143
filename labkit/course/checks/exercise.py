"""How a check calls a student's function: guarded, traced, and with its result compared."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import inspect
import linecache
import random
import secrets
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

import labkit
from labkit.errors import LabkitError

PACKAGE = str(Path(labkit.__file__).parent)
HERE = str(Path(__file__).parent)
SECONDS = 20.0
"""time limit of one call of a student's function"""

Allowed = Callable[[str, str], bool]
"""(file inside the package such as "model/video_cvae.py", function's name) -> may it be called?"""
Sign = tuple[str, Callable[[Any], bool]]
"""(hint, whether the result shows that mistake)"""


class CheckFailed(LabkitError):
    """A student's function is not right yet, or is refused. In a notebook it is shown without a
    traceback."""

    def __init__(
        self,
        exercise: str,
        what: str,
        *,
        case: str | None = None,
        expected: str | None = None,
        came: str | None = None,
        hint: str | None = None,
    ) -> None:
        """
        Args:
            exercise: the function's name.
            what: what is wrong, in one sentence.
            case: which case failed.
            expected, came: the right result and the student's, as short text.
            hint: the kind of mistake, where it was recognised.
        """
        self.exercise, self.case, self.expected, self.came = exercise, case, expected, came
        super().__init__(what, hint=hint)
        rows = {"case": case, "expected": expected, "came": came, "hint": hint}
        lines = [f"{exercise}: {what}"]
        lines += [f"    {name:<9} {text}" for name, text in rows.items() if text is not None]
        self.args = ("\n".join(lines),)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return str(self).splitlines()


@dataclass(frozen=True)
class Case:
    """One call, its right result, and what the known mistakes would give instead."""

    what: str
    """the case in words"""
    arguments: tuple[Any, ...]
    expected: Any
    """a number, a tensor, or a tuple of tensors"""
    mistakes: Sequence[tuple[str, Any]] = field(default_factory=tuple)
    """(hint, the result with that mistake)"""
    signs: Sequence[Sign] = field(default_factory=tuple)


class _TimeUp(BaseException):
    """The time limit, raised inside the student's function; no `except Exception` stops it."""


class Student:
    """A student's function, as a check calls it."""

    def __init__(
        self,
        exercise: str,
        function: Any,
        *,
        seed: int | None = None,
        seconds: float = SECONDS,
        allowed: Allowed = lambda file, name: False,
    ) -> None:
        """
        Args:
            exercise: the function's name, for messages.
            function: the student's function or class.
            seed: of the random cases; None is a new one each time.
            seconds: time limit of a call.
            allowed: which of the package's functions it may call.
        Raises:
            CheckFailed: it is no function, or not the student's own.
        """
        self.exercise, self.function = exercise, function
        self.seconds, self.allowed = seconds, allowed
        self.seed = secrets.randbelow(2**31) if seed is None else seed
        self.rng = np.random.default_rng(self.seed)
        refuse_foreign(exercise, function)

    def generator(self) -> torch.Generator:
        """A new generator, drawn from the check's seed."""
        return torch.Generator().manual_seed(int(self.rng.integers(2**31)))

    def fail(self, what: str, case: str | None = None, **rows: str | None) -> CheckFailed:
        """The error of a case; it says the seed, so that the case can be called again."""
        if case is not None:
            case = f"{case} (seed={self.seed})"
        return CheckFailed(self.exercise, what, case=case, **rows)

    def __call__(self, case: str, *arguments: Any, copied: bool = True) -> Any:
        """The function's result for these arguments, of which it gets copies.

        Raises:
            CheckFailed: it raises an error, does not end in time, returns nothing, or calls a
                function of the package that it may not call.
        """
        given = copy.deepcopy(arguments) if copied else arguments
        calls = _Calls(self.allowed)
        try:
            with time_limit(self.seconds), calls:
                result = self.function(*given)
        except _TimeUp:
            what = f"does not end within {self.seconds:g} seconds"
            hint = "look for a loop whose condition never becomes false"
            raise self.fail(what, case, hint=hint) from None
        except NotImplementedError:
            raise self.fail("is not written yet") from None
        except (Exception, SystemExit) as error:
            calls.refuse(self)
            raise self.fail(_in_words(error, self.function), case) from None
        calls.refuse(self)
        if result is None:
            raise self.fail("returns nothing", case, hint="does it end with a return statement?")
        return result

    def compare(self, cases: Sequence[Case], *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
        """Calls the function for each case and compares.

        Raises:
            CheckFailed: at the first case that is not right.
        """
        for number, case in enumerate(cases, start=1):
            came = self(f"{number} of {len(cases)}: {case.what}", *case.arguments)
            self.judge(case, came, f"{number} of {len(cases)}", cases, rtol=rtol, atol=atol)

    def judge(
        self,
        case: Case,
        came: Any,
        place: str = "",
        cases: Sequence[Case] = (),
        *,
        rtol: float = 1e-5,
        atol: float = 1e-6,
    ) -> None:
        """Compares one result with a case's.

        Raises:
            CheckFailed: it is not right.
        """
        name = f"{place}: {case.what}" if place else case.what
        problem = _shape_problem(came, case.expected)
        if problem is None and close(came, case.expected, rtol, atol):
            return
        hint = next((hint for hint, wrong in case.mistakes if close(came, wrong, rtol, atol)), None)
        if hint is None:
            hint = next((hint for hint, shows in case.signs if _safely(shows, came)), None)
        if hint is None and self._is_constant(case, came, cases):
            hint = "the result is the same for different arguments: is it a constant?"
        raise self.fail(
            problem or "the result is not right",
            name,
            expected=in_short(case.expected),
            came=in_short(came),
            hint=hint,
        )

    def _is_constant(self, case: Case, came: Any, cases: Sequence[Case]) -> bool:
        """Whether another case, with another right result, gives the same."""
        for other in cases:
            if other is case or close(other.expected, case.expected, 1e-5, 1e-6):
                continue
            with contextlib.suppress(CheckFailed):
                return close(self(other.what, *other.arguments), came, 0, 0)
        return False

    def passes(self, what: str) -> None:
        """The one line of a function that passes."""
        print(f"{self.exercise}: passed. {what}")


# ---------------------------------------------------------------------- whose function is it


def refuse_foreign(exercise: str, function: Any) -> None:
    """
    Raises:
        CheckFailed: not a function or class, or one of the package or of a library.
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function) if callable(function) else function
    function = getattr(function, "__func__", function)
    if not callable(function):
        raise CheckFailed(exercise, f"is a {type(function).__name__}, not a function")
    if not inspect.isclass(function) and not inspect.isfunction(function):
        if type(function).__module__ in ("builtins", "torch._ops"):
            raise CheckFailed(exercise, "is a library's function; write your own")
        function = type(function)
    module = function.__module__ or ""
    code = getattr(function, "__code__", None)
    if module.split(".")[0] == "labkit" or _inside(code):
        raise CheckFailed(exercise, "is the package's own function; write your own")
    if module.split(".")[0] in ("torch", "torchmetrics", "torchvision", "numpy", "math"):
        raise CheckFailed(exercise, "is a library's function; write your own")


def _inside(code: CodeType | None) -> bool:
    return code is not None and code.co_filename.startswith(PACKAGE)


class _Calls:
    """Notes which of the package's functions run while a student's function does."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self.found: str | None = None

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or self.found is not None or not _inside(frame.f_code):
            return
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file.startswith(HERE) or name.startswith("<"):
            return
        inner = Path(file).relative_to(PACKAGE).as_posix()
        if not self.allowed(inner, name):
            self.found = f"labkit.{inner.removesuffix('.py').replace('/', '.')}.{name}"

    def __enter__(self) -> None:
        self.before = sys.getprofile()
        sys.setprofile(self._note)

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self.before)

    def refuse(self, student: Student) -> None:
        """
        Raises:
            CheckFailed: a function was called that must not be.
        """
        if self.found is not None:
            what = f"calls {self.found}, which this exercise asks you to write"
            raise student.fail(what)


# ------------------------------------------------------------------------ time, errors, chance


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends the block after so many seconds. A long call inside a library ends first."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):

        def ring(number: int, frame: object) -> None:
            raise _TimeUp

        before = signal.signal(signal.SIGALRM, ring)
        # Again every second: a bare `except:` in the loop would swallow the first one.
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    else:
        # Windows has no such signal, and other threads do not get it.
        thread = ctypes.c_ulong(threading.get_ident())
        raise_there = ctypes.pythonapi.PyThreadState_SetAsyncExc
        timer = threading.Timer(seconds, raise_there, (thread, ctypes.py_object(_TimeUp)))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@contextlib.contextmanager
def chance_kept() -> Iterator[None]:
    """Leaves the global random generators and torch's default type as they were: a check changes
    no later cell's output."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.random.set_rng_state(states[2])
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)


def check(function: Callable[..., None]) -> Callable[..., None]:
    """Marks a check: what it draws does not change the notebook's own draws."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        with chance_kept():
            function(*arguments, **options)

    return run


def _in_words(error: BaseException, function: Any) -> str:
    """An error in one sentence, with the student's line that raised it."""
    message = (str(error).strip() or "no message").splitlines()[0]
    sentence = f"raises {type(error).__name__}: {message}"
    files = {getattr(getattr(each, "__code__", None), "co_filename", None) for each in [function]}
    if inspect.isclass(function):
        codes = (getattr(each, "__code__", None) for each in vars(function).values())
        files = {code.co_filename for code in codes if code is not None}
    for entry in reversed(traceback.extract_tb(error.__traceback__)):
        if entry.filename in files:
            line = linecache.getline(entry.filename, entry.lineno or 0).strip()
            return f"{sentence}, in line {entry.lineno}: {line}" if line else sentence
    return sentence


# ------------------------------------------------------------------------------ values


def as_tensor(value: Any) -> Tensor | None:
    """A number, array or tensor as a float64 tensor; None for anything else."""
    try:
        return torch.as_tensor(value).detach().double().cpu()
    except (TypeError, ValueError, RuntimeError):
        return None


def close(came: Any, expected: Any, rtol: float, atol: float) -> bool:
    """Whether two results are the same up to rounding: numbers, tensors, or tuples of them."""
    if isinstance(expected, tuple):
        if not isinstance(came, tuple | list) or len(came) != len(expected):
            return False
        return all(close(*pair, rtol, atol) for pair in zip(came, expected, strict=True))
    one, other = as_tensor(came), as_tensor(expected)
    if one is None or other is None or one.shape != other.shape:
        return False
    return torch.allclose(one, other, rtol=rtol, atol=atol, equal_nan=True)


def _shape_problem(came: Any, expected: Any) -> str | None:
    if isinstance(expected, tuple):
        if not isinstance(came, tuple | list) or len(came) != len(expected):
            return f"returns {_kind(came)}; expected {len(expected)} values"
        problems = (_shape_problem(*pair) for pair in zip(came, expected, strict=True))
        return next((problem for problem in problems if problem), None)
    one, other = as_tensor(came), as_tensor(expected)
    if one is None:
        return f"returns {_kind(came)}; expected {'a number' if other.ndim == 0 else 'a tensor'}"
    if one.shape != other.shape:
        return f"returns shape {tuple(one.shape)}; expected {tuple(other.shape)}"
    if one.isnan().any() and not other.isnan().any():
        return "the result holds NaN"
    return None


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def in_short(value: Any) -> str:
    """A result in one line: the first numbers, and the shape where there are more."""
    if isinstance(value, tuple | list):
        return ", ".join(in_short(each) for each in value)
    tensor = as_tensor(value)
    if tensor is None:
        return _kind(value)
    if tensor.ndim == 0:
        return f"{tensor.item():.6g}"
    numbers = ", ".join(f"{number:.4g}" for number in tensor.flatten()[:4].tolist())
    if tensor.numel() > 4:
        numbers += ", ..."
    return f"[{numbers}] of shape {tuple(tensor.shape)}"


def _safely(shows: Callable[[Any], bool], came: Any) -> bool:
    try:
        return bool(shows(came))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False
