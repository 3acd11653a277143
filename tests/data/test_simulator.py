"""The simulated robot table: the same bytes every time, plausible physics, honest labels."""

from __future__ import annotations

import itertools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from labkit.data.clip import ARM, MOVED
from labkit.data.simulator import SPLIT_OFFSETS, physics, simulate, simulate_clip, simulate_pack
from labkit.data.simulator.camera import Camera
from labkit.data.simulator.generate import source_of
from labkit.data.simulator.physics import HELD, MAX_MOVE, Z_CONTACT, Z_LOW
from labkit.data.simulator.scene import BIN_BACK, BIN_FRONT, BIN_X, Scene, Thing, sample_scene
from labkit.errors import DataError

SEED = 3


def clip_bytes(clip):
    """Everything in a clip, to compare clips by equality."""
    arrays = (clip.frames, clip.actions, clip.positions, clip.labels)
    return b"".join(array.tobytes() for array in arrays) + clip.name.encode()


def clip_bytes_of(index):
    """For a process of a pool."""
    return clip_bytes(simulate_clip(SEED, index))


def move_about(index, n_frames=30):
    """The scene and the motion of clip `index`, without pictures: quick."""
    for_scene, for_control = np.random.SeedSequence([SEED, index]).spawn(2)
    scene = sample_scene(np.random.Generator(np.random.Philox(for_scene)))
    rng = np.random.Generator(np.random.Philox(for_control))
    return scene, physics.run(scene, rng, n_frames)


@pytest.fixture(scope="module")
def clips():
    return [simulate_clip(SEED, index) for index in range(8)]


@pytest.fixture(scope="module")
def motions():
    return [move_about(index) for index in range(60)]


def test_shapes_and_types(clips):
    for clip in clips:
        assert clip.frames.shape == (30, 3, 64, 64)
        assert clip.frames.dtype == np.uint8
        assert clip.actions.shape == (30, 4)
        assert clip.actions.dtype == np.float32
        assert clip.positions.shape == (30, 3)
        assert clip.positions.dtype == np.float32
        assert clip.labels.shape == (30, 64, 64)
        assert clip.labels.dtype == np.uint8


def test_other_processes_in_another_order_make_the_same_bytes(clips):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(clip_bytes_of, [5, 2]))
    assert made == [clip_bytes(clips[5]), clip_bytes(clips[2])]


def test_a_clip_does_not_depend_on_what_was_made_before(clips):
    np.random.default_rng(0).random(7)
    assert clip_bytes(simulate_clip(SEED, 4)) == clip_bytes(clips[4])


def test_seed_and_index_both_count(clips):
    others = [simulate_clip(SEED + 1, 0), *clips[1:]]
    assert all(not np.array_equal(clips[0].frames, other.frames) for other in others)
    assert all(not np.array_equal(clips[0].actions, other.actions) for other in others)


def test_a_shorter_clip_is_the_beginning_of_a_longer_one(clips):
    short = simulate_clip(SEED, 0, n_frames=7)
    assert np.array_equal(short.actions, clips[0].actions[:7])
    assert np.array_equal(short.positions, clips[0].positions[:7])
    # A longer clip draws more poses at once; numpy may round the last bit in another way.
    assert np.abs(short.frames.astype(int) - clips[0].frames[:7]).max() <= 1


def test_decisions_are_held_and_in_range(motions):
    actions = np.stack([motion.actions for _, motion in motions])
    assert np.array_equal(actions[:, 0::HELD], actions[:, 1::HELD])
    assert np.abs(actions[..., :2]).max() <= np.float32(MAX_MOVE)
    assert np.abs(actions[..., :2]).max() > 0.9 * MAX_MOVE
    assert set(np.unique(actions[..., 2])) == {0, 1, 3}
    assert set(np.unique(actions[..., 3])) == {0, 1}


def test_row_t_leads_from_frame_t_to_the_next(motions):
    asked = np.concatenate([motion.actions[:-1, :2] for _, motion in motions])
    reached = np.concatenate([np.diff(motion.effector[:, :2], axis=0) for _, motion in motions])
    close = np.abs(reached - asked).max(1) < 0.015
    assert close.mean() > 0.9  # the rest is stopped by the reach's limits or by objects
    assert np.corrcoef(asked[:, 0], reached[:, 0])[0, 1] > 0.95
    assert not np.array_equal(asked, reached.astype(np.float32))
    # A decision is held for two frames, so only its first row tells t from t - 1.
    late = np.concatenate([motion.actions[1:, :2] for _, motion in motions])
    assert np.abs(reached - asked).mean() < 0.3 * np.abs(reached - late).mean()


def test_lift_and_close_are_obeyed(motions):
    for _, motion in motions:
        up = motion.actions[:-1, 3] > 0
        rise = np.diff(motion.effector[:, 2])
        assert (rise[up] >= 0).all()
        assert (rise[~up] <= 0).all()
    _, motion = motions[0]
    gap = np.linalg.norm(motion.fingers[:, 1] - motion.fingers[:, 0], axis=-1)
    assert gap.min() < 0.03 < 0.05 < gap.max()


def test_a_lowered_gripper_moves_objects_in_most_clips(motions):
    share = np.mean([any(motion.moved) for _, motion in motions])
    assert share > 0.7
    untouched = np.mean([not all(motion.moved) for _, motion in motions])
    assert untouched > 0.7


def test_nothing_moves_where_the_gripper_stays_up(monkeypatch):
    monkeypatch.setattr(physics, "Z_LOW", physics.Z_HIGH)
    for index in range(10):
        _, motion = move_about(index)
        assert np.array_equal(motion.poses, np.broadcast_to(motion.poses[:1], motion.poses.shape))
        assert not any(motion.moved)


def test_the_heavier_object_is_harder_to_push():
    """Mass and friction are hidden from the condition, and change what happens."""
    scene, _ = move_about(1)
    ends = []
    for mass, friction in ((0.05, 0.15), (0.6, 0.7)):
        things = tuple(Thing(t.parts, mass, friction, t.pose, t.gloss) for t in scene.things)
        other = Scene(things, scene.light, scene.wood, scene.wall, scene.backdrop_seed)
        rng = np.random.Generator(np.random.Philox(8))
        ends.append(physics.run(other, rng, 30).poses[-1])
    assert np.abs(ends[0] - ends[1]).max() > 0.01


def test_objects_stay_in_the_bin(motions):
    allowed = 0.012  # m that a jammed object may be pressed into the wall, about a pixel
    for scene, motion in motions:
        for n, thing in enumerate(scene.things):
            x, y, angle = motion.poses[:, n].T
            for part in thing.parts:
                for side_x in (-1, 1):
                    for side_y in (-1, 1):
                        px, py = part.x + side_x * part.half_x, part.y + side_y * part.half_y
                        at_x = x + px * np.cos(angle) - py * np.sin(angle)
                        at_y = y + px * np.sin(angle) + py * np.cos(angle)
                        assert np.abs(at_x).max() + part.radius < BIN_X + allowed
                        assert at_y.min() - part.radius > BIN_FRONT - allowed
                        assert at_y.max() + part.radius < BIN_BACK + allowed


def test_an_object_that_is_let_go_comes_to_rest(motions):
    """Where nobody pushes for some frames, nothing moves at the end of them."""
    quiet = 0
    for _, motion in motions:
        for t in range(4, 30):
            if (motion.effector[t - 4 : t + 1, 2] >= Z_CONTACT).all():
                quiet += 1
                assert np.abs(motion.poses[t] - motion.poses[t - 1]).max() < 1e-6
    assert quiet > 10


def test_labels_say_where_the_arm_is(clips):
    camera = Camera(64)
    seen = 0
    for clip in clips:
        pixels, _ = camera.project(clip.positions.astype(np.float64) + np.array([0, 0, 0.17]))
        for t, (u, v) in enumerate(pixels):
            if 1 < u < 63 and 1 < v < 63:  # the hand, above the fingers
                assert clip.labels[t, int(v), int(u)] == ARM
                seen += 1
    assert seen > 60
    arm = np.concatenate([clip.frames.transpose(0, 2, 3, 1)[clip.labels == ARM] for clip in clips])
    rest = np.concatenate([clip.frames.transpose(0, 2, 3, 1)[clip.labels != ARM] for clip in clips])
    assert arm.mean() < 0.4 * rest.mean()
    assert 0.02 < np.mean([(clip.labels == ARM).mean() for clip in clips]) < 0.15


def test_labels_say_what_moves(clips):
    """An object that moves is marked from the first frame on, in its own size; others never."""
    for index, clip in enumerate(clips):
        scene, motion = move_about(index)
        assert (clip.labels == MOVED).any() == any(motion.moved)
        camera = Camera(64)
        for n, thing in enumerate(scene.things):
            middle = motion.poses[0, n] * (1, 1, 0) + (0, 0, 0.7 * thing.height)
            if len(thing.parts) > 1:
                continue  # the origin of a compound object may lie outside of it
            ((u, v),), _ = camera.project(middle[None])
            label = clip.labels[0, int(v), int(u)]
            assert label in (MOVED if motion.moved[n] else 0, ARM)


def test_pixels_outside_arm_and_moved_objects_hardly_change(clips):
    """Only shadows may change the rest: the labels miss nothing that moves."""
    for clip in clips:
        still = (clip.labels == 0) & (clip.labels[:1] == 0)
        change = np.abs(clip.frames.astype(int) - clip.frames[:1]).mean(1)
        assert (change[still] > 60).mean() < 0.01  # rims that the arm covers by half
        assert np.median(change[still]) < 4


@pytest.mark.parametrize("size", [32, 128])
def test_size_only_changes_the_camera(clips, size):
    clip = simulate_clip(SEED, 0, n_frames=4, size=size)
    assert clip.frames.shape == (4, 3, size, size)
    assert np.array_equal(clip.positions, clips[0].positions[:4])
    small, large = sorted([clip.frames, clips[0].frames[:4]], key=lambda frames: frames.shape[-1])
    n = small.shape[-1]
    pooled = large.reshape(4, 3, n, 2, n, 2).mean((3, 5))
    assert np.abs(pooled - small).mean() < 6


def test_simulate_over_processes_keeps_the_order(clips):
    order = [3, 0, 6]
    in_process = [clip_bytes(clip) for clip in simulate(SEED, order)]
    over_processes = [clip_bytes(clip) for clip in simulate(SEED, order, workers=2)]
    assert in_process == over_processes == [clip_bytes(clips[index]) for index in order]


def test_splits_never_share_an_index(tmp_path):
    starts = sorted(SPLIT_OFFSETS.values())
    assert set(SPLIT_OFFSETS) == {"train", "validate", "test"}
    room = min(b - a for a, b in itertools.pairwise(starts))
    with pytest.raises(DataError, match="ask for 1 to"):
        simulate_pack(tmp_path / "pack", SEED, {"train": room + 1})


def test_a_pack_is_made_once_and_opened_again(tmp_path, clips):
    root, counts = tmp_path / "pack", {"train": 2, "test": 1}
    pack = simulate_pack(root, SEED, counts, progress=False)
    assert np.array_equal(pack.split("train").frames[1], clips[1].frames)
    test_clip = simulate_clip(SEED, SPLIT_OFFSETS["test"])
    assert np.array_equal(pack.split("test").labels[0], test_clip.labels)
    assert pack.manifest["source"] == source_of(SEED, counts)
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    simulate_pack(root, SEED, counts, progress=False)
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before


def test_another_pack_or_other_files_are_left_alone(tmp_path):
    simulate_pack(tmp_path / "pack", SEED, {"train": 1}, progress=False)
    with pytest.raises(DataError, match="choose another folder"):
        simulate_pack(tmp_path / "pack", SEED + 1, {"train": 1}, progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="choose another folder"):
        simulate_pack(tmp_path / "full", SEED, {"train": 1}, progress=False)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"index": -1}, {"n_frames": 0}, {"size": 8}, {"size": 4096}]
)
def test_an_argument_out_of_range_is_named(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        simulate_clip(**{"seed": SEED, "index": 0, **wrong})


def test_lowered_means_below_the_contact_height():
    assert Z_LOW < Z_CONTACT < physics.Z_HIGH
