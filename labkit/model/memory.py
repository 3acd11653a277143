"""Whether a model fits into memory, found out before it is built."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from labkit.config import ModelConfig
from labkit.errors import ConfigError
from labkit.model.video_cvae import VideoCVAE

CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""Files in which Linux keeps a container's limit and what it uses."""


def count_parameters(
    config: ModelConfig, condition_size: int, position_size: int | None = None
) -> int:
    """Number of a model's weights. Nothing of their size is allocated, and no random number is
    drawn.

    Args:
        config, condition_size, position_size: as of `VideoCVAE`.
    Raises:
        ConfigError: the config asks for a condition, and there is none.
    """
    with torch.device("meta"):
        model = VideoCVAE(config, condition_size, position_size)
    return sum(parameter.numel() for parameter in model.parameters())


def check_memory(
    config: ModelConfig,
    condition_size: int,
    device: torch.device | str = "cpu",
    copies: int = 1,
    *,
    position_size: int | None = None,
) -> None:
    """Refuses a model whose weights alone are larger than the free memory.

    Args:
        config: the model's shape.
        condition_size: columns of the condition.
        device: on which it is to be.
        copies: how often numbers of the weights' size are held: the weights, and in a training
            their gradients, Adam's two means and a moving average.
        position_size: how many of the condition's columns are the robot's position.
    Raises:
        ConfigError: it does not fit; the message says how large it is and how much is free.
    """
    free = free_memory(device)
    count = count_parameters(config, condition_size, position_size)
    needed = 4 * count * copies
    if free is not None and needed > free:
        each = f"{copies} times {4 * count / 1e9:.3g} GB" if copies > 1 else "for its weights"
        raise ConfigError(
            f"the model has {count:,} weights and needs {needed / 1e9:.3g} GB ({each}), but "
            f"{free / 1e9:.3g} GB of memory are free",
            hint="choose smaller sizes: model.width, model.hidden_size, model.encoding_size",
        )


def free_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes of memory that can still be had on a device; None where this cannot be found out."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    found = [free for limit, used in CGROUPS if (free := _left(limit, used)) is not None]
    machine = _available()
    if machine is not None:
        found.append(machine)
    return min(found) if found else None


def _available() -> int | None:
    """What the machine can still give."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:  # no Linux: all of the memory, which is too much but a bound
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _left(limit: str, used: str) -> int | None:
    """What a container may still take; None where it has no limit."""
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):
        return None
