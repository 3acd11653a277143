"""A question put to trainings: plan, train, judge, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from labkit.config import MACHINE_FIELDS, Config
from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError, RunError
from labkit.evaluation import find_protocol
from labkit.experiments.comparison import Comparison, compared
from labkit.experiments.evaluated_run import read_judged
from labkit.experiments.page import write_page
from labkit.experiments.questions import QUESTIONS, arms_of
from labkit.experiments.training import Job, Judging, carry_out
from labkit.fields import differences
from labkit.training.checkpoint import CONFIG


@dataclass(frozen=True)
class Outcome:
    """What an experiment has come to."""

    comparison: Comparison
    page: Path
    failed: dict[str, str]
    """what went wrong, by run"""


def run_experiment(
    question: str,
    base: Config,
    out: Path,
    *,
    command: str,
    seeds: int = 3,
    at_once: int | None = None,
    threads: int | None = None,
    cores: int = 1,
    judging: Judging | None = None,
    progress: bool = True,
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Trains every arm of a question with every seed, judges all alike, and writes the page.

    What is there already is kept: the same call goes on where an earlier one was ended.

    Args:
        question: its name (`labkit.experiments.questions`).
        base: the config that all arms start from; its seed is the first of the seeds.
        out: folder of the runs, `ARM/seed_N`, and of the page.
        command: what makes it again, for the page.
        seeds: trainings of each arm.
        at_once: trainings at a time; None is as many as the cores carry.
        threads: of each training; None shares the cores out.
        cores: of the machine.
        judging: how all are evaluated; None as `Judging` says.
        progress: show a bar.
        tell: given a line on what goes on.
    Raises:
        LabkitError: an unknown question or protocol, settings that do not go together, or less
            than two arms that could be trained.
        DataError: the data set is not there.
        RunError: `out` holds runs with other settings, or another experiment is at work in it.
        Interrupted: Ctrl-C or SIGTERM came; everything is saved.
    """
    jobs = planned(question, base, out, seeds, judging or Judging())
    at_once, threads = shared_out(len(jobs), cores, at_once, threads)
    _check_kept(jobs)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            done = sum(job.is_done() for job in jobs)
            kept = f", {done} of which are done" if done else ""
            tell(
                f"{QUESTIONS[question].asks} {len(jobs)} trainings of {jobs[0].updates} "
                f"updates{kept}; {at_once} at once, {_counted(threads, 'thread')} each, in {out}"
            )
            failed = carry_out(jobs, at_once=at_once, threads=threads, progress=progress, tell=tell)
    except Timeout:
        raise RunError(
            "another experiment is at work in this folder", file=out, hint="let it end first"
        ) from None
    comparison = _compared(jobs, failed)
    told = {job.name: fault for job, fault in failed.items()}
    notes = [f"Failed and left out: {name}: {fault}" for name, fault in told.items()]
    page = write_page(comparison, out, title=QUESTIONS[question].asks, command=command, notes=notes)
    return Outcome(comparison, page, told)


def planned(question: str, base: Config, out: Path, seeds: int, judging: Judging) -> list[Job]:
    """The trainings of a question: seed by seed, so that what is done first is of all arms.

    Raises:
        LabkitError: an unknown question or protocol, no seeds, no clips.
        DataError: there is no such data set.
    """
    arms = arms_of(question, base)
    find_protocol(judging.protocol)
    if seeds < 1:
        raise LabkitError(f"--seeds is {seeds}", hint="give at least 1; 3 or more tell more")
    if judging.clips < 1 or judging.samples < 1:
        raise LabkitError(
            f"--clips is {judging.clips} and --samples {judging.samples}", hint="give at least 1"
        )
    # Read here once: a pack that is not there yet is made before the trainings meet over it.
    data = ClipDataset(base.data.root, "test", n_past=1, n_future=1, condition="none", labels=False)
    judging = replace(judging, clips=min(judging.clips, data.n_clips))
    return [
        Job(arm, out / arm / f"seed_{seed}", replace(config, seed=seed), judging)
        for seed in range(base.seed, base.seed + seeds)
        for arm, config in arms.items()
    ]


def shared_out(
    jobs: int, cores: int, at_once: int | None = None, threads: int | None = None
) -> tuple[int, int]:
    """How many trainings at once, and the threads of each, on so many cores.

    Small trainings gain little from more threads, so there are as many trainings as cores, and
    cores that are left over become threads.

    Raises:
        LabkitError: less than one was asked for.
    """
    for name, asked in (("--jobs", at_once), ("--threads", threads)):
        if asked is not None and asked < 1:
            raise LabkitError(f"{name} is {asked}", hint="1 or more, or leave it out")
    if at_once is None:
        at_once = max(1, cores // (threads or 1))
    at_once = min(at_once, jobs)
    return at_once, threads or max(1, cores // at_once)


def _check_kept(jobs: list[Job]) -> None:
    """Raises RunError where a folder holds a run with other settings than the one planned."""
    for job in jobs:
        if not (job.folder / CONFIG).is_file():
            continue
        old, new = Config.load(job.folder / CONFIG).to_dict(), job.config.to_dict()
        for values in (old, new):
            for name in MACHINE_FIELDS:
                del values["training"][name]
        found = differences(old, new)
        if found:
            raise RunError(
                f"the run was made with other settings: {'; '.join(found)}",
                file=job.folder,
                hint="give the settings that the experiment was begun with, or another --out",
            )


def _compared(jobs: list[Job], failed: Mapping[Job, str]) -> Comparison:
    arms: dict[str, list] = {}
    for job in jobs:
        if job not in failed:
            judged = read_judged(job.folder, job.judging.protocol)
            arms.setdefault(job.arm, []).append(judged)
    if len(arms) < 2:
        first = next(iter(failed))
        raise LabkitError(
            f"only {len(arms)} of the arms could be trained; {first.name} failed: {failed[first]}",
            hint=f"what it said is in {first.folder}",
        )
    order = list(dict.fromkeys(job.arm for job in jobs))
    return compared({arm: arms[arm] for arm in order if arm in arms})


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
