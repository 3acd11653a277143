"""The commands `labkit data ...`: from a download to a pack for training.

`interrupted` is the message after Ctrl-C, for a command that can go on later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import checked_seed, cores, quoted
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
    of them, which need not be unpacked; or one clip as an .npz with the arrays aux1_image
    (T, 64, 64, 3), action (T, 4) and, where known, endeffector_pos (T, 3).
    """

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """file or folder to read"""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """folder to write; an old pack is replaced when the new one is complete"""
    layout: Flag = False
    """write the course's folders with one PNG per frame, instead of a pack"""
    camera: Literal["aux1", "main"] = "aux1"
    """camera of the official records; the course uses aux1"""
    workers: Annotated[int | None, arg(metavar="N")] = None
    """processes; at most one per core if left out"""
    progress: Flag = True
    """show no progress bar"""

    interrupted: ClassVar[str] = "interrupted; the same command goes on where it stopped"

    def run(self) -> None:
        from labkit.data.convert import convert

        summary = convert(
            self.source,
            self.out,
            camera=self.camera,
            to="layout" if self.layout else "pack",
            workers=None if self.workers is None else cores(self.workers),
            progress=self.progress,
        )
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
        print(report.text())
        if self.fix is None:
            return 0 if report.ok else 1
        print(f"\n{repair(self.root, self.fix, resize=self.resize, progress=self.progress).text()}")
        copy = check(self.fix, self.progress)
        print(f"\n{copy.text()}")
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


def _counts(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    return f"{listed} clip{'' if sum(counts.values()) == 1 else 's'}"
