"""How fast do clips load, how does each way grow with the data set, and what memory does it take?

    python benchmarks/loading.py            some minutes on 2 cores, 20 on busy ones; 2 GB of disk
    python benchmarks/loading.py --quick    less than a minute, with smaller data sets

Compares four ways to load the same simulated clips: the starting report's data set, which joins
tensors frame by frame; the usual data set that opens 12 PNGs and 2 tables an item; ClipDataset
from folders; and ClipDataset from a pack. Then it reads a pack as large as all of BAIR, made of
holes, in shuffled batches. Every figure comes from a process of its own, so that its memory is
its own. Compare figures of one run only: the speed of machines drifts.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_all_start_methods, get_context, set_forkserver_preload
from pathlib import Path
from typing import Any

import torch
import tyro
from loading_parts.made import make_full_size, make_sizes, simulated_clips
from loading_parts.ways import BATCH, TITLES, WAYS, of_windows
from tqdm.auto import tqdm

from labkit.data.dataset import Batch, ClipDataset

FULL_SIZE = 43_264
"""training clips of BAIR"""


@dataclass(frozen=True)
class Options:
    """Compare ways to load clips."""

    quick: bool = False
    """smaller data sets and fewer repeats"""
    folder: Path | None = None
    """where to put the data while it runs; left out, the system's folder for such things"""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    distinct: int = 64
    """clips to simulate; larger data sets repeat them"""
    sizes: tuple[int, ...] = (64, 256, 1024, 4096)
    """clips of the data sets"""
    seed_sizes: tuple[int, ...] = (64, 128, 256)
    """the same for the starting report's way, whose time grows with the square"""
    compared: int = 256
    """the size at which the ways stand side by side"""
    repeats: int = 5
    """passes; their median is told"""
    slow_clips: int = 96
    """clips in a pass over PNGs"""
    fast_clips: int = 6144
    """clips in a pass over a pack"""
    full_size: int = FULL_SIZE
    """clips of the pack made of holes"""


QUICK = Plan(16, (32, 128), (16, 32), 32, 3, 48, 3072)


@dataclass(frozen=True)
class Figures:
    """What one way gave on one data set. Times are seconds of CPU time, medians of the passes."""

    clips: int
    opening: float
    """to make the data set"""
    reading: float
    """a clip, in batches of 12 as the way gives them"""
    as_floats: float
    """a clip, in batches of 12 of floats on the CPU"""
    peak: float
    """most resident memory of the process, MiB"""
    growth: float
    """how much more that is than after the imports, MiB"""


# ----------------------------------------------------------------------------- measuring


def memory() -> tuple[float, float]:
    """Resident memory of this process now, and its peak, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: its peak includes that of the process this one was started from.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak /= 2**20 if sys.platform == "darwin" else 2**10
    return peak, peak


def seconds(batches: Callable[[], Iterator[Any]], to_float: bool) -> float:
    """Seconds a clip of one pass, of CPU time: everything comes from the system's cache, so there
    is no disk to wait for, and other programs disturb this less."""
    start, clips = time.process_time(), 0
    for batch in batches():
        if isinstance(batch, Batch):
            clips += len(batch.to("cpu") if to_float else batch)
        else:  # frames, which are floats already, and conditions
            clips += len(batch[0])
    return (time.process_time() - start) / clips


def measure(way: str, data: Path, clips: int, in_a_pass: int, repeats: int) -> Figures:
    """One way on one data set."""
    torch.set_num_threads(1)
    before, _ = memory()
    start = time.process_time()
    batches = partial(WAYS[way](data), in_a_pass)
    opening = time.process_time() - start
    times = {
        to_float: statistics.median(seconds(batches, to_float) for _ in range(repeats))
        for to_float in (False, True)
    }
    _, peak = memory()
    return Figures(clips, opening, times[False], times[True], peak, peak - before)


def measure_full_size(pack: Path, clips: int) -> Figures:
    """One epoch of shuffled batches of all windows of a pack of full size, as in training."""
    torch.set_num_threads(1)
    before, _ = memory()
    start = time.process_time()
    dataset = ClipDataset(pack, "train", labels=False)
    opening = time.process_time() - start
    dataset.condition_statistics()
    reading = seconds(lambda: of_windows(dataset, clips), to_float=False)
    _, peak = memory()
    return Figures(clips, opening, reading, float("nan"), peak, peak - before)


def in_new_process(work: Callable[[], Figures], start: str) -> Figures:
    """The figures of a process that has done nothing else. `spawn` starts it from nothing;
    `forkserver` from one that has only imported, which saves seconds each time."""
    with ProcessPoolExecutor(1, mp_context=get_context(start)) as pool:
        return pool.submit(work).result()


def compare(
    plan: Plan, folder: Path, run: Callable[[Callable[[], Figures], str], Figures]
) -> tuple[dict[tuple[str, int], Figures], Figures]:
    """Makes the data and measures every way at every size, then the pack of full size."""
    clips = simulated_clips(plan.distinct)
    make_sizes(folder, clips, sorted({*plan.sizes, *plan.seed_sizes}))
    jobs = [("seed", size) for size in plan.seed_sizes]
    jobs += [(way, size) for way in ("png", "folders", "pack") for size in plan.sizes]
    quick = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    found = {}
    for way, size in tqdm(jobs, desc="measuring", unit="process"):
        in_a_pass = plan.fast_clips if way == "pack" else min(size, plan.slow_clips)
        work = partial(measure, way, folder / str(size), size, in_a_pass, plan.repeats)
        found[way, size] = run(work, quick)
    make_full_size(folder / "full", clips[0], plan.full_size)
    whole = partial(measure_full_size, folder / "full", plan.full_size)
    return found, run(whole, "spawn")


# ------------------------------------------------------------------------------ printing


def short(value: float) -> str:
    """15,592, or 0.011."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def comparison(found: dict[tuple[str, int], Figures], clips: int) -> Iterator[str]:
    """The ways side by side at one size."""
    yield f"{clips} clips of 30 frames, 64 x 64; batches of {BATCH} windows of 12 frames, shuffled"
    yield ""
    yield "| way | opening, s | clips/s | x PNG | as floats, clips/s | x PNG | peak, MiB | data |"
    yield "| --- | --: | --: | --: | --: | --: | --: | --: |"
    png = found["png", clips]
    for way, title in TITLES.items():
        one = found[way, clips]
        # The starting report's way reads everything when it opens.
        reading, floats = (
            (one.opening / clips,) * 2 if way == "seed" else (one.reading, one.as_floats)
        )
        yield (
            f"| {title} | {one.opening:.2f} "
            f"| {short(1 / reading)} | {short(png.reading / reading)} "
            f"| {short(1 / floats)} | {short(png.as_floats / floats)} "
            f"| {one.peak:.0f} | {one.growth:.0f} |"
        )
    yield ""
    again = 1 / found["seed", clips].reading
    yield "The starting report's way reads while it opens; its later epochs copy from memory,"
    yield f"{again:,.0f} clips/s. The first two ways give floats only."
    yield "Peak: resident memory of the process; data: what of it came after the imports."


def growth(found: dict[tuple[str, int], Figures]) -> Iterator[str]:
    """How time a clip and memory change with the number of clips."""
    yield "| way | clips | opening, s | time a clip, ms | memory after imports, MiB |"
    yield "| --- | --: | --: | --: | --: |"
    for way, title in TITLES.items():
        for (name, clips), one in found.items():
            if name == way:
                reading = one.opening / clips if way == "seed" else one.reading
                row = f"{clips:,} | {one.opening:.2f} | {1e3 * reading:.3f} | {one.growth:.0f}"
                yield f"| {title} | {row} |"


def full_size(one: Figures) -> Iterator[str]:
    """The pack as large as BAIR."""
    frames = one.clips * 30
    yield f"A pack of {one.clips:,} clips x 30 frames ({frames * 12288 / 1e9:.1f} GB, of holes):"
    yield f"opened in {one.opening:.2f} s, shuffled batches at {1 / one.reading:,.0f} clips/s,"
    yield f"peak resident memory {one.peak:.0f} MiB ({one.growth:.0f} after the imports)."


def report(plan: Plan, found: dict[tuple[str, int], Figures], full: Figures) -> Iterator[str]:
    """Everything that is printed."""
    yield f"{os.cpu_count()} CPU cores; CPU time of one thread, medians of {plan.repeats} passes."
    yield "These machines drift: compare within one run."
    yield f"{plan.distinct} simulated clips, repeated; a folder's files are hard links to the first"
    yield "copy, so that all PNGs come from the system's cache."
    yield ""
    yield from comparison(found, plan.compared)
    yield ""
    yield from growth(found)
    yield ""
    yield from full_size(full)


def main(options: Options) -> None:
    """Measure and print."""
    set_forkserver_preload(["labkit.data.loader", "labkit.training.data_order"])
    plan = QUICK if options.quick else Plan()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        place = tempfile.TemporaryDirectory(prefix="labkit_loading_", dir=options.folder)
        folder = Path(stack.enter_context(place))
        print("\n".join(report(plan, *compare(plan, folder, in_new_process))))


if __name__ == "__main__":
    main(tyro.cli(Options))
