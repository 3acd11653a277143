"""What stands on the table: a random scene, drawn from a generator of random numbers.

All lengths in metres, masses in kilograms, angles in radians, colours linear 0..1 RGB.
The ranges are choices of this simulator, made to look like BAIR; nothing was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

BIN_X = 0.32
"""half the width of the bin's floor"""
BIN_FRONT, BIN_BACK = -0.25, 0.30
"""where the bin's floor begins and ends in y"""

_TOYS = (
    (0.36, 0.74, 0.13), (0.90, 0.30, 0.09), (0.05, 0.32, 0.66), (0.93, 0.72, 0.10),
    (0.78, 0.07, 0.12), (0.10, 0.58, 0.56), (0.45, 0.14, 0.48), (0.94, 0.48, 0.62),
    (0.90, 0.55, 0.22), (0.15, 0.42, 0.18), (0.62, 0.64, 0.42), (0.35, 0.65, 0.90),
)  # fmt: skip
_WOODS = ((0.79, 0.66, 0.46), (0.74, 0.60, 0.41), (0.82, 0.73, 0.58), (0.70, 0.62, 0.52))
_NEUTRALS = ((0.88, 0.87, 0.84), (0.55, 0.55, 0.54), (0.16, 0.15, 0.17), (0.42, 0.26, 0.16))


@dataclass(frozen=True)
class Part:
    """A rounded box that stands upright: an inner rectangle grown by a radius."""

    x: float
    """centre in the object's frame, m"""
    y: float
    half_x: float
    """half the inner rectangle's sides, m; both 0 makes a disc, one 0 a capsule"""
    half_y: float
    radius: float
    """how far the outline lies outside the inner rectangle, m"""
    bottom: float
    """height of the lower face above the table, m"""
    top: float
    """height of the upper face, m"""
    dome: float
    """0 flat top .. 1 round top"""
    colour: tuple[float, float, float]
    stripe: tuple[float, float, float]
    """second colour; equal to `colour` where the part has no stripes"""
    period: float
    """distance between two stripes, m"""


@dataclass(frozen=True)
class Thing:
    """One object: parts that move together, and what the camera cannot see of it."""

    parts: tuple[Part, ...]
    mass: float
    """kg; hidden from the condition"""
    friction: float
    """coefficient of friction with the table; hidden from the condition"""
    pose: tuple[float, float, float]
    """x, y (m) and angle (rad) at frame 0"""
    gloss: float
    """strength of its highlight"""

    @property
    def reach(self) -> float:
        """Radius of the smallest circle about its origin that holds it, m."""
        return max(
            float(np.hypot(abs(p.x) + p.half_x, abs(p.y) + p.half_y)) + p.radius for p in self.parts
        )

    @property
    def height(self) -> float:
        """Height of its highest point, m."""
        return max(part.top for part in self.parts)


@dataclass(frozen=True)
class Light:
    """The light of one clip."""

    slope: tuple[float, float]
    """how far to the right and to the back the light comes from, per metre of height"""
    ambient: float
    tint: Float32[np.ndarray, " rgb"]
    """colour and strength of the light: everything is multiplied by it"""
    glare: tuple[float, float, float]
    """x, y (m) and strength of the window's reflection on the table"""


@dataclass(frozen=True)
class Scene:
    """Everything about a clip that does not change while it runs."""

    things: tuple[Thing, ...]
    light: Light
    wood: Float32[np.ndarray, " rgb"]
    wall: Float32[np.ndarray, " rgb"]
    backdrop_seed: int
    """seed of the textures' generator"""


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene: 4-8 objects that do not overlap, light, and the colours of the bin."""
    warmth = rng.normal(0.5, 0.7) * np.array([0.03, 0.0, -0.06])
    light = Light(
        slope=(float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.1, 0.6))),
        ambient=float(rng.uniform(0.48, 0.62)),
        tint=(rng.uniform(0.90, 1.08) * (1 + warmth)).astype(np.float32),
        glare=(
            float(rng.uniform(-0.3, 0.3)),
            float(rng.uniform(-0.3, 0.3)),
            float(rng.uniform(0.0, 0.35)),
        ),
    )
    woods = np.array(_WOODS)
    wood = woods[rng.integers(len(woods))] * (1 + rng.normal(0, 0.04)) + rng.normal(0, 0.012, 3)
    wall = np.array([0.84, 0.83, 0.81]) * rng.uniform(0.8, 1.1) + rng.normal(0, 0.015, 3)
    return Scene(
        things=_place(rng, [_thing(rng) for _ in range(rng.integers(4, 9))]),
        light=light,
        wood=wood.astype(np.float32),
        wall=wall.astype(np.float32),
        backdrop_seed=int(rng.integers(2**63)),
    )


def _place(rng: np.random.Generator, things: list[Thing]) -> tuple[Thing, ...]:
    """Give every object a place where it touches neither the wall nor another object."""
    placed: list[Thing] = []
    for thing in things:
        reach = thing.reach + 0.006
        for _ in range(60):
            x = float(rng.uniform(reach - BIN_X, BIN_X - reach))
            y = float(rng.uniform(BIN_FRONT + reach, BIN_BACK - reach))
            gaps = [np.hypot(x - o.pose[0], y - o.pose[1]) - o.reach - reach for o in placed]
            if min(gaps, default=1.0) > 0:
                pose = (x, y, float(rng.uniform(-np.pi, np.pi)))
                placed.append(Thing(thing.parts, thing.mass, thing.friction, pose, thing.gloss))
                break
    return tuple(placed)


def _thing(rng: np.random.Generator) -> Thing:
    """Draw one object at the origin."""
    kind = _KINDS[rng.integers(len(_KINDS))]
    return Thing(
        parts=kind(rng, float(rng.uniform(1.0, 1.65))),
        mass=float(np.exp(rng.uniform(np.log(0.05), np.log(0.6)))),
        friction=float(rng.uniform(0.15, 0.7)),
        pose=(0.0, 0.0, 0.0),
        gloss=float(rng.uniform(0.0, 0.5)),
    )


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """A toy's colour, now and then grey, white or black."""
    palette = _NEUTRALS if rng.random() < 0.22 else _TOYS
    base = np.array(palette[rng.integers(len(palette))])
    red, green, blue = np.clip(base * rng.uniform(0.85, 1.1) + rng.normal(0, 0.03, 3), 0.03, 0.97)
    return float(red), float(green), float(blue)


def _part(
    rng: np.random.Generator,
    scale: float,
    centre: tuple[float, float],
    inner: tuple[float, float],
    radius: float,
    heights: tuple[float, float],
    dome: float,
    colour: tuple[float, float, float] | None = None,
) -> Part:
    """A part in units of the object's scale; a third of all parts have stripes."""
    colour = colour or _colour(rng)
    striped = rng.random() < 0.3
    return Part(
        x=centre[0] * scale, y=centre[1] * scale,
        half_x=inner[0] * scale, half_y=inner[1] * scale, radius=radius * scale,
        bottom=heights[0] * scale, top=heights[1] * scale, dome=dome,
        colour=colour, stripe=_colour(rng) if striped else colour,
        period=float(rng.uniform(0.025, 0.05)),
    )  # fmt: skip


def _block(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    inner = (float(rng.uniform(0.012, 0.032)), float(rng.uniform(0.010, 0.024)))
    return (_part(rng, scale, (0, 0), inner, 0.008, (0, float(rng.uniform(0.025, 0.05))), 0.3),)


def _ball(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    radius = float(rng.uniform(0.022, 0.034))
    return (_part(rng, scale, (0, 0), (0, 0), radius, (0, 1.5 * radius), 1.0),)


def _bottle(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    """A lying body with a thin neck."""
    return (
        _part(rng, scale, (-0.012, 0), (0.022, 0.004), 0.017, (0, 0.036), 0.9),
        _part(rng, scale, (0.038, 0), (0.008, 0), 0.010, (0.004, 0.026), 0.9),
    )


def _car(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    """A chassis, a cabin on top of it, and dark wheels that look out."""
    black = (0.06, 0.06, 0.07)
    return (
        _part(rng, scale, (-0.026, 0), (0.004, 0.020), 0.008, (0, 0.016), 0.2, black),
        _part(rng, scale, (0.026, 0), (0.004, 0.020), 0.008, (0, 0.016), 0.2, black),
        _part(rng, scale, (0, 0), (0.036, 0.014), 0.008, (0.008, 0.028), 0.4),
        _part(rng, scale, (-0.008, 0), (0.014, 0.009), 0.008, (0.028, 0.046), 0.6),
    )


def _angle_piece(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    """An L of two bars."""
    colour = _colour(rng)
    return (
        _part(rng, scale, (0.012, -0.016), (0.030, 0.003), 0.010, (0, 0.028), 0.4, colour),
        _part(rng, scale, (-0.018, 0.010), (0.003, 0.026), 0.010, (0, 0.028), 0.4, colour),
    )


def _plush(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    """A body, a head and two ears or paws."""
    fur = _colour(rng)
    return (
        _part(rng, scale, (-0.018, 0), (0.008, 0.004), 0.026, (0, 0.044), 1.0, fur),
        _part(rng, scale, (0.030, 0), (0, 0), 0.021, (0, 0.040), 1.0, _colour(rng)),
        _part(rng, scale, (0.036, 0.024), (0, 0), 0.011, (0, 0.026), 1.0, fur),
        _part(rng, scale, (0.036, -0.024), (0, 0), 0.011, (0, 0.026), 1.0, fur),
    )


def _bowl(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    """A round dish: a rim and, a little lower and darker, its inside."""
    colour = _colour(rng)
    dark = (colour[0] * 0.35, colour[1] * 0.35, colour[2] * 0.35)
    long = float(rng.uniform(0, 0.02))
    return (
        _part(rng, scale, (0, 0), (long, 0), 0.034, (0, 0.030), 0.15, colour),
        _part(rng, scale, (0, 0), (long, 0), 0.026, (0.0301, 0.0305), 0.0, dark),
    )


def _dumbbell(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    return (
        _part(rng, scale, (0, 0), (0.030, 0), 0.008, (0.008, 0.026), 0.6),
        _part(rng, scale, (-0.032, 0), (0, 0), 0.018, (0, 0.034), 0.9),
        _part(rng, scale, (0.032, 0), (0, 0), 0.018, (0, 0.034), 0.9),
    )


def _mushroom(rng: np.random.Generator, scale: float) -> tuple[Part, ...]:
    """A cap that is wider than its stalk, as of a stacking toy."""
    return (
        _part(rng, scale, (0, 0), (0.006, 0.006), 0.016, (0, 0.030), 0.0),
        _part(rng, scale, (0, 0), (0.008, 0.004), 0.022, (0.028, 0.056), 1.0),
    )


_KINDS = (_block, _ball, _bottle, _car, _angle_piece, _plush, _bowl, _dumbbell, _mushroom)
