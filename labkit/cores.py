"""How many CPU cores there are to use."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath


def usable_cores() -> int:
    """The cores that this process may use: a scheduler may bind it to some of them (affinity), and
    a container may limit its share of time (the quota of its cgroup)."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cgroup_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The number of cores whose time this process's control groups may use on Linux, the smallest
    of its group and all groups above; None without a limit.

    Args:
        root: of the file system.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    mount, quotas = root / "sys/fs/cgroup", []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:  # cgroup v2: one tree for all controllers
            tree = mount
        elif "cpu" in controllers.split(","):
            tree = mount / "cpu"
        else:
            continue
        group = PurePosixPath(path.lstrip("/") or ".")
        quotas += [_quota_of(tree / each) for each in (group, *group.parents)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_of(folder: Path) -> float | None:
    """The quota of one control group: microseconds of CPU time per period of microseconds."""
    try:
        if (folder / "cpu.max").is_file():  # v2: "max 100000" or "150000 100000"
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:  # v1: -1 is no limit
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if math.isfinite(cores) and cores > 0 else None
