"""Reading and checking one clip's folder in the course's layout (see the package)."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.data.clip import Clip
from labkit.data.layout.find import FRAME, scan
from labkit.data.layout.pictures import read_pictures
from labkit.data.layout.plain_files import unreadable
from labkit.data.layout.tables import Table, parse_table
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
_BROKEN = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
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


def table_columns(name: str) -> int | None:
    """Columns of the csv file of that name: 4 of actions, 3 of positions, None of any other."""
    stem, dot, ending = name.lower().rpartition(".")
    if not dot or ending != "csv":
        return None
    letters = re.sub(r"[^a-z]", "", stem)
    return 4 if letters in _ACTIONS else 3 if letters in _POSITIONS else None


def _read_tables(folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray | None]:
    """The pictures' files in order, the actions and the positions."""
    numbered, tables = _list_clip(folder)
    actions_file = _table(folder, tables, 4, "actions")
    if actions_file is None:
        others = ", ".join(table.name for table in tables)
        hint = "every clip needs its actions" + (f"; found {others}" if others else "")
        raise DataError("no such file", file=folder / "actions.csv", hint=hint)
    actions = parse_table(actions_file, 4)
    pictures = _in_order(folder, numbered, actions)
    positions_file = _table(folder, tables, 3, "positions")
    if positions_file is None:
        return pictures, actions.values, None
    positions = parse_table(positions_file, 3)
    positions.check_rows(len(pictures))
    return pictures, actions.values, positions.values


def _list_clip(folder: Path) -> tuple[dict[int, Path], list[Path]]:
    """The pictures by their number, and the csv files."""
    numbered: dict[int, Path] = {}
    tables = []
    for name in sorted(entry.name for entry in scan(folder)):
        if match := FRAME.fullmatch(name):
            number = int(match[1])
            if number in numbered:
                what = f"has both {numbered[number].name} and {name}"
                raise DataError(what, file=folder, hint="remove one of them")
            numbered[number] = folder / name
        elif name.lower().endswith(".csv"):
            tables.append(folder / name)
    return numbered, tables


def _table(folder: Path, tables: list[Path], columns: int, what: str) -> Path | None:
    """The csv of the actions or of the positions, told apart by their names."""
    fitting = [table for table in tables if table_columns(table.name) == columns]
    if len(fitting) > 1:
        both = f"{fitting[0].name} and {fitting[1].name}"
        raise DataError(f"two files of {what}: {both}", file=folder, hint="remove one of them")
    return fitting[0] if fitting else None


def _in_order(folder: Path, numbered: dict[int, Path], actions: Table) -> list[Path]:
    """The pictures in numeric order, as many as there are actions.

    They count from 0, or from 1 where the csv's rows say so.
    """
    rows, last = len(actions.values), max(numbered, default=-1)
    first = 1 if 0 not in numbered and rows in numbered else 0
    actions.check_top(len(numbered))  # or that row would look like a missing frame
    for number in range(first, max(first + rows, last + 1)):
        if number not in numbered:
            hint = f"{actions.file.name} has {rows} rows: extract the clip again, or remove it"
            raise DataError("frame is missing", file=folder / f"{number}.png", hint=hint)
    actions.check_rows(len(numbered))
    return [numbered[number] for number in range(first, last + 1)]


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
