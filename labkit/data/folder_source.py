"""A split read from its folders, for who wants no pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from labkit.data import layout
from labkit.data.clip import Clip, column_names
from labkit.errors import DataError


class ClipFolders:
    """A split read from its folders, picture by picture; the same reading as a PackedSplit's."""

    def __init__(self, root: Path, split: str) -> None:
        self.folders = layout.clip_folders(root, split)
        first = layout.read_clip(self.folders[0])
        self.frame_size: tuple[int, int] = first.frames.shape[-2:]
        """height and width of the pictures"""
        self.has_positions = first.positions is not None
        self.has_labels = first.labels is not None
        counts = [part.shape[1] for part in (first.actions, first.positions) if part is not None]
        self.action_columns = column_names("actions", counts[0], first.action_columns)
        """names of the action columns"""
        self.position_columns = (
            column_names("positions", *counts[1:], first.position_columns)
            if (self.has_positions)
            else ()
        )
        """names of the position columns"""
        self.lengths: Int64[np.ndarray, " N"] = np.array(
            [layout.count_frames(folder) for folder in self.folders], np.int64
        )
        """frames of each clip"""

    def __len__(self) -> int:
        return len(self.folders)

    def clip(self, index: int, start: int = 0, stop: int | None = None) -> Clip:
        """Clip number `index`, or its frames `start` to `stop` (exclusive).

        Raises:
            DataError: it cannot be read, or is unlike the first clip.
        """
        clip = layout.read_clip(self.folders[index], start, stop)
        self._check(index, "frames have size", clip.frames.shape[-2:], self.frame_size)
        self._check_there(index, "labels", clip.labels, self.has_labels)
        self._check_columns(index, clip.actions, clip.positions)
        return clip

    def conditions(
        self, index: int
    ) -> tuple[Float32[np.ndarray, "T A"], Float32[np.ndarray, "T P"] | None]:
        """Actions and positions of clip `index`, without reading its pictures.

        Raises:
            DataError: as `clip`.
        """
        actions, positions = layout.read_conditions(self.folders[index])
        self._check_columns(index, actions, positions)
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
        Float32[np.ndarray, "B length A"],
        Float32[np.ndarray, "B length P"] | None,
        UInt8[np.ndarray, "B length H W"] | None,
    ]:
        """Windows of many clips, read one by one; the same as `PackedSplit.windows`.

        Raises:
            DataError: as `clip`.
        """
        n, size = len(numbers), (3, *self.frame_size)
        frames = np.empty((n, length, *size), np.uint8)
        columns = (self.action_columns, self.position_columns)
        actions, positions = (np.empty((n, length, len(names)), np.float32) for names in columns)
        regions = np.empty((n, length, *size[1:]), np.uint8) if labels and self.has_labels else None
        for row, (number, start) in enumerate(zip(numbers, starts, strict=True)):
            clip = self.clip(int(number), int(start), int(start) + length)
            frames[row], actions[row] = clip.frames, clip.actions
            if clip.positions is not None:
                positions[row] = clip.positions
            if regions is not None:
                regions[row] = clip.labels
        return frames, actions, positions if self.has_positions else None, regions

    def _check_columns(self, index: int, actions: np.ndarray, positions: np.ndarray | None) -> None:
        self._check_there(index, "positions", positions, self.has_positions)
        expected = {"action": len(self.action_columns), "position": len(self.position_columns)}
        for (kind, count), part in zip(expected.items(), (actions, positions), strict=True):
            if part is not None:
                self._check(index, f"number of {kind} columns is", part.shape[1], count)

    def _check_there(self, index: int, kind: str, found: object, expected: bool) -> None:
        if (found is not None) != expected:
            what = f"has {'no ' if expected else ''}{kind}, unlike the split's first clip"
            hint = "give them to all clips of the split, or to none"
            raise DataError(what, file=self.folders[index], hint=hint)

    def _check(self, index: int, what: str, found: object, expected: object) -> None:
        if found != expected:
            what = f"{what} {found}, unlike the split's first clip's {expected}"
            hint = "all clips of a split must have one size and the same columns"
            raise DataError(what, file=self.folders[index], hint=hint)
