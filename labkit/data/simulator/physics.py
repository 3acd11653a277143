"""The physics: a gripper that is driven by decisions and pushes objects on a table.

A planar rigid-body world seen from above (pymunk; SI units). Gravity only acts through
the friction with the table: for each object a pivot and a gear joint to the static body,
limited to the force mu m g and to the matching torque. The fingers are bodies pulled by
joints of limited force, so an object that jams against the wall stops the arm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymunk
from jaxtyping import Float32, Float64

from labkit.data.simulator.scene import BIN_BACK, BIN_FRONT, BIN_X, Part, Scene, Thing

FRAME_SECONDS = 0.2
"""time between two frames: an assumption, BAIR's files do not say"""
SUBSTEPS = 10
HELD = 2
"""frames a decision lasts, as in the real clip"""
MAX_MOVE = 0.066
"""largest |dx| or |dy| of an action, metres a frame, as in the real clip"""
AIMED = 0.55
"""share of the decisions that aim at an object"""
AIMED_SPEED = (0.02, MAX_MOVE)
"""range of the larger of |dx| and |dy| in a move that aims, m a frame"""
PAST_GOAL = 0.06
"""a move that aims goes on this far behind the object's middle, m: it pushes"""
PERSISTENCE = 0.6
"""how often an aimed move after an aimed move keeps its object"""
LIFT_SHARE = 0.25
"""share of the decisions that ask for a lift"""
CLOSE_STEPS = (0,) * 12 + (1,) * 3 + (3,) * 5
"""values of `close_gripper`, as often as they are drawn: for how many decisions the fingers
close; what the number means in BAIR is an assumption, after the name `close_nstep`"""

REACH_X, REACH_FRONT, REACH_BACK = 0.27, -0.22, 0.22
"""the end effector stays within +-REACH_X and between REACH_FRONT and REACH_BACK, m"""
Z_LOW, Z_HIGH, Z_CONTACT = 0.012, 0.120, 0.045
"""heights of the finger tips: lowered, lifted, and the height below which they push, m"""
Z_SPEED = 0.35
"""m/s"""
FINGER_RADIUS, FINGER_MASS, FINGER_FORCE = 0.010, 0.3, 10.0
"""m, kg, N: the force of the joint that pulls a finger along"""
GAP_OPEN, GAP_CLOSED, GAP_SPEED = 0.056, 0.022, 0.2
"""distance between the fingers' middles, m, and how fast it changes, m/s"""
NOISE_RELATIVE, NOISE_ABSOLUTE = 0.06, 0.001
"""standard deviation of the controller's error: share of the move, and m a frame"""
GRAVITY = 9.81
MOVED_DISTANCE = 0.004
"""an object has moved when a point of its rim is displaced by more than this (m, about a third
of a pixel at 64 x 64) in any frame of the clip, against frame 0"""

_OBJECTS, _FINGERS, _WALLS = 0b001, 0b010, 0b100


@dataclass(frozen=True)
class Motion:
    """Where everything is in each frame."""

    actions: Float32[np.ndarray, "T 4"]
    """what was asked at frame t; row t leads from frame t to frame t + 1"""
    effector: Float64[np.ndarray, "T 3"]
    """middle of the finger tips as reached, m"""
    fingers: Float64[np.ndarray, "T 2 2"]
    """x, y of the left and the right finger, m"""
    poses: Float64[np.ndarray, "T N 3"]
    """x, y (m) and angle (rad) of each object"""
    moved: tuple[bool, ...]
    """whether each object moves in the clip (see `MOVED_DISTANCE`)"""


def run(
    scene: Scene,
    rng: np.random.Generator,
    n_frames: int,
    commands: Float32[np.ndarray, "n_frames 4"] | None = None,
    since: int = 0,
) -> Motion:
    """Let a random controller push the scene's objects about for `n_frames` frames.

    Where `commands` are given, their rows from `since` on take the place of the controller's. Its
    draws are made all the same, so that the arm's errors stay those of the clip without them.
    """
    table = LiveTable(scene, rng)
    actions = np.zeros((n_frames, 4), np.float32)
    effector, fingers = np.zeros((n_frames, 3)), np.zeros((n_frames, 2, 2))
    poses = np.zeros((n_frames, len(scene.things), 3))
    for t in range(n_frames):
        effector[t], fingers[t], poses[t] = table.now()
        actions[t] = table.advance(commands[t] if commands is not None and t >= since else None)
    return Motion(actions, effector, fingers, poses, _moved(scene, poses))


class LiveTable:
    """A scene in motion, from one frame to the next."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.table = _Table(scene, rng)
        self.t = 0
        """number of the frame that `now` tells of"""
        self._target: int | None = None
        self._decision = np.zeros(4, np.float32)

    def now(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Effector (3,), fingers (2, 2) and poses (N, 3), as in a `Motion`."""
        return self.table.effector(), self.table.finger_places(), self.table.poses()

    def advance(
        self, command: Float32[np.ndarray, " columns"] | None = None
    ) -> Float32[np.ndarray, " columns"]:
        """One frame on, by the action given, or else by the controller's; returns it."""
        decides = self.t % HELD == 0
        if decides:
            things = len(self.scene.things)
            self._target = choose_target(self.rng, self._target, things)
            goal = None if self._target is None else tuple(self.table.bodies[self._target].position)
            self._decision = decide(self.rng, self.table.effector(), goal)
        if command is not None:
            self._decision = command
        if decides:
            self.table.close_for = max(self.table.close_for - 1, int(self._decision[2]))
        self.table.step(self._decision, self.rng)
        self.t += 1
        return self._decision


def decide(
    rng: np.random.Generator,
    effector: Float64[np.ndarray, " xyz"],
    goal: tuple[float, float] | None,
) -> Float32[np.ndarray, " columns"]:
    """Draw one decision: (dx, dy) in metres a frame, close_gripper, lift.

    With a goal (x, y) the move goes to it and a little past it, at a random speed; without one
    it is uniform, and turned back where it would leave the arm's reach.
    """
    if goal is not None:
        way = np.array(goal) - effector[:2]
        way *= 1 + PAST_GOAL / max(float(np.hypot(*way)), PAST_GOAL / 2)
        move = way / HELD + rng.normal(0, 0.004, 2)
        move *= min(1.0, rng.uniform(*AIMED_SPEED) / float(np.abs(move).max()))
    else:
        move = rng.uniform(-MAX_MOVE, MAX_MOVE, 2)
        low, high = np.array([-REACH_X, REACH_FRONT]), np.array([REACH_X, REACH_BACK])
        ahead = effector[:2] + HELD * move
        move = np.where((ahead < low) | (ahead > high), -move, move)
    close = CLOSE_STEPS[rng.integers(len(CLOSE_STEPS))]
    lift = rng.random() < LIFT_SHARE
    return np.array([*move, close, lift], np.float32)


def choose_target(rng: np.random.Generator, target: int | None, n_things: int) -> int | None:
    """Which object the next decision aims at: often the same again, none in a share of cases."""
    if n_things == 0 or rng.random() >= AIMED:
        return None
    if target is not None and rng.random() < PERSISTENCE:
        return target
    return int(rng.integers(n_things))


class _Table:
    """The pymunk world of one clip."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.space = pymunk.Space()
        self.space.iterations = 15
        self.space.collision_slop = 0.0005  # m of overlap allowed; the default is made for pixels
        self.space.collision_bias = 0.5**60  # share of an overlap that is left after a second
        self._add_walls()
        self.bodies = [self._add_thing(thing) for thing in scene.things]
        x = float(rng.uniform(-REACH_X, REACH_X))
        y = float(rng.uniform(REACH_FRONT, REACH_BACK))
        self.z, self.gap, self.close_for = Z_HIGH, GAP_OPEN, 0
        self._add_fingers(x, y)
        if rng.random() > LIFT_SHARE and not self._above_object():
            self._set_height(Z_LOW)
        else:
            self._set_height(Z_HIGH)

    def effector(self) -> np.ndarray:
        """(3,) middle of the finger tips, m."""
        left, right = self.finger_bodies
        middle = (left.position + right.position) / 2
        return np.array([middle.x, middle.y, self.z])

    def finger_places(self) -> np.ndarray:
        """(2, 2) x, y of each finger, m."""
        return np.array([tuple(body.position) for body in self.finger_bodies])

    def poses(self) -> np.ndarray:
        """(N, 3) x, y, angle of each object."""
        rows = [(body.position.x, body.position.y, body.angle) for body in self.bodies]
        return np.array(rows).reshape(-1, 3)

    def step(self, action: np.ndarray, rng: np.random.Generator) -> None:
        """Follow one action row from one frame to the next."""
        error = 1 + NOISE_RELATIVE * rng.standard_normal(2)
        move = action[:2] * error + NOISE_ABSOLUTE * rng.standard_normal(2)
        start = self.effector()[:2]
        goal = np.clip(start + move, (-REACH_X, REACH_FRONT), (REACH_X, REACH_BACK))
        velocity = (goal - start) / FRAME_SECONDS
        # The carrier starts where the fingers are: a jam leaves no debt of motion behind.
        self.carrier.position = (float(start[0]), float(start[1]))
        self.carrier.velocity = (float(velocity[0]), float(velocity[1]))
        goal_z = Z_HIGH if action[3] > 0 else Z_LOW
        goal_gap = GAP_CLOSED if self.close_for > 0 else GAP_OPEN
        dt = FRAME_SECONDS / SUBSTEPS
        for _ in range(SUBSTEPS):
            self._move_height(goal_z, dt)
            if self.gap != goal_gap:
                self._move_fingers(goal_gap, dt)
            self.space.step(dt)

    def _move_fingers(self, goal: float, dt: float) -> None:
        self.gap += min(max(goal - self.gap, -GAP_SPEED * dt), GAP_SPEED * dt)
        for joint, side in zip(self.joints, (-0.5, 0.5), strict=True):
            joint.anchor_a = (side * self.gap, 0.0)

    def _move_height(self, goal: float, dt: float) -> None:
        z = self.z + min(max(goal - self.z, -Z_SPEED * dt), Z_SPEED * dt)
        if z < Z_CONTACT <= self.z and self._above_object():
            z = Z_CONTACT  # the tips rest on the object until the arm leaves it
        if z != self.z:
            self._set_height(z)

    def _set_height(self, z: float) -> None:
        self.z = z
        mask = _OBJECTS | _FINGERS | _WALLS if z < Z_CONTACT else 0
        for shape in self.finger_shapes:
            shape.filter = pymunk.ShapeFilter(categories=_FINGERS, mask=mask)

    def _above_object(self) -> bool:
        only_objects = pymunk.ShapeFilter(mask=_OBJECTS)
        return any(
            self.space.point_query_nearest(body.position, FINGER_RADIUS, only_objects) is not None
            for body in self.finger_bodies
        )

    def _add_walls(self) -> None:
        thick = 0.05
        x, front, back = BIN_X + thick, BIN_FRONT - thick, BIN_BACK + thick
        corners = [(-x, front), (x, front), (x, back), (-x, back)]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            wall = pymunk.Segment(self.space.static_body, start, end, thick)
            wall.friction = 0.3
            wall.filter = pymunk.ShapeFilter(categories=_WALLS)
            self.space.add(wall)

    def _add_thing(self, thing: Thing) -> pymunk.Body:
        body = pymunk.Body()
        x, y, angle = thing.pose
        body.position, body.angle = (x, y), angle
        shapes = [_shape(body, part) for part in thing.parts]
        area = sum(shape.area for shape in shapes)
        for shape in shapes:
            shape.density = thing.mass / area
            shape.friction, shape.elasticity = 0.5, 0.05
            shape.filter = pymunk.ShapeFilter(categories=_OBJECTS)
        self.space.add(body, *shapes)
        static = self.space.static_body
        pivot, gear = (
            pymunk.PivotJoint(static, body, (0, 0), (0, 0)),
            pymunk.GearJoint(static, body, 0, 1),
        )
        pivot.max_bias = gear.max_bias = 0  # resist motion only: no pull towards any place
        pivot.max_force = thing.friction * thing.mass * GRAVITY
        gear.max_force = pivot.max_force * 0.6 * thing.reach  # near 2/3 r, that of a full disc
        self.space.add(pivot, gear)
        return body

    def _add_fingers(self, x: float, y: float) -> None:
        self.carrier = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self.carrier.position = (x, y)
        self.space.add(self.carrier)
        self.finger_bodies, self.finger_shapes, self.joints = [], [], []
        for side in (-0.5, 0.5):
            body = pymunk.Body(FINGER_MASS, float("inf"))
            body.position = (x + side * self.gap, y)
            shape = pymunk.Circle(body, FINGER_RADIUS)
            shape.friction, shape.elasticity = 0.6, 0.0
            joint = pymunk.PivotJoint(self.carrier, body, (side * self.gap, 0), (0, 0))
            joint.max_force = FINGER_FORCE
            joint.error_bias = 0.4**60  # what is left of a gap error after one second
            self.space.add(body, shape, joint)
            self.finger_bodies.append(body)
            self.finger_shapes.append(shape)
            self.joints.append(joint)


def _shape(body: pymunk.Body, part: Part) -> pymunk.Shape:
    """The part's outline as a collision shape: a disc, a capsule or a rounded box."""
    if part.half_x == part.half_y == 0:
        return pymunk.Circle(body, part.radius, (part.x, part.y))
    if part.half_x == 0 or part.half_y == 0:
        ends = [(part.x + s * part.half_x, part.y + s * part.half_y) for s in (-1, 1)]
        return pymunk.Segment(body, *ends, part.radius)
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = [(part.x + sx * part.half_x, part.y + sy * part.half_y) for sx, sy in signs]
    return pymunk.Poly(body, corners, radius=part.radius)


def _moved(scene: Scene, poses: np.ndarray) -> tuple[bool, ...]:
    """Which objects' rims leave their places of frame 0; poses: (T, N, 3)."""
    change = poses - poses[:1]
    reach = np.array([thing.reach for thing in scene.things])
    rim = np.hypot(change[..., 0], change[..., 1]) + np.abs(change[..., 2]) * reach
    return tuple(bool(far > MOVED_DISTANCE) for far in rim.max(0))
