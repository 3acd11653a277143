"""`labkit data check --fix`: a repaired copy of a data set; the original is only read.

What is mended: names (of splits, folders, frames and csv files, which become those of the course
layout, counted from 0), csv files with a header, a byte-order mark, CRLF or semicolons, pictures
with 16 bits, a palette, grey or alpha, and pictures of another kind called .png; and, where it is
asked for, the size of the frames. What cannot be mended is left out, each clip with the reason:
nothing is invented. So is every clip that is also in a split nearer to the test split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm.auto import tqdm

from labkit.data import layout
from labkit.data.check import called, keeping_rank, leak, pictures_digest
from labkit.data.check.findings import MODEL_SIZE, SHOWN, Duplicate, Kind, most_common
from labkit.data.check.mend_clip import Mender
from labkit.data.clip import Clip
from labkit.data.pack import is_pack
from labkit.errors import DataError
from labkit.files import replacing


@dataclass
class RepairReport:
    """What a repaired copy holds, what was mended in it, and what was left out and why."""

    root: Path
    out: Path
    kept: dict[str, int] = field(default_factory=dict)
    """clips of each split of the copy"""
    mended: Counter[str] = field(default_factory=Counter)
    """clips for each thing that was mended: names, tables, pictures, size"""
    dropped: list[DataError] = field(default_factory=list)
    """the clips that were left out, each with its file and the reason"""

    def text(self) -> str:
        """The report as plain text, for a terminal."""
        lines = [f"{self.out}: a repaired copy of {self.root}", ""]
        lines += [f"{name:<10} {_clips(count)}" for name, count in self.kept.items()]
        lines += ["", *(f"mended {w}: {_clips(count)}" for w, count in self.mended.items())]
        lines += [f"left out: {reason}" for reason in self.dropped[:SHOWN]]
        if len(self.dropped) > SHOWN:
            lines.append(f"and {len(self.dropped) - SHOWN} more")
        lines.append(f"{_clips(len(self.dropped))} left out")
        return "\n".join(lines)


def repair(
    root: Path | str,
    out: Path | str,
    *,
    resize: bool = False,
    size: int = MODEL_SIZE,
    progress: bool = False,
) -> RepairReport:
    """Writes a repaired copy of a data set, in the course layout; whole or not at all.

    Every clip is read twice: once to learn what most clips of its split are like and which are
    copies of others, once to write it. Clips unlike most of their split (in size, columns, or in
    having positions or labels) are left out. Clips are numbered anew, without gaps.

    Args:
        root: the data set, which is only read.
        out: folder of the copy; must be absent or empty, and not inside `root`.
        resize: bring frames of another size to `size`: the largest square in the middle of the
            frame, scaled (Lanczos; labels by their nearest pixel). Never stretched.
        size: height and width in pixels.
        progress: show progress bars.

    Raises:
        DataError: `out` cannot be taken, `root` is no data set or is a pack, or no clip of it
            can be kept.
    """
    root, out = Path(root), Path(out)
    check_place(root, out)
    report = RepairReport(root, out)
    with ExitStack() as stack:
        workshop = Path(stack.enter_context(TemporaryDirectory(prefix="labkit-")))
        mender = Mender(workshop, size if resize else None)
        inside = layout.resolve(root)
        with layout.called(root, inside):
            kept = _choose(inside, mender, report, progress)
        report.dropped = [layout.as_given(fault, root, inside) for fault in report.dropped]
        if not any(kept.values()):
            hint = "see `labkit data check` for what is wrong with each clip"
            raise DataError("no clip of it can be mended", file=root, hint=hint)
        fresh = stack.enter_context(replacing(out))
        for name, folders in kept.items():
            if folders:
                clips = _Mended(folders, mender)
                report.kept[name] = layout.write_split(fresh, name, clips, progress)
    return report


def _clips(count: int) -> str:
    return f"{count or 'no'} clip{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class _Mended:
    """Clips that are mended as they are asked for, one at a time."""

    folders: list[Path]
    mender: Mender

    def __len__(self) -> int:
        return len(self.folders)

    def __iter__(self) -> Iterator[Clip]:
        return (self.mender.clip(folder)[0] for folder in self.folders)


def check_place(root: Path, out: Path) -> None:
    """
    Raises:
        DataError: `root` cannot be copied to `out`.
    """
    hint = "choose a new folder beside the data set"
    if out.exists() and not out.is_dir():
        raise DataError("is a file", file=out, hint=hint)
    if out.is_dir() and any(out.iterdir()):
        raise DataError("is not empty", file=out, hint=hint)
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"is inside the data set {root}", file=out, hint=hint)
    if is_pack(root):
        hint = "repair the folders it was made from and make the pack again"
        raise DataError("is a pack, which holds nothing to repair", file=root, hint=hint)


def _choose(
    root: Path, mender: Mender, report: RepairReport, progress: bool
) -> dict[str, list[Path]]:
    """The clips to keep of each split, in the order of the splits; the others are reported."""
    kept: dict[str, list[Path]] = {name: [] for name in layout.splits(root)}
    seen: dict[bytes, tuple[str, Path]] = {}
    for name in sorted(kept, key=keeping_rank):
        kinds: dict[Path, Kind] = {}
        folders = layout.clip_folders(root, name)
        for folder in tqdm(folders, desc=f"reading {name}", unit="clip", disable=not progress):
            try:
                clip, mended = mender.clip(folder)
            except DataError as fault:
                report.dropped.append(fault)
                continue
            other, twin = seen.setdefault(pictures_digest(clip), (name, folder))
            if other != name:
                report.dropped.append(
                    leak(Duplicate(name, called(folder), other, called(twin)), folder)
                )
                continue
            kinds[folder] = Kind.of(clip)
            report.mended.update(sorted(mended))
        kept[name] = list(_alike(kinds, report))
    return kept


def _alike(kinds: dict[Path, Kind], report: RepairReport) -> Iterator[Path]:
    """The clips of the kind that most are of."""
    most = most_common(Counter(kinds.values())) if kinds else None
    for folder, kind in kinds.items():
        what, hint = next(kind.unlike(most), ("", ""))
        if what:
            report.dropped.append(DataError(what, file=folder, hint=hint))
        else:
            yield folder
