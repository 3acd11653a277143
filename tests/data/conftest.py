"""Small random clips for the tests of `labkit.data`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from labkit.data.clip import Clip


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """A function (number, ...) -> Clip of noise, the same for the same arguments."""

    def make(
        number: int = 0,
        *,
        frames: int = 4,
        height: int = 6,
        width: int = 8,
        positions: bool = True,
        labels: bool = False,
    ) -> Clip:
        random = np.random.default_rng(number)
        shape = (frames, height, width)
        return Clip(
            frames=random.integers(0, 256, (frames, 3, height, width), np.uint8),
            actions=random.normal(size=(frames, 4)).astype(np.float32),
            positions=random.normal(size=(frames, 3)).astype(np.float32) if positions else None,
            labels=random.integers(0, 3, shape, np.uint8) if labels else None,
            name=f"noise {number}",
        )

    return make
