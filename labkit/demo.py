"""`labkit demo`: the whole path on simulated data, from nothing to predicted frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from labkit.config import Config
from labkit.data.simulator import simulate_pack
from labkit.errors import RunError
from labkit.presets import DEMO
from labkit.reporting.evaluate_run import evaluate_run
from labkit.reporting.run_files import REPORT
from labkit.training import read_history, train
from labkit.training.checkpoint import CHECKPOINT, CONFIG
from labkit.training.run import check_minutes

CLIPS = {"train": 2048, "validate": 256, "test": 256}
"""Clips of the demo's data set."""


def run_demo(
    out: Path,
    data: Path,
    minutes: float | None = None,
    seed: int = 1,
    workers: int = 0,
    progress: bool = True,
    device: str | None = None,
    time_threads: bool = False,
) -> None:
    """Simulate (or find simulated), train (or go on, or find trained), evaluate, report.

    Args:
        out: the run's folder.
        data: folder of the simulated clips.
        minutes: limit on the training; None trains the preset's fixed number of updates.
        seed: of the clips, the weights and every draw.
        workers: processes that simulate.
        progress: show bars.
        device: where to compute; None takes a GPU if there is one.
        time_threads: choose the number of CPU threads by timing (`labkit.training.run.train`).
    Raises:
        RunError: `out` holds a run with other settings.
        DataError: `data` holds other clips.
    """
    check_minutes(minutes)
    print(f"1/3  clips of the simulated robot table, in {data}", flush=True)
    simulate_pack(data, seed, CLIPS, workers, progress)
    root = data.absolute().as_posix()
    config = dataclasses.replace(DEMO, seed=seed, data=dataclasses.replace(DEMO.data, root=root))
    if _is_trained(out, config):
        print(f"2/3  trained already; to train anew, delete {out}", flush=True)
    else:
        print(f"2/3  training, with everything kept in {out}", flush=True)
        train(
            config,
            out,
            resume=_is_begun(out),
            minutes=minutes,
            progress=progress,
            device=device,
            time_threads=time_threads,
        )
    print("3/3  predicting the test clips", flush=True)
    evaluation = evaluate_run(out, progress=progress, device=device)
    reached, baseline = (
        float(evaluation.psnr[name].mean()) for name in ("prediction", "repeat_last")
    )
    print(
        f"Look at {out / REPORT}: {reached:.2f} dB, {reached - baseline:+.2f} dB against "
        f"repeating the last frame ({evaluation.protocol})."
    )


def _is_begun(out: Path) -> bool:
    return (out / CHECKPOINT).is_file()


def _is_trained(out: Path, config: Config) -> bool:
    """Whether every update was done, with these settings."""
    if not _is_begun(out):
        return False
    found = Config.load(out / CONFIG)  # an earlier version saved the folder of the data as given
    root = Path(found.data.root).absolute().as_posix()
    if dataclasses.replace(found, data=dataclasses.replace(found.data, root=root)) != config:
        return False
    try:
        done = read_history(out)["updates"][-1]
    except (RunError, IndexError):
        return False
    return bool(done >= config.training.epochs * config.training.updates_per_epoch)
