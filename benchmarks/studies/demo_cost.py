"""How many updates of the demo take as much CPU time as the 800 updates of the preset `layer`?

    OMP_NUM_THREADS=1 python benchmarks/studies/demo_cost.py

`layer` is the demo of earlier versions. Both trainings are built as `labkit train` builds them, on
some simulated clips, in fp32 and with one thread. Their updates alternate, so that another load of
the machine slows both. CPU time is that of the process; reading the batch is part of it. What is
trained beforehand (`training.arm_updates`) is measured once and counts too.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from labkit.config import Config
from labkit.data.simulator import simulate_pack
from labkit.presets import preset
from labkit.training.loss_step import batch_losses
from labkit.training.schedules import teacher_forcing_ratio
from labkit.training.setup import TrainingSetup


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    updates: int = 20
    """updates of each kind that are measured, after one that is not"""
    clips: int = 512
    """simulated training clips"""


def forced_share(config: Config) -> float:
    """The mean teacher-forcing ratio over the epochs of a training."""
    epochs = config.training.epochs
    ratios = (teacher_forcing_ratio(epoch, config.teacher_forcing) for epoch in range(epochs))
    return sum(ratios) / epochs


class Updates:
    """The updates of one preset."""

    def __init__(self, name: str, root: Path) -> None:
        config = preset(name)
        self.config = dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, root=root.as_posix()),
            training=dataclasses.replace(config.training, precision="fp32"),
        )
        start = time.process_time()
        self.setup = TrainingSetup(self.config, torch.device("cpu"))
        self.beforehand = time.process_time() - start
        """seconds of CPU time before the first update"""
        self.batches = iter(self.setup.batches(range(10_000)))
        self.number = 0

    def update(self, forced: float) -> float:
        """One update; the seconds of CPU time it took."""
        start = time.process_time()
        schedule = {"kl_weight": 1.0, "teacher_forcing_ratio": forced}
        batch = next(self.batches)
        self.setup.optimizer.zero_grad(set_to_none=True)
        batch_losses(self.setup, batch, self.number, schedule)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.setup.model.parameters(), 1.0)
        self.setup.optimizer.step()
        self.number += 1
        return time.process_time() - start


def main(options: Options) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "clips"
        simulate_pack(root, 1, {"train": options.clips, "validate": 2, "test": 2}, 1, False)
        runs = {name: Updates(name, root) for name in ("layer", "demo")}
        kinds = [
            (name, forced)
            for name, run in runs.items()
            for forced in (1.0, 0.0)
            if forced < 1 or forced_share(run.config) > 0
        ]
        spent: dict[tuple[str, float], list[float]] = {kind: [] for kind in kinds}
        for _ in range(1 + options.updates):
            for name, forced in kinds:
                spent[name, forced].append(runs[name].update(forced))
        totals = {}
        for name, run in runs.items():
            share, training = forced_share(run.config), run.config.training
            means = {
                forced: statistics.mean(spent[name, forced][1:]) for n, forced in kinds if n == name
            }
            each = share * means.get(1.0, 0.0) + (1 - share) * means[0.0]
            count = training.epochs * training.updates_per_epoch
            totals[name] = run.beforehand + each * count
            print(
                f"{name}: {run.beforehand:.0f} CPU seconds beforehand, {each:.3f} per update, "
                f"{count} updates: {totals[name]:.0f} CPU seconds"
            )
            if name == "demo":
                left = totals["layer"] - run.beforehand
                print(f"as long as `layer`: {left / each:.0f} updates of the demo")


if __name__ == "__main__":
    main(tyro.cli(Options))
