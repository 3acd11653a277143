"""Several trainings at once, each in a process of its own, each judged when it is done.

Whatever ends the parent ends them too: they notice when it is gone, save, and end. What one has
reached stays in its folder, so the same work given again goes on from there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

from filelock import FileLock
from tqdm.auto import tqdm

from labkit.config import Config
from labkit.errors import LabkitError, RunError
from labkit.evaluation.perceptual import Network
from labkit.experiments.evaluated_run import read_judged
from labkit.training import read_history
from labkit.training.checkpoint import WEIGHTS
from labkit.training.signals import NAMES, SignalHandler

LOG = "log.txt"


@dataclass(frozen=True)
class Judging:
    """How every run is evaluated."""

    protocol: str = "frame"
    clips: int = 256
    """of the test split, the first windows; no more than there are"""
    samples: int = 2
    lpips: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Job:
    """One training, and its evaluation."""

    arm: str
    folder: Path
    config: Config
    judging: Judging

    @property
    def name(self) -> str:
        """What it is called in messages: "cyclical, seed 1"."""
        return f"{self.arm}, seed {self.config.seed}"

    @property
    def updates(self) -> int:
        """How many it is to make."""
        return self.config.training.epochs * self.config.training.updates_per_epoch

    def updates_done(self) -> int:
        """How many its history tells of."""
        try:
            return int(read_history(self.folder)["updates"][-1])
        except (RunError, IndexError):
            return 0

    def is_trained(self) -> bool:
        """Whether every update was made."""
        return self.updates_done() >= self.updates and (self.folder / WEIGHTS).is_file()

    def is_judged(self) -> bool:
        """Whether the weights as they are were evaluated as they should be."""
        try:
            found = read_judged(self.folder, self.judging.protocol).evaluation
        except LabkitError:
            return False
        same_samples = found.best_of > 1 or found.samples_psnr.shape[1] == self.judging.samples
        lpips = {f"lpips_{network}" for network in self.judging.lpips} <= found.scores.keys()
        return found.clips == self.judging.clips and same_samples and lpips

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_trained() and self.is_judged()


class Interrupted(KeyboardInterrupt):
    """An experiment that was asked to end; every training of it has saved where it stands."""

    def __init__(self, number: int) -> None:
        """
        Args:
            number: of the signal.
        """
        self.code = 128 + number
        """exit code of a process that ends for it: 130 or 143"""
        super().__init__(
            f"stopped by {NAMES.get(number, number)}, with everything saved; the same command, "
            "given again, goes on"
        )


def carry_out(
    jobs: Sequence[Job],
    *,
    at_once: int,
    threads: int,
    progress: bool = True,
    tell: Callable[[str], None] = print,
) -> dict[Job, str]:
    """Trains and judges what is not done yet.

    Args:
        jobs: what to do.
        at_once: how many at a time.
        threads: of each.
        progress: show a bar over all updates.
        tell: given a line for each that is done, or has failed.
    Returns:
        what went wrong, for those that failed. The others are done.
    Raises:
        Interrupted: Ctrl-C or SIGTERM came.
    """
    left = [job for job in jobs if not job.is_done()]
    failed: dict[Job, str] = {}
    running: dict[BaseProcess, tuple[Job, int]] = {}
    total = sum(job.updates for job in jobs)
    bar = tqdm(total=total, unit="update", disable=not progress, desc="all trainings")
    with bar, SignalHandler() as stopping:
        try:
            while left or running:
                while left and len(running) < at_once:
                    job = left.pop(0)
                    taken = {place for _, place in running.values()}
                    place = min(set(range(at_once)) - taken)
                    running[_start(job, threads, place)] = job, place
                wait([process.sentinel for process in running], timeout=0.5)
                if stopping.number:
                    raise Interrupted(stopping.number)
                for process in [each for each in running if not each.is_alive()]:
                    process.join()
                    job, _ = running.pop(process)
                    fault = _fault(job, process.exitcode or 0)
                    if fault is not None:
                        failed[job] = fault
                    bar.clear()
                    tell(f"{job.name}: {'done' if fault is None else f'failed: {fault}'}")
                bar.update(sum(min(job.updates, job.updates_done()) for job in jobs) - bar.n)
        finally:
            _end(list(running))
    return failed


def _start(job: Job, threads: int, place: int) -> BaseProcess:
    """A process that does the job. On Linux it is forked from a server that has imported all
    that is needed: torch alone takes longer to import than a small training."""
    linux = sys.platform.startswith("linux")
    context = multiprocessing.get_context("forkserver" if linux else "spawn")
    if linux:
        context.set_forkserver_preload([__name__, "labkit.reporting.evaluate_run"])
    # Not daemonic: a training on a GPU has processes of its own that read ahead.
    process = context.Process(target=work, args=(job, threads, place), daemon=False)
    process.start()
    return process


def _end(running: Sequence[BaseProcess]) -> None:
    """Asks processes to end, which trainings do after the update that they are at."""
    for process in running:
        process.terminate()
    for process in running:
        process.join()


def _fault(job: Job, code: int) -> str | None:
    """What a process that has ended says of itself; None where all is well."""
    if code == 0:
        return None
    if code == -getattr(signal, "SIGKILL", 9):
        return "ended from outside, perhaps for want of memory: try fewer --jobs"
    log = job.folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    said = [line for line in lines if line.strip()]
    return said[-1] if said else f"exit code {code}, and nothing in {log}"


# ------------------------------------------------------------------ in the process of a job


def work(job: Job, threads: int, place: int) -> None:
    """Trains and judges one run, in a process of its own; what it says goes into its log.

    Args:
        job: what to do.
        threads: for torch.
        place: among those at work at once, which picks a GPU where there are several.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C is the parent's to answer
    job.folder.mkdir(parents=True, exist_ok=True)
    # One that is still ending, of an experiment that was killed, is waited for.
    lock = FileLock(job.folder.with_name(f".{job.folder.name}.lock"))
    with lock, (job.folder / LOG).open("w", encoding="utf-8") as log:
        sys.exit(_work_on(job, threads, place, log))


def _work_on(job: Job, threads: int, place: int, log: TextIO) -> int:
    """The exit code."""
    import torch

    from labkit.reporting.evaluate_run import evaluate_run
    from labkit.training import train

    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    torch.set_num_threads(threads)
    gpus = torch.cuda.device_count()
    device = f"cuda:{place % gpus}" if gpus else None
    if gpus:
        torch.cuda.set_device(place % gpus)

    def tell(line: object) -> None:
        print(" ".join(str(line).split()), file=log, flush=True)

    try:
        if not job.is_trained():
            train(job.config, job.folder, resume=True, progress=False, device=device, tell=tell)
        if not job.is_judged():
            asked = job.judging
            evaluate_run(
                job.folder,
                clips=asked.clips,
                progress=False,
                protocol=asked.protocol,
                samples=asked.samples,
                lpips=asked.lpips,
                views=False,
            )
    except LabkitError as error:
        tell(error)
        return 2
    except KeyboardInterrupt as stop:
        tell(stop)
        return getattr(stop, "code", 130)
    return 0


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)  # a training saves first; nothing should take longer than that
    os._exit(1)
