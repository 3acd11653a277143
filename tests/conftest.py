"""What every test shares: one thread, so that results do not depend on the machine's cores, and
one small simulated data set."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from labkit.config import Config
from labkit.data.simulator import simulate_pack
from labkit.presets import SMOKE

# pytest-xdist gives its processes the width of its terminal, and lines that are longer would be
# broken. A test of a narrow terminal sets it.
os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of a few simulated clips."""
    root = tmp_path_factory.mktemp("data") / "simulated"
    simulate_pack(root, 0, {"train": 6, "validate": 3, "test": 3}, workers=0, progress=False)
    return root


@pytest.fixture
def smoke(simulated: Path) -> Config:
    """The smoke preset on those clips."""
    return dataclasses.replace(
        SMOKE, data=dataclasses.replace(SMOKE.data, root=simulated.as_posix())
    )
