"""One split of a pack: its arrays, mapped, and windows of them, copied (format: the package)."""

from __future__ import annotations

import functools
import json
import math
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from labkit.data.clip import Clip, column_names
from labkit.errors import DataError

KINDS = {
    "frames": ("frames.bin", "uint8"),
    "actions": ("actions.npy", "float32"),
    "positions": ("positions.npy", "float32"),
    "labels": ("labels.bin", "uint8"),
}
"""For each array its file and dtype."""

LENGTHS = "lengths.json"
"""file of the clips' lengths, where they differ"""


def remake(root: Path) -> str:
    """What mends a damaged pack."""
    return f"delete {root} and make the pack again"


def row_shapes(height: int, width: int, actions: int, positions: int) -> dict[str, tuple[int, ...]]:
    """The shape that each kind of array has for one frame of that size."""
    return {
        "frames": (3, height, width),
        "actions": (actions,),
        "positions": (positions,),
        "labels": (height, width),
    }


class PackedSplit:
    """One split of a pack. Files are mapped on first use, so that it pickles cheaply."""

    def __init__(self, root: Path, name: str, entry: Mapping[str, Any]) -> None:
        """
        Args:
            root: the pack's folder.
            name: the split's name.
            entry: its entry in the manifest.
        """
        self.root, self.name, self._files = Path(root), name, dict(entry["files"])
        self._clips, self._columns = int(entry["clips"]), dict(entry.get("columns", {}))
        self.frame_size: tuple[int, int] = tuple(self._files["frames"]["shape"][-2:])
        """height and width of the pictures"""
        self._opened: dict[str, int] = {}

    def __len__(self) -> int:
        return self._clips

    @functools.cached_property
    def lengths(self) -> Int64[np.ndarray, " N"]:
        """Frames of each clip."""
        if "lengths" not in self._files:
            return np.full(len(self), self._files["frames"]["shape"][1], np.int64)
        return np.array(self._list(LENGTHS, int), np.int64)

    @functools.cached_property
    def _first_rows(self) -> Int64[np.ndarray, " N"]:
        """For each clip the number of frames before it."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def action_columns(self) -> tuple[str, ...]:
        """Names of the action columns."""
        count = self._files["actions"]["shape"][-1]
        return column_names("actions", count, self._columns.get("actions"))

    @property
    def position_columns(self) -> tuple[str, ...]:
        """Names of the position columns."""
        count = self._files["positions"]["shape"][-1] if self.has_positions else 0
        return column_names("positions", count, self._columns.get("positions"))

    def __getstate__(self) -> dict[str, Any]:
        opened = {*KINDS, "names", "lengths", "_first_rows", "_opened"}
        state = {key: value for key, value in self.__dict__.items() if key not in opened}
        return {**state, "_opened": {}}

    @functools.cached_property
    def frames(self) -> UInt8[np.ndarray, "*clips 3 H W"]:
        """The pictures, read only: (N, T, ...), or all frames in a row (R, ...) where the clips
        have several lengths. The other arrays are the same."""
        return self._map("frames")

    @functools.cached_property
    def actions(self) -> Float32[np.ndarray, "*clips A"]:
        """The actions, read only."""
        return self._map("actions")

    @functools.cached_property
    def positions(self) -> Float32[np.ndarray, "*clips P"] | None:
        """The end effector's positions, where the clips have them."""
        return self._map("positions") if self.has_positions else None

    @functools.cached_property
    def labels(self) -> UInt8[np.ndarray, "*clips H W"] | None:
        """The region of each pixel, where a simulator gave it."""
        return self._map("labels") if self.has_labels else None

    @functools.cached_property
    def names(self) -> list[str]:
        """The clips' names."""
        return self._list("names.json", str)

    def _list(self, name: str, kind: type) -> list[Any]:
        """A file with one value of that kind for each clip."""
        file = self.root / self.name / name
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            what = f"is not readable: {error}"
            raise DataError(what, file=file, hint=remake(self.root)) from None
        whole = isinstance(values, list) and all(type(value) is kind for value in values)
        if not whole or len(values) != len(self):
            what = f"does not hold {len(self)} {file.stem}"
            raise DataError(what, file=file, hint=remake(self.root))
        return values

    @property
    def has_positions(self) -> bool:
        """Whether the clips have end-effector positions."""
        return "positions" in self._files

    @property
    def has_labels(self) -> bool:
        """Whether the clips have region labels."""
        return "labels" in self._files

    def clip(self, index: int, start: int = 0, stop: int | None = None) -> Clip:
        """Clip number `index`, or its frames `start` to `stop` (exclusive), without a copy."""
        names, whole = self.names, range(int(self.lengths[index]))
        window = whole[slice(start, stop)]
        first = int(self._first_rows[index])
        rows = slice(first + window.start, first + max(window.start, window.stop))
        parts = {kind: self._rows(kind)[rows] for kind in KINDS if kind in self._files}
        return Clip(
            frames=parts["frames"],
            actions=parts["actions"],
            positions=parts.get("positions"),
            labels=parts.get("labels"),
            name=names[index],
            action_columns=self.action_columns,
            position_columns=self.position_columns if self.has_positions else None,
        )

    def conditions(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Actions (T, A) and positions (T, P) of clip `index`."""
        first = int(self._first_rows[index])
        rows = slice(first, first + int(self.lengths[index]))
        positions = self._rows("positions")[rows] if self.has_positions else None
        return self._rows("actions")[rows], positions

    def _rows(self, kind: str) -> np.ndarray:
        """An array with one row for each frame of the split."""
        array, tail = getattr(self, kind), 2 if "lengths" not in self._files else 1
        return array.reshape(math.prod(array.shape[:tail]), *array.shape[tail:])

    def windows(
        self,
        numbers: Int64[np.ndarray, " B"],
        starts: Int64[np.ndarray, " B"],
        length: int,
        *,
        labels: bool = True,
    ) -> tuple[
        UInt8[np.ndarray, "B length 3 H W"],
        Float32[np.ndarray, "B length A"],
        Float32[np.ndarray, "B length P"] | None,
        UInt8[np.ndarray, "B length H W"] | None,
    ]:
        """Windows of many clips, in new arrays: frames, actions, positions, labels.

        Pictures and labels are read from the files straight into those arrays. So the process
        holds no page of the files, however large, and threads may call this at once.

        Args:
            numbers: the clip of each window.
            starts: its first frame.
            length: its number of frames.
            labels: read the labels, where there are any; they are None otherwise.

        Raises:
            IndexError: a window is not within its clip, or there is no such clip.
            DataError: the pack's files cannot be read, or have become shorter.
        """
        within = (numbers >= 0) & (numbers < len(self)) & (starts >= 0)
        within[within] = starts[within] <= self.lengths[numbers[within]] - length
        if length < 1 or not within.all():
            outside = np.stack([numbers, starts], 1)[~within][:3].tolist()
            what = f"no windows of {length} frames at [clip, start] {outside}"
            longest = self.lengths.max()
            raise IndexError(f"{what}: there are {len(self)} clips of {longest} frames at most")
        first = self._first_rows[numbers] + starts  # (B,)
        at = first[:, None] + np.arange(length)  # (B, length)
        return (
            self._read("frames", first, length),
            self._rows("actions")[at],
            self._rows("positions")[at] if self.has_positions else None,
            self._read("labels", first, length) if labels and self.has_labels else None,
        )

    def _read(self, kind: str, first: np.ndarray, length: int) -> UInt8[np.ndarray, "B length ..."]:
        """Windows of an array of bytes, by as little Python a window as possible."""
        size = {"frames": (3, *self.frame_size), "labels": self.frame_size}[kind]
        if not hasattr(os, "preadv"):  # Windows
            return np.take(self._rows(kind), first[:, None] + np.arange(length), axis=0)
        windows = np.empty((len(first), length, *size), np.uint8)
        try:
            descriptor = self._descriptor(kind)
            for window, offset in zip(windows, (first * math.prod(size)).tolist(), strict=True):
                got = os.preadv(descriptor, (window,), offset)
                if got != window.nbytes:
                    raise OSError(f"{got} of {window.nbytes} bytes at {offset}")
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise DataError(what, file=self._file(kind), hint=remake(self.root)) from None
        return windows

    def _descriptor(self, kind: str) -> int:
        """The descriptor of an open file, which is closed when this object goes."""
        if kind not in self._opened:
            self._opened[kind] = os.open(self._file(kind), os.O_RDONLY)
            weakref.finalize(self, os.close, self._opened[kind])
        return self._opened[kind]

    def _file(self, kind: str) -> Path:
        return self.root / self.name / KINDS[kind][0]

    def _map(self, kind: str) -> np.ndarray:
        file, dtype, shape = self._file(kind), KINDS[kind][1], tuple(self._files[kind]["shape"])
        try:
            if file.suffix == ".npy":
                array = np.lib.format.open_memmap(file, mode="r")
            else:
                array = np.memmap(file, dtype=dtype, mode="r", shape=shape)
        except Exception as error:  # numpy's reader of headers lets out whatever its parser raises
            what = f"cannot be mapped: {error}"
            raise DataError(what, file=file, hint=remake(self.root)) from None
        if array.dtype != dtype or array.shape != shape:
            what = f"holds {array.dtype} {array.shape}, its manifest says {dtype} {shape}"
            raise DataError(what, file=file, hint=remake(self.root))
        return array.view(np.ndarray)  # slices of a plain view are cheaper than a memmap's
