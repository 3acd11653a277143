"""The same scene with other actions."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.data.simulator import manifest_seed, physics, simulate_clip, simulate_pack
from labkit.data.simulator.generate import VERSION, source_of
from labkit.errors import DataError

SEED, SINCE = 3, 4


@pytest.fixture(scope="module")
def clip():
    return simulate_clip(SEED, 1, n_frames=12)


def test_the_clips_own_actions_give_the_clip(clip) -> None:
    for since in (0, 1, SINCE, 11):
        again = simulate_clip(SEED, 1, n_frames=12, actions=clip.actions, since=since)
        for kind in ("frames", "actions", "positions", "labels"):
            np.testing.assert_array_equal(getattr(again, kind), getattr(clip, kind))


def test_other_actions_leave_the_past_and_change_the_future(clip) -> None:
    told = simulate_clip(SEED, 2, n_frames=12).actions
    other = simulate_clip(SEED, 1, n_frames=12, actions=told, since=SINCE)
    past = slice(0, SINCE + 1)
    np.testing.assert_array_equal(other.positions[past], clip.positions[past])
    np.testing.assert_array_equal(other.actions[:SINCE], clip.actions[:SINCE])
    np.testing.assert_array_equal(other.actions[SINCE:], told[SINCE:])
    assert np.abs(other.positions[SINCE + 1 :] - clip.positions[SINCE + 1 :]).max(1).min() > 0.005
    # The arm is smoothed by its length over the whole clip: the past may differ at its rims.
    assert (np.abs(other.frames[past].astype(int) - clip.frames[past]) > 1).mean() < 0.01
    assert (other.frames[-1] != clip.frames[-1]).mean() > 0.02


def test_the_arm_goes_where_it_is_told(clip) -> None:
    right, left = np.zeros((2, 12, 4), np.float32)
    right[:, 0], left[:, 0] = 0.02, -0.02
    right[:, 3] = left[:, 3] = 1  # lifted, nothing stops it but its reach
    reached = [
        simulate_clip(SEED, 1, n_frames=12, actions=told, since=SINCE).positions[SINCE:, 0]
        for told in (right, left)
    ]
    assert np.abs(reached).max() < physics.REACH_X
    # 0.02 m a frame each way, each with the controller's error of 6 % and 1 mm
    assert np.diff(reached[0] - reached[1]) == pytest.approx(0.04, abs=0.012)


def test_actions_that_cannot_be_followed_are_named(clip) -> None:
    broken = clip.actions.copy()
    broken[5, 0] = np.nan
    with pytest.raises(DataError, match="row 4"):
        simulate_clip(SEED, 1, n_frames=12, actions=broken, since=SINCE)
    simulate_clip(SEED, 1, n_frames=12, actions=broken, since=6)
    with pytest.raises(DataError, match="row 12"):
        simulate_clip(SEED, 1, n_frames=12, actions=clip.actions, since=12)


def test_the_seed_is_a_field_of_the_manifest(tmp_path) -> None:
    pack = simulate_pack(tmp_path / "pack", 17, {"test": 1}, progress=False)
    assert pack.manifest["simulator"] == {"version": VERSION, "seed": 17}
    assert manifest_seed({**pack.manifest, "source": ""}) == 17
    for other in ({"version": VERSION + 1, "seed": 17}, {"version": VERSION, "seed": "17"}, {}):
        assert manifest_seed({**pack.manifest, "simulator": other}) is None


def test_the_seed_of_an_earlier_pack_is_read_from_its_sentence() -> None:
    def earlier(source: str) -> int | None:
        return manifest_seed({"source": source})

    assert earlier(source_of(17, {"train": 4, "test": 2})) == 17
    assert earlier(source_of(1, {"train": 1}).replace(f"r {VERSION},", f"r {VERSION + 1},")) is None
    assert earlier("converted from a folder") is None
    assert manifest_seed({}) is None
