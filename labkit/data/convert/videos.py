"""Videos (mp4, avi, webm, gif and others) with a csv beside each, or none."""

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
from labkit.data.layout.find import VIDEOS, is_folder
from labkit.data.layout.plain_files import check_plain
from labkit.data.layout.tables import Table, parse_table
from labkit.errors import DataError

_DEPTH = 3
"""folders below the source in which videos are looked for"""


def video_recordings(source: Path) -> list[Recording]:
    """The videos of a folder, or one video, each as a recording. Folders called train, validate or
    test give the splits.

    The csv of `push.mp4` is `push.csv`, its actions; or `push_actions.csv` and
    `push_positions.csv`; or `actions.csv` and `positions.csv` in a folder with no other video.

    Raises:
        DataError: a folder cannot be listed, a video has two files of actions, or a csv belongs to
            no video.
    """
    files = [source] if source.is_file() else list(_below(source))
    # A folder may hold thousands of videos: its names are read once.
    names = {folder: [entry.name for entry in scan(folder)] for folder in {f.parent for f in files}}
    tables = {file: _tables(file, names[file.parent]) for file in files}
    for folder in sorted(names) if source.is_dir() else ():
        inside = {video: found for video, found in tables.items() if video.parent == folder}
        _check_all_used(folder, names[folder], inside)
    return [_recording(file, source, tables[file]) for file in files]


def _check_all_used(folder: Path, names: list[str], videos: dict[Path, dict[str, Path]]) -> None:
    """Raises DataError where a csv beside videos belongs to none of them: its video may be missing
    or have another name, and its rows would be lost."""
    used = {table.name for tables in videos.values() for table in tables.values()}
    for name in sorted(names):
        if name.lower().endswith(".csv") and name not in used:
            stem = os.path.splitext(name)[0].lower()
            like = [video.name for video in videos if video.stem.lower() == stem]
            hint = (
                f"rename it like {like[0]}" if like else "name it like its video, or move it away"
            )
            raise DataError("belongs to no video", file=folder / name, hint=hint)


def _below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    entries = sorted(scan(folder), key=lambda entry: _natural(entry.name))
    for entry in entries:
        if is_folder(entry):
            if depth:
                yield from _below(folder / entry.name, depth - 1)
        elif os.path.splitext(entry.name)[1].lower() in VIDEOS:
            yield folder / entry.name


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _recording(file: Path, source: Path, tables: dict[str, Path]) -> Recording:
    below = file.relative_to(source) if file != source else Path(file.name)
    names = [canonical_split(part) for part in reversed(below.parts[:-1])]
    split = next((name for name in names if name in SPLITS), None)
    read = functools.partial(_read, file, tables)
    return Recording(below.with_suffix("").as_posix(), read, split, file, tables)


def _tables(video: Path, names: list[str]) -> dict[str, Path]:
    """The csv files of a video, by what they hold, among the names in its folder."""
    alone = sum(os.path.splitext(name)[1].lower() in VIDEOS for name in names) == 1
    found: dict[str, Path] = {}
    for name in sorted(names):
        stem, ending = os.path.splitext(name)
        if ending.lower() != ".csv":
            continue
        kind = None
        if stem == video.stem:
            kind = "actions"
        elif stem.startswith(video.stem) and stem[len(video.stem)] in "._- ":
            kind = table_kind(f"{stem[len(video.stem) :]}.csv")
        elif alone:
            kind = table_kind(name)
        if kind is None:
            continue
        if kind in found:
            what = f"has two files of {kind}: {found[kind].name} and {name}"
            raise DataError(what, file=video, hint="remove one of them")
        found[kind] = video.parent / name
    return found


def _read(video: Path, tables: dict[str, Path]) -> Material:
    parsed: dict[str, Table] = {kind: parse_table(file) for kind, file in tables.items()}
    actions, positions = parsed.get("actions"), parsed.get("positions")
    fps, frames = open_video(video)
    return Material(
        video,
        frames,
        None if actions is None else actions.values,
        None if positions is None else positions.values,
        None if actions is None else actions.names,
        None if positions is None else positions.names,
        fps,
        tables,
    )


def open_video(
    file: Path, start: float | None = None, count: int | None = None
) -> tuple[float | None, Iterator[UInt8[np.ndarray, "H W 3"]]]:
    """A video's frames a second, and its frames as PyAV decodes them, turned as the video says.

    Args:
        start: seconds from the beginning at which to begin; None: at the beginning.
        count: frames to read; None: all.

    Raises:
        DataError: the package is missing, or the file cannot be read as a video; while the frames
            are read, that they cannot be decoded or end before `count`.
    """
    av = needed("av", "videos")
    check_plain(file)
    try:
        with av.open(str(file)) as container:
            rate = container.streams.video[0].average_rate
    except (av.FFmpegError, OSError, ValueError, IndexError):
        hint = "open it with a player; export it again, as mp4 for instance"
        raise DataError("is not a video that ffmpeg can read", file=file, hint=hint) from None
    fps = None if rate is None else float(rate)
    return fps, _decoded(file, fps, start, count)


def _decoded(
    file: Path, fps: float | None, start: float | None, count: int | None
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    av = needed("av", "videos")
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
