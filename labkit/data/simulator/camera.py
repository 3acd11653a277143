"""The camera: a pinhole that looks down on the table from the front.

World frame, used by the whole simulator: metres, x to the right, y away from the camera,
z up, origin in the middle of the table's top. Pixels: u to the right, v down, pixel (0, 0)
has its centre at (0.5, 0.5). The camera is the same in every clip, as BAIR's is: a position
of the end effector always lands on the same pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32

HEIGHT = 0.60
"""metres of the pinhole above the table"""
DISTANCE = 0.585
"""metres of the pinhole in front of the table's middle"""
PITCH = np.deg2rad(49.7)
"""radians the optical axis points below the horizon"""
FOCAL = 0.96
"""focal length, as a share of the picture's side"""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera for pictures of `size` x `size` pixels."""

    size: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL * self.size

    def project(
        self, points: Float[np.ndarray, "*n 3"]
    ) -> tuple[Float[np.ndarray, "*n 2"], Float[np.ndarray, "*n"]]:
        """World points (m) to pixels (u, v) and to depth along the optical axis (m)."""
        x, y, z = points[..., 0], points[..., 1] + DISTANCE, points[..., 2] - HEIGHT
        cos, sin = float(np.cos(PITCH)), float(np.sin(PITCH))
        depth = np.maximum(y * cos - z * sin, 0.05)
        down = -y * sin - z * cos
        scale = self.focal / depth
        centre = self.size / 2
        return np.stack([centre + x * scale, centre + down * scale], -1), depth

    def rays(self) -> tuple[Float32[np.ndarray, "H W 3"], Float[np.ndarray, " xyz"]]:
        """Direction of each pixel's ray (depth 1, not normalised) and the pinhole's place."""
        return _rays(self.size)

    def slopes(self) -> Float32[np.ndarray, "H W 2"]:
        """How far each ray goes in x and y for every metre it climbs.

        The ray meets the plane of height z at `eye_xy + (z - HEIGHT) * slope`: this makes
        back-projection to any height one multiplication.
        """
        return _slopes(self.size)


@lru_cache(maxsize=8)
def _rays(size: int) -> tuple[np.ndarray, np.ndarray]:
    offset = (np.arange(size) + 0.5 - size / 2) / (FOCAL * size)
    right, down = np.meshgrid(offset, offset)
    cos, sin = np.cos(PITCH), np.sin(PITCH)
    direction = np.stack([right, cos - down * sin, -sin - down * cos], -1).astype(np.float32)
    eye = np.array([0.0, -DISTANCE, HEIGHT])
    direction.flags.writeable = eye.flags.writeable = False
    return direction, eye


@lru_cache(maxsize=8)
def _slopes(size: int) -> np.ndarray:
    direction, _ = _rays(size)
    slopes = direction[..., :2] / direction[..., 2:]
    slopes.flags.writeable = False
    return slopes
