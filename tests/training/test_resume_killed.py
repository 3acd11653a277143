"""A training killed at any moment ends, resumed, in the same bits as one that never was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import killing


def test_twenty_kills_change_no_bit(simulated: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, killing.__file__, simulated, tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    again, *cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert not again["wrong"]  # two runs without a kill are the same
    assert len(cases) == killing.BY_CALL + killing.IN_WRITES + killing.BY_CLOCK == 20
    assert not [case for case in cases if case["wrong"]]
    # They were killed where it is interesting: before the first checkpoint and after, within an
    # epoch, and while a file was being written.
    assert all(case["killed"] for case in cases)
    assert len({case["checkpoint"] for case in cases}) >= 4
    assert any(case["checkpoint"] in (3, 6) for case in cases)
    assert any("checkpoint.pt" in name for case in cases for name in case["left"])
