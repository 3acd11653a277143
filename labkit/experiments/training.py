"""Several trainings at once, each in a process of its own that also evaluates it.

The processes are forked from one that has imported torch, which takes longer than a small training.
If the parent ends, for whatever reason, they save and end too. The same jobs given again go on from
what is in their folders.
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
from labkit.experiments.evaluated_run import read_evaluated_run
from labkit.reporting.run_files import Selection
from labkit.training import read_history
from labkit.training.checkpoint import WEIGHTS
from labkit.training.signals import NAMES, SignalHandler

LOG = "log.txt"


@dataclass(frozen=True)
class EvaluationOptions:
    """How every run is evaluated, on the first windows of the test split."""

    protocol: str = "frame"
    clips: int | None = 256
    """the first so many; None is all"""
    samples: int = 2
    lpips: tuple[Network, ...] = ()

    @property
    def selection(self) -> Selection:
        """What names the evaluation's files."""
        return Selection(self.protocol, clips=self.clips)


@dataclass(frozen=True)
class Job:
    """One training and its evaluation."""

    arm: str
    folder: Path
    config: Config
    evaluation: EvaluationOptions

    @property
    def name(self) -> str:
        """Its name in messages: "cyclical, seed 1"."""
        return f"{self.arm}, seed {self.config.seed}"

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        return self.config.training.epochs * self.config.training.updates_per_epoch

    def updates_done(self) -> int:
        """Updates in the run's history."""
        try:
            return int(read_history(self.folder)["updates"][-1])
        except (RunError, IndexError):
            return 0

    def is_trained(self) -> bool:
        """Whether all updates are done."""
        return self.updates_done() >= self.updates and (self.folder / WEIGHTS).is_file()

    def is_evaluated(self) -> bool:
        """Whether there is an evaluation of the present weights with these options."""
        try:
            found = read_evaluated_run(self.folder, self.evaluation.selection).evaluation
        except LabkitError:
            return False
        same_samples = found.best_of > 1 or found.samples_psnr.shape[1] == self.evaluation.samples
        lpips = {f"lpips_{network}" for network in self.evaluation.lpips} <= found.scores.keys()
        return same_samples and lpips

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_trained() and self.is_evaluated()


class Interrupted(KeyboardInterrupt):
    """An experiment that was asked to end; every training of it has saved its state."""

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
    device: str | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> dict[Job, str]:
    """Trains and evaluates what is not done yet.

    Args:
        jobs: the trainings.
        at_once: number of trainings at a time.
        threads: of each.
        device: cpu, cuda or mps; None: the GPUs in turn, or the CPU where there is none.
        progress: show a bar over all updates.
        report: given a line for each job that is done or has failed.
    Returns:
        the error of each job that failed. The others are done.
    Raises:
        Interrupted: Ctrl-C or SIGTERM came.
    """
    left = [job for job in jobs if not job.is_done()]
    failed: dict[Job, str] = {}
    running: dict[BaseProcess, tuple[Job, int]] = {}
    total = sum(job.updates for job in jobs)
    bar = tqdm(total=total, unit="update", disable=not progress, desc="all trainings")
    with bar, SignalHandler() as signals:
        try:
            while left or running:
                while left and len(running) < at_once:
                    job = left.pop(0)
                    taken = {place for _, place in running.values()}
                    place = min(set(range(at_once)) - taken)
                    running[_start(job, threads, device, place)] = job, place
                wait([process.sentinel for process in running], timeout=0.5)
                if signals.number:
                    raise Interrupted(signals.number)
                for process in [each for each in running if not each.is_alive()]:
                    process.join()
                    job, _ = running.pop(process)
                    fault = _fault(job, process.exitcode or 0)
                    if fault is not None:
                        failed[job] = fault
                    bar.clear()
                    report(f"{job.name}: {'done' if fault is None else f'failed: {fault}'}")
                bar.update(sum(min(job.updates, job.updates_done()) for job in jobs) - bar.n)
        finally:
            _end(list(running))
    return failed


def _start(job: Job, threads: int, device: str | None, place: int) -> BaseProcess:
    """A process that carries out the job; on Linux it is forked from a server that has imported
    torch and labkit."""
    linux = sys.platform.startswith("linux")
    context = multiprocessing.get_context("forkserver" if linux else "spawn")
    if linux:
        context.set_forkserver_preload([__name__, "labkit.reporting.evaluate_run"])
    # Not daemonic: a training on a GPU starts processes of its own, which read ahead.
    process = context.Process(target=work, args=(job, threads, device, place), daemon=False)
    process.start()
    return process


def _end(running: Sequence[BaseProcess]) -> None:
    """Asks processes to end. A training saves after the update that it is at."""
    for process in running:
        process.terminate()
    for process in running:
        process.join()


def _fault(job: Job, code: int) -> str | None:
    """The error of a process that has ended; None if there was none."""
    if code == 0:
        return None
    if code == -getattr(signal, "SIGKILL", 9):
        return "ended from outside, perhaps because memory ran out: try fewer --jobs"
    log = job.folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    lines = [line for line in lines if line.strip()]
    return lines[-1] if lines else f"exit code {code}, and nothing in {log}"


# ------------------------------------------------------------------ in the process of a job


def work(job: Job, threads: int, device: str | None, place: int) -> None:
    """Trains and evaluates one run in a process of its own. The output goes into its log.

    Args:
        job: the training.
        threads: for torch.
        device: cpu, cuda or mps; None: a GPU where there is one.
        place: number among those that run at the same time, which chooses the GPU.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "setsid"):
        os.setsid()  # only the parent answers a terminal's Ctrl-C
    job.folder.mkdir(parents=True, exist_ok=True)
    # The same job of an experiment that was killed may still be saving: wait for it.
    lock = FileLock(job.folder.with_name(f".{job.folder.name}.lock"))
    with lock, (job.folder / LOG).open("w", encoding="utf-8") as log:
        sys.exit(_work_on(job, threads, device, place, log))


def _work_on(job: Job, threads: int, device: str | None, place: int, log: TextIO) -> int:
    """The exit code."""
    import torch

    from labkit.reporting.evaluate_run import evaluate_run
    from labkit.training import train

    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    torch.set_num_threads(threads)
    gpus = torch.cuda.device_count() if device in (None, "cuda") else 0
    if gpus:
        device = f"cuda:{place % gpus}"
        torch.cuda.set_device(place % gpus)

    def report(line: object) -> None:
        print(" ".join(str(line).split()), file=log, flush=True)

    try:
        if not job.is_trained():
            train(job.config, job.folder, resume=True, progress=False, device=device, report=report)
        if not job.is_evaluated():
            options = job.evaluation
            evaluate_run(
                job.folder,
                clips=options.clips,
                progress=False,
                protocol=options.protocol,
                samples=options.samples,
                lpips=options.lpips,
                views=False,
                fvd=False,
                device=device,
            )
    except LabkitError as error:
        report(error)
        return 2
    except KeyboardInterrupt as stop:
        report(stop)
        return getattr(stop, "code", 130)
    return 0


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)  # enough time for a training to save
    os._exit(1)
