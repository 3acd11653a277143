"""Films (mp4, avi, webm, gif and others) with a csv beside each, or none."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from labkit.data.clip import SPLITS
from labkit.data.convert.recording import Material, Recording, needed
from labkit.data.layout import canonical_split, scan, table_kind
from labkit.data.layout.find import is_folder
from labkit.data.layout.plain_files import check_plain
from labkit.data.layout.tables import Table, parse_table
from labkit.errors import DataError

ENDINGS = {".mp4", ".avi", ".webm", ".gif", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg"}
_DEPTH = 3
"""folders below the source in which films are looked for"""


def films(source: Path) -> list[Recording]:
    """The films of a folder, or one film, each as a recording. Folders called train, validate or
    test give the splits.

    The csv of `push.mp4` is `push.csv`, its actions; or `push_actions.csv` and
    `push_positions.csv`; or `actions.csv` and `positions.csv` in a folder with no other film.

    Raises:
        DataError: a folder cannot be listed, a film has two files of actions, or a csv belongs to
            no film.
    """
    files = [source] if source.is_file() else list(_below(source))
    # A folder may hold thousands of films: its names are read once.
    names = {folder: [entry.name for entry in scan(folder)] for folder in {f.parent for f in files}}
    tables = {file: _tables(file, names[file.parent]) for file in files}
    for folder in sorted(names) if source.is_dir() else ():
        inside = {film: found for film, found in tables.items() if film.parent == folder}
        _check_all_used(folder, names[folder], inside)
    return [_recording(file, source, tables[file]) for file in files]


def _check_all_used(folder: Path, names: list[str], films: dict[Path, dict[str, Path]]) -> None:
    """Raises DataError where a csv beside films belongs to none of them: its film may be missing or
    have another name, and its rows would be lost."""
    used = {table.name for tables in films.values() for table in tables.values()}
    for name in sorted(names):
        if name.lower().endswith(".csv") and name not in used:
            stem = os.path.splitext(name)[0].lower()
            like = [film.name for film in films if film.stem.lower() == stem]
            hint = f"rename it like {like[0]}" if like else "name it like its film, or move it away"
            raise DataError("belongs to no film", file=folder / name, hint=hint)


def _below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    entries = sorted(scan(folder), key=lambda entry: _natural(entry.name))
    for entry in entries:
        if is_folder(entry):
            if depth:
                yield from _below(folder / entry.name, depth - 1)
        elif os.path.splitext(entry.name)[1].lower() in ENDINGS:
            yield folder / entry.name


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _recording(file: Path, source: Path, tables: dict[str, Path]) -> Recording:
    below = file.relative_to(source) if file != source else Path(file.name)
    names = [canonical_split(part) for part in reversed(below.parts[:-1])]
    split = next((name for name in names if name in SPLITS), None)
    read = functools.partial(_read, file, tables)
    return Recording(below.with_suffix("").as_posix(), read, split)


def _tables(film: Path, names: list[str]) -> dict[str, Path]:
    """The csv files of a film, by what they hold, among the names in its folder."""
    alone = sum(os.path.splitext(name)[1].lower() in ENDINGS for name in names) == 1
    found: dict[str, Path] = {}
    for name in sorted(names):
        stem, ending = os.path.splitext(name)
        if ending.lower() != ".csv":
            continue
        kind = None
        if stem == film.stem:
            kind = "actions"
        elif stem.startswith(film.stem) and stem[len(film.stem)] in "._- ":
            kind = table_kind(f"{stem[len(film.stem) :]}.csv")
        elif alone:
            kind = table_kind(name)
        if kind is None:
            continue
        if kind in found:
            what = f"has two files of {kind}: {found[kind].name} and {name}"
            raise DataError(what, file=film, hint="remove one of them")
        found[kind] = film.parent / name
    return found


def _read(film: Path, tables: dict[str, Path]) -> Material:
    parsed: dict[str, Table] = {kind: parse_table(file) for kind, file in tables.items()}
    actions, positions = parsed.get("actions"), parsed.get("positions")
    fps, frames = open_film(film)
    return Material(
        film,
        frames,
        None if actions is None else actions.values,
        None if positions is None else positions.values,
        None if actions is None else actions.names,
        None if positions is None else positions.names,
        fps,
        tables,
    )


def open_film(
    file: Path, start: float | None = None, count: int | None = None
) -> tuple[float | None, Iterator[UInt8[np.ndarray, "H W 3"]]]:
    """A film's frames a second, and its frames as PyAV decodes them, turned as the film says.

    Args:
        start: seconds from the beginning at which to begin; None: at the beginning.
        count: frames to read; None: all.

    Raises:
        DataError: the package is missing, or the file cannot be read as a film; while the frames
            are read, that they cannot be decoded or end before `count`.
    """
    av = needed("av", "films")
    check_plain(file)
    try:
        with av.open(str(file)) as container:
            rate = container.streams.video[0].average_rate
    except (av.FFmpegError, OSError, ValueError, IndexError):
        hint = "open it with a player; export it again, as mp4 for instance"
        raise DataError("is not a film that ffmpeg can read", file=file, hint=hint) from None
    fps = None if rate is None else float(rate)
    return fps, _decoded(file, fps, start, count)


def _decoded(
    file: Path, fps: float | None, start: float | None, count: int | None
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    av = needed("av", "films")
    got = 0
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start is not None:  # goes to a key frame before it
                container.seek(int(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                early = start is not None and frame.time < start - 0.5 / (fps or 1e9)
                if early:
                    continue
                if got == count:
                    return
                turns = round(frame.rotation / 90) % 4
                yield np.rot90(frame.to_ndarray(format="rgb24"), turns)
                got += 1
    except (av.FFmpegError, OSError, ValueError, TypeError):
        hint = "it is damaged: export it again"
        raise DataError(f"cannot be decoded after frame {got}", file=file, hint=hint) from None
    if count is not None and got < count:
        raise DataError(f"ends after {got} of {count} frames", file=file, hint="download it again")
