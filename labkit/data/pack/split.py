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

from labkit.data.clip import Clip
from labkit.errors import DataError

KINDS = {
    "frames": ("frames.bin", "uint8"),
    "actions": ("actions.npy", "float32"),
    "positions": ("positions.npy", "float32"),
    "labels": ("labels.bin", "uint8"),
}
"""For each array its file and dtype."""


def remake(root: Path) -> str:
    """What mends a damaged pack."""
    return f"delete {root} and make the pack again"


def clip_shapes(length: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """The shape of each kind of array in a clip of that many frames of that size."""
    return {
        "frames": (length, 3, height, width),
        "actions": (length, 4),
        "positions": (length, 3),
        "labels": (length, height, width),
    }


class PackedSplit:
    """One split of a pack. Files are mapped on first use, so that it pickles cheaply."""

    def __init__(self, root: Path, name: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        self.root, self.name, self._files = Path(root), name, dict(files)
        self.shape = tuple(self._files["frames"]["shape"])
        """(N, T, 3, H, W)"""
        self._opened: dict[str, int] = {}

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getstate__(self) -> dict[str, Any]:
        opened = {*KINDS, "names", "_opened"}
        state = {key: value for key, value in self.__dict__.items() if key not in opened}
        return {**state, "_opened": {}}

    @functools.cached_property
    def frames(self) -> UInt8[np.ndarray, "N T 3 H W"]:
        """The pictures, read only."""
        return self._map("frames")

    @functools.cached_property
    def actions(self) -> Float32[np.ndarray, "N T 4"]:
        """The actions, read only."""
        return self._map("actions")

    @functools.cached_property
    def positions(self) -> Float32[np.ndarray, "N T 3"] | None:
        """The end effector's positions, where the clips have them."""
        return self._map("positions") if self.has_positions else None

    @functools.cached_property
    def labels(self) -> UInt8[np.ndarray, "N T H W"] | None:
        """The region of each pixel, where a simulator told."""
        return self._map("labels") if self.has_labels else None

    @functools.cached_property
    def names(self) -> list[str]:
        """The clips' names."""
        file = self.root / self.name / "names.json"
        try:
            names = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            what = f"is not readable: {error}"
            raise DataError(what, file=file, hint=remake(self.root)) from None
        whole = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not whole or len(names) != len(self):
            what = f"does not hold {len(self)} names"
            raise DataError(what, file=file, hint=remake(self.root))
        return names

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
        window = slice(start, stop)
        return Clip(
            frames=self.frames[index, window],
            actions=self.actions[index, window],
            positions=None if self.positions is None else self.positions[index, window],
            labels=None if self.labels is None else self.labels[index, window],
            name=self.names[index],
        )

    def conditions(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Actions (T, 4) and positions (T, 3) of clip `index`."""
        return self.actions[index], None if self.positions is None else self.positions[index]

    def windows(
        self,
        numbers: Int64[np.ndarray, " B"],
        starts: Int64[np.ndarray, " B"],
        length: int,
        *,
        labels: bool = True,
    ) -> tuple[
        UInt8[np.ndarray, "B length 3 H W"],
        Float32[np.ndarray, "B length 4"],
        Float32[np.ndarray, "B length 3"] | None,
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
        clips, frames = self.shape[:2]
        within = (numbers >= 0) & (numbers < clips) & (starts >= 0) & (starts <= frames - length)
        if length < 1 or not within.all():
            outside = np.stack([numbers, starts], 1)[~within][:3].tolist()
            what = f"no windows of {length} frames at [clip, start] {outside}"
            raise IndexError(f"{what}: there are {clips} clips of {frames} frames")
        at = numbers[:, None], starts[:, None] + np.arange(length)  # (B, 1), (B, length)
        return (
            self._read("frames", numbers, starts, length),
            self.actions[at],
            None if self.positions is None else self.positions[at],
            self._read("labels", numbers, starts, length) if labels and self.has_labels else None,
        )

    def _read(
        self, kind: str, numbers: np.ndarray, starts: np.ndarray, length: int
    ) -> UInt8[np.ndarray, "B length ..."]:
        """Windows of an array of bytes, by as little Python a window as possible."""
        _, frames, *size = self._files[kind]["shape"]
        first = numbers * frames + starts
        if not hasattr(os, "preadv"):  # Windows
            mapped = getattr(self, kind).reshape(-1, *size)
            return np.take(mapped, first[:, None] + np.arange(length), axis=0)
        windows = np.empty((len(numbers), length, *size), np.uint8)
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
