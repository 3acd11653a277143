"""The quota of control groups, read from files as Linux has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import cores


def tree(root: Path, group: str, files: dict[str, str]) -> Path:
    """A file system with those control groups."""
    for name, text in {"proc/self/cgroup": group, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = "0::/slice/job\n"
V1 = "3:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("group", "files", "quota"),
    [
        (V2, {"sys/fs/cgroup/slice/job/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"sys/fs/cgroup/slice/cpu.max": "50000 100000\n"}, 0.5),
        (
            V2,
            {
                "sys/fs/cgroup/slice/job/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/slice/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        (V2, {"sys/fs/cgroup/slice/job/cpu.max": "max 100000\n"}, None),
        (V2, {"sys/fs/cgroup/slice/job/cpu.max": "nonsense\n"}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3.0),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ("", {}, None),
        ("no colons\n", {}, None),
    ],
)
def test_the_quota_of_a_control_group(
    group: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    assert cores.cgroup_quota(tree(tmp_path, group, files)) == quota


def test_a_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, usable in ((None, 8), (0.5, 1), (2.5, 3), (64.0, 8)):
        monkeypatch.setattr(cores, "cgroup_quota", lambda quota=quota: quota)
        assert cores.usable_cores() == usable


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cores.cgroup_quota(tmp_path) is None
