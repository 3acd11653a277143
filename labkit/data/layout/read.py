"""Reading and checking one clip's folder in the course's layout (see the package)."""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.data.clip import Clip
from labkit.data.layout.find import FRAME, VIDEOS, scan
from labkit.data.layout.pictures import read_pictures
from labkit.data.layout.plain_files import unreadable
from labkit.data.layout.tables import Table, parse_table, rows_of
from labkit.errors import DataError

_ACTIONS = {"action", "actions"}
_POSITIONS = {
    "endeffector",
    "endeffectorpos",
    "endeffectorposition",
    "endeffectorpositions",
    "eepos",
    "eeposition",
    "eepositions",
    "eefpos",
    "position",
    "positions",
}
"""names of the csv files in lower case, of which only the letters count"""
_BROKEN = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    IndexError,
    MemoryError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""what numpy raises for a damaged .npz file, or for one without the array"""


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
    rows, repeated = _action_rows(actions, len(pictures))
    return Clip(
        frames=frames,
        actions=rows[window],
        positions=None if positions is None else positions.values[window],
        labels=labels,
        name="/".join(folder.parts[-3:]),
        action_columns=None if actions is None else actions.names,
        position_columns=None if positions is None else positions.names,
        repeated_action=repeated,
    )


def read_conditions(
    folder: Path | str,
) -> tuple[Float32[np.ndarray, "T A"], Float32[np.ndarray, "T P"] | None]:
    """The actions and the positions (None where there are none) of a clip, checked by `read_clip`'s
    rules but without its pictures.

    Raises:
        DataError: as `read_clip`.
    """
    pictures, actions, positions = _read_tables(Path(folder))
    rows, _ = _action_rows(actions, len(pictures))
    return rows, None if positions is None else positions.values


@dataclass(frozen=True)
class ClipStart:
    """The first frames of a clip, and the rows of its csv files, which may be more."""

    frames: UInt8[np.ndarray, "N 3 H W"]
    actions: Float32[np.ndarray, "R A"]
    """no rows if there is no file of actions"""
    positions: Float32[np.ndarray, "Q P"] | None
    action_columns: tuple[str, ...] | None = None
    position_columns: tuple[str, ...] | None = None


def read_start(folder: Path | str, least: int, most: int) -> ClipStart:
    """Reads the start of a clip whose later frames need not exist.

    Args:
        folder: the clip's.
        least: frames that must exist.
        most: frames to read, if there are so many without a gap.

    Raises:
        DataError: one of the first `least` frames is missing, or a file cannot be read.
    """
    folder = Path(folder)
    numbered, tables = _list_clip(folder)
    first = 1 if 0 not in numbered and 1 in numbered else 0
    pictures: list[Path] = []
    while len(pictures) < most and first + len(pictures) in numbered:
        pictures.append(numbered[first + len(pictures)])
    if len(pictures) < least:
        missing = folder / f"{first + len(pictures)}.png"
        raise DataError("frame is missing", file=missing, hint=f"give {least} context frames")
    files = (_table(folder, tables, kind) for kind in ("actions", "positions"))
    actions, positions = (None if file is None else parse_table(file) for file in files)
    return ClipStart(
        read_pictures(pictures),
        np.zeros((0, 0), np.float32) if actions is None else actions.values,
        None if positions is None else positions.values,
        None if actions is None else actions.names,
        None if positions is None else positions.names,
    )


def count_frames(folder: Path | str) -> int:
    """The number of a clip's pictures, by their names alone.

    Raises:
        DataError: the folder cannot be listed.
    """
    return len(_list_clip(Path(folder))[0])


def table_kind(name: str) -> Literal["actions", "positions"] | None:
    """What the csv file of that name holds; None for any other."""
    stem, dot, ending = name.lower().rpartition(".")
    if not dot or ending != "csv":
        return None
    letters = re.sub(r"[^a-z]", "", stem)
    return "actions" if letters in _ACTIONS else "positions" if letters in _POSITIONS else None


def _read_tables(folder: Path) -> tuple[list[Path], Table | None, Table | None]:
    """The pictures' files in order, the actions and the positions; a clip may have neither."""
    numbered, tables = _list_clip(folder)
    if not numbered:
        raise _no_frames(folder)
    actions_file = _table(folder, tables, "actions")
    if actions_file is None and tables:
        others = ", ".join(table.name for table in tables)
        hint = f"found {others}: call the actions actions.csv, or fill one with rows of zeros"
        raise DataError("no such file", file=folder / "actions.csv", hint=hint)
    actions = None if actions_file is None else parse_table(actions_file)
    pictures = _in_order(folder, numbered, actions)
    positions_file = _table(folder, tables, "positions")
    if positions_file is None:
        return pictures, actions, None
    positions = parse_table(positions_file)
    positions.check_rows(len(pictures))
    return pictures, actions, positions


def _action_rows(actions: Table | None, frames: int) -> tuple[Float32[np.ndarray, "T A"], bool]:
    """A row of actions for each frame, and whether the last one is a copy of the one before."""
    if actions is None:
        return np.zeros((frames, 0), np.float32), False
    repeated = len(actions.values) == frames - 1
    rows = np.concatenate([actions.values, actions.values[-1:]]) if repeated else actions.values
    return rows, repeated


def _list_clip(folder: Path) -> tuple[dict[int, Path], list[Path]]:
    """The pictures by their number, and the csv files.

    Plain numbers are the frames where there are any; otherwise pictures with one common word
    before the number, such as frame_0000.png or out0001.jpg.
    """
    numbered: dict[int, Path] = {}
    names = sorted(entry.name for entry in scan(folder))
    frames = numbered_frames(names)
    words = {FRAME.fullmatch(name)[1] for name in frames}
    if len(words) > 1:
        what = f"holds pictures of several names: {', '.join(sorted(words)[:4])} and a number"
        raise DataError(what, file=folder, hint="leave one of them: 0.png, or frame_0000.png")
    for name, number in frames.items():
        if number in numbered:
            what = f"has both {numbered[number].name} and {name}"
            raise DataError(what, file=folder, hint="remove one of them")
        numbered[number] = folder / name
    return numbered, [folder / name for name in names if name.lower().endswith(".csv")]


def numbered_frames(names: Iterable[str]) -> dict[str, int]:
    """The frames' pictures among the names of a folder, with their numbers: plain numbers, or, in
    a folder without any, those with a word before the number."""
    found = {name: match for name in names if (match := FRAME.fullmatch(name))}
    plain = any(match[1] is None for match in found.values())
    return {name: int(match[2]) for name, match in found.items() if not plain or match[1] is None}


def _table(folder: Path, tables: list[Path], kind: str) -> Path | None:
    """The csv of the actions or of the positions, told apart by their names."""
    fitting = [table for table in tables if table_kind(table.name) == kind]
    if len(fitting) > 1:
        both = f"{fitting[0].name} and {fitting[1].name}"
        raise DataError(f"two files of {kind}: {both}", file=folder, hint="remove one of them")
    return fitting[0] if fitting else None


def _in_order(folder: Path, numbered: dict[int, Path], actions: Table | None) -> list[Path]:
    """The pictures in numeric order: as many as there are actions, or one more.

    They count from 0, or from another number where the csv's rows say so.
    """
    count, last = len(numbered), max(numbered)
    if actions is None:
        rows = last - min(numbered) + 1
    else:
        actions.check_top(count)  # or that row would look like a missing frame
        rows = len(actions.values)
    span = last - min(numbered) + 1
    # Where there are fewer rows than pictures, rows are missing, and no picture before the first.
    first = min(numbered) if rows <= span else 0
    for number in range(first, max(first + rows, last + 1)):
        if number not in numbered:
            detail = ""
            if actions is not None and rows > count:
                detail = f"{actions.file.name} has {rows_of(rows)} for {count} frames: "
            hint = f"{detail}extract the clip again, or remove it"
            name = name_like(numbered[last].name, number)
            raise DataError("frame is missing", file=folder / name, hint=hint)
    if actions is not None and rows != count - 1:
        actions.check_rows(count)
    return [numbered[number] for number in range(first, last + 1)]


def name_like(name: str, number: int) -> str:
    """The name of frame `number`, where another frame has that name: frame_0003.png."""
    match = FRAME.fullmatch(name)
    assert match is not None
    digits = match[2]
    width = len(digits) if digits.startswith("0") and len(digits) > 1 else 0
    return f"{name[: match.start(2)]}{number:0{width}}{name[match.end(2) :]}"


def _no_frames(folder: Path) -> DataError:
    """The error for a clip without pictures; it names the files that are there."""
    names = sorted(entry.name for entry in scan(folder))
    there = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    if any(os.path.splitext(name)[1].lower() in VIDEOS for name in names):
        hint = "convert the folder that holds the splits first: labkit data convert SOURCE OUT"
        return DataError(f"holds videos and no pictures: {there}", file=folder, hint=hint)
    hint = "expected 0.png, 1.png, ... or frame_0000.jpg and so on"
    return DataError(f"holds no frames; its files: {there or 'none'}", file=folder, hint=hint)


def _read_labels(file: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "T H W"]:
    hint = "remove it: labels are optional"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            labels = arrays["labels"]
    except PermissionError as error:
        raise unreadable(file, error) from None
    except _BROKEN:
        raise DataError("is not a readable file of labels", file=file, hint=hint) from None
    if labels.dtype != np.uint8 or labels.shape != shape:
        what = f"labels are {labels.dtype} {labels.shape}, expected uint8 {shape}"
        raise DataError(what, file=file, hint=hint)
    return labels
