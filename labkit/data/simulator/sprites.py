"""Pictures of one object in many poses: a stack of slices with analytic anti-aliasing.

An upright rounded box is drawn as horizontal slices from its bottom to its top. For each
slice the pixels' rays are met with its plane, turned into the object's frame, and the signed
distance to the outline, divided by the size of a pixel there, gives the coverage. A ray that
comes from above meets the highest slice first, so the slices are blended in order of height.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from labkit.data.simulator.camera import DISTANCE, HEIGHT, Camera
from labkit.data.simulator.patches import Patches, Windows, windows_around
from labkit.data.simulator.scene import Light, Part, Thing

SLICE_STEP = 1.0
"""distance between two slices, in pixels of a picture that looks straight at the object's side
(the tilted camera sees less)"""
SOFTNESS = 1.25
"""width of an edge in pixels: a little over one, as a real lens would give"""
SHADOW_DEPTH = 0.55
"""share of the light an object's shadow takes away"""


@dataclass(frozen=True)
class Sprite:
    """One object in `U` poses, and its shadow."""

    patches: Patches
    shadow: Float32[np.ndarray, "U h w"]
    """share of the light that reaches the table, in the patches' windows"""

    def darken(self, n: int, frame: Float32[np.ndarray, "3 H W"]) -> None:
        """Multiply the shadow of pose n into the frame."""
        rows, columns = self.patches.windows.slices(n)
        frame[:, rows, columns] *= self.shadow[n]


def draw_sprite(
    thing: Thing, poses: Float32[np.ndarray, "U 3"], light: Light, camera: Camera
) -> Sprite:
    """Draw `thing` at each of `poses` (x, y in m, angle in rad)."""
    windows = _windows(thing, poses, light, camera)
    slopes = camera.slopes()[windows.rows, windows.columns]  # (U, h, w, 2)
    patches = Patches.empty(windows)
    slices = [
        (part.bottom + (part.top - part.bottom) * h, h, part)
        for part in thing.parts
        for h in _levels(part, camera)
    ]
    for z, h, part in sorted(slices, key=lambda item: item[0]):
        patches.draw(*_slice(part, z, h, poses, slopes, light, thing.gloss, camera))
    return Sprite(patches, _shadow(thing, poses, slopes, light))


def _levels(part: Part, camera: Camera) -> list[float]:
    """Heights of a part's slices, as shares of its height; the last one is its upper face."""
    if part.top - part.bottom < 0.001:
        return [1.0]
    pixels = (part.top - part.bottom) * camera.focal / HEIGHT
    return np.linspace(0.1, 1, max(3, int(np.ceil(pixels / SLICE_STEP)))).tolist()


def _windows(thing: Thing, poses: np.ndarray, light: Light, camera: Camera) -> Windows:
    """Windows that hold the object and its shadow."""
    cast = 0.7 * thing.height * max(abs(light.slope[0]), abs(light.slope[1])) + 0.01
    around = thing.reach + cast
    corners = [
        (sx * around, sy * around, z)
        for sx in (-1, 1)
        for sy in (-1, 1)
        for z in (0.0, thing.height)
    ]
    bottom = np.concatenate([poses[:, :2], np.zeros((len(poses), 1), np.float32)], 1)
    pixels, _ = camera.project((bottom[:, None] + np.array(corners)).astype(np.float64))
    return windows_around(pixels, 1.0, camera.size)


def _local(
    poses: np.ndarray, slopes: np.ndarray, z: float, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """x, y in the object's frame of the points at height z that the pixels see; (U, h, w)."""
    x = (z - HEIGHT) * slopes[..., 0] + shift[0] - poses[:, 0, None, None]
    y = (z - HEIGHT) * slopes[..., 1] + shift[1] - DISTANCE - poses[:, 1, None, None]
    cos, sin = np.cos(poses[:, 2])[:, None, None], np.sin(poses[:, 2])[:, None, None]
    return x * cos + y * sin, y * cos - x * sin


def _outward(part: Part, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vector from the part's inner rectangle to the point, and its length."""
    dx, dy = x - part.x, y - part.y
    if part.half_x:
        dx = dx - np.clip(dx, -part.half_x, part.half_x)
    if part.half_y:
        dy = dy - np.clip(dy, -part.half_y, part.half_y)
    return dx, dy, np.sqrt(dx * dx + dy * dy) + 1e-6


def _slice(
    part: Part,
    z: float,
    h: float,
    poses: np.ndarray,
    slopes: np.ndarray,
    light: Light,
    gloss: float,
    camera: Camera,
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage (U, h, w) and colour (U, 3, h, w) of the slice at height z, share h of the part."""
    x, y = _local(poses, slopes, z)
    dx, dy, length = _outward(part, x, y)
    inset = 0.8 * part.radius * part.dome * (1 - float(np.sqrt(max(0.0, 1 - h * h * 0.98))))
    distance = length - (part.radius - inset)
    cos, sin = np.cos(poses[:, 2])[:, None, None], np.sin(poses[:, 2])[:, None, None]
    out_x, out_y = (dx * cos - dy * sin) / length, (dx * sin + dy * cos) / length
    # A pixel covers d / f metres across, and more than that in depth, where it looks along.
    middle = poses[:, 1, None, None] + DISTANCE
    across = np.sqrt(middle**2 + (HEIGHT - z) ** 2) / camera.focal
    deep = across * np.sqrt(1 + (middle / (HEIGHT - z)) ** 2)
    pixel = np.sqrt((out_x * across) ** 2 + (out_y * deep) ** 2) + 1e-6
    alpha = np.clip(0.5 - distance / (SOFTNESS * pixel), 0, 1)

    # The normal points outward at the rim and turns upward within the bevel.
    bevel = 0.006 + part.dome * part.radius * 0.9
    up = np.clip(-distance / bevel, 0.02, 1) * h
    side = np.sqrt(1 - up * up)
    lx, ly = light.slope
    norm = float(np.sqrt(1 + lx * lx + ly * ly))
    facing = np.maximum(side * (out_x * lx + out_y * ly) + up, 0) / norm
    # Half way between the light and a camera that looks down from the front.
    shine = np.maximum(side * (0.5 * out_x * lx + out_y * (0.5 * ly - 0.45)) + up * 0.9, 0)
    brightness = light.ambient * (0.92 + 0.25 * up) + (1.1 - light.ambient) * facing
    highlight = gloss * np.clip((shine - 0.86) / 0.14, 0, 1) ** 2
    colour = np.array(part.colour, np.float32)[:, None, None]
    if part.stripe != part.colour:
        turn = float(2 * np.pi / part.period)
        share = np.clip(0.5 + 1.5 * np.sin(turn * x), 0, 1)[:, None]
        colour = colour + share * (np.array(part.stripe, np.float32)[:, None, None] - colour)
    return alpha, (colour * brightness[:, None] + highlight[:, None]) * light.tint[:, None, None]


def _shadow(thing: Thing, poses: np.ndarray, slopes: np.ndarray, light: Light) -> np.ndarray:
    """(U, h, w) share of light on the table: a dark core at the foot, a soft cast shadow."""
    clear = np.ones(slopes.shape[:3], np.float32)
    for part in thing.parts:
        for height, width, depth in ((0.0, 0.010, 0.22), (0.7 * part.top, 0.018, SHADOW_DEPTH)):
            shift = (light.slope[0] * height, light.slope[1] * height)
            _, _, length = _outward(part, *_local(poses, slopes, 0.0, shift))
            dark = np.clip(0.5 - (length - part.radius) / (2 * width), 0, 1)
            clear = np.minimum(clear, 1 - depth * dark * dark * (3 - 2 * dark))
    return clear
