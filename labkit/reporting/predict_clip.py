"""Predicts one clip of a folder with a run's model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from labkit.config import Config
from labkit.data import layout
from labkit.data.clip import Clip
from labkit.errors import DataError
from labkit.frames import to_uint8
from labkit.training import load_model
from labkit.views import save_gif


def predict_clip(
    run: Path | str, clip_folder: Path | str, out: Path | str, device: str = "cpu"
) -> None:
    """Predicts the first window of one clip in the course layout and writes it as a GIF beside
    what happened.

    Raises:
        RunError: the run is not there.
        DataError: the clip cannot be read, is too short, or lacks the positions the run needs.
    """
    model, config = load_model(run, device)
    clip = layout.read_clip(Path(clip_folder))
    frames, condition = window_of(clip, config, clip_folder)
    n_past, horizon = config.data.n_past, config.data.n_future
    generator = torch.Generator(device).manual_seed(config.seed)
    frames, condition = frames.to(device), condition.to(device)
    with torch.inference_mode():
        predicted = model.predict(frames[:, :n_past], condition, horizon, generator=generator)
    truth = to_uint8(frames[0], clip=True)
    rows = {
        "truth": truth,
        "prediction": np.concatenate([truth[:n_past], to_uint8(predicted[0], clip=True)]),
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
                hint="use a run trained with --data.condition action",
            )
        condition = np.concatenate([clip.actions, clip.positions], axis=1)
    frames = torch.from_numpy(np.ascontiguousarray(clip.frames[:needed])).float() / 255
    return frames[None], torch.from_numpy(np.ascontiguousarray(condition[:needed]))[None]
