"""How many CPU threads a training uses: the first updates are timed with all of them and with one.

On a machine that also does something else, several threads can be many times slower than one: each
parallel operation waits for a thread that is not running.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

from labkit.cores import usable_cores

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables with which a user decides the number of threads."""
CLEARLY = 0.9
"""One thread is chosen where it takes less than this share of the time."""


def chosen_by_user() -> bool:
    """Whether an environment variable decides the number of threads."""
    return any(os.environ.get(name) for name in VARIABLES)


def limit_to_cores() -> None:
    """Sets torch's threads to the usable cores where torch takes more, because it does not see the
    quota of a container. A number that the user decided stays."""
    if not chosen_by_user() and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())


def choose_threads(work: Callable[[], object]) -> str:
    """Times some work with all of torch's threads and with one, and sets the better number.

    Args:
        work: what to time; it is called four times.
    Returns:
        what was measured, in words; empty where there was nothing to choose.
    """
    most = torch.get_num_threads()
    if most == 1:
        return ""
    seconds = {}
    for threads in (most, 1):
        torch.set_num_threads(threads)
        work()  # the first call allocates memory and starts threads
        start = time.perf_counter()
        work()
        seconds[threads] = time.perf_counter() - start
    chosen = 1 if seconds[1] < CLEARLY * seconds[most] else most
    torch.set_num_threads(chosen)
    return (
        f"timed: {seconds[most]:.2g} s per update with {most} threads, {seconds[1]:.2g} s with one"
    )
