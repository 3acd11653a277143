"""Small pictures with their place in the frame: what is drawn before it is put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

COVERED = 0.5
"""coverage from which a pixel belongs to what covers it"""


@dataclass(frozen=True)
class Windows:
    """Windows of one size, h x w pixels, at `U` places of a frame."""

    row: Int64[np.ndarray, " U"]
    column: Int64[np.ndarray, " U"]
    height: int
    width: int

    def slices(self, n: int) -> tuple[slice, slice]:
        """Rows and columns of window n."""
        row, column = int(self.row[n]), int(self.column[n])
        return slice(row, row + self.height), slice(column, column + self.width)

    @property
    def rows(self) -> Int64[np.ndarray, "U h 1"]:
        """Row number of each pixel."""
        return self.row[:, None, None] + np.arange(self.height)[:, None]

    @property
    def columns(self) -> Int64[np.ndarray, "U 1 w"]:
        """Column number of each pixel."""
        return self.column[:, None, None] + np.arange(self.width)


def windows_around(points: Float[np.ndarray, "U n 2"], margin: float, size: int) -> Windows:
    """Windows within a frame of `size` pixels that hold the points (u, v) and a margin."""
    low = np.floor(np.clip(points.min(1) - margin, 0, size)).astype(np.int64)
    high = np.ceil(np.clip(points.max(1) + margin, 0, size)).astype(np.int64)
    width, height = (int(n) for n in np.maximum((high - low).max(0), 1))
    column = np.clip(low[:, 0], 0, size - width)
    row = np.clip(low[:, 1], 0, size - height)
    return Windows(row, column, height, width)


@dataclass(frozen=True)
class Patches:
    """One thing's picture in `U` poses, each in its own window."""

    windows: Windows
    colour: Float32[np.ndarray, "U 3 h w"]
    """already multiplied by `cover`"""
    cover: Float32[np.ndarray, "U h w"]

    @classmethod
    def empty(cls, windows: Windows) -> Patches:
        """Nothing drawn yet."""
        shape = (len(windows.row), windows.height, windows.width)
        colour = np.zeros((shape[0], 3, *shape[1:]), np.float32)
        return cls(windows, colour, np.zeros(shape, np.float32))

    def draw(self, alpha: Float32[np.ndarray, "U h w"], colour: np.ndarray) -> None:
        """Blend something over all the pictures; colour (U, 3, h, w) or what broadcasts."""
        keep = 1 - alpha
        np.multiply(self.colour, keep[:, None], out=self.colour)
        np.add(self.colour, alpha[:, None] * colour, out=self.colour)
        np.multiply(self.cover, keep, out=self.cover)
        np.add(self.cover, alpha, out=self.cover)

    def paste(
        self,
        n: int,
        frame: Float32[np.ndarray, "3 H W"],
        labels: UInt8[np.ndarray, "H W"],
        label: int,
    ) -> None:
        """Blend picture n over the frame, and give its pixels their label."""
        rows, columns = self.windows.slices(n)
        target = frame[:, rows, columns]
        target *= 1 - self.cover[n]
        target += self.colour[n]
        labels[rows, columns][self.cover[n] > COVERED] = label
