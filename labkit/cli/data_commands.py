"""The commands `labkit data ...`: from a download to a pack for training.

`interrupted` is the message after Ctrl-C, for a command that can go on later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import checked_seed, cores, fitted, quoted
from labkit.cli.reading import Flag
from labkit.errors import LabkitError


@dataclass(frozen=True)
class Simulate:
    """Simulate clips of a robot arm that pushes objects on a table.

    A clip depends on the seed and its number alone: any number of processes writes the same bytes,
    and no clip is in two splits. A pack that already exists is used again.
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")] = Path("data/simulated")
    """folder to write"""
    layout: Literal["pack", "course"] = "pack"
    """pack: one memory-mapped file per split; course: folders with one PNG per frame"""
    train: int = 2048
    """clips in the training split"""
    validate: int = 256
    """clips in the validation split"""
    test: int = 256
    """clips in the test split"""
    seed: int = 1
    """seed of the clips"""
    workers: Annotated[int | None, arg(metavar="N")] = None
    """processes; one per core if left out"""
    progress: Flag = True
    """show no progress bars"""

    def run(self) -> None:
        from labkit.data.layout import write_split
        from labkit.data.simulator import SimulatedSplit, check_counts, simulate_pack

        counts = {"train": self.train, "validate": self.validate, "test": self.test}
        workers, seed = cores(self.workers), checked_seed(self.seed)
        if self.layout == "pack":
            simulate_pack(self.out, seed, counts, workers, self.progress)
        else:
            check_counts(counts)
            for split, count in counts.items():
                clips = SimulatedSplit(seed, split, count, workers)
                write_split(self.out, split, clips, self.progress)
        print(f"{self.out}: {_counts(counts)}")


@dataclass(frozen=True)
class Download:
    """Download BAIR's official records: the test clips alone, or all clips.

    bair-test is one file of 256 clips, bair one archive of 32 GB. Size and free disk space are
    shown first. An interrupted download goes on where it stopped. A complete file is checked.
    """

    what: Annotated[Positional[Literal["bair-test", "bair"]], arg(metavar="WHAT")]
    """bair-test or bair"""
    out: Annotated[Path, arg(metavar="DIR")] = Path("data")
    """folder to write"""
    url: Annotated[str | None, arg(metavar="URL")] = None
    """download the same file from this address"""
    progress: Flag = True
    """show no progress bars"""

    interrupted: ClassVar[str] = "interrupted; the same command goes on where it stopped"

    def run(self) -> None:
        from labkit.data.download import download

        file = download(self.what, self.out, url=self.url, progress=self.progress)
        print(f"next: labkit data convert {quoted(file)} {quoted(self.out / self.what)}")


@dataclass(frozen=True)
class Convert:
    """Convert clips of another format to a pack, or to the course's folders.

    SOURCE is one of BAIR's official files (.tfrecords), a folder of them, or the .tar with all
    of them, which need not be unpacked. Or recordings: a video (mp4, avi, webm, gif) or a folder
    of videos, with a csv of actions beside each or none; arrays (N, T, H, W, 3) in an .npz, .npy
    or .hdf5; records of tensorflow_datasets (BAIR, RLDS, Open X); a LeRobot data set. Each
    recording becomes one clip of its own length, in one split.
    """

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """file or folder to read"""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """folder to write; an old pack is replaced when the new one is complete"""
    layout: Flag = False
    """write the course's folders with one PNG per frame, instead of a pack"""
    camera: Annotated[str | None, arg(metavar="NAME")] = None
    """whose pictures to take, where SOURCE has several by names; of BAIR's (aux1 and main) aux1 if
    left out. Videos have no such names"""
    state: Annotated[str | None, arg(metavar="NAME")] = None
    """of recordings: which numbers are the robot's position or state"""
    fps: Annotated[float | None, arg(metavar="N")] = None
    """of recordings: keep so many frames a second; the actions are those of the kept frames"""
    stride: Annotated[int, arg(metavar="N")] = 1
    """of recordings: keep every so many-th frame"""
    crop: Annotated[str | None, arg(metavar="X,Y,W,H")] = None
    """of recordings: the part of each frame to keep, in pixels"""
    resize: Annotated[int, arg(metavar="N")] = 64
    """of recordings: height and width of the result; models take 32, 48, 64, 80, 96, 112 or 128.
    0 keeps the size"""
    pad: Flag = False
    """of recordings: make frames square by black bars instead of cutting the middle out"""
    split: Annotated[str | None, arg(metavar="A,B,C")] = None
    """of recordings: shares for train, validate and test; 0.8,0.1,0.1 if left out, where SOURCE
    has no splits of its own and three recordings or more"""
    by: Literal["recording"] = "recording"
    """what is divided among the splits: whole recordings, since neighbouring frames look alike"""
    workers: Annotated[int | None, arg(metavar="N")] = None
    """processes; at most one per core if left out"""
    progress: Flag = True
    """show no progress bar"""

    interrupted: ClassVar[str] = "interrupted; the same command goes on where it stopped"

    def run(self) -> None:
        from labkit.data.convert import convert
        from labkit.data.convert.recording import Pictures

        crop = None if self.crop is None else _numbers(self.crop, "--crop", 4, int)
        summary = convert(
            self.source,
            self.out,
            camera=self.camera,
            state=self.state,
            pictures=Pictures(self.stride, self.fps, crop, self.resize, self.pad),
            split=None if self.split is None else _numbers(self.split, "--split", 3, float),
            to="layout" if self.layout else "pack",
            workers=None if self.workers is None else cores(self.workers),
            progress=self.progress,
        )
        for kind, names in summary.get("columns", {}).items():
            print(f"{kind}: {', '.join(names) or 'none'}")
        for note in summary.get("notes", []):
            print(fitted(f"note: {note}"))
        counts = _counts(summary["splits"])
        print(f"{self.out}: {counts}; next: labkit data check {quoted(self.out)}")


@dataclass(frozen=True)
class Check:
    """Read every clip of a data set; report its contents, each fault, and how to fix it.

    The exit code is 1 if something cannot be used. With --fix a repaired copy is written and
    checked too, and the exit code is that of the copy. ROOT itself is never changed.
    """

    root: Annotated[Positional[Path], arg(metavar="ROOT")]
    """folder with train, validate and test in the course layout, a zip of it, or a pack"""
    fix: Annotated[Path | None, arg(metavar="OUT")] = None
    """write a repaired copy to this folder, in the course layout"""
    resize: Flag = False
    """with --fix: scale frames of another size to 64 x 64"""
    progress: Flag = True
    """show no progress bars"""

    def run(self) -> int:
        from labkit.data.check import check
        from labkit.data.check.repair import check_place, repair

        if self.resize and self.fix is None:
            hint = "labkit data check ROOT --fix OUT --resize"
            raise LabkitError("--resize scales the frames of a copy", hint=hint)
        if self.fix is not None:  # before all of it is read
            check_place(self.root, self.fix)
        report = check(self.root, self.progress)
        print(fitted(report.text()))
        if self.fix is None:
            return 0 if report.ok else 1
        repaired = repair(self.root, self.fix, resize=self.resize, progress=self.progress)
        print(f"\n{fitted(repaired.text())}")
        copy = check(self.fix, self.progress)
        print(f"\n{fitted(copy.text())}")
        return 0 if copy.ok else 1


@dataclass(frozen=True)
class Pack:
    """Write the memory-mapped copy of a data set that training reads, unless it exists."""

    root: Annotated[Positional[Path], arg(metavar="ROOT")]
    """folder with train, validate and test in the course layout, or a zip of it"""
    progress: Flag = True
    """show no progress bars"""

    def run(self) -> None:
        from labkit.data.pack import ensure_pack

        pack = ensure_pack(self.root, progress=self.progress)
        counts = _counts({name: len(pack.split(name)) for name in pack.splits})
        place = "a pack already" if pack.root == self.root else f"its pack is {pack.root}"
        print(f"{self.root}: {counts}; {place}")


def _numbers(text: str, option: str, count: int, kind: type) -> tuple:
    """The numbers of an option, with commas between them.

    Raises:
        LabkitError: they are not so many numbers.
    """
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        what, example = {
            3: ("the shares of train, validate and test", "0.8,0.1,0.1"),
            4: ("x, y, width and height in pixels", "80,0,480,480"),
        }[count]
        hint = f"give {count} numbers with commas between them, such as {example}: {what}"
        raise LabkitError(f"{option} is {text}", hint=hint)
    return values


def _counts(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    return f"{listed} clip{'' if sum(counts.values()) == 1 else 's'}"
