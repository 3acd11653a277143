"""Work shared out between processes, with the results in the order of the work."""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from labkit.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result]]:
    """Does the work; yields each task with its result, in the order of the tasks.

    At most `2 * workers` tasks are in the making, so memory stays flat. Faults come in order too:
    whatever stands before one is yielded before it is raised.

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
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
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
                    waiting.append((task, pool.submit(work, task)))
            if not waiting:
                break
            task, future = waiting.popleft()
            yield task, future.result()
        if fault is not None:
            raise fault
    except BrokenProcessPool:
        mend = "the system may be short of memory: run it again, with fewer workers"
        raise DataError("a worker process was ended from outside", mend=mend) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ctrl-C is the parent's to answer; and a worker whose parent was killed ends too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
