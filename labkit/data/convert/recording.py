"""Recordings of any source -> clips: pictures to the wanted size, splits by recording."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm.auto import tqdm

from labkit.data.clip import FRAME_SIZES, SPLITS, Clip
from labkit.data.layout import write_split
from labkit.data.layout.tables import rows_hint, rows_of, to_float32
from labkit.data.pack import PackWriter
from labkit.errors import DataError

SHARES = (0.8, 0.1, 0.1)
"""of the recordings, for train, validate and test"""


@dataclass(frozen=True)
class Material:
    """What a recording holds: pictures, and a row of numbers for each."""

    file: Path | str
    """where it comes from, for messages"""
    frames: Iterable[UInt8[np.ndarray, "H W 3"]]
    """its pictures in order, RGB"""
    actions: np.ndarray | None = None
    """(T, A), or (T - 1, A): row t leads from frame t to frame t + 1"""
    positions: np.ndarray | None = None
    """(T, P)"""
    action_columns: tuple[str, ...] | None = None
    position_columns: tuple[str, ...] | None = None
    fps: float | None = None
    """frames a second, where the source says"""
    tables: Mapping[str, Path] = field(default_factory=dict)
    """files of the actions and the positions, where they are files of their own; for messages"""


@dataclass(frozen=True)
class Recording:
    """One recording of a source. It becomes one clip, in one split."""

    name: str
    read: Callable[[], Material]
    """opens it; the pictures are decoded one by one"""
    split: str | None = None
    """its split, where the source has splits of its own"""
    file: Path | None = None
    """the video that it is read from; None for other sources"""
    tables: Mapping[str, Path] = field(default_factory=dict)
    """the csv files beside the video: of the actions and of the positions"""
    unread: tuple[str, ...] = ()
    """names of arrays that lie beside it and are not read"""


@dataclass(frozen=True)
class Pictures:
    """Which pictures of a recording are kept, and at which size."""

    stride: int = 1
    """keep every so many-th frame"""
    fps: float | None = None
    """keep so many frames a second; the recording must say how many it has"""
    crop: tuple[int, int, int, int] | None = None
    """x, y, width and height of the part to keep, in pixels"""
    resize: int = 64
    """height and width of the result: of the largest square in the middle, scaled; 0 keeps the
    size"""
    pad: bool = False
    """make pictures square by black bars instead of cutting the middle out"""

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise DataError(f"--stride is {self.stride}", hint="it must be 1 or more")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise DataError(f"--fps is {self.fps:g}", hint="it must be more than 0")
        if self.fps is not None and self.stride != 1:
            what = f"--fps {self.fps:g} and --stride {self.stride} cannot be used together"
            hint = "both choose which frames are kept: give one of them"
            raise DataError(what, hint=hint)
        if self.resize and self.resize not in FRAME_SIZES:
            what = f"--resize is {self.resize}: no model takes frames of that size"
            below = [str(size) for size in FRAME_SIZES if size < self.resize][-1:]
            above = [str(size) for size in FRAME_SIZES if size > self.resize][:1]
            hint = f"the nearest that a model takes: {' or '.join(below + above)}; 0 keeps the size"
            raise DataError(what, hint=hint)
        if self.crop is not None and (min(self.crop[:2]) < 0 or min(self.crop[2:]) < 1):
            raise DataError(f"--crop is {self.crop}", hint="give x, y, width and height in pixels")

    def step(self, material: Material) -> int:
        """Frames from one kept frame to the next.

        Raises:
            DataError: the recording has not a whole multiple of the wanted frames a second.
        """
        if self.fps is None:
            return self.stride
        if material.fps is None:
            hint = "use --stride: keep every so many-th frame"
            raise DataError("does not say its frames a second", file=material.file, hint=hint)
        step = material.fps / self.fps
        if round(step) < 1 or abs(step - round(step)) > 0.02 * step:
            near = material.fps / max(1, round(step))
            what = f"has {material.fps:g} frames a second, no multiple of {self.fps:g}"
            raise DataError(what, file=material.file, hint=f"for instance --fps {near:.4g}")
        return round(step)

    def of(self, frame: np.ndarray, file: Path | str) -> UInt8[np.ndarray, "H W 3"]:
        """One picture, cut and scaled (Lanczos, which averages where it makes it smaller).

        Raises:
            DataError: the part to keep is not within the picture.
        """
        if self.crop is not None:
            x, y, width, height = self.crop
            if y + height > frame.shape[0] or x + width > frame.shape[1]:
                what = f"has frames of {frame.shape[1]}x{frame.shape[0]}"
                hint = f"--crop {x},{y},{width},{height} is not within them"
                raise DataError(what, file=file, hint=hint)
            frame = frame[y : y + height, x : x + width]
        if not self.resize or frame.shape[:2] == (self.resize, self.resize):
            return np.ascontiguousarray(frame)
        height, width = frame.shape[:2]
        if self.pad:
            side = max(height, width)
            square = np.zeros((side, side, 3), np.uint8)
            top, left = (side - height) // 2, (side - width) // 2
            square[top : top + height, left : left + width] = frame
        else:
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            square = np.ascontiguousarray(frame[top : top + side, left : left + side])
        size = (self.resize, self.resize)
        return np.asarray(Image.fromarray(square).resize(size, Image.Resampling.LANCZOS))


def to_clip(recording: Recording, pictures: Pictures) -> tuple[Clip, tuple[int, int]]:
    """Reads a recording as a clip.

    Returns:
        the clip, and (height, width) of its pictures before they were scaled.
    Raises:
        DataError: it cannot be read, or has not a row of numbers for each frame.
    """
    material = recording.read()
    step, count, kept, size = pictures.step(material), 0, [], (0, 0)
    for frame in material.frames:
        if count % step == 0:
            size = frame.shape[:2]
            kept.append(pictures.of(frame, material.file))
            if kept[-1].shape != kept[0].shape:
                what = f"frame {count} is {size[1]}x{size[0]}, unlike the first"
                raise DataError(what, file=material.file, hint="all frames must have one size")
        count += 1
    if not kept:
        raise DataError("holds no frames", file=material.file, hint="remove it")
    actions, repeated = _rows(material, "actions", count)
    positions, _ = _rows(material, "positions", count)
    clip = Clip(
        frames=np.stack(kept).transpose(0, 3, 1, 2),
        actions=np.zeros((len(kept), 0), np.float32) if actions is None else actions[::step],
        positions=None if positions is None else positions[::step],
        name=recording.name,
        action_columns=material.action_columns,
        position_columns=material.position_columns,
        repeated_action=repeated,
    )
    return clip, size


def _rows(material: Material, kind: str, frames: int) -> tuple[np.ndarray | None, bool]:
    """A row of numbers for each frame, and whether the last row of actions had to be repeated."""
    values = getattr(material, kind)
    if values is None or values.shape[-1] == 0:
        return None, False
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        what = f"{kind} are {values.dtype} of shape {values.shape}"
        raise DataError(what, file=material.file, hint="expected numbers, a row a frame")
    repeated = kind == "actions" and len(values) == frames - 1 > 0
    if repeated:
        values = np.concatenate([values, values[-1:]])
    table = material.tables.get(kind)
    if len(values) != frames:
        what = f"has {rows_of(len(values))} of {kind} for {frames} frames"
        what += "" if table is None else f" of {Path(material.file).name}"
        raise DataError(what, file=table or material.file, hint=rows_hint(len(values), frames))
    rows = to_float32(values)
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        what = f"{kind} of frame {row} are not all finite numbers"
        raise DataError(what, file=material.file, row=row + 1, hint="mend or remove that recording")
    return rows, repeated


# ------------------------------------------------------------------------------- splits


def in_splits(
    recordings: Sequence[Recording], shares: Sequence[float] | None, source: Path
) -> dict[str, list[Recording]]:
    """The recordings of each split. Where the source has no splits, the first recordings are for
    training and the last for testing, so that neighbours in time are mostly in one split.

    Args:
        shares: of train, validate and test; None: `SHARES`, or all for training where there are
            fewer than three recordings.

    Raises:
        DataError: there are no recordings, or the shares do not fit.
    """
    if not recordings:
        raise DataError("holds no recordings", file=source, hint="look at what is in it")
    free = [recording for recording in recordings if recording.split is None]
    if shares is not None:
        _check_shares(shares, len(free), source)
    if shares is None:
        shares = SHARES if len(free) == len(recordings) and len(free) >= 3 else (1.0, 0.0, 0.0)
    held = [max(1, round(share * len(free))) if share > 0 and free else 0 for share in shares[1:]]
    cuts = [len(free) - sum(held), len(free) - held[1]]
    places = {id(r): SPLITS[(n >= cuts[0]) + (n >= cuts[1])] for n, r in enumerate(free)}
    found: dict[str, list[Recording]] = {}
    for recording in recordings:
        split = recording.split or places[id(recording)]
        found.setdefault(split, []).append(recording)
    return {name: found[name] for name in SPLITS if name in found} | found


def _check_shares(shares: Sequence[float], free: int, source: Path) -> None:
    given = f"--split is {','.join(f'{share:g}' for share in shares)}"
    hint = "give train, validate and test shares that add up to 1, such as 0.8,0.1,0.1"
    if len(shares) != 3:
        raise DataError(given, hint=hint)
    if min(shares) < 0:
        raise DataError(f"{given}: a share is below 0", hint=hint)
    if not abs(sum(shares) - 1) <= 1e-6:
        raise DataError(f"{given}: the shares add up to {sum(shares):g}", hint=hint)
    if shares[0] == 0:
        hint = (
            "the first share is that of train: give it more than 0, such as 0.8,0.1,0.1; to "
            "convert a test set alone, put its recordings into a folder test and leave --split out"
        )
        raise DataError(f"{given}: nothing is left to train on", hint=hint)
    if not free:
        hint = "leave --split out"
        raise DataError("has splits of its own", file=source, hint=hint)
    wanted = sum(share > 0 for share in shares)
    if free < wanted:
        what = f"has {free} recording{'s' if free > 1 else ''} for {wanted} splits"
        hint = (
            "a recording is never divided among splits, since neighbouring frames look alike: add "
            "recordings, or give some splits the share 0, such as --split "
            f"{'1,0,0' if free == 1 else '0.5,0,0.5'}"
        )
        raise DataError(what, file=source, hint=hint)


# ------------------------------------------------------------------------------- writing


@dataclass
class Written:
    """What was written, for the summary."""

    splits: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    """(height, width) of the pictures before they were scaled"""
    repeated: int = 0
    unread: dict[str, None] = field(default_factory=dict)
    """names of arrays that were not read, in their order"""
    first: Clip | None = None

    def notes(self, pictures: Pictures) -> Iterator[str]:
        """What was changed, a sentence each."""
        for height, width in sorted(self.sizes - {(pictures.resize, pictures.resize)}):
            if pictures.resize and not pictures.crop:
                how = "with black bars" if pictures.pad else "the middle square"
                how = "" if height == width else f" ({how})"
                side = pictures.resize
                yield f"frames of {width}x{height} were scaled to {side}x{side}{how}"
        if self.unread:
            yield (
                f"not read: {', '.join(self.unread)} (actions are read from an array called action "
                "or actions, positions from position, state and so on, or from what --state names)"
            )
        if self.repeated:
            has = "recording has" if self.repeated == 1 else "recordings have"
            yield (
                f"{self.repeated} {has} one action row fewer than frames: the last row is repeated"
            )


def write_recordings(
    splits: dict[str, list[Recording]],
    out: Path,
    to: Literal["pack", "layout"],
    about: str,
    pictures: Pictures,
    progress: bool,
) -> Written:
    """Writes the recordings, each as a clip: a pack whole or not at all, a layout split by split.

    Raises:
        DataError: a recording cannot be read or is unlike the others, or `out` cannot be written.
    """
    written = Written({name: len(recordings) for name, recordings in splits.items()})
    first: Recording | None = None

    def clips(recordings: list[Recording]) -> Iterator[Clip]:
        nonlocal first
        for recording in recordings:
            clip, size = to_clip(recording, pictures)
            written.lengths.append(len(clip.frames))
            written.sizes.add(size)
            written.repeated += clip.repeated_action
            written.unread |= dict.fromkeys(recording.unread)
            if written.first is None:
                written.first, first = clip, recording
            _check_columns((recording, clip), (first, written.first))
            yield clip

    if to == "layout":
        for name, recordings in splits.items():
            write_split(out, name, clips(recordings), progress)
        return written
    with PackWriter(out, about) as writer:
        shown = tqdm(total=sum(written.splits.values()), unit="clip", disable=not progress)
        with shown:
            for name, recordings in splits.items():
                for clip in clips(recordings):
                    writer.add(name, clip)
                    shown.update()
        writer.finish()
    return written


def _check_columns(one: tuple[Recording, Clip], other: tuple[Recording, Clip]) -> None:
    """Raises DataError where a recording has other columns than the first one, whatever their
    splits. The error names the csv, where the numbers are in one."""
    (mine, clip), (theirs, first) = one, other
    for kind in ("actions", "positions"):
        counts = [0 if part is None else part.shape[1] for part in _parts(kind, clip, first)]
        if counts[0] == counts[1]:
            continue
        if 0 in counts:
            bare, full = (mine, theirs) if counts[0] == 0 else (theirs, mine)
            raise _no_table(kind, bare, full)
        what = f"has {_columns(counts[0])} of {kind}, and {_table(theirs, kind)} has {counts[1]}"
        hint = "all recordings must have the same columns"
        raise DataError(what, file=_table(mine, kind), hint=hint)
    for kind, names, others in (
        ("actions", clip.action_columns, first.action_columns),
        ("positions", clip.position_columns, first.position_columns),
    ):
        if names and others and tuple(names) != tuple(others):
            what = f"has the {kind} {', '.join(names)}, and {_table(theirs, kind)} has "
            what += ", ".join(others)
            hint = "give all recordings the same columns, in the same order"
            raise DataError(what, file=_table(mine, kind), hint=hint)


def _parts(kind: str, *clips: Clip) -> list[np.ndarray | None]:
    return [getattr(clip, kind) for clip in clips]


def _columns(count: int) -> str:
    return f"{count} column{'' if count == 1 else 's'}"


def _table(recording: Recording, kind: str) -> Path | str:
    """The csv of a recording's actions or positions; the recording's name where it has none."""
    return recording.tables.get(kind, recording.name)


def _no_table(kind: str, bare: Recording, full: Recording) -> DataError:
    """The error where one recording has actions (or positions) and another has none."""
    hint = f"give {kind} to all recordings, or to none of them"
    if bare.file is None:
        return DataError(f"has no {kind}, and {full.name} has some", file=bare.name, hint=hint)
    ending = ".csv" if kind == "actions" else "_positions.csv"
    file = bare.file.with_name(f"{bare.file.stem}{ending}")
    what = f"no such file: {bare.file.name} has no {kind}, and {_table(full, kind)} is there"
    return DataError(what, file=file, hint=hint)


def needed(package: str, for_what: str) -> Any:
    """A package of the extra `formats`.

    Raises:
        DataError: it is not installed.
    """
    try:
        module: ModuleType = importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0].replace("_", "-")
        hint = f'python -m pip install {name}, or pip install "labkit[formats]" for all formats'
        raise DataError(f"{for_what} need the package {name}", hint=hint) from None
    return module
