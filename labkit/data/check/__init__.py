"""`labkit data check`: read a whole data set once and say what it holds and what is broken."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from labkit.data import layout
from labkit.data.check.clip_faults import all_faults
from labkit.data.check.findings import CheckReport, Duplicate, SplitReport, unusual
from labkit.data.check.readiness import cannot_be_used, missing_for_use
from labkit.data.clip import Clip
from labkit.data.pack import is_pack, open_pack
from labkit.data.pack.packed import PackedSplit
from labkit.errors import DataError

KEPT_FIRST = ("test", "validate", "train")
"""Of two clips with the same pictures, the one in the split that stands earlier here should stay:
what is measured on the test split must not have been learnt."""


def check(root: Path | str, progress: bool = False) -> CheckReport:
    """Reads every clip of a data set (the course layout, a zip of it, or a pack) once.

    Faults do not stop it: all that can be found independently are collected. A pack's files
    are compared with their digests too. Memory stays flat: of each clip a digest of 16 bytes
    and two numbers are kept.

    Args:
        root: the data set's folder.
        progress: show a progress bar for each split.

    Raises:
        DataError: there is no data set at `root` at all.
    """
    report = CheckReport(Path(root))
    inside = layout.resolve(root)
    with layout.called(root, inside):
        sources = _sources(report, inside)
    report.splits = {source.name: SplitReport() for source in sources}
    seen: dict[bytes, tuple[_Folders | _Packed, int]] = {}
    for source in sorted(sources, key=lambda source: keeping_rank(source.name)):
        found = report.splits[source.name]
        numbers = range(len(source))
        for number in tqdm(
            numbers, desc=f"checking {source.name}", unit="clip", disable=not progress
        ):
            found.clips += 1
            try:
                clip = source.clip(number)
            except DataError as fault:
                report.faults += source.faults(number, fault)
                continue
            found.add(clip, source.place(number))
            other, twin = seen.setdefault(pictures_digest(clip), (source, number))
            if (other, twin) != (source, number):
                report.duplicates.append(
                    Duplicate(source.name, source.called(number), other.name, other.called(twin))
                )
                if other is not source:
                    place = source.place(number)
                    report.faults.append(leak(report.duplicates[-1], place, is_pack(inside)))
        report.faults += found.faults()
    report.faults += cannot_be_used(report)
    report.faults = [layout.as_given(fault, root, inside) for fault in report.faults]
    report.notes += unusual(report)
    report.needs += missing_for_use(report)
    return report


def keeping_rank(split: str) -> tuple[int, str]:
    """Sort key of splits by `KEPT_FIRST`, then any others by name."""
    rank = KEPT_FIRST.index(split) if split in KEPT_FIRST else len(KEPT_FIRST)
    return rank, split


def called(folder: Path) -> str:
    """A clip's folder in words: the end of its path, from the split on."""
    return "/".join(folder.parts[-3:])


def pictures_digest(clip: Clip) -> bytes:
    """16 bytes that differ where the clips' frames differ, in length, size or any pixel."""
    digest = hashlib.blake2b(repr(clip.frames.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(clip.frames).data)
    return digest.digest()


# ------------------------------------------------------------------------------- sources


@dataclass(frozen=True, eq=False)
class _Folders:
    """A split in the course layout."""

    name: str
    folders: Sequence[Path]

    def __len__(self) -> int:
        return len(self.folders)

    def clip(self, number: int) -> Clip:
        return layout.read_clip(self.folders[number])

    def faults(self, number: int, first: DataError) -> list[DataError]:
        """All that is wrong with a clip that could not be read; `first` is what reading said."""
        return all_faults(self.folders[number], first)

    def called(self, number: int) -> str:
        return called(self.folders[number])

    def place(self, number: int) -> Path:
        return self.folders[number]


@dataclass(frozen=True, eq=False)
class _Packed:
    """A split of a pack."""

    split: PackedSplit

    @property
    def name(self) -> str:
        return self.split.name

    def __len__(self) -> int:
        return len(self.split)

    def clip(self, number: int) -> Clip:
        clip = self.split.clip(number)
        for kind in ("actions", "positions"):
            values = getattr(clip, kind)
            if values is not None and not np.isfinite(values).all():
                what = f"{kind} of clip {number} ({clip.name}) are not all finite numbers"
                file = self.split.root / self.name / f"{kind}.npy"
                raise DataError(what, file=file, row=number + 1, hint="make the pack again")
        return clip

    def faults(self, number: int, first: DataError) -> list[DataError]:
        return [first]

    def called(self, number: int) -> str:
        return f"{self.name}, clip {number} ({self.split.names[number]})"

    def place(self, number: int) -> Path:
        return self.split.root / self.name


def _sources(report: CheckReport, root: Path) -> Sequence[_Folders | _Packed]:
    """The splits of the report's data set, which lies at `root`; what is wrong with the set as a
    whole goes to its faults."""
    if is_pack(root):
        pack = open_pack(root)
        report.faults += pack.faults()
        return [_Packed(pack.split(name)) for name in pack.splits]
    sources = [_Folders(name, layout.clip_folders(root, name)) for name in layout.splits(root)]
    hint = "put its clips there again, or remove the folder"
    for folder in layout.empty_splits(root):
        report.faults.append(DataError("holds no clips", file=folder, hint=hint))
    return sources


# ------------------------------------------------------------------- faults of a set or a split


def leak(twins: Duplicate, place: Path, packed: bool = False) -> DataError:
    """The fault of a clip at `place`, whose pictures are also in another split.

    Args:
        twins: the clip and its copy.
        place: the clip's folder, or the folder of its split in a pack.
        packed: whether it is in a pack, which cannot be mended.
    """
    what = f"{twins.name} holds the same pictures as {twins.other_name}"
    inside = {("train", "test"): ": a test clip inside the training set"}
    what += inside.get((twins.split, twins.other_split), f", which is in {twins.other_split}")
    hint = "remove it, or write a copy without it: labkit data check ROOT --fix OUT"
    if packed:
        hint = "remove it from the recordings that the pack was made of, and make the pack again"
    hint += "; a result on clips that were trained on says nothing about new ones"
    return DataError(what, file=place, hint=hint)
