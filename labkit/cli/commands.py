"""The commands, each a dataclass: its fields are its options, `run` does the work.

The text under a field is the option's help. What is heavy to import is imported in `run`, so
that help and mistakes answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from labkit.config import Config
from labkit.errors import DataError, LabkitError, RunError
from labkit.presets import PRESETS

Flag = FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Demo:
    """The whole path: simulate clips, train the demo preset on them, evaluate, report.

    The number of updates is fixed, so the result does not depend on the machine's speed.
    Clips that are already simulated are used again. The last line says where to look.
    """

    out: Path = Path("runs/demo")
    """folder of the run: weights, curves, GIFs and report.html"""
    data: Path = Path("data/simulated")
    """folder of the simulated clips"""
    minutes: Annotated[float | None, arg(metavar="M")] = None
    """stop training after so many minutes; the same command goes on from there"""
    seed: int = 1
    """seed of the clips, the weights and every draw"""
    workers: Annotated[int | None, arg(metavar="N")] = None
    """processes that simulate; one a core if left out"""
    progress: Flag = True
    """switch the progress bars off"""

    def run(self) -> None:
        from labkit.demo import run_demo

        run_demo(
            out=self.out,
            data=self.data,
            minutes=self.minutes,
            seed=self.seed,
            workers=_workers(self.workers),
            progress=self.progress,
        )


@dataclass(frozen=True)
class Simulate:
    """Make clips of a simulated robot table.

    A clip is a function of the seed and its number alone: any number of processes makes the
    same bytes, and the three splits never share a clip. A pack that is already there is kept.
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")] = Path("data/simulated")
    """folder to write"""
    layout: Literal["pack", "course"] = "pack"
    """one memory-mapped file a split, or the course's folders with one PNG a frame"""
    train: int = 2048
    """clips in the training split"""
    validate: int = 256
    """clips in the validation split"""
    test: int = 256
    """clips in the test split"""
    seed: int = 1
    """seed of the clips"""
    workers: Annotated[int | None, arg(metavar="N")] = None
    """processes; one a core if left out"""
    progress: Flag = True
    """switch the progress bars off"""

    def run(self) -> None:
        from labkit.data.layout import write_split
        from labkit.data.simulator import SimulatedSplit, simulate_pack

        counts = {"train": self.train, "validate": self.validate, "test": self.test}
        workers = _workers(self.workers)
        if self.layout == "pack":
            simulate_pack(self.out, self.seed, counts, workers, self.progress)
        else:
            for split, count in counts.items():
                clips = SimulatedSplit(self.seed, split, count, workers)
                write_split(self.out, split, clips, self.progress)
        print(f"{self.out}: {_counts(counts)}")


@dataclass(frozen=True)
class Convert:
    """Write the clips of another format in the course layout.

    SOURCE is an .npz with the arrays aux1_image (T, 64, 64, 3), action (T, 4) and, where
    known, endeffector_pos (T, 3).
    """

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """file to read"""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """folder to write"""

    def run(self) -> None:
        from labkit.data.convert import convert

        convert(self.source, self.out)
        print(f"{self.source} is now in {self.out}")


@dataclass(frozen=True)
class Check:
    """Read every clip of a data set; say what it holds, and name each fault and its mend."""

    root: Annotated[Positional[Path], arg(metavar="ROOT")]
    """folder with train, validate and test in the course layout, or a pack"""
    progress: Flag = True
    """switch the progress bars off"""

    def run(self) -> None:
        from labkit.data.check import check

        report = check(self.root, self.progress)
        print(report.text())
        if not report.ok:
            raise DataError(f"faults found: {len(report.faults)}", file=self.root)


@dataclass(frozen=True)
class Pack:
    """Make the memory-mapped copy of a data set that training reads, or find it made."""

    root: Annotated[Positional[Path], arg(metavar="ROOT")]
    """folder with train, validate and test, in the course layout"""

    def run(self) -> None:
        from labkit.data.pack import ensure_pack

        pack = ensure_pack(self.root)
        print(f"{pack.root}: {_counts({name: len(pack.split(name)) for name in pack.splits})}")


@dataclass(frozen=True)
class Train:
    """Train a model: a preset, with any of its settings changed.

    For instance: labkit train demo --training.epochs 40 --data.root data/real --out runs/real

    The defaults shown below are those of PRESET (labkit train course --help shows course's).
    """

    preset: Annotated[Positional[Literal[tuple(PRESETS)]], arg(metavar="PRESET")] = "demo"  # type: ignore[valid-type]
    """demo, course, spec, report or smoke"""
    out: Annotated[Path | None, arg(metavar="RUN")] = None
    """folder of the run; runs/PRESET if left out"""
    resume: Flag = False
    """go on with the run in RUN, with the settings it was begun with"""
    minutes: Annotated[float | None, arg(metavar="M")] = None
    """stop after so many minutes; --resume goes on from there"""
    device: Annotated[Literal["cpu", "cuda", "mps"] | None, arg(metavar="NAME")] = None
    """cpu, cuda or mps; the fastest there is if left out"""
    progress: Flag = True
    """switch the progress bar off"""
    config: Annotated[Config, arg(name="")] = field(default_factory=Config)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path("runs") / self.preset if self.out is None else self.out

    def run(self) -> None:
        import torch

        from labkit.learning import train

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(self.device or "cpu", True):
            raise LabkitError(f"there is no {self.device} device here", mend="leave --device out")
        train(
            self.config,
            self.folder,
            resume=self.resume,
            minutes=self.minutes,
            progress=self.progress,
            device=self.device,
        )
        print(f"{self.folder} is trained; next: labkit evaluate {self.folder}")


@dataclass(frozen=True)
class Evaluate:
    """Predict a split's clips with a run's model; write numbers, figures, GIFs, report.html.

    PSNR and SSIM for each predicted frame: one sample from the prior, beside repeating the
    last context frame, and beside posterior reconstructions, which see their target.
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    split: str = "test"
    """split to predict"""
    clips: Annotated[int | None, arg(metavar="N")] = None
    """take only the first N clips"""
    windows: Literal["first", "all"] = "first"
    """the first window of each clip, as the course does, or every one"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """another data set's folder; the run's own if left out"""
    progress: Flag = True
    """switch the progress bar off"""

    def run(self) -> None:
        from labkit.results import evaluate_run

        require_run(self.folder)
        evaluation = evaluate_run(
            self.folder, self.split, self.clips, self.progress, self.windows, self.data
        )
        print(evaluation.protocol)
        for name, values in evaluation.psnr.items():
            print(
                f"  {name:<12} PSNR {values.mean():.2f} dB, SSIM {evaluation.ssim[name].mean():.3f}"
            )
        print(f"Look at {self.folder / 'report.html'}")


@dataclass(frozen=True)
class Predict:
    """Predict one clip with a run's model, and write it as a GIF beside what happened."""

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    clip: Annotated[Positional[Path], arg(metavar="CLIP")]
    """folder of the clip: 0.png, 1.png, ..., actions.csv and endeffector_positions.csv"""
    out: Annotated[Path, arg(metavar="FILE.gif")] = Path("prediction.gif")
    """file to write"""

    def run(self) -> None:
        from labkit.results import predict_clip

        require_run(self.folder)
        predict_clip(self.folder, self.clip, self.out)
        print(f"{self.out} is written")


@dataclass(frozen=True)
class Doctor:
    """Say what is installed, what the lab would run on, and what optional thing is absent."""

    def run(self) -> None:
        from labkit.doctor import diagnose, render

        print(render(diagnose()))


def require_run(folder: Path) -> None:
    """Raises RunError unless `folder` is that of a run."""
    if not (folder / "config.json").is_file():
        raise RunError(
            "not the folder of a run: it has no config.json",
            file=folder,
            mend="labkit train makes one",
        )


def _workers(asked: int | None) -> int:
    return os.cpu_count() or 1 if asked is None else asked


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in counts.items()) + " clips"
