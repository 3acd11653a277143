"""Work that is shared out between processes: its order, its faults, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from converting import only, tree

from labkit.data.convert import convert
from labkit.data.workers import in_order
from labkit.errors import DataError


class Tasks:
    """Counts how many tasks have been taken."""

    taken = 0

    def __iter__(self):
        for number in range(30):
            self.taken += 1
            yield -number


def test_work_in_the_making_is_bounded_and_results_are_in_order():
    tasks = Tasks()
    for done, (task, result) in enumerate(in_order(abs, tasks, 2)):
        assert (task, result) == (-done, done)
        assert tasks.taken <= done + 2 * 2
    assert tasks.taken == 30


def test_a_worker_that_is_ended_from_outside_is_an_error_of_ours():
    with pytest.raises(DataError, match="a worker process was ended from outside"):
        list(in_order(os._exit, [1, 1], 2))


def test_what_nobody_wants_any_more_is_not_begun():
    results = in_order(time.sleep, [0.0, *[1.0] * 20], 2)
    next(results)
    begun = time.monotonic()
    results.close()
    assert time.monotonic() - begun < 1.9  # four tasks are in the making, and two have begun


# A shell's job in the background ignores Ctrl-C, and so would its children.
COMMAND = """
import signal, sys
from labkit.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    print("ready", flush=True)
    sys.exit(main(sys.argv[1:]))
"""


def begun(child: subprocess.Popen, out: Path) -> bool:
    """Whether the command has begun to write; no worker process is there."""
    return (out.parent / f".{out.name}.lock").exists()


def starting(child: subprocess.Popen, out: Path) -> bool:
    """Whether the first worker process is there; it takes a while until it can ignore Ctrl-C."""
    return any("spawn_main" in " ".join(p.cmdline()) for p in psutil.Process(child.pid).children())


def working(child: subprocess.Popen, out: Path) -> bool:
    """Whether the first clip is written."""
    started = out.parent.glob(f".{out.name}.*.part")
    return any(any(part.rglob(name)) for part in started for name in ("29.png", "frames.bin"))


def interrupted(words: list[str], out: Path, when: Callable[..., bool], times: int) -> str | None:
    """Runs a command of labkit and sends Ctrl-C to all its processes, as a terminal does.

    Returns:
        What was printed as errors; None if the command ended well before.
    """
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while child.poll() is None:
            with contextlib.suppress(psutil.Error, OSError):  # what was there a moment ago
                if when(child, out):
                    break
            time.sleep(0.01)
        for _ in range(times):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGINT)
            time.sleep(0.03)
        _, errors = child.communicate(timeout=60)
    if child.returncode == 0:
        return None
    assert child.returncode == 130, errors
    return errors


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
@pytest.mark.parametrize(
    ("to", "moments"),
    [("pack", [(begun, 1), (starting, 1)]), ("layout", [(starting, 2), (working, 1)])],
)
def test_ctrl_c_to_all_processes_is_one_sentence(
    bair: Path, packed: Path, folders: Path, tmp_path: Path, to: str, moments: list
) -> None:
    out = tmp_path / "out"
    words = ["data", "convert", str(bair), str(out), "--workers", "2", "--no-progress"]
    words += ["--layout"] if to == "layout" else []
    said = "labkit data convert: interrupted; the same command goes on where it stopped\n"
    for when, times in moments:
        assert interrupted(words, out, when, times) == said, when.__name__
        assert not out.exists()
    convert(bair, out, to=to, workers=1)
    assert tree(out) == tree(packed if to == "pack" else folders)
    assert only(tmp_path) == ["out"]
