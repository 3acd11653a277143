"""From a trained run to what people look at: figures in numbers, curves, strips, GIFs, a page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from labkit.config import Config
from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.dataset import ClipDataset
from labkit.errors import DataError, LabkitError
from labkit.evaluation import Evaluation, evaluate
from labkit.evaluation.protocol import to_uint8
from labkit.files import write_whole
from labkit.learning import load_model, read_history
from labkit.views import (
    figure_png,
    filmstrip,
    gif_bytes,
    png_bytes,
    psnr_over_time,
    save_gif,
    training_curves,
    write_report,
)

EVALUATION = "evaluation.json"
REPORT = "report.html"
NOTES = (
    "The clips below are the first of the split; none was chosen.",
    "Posterior reconstructions see the frame they are to make: they are an upper reference, "
    "not predictions.",
)


def evaluate_run(
    run: Path | str,
    split: str = "test",
    clips: int | None = None,
    progress: bool = True,
    windows: Literal["first", "all"] = "first",
    data: Path | str | None = None,
) -> Evaluation:
    """Judges a run on a split and writes `evaluation.json`, `figures/`, `gifs/`, `report.html`.

    Args:
        run: the run's folder.
        split: whose clips to predict.
        clips: how many; None is all.
        progress: show bars.
        windows: the first window of each clip, or every one.
        data: another data set's folder; None takes the run's own.
    Raises:
        RunError: the run is not there, or not finished enough to be judged.
        DataError: the data set or the split is not there, or does not fit the run.
    """
    run = Path(run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if clips is not None and clips < 1:
        raise LabkitError(f"clips is {clips}", mend="give at least 1, or leave it out for all")
    model, config = load_model(run, device)
    dataset = ClipDataset(
        data or config.data.root,
        split,
        n_past=config.data.n_past,
        n_future=config.data.n_future,
        condition=config.data.condition,
        windows=windows,
    )
    evaluation = evaluate(
        model, dataset, seed=config.seed, clips=clips, progress=progress, device=device
    )
    evaluation.save(run / EVALUATION)
    options = [f"--split {split}"] if split != "test" else []
    options += [f"--clips {clips}"] if clips is not None else []
    options += [f"--windows {windows}"] if windows != "first" else []
    options += [f"--data {data}"] if data is not None else []
    write_views(run, evaluation, config, " ".join(["labkit evaluate", run.as_posix(), *options]))
    return evaluation


def write_views(run: Path, evaluation: Evaluation, config: Config, command: str) -> None:
    """Draws an evaluation into the run's `figures/`, `gifs/` and `report.html`."""
    figures = {
        "training": figure_png(training_curves(read_history(run))),
        "psnr": figure_png(psnr_over_time(evaluation.psnr, evaluation.n_past, evaluation.protocol)),
        "ssim": figure_png(
            psnr_over_time(evaluation.ssim, evaluation.n_past, evaluation.protocol, quantity="SSIM")
        ),
    }
    gifs, strips = {}, {}
    for index in range(len(evaluation.examples["truth"])):
        rows = {name: frames[index] for name, frames in evaluation.examples.items()}
        name = f"clip {index}"
        gifs[name] = gif_bytes(rows, n_past=evaluation.n_past)
        strips[name] = png_bytes(filmstrip(rows, n_past=evaluation.n_past))
    _write_all(run / "figures", {f"{name}.png": data for name, data in figures.items()})
    _write_all(
        run / "figures", {f"{name.replace(' ', '_')}.png": data for name, data in strips.items()}
    )
    _write_all(run / "gifs", {f"{name.replace(' ', '_')}.gif": data for name, data in gifs.items()})
    write_report(
        run / REPORT,
        title=f"Run {run.name}",
        protocol=evaluation.protocol,
        psnr=evaluation.psnr,
        ssim=evaluation.ssim,
        n_past=evaluation.n_past,
        figures={
            "PSNR of every predicted time step": figures["psnr"],
            "SSIM of every predicted time step": figures["ssim"],
            "Losses, PSNR, KL weight and teacher-forcing ratio": figures["training"],
        },
        gifs=gifs,
        strips=strips,
        config=config.to_dict(),
        command=command,
        notes=NOTES,
    )


def predict_clip(run: Path | str, clip_folder: Path | str, out: Path | str) -> None:
    """Predicts the first window of one clip in the course layout and writes it as a GIF beside
    what happened.

    Raises:
        RunError: the run is not there.
        DataError: the clip cannot be read, is too short, or lacks the positions the run needs.
    """
    model, config = load_model(run)
    clip = layout.read_clip(Path(clip_folder))
    frames, condition = window_of(clip, config, clip_folder)
    n_past, horizon = config.data.n_past, config.data.n_future
    generator = torch.Generator().manual_seed(config.seed)
    with torch.inference_mode():
        predicted = model.predict(frames[:, :n_past], condition, horizon, generator=generator)
    truth = to_uint8(frames[0])
    rows = {
        "truth": truth,
        "prediction": np.concatenate([truth[:n_past], to_uint8(predicted[0])]),
    }
    save_gif(out, rows, n_past=n_past)


def window_of(clip: Clip, config: Config, name: Path | str) -> tuple[torch.Tensor, torch.Tensor]:
    """The first window of a clip as a batch of one: frames (1, T, 3, H, W) in [0, 1] and
    condition (1, T, C).

    Raises:
        DataError: the clip is too short, or lacks the positions the run needs.
    """
    needed = config.data.n_frames
    if len(clip.frames) < needed:
        raise DataError(
            f"the clip has {len(clip.frames)} frames; the run needs {needed}", file=name
        )
    condition = clip.actions[:, : config.data.condition_size]
    if config.data.condition == "action+position":
        if clip.positions is None:
            raise DataError(
                "the clip has no end-effector positions, which the run was trained with",
                file=name,
                mend="use a run trained with --data.condition action",
            )
        condition = np.concatenate([clip.actions, clip.positions], axis=1)
    frames = torch.from_numpy(np.ascontiguousarray(clip.frames[:needed])).float() / 255
    return frames[None], torch.from_numpy(np.ascontiguousarray(condition[:needed]))[None]


def _write_all(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        write_whole(folder / name, data)
