"""A split read from its folders, for who wants no pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.errors import DataError


class ClipFolders:
    """A split read from its folders, PNG by PNG; the same reading as a PackedSplit's."""

    def __init__(self, root: Path, split: str) -> None:
        self.folders = layout.clip_folders(root, split)
        first = layout.read_clip(self.folders[0])
        self.shape = (len(self.folders), *first.frames.shape)
        """(N, T, 3, H, W)"""
        self.has_positions = first.positions is not None
        self.has_labels = first.labels is not None

    def __len__(self) -> int:
        return len(self.folders)

    def clip(self, index: int, start: int = 0, stop: int | None = None) -> Clip:
        """Clip number `index`, or its frames `start` to `stop` (exclusive).

        Raises:
            DataError: it cannot be read, or is unlike the first clip.
        """
        clip = layout.read_clip(self.folders[index], start, stop)
        shape = (len(range(self.shape[1])[start:stop]), *self.shape[2:])
        self._check(index, "frames have shape", clip.frames.shape, shape)
        self._check_there(index, "labels", clip.labels, self.has_labels)
        self._check_there(index, "positions", clip.positions, self.has_positions)
        return clip

    def conditions(
        self, index: int
    ) -> tuple[Float32[np.ndarray, "T 4"], Float32[np.ndarray, "T 3"] | None]:
        """Actions and positions of clip `index`, without reading its pictures.

        Raises:
            DataError: as `clip`.
        """
        actions, positions = layout.read_conditions(self.folders[index])
        self._check(index, "number of frames is", len(actions), self.shape[1])
        self._check_there(index, "positions", positions, self.has_positions)
        return actions, positions

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
        """Windows of many clips, read one by one; the same as `PackedSplit.windows`.

        Raises:
            DataError: as `clip`.
        """
        n, size = len(numbers), self.shape[2:]
        frames = np.empty((n, length, *size), np.uint8)
        actions = np.empty((n, length, 4), np.float32)
        positions = np.empty((n, length, 3), np.float32) if self.has_positions else None
        regions = np.empty((n, length, *size[1:]), np.uint8) if labels and self.has_labels else None
        for row, (number, start) in enumerate(zip(numbers, starts, strict=True)):
            clip = self.clip(int(number), int(start), int(start) + length)
            frames[row], actions[row] = clip.frames, clip.actions
            if positions is not None:
                positions[row] = clip.positions
            if regions is not None:
                regions[row] = clip.labels
        return frames, actions, positions, regions

    def _check_there(self, index: int, kind: str, found: object, expected: bool) -> None:
        if (found is not None) != expected:
            what = f"has {'no ' if expected else ''}{kind}, unlike the split's first clip"
            hint = "give them to all clips of the split, or to none"
            raise DataError(what, file=self.folders[index], hint=hint)

    def _check(self, index: int, what: str, found: object, expected: object) -> None:
        if found != expected:
            what = f"{what} {found}, unlike the split's first clip's {expected}"
            hint = "all clips of a split must have one length and size"
            raise DataError(what, file=self.folders[index], hint=hint)
