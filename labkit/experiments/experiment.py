"""Answers a question by trainings: plan, train, evaluate, compare."""

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
from labkit.experiments.evaluated_run import read_evaluated_run
from labkit.experiments.page import write_page
from labkit.experiments.questions import QUESTIONS, arms_of
from labkit.experiments.training import LOG, EvaluationOptions, Job, carry_out
from labkit.fields import differences
from labkit.files import refuse_file
from labkit.training.checkpoint import CONFIG


@dataclass(frozen=True)
class Outcome:
    """The result of an experiment."""

    comparison: Comparison
    page: Path
    failed: dict[str, str]
    """the error of each run that failed"""


def run_experiment(
    question: str,
    base: Config,
    out: Path,
    *,
    command: str,
    seeds: int = 3,
    at_once: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    cores: int = 1,
    evaluation: EvaluationOptions | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> Outcome:
    """Trains every arm of a question with every seed, evaluates all in the same way, and writes
    the page.

    Finished trainings are not repeated: the same call goes on where an earlier one was stopped.

    Args:
        question: its name (`labkit.experiments.questions`).
        base: the config that all arms have in common; its seed is the first of the seeds.
        out: folder of the runs, `ARM/seed_N`, and of the page.
        command: the command that makes the page again, which the page shows.
        seeds: trainings of each arm.
        at_once: number of trainings at a time; None is one a core.
        threads: of each training; None divides the cores among the trainings.
        device: cpu, cuda or mps; None: the GPUs in turn, or the CPU where there is none.
        cores: of the machine.
        evaluation: how all are evaluated; None takes the defaults.
        progress: show a bar.
        report: given a line at each step.
    Raises:
        LabkitError: an unknown question or protocol, settings that do not fit together, or fewer
            than two arms could be trained.
        DataError: the data set is not there.
        RunError: `out` is a file or holds runs with other settings, or another experiment runs in
            it.
        Interrupted: Ctrl-C or SIGTERM came; everything is saved.
    """
    jobs = planned(question, base, out, seeds, evaluation or EvaluationOptions())
    at_once, threads = shared_out(len(jobs), cores, at_once, threads)
    _check_settings(jobs)
    refuse_file(out, RunError)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            done = sum(job.is_done() for job in jobs)
            finished = f", {done} of which are done" if done else ""
            report(
                f"{QUESTIONS[question].text} {len(jobs)} trainings of {jobs[0].updates} "
                f"updates{finished}; {at_once} at once, {_counted(threads, 'thread')} each, "
                f"in {out}"
            )
            failed = carry_out(
                jobs,
                at_once=at_once,
                threads=threads,
                device=device,
                progress=progress,
                report=report,
            )
    except Timeout:
        raise RunError(
            "another experiment is running in this folder", file=out, hint="wait until it ends"
        ) from None
    comparison = _compared(jobs, failed)
    faults = {job.name: fault for job, fault in failed.items()}
    notes = [f"Failed and left out: {name}: {fault}" for name, fault in faults.items()]
    page = write_page(comparison, out, title=QUESTIONS[question].text, command=command, notes=notes)
    return Outcome(comparison, page, faults)


def planned(
    question: str, base: Config, out: Path, seeds: int, evaluation: EvaluationOptions
) -> list[Job]:
    """The trainings of a question, seed by seed: all arms of a seed come before the next seed.

    Raises:
        LabkitError: an unknown question or protocol, no seeds, no clips.
        DataError: there is no such data set.
    """
    arms = arms_of(question, base)
    find_protocol(evaluation.protocol)
    if seeds < 1:
        raise LabkitError(f"--seeds is {seeds}", hint="give at least 1, better 3 or more")
    clips, samples = evaluation.clips, evaluation.samples
    if (clips is not None and clips < 1) or samples < 1:
        raise LabkitError(f"--clips is {clips} and --samples {samples}", hint="give at least 1")
    # A pack that is missing is made here, once, before several trainings need it.
    data = ClipDataset(base.data.root, "test", n_past=1, n_future=1, condition="none", labels=False)
    if clips is not None and clips >= data.n_clips:
        evaluation = replace(evaluation, clips=None)
    return [
        Job(arm, out / arm / f"seed_{seed}", replace(config, seed=seed), evaluation)
        for seed in range(base.seed, base.seed + seeds)
        for arm, config in arms.items()
    ]


def shared_out(
    jobs: int, cores: int, at_once: int | None = None, threads: int | None = None
) -> tuple[int, int]:
    """Number of trainings at once, and the threads of each.

    Small trainings gain little from more threads. So there is one training a core; if there are
    more cores than trainings, the trainings get more threads.

    Raises:
        LabkitError: `at_once` or `threads` is below 1.
    """
    for option, number in (("--jobs", at_once), ("--threads", threads)):
        if number is not None and number < 1:
            raise LabkitError(f"{option} is {number}", hint="give 1 or more, or leave it out")
    if at_once is None:
        at_once = max(1, cores // (threads or 1))
    at_once = min(at_once, jobs)
    return at_once, threads or max(1, cores // at_once)


def _check_settings(jobs: list[Job]) -> None:
    """
    Raises:
        RunError: a folder holds a run with other settings than the planned ones.
    """
    for job in jobs:
        if not (job.folder / CONFIG).is_file():
            continue
        old, new = Config.load(job.folder / CONFIG).to_dict(), job.config.to_dict()
        for values in (old, new):
            for name in MACHINE_FIELDS:
                values["training"].pop(name, None)
            values["data"]["root"] = str(Path(values["data"]["root"]).resolve())
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
            run = read_evaluated_run(job.folder, job.evaluation.selection)
            arms.setdefault(job.arm, []).append(run)
    if len(arms) < 2:
        first = next(iter(failed))
        raise LabkitError(
            f"only {len(arms)} of the arms could be trained; {first.name} failed: {failed[first]}",
            hint=f"its output is in {first.folder / LOG}",
        )
    order = list(dict.fromkeys(job.arm for job in jobs))
    return compared({arm: arms[arm] for arm in order if arm in arms})


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
