"""What two processes do in `test_distributed`, started by torchrun.

torchrun --nproc-per-node 2 tests/training/sharing.py DATA OUT
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from labkit.config import Config, from_dict
from labkit.presets import SMOKE
from labkit.training import run as run_module
from labkit.training import train
from labkit.training.device import Acceleration
from labkit.training.distributed import Processes
from labkit.training.loop import TrainingLoop
from labkit.training.schedules import schedule_at
from labkit.training.setup import TrainingSetup

CPU = torch.device("cpu")
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "as it is": {},
    "fixed variance, forcing per step": {
        "model": {"observation": "fixed"},
        "teacher_forcing": {"granularity": "step", "start": 0.5},
    },
    "random skips, learned prior": {"model": {"skip": "random_context", "prior": "learned"}},
    "free bits that bind one process alone": {
        "model": {"observation": "fixed"},
        "kl": {"free_bits": 0.096},  # KL is 0.094 in one process and 0.103 in the other
    },
    "accumulated": {"training": {"accumulation_steps": 2}},
    "half of the clips from the prior": {"kl": {"hybrid": 0.5}},
    "short windows, accumulated": {"training": {"growing_windows": 1.0, "accumulation_steps": 2}},
}
"""Changes of the smoke preset whose gradients are compared."""


def config_of(data: str, case: str) -> Config:
    """The preset with a case's changes, and a KL that counts."""
    values = SMOKE.to_dict()
    values["data"] |= {"root": data, "n_future": 3}
    values["kl"] |= {"schedule": "constant"}
    values["teacher_forcing"] |= {"start": 0.0}
    for part, changes in CASES[case].items():
        values[part] |= changes
    return from_dict(values)


def run_config(data: str) -> Config:
    """Of a run of two epochs."""
    config = config_of(data, "as it is")
    training = dataclasses.replace(config.training, updates_per_epoch=3)
    return dataclasses.replace(config, training=training)


def gradient(config: Config, processes: Processes) -> torch.Tensor:
    """The gradient of the first update, all weights side by side."""
    torch.set_num_threads(1)
    setup = TrainingSetup(config, CPU, acceleration=Acceleration(CPU), processes=processes)
    (batch,) = setup.batches(range(1))
    TrainingLoop(setup, Path("nowhere")).gradients(batch, schedule_at(0, config))
    return torch.cat([weight.grad.flatten() for weight in setup.model.parameters()])


def main(data: str, out: Path) -> None:
    """Writes the gradients of all cases, as the first process has them; and a run that is out of
    time after its first update."""
    with Processes.join(CPU) as processes:
        assert processes.world == 2
        found = {case: gradient(config_of(data, case), processes) for case in CASES}
        if processes.is_first:
            torch.save(found, out / "gradients.pt")
        run_module.Processes.join = lambda device: contextlib.nullcontext(processes)
        train(run_config(data), out / "parts", minutes=1e-9, progress=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
