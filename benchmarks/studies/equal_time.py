"""Which choices help at equal training time?

    python benchmarks/studies/equal_time.py --plan          first, with nothing else running
    python benchmarks/studies/equal_time.py                 then, for hours
    python benchmarks/studies/equal_time.py --table latent  the same of the remedies for the latent
    python benchmarks/studies/equal_time.py --table scene   the same of the parts of the scene
    python benchmarks/studies/equal_time.py --runs runs/a runs/b    the rows of runs that are there

Each variant is trained for as many updates as fit into the minutes, with its schedules stretched
over them, on the same simulated clips with the same seed; then it predicts the test clips. A
slower variant gets fewer updates. How many fit is measured for all variants at once and kept in
`plan.json`; the trainings after that need no quiet machine, can be stopped between two variants,
and can run side by side (`--variants`, `--threads 1`): the plan stays that of `--threads 2`.

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

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.evaluation.metrics import psnr
from labkit.evaluation.regions import RegionErrors, joined_errors, region_errors
from labkit.experiments.questions import changed
from labkit.files import write_whole
from labkit.model import kl_divergence
from labkit.presets import preset
from labkit.training import read_history
from labkit.training.checkpoint import load_model
from labkit.training.loss_step import batch_losses
from labkit.training.run import train
from labkit.training.schedules import teacher_forcing_ratio
from labkit.training.setup import TrainingSetup

# Each variant: a preset, and what is changed in it.
Changes = tuple[str, dict[str, Any]]
FIXED = {"model.observation": "fixed", "kl.max_weight": 1e-4}
FAMILY: dict[str, Changes] = {
    "layer": ("layer", {}),
    "course": ("course", {}),
    "svg": ("svg", {"training.batch_size": 12}),
    "flow without a layer": ("layer", {"model.output": "flow"}),
    "CDNA": ("layer", {"model.output": "cdna"}),
    "painted output": ("layer", {"model.output": "sigmoid"}),
    "condition to the predictor alone": ("layer", {"model.conditioning": "input"}),
    "conditional convolution": ("layer", {"model.conditioning": "conv"}),
    "LSTM": ("layer", {"model.predictor": "lstm", "model.predictor_layers": 2}),
    "batch norm": ("layer", {"model.norm": "batch"}),
    "skips of the last context frame": ("layer", {"model.skip": "last_context"}),
    "the same, aligned": ("layer", {"model.skip": "last_context", "model.align": True}),
    "learned prior": ("layer", {"model.prior": "learned"}),
    "fixed variance, beta 1e-4": ("layer", FIXED),
    "vgg64": ("layer", {"model.backbone": "vgg64", "model.width": 8}),
}
LATENT: dict[str, Changes] = {
    "fixed variance, beta 1e-4": ("layer", FIXED),
    "posterior without c": ("layer", {**FIXED, "model.posterior_condition": False}),
    "8 free bits": ("layer", {**FIXED, "kl.free_bits": 8.0}),
    "learned prior, balance 0.8": (
        "layer",
        {**FIXED, "model.prior": "learned", "kl.balance": 0.8},
    ),
    "sigma optimal (layer)": ("layer", {}),
    "sigma learned": ("layer", {"model.observation": "learned"}),
    "latent maps": ("latent", {"kl.hybrid": 0.0}),
    "latent maps, half of the clips blind": ("latent", {"kl.hybrid": 0.5}),
}
DEMO_SCENE = dataclasses.asdict(preset("demo").model.scene)
SCENE: dict[str, Changes] = {
    "demo": ("demo", {}),
    "arm not trained alone": ("demo", {"training.arm_updates": 0}),
    "no place maps": ("demo", {"model.places": False}),
    "no start at what moves": (
        "demo",
        {"model.scene": {**DEMO_SCENE, "motion_start": False, "picture_start": False}},
    ),
    "no picture of the arm": ("demo", {"model.scene": {**DEMO_SCENE, "arm": False}}),
    "no change of light": (
        "demo",
        {"model.scene": {**DEMO_SCENE, "arm_light": False, "table_light": False}},
    ),
}
TABLES = {"family": FAMILY, "latent": LATENT, "scene": SCENE}


@dataclass(frozen=True)
class Options:
    """Which runs, and how long each."""

    table: str = "family"
    """family or latent, whose variants change the preset layer; or scene, whose change the demo"""
    variants: tuple[str, ...] = ()
    """some of the table's variants; all if left out"""
    minutes: float = 10.0
    """training time of each"""
    runs: tuple[Path, ...] = ()
    """judge these run folders instead, however they were trained, and print their rows"""
    plan: bool = False
    """measure how many updates fit, write plan.json, and stop"""
    data: Path = Path("data/simulated")
    """folder of the simulated clips, made where missing (seed 1)"""
    out: Path = Path("runs/equal_time")
    """a run folder a variant; one that was begun goes on, one that is judged is only printed"""
    clips: int = 256
    """test clips"""
    samples: int = 20
    """samples a clip for best of N"""
    threads: int = 2
    """CPU threads"""


EPOCHS, FEW = 20, 200
"""epochs of a training, and how many updates are too few for them: such a one has an epoch an
update"""
SLOW = 5.0
"""seconds of a step that need no second look"""


def updates_in(config: Config, minutes: float) -> int:
    """How many updates fit into the minutes."""
    start = time.perf_counter()
    setup = TrainingSetup(config, torch.device("cpu"))
    beforehand = time.perf_counter() - start  # the arm's picture alone is trained here
    spent = {}
    for forced in (1.0, 0.0):
        schedule = {"kl_weight": 1e-5, "teacher_forcing_ratio": forced}
        times = []
        for number, batch in enumerate(setup.batches(range(6))):
            start = time.perf_counter()
            batch_losses(setup, batch, number, schedule)["loss"].backward()
            times.append(time.perf_counter() - start)
            if times[-1] > SLOW:
                break
        spent[forced] = sorted(times)[len(times) // 2]
    forcing = stretched(config, FEW).teacher_forcing
    share = sum(teacher_forcing_ratio(epoch, forcing) for epoch in range(EPOCHS)) / EPOCHS
    seconds = share * spent[1.0] + (1 - share) * spent[0.0]
    # A tenth of the time goes to the optimizer, validation and files.
    count = math.floor((0.9 * 60 * minutes - beforehand) / seconds)
    return max(1, count if count < FEW else count // EPOCHS * EPOCHS)


def read_plan(file: Path) -> dict[str, int]:
    """What is planned already."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def stretched(config: Config, updates: int) -> Config:
    """The config with so many updates, in which teacher forcing ends as early, for its length, as
    in a whole training."""
    epochs = EPOCHS if updates >= FEW else updates
    training = dataclasses.replace(
        config.training,
        epochs=epochs,
        updates_per_epoch=updates // epochs,
        validation_clips=64,
        validate_every=max(1, epochs // 4),
    )
    forcing = config.teacher_forcing
    faster = min(1.0, forcing.decay_step * config.training.epochs / epochs)
    forcing = dataclasses.replace(forcing, decay_step=faster)
    return dataclasses.replace(config, training=training, teacher_forcing=forcing)


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
    """Plans, or trains, judges and prints."""
    torch.set_num_threads(options.threads)
    counts = {"train": 2048, "validate": 256, "test": 256}
    simulate_pack(options.data, 1, counts, options.threads, True)
    for run in options.runs:
        row = updates_of(run) | judged(run, options.data, options.clips, options.samples)
        print(line(run.name, row), flush=True)
    if options.runs:
        return
    root = {"data.root": options.data.as_posix()}
    table = TABLES[options.table]
    configs = {name: changed(preset(base), {**new, **root}) for name, (base, new) in table.items()}
    chosen = options.variants or tuple(table)
    plan_file = options.out / options.table / "plan.json"
    if options.plan:
        plan = read_plan(plan_file)
        for name in chosen:
            plan[name] = updates_in(configs[name], options.minutes)
            print(f"{name}: {plan[name]} updates", flush=True)
            write_whole(plan_file, json.dumps(plan, indent=1) + "\n")
        return
    plan = read_plan(plan_file)
    missing = [name for name in chosen if name not in plan]
    if missing:
        raise SystemExit(f"{plan_file} lacks {', '.join(missing)}: add --plan first")
    for name in chosen:
        run = plan_file.parent / name.replace(" ", "_").replace(",", "").replace(":", "")
        if not (run / "figures.json").exists():
            config = stretched(configs[name], plan[name])
            train(config, run, progress=False, resume=True)
            figures = judged(run, options.data, options.clips, options.samples)
            row = updates_of(run) | figures
            write_whole(run / "figures.json", json.dumps(row, indent=1) + "\n")
        print(line(name, json.loads((run / "figures.json").read_text("utf-8"))), flush=True)


def updates_of(run: Path) -> dict[str, float]:
    """How long it was trained."""
    return {"updates": float(read_history(run)["updates"][-1])}


def line(name: str, row: dict[str, float]) -> str:
    """A row of the table."""
    return (
        f"| {name} | {row['updates']:.0f}"
        f" | {row['one sample']:.2f} ({row['one sample'] - row['repeat']:+.2f}) "
        f"| {row['one sample, arm']:.2f} | {row['one sample, moved']:.2f} "
        f"| {row['one sample, rest']:.2f} "
        f"| {row['posterior'] - row['one sample']:+.2f} "
        f"| {row['posterior, moved'] - row['mean sample, moved']:+.2f} "
        f"| {row['best, moved'] - row['mean sample, moved']:+.2f} "
        f"| {row['KL']:.2f} | {row['deviation, rest']:.4f} | {row['deviation, moved']:.4f} |"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
