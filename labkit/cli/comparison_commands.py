"""The commands `compare` (existing runs) and `experiment` (runs that answer a question)."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import Device, terminal_width, use, wrapped
from labkit.cli.reading import Flag
from labkit.cores import usable_cores
from labkit.presets import PRESETS, preset

if TYPE_CHECKING:
    from labkit.experiments.comparison import Comparison

ASKED = ("annealing", "teacher-forcing", "condition", "prior", "skip")


@dataclass(frozen=True)
class Compare:
    """Compare runs: curves, scores with intervals, paired differences with a significance test.

    Each run must have been evaluated (labkit evaluate RUN), all by the same protocol on the same
    clips. Writes comparison.html, comparison.png and comparison.json. The intervals are over clips:
    they compare these weights. To compare ways of training, use several seeds: labkit experiment.
    """

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")] = ()
    """folders of the runs, two or more"""
    protocol: Annotated[str, arg(metavar="NAME")] = "frame"
    """protocol of the evaluations to compare"""
    out: Annotated[Path, arg(metavar="DIR")] = Path("runs/comparison")
    """folder to write"""

    def run(self) -> None:
        from labkit.experiments.comparison import compared
        from labkit.experiments.evaluated_run import names_of, read_evaluated_run
        from labkit.experiments.page import write_page

        named = names_of(self.folders)
        comparison = compared(
            {name: [read_evaluated_run(each, self.protocol)] for name, each in named.items()}
        )
        words = ["labkit", "compare", *(folder.as_posix() for folder in self.folders)]
        words += _options(self, protocol="frame", out=Path("runs/comparison"))
        title = f"{len(named)} runs compared"
        page = write_page(comparison, self.out, title=title, command=shlex.join(words))
        _print(comparison, page)


@dataclass(frozen=True)
class Experiment:
    """Answer a question by training: every choice, several seeds, the same budget, one report.

    annealing: KL weight cyclical, monotonic, or none (the course's kl_anneal_type); small; with
    free bits; or 0 for half of the training. Asked of the preset free, whose latent is needed.
    teacher-forcing: ratio 1 throughout, decayed from 1 to 0, or 0.
    condition: action and position, the action alone, or none.
    prior: learned, or fixed.
    skip: from which frame the skip connections come.

    It can be stopped at any time; the same command goes on. A training that fails is reported, and
    the others go on (exit code 1). More seeds can be added later.
    """

    question: Annotated[Positional[Literal[ASKED]], arg(metavar="QUESTION")]  # type: ignore[valid-type]
    """annealing, teacher-forcing, condition, prior or skip"""
    preset: Annotated[Literal[tuple(PRESETS)] | None, arg(metavar="NAME")] = None  # type: ignore[valid-type]
    """the settings that all trainings share: demo, smoke, course, ...; if left out, free for
    annealing, and demo for the others"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """folder of the data set; the preset's if left out"""
    seeds: Annotated[int, arg(metavar="N")] = 3
    """number of trainings of each choice"""
    epochs: Annotated[int | None, arg(metavar="N")] = None
    """epochs of each training; the preset's if left out"""
    updates: Annotated[int | None, arg(metavar="N")] = None
    """all weight updates of each training; the preset's if left out"""
    jobs: Annotated[int | None, arg(metavar="N")] = None
    """trainings that run at once; if left out, one per GPU, or as many as the cores allow"""
    threads: Annotated[int | None, arg(metavar="N")] = None
    """threads of each training; an equal share of the cores if left out"""
    device: Device = None
    """cpu, cuda or mps; every GPU in turn, or the CPU where there is none, if left out"""
    protocol: Annotated[str, arg(metavar="NAME")] = "frame"
    """evaluation protocol: frame, course, long, svg, or best-of-N"""
    clips: Annotated[int, arg(metavar="N")] = 256
    """number of test clips to evaluate; all if there are fewer"""
    samples: Annotated[int, arg(metavar="N")] = 2
    """sampled futures of each clip, to measure the diversity of samples"""
    lpips: Literal["alex", "vgg", "both", "none"] = "none"
    """measure LPIPS too, if its weights are installed"""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """folder of the runs and the page; runs/experiments/QUESTION if left out"""
    progress: Flag = True
    """show no progress bar"""

    interrupted = "stopped; the same command goes on from here"

    def run(self) -> int:
        import torch

        from labkit.experiments.experiment import run_experiment
        from labkit.experiments.questions import QUESTIONS, budgeted
        from labkit.experiments.training import EvaluationOptions

        # Checked here: a device that is not there is one sentence, not one a training.
        device = self.device and use(self.device, None)
        gpus = torch.cuda.device_count() if device in (None, "cuda") else 0
        base = budgeted(
            preset(self.preset or QUESTIONS[self.question].preset), self.epochs, self.updates
        )
        if self.data is not None:
            data = dataclasses.replace(base.data, root=self.data.as_posix())
            base = dataclasses.replace(base, data=data)
        networks = {"both": ("alex", "vgg"), "none": ()}.get(self.lpips, (self.lpips,))
        outcome = run_experiment(
            self.question,
            base,
            Path("runs/experiments") / self.question if self.out is None else self.out,
            command=self.command,
            seeds=self.seeds,
            at_once=(gpus or None) if self.jobs is None else self.jobs,
            threads=self.threads,
            device=device,
            cores=usable_cores(),
            evaluation=EvaluationOptions(self.protocol, self.clips, self.samples, networks),  # type: ignore[arg-type]
            progress=self.progress,
            report=lambda line: print(line, flush=True),
        )
        _print(outcome.comparison, outcome.page)
        for name, fault in outcome.failed.items():
            print(f"Failed and left out: {name}: {fault}")
        return 1 if outcome.failed else 0

    @property
    def command(self) -> str:
        """The command as typed, without the options for this machine."""
        hidden = {"question", "jobs", "threads", "device", "progress"}
        defaults = {
            item.name: item.default for item in dataclasses.fields(self) if item.name not in hidden
        }
        return shlex.join(["labkit", "experiment", self.question, *_options(self, **defaults)])


def _options(command: object, **defaults: object) -> list[str]:
    """The options whose values are not the default, as typed."""
    words = []
    for name, default in defaults.items():
        value = getattr(command, name)
        if value != default:
            words += [f"--{name}", value.as_posix() if isinstance(value, Path) else str(value)]
    return words


def _print(comparison: Comparison, page: Path) -> None:
    """The protocol, the tables and the answer."""
    from labkit.experiments.answer import answer, tables_of
    from labkit.experiments.page import protocol_of
    from labkit.reporting.tables import as_text

    protocol = protocol_of(comparison)
    print(wrapped(f"{protocol[0].upper()}{protocol[1:]}."))
    for table in tables_of(comparison):
        print(f"\n{as_text(table, terminal_width())}")
    print()
    for sentence in answer(comparison):
        print(wrapped(sentence))
    print(f"\nLook at {page}")
