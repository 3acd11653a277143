"""The part of the picture that never changes in a clip: table, walls, what is behind them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from labkit.data.simulator.camera import Camera
from labkit.data.simulator.scene import BIN_BACK, BIN_FRONT, BIN_X, Scene

OVERSAMPLE = 2
"""the backdrop is drawn this much larger and averaged: its edges have no distance function"""
LEDGE_DEPTH, EDGE_DEPTH = 0.14, 0.023
"""m: the board in front of the bin, and its dark front edge"""
WALL_SLOPE, WALL_HEIGHT = 0.75, 0.115
"""how far the walls lean outward per metre of height, and their height, m"""


def draw_backdrop(scene: Scene, size: int) -> Float32[np.ndarray, "3 H W"]:
    """The empty bin, colours 0..1."""
    rng = np.random.default_rng(scene.backdrop_seed)
    camera = Camera(size * OVERSAMPLE)
    direction, eye = camera.rays()
    # Inside the bin the first surface on a ray is the one with the smallest distance.
    floor = float(-eye[2]) / direction[..., 2]
    left = _leaning(direction, eye, axis=0, sign=-1, start=BIN_X)
    right = _leaning(direction, eye, axis=0, sign=1, start=BIN_X)
    back = _leaning(direction, eye, axis=1, sign=1, start=BIN_BACK)
    distances = np.stack([floor, left, right, back])
    surface = distances.argmin(0)
    hit = distances.min(0)
    x, y, z = (float(eye[i]) + hit * direction[..., i] for i in range(3))

    picture = np.empty((3, *hit.shape), np.float32)
    picture[:] = _wood(rng, scene, x, y) * _corner_shade(x, y)
    wall = _wall(rng, scene, surface, x, y, z)
    picture = np.where(surface > 0, wall, picture)
    top = WALL_HEIGHT + 0.03 * _waves(rng, x, y, 9, 7)  # cloth hangs over the rim
    outside = (surface > 0) & (z > top)
    picture = np.where(outside, _behind(rng, hit.shape), picture)
    # In front of the bin there is no wall: the floor's plane goes on as a board and its edge.
    y_floor = float(eye[1]) + floor * direction[..., 1]
    x_floor = float(eye[0]) + floor * direction[..., 0]
    picture = np.where(y_floor < BIN_FRONT, _front(rng, scene, x_floor, y_floor), picture)
    glare_x, glare_y, strength = scene.light.glare
    spot = np.exp(-(((x - glare_x) / 0.14) ** 2) - ((y - glare_y) / 0.22) ** 2)
    picture = (picture + strength * spot) * scene.light.tint[:, None, None]
    picture *= _vignette(hit.shape)
    fine = picture.reshape(3, size, OVERSAMPLE, size, OVERSAMPLE).mean((2, 4))
    return fine.astype(np.float32)


def _leaning(
    direction: np.ndarray, eye: np.ndarray, axis: int, sign: int, start: float
) -> np.ndarray:
    """Distance along each ray to the wall sign * p[axis] = start + WALL_SLOPE * z."""
    speed = sign * direction[..., axis] - WALL_SLOPE * direction[..., 2]
    room = start + WALL_SLOPE * float(eye[2]) - sign * float(eye[axis])
    return room / np.maximum(speed, 1e-3)


def _waves(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, fx: float, fy: float):
    """Smooth noise of about unit size: a few waves with random directions and phases."""
    total = np.zeros_like(x)
    for _ in range(4):
        a, b, phase = rng.normal(0, fx), rng.normal(0, fy), rng.uniform(0, 2 * np.pi)
        total += np.sin(float(a) * x + float(b) * y + float(phase))
    return total * 0.7


def _wood(rng: np.random.Generator, scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(3, H, W) boards whose grain runs towards the camera."""
    bend = _waves(rng, x, y, 6, 6)
    rings = np.sin(70 * (x + 0.02 * bend) + 3 * bend) + np.sin(143 * x + 2 * bend + 1.0)
    streaks = _waves(rng, x, y, 160, 8)
    boards = np.sin(13 * x + float(rng.uniform(0, 6)))
    value = 1 + 0.026 * rings + 0.026 * streaks + 0.03 * bend + 0.02 * boards
    warm = np.array([0.6, 1.0, 1.5], np.float32)[:, None, None]
    return scene.wood[:, None, None] * (1 + (value - 1) * warm)


def _corner_shade(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Less light reaches the floor near the walls."""
    gap = np.minimum(BIN_X - np.abs(x), BIN_BACK - y)
    return 1 - 0.28 * np.exp(-np.maximum(gap, 0) / 0.022)


def _wall(
    rng: np.random.Generator,
    scene: Scene,
    surface: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
) -> np.ndarray:
    """(3, H, W) pale walls with soft folds, each side lit in its own way."""
    lit = 0.5 * scene.light.slope[0]
    side = np.array([1.0, 0.92 - 0.3 * lit, 0.92 + 0.3 * lit, 0.98], np.float32)[surface]
    folds = 1 + 0.06 * _waves(rng, x + y, z, 14, 25) + 0.03 * _waves(rng, x - y, z, 40, 40)
    shade = side * folds * (1 - 0.25 * np.exp(-z / 0.03))
    return scene.wall[:, None, None] * shade


def _behind(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """(3, H, W) a bright room out of focus: soft boxes of cloth, wood and sky colours."""
    colours = np.array(
        [(0.93, 0.94, 0.96), (0.62, 0.74, 0.80), (0.86, 0.72, 0.48), (0.55, 0.54, 0.55),
         (0.62, 0.10, 0.20), (0.97, 0.97, 0.97), (0.30, 0.30, 0.34), (0.85, 0.82, 0.76)],
        np.float32,
    )  # fmt: skip
    v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / shape[0]
    picture = np.empty((3, *shape), np.float32)
    picture[:] = colours[rng.choice([0, 5, 7])][:, None, None]
    for _ in range(12):
        cu, cv, hu, hv = rng.uniform(0, 1), rng.uniform(0, 0.25), *rng.uniform(0.02, 0.11, 2)
        tilt = rng.normal(0, 0.5)
        across = np.abs((u - float(cu)) + float(tilt) * (v - float(cv))) - float(hu)
        along = np.abs(v - float(cv)) - float(hv)
        cover = np.clip(0.5 - np.maximum(across, along) / 0.02, 0, 1)
        picture += cover * (colours[rng.integers(len(colours))][:, None, None] - picture)
    return picture


def _front(rng: np.random.Generator, scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(3, H, W) the pale glossy board before the bin, its edge, the dark floor and two legs."""
    pale = 0.3 * scene.wood + 0.66
    board = pale[:, None, None] * (0.99 + 0.035 * _waves(rng, x, y, 16, 3))
    window = np.exp(-(((x - float(rng.uniform(-0.3, 0.3))) / 0.10) ** 2))
    board = board + np.array([0.05, 0.08, 0.12], np.float32)[:, None, None] * window
    nearest = BIN_FRONT - LEDGE_DEPTH
    dark = np.array([0.19, 0.13, 0.08], np.float32)[:, None, None]
    leg = np.abs(np.abs(x - 0.03) - 0.12) < 0.012
    below = np.where(leg, np.float32(0.5), dark * (1 + 0.2 * _waves(rng, x, y, 20, 5)))
    edge = np.array([0.33, 0.29, 0.23], np.float32)[:, None, None]
    board = np.where(y < nearest, edge, board)
    seam = 1 - 0.25 * np.exp(-((y - BIN_FRONT) ** 2) / 0.006**2)
    return np.where(y < nearest - EDGE_DEPTH, below, board) * seam


def _vignette(shape: tuple[int, int]) -> np.ndarray:
    v, u = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / shape[0] - 0.5
    return 1.04 - 0.22 * (u * u + v * v)
