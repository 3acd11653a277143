"""The renderer: a scene and its motion in, pictures and region labels out.

Each thing is drawn for all its poses at once, in small windows (`sprites`, `arm`); then the
frames are put together one by one from far to near, which touches little memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.data.clip import ARM, MOVED, REST
from labkit.data.simulator.arm import arm_shadow, draw_arm
from labkit.data.simulator.backdrop import draw_backdrop
from labkit.data.simulator.camera import Camera
from labkit.data.simulator.physics import Motion
from labkit.data.simulator.scene import Scene
from labkit.data.simulator.sprites import Sprite, draw_sprite

POSE_STEP = 2.0**-14
"""poses are rounded to this (m and rad, well under a hundredth of a pixel), so that an object
that has come to rest is drawn once"""


@dataclass
class Drawn:
    """What was drawn already of one scene at one size: to draw a frame more costs little then."""

    ground: Float32[np.ndarray, "3 H W"] | None = None
    """the empty table"""
    sprites: dict[int, tuple[bytes, Sprite]] = field(default_factory=dict)
    """of each object, by its number: the poses it was last drawn in, and how it looks there"""


def render(
    scene: Scene, motion: Motion, size: int, drawn: Drawn | None = None
) -> tuple[UInt8[np.ndarray, "T 3 H W"], UInt8[np.ndarray, "T H W"]]:
    """Draw every frame, and say of every pixel whether it shows the arm or a moved object.

    What `drawn` holds is not drawn again, and it is brought up to date.
    """
    camera = Camera(size)
    n_frames = len(motion.effector)
    drawn = Drawn() if drawn is None else drawn
    sprites, pose_of = _draw_sprites(scene, motion, camera, drawn)
    fingers, links = draw_arm(motion.effector, motion.fingers, scene.light, camera)
    drawn.ground = draw_backdrop(scene, size) if drawn.ground is None else drawn.ground
    ground = drawn.ground.copy()
    moving = []
    for n, sprite in enumerate(sprites):
        if len(sprite.shadow) > 1:
            moving.append(n)
        else:
            sprite.darken(0, ground)
    frames = np.empty((n_frames, 3, size, size), np.uint8)
    labels = np.full((n_frames, size, size), REST, np.uint8)
    for t in range(n_frames):
        frame = ground.copy()
        for n in moving:
            sprites[n].darken(pose_of[n][t], frame)
        frame *= arm_shadow(motion.effector[t], scene.light, camera)
        depth = motion.poses[t, :, 1]
        far_to_near = np.argsort(-depth, kind="stable").tolist()
        n_behind = int((depth >= motion.effector[t, 1]).sum())
        for place, n in enumerate(far_to_near):
            if place == n_behind:  # from here on, objects stand in front of the fingers
                fingers.paste(t, frame, labels[t], ARM)
            label = MOVED if motion.moved[n] else REST
            sprites[n].patches.paste(pose_of[n][t], frame, labels[t], label)
        if n_behind == len(sprites):
            fingers.paste(t, frame, labels[t], ARM)
        for link in links:
            link.paste(t, frame, labels[t], ARM)
        frames[t] = _develop(frame)
    return frames, labels


def _draw_sprites(
    scene: Scene, motion: Motion, camera: Camera, drawn: Drawn
) -> tuple[list[Sprite], list[list[int]]]:
    """A sprite for each object, and which of its poses each frame shows."""
    poses = (np.round(motion.poses / POSE_STEP) * POSE_STEP).astype(np.float32)
    sprites, pose_of = [], []
    for n, thing in enumerate(scene.things):
        unique, index = np.unique(poses[:, n], axis=0, return_inverse=True)
        key = unique.tobytes()
        if drawn.sprites.get(n, (b"",))[0] != key:
            drawn.sprites[n] = key, draw_sprite(thing, unique, scene.light, camera)
        sprites.append(drawn.sprites[n][1])
        pose_of.append(index.reshape(-1).tolist())
    return sprites, pose_of


def _develop(frame: Float32[np.ndarray, "3 H W"]) -> Float32[np.ndarray, "3 H W"]:
    """Light to 0..255.5: highlights roll off softly, as in a camera, instead of clipping."""
    bright = np.maximum(frame - 0.8, 0)
    return (np.minimum(frame, 0.8) + 0.2 * bright / (0.2 + bright)) * 255 + 0.5
