"""Submissions graded in processes of their own, several at once, each with a limit of time and
memory. Whatever happens in one of them, the others go on."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from labkit.course.grade_submission import Graded, Task, begun, grade_submission
from labkit.course.process_tree import end_with_children
from labkit.course.rules import Rules
from labkit.files import write_whole

MOST_FILE = 4_000_000_000
"""bytes of a file that a process may write"""


@dataclass(frozen=True)
class Limits:
    """Of one submission."""

    seconds: float
    gigabytes: float
    """of memory; it is not limited on a GPU, whose driver reserves any number of addresses"""
    threads: int = 1
    """one: rounding, and so a grade near a bound, then does not depend on the machine's cores"""


def grade_all(
    tasks: Sequence[Task],
    rules: Rules,
    limits: Limits,
    workers: int,
    done: Callable[[Task], object],
) -> None:
    """Grades every task; each writes its result's file, also where it failed.

    Args:
        tasks: what to grade.
        rules: the course's, for a submission whose process wrote nothing.
        limits: of each.
        workers: processes at once.
        done: called after each.
    """
    waiting = list(tasks)
    running: dict[BaseProcess, tuple[Task, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.pop(0)
                running[_start(task, limits)] = task, time.monotonic() + limits.seconds
            wait([process.sentinel for process in running], timeout=0.2)
            for process, (task, until) in list(running.items()):
                late = time.monotonic() > until
                if process.is_alive() and not late:
                    continue
                del running[process]
                _end(process)
                fault = _fault(process.exitcode or 0, late, limits)
                if fault is not None:
                    result = dataclasses.replace(begun(task, rules), problem=fault, again=True)
                    write_whole(task.result, result.to_json())
                done(task)
    finally:
        for process in running:
            _end(process)


def _start(task: Task, limits: Limits) -> BaseProcess:
    """A process that grades the task; on Linux it is forked from a server that has imported
    torch."""
    linux = sys.platform.startswith("linux")
    context = multiprocessing.get_context("forkserver" if linux else "spawn")
    if linux:
        context.set_forkserver_preload([__name__])
    # Not daemonic: nbgrader starts kernels.
    process = context.Process(target=work, args=(task, limits), daemon=False)
    process.start()
    return process


def _end(process: BaseProcess) -> None:
    """Ends a process and those that it started."""
    if process.is_alive() and process.pid is not None:
        end_with_children(process.pid)
        process.kill()
    process.join()


def _fault(code: int, late: bool, limits: Limits) -> str | None:
    """Why a process wrote no result; None if it did."""
    if code == 0:
        return None
    if late:
        return f"it was not graded within {limits.seconds / 60:g} minutes"
    if code < 0:
        return f"its process was ended by the system (signal {-code}): it may need too much memory"
    return f"its process ended with exit code {code}"


# ------------------------------------------------------------------- in a submission's process


def work(task: Task, limits: Limits) -> None:
    """Grades one task in a process of its own, and writes its result."""
    if hasattr(os, "setsid"):
        os.setsid()  # only the parent answers a terminal's Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    _limit(limits, task.data.device)
    result = _graded(task, limits)
    write_whole(task.result, result.to_json())


def _graded(task: Task, limits: Limits) -> Graded:
    import torch

    torch.set_num_threads(limits.threads)
    try:
        return grade_submission(task)
    except MemoryError:
        what = f"it needs more than {limits.gigabytes:g} GB of memory"
    except Exception as error:  # whatever one submission does, the others are graded
        reason = " ".join(str(error).split())[:200]
        what = f"it cannot be graded: {type(error).__name__}: {reason}"
    return dataclasses.replace(begun(task, Rules.load(task.rules)), problem=what, again=True)


def _limit(limits: Limits, device: str) -> None:
    """Limits the memory and the size of files of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = {resource.RLIMIT_FSIZE: MOST_FILE, resource.RLIMIT_CORE: 0}
    if device == "cpu":
        wanted[resource.RLIMIT_DATA] = round(limits.gigabytes * 1e9)
    for kind, most in wanted.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    end_with_children(os.getpid())
