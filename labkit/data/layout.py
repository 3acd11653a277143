"""The course's folder layout of BAIR robot pushing: find, read, check and write clips.

    ROOT/{train,validate,test}/traj_A_to_B.tfrecords/<n>/
        0.png .. 29.png               one picture a frame, 8-bit RGB
        actions.csv                   one row a frame, 4 columns, no header
        endeffector_positions.csv     one row a frame, 3 columns, no header (may be absent)
        labels.npz                    key `labels`, uint8 (T, H, W) (only from a simulator)

Relatives of it are read too: folders with or without `.tfrecords`, n from 0 or 1, frames `0.png`
or `00.png`, `action.csv`, `val` for `validate`, a `processed_data` folder around everything.
Every order is numeric (10.png after 2.png), and files are told apart by name, never by order.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from tqdm.auto import tqdm

from labkit.data.atomic import replacing
from labkit.data.clip import SPLITS, Clip
from labkit.data.pictures import read_pictures
from labkit.data.tables import check_rows, read_table, write_table
from labkit.errors import DataError

CLIPS_A_FOLDER = 256
"""clips in one `traj_A_to_B.tfrecords` folder"""

FIRST_TRAJECTORY = {"test": 0, "validate": 256, "train": 512}
"""trajectory number at which each split begins, as in the course's copy"""

_ALIASES = {"val": "validate", "valid": "validate", "validation": "validate"}
_ACTION_NAMES = {"action", "actions"}
_POSITION_NAMES = {
    "endeffectorposition",
    "endeffectorpositions",
    "endeffectorpos",
    "endeffector",
    "position",
    "positions",
}
_BROKEN = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""what numpy raises for a damaged .npz file, or for one without the array"""
_FRAME = re.compile(r"([0-9]+)\.png", re.IGNORECASE)


# ------------------------------------------------------------------------------- finding


def canonical_split(name: str) -> str:
    """The usual name of a split: `val`, `valid` and `validation` are `validate`."""
    return _ALIASES.get(name.lower(), name)


def splits(root: Path | str) -> list[str]:
    """Names of the splits under `root`: train, validate, test first, then any others by name.

    Raises:
        DataError: `root` is no folder or holds no clips.
    """
    return list(_split_folders(Path(root)))


def clip_folders(root: Path | str, split: str) -> list[Path]:
    """The clip folders of a split in numeric order: by trajectory number, then by n.

    Raises:
        DataError: there is no such split (the message lists those there are).
    """
    found = _split_folders(Path(root))
    split = canonical_split(split)
    if split not in found:
        raise missing_split(split, found, root)
    return list(_find_clips(found[split]))


def missing_split(split: str, there_are: Iterable[str], root: Path | str) -> DataError:
    """The error for a split that a data set does not have."""
    return DataError(
        f"no split {split!r}", file=root, mend=f"there are: {', '.join(there_are) or 'none'}"
    )


def _split_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        what = "is a file, not a data set's folder" if root.exists() else "no such folder"
        raise DataError(what, file=root, mend="give the folder that holds train and test")
    inner = root
    for _ in range(2):  # some archives nest the folder in itself
        if (inner / "processed_data").is_dir():
            inner = inner / "processed_data"
    found: dict[str, Path] = {}
    for folder in _subfolders(inner):
        if re.match(r"traj_|\d+$", folder.name):
            mend = "give the folder above, which holds the splits"
            raise DataError(f"holds {folder.name}, so it is itself a split", file=root, mend=mend)
        if next(_find_clips(folder), None) is None:
            continue
        name = canonical_split(folder.name)
        if name in found:
            what = f"has both {found[name].name} and {folder.name}, which mean the same split"
            raise DataError(what, file=root, mend="rename or remove one of them")
        found[name] = folder
    if not found:
        mend = "expected ROOT/train/traj_512_to_767.tfrecords/0/0.png and so on"
        raise DataError("holds no clips in the course's layout", file=root, mend=mend)
    usual = [name for name in SPLITS if name in found]
    return {name: found[name] for name in [*usual, *sorted(found.keys() - set(usual))]}


def _find_clips(folder: Path, depth: int = 3) -> Iterator[Path]:
    """Clip folders at or below `folder`. The depth also ends loops of symbolic links."""
    entries = scan(folder)
    is_clip = any(_FRAME.fullmatch(e.name) or e.name.lower().endswith(".csv") for e in entries)
    if is_clip or (not entries and folder.name.isdigit()):
        yield folder
    elif depth:
        for inner in _subfolders(folder):
            yield from _find_clips(inner, depth - 1)


def _subfolders(folder: Path) -> list[Path]:
    names = [entry.name for entry in scan(folder) if entry.is_dir()]
    return [folder / name for name in sorted(names, key=_natural)]


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, in no order, without the leftovers of macOS and hidden things."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not _ignored(entry.name)]
    except OSError as error:
        raise DataError(f"cannot be listed: {error.strerror}", file=folder) from None


def _natural(name: str) -> list[str | int]:
    """Sort key under which `traj_2` comes before `traj_10`."""
    parts = re.split(r"([0-9]+)", name)  # text and numbers in turn, text first
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _ignored(name: str) -> bool:
    """Leftovers of macOS (.DS_Store, ._0.png, __MACOSX) and our own hidden folders."""
    return name.startswith(".") or name == "__MACOSX"


# ------------------------------------------------------------------------------- reading


def read_clip(folder: Path | str, start: int = 0, stop: int | None = None) -> Clip:
    """Reads one clip, or its frames `start` to `stop` (exclusive), from its folder.

    All names and both csv files are checked whole; only the pictures asked for are decoded.

    Raises:
        DataError: a frame is missing, unreadable or of another size than the first, or a csv
            file is missing, of another length than the frames, or holds anything but numbers.
    """
    folder = Path(folder)
    pictures, actions, positions = _read_tables(folder)
    window = slice(start, stop)
    frames = read_pictures(pictures[window])
    labels = None
    if (folder / "labels.npz").is_file():
        labels = _read_labels(folder / "labels.npz", (len(pictures), *frames.shape[-2:]))[window]
    return Clip(
        frames=frames,
        actions=actions[window],
        positions=None if positions is None else positions[window],
        labels=labels,
        name="/".join(folder.parts[-3:]),
    )


def read_conditions(
    folder: Path | str,
) -> tuple[Float32[np.ndarray, "T 4"], Float32[np.ndarray, "T 3"] | None]:
    """The actions and the positions (None where there are none) of a clip, checked by `read_clip`'s
    rules but without its pictures.

    Raises:
        DataError: as `read_clip`.
    """
    _, actions, positions = _read_tables(Path(folder))
    return actions, positions


def _read_tables(folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray | None]:
    """The pictures' files in order, the actions and the positions."""
    numbered, tables = _list_clip(folder)
    actions_file, positions_file = _tables(folder, tables)
    actions = read_table(actions_file, 4)
    pictures = _in_order(folder, numbered, actions_file.name, len(actions))
    check_rows(actions_file, len(actions), len(pictures))
    positions = read_table(positions_file, 3, len(pictures)) if positions_file else None
    return pictures, actions, positions


def _list_clip(folder: Path) -> tuple[dict[int, Path], list[Path]]:
    """The pictures by their number, and the csv files."""
    numbered: dict[int, Path] = {}
    tables = []
    for name in sorted(entry.name for entry in scan(folder)):
        if match := _FRAME.fullmatch(name):
            number = int(match[1])
            if number in numbered:
                what = f"has both {numbered[number].name} and {name}"
                raise DataError(what, file=folder, mend="remove one of them")
            numbered[number] = folder / name
        elif name.lower().endswith(".csv"):
            tables.append(folder / name)
    return numbered, tables


def _in_order(folder: Path, numbered: dict[int, Path], table: str, rows: int) -> list[Path]:
    """The pictures in numeric order. They count from 0, or from 1 where the csv's rows say so."""
    first = 1 if 0 not in numbered and rows in numbered else 0
    end = max(first + rows, max(numbered, default=0) + 1)
    for number in range(first, end):
        if number not in numbered:
            mend = f"{table} has {rows} rows: extract the clip again, or remove its folder"
            raise DataError("frame is missing", file=folder / f"{number}.png", mend=mend)
    return [numbered[number] for number in range(first, end)]


def _tables(folder: Path, tables: list[Path]) -> tuple[Path, Path | None]:
    """The actions' and the positions' csv, told apart by their names."""

    def named(names: set[str], what: str) -> Path | None:
        fitting = [t for t in tables if re.sub(r"[^a-z]", "", t.stem.lower()) in names]
        if len(fitting) > 1:
            both = f"{fitting[0].name} and {fitting[1].name}"
            raise DataError(f"two files of {what}: {both}", file=folder, mend="remove one of them")
        return fitting[0] if fitting else None

    actions = named(_ACTION_NAMES, "actions")
    if actions is None:
        others = ", ".join(t.name for t in tables)
        mend = "every clip needs its actions" + (f"; found {others}" if others else "")
        raise DataError("no such file", file=folder / "actions.csv", mend=mend)
    return actions, named(_POSITION_NAMES, "positions")


def _read_labels(file: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "T H W"]:
    mend = "remove it: labels are optional"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            labels = arrays["labels"]
    except _BROKEN:
        raise DataError("is not a readable file of labels", file=file, mend=mend) from None
    if labels.dtype != np.uint8 or labels.shape != shape:
        what = f"labels are {labels.dtype} {labels.shape}, expected uint8 {shape}"
        raise DataError(what, file=file, mend=mend)
    return labels


# ------------------------------------------------------------------------------- writing


def write_clip(folder: Path | str, clip: Clip) -> None:
    """Writes one clip to its folder, whole or not at all; an earlier one there is replaced."""
    with replacing(folder) as fresh:
        _fill(fresh, clip)


def _fill(folder: Path, clip: Clip) -> None:
    for number, frame in enumerate(clip.frames):
        picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
        picture.save(folder / f"{number}.png")
    write_table(folder / "actions.csv", clip.actions)
    if clip.positions is not None:
        write_table(folder / "endeffector_positions.csv", clip.positions)
    if clip.labels is not None:
        np.savez_compressed(folder / "labels.npz", labels=clip.labels)


def write_split(root: Path | str, split: str, clips: Iterable[Clip], progress: bool = False) -> int:
    """Writes a whole split in the course's layout and returns the number of clips.

    256 clips go to a folder; the numbering begins at traj_0 for test, traj_256 for validate and
    traj_512 for train, as in the course's copy. The split appears whole or not at all.

    Raises:
        DataError: the split has clips already, or `clips` yields none.
    """
    target = Path(root) / split
    if target.is_dir() and scan(target):
        mend = "remove it, or choose another folder"
        raise DataError("is there already", file=target, mend=mend)
    offset = FIRST_TRAJECTORY.get(split, 0)
    count = 0
    with replacing(target) as fresh:
        for clip in tqdm(clips, desc=f"writing {split}", unit="clip", disable=not progress):
            start = offset + count - count % CLIPS_A_FOLDER
            trajectories = fresh / f"traj_{start}_to_{start + CLIPS_A_FOLDER - 1}.tfrecords"
            folder = trajectories / str(count % CLIPS_A_FOLDER)
            folder.mkdir(parents=True)
            _fill(folder, clip)
            count += 1
        if not count:
            raise DataError("no clips to write", file=target)
    return count
