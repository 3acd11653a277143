"""A process ended with everything that it started, also in sessions of their own, such as Jupyter's
kernels."""

from __future__ import annotations

import contextlib

import psutil


def end_with_children(pid: int) -> None:
    """Kills a process and all its descendants; those that have ended already are left out."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                each.kill()
