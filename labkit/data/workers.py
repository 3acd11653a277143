"""Work shared out between processes, with the results in the order of the work."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import TypeVar

from labkit.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result]]:
    """Does the work; yields each task with its result, in the order of the tasks.

    At most `2 * workers` tasks are in the making, so memory stays flat. Faults come in order too:
    whatever stands before one is yielded before it is raised. Ctrl-C reaches this process alone,
    which then ends the others: they say nothing.

    Args:
        work: a function that pickles.
        tasks: what to do; made one by one, in this process.
        workers: processes; 1 stays in this one.

    Raises:
        DataError: `work` or `tasks` raised it, or a process was ended from outside.
    """
    if workers <= 1:
        yield from ((task, work(task)) for task in tasks)
        return
    # spawn: a forked child would inherit the locks of the parent's threads (torch, BLAS).
    context = multiprocessing.get_context("spawn")
    # Outside `_ctrl_c_later`: it starts multiprocessing's resource tracker, which unblocks SIGINT.
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(stop,))
    waiting: collections.deque[tuple[Task, Future[Result]]] = collections.deque()
    fault: DataError | None = None
    tasks = iter(tasks)
    try:
        while True:
            while fault is None and len(waiting) < 2 * workers:
                try:
                    task = next(tasks)
                except StopIteration:
                    break
                except DataError as error:
                    fault = error
                else:
                    with _ctrl_c_later():  # this is where the pool starts its processes
                        waiting.append((task, pool.submit(_unless_stopped, work, task)))
            if not waiting:
                break
            task, future = waiting.popleft()
            yield task, future.result()
        if fault is not None:
            raise fault
    except BrokenProcessPool:
        hint = "the system may be short of memory: run it again, with fewer workers"
        raise DataError("a worker process was ended from outside", hint=hint) from None
    finally:
        with _ctrl_c_later():  # a second Ctrl-C would leave processes behind
            stop.set()
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Holds Ctrl-C back until the block is done. A process that is started within it has Ctrl-C
    held back from its first instruction on, before it could say for itself that it ignores it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(stop: Event) -> None:
    """Ctrl-C is the parent's to answer; and a worker whose parent was killed ends too."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


_stop: Event
"""in a worker process: set once nobody wants further results"""


def _unless_stopped(work: Callable[[Task], Result], task: Task) -> Result | None:
    """Does the work. What a process took on before all was called off is not begun any more."""
    return None if _stop.is_set() else work(task)
