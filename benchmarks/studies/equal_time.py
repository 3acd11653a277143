"""Which choices help at equal training time?

    python benchmarks/studies/equal_time.py --minutes 10 --variants demo course ...
    python benchmarks/studies/equal_time.py --table latent

Each variant is trained for as many updates as fit into the minutes, with its schedules
stretched over them, on the same simulated clips with the same seed; then it predicts the test
clips. The updates are counted by timing a few first, so a variant that is slower gets fewer.
Printed for each: PSNR of predictions (2 -> 10 frames, free-running, one sample from the prior,
not best of N), the same by region, what the posterior gains, what best of N gains, and KL.

Not part of `make bench`: with the minutes given here it takes hours.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from labkit.config import Config, from_dict
from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.evaluation.metrics import psnr
from labkit.evaluation.regions import RegionErrors, joined_errors, region_errors
from labkit.files import write_whole
from labkit.learning import read_history
from labkit.learning.checkpoint import load_model
from labkit.learning.fitting import VideoTask, train
from labkit.learning.timing import read_timing
from labkit.model import kl_divergence
from labkit.presets import preset

# Each variant: a preset, and what is changed in it.
FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "demo": ("demo", {}),
    "course": ("course", {}),
    "svg": ("svg", {"training.batch_size": 12}),
    "convlstm": ("demo", {"model.predictor": "convlstm"}),
    "align": ("demo", {"model.align": True}),
    "no flow": ("demo", {"model.output": "sigmoid"}),
    "cdna": ("demo", {"model.output": "cdna"}),
    "no film": ("demo", {"model.conditioning": "input"}),
    "conditional conv": ("demo", {"model.conditioning": "conv"}),
    "batch norm": ("demo", {"model.norm": "batch"}),
    "vgg64": ("demo", {"model.backbone": "vgg64", "model.width": 8}),
    "skip last context": ("demo", {"model.skip": "last_context"}),
    "skip last context, align": ("demo", {"model.skip": "last_context", "model.align": True}),
    "learned prior": ("demo", {"model.prior": "learned"}),
    "latent maps": ("demo", {"model.latent_levels": 2}),
}
OPTIMAL = {"model.observation": "optimal", "kl.max_weight": 1.0}
LATENT: dict[str, tuple[str, dict[str, Any]]] = {
    "beta 1e-5": ("demo", {"kl.max_weight": 1e-5}),
    "beta 1e-5, posterior without c": ("demo", {"model.posterior_condition": False}),
    "free bits": ("demo", {"kl.free_bits": 4.0}),
    "learned prior": ("demo", {"model.prior": "learned"}),
    "learned prior, balance": ("demo", {"model.prior": "learned", "kl.balance": 0.8}),
    "sigma optimal": ("demo", OPTIMAL),
    "sigma learned": ("demo", {**OPTIMAL, "model.observation": "learned"}),
    "sigma optimal, learned prior": ("demo", {**OPTIMAL, "model.prior": "learned"}),
    "sigma optimal, latent maps": ("demo", {**OPTIMAL, "model.latent_levels": 2}),
    "sigma optimal, all": (
        "demo",
        {**OPTIMAL, "model.prior": "learned", "kl.balance": 0.8, "model.latent_levels": 2},
    ),
}
TABLES = {"family": FAMILY, "latent": LATENT}


@dataclass(frozen=True)
class Options:
    """Which runs, and how long each."""

    table: str = "family"
    """family or latent"""
    variants: tuple[str, ...] = ()
    """some of the table's variants; all if left out"""
    minutes: float = 10.0
    """training time of each"""
    data: Path = Path("data/simulated")
    """folder of the simulated clips, made where missing (seed 1)"""
    out: Path = Path("runs/equal_time")
    """a run folder a variant; a run that is there already is only evaluated"""
    clips: int = 256
    """test clips"""
    samples: int = 20
    """samples a clip for best of N"""
    threads: int = 2
    """CPU threads"""


def changed(base: Config, changes: dict[str, Any]) -> Config:
    """A config with some fields, named by their dotted paths, set anew."""
    values = base.to_dict()
    for path, value in changes.items():
        group, name = path.split(".")
        values[group][name] = value
    return from_dict(values)


def stretched(config: Config, minutes: float) -> Config:
    """The config with as many updates as fit into the minutes, in 20 epochs."""
    task = VideoTask(config, torch.device("cpu"))
    spent = {}
    for forced in (1.0, 0.0):
        weights = {"kl_weight": 1e-5, "teacher_forcing_ratio": forced}
        for number, batch in enumerate(task.batches(range(4))):
            start = time.perf_counter() if number == 1 else 0.0 if number == 0 else start
            task.losses(batch, number, weights)["loss"].backward()
        spent[forced] = (time.perf_counter() - start) / 3
    decay = config.teacher_forcing.decay_step * 20
    share = 1.0 if decay == 0 else min(1.0, 0.5 * config.teacher_forcing.start / decay)
    seconds = share * spent[1.0] + (1 - share) * spent[0.0]
    # A tenth of the time goes to the optimizer, validation and files.
    updates = max(1, math.floor(0.9 * 60 * minutes / seconds / 20))
    training = dataclasses.replace(
        config.training, epochs=20, updates_per_epoch=updates, validation_clips=64, validate_every=5
    )
    return dataclasses.replace(config, training=training)


def judged(run: Path, data: Path, clips: int, samples: int) -> dict[str, float]:
    """The figures of a run."""
    model, config = load_model(run)
    dataset = ClipDataset.from_config(
        dataclasses.replace(config.data, root=str(data)), "test", windows="first"
    )
    generator = torch.Generator().manual_seed(0)
    whole: dict[str, list[torch.Tensor]] = {}
    regions: dict[str, dict[str, list[RegionErrors]]] = {}
    spread: dict[str, list[float]] = {name: [] for name in ("rest", "arm", "moved")}
    kls = []
    with torch.inference_mode():
        for first in range(0, min(clips, len(dataset)), 16):
            batch = dataset.batch(range(first, min(first + 16, clips))).to("cpu")
            past, future = batch.frames[:, :2], batch.frames[:, 2:]
            labels = batch.labels[:, 2:]
            many = model.predict(past, batch.condition, 10, samples=samples, generator=generator)
            rollout = model.rollout(
                batch.frames, batch.condition, 2, teacher_forced=False, generator=generator
            )
            kls.append(kl_divergence(rollout.posterior, rollout.prior)[:, 1:].mean())
            made = {
                "one sample": many[:, 0],
                "repeat": past[:, -1:].expand_as(future),
                "posterior": rollout.frames[:, 1:],
                "mean of samples": many.mean(dim=1),
            }
            for name, guess in made.items():
                whole.setdefault(name, []).append(psnr(guess, future))
                for region, errors in region_errors(guess, future, labels).items():
                    regions.setdefault(name, {}).setdefault(region, []).append(errors)
            every = [region_errors(many[:, n], future, labels) for n in range(samples)]
            for region in every[0]:
                sums = torch.stack([e[region].squared.sum(1) for e in every])  # (N, B)
                count = every[0][region].count.sum(1)
                for name, squared in (("best", sums.amin(0)), ("mean sample", sums.mean(0))):
                    regions.setdefault(name, {}).setdefault(region, []).append(
                        RegionErrors(squared, count)
                    )
            deviation = many.std(dim=1).mean(dim=2)  # (B, 10, H, W)
            for label, name in enumerate(spread):
                spread[name].append(deviation[labels == label].mean().item())
            best = psnr(many, future[:, None].expand_as(many)).mean(-1).amax(1)
            whole.setdefault("best of N", []).append(best)
    told = {name: torch.cat(parts).mean().item() for name, parts in whole.items()}
    for name, table in regions.items():
        told |= {f"{name}, {region}": joined_errors(e).psnr() for region, e in table.items()}
    told |= {f"deviation, {name}": sum(v) / len(v) for name, v in spread.items()}
    told["KL"] = torch.stack(kls).mean().item()
    return told


def main(options: Options) -> None:
    """Trains, judges and prints."""
    torch.set_num_threads(options.threads)
    counts = {"train": 2048, "validate": 256, "test": 256}
    simulate_pack(options.data, 1, counts, options.threads, True)
    table = TABLES[options.table]
    rows = {}
    for name in options.variants or table:
        base, changes = table[name]
        run = options.out / options.table / name.replace(" ", "_").replace(",", "")
        config = changed(preset(base), {**changes, "data.root": options.data.as_posix()})
        if not (run / "figures.json").exists():
            config = stretched(config, options.minutes)
            train(config, run, progress=False)
            history = read_history(run)
            rows[name] = {
                "updates": float(history["updates"][-1]),
                "minutes": float(read_timing(run).sum() / 60),
                **judged(run, options.data, options.clips, options.samples),
            }
            write_whole(run / "figures.json", json.dumps(rows[name], indent=1) + "\n")
        rows[name] = json.loads((run / "figures.json").read_text(encoding="utf-8"))
        print(line(name, rows[name]), flush=True)


def line(name: str, row: dict[str, float]) -> str:
    """A row of the table."""
    return (
        f"| {name} | {row['updates']:.0f} | {row['minutes']:.1f} "
        f"| {row['one sample']:.2f} ({row['one sample'] - row['repeat']:+.2f}) "
        f"| {row['one sample, arm']:.2f} | {row['one sample, moved']:.2f} "
        f"| {row['one sample, rest']:.2f} "
        f"| {row['posterior'] - row['one sample']:+.2f} "
        f"| {row['posterior, moved'] - row['mean sample, moved']:+.2f} "
        f"| {row['best, moved'] - row['mean sample, moved']:+.2f} "
        f"| {row['KL']:.2f} | {row['deviation, rest']:.4f} | {row['deviation, moved']:.4f} |"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
