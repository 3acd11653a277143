"""How much faster does labkit train than the course's way, and how close is it to the machine?

    python benchmarks/training.py            some minutes on 2 idle CPU cores
    python benchmarks/training.py --quick    small networks: shows that it works

The same architecture (the preset `course`) and batch, trained (i) the course's way: frame by
frame, every frame encoded anew at every step, fp32, PyTorch's default memory layout, plain Adam,
clips one at a time from PNGs; and (ii) ours, as `labkit train` does it on this device: time folded
into the batch, each known frame encoded once, clips from a pack, and what the device's defaults
are (the line printed says which). On a CPU also (iii) the preset `demo`; on a GPU also larger
batches, until the memory is full. Both with true frames fed (teacher forced) and free-running.

Each row comes from a process of its own, so that its memory is its own. Operations are counted
from the shapes (matrix products and convolutions, forward and backward); the device's rate is that
of a large matrix product in the same precision (fp32 convolutions on a newer Nvidia GPU are TF32
by PyTorch's default, and so is then that product), measured in the same process. Compare figures of
one run only: the speed of machines drifts.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_all_start_methods, get_context, set_forkserver_preload
from pathlib import Path

import torch
import tyro
from loading_parts.made import make_full_size, simulated_clips
from tqdm.auto import tqdm
from training_parts.measuring import Figures, Job, measure, operations
from training_parts.summary import FOLDER, Finding, keep

from labkit.config import Config
from labkit.data import layout
from labkit.data.pack import write_pack
from labkit.presets import SMOKE, preset
from labkit.training.schedules import teacher_forcing_ratio

SIZES = (256, 4096)
"""clips of the data sets whose steps are compared"""
FED = {True: "teacher forced", False: "free-running"}


@dataclass(frozen=True)
class Options:
    """Compare ways to train."""

    quick: bool = False
    """networks of a few channels, and fewer steps"""
    batch: int = 12
    """clips in a batch of the course's architecture"""
    batches: tuple[int, ...] = (48, 192, 768)
    """on a GPU: larger ones for ours"""
    steps: int | None = None
    """steps that are timed, their median told; left out, 3 on a CPU and 60 on a GPU"""
    clips: int = 64
    """clips to simulate"""
    threads: int = 2
    """CPU threads"""
    device: str | None = None
    """cpu or cuda; left out, a GPU where there is one"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    job: Job


# ------------------------------------------------------------------------------ what to measure


def rows_of(options: Options, data: Path) -> list[Row]:
    """What is measured: each way teacher forced and free-running, the course's way first."""
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    steps = options.steps or (3 if device == "cpu" else 60)
    course, demo = preset("course"), preset("demo")
    if options.quick:
        small = dataclasses.replace(course.model, width=4, encoding_size=16, hidden_size=16)
        course, demo = dataclasses.replace(course, model=small), SMOKE
    course = with_batch(course, options.batch, data)
    demo = with_batch(demo, demo.training.batch_size, data)
    plan = [("course, the course's way", course, True), ("course, ours", course, False)]
    if device == "cpu":
        plan.append(("demo, ours", demo, False))
    else:
        plan += [("course, ours", with_batch(course, b, data), False) for b in options.batches]
    return [
        Row(name, Job(config, forced, course_way, steps, options.threads, device))
        for forced in (True, False)
        for name, config, course_way in plan
    ]


def with_batch(config: Config, batch: int, data: Path) -> Config:
    """A config with that batch and data, judged on the clips it is trained with: the judging is
    not timed."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(data), validation_split="train"),
        training=dataclasses.replace(config.training, batch_size=batch),
    )


def size_rows(options: Options, data: Path, like: Row) -> list[Row]:
    """A row's network on data sets of other sizes, teacher forced and not compiled."""
    training = dataclasses.replace(like.job.config.training, compile="off")
    rows = []
    for size in SIZES:
        config = with_batch(like.job.config, training.batch_size, data / str(size))
        config = dataclasses.replace(config, training=training)
        steps = 2 * (options.steps or 20)
        job = dataclasses.replace(like.job, config=config, teacher_forced=True, steps=steps)
        rows.append(Row(f"{size:,} clips", job))
    return rows


def make_data(folder: Path, count: int) -> None:
    """Simulated clips as folders and as a pack; and data sets of other sizes, made of holes."""
    clips = simulated_clips(count)
    layout.write_split(folder / "folders", "train", clips)
    write_pack(folder / "pack", {"train": clips}, "simulated")
    for size in SIZES:
        make_full_size(folder / str(size) / "pack", clips[0], size)


def in_new_process(work: Callable[[], Figures | None]) -> Figures | None:
    """The figures of a process that has done nothing else but import."""
    start = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(1, mp_context=get_context(start)) as pool:
        return pool.submit(work).result()


# ------------------------------------------------------------------------------------- printing

Measured = list[tuple[Row, Figures | None]]
"""rows with their figures, None where memory did not suffice"""


def report(found: Measured, sizes: Measured) -> Iterator[str]:
    """Everything that is printed."""
    device = found[0][0].job.device
    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPU cores"
    yield f"{where}, {found[0][0].job.threads} threads of the CPU; windows of 12 frames, 2 -> 10."
    for name in dict.fromkeys(row.name for row, _ in found):
        yield f"{name}: {next(one.how for row, one in found if row.name == name and one)}"
    yield ""
    yield (
        "| what | fed | batch | s a step | clips/s | x the course's way | peak memory, MiB "
        "| GFLOP a clip | GFLOP/s | of the rate |"
    )
    yield "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    for row, one in found:
        batch = row.job.config.training.batch_size
        start = f"| {row.name} | {FED[row.job.teacher_forced]} | {batch} "
        if one is None:
            yield f"{start}| does not fit into the memory | | | | | | |"
            continue
        yield (
            f"{start}| {short(one.seconds)} | {short(one.clips)} "
            f"| {short(one.clips / base(found, row).clips)} | {one.peak:,.0f} "
            f"| {short(one.operations / one.batch / 1e9)} "
            f"| {short(one.operations / one.seconds / 1e9)} | {100 * one.share:.0f} % |"
        )
    yield ""
    told = [f"{row.name} {short(one.seconds)} s" for row, one in sizes if one]
    yield f"A step by size of the data set: {', '.join(told)}."


def base(found: Measured, row: Row) -> Figures:
    """The course's way, fed as that row."""
    for other, one in found:
        if other.job.course_way and other.job.teacher_forced == row.job.teacher_forced and one:
            return one
    raise ValueError("the course's way was not measured")


def short(value: float) -> str:
    """1,559, or 15.6, or 0.011."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def findings(found: Measured, sizes: Measured) -> Iterator[Finding]:
    """What was aimed at, beside what was found."""
    cuda = found[0][0].job.device == "cuda"
    first = found[0][0].job.config.training.batch_size
    ours = [(row, one) for row, one in found if one and not row.job.course_way]
    for row, one in ours:
        ratio = one.clips / base(found, row).clips
        what = f"{row.name}, {FED[row.job.teacher_forced]}, batch {one.batch}"
        aim = "30 x" if row.name.startswith("demo") else "1.4 x"
        if cuda:
            aim = "8 x" if one.batch == first else "20 x at the batch that fills the chip"
        yield f"{what}: clips/s, the course's way = 1", f"{ratio:.3g} x", aim
        if cuda and one.batch != first:
            yield f"{what}: share of the rate", f"{100 * one.share:.0f} %", "35 %"
    pair = {
        row.job.teacher_forced: one.seconds
        for row, one in ours
        if one.batch == first and row.name.startswith("course")
    }
    if cuda and len(pair) == 2:
        yield "the whole schedule of 300 x 600 updates, but for judging", whole(pair), "30 min"
    seconds = [one.seconds for _, one in sizes if one]
    if len(seconds) == len(SIZES):
        what = f"a step over {SIZES[1]:,} clips, over {SIZES[0]} = 1"
        yield what, f"{seconds[1] / seconds[0]:.2f} x", "1 x"


def whole(seconds: dict[bool, float]) -> str:
    """Minutes of the course's whole training, whose ratio of teacher forcing falls on its way."""
    config = preset("course")
    epochs = config.training.epochs
    ratios = [teacher_forcing_ratio(epoch, config.teacher_forcing) for epoch in range(epochs)]
    share = sum(ratios) / epochs
    mean = share * seconds[True] + (1 - share) * seconds[False]
    return f"{epochs * config.training.updates_per_epoch * mean / 60:,.0f} min"


def compare(
    options: Options, folder: Path, run: Callable[[Callable[[], Figures | None]], Figures | None]
) -> tuple[Measured, Measured]:
    """Makes the data and measures every row, then the data sets of other sizes."""
    make_data(folder, options.clips)
    rows = rows_of(options, folder)
    more = size_rows(options, folder, rows[-1] if rows[-1].name.startswith("demo") else rows[1])
    pairs = []
    for row in tqdm([*rows, *more], desc="measuring"):
        pairs.append((row, run(partial(measure, row.job, operations(row.job)))))
    return pairs[: len(rows)], pairs[len(rows) :]


def main(options: Options) -> None:
    """Measures and prints."""
    set_forkserver_preload(["labkit.training.setup", "labkit.training.loop"])
    with tempfile.TemporaryDirectory(prefix="labkit_training_") as folder:
        found, sizes = compare(options, Path(folder), in_new_process)
    print("\n".join(report(found, sizes)))
    if not options.quick:
        command = " ".join(["python benchmarks/training.py", *sys.argv[1:]])
        keep("training", command, list(findings(found, sizes)), FOLDER)


if __name__ == "__main__":
    main(tyro.cli(Options))
