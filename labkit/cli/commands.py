"""The commands `demo`, `train`, `predict` and `doctor`.

A command is a dataclass: its fields are its options, the text under a field is the option's help,
`run` does the work. Slow imports are inside `run`, so that help and mistakes answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import (
    Device,
    Threads,
    checked_seed,
    cores,
    evaluation_of,
    fitted,
    require_run,
    use,
)
from labkit.cli.reading import Flag
from labkit.config import Config
from labkit.presets import PRESETS


@dataclass(frozen=True)
class Demo:
    """The whole lab in one command: simulate clips, train the demo preset, evaluate, report.

    The number of updates is fixed, so the result does not depend on the machine's speed. Clips that
    are already simulated are used again. The last line names the report.
    """

    out: Path = Path("runs/demo")
    """folder of the run: weights, curves, GIFs and report.html"""
    data: Path = Path("data/simulated")
    """folder of the simulated clips"""
    minutes: Annotated[float | None, arg(metavar="M")] = None
    """stop training after M minutes; the same command goes on from there"""
    seed: int = 1
    """seed of the clips, the weights and every random draw"""
    workers: Annotated[int | None, arg(metavar="N")] = None
    """processes that simulate; one per core if left out"""
    device: Device = None
    """cpu, cuda or mps; a GPU if there is one and this is left out"""
    threads: Threads = None
    """threads of the CPU; torch's own choice if left out"""
    progress: Flag = True
    """show no progress bars"""

    def run(self) -> None:
        from labkit.demo import run_demo

        run_demo(
            out=self.out,
            data=self.data,
            minutes=self.minutes,
            seed=checked_seed(self.seed),
            workers=cores(self.workers),
            progress=self.progress,
            device=use(self.device, self.threads),
            time_threads=self.threads is None,
        )


@dataclass(frozen=True)
class Train:
    """Train a model: a preset, with any of its settings changed.

    For instance: labkit train demo --training.epochs 40 --data.root data/real --out runs/real

    Ctrl-C, or SIGTERM from a cluster, ends the training after the current update and saves
    everything. The same command with --resume goes on and ends with the same weights and history.
    After a power cut it goes on from the last checkpoint.

    Several GPUs: torchrun --nproc-per-node 8 -m labkit train course --training.batch-size 96

    The defaults below are those of PRESET: labkit train course --help shows those of course.
    """

    preset: Annotated[Positional[Literal[tuple(PRESETS)]], arg(metavar="PRESET")] = "demo"  # type: ignore[valid-type]
    """demo, best, layer, course, spec, report, svg, latent, free or smoke"""
    out: Annotated[Path | None, arg(metavar="RUN")] = None
    """folder of the run; runs/PRESET if left out"""
    resume: Flag = False
    """go on with the run in RUN, with its own settings; without a checkpoint it starts anew. The
    number of processes may differ"""
    init_from: Annotated[Path | None, arg(metavar="RUN0")] = None
    """begin with the weights of the run RUN0, and with its settings of model and data"""
    minutes: Annotated[float | None, arg(metavar="M")] = None
    """stop after M minutes; --resume goes on from there"""
    device: Device = None
    """cpu, cuda or mps; the fastest one available if left out"""
    threads: Threads = None
    """threads of the CPU; torch's own choice if left out"""
    progress: Flag = True
    """show no progress bar"""
    tensorboard: Flag = True
    """write no curves and pictures for TensorBoard into RUN/tensorboard"""
    config: Annotated[Config, arg(name="")] = field(default_factory=Config)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path("runs") / self.preset if self.out is None else self.out

    def run(self) -> None:
        from labkit.training import train
        from labkit.training.checkpoint import WEIGHTS
        from labkit.training.distributed import speaks
        from labkit.training.tensorboard import TensorBoard

        use(self.device, self.threads)
        rows = train(
            self.config,
            self.folder,
            resume=self.resume,
            minutes=self.minutes,
            progress=self.progress,
            device=self.device,
            callbacks=[TensorBoard(self.folder)] if self.tensorboard and speaks() else [],
            report=_tell,
            init_from=self.init_from,
            time_threads=self.threads is None,
        )
        total = self.config.training.epochs * self.config.training.updates_per_epoch
        if speaks() and rows:
            command = evaluation_of(self.folder, self.config.data.root)
            if rows[-1].updates >= total:
                print(f"{self.folder} is trained; next: {command}")
            elif (self.folder / WEIGHTS).exists():
                print(f"or evaluate it as it is: {command}")


@dataclass(frozen=True)
class Predict:
    """Predict one clip with a run's model, and write a GIF: the true frames and the prediction.

    The context frames and the actions are enough. Without later frames the GIF shows the prediction
    alone; without later positions they are added up from the actions.
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    clip: Annotated[Positional[Path], arg(metavar="CLIP")]
    """folder of the clip: 0.png, 1.png, ..., actions.csv and endeffector_positions.csv"""
    out: Annotated[Path, arg(metavar="FILE.gif")] = Path("prediction.gif")
    """file to write"""
    horizon: Annotated[int | None, arg(metavar="N")] = None
    """frames to predict; as many as in the training if left out"""
    device: Device = None
    """cpu, cuda or mps; a GPU if there is one and this is left out"""
    threads: Threads = None
    """threads of the CPU; torch's own choice if left out"""

    def run(self) -> None:
        from labkit.reporting.predict_clip import predict_clip

        require_run(self.folder)
        device = use(self.device, self.threads)
        predict_clip(self.folder, self.clip, self.out, device, self.horizon)
        print(f"{self.out} is written")


@dataclass(frozen=True)
class Doctor:
    """Show the installed versions, the device the lab would use, and missing optional parts."""

    def run(self) -> None:
        from labkit.doctor import diagnose, render

        print(render(diagnose()))


def _tell(line: str) -> None:
    """Prints a line at once, above a progress bar."""
    print(fitted(line), flush=True)
