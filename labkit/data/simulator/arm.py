"""The arm: dark links and red-brown rings, turned bodies seen as bands in the picture.

A link is a surface of revolution about a straight axis. In the picture its axis is a line
between two projected points; the distance from that line, against the radius in pixels,
gives the coverage, and the place along the line picks radius and colour from a profile.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from labkit.data.simulator.camera import DISTANCE, HEIGHT, Camera
from labkit.data.simulator.patches import Patches, windows_around
from labkit.data.simulator.scene import Light

_BLACK, _GREY = (0.050, 0.052, 0.050), (0.115, 0.115, 0.115)
_RING, _STEEL = (0.36, 0.065, 0.075), (0.55, 0.56, 0.58)
_Profile = tuple[tuple[float, float, tuple[float, float, float]], ...]
_FINGER_LENGTH = 0.125
_FINGER = ((0.0, 0.0085, _GREY), (0.2, 0.0105, _BLACK), (1.0, 0.0115, _BLACK))
_KNUCKLE = ((0.0, 0.012, _BLACK), (1.0, 0.013, _BLACK))
"""share of the way from tip to knuckle, radius (m), colour"""
_HAND = (
    (0.110, 0.026, _BLACK), (0.118, 0.040, _BLACK), (0.119, 0.045, _RING), (0.156, 0.048, _RING),
    (0.157, 0.043, _BLACK), (0.172, 0.053, _GREY), (0.215, 0.060, _BLACK), (0.250, 0.062, _BLACK),
)  # fmt: skip
"""height above the finger tips (m), radius (m), colour: the hand, bottom to top"""
_WRIST = 0.245
"""height of the wrist above the finger tips, m"""
_LINK = (
    (0.0, 0.062, _BLACK), (0.16, 0.064, _BLACK), (0.17, 0.069, _RING), (0.33, 0.070, _RING),
    (0.34, 0.066, _BLACK),
    (0.68, 0.075, _BLACK), (0.70, 0.078, _GREY), (0.84, 0.078, _GREY), (1.0, 0.075, _BLACK),
)  # fmt: skip
"""share of the way from the wrist to the elbow, radius (m), colour"""
_LAMP, _LAMP_AT = ((0.0, 0.008, _STEEL), (1.0, 0.008, _STEEL)), (0.014, -0.056, 0.187)
"""a small lamp on the hand's front, and its place from the middle of the finger tips, m"""
_STEPS = 128
"""entries of a profile's table"""


def draw_arm(
    effector: Float64[np.ndarray, "T 3"],
    fingers: Float64[np.ndarray, "T 2 2"],
    light: Light,
    camera: Camera,
) -> tuple[Patches, list[Patches]]:
    """The fingers, and the rest of the arm from far to near; positions in m."""
    tip = effector
    wrist = _above(tip, _WRIST)
    # The elbow hangs behind and above; it follows the hand only in part, so the arm leans.
    elbow = np.stack([0.76 * tip[:, 0], 0.71 * tip[:, 1] + 0.18, tip[:, 2] + 0.50], -1)
    lamp = tip + np.array(_LAMP_AT)
    links = [
        (wrist, elbow, _LINK),
        (_above(tip, _HAND[0][0]), _above(tip, _HAND[-1][0]), _HAND),
        (lamp, _above(lamp, 0.016), _LAMP),
    ]
    bones = []
    for side in (0, 1):
        low = np.concatenate([fingers[:, side], tip[:, 2:]], -1)
        # The fingers are carried parallel, then bend to the palm.
        knuckle = _above(0.9 * low + 0.1 * tip, 0.6 * _FINGER_LENGTH)
        palm = _above(0.3 * low + 0.7 * tip, _FINGER_LENGTH)
        bones += [(knuckle, palm, _KNUCKLE), (low, knuckle, _FINGER)]
    return _draw_links(bones, light, camera), [_draw_links([x], light, camera) for x in links]


def arm_shadow(
    tip: Float64[np.ndarray, " xyz"], light: Light, camera: Camera
) -> Float32[np.ndarray, "H W"]:
    """Share of light that the arm lets through to the table: softer the higher the arm is."""
    slopes = camera.slopes()
    (x, y, z), (lx, ly) = tip.tolist(), light.slope
    dx = -HEIGHT * slopes[..., 0] - (x - lx * z)
    dy = -HEIGHT * slopes[..., 1] - (DISTANCE + y - ly * z)
    # The shadow's axis goes from the foot of the hand away from the light.
    slope = max(lx * lx + ly * ly, 1e-4)
    along = np.clip(-(dx * (lx / slope) + dy * (ly / slope)), 0, 0.35)  # height above the tips
    distance = np.sqrt((dx + along * lx) ** 2 + (dy + along * ly) ** 2)
    height = along + z
    wide = 0.016 + 0.12 * np.minimum(height, 0.3)
    dark = np.clip(0.5 - (distance - wide) / (0.036 + 0.44 * height), 0, 1)
    return 1 - 0.42 / (1 + 2.5 * height) * dark * dark * (3 - 2 * dark)


def _above(points: np.ndarray, height: float) -> np.ndarray:
    """The same points, `height` metres higher."""
    return points + np.array([0, 0, height])


def _draw_links(
    links: list[tuple[np.ndarray, np.ndarray, _Profile]], light: Light, camera: Camera
) -> Patches:
    """Draw links (start (T, 3), end (T, 3), profile), the last one on top."""
    corners = []
    for start, end, profile in links:
        (a, depth_a), (b, depth_b) = camera.project(start), camera.project(end)
        # What lies above the picture needs no window: cut the axis at the upper border.
        inside = np.clip((a[:, 1] + 8) / np.maximum(a[:, 1] - b[:, 1], 1e-3), 0, 1)
        reach = max(row[1] for row in profile) * camera.focal / np.minimum(depth_a, depth_b)
        for point in (a, a + inside[:, None] * (b - a)):
            corners += [point - reach[:, None], point + reach[:, None]]
    windows = windows_around(np.stack(corners, 1), 1.0, camera.size)
    patches = Patches.empty(windows)
    centres = (
        (windows.columns + 0.5).astype(np.float32),
        (windows.rows + 0.5).astype(np.float32),
    )
    for start, end, profile in links:
        patches.draw(*_turned(start, end, profile, centres, light, camera))
    return patches


def _turned(
    start: np.ndarray,
    end: np.ndarray,
    profile: _Profile,
    centres: tuple[np.ndarray, np.ndarray],
    light: Light,
    camera: Camera,
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage (T, h, w) and colour (T, 3, h, w) of a surface of revolution.

    start, end: (T, 3) ends of its axis, m; centres: u and v of the windows' pixels.
    """
    (a, depth_a), (b, depth_b) = camera.project(start), camera.project(end)
    span = np.maximum(np.hypot(*(b - a).T), 1e-3)
    unit_u, unit_v = (_per_frame(x) for x in ((b - a) / span[:, None]).T)
    du, dv = centres[0] - _per_frame(a[:, 0]), centres[1] - _per_frame(a[:, 1])
    along = du * unit_u + dv * unit_v
    across = dv * unit_u - du * unit_v  # to the right of an axis that points up
    length, near, far = _per_frame(span), _per_frame(depth_a), _per_frame(depth_b)
    # Perspective: equal steps along the axis in the world are not equal in the picture.
    share = np.clip(along / length, 0, 1)
    depth = near * far / (far + share * (near - far))
    radius, colour = _table(profile, float(np.median(span)))
    entry = (share * depth / far * (_STEPS - 1) + 0.5).astype(np.intp)
    reach = radius[entry] * (camera.focal / depth)
    ends = np.minimum(along, length - along)
    edge = np.minimum(reach - np.abs(across), ends + 0.35 * reach)
    alpha = np.clip(0.5 + edge / 1.25, 0, 1)
    # Lit as a cylinder: the normal turns from left to right over the width.
    turn = np.clip(across / np.maximum(reach, 0.3), -1, 1)
    lit = 0.62 + 0.55 * np.maximum(
        turn * (0.9 * light.slope[0]) + 0.6 * np.sqrt(1 - turn * turn), 0
    )
    bright_side = 0.5 * float(np.sign(light.slope[0]))
    gleam = 0.06 * np.maximum(1 - np.abs(turn - bright_side) / 0.3, 0)
    shaded = colour[:, entry].transpose(1, 0, 2, 3) * lit[:, None] + gleam[:, None]
    return alpha, shaded * light.tint[:, None, None]


def _per_frame(values: np.ndarray) -> np.ndarray:
    """(T,) to float32 (T, 1, 1)."""
    return values.astype(np.float32)[:, None, None]


def _table(profile: _Profile, pixels: float) -> tuple[np.ndarray, np.ndarray]:
    """Radius (m) and colour (3, n) at equal steps along a profile that spans so many pixels."""
    place = np.array([row[0] for row in profile])
    steps = np.linspace(place[0], place[-1], _STEPS)
    radius = np.interp(steps, place, [row[1] for row in profile])
    colour = [np.interp(steps, place, [row[2][c] for row in profile]) for c in range(3)]
    # A pixel sees the mean over its own length: without it, thin rings would flicker.
    width = int(np.clip(_STEPS / pixels, 1, _STEPS // 2)) // 2
    kernel = np.full(2 * width + 1, 1 / (2 * width + 1))
    smooth = [
        np.convolve(np.pad(values, width, mode="edge"), kernel, mode="valid")
        for values in (radius, *colour)
    ]
    return smooth[0].astype(np.float32), np.array(smooth[1:], np.float32)
