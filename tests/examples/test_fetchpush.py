"""The page docs/your_own_robot.md, end to end in small: record, check, train, evaluate, report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labkit.data.clip import ARM, MOVED
from labkit.data.dataset import ClipDataset
from labkit.doctor import draws_mujoco

EXAMPLE = Path(__file__).parents[2] / "examples" / "fetchpush.py"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a few episodes. Skips where MuJoCo cannot draw; in CI it must, so it fails."""
    fault = draws_mujoco()
    if fault is not None:
        if os.environ.get("CI"):
            pytest.fail(f"{fault}: CI needs it")
        pytest.skip(fault)
    root = tmp_path_factory.mktemp("robot") / "fetchpush"
    run(EXAMPLE.as_posix(), root, "--train", 6, "--validate", 2, "--test", 2)
    return root


def run(*arguments: object) -> str:
    environment = {"MUJOCO_GL": "egl", **os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_arm_is_seen_follows_its_actions_and_pushes(recorded: Path) -> None:
    clips = ClipDataset(recorded, "train", n_future=28)  # whole clips of 30 frames
    assert len(clips) == 6
    arm, moved = [], []
    for number in range(6):
        clip = clips.clip(number)
        assert clip.frames.shape == (30, 3, 64, 64)
        arm.append((clip.labels == ARM).mean())
        steps = np.diff(clip.positions, axis=0)
        # It moves in the context frames, and never stands still for long.
        lengths = np.linalg.norm(steps, axis=1)  # metres
        assert lengths[0] > 0.003
        assert np.median(lengths) > 0.008
        for column in range(2):
            # An action says where the gripper goes between this frame and the next.
            assert np.corrcoef(clip.actions[:-1, column], steps[:, column])[0, 1] > 0.9
        block = clip.labels == MOVED
        where = [np.argwhere(b).mean(axis=0) for b in (block[0], block[-1]) if b.any()]
        moved.append(np.linalg.norm(where[0] - where[-1]))
    assert 0.03 < np.mean(arm) < 0.2
    assert max(moved) > 3  # pixels


def test_a_second_recording_leaves_the_first(recorded: Path) -> None:
    words = r"train: is there already \(remove it, or choose another folder\)"
    with pytest.raises(AssertionError, match=words) as refused:
        run(EXAMPLE.as_posix(), recorded, "--train", 1, "--validate", 1, "--test", 1)
    assert "Traceback" not in str(refused.value)
    assert len(ClipDataset(recorded, "train", n_future=28)) == 6


def test_from_the_check_to_the_report(recorded: Path, tmp_path: Path) -> None:
    checked = run("-m", "labkit", "data", "check", recorded)
    assert "gripper" in checked
    out = tmp_path / "run"
    run("-m", "labkit", "train", "smoke", "--data.root", recorded, "--out", out)
    run("-m", "labkit", "evaluate", out)
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "repeat" in report
    assert "dz" in (out / "config.json").read_text(encoding="utf-8")
