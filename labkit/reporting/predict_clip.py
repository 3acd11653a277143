"""Predicts one clip of a folder with a run's model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from labkit.config import Config
from labkit.data import layout
from labkit.data.clip import Clip
from labkit.errors import DataError, LabkitError
from labkit.frames import to_uint8
from labkit.training import load_model
from labkit.views import save_gif
from labkit.views.episode import condition_rows


def predict_clip(
    run: Path | str,
    clip_folder: Path | str,
    out: Path | str,
    device: str = "cpu",
    horizon: int | None = None,
) -> None:
    """Predicts what follows the first frames of a clip in the course layout, and writes a GIF.

    The context frames and the actions are enough. If the true frames are there too, the GIF shows
    them beside the prediction. Positions after the context are read if the file has them, else they
    are added up from the actions.

    Args:
        run: the run's folder.
        clip_folder: the clip's folder.
        out: the GIF's file.
        device: where to compute.
        horizon: number of frames to predict; None is the run's own.
    Raises:
        RunError: the run is not there.
        DataError: context frames are missing, there are too few actions, a file cannot be read, or
            the clip lacks the positions the run needs.
        LabkitError: the horizon is below 1.
    """
    model, config = load_model(run, device)
    n_past, horizon = config.data.n_past, config.data.n_future if horizon is None else horizon
    if horizon < 1:
        raise LabkitError(f"--horizon is {horizon}", hint="give at least 1")
    folder = Path(clip_folder)
    if not folder.is_dir():
        hint = "give the folder of a clip, with 0.png, 1.png, ... and actions.csv"
        raise DataError("no such folder", file=folder, hint=hint)
    start = layout.read_start(folder, n_past, n_past + horizon)
    condition = _conditions(start, config, folder, horizon)
    context = torch.from_numpy(start.frames[None, :n_past].copy()).to(device).float() / 255
    generator = torch.Generator(device).manual_seed(config.seed)
    with torch.inference_mode():
        predicted = model.predict(
            context, torch.from_numpy(condition)[None].to(device), horizon, generator=generator
        )
    film = np.concatenate([start.frames[:n_past], to_uint8(predicted[0], clip=True)])
    complete = len(start.frames) == len(film)
    truth = {"truth": start.frames} if complete else {}
    save_gif(out, {**truth, "prediction": film}, n_past=n_past)


def _conditions(start: layout.ClipStart, config: Config, folder: Path, horizon: int) -> np.ndarray:
    """The conditions (n_past + horizon, C) of the context and of all steps."""
    data, length = config.data, config.data.n_past + horizon
    if not data.condition_size:
        return np.zeros((length, 0), np.float32)
    needed = length if config.model.condition_at == "target" else length - 1
    rows = len(start.actions)
    if rows < needed:
        most = horizon - (needed - rows)
        hint = f"give --horizon {most} or less, or more rows" if most > 0 else "give more rows"
        raise DataError(
            f"{rows} rows of actions; {data.n_past} -> {horizon} frames need {needed}",
            file=folder / "actions.csv",
            hint=hint,
        )
    # The condition of the last frame leads to no frame; it may be missing.
    actions = start.actions[[min(t, rows - 1) for t in range(length)]]
    if data.condition == "action+position":
        actions = _with_positions(start, actions, config, folder, needed)
    if actions.shape[1] != data.condition_size:
        raise DataError(
            f"its conditions have {actions.shape[1]} columns, and the run was trained with "
            f"{data.condition_size}",
            file=folder,
            hint="give a clip with the columns " + ", ".join(data.condition_columns),
        )
    return np.ascontiguousarray(actions, np.float32)


def _with_positions(
    start: layout.ClipStart, actions: np.ndarray, config: Config, folder: Path, needed: int
) -> np.ndarray:
    """Actions and positions, as measured where there are enough rows, else added up."""
    positions, n_past = start.positions, config.data.n_past
    if positions is None:
        raise DataError(
            "the clip has no end-effector positions, which the run was trained with",
            file=folder,
            hint="use a run trained with --data.condition action",
        )
    if len(positions) >= needed:
        rows = positions[[min(t, len(positions) - 1) for t in range(len(actions))]]
        return np.concatenate([actions, rows], axis=1)
    if len(positions) < n_past:
        raise DataError(
            f"{len(positions)} rows of positions; the {n_past} context frames need one each",
            file=folder / "endeffector_positions.csv",
        )
    return condition_rows(start, actions, n_past, actions.shape[1] + positions.shape[1])


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
                hint="use a run trained with --data.condition action",
            )
        condition = np.concatenate([clip.actions, clip.positions], axis=1)
    frames = torch.from_numpy(np.ascontiguousarray(clip.frames[:needed])).float() / 255
    return frames[None], torch.from_numpy(np.ascontiguousarray(condition[:needed]))[None]
