"""Trains, is killed, and goes on: a script of its own, so that it may kill real processes.

    python tests/training/killing.py DATA OUT

One process imports torch and forks one child a training. Some children are killed by the clock,
some kill themselves at a given call of a function, counted from their start: calls of C functions
too, so a point may lie between a file's opening, its writing, its fsync and its renaming. Prints
one line of JSON a case.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch

from labkit.config import Config, from_dict
from labkit.presets import SMOKE
from labkit.training import checkpoint, train

SEED = 5
BY_CALL, IN_WRITES, BY_CLOCK = 7, 8, 5
WRITING = ("write", "flush", "fsync", "replace")


def tiny(data: str) -> Config:
    """Two epochs of four small updates, with a checkpoint after every third one."""
    values = SMOKE.to_dict()
    values["data"] |= {"root": data, "n_future": 3}
    values["model"] |= {"hidden_size": 8, "prior": "learned", "skip": "random_context"}
    values["teacher_forcing"] |= {"granularity": "step", "start": 0.7}
    values["training"] |= {
        "updates_per_epoch": 4,
        "batch_size": 2,
        "checkpoint_every": 3,
        "schedule_by": "update",
        "validation_clips": 2,
    }
    return from_dict(values)


class Calls:
    """Counts calls of functions, and those that bring a file to the disk, and ends the process at
    one of them."""

    def __init__(self, kind: str = "", end_at: int = 0) -> None:
        self.counts = {"call": 0, "write": 0}
        self.end_at = {kind: end_at}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_call", "c_return"):
            return
        kinds = ["call"]
        name = getattr(argument, "__name__", "")
        if frame.f_code.co_name == "write_whole" and name in WRITING:
            kinds.append("write")
        for kind in kinds:
            self.counts[kind] += 1
            if self.counts[kind] == self.end_at.get(kind):
                os.kill(os.getpid(), signal.SIGKILL)


def child(work: Callable[[], None], seconds: float | None = None) -> int:
    """Does the work in a forked process, which is killed after so many seconds; returns the signal
    that ended it, 0 where it came to its end."""
    number = os.fork()
    if number == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a training failed"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def training(config: Config, run: Path, calls: Calls | None = None, told: Path | None = None):
    """The work of a child. `told` is given what was counted."""

    def work() -> None:
        sys.setprofile(calls)
        train(config, run, resume=True, progress=False)
        sys.setprofile(None)
        if told is not None:
            told.write_text(json.dumps(calls.counts))

    return work


def equal(one: object, two: object) -> bool:
    """Whether two checkpoints hold the same, to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def differing(whole: Path, parts: Path) -> list[str]:
    """Which files of two runs are not the same."""
    names = ["model.safetensors", "history.csv", "config.json"]
    wrong = [n for n in names if (whole / n).read_bytes() != (parts / n).read_bytes()]
    if not equal(*(checkpoint.load_checkpoint(run) for run in (whole, parts))):
        wrong.append("checkpoint.pt")
    here, there = ({file.name for file in run.iterdir()} for run in (whole, parts))
    return wrong + sorted(here ^ there)


def main(data: str, out: Path) -> None:
    """All cases."""
    torch.set_num_threads(1)
    config, whole = tiny(data), out / "whole"
    start = time.monotonic()
    assert child(training(config, whole)) == 0
    seconds = time.monotonic() - start
    assert child(training(config, out / "counted", Calls(), out / "calls.json")) == 0
    print(json.dumps({"case": "again", "killed": True, "wrong": differing(whole, out / "counted")}))
    counts = json.loads((out / "calls.json").read_text())
    rng = random.Random(SEED)
    cases = [("call", rng.randrange(1, counts["call"])) for _ in range(BY_CALL)]
    cases += [("write", rng.randrange(1, counts["write"])) for _ in range(IN_WRITES)]
    cases += [("clock", rng.uniform(0.1, 0.8) * seconds) for _ in range(BY_CLOCK)]
    for n, (kind, point) in enumerate(cases):
        run = out / f"run{n}"
        if kind == "clock":
            while (killed := child(training(config, run), seconds=point)) != signal.SIGKILL:
                shutil.rmtree(run)  # it was done sooner this time
                point /= 2
        else:
            killed = child(training(config, run, Calls(kind, point)))
        done = 0
        if (run / checkpoint.CHECKPOINT).exists():
            done = checkpoint.load_checkpoint(run)["update"]
        left = [file.name for file in run.glob(".*")] if run.exists() else []
        assert child(training(config, run)) == 0
        print(
            json.dumps(
                {
                    "case": f"{kind} {point}",
                    "killed": killed == signal.SIGKILL,
                    "checkpoint": done,
                    "left": left,
                    "wrong": differing(whole, run),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
