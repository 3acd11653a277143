"""Runs in the kernel of a student's notebook before its first cell: a cell that prints more than
MOST_OUTPUT letters ends with an error.

It must be done there. A kernel that prints without end sends messages of gigabytes, and whoever
reads them is busy for minutes before it could say stop. It imports nothing of labkit, which takes
seconds.
"""

from __future__ import annotations

from typing import Any

MOST_OUTPUT = 5_000_000
"""letters that a cell may print"""
GUARD = "labkit_guard"
"""the module's name within a kernel"""


class TooMuchOutput(Exception):
    """A cell prints more than MOST_OUTPUT letters."""


def start_options(most: int = MOST_OUTPUT) -> list[str]:
    """Options for the start of a kernel, which install the guard in it."""
    names = {"__name__": GUARD, "MOST": most}
    code = f"exec(open({__file__!r}, encoding='utf-8').read(), {names!r})"
    return [f"--IPKernelApp.exec_lines={code}"]


def install(shell: Any, streams: list[Any], most: int) -> None:
    """Limits what each cell writes to the streams together."""
    printed, inside = 0, False

    def begin(*_: Any) -> None:
        nonlocal printed
        printed = 0
        # Anew for each cell: IPython puts its own function there while a cell runs.
        for stream in streams:
            if not hasattr(stream.write, "limited"):
                stream.write = limited(stream.write)

    def limited(write: Any) -> Any:
        def write_some(text: str) -> int:
            nonlocal printed, inside
            if inside:  # IPython's function, called by ours, may call ours of an earlier cell
                return write(text)
            inside = True
            try:
                room = most - printed
                printed += len(text)
                if len(text) <= room:
                    return write(text)
                if room >= 0:
                    cut = f"\n[cut off: more than {most:,} letters were printed]\n"
                    write(text[:room] + cut)
                raise TooMuchOutput(f"more than {most:,} letters were printed")
            finally:
                inside = False

        write_some.limited = True  # type: ignore[attr-defined]
        return write_some

    shell.events.register("pre_run_cell", begin)


if __name__ == GUARD:
    import sys

    from IPython import get_ipython

    install(get_ipython(), [sys.stdout, sys.stderr], globals()["MOST"])
