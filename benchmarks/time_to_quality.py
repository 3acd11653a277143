"""How much sooner does labkit's recipe predict as well as the course's, and how far ahead is it?

    python benchmarks/time_to_quality.py              41 minutes of training, and the judging
    python benchmarks/time_to_quality.py --minutes 2  a first idea

Three trainings, one after another, on the same simulated clips with the same seed:

- the course's recipe, with its network at half width, so that it gets anywhere on a CPU: the
  preset `course` with 32 channels, trained the course's way (as in `training.py`) with a constant
  learning rate, its KL weight and teacher forcing stretched over the minutes;
- ours, the preset `demo`, as `labkit train` does it, its schedules stretched over the minutes, of
  which the arm's picture alone takes its share at the beginning;
- the same, stretched over a 20th of them.

At times that are the same for all, each predicts the first validation clips: 2 -> 10 frames,
free-running, one sample from the prior, not best of N; PSNR per frame over all pixels and
channels, averaged over frames and clips. The clock counts training and the reading of clips, and
stands still while predictions are judged. Files and picture are left in the folder `--out`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from training_parts.curves import GRID, Curve
from training_parts.picture import curves_png
from training_parts.recipes import follow_course, follow_ours
from training_parts.summary import Finding, keep

from labkit.config import Config
from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.files import write_whole
from labkit.presets import SMOKE, preset

COURSE, OURS, SHORT = "the course's recipe", "ours", "ours, in a 20th of the time"
COUNTS = {"train": 2048, "validate": 256, "test": 256}


@dataclass(frozen=True)
class Options:
    """Follow both recipes."""

    minutes: float = 20.0
    """training time of each"""
    data: Path = Path("data/simulated")
    """folder of the simulated clips, made where missing"""
    out: Path = Path("runs/time_to_quality")
    """where the curves are left, as JSON and as a picture"""
    clips: int = 64
    """validation clips"""
    width: int = 32
    """channels of the course's network; 64 is its own"""
    seed: int = 1
    """of the weights, the order of the clips and all draws"""
    quick: bool = False
    """networks of a few channels on a few clips, for 9 seconds: shows that it works"""
    threads: int = 2
    """CPU threads"""
    device: str | None = None
    """cpu or cuda; left out, a GPU where there is one"""


def recipes(options: Options) -> tuple[Config, Config]:
    """The course's and ours."""
    course, ours = preset("course"), SMOKE if options.quick else preset("demo")
    small = {"width": 4, "encoding_size": 16, "hidden_size": 16} if options.quick else {}
    model = dataclasses.replace(course.model, **{"width": options.width, **small})
    course = dataclasses.replace(course, model=model)
    return tuple(
        dataclasses.replace(
            each,
            seed=options.seed,
            data=dataclasses.replace(each.data, root=options.data.as_posix()),
        )
        for each in (course, ours)
    )


def make_pictures(root: Path, folder: Path) -> None:
    """The training clips' first frames as PNGs, unless they are there."""
    if (folder / "train").exists():
        return
    dataset = ClipDataset(root, "train", windows="first", labels=False)
    layout.write_split(
        folder,
        "train",
        (first_of(dataset.clip(n), dataset.n_frames) for n in range(len(dataset))),
        progress=True,
    )


def first_of(clip: Clip, count: int) -> Clip:
    """The first frames of a clip."""
    parts = {kind: getattr(clip, kind)[:count] for kind in ("frames", "actions", "positions")}
    return Clip(**parts, name=clip.name)


def follow(options: Options) -> dict[str, Curve]:
    """Makes the data and trains all three, telling of each when it is done."""
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    course, ours = recipes(options)
    seconds = 60 * options.minutes
    pictures = options.out / f"pictures_of_{options.data.name}"
    make_pictures(options.data, pictures)
    curves = {}
    for title, train in {
        SHORT: lambda: follow_ours(ours, seconds / 20, options.clips, device),
        OURS: lambda: follow_ours(ours, seconds, options.clips, device),
        COURSE: lambda: follow_course(course, pictures / "train", seconds, options.clips, device),
    }.items():
        curves[title] = train()
        curve = curves[title]
        print(f"{title}: {curve.updates[-1]:,} updates, {curve.psnr[-1]:.2f} dB", flush=True)
    return {title: curves[title] for title in (COURSE, OURS, SHORT)}


# ------------------------------------------------------------------------------------- printing


def report(curves: Mapping[str, Curve], seconds: float) -> Iterator[str]:
    """Everything that is printed."""
    yield f"| time of training | {' | '.join(curves)} | ours ahead, dB |"
    yield "| --: |" + " --: |" * (len(curves) + 1)
    rows = {clock(s): [curve.at(s) for curve in curves.values()] for s in GRID if s < seconds}
    rows[f"{clock(seconds)}, or at its end"] = [curve.psnr[-1] for curve in curves.values()]
    for when, (theirs, own, short) in rows.items():
        cells = " | ".join(map(decibels, (theirs, own, short, own - theirs)))
        yield f"| {when} | {cells} |"
    updates = " | ".join(f"{curve.updates[-1]:,}" for curve in curves.values())
    yield f"| updates | {updates} | |"
    yield ""
    for what, found, _ in findings(curves, seconds):
        yield f"- {what}: {found}"


def findings(curves: Mapping[str, Curve], seconds: float) -> Iterator[Finding]:
    """What was aimed at, beside what was found; the aims are those of 20 minutes."""
    course, whole = curves[COURSE], 60 * 20
    best = course.best
    reached = course.first(best)
    aimed = seconds == whole
    for title in (OURS, SHORT):
        first = curves[title].first(best)
        found = f"not reached; {curves[title].best:.2f} dB at most"
        if math.isfinite(first):
            found = f"after {clock(first)}, {reached / first:.3g} x sooner"
        yield (
            f"the course recipe's best, {best:.2f} dB after {clock(reached)}: {title}",
            found,
            "under 1 min" if aimed else "",
        )
    ahead = curves[OURS].psnr[-1] - course.psnr[-1]
    yield f"ours ahead after {clock(seconds)}", f"{ahead:+.2f} dB", "+4 dB" if aimed else ""


def clock(seconds: float) -> str:
    """40 s, or 1.5 min."""
    return f"{seconds:.3g} s" if seconds < 60 else f"{seconds / 60:.3g} min"


def decibels(value: float) -> str:
    """21.53; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def main(options: Options) -> None:
    """Trains, prints and draws."""
    torch.set_num_threads(options.threads)
    counts = COUNTS
    if options.quick:
        counts = {"train": 16, "validate": 4}
        out = options.out / "quick"
        options = dataclasses.replace(options, minutes=0.15, clips=4, data=out / "clips", out=out)
    simulate_pack(options.data, 1, counts, options.threads, True)
    curves = follow(options)
    seconds = 60 * options.minutes
    print("\n".join(["", *report(curves, seconds)]))
    values = {title: dataclasses.asdict(curve) for title, curve in curves.items()}
    write_whole(options.out / "curves.json", json.dumps(values, indent=1) + "\n")
    protocol = (
        f"{options.clips} validation clips, 2 -> 10 frames, free-running, one sample from the prior"
    )
    write_whole(options.out / "curves.png", curves_png(curves, COURSE, protocol))
    print(f"\ncurves: {options.out / 'curves.json'}, {options.out / 'curves.png'}")
    if not options.quick:
        command = " ".join(["python benchmarks/time_to_quality.py", *sys.argv[1:]])
        keep("time_to_quality", command, list(findings(curves, seconds)))


if __name__ == "__main__":
    main(tyro.cli(Options))
