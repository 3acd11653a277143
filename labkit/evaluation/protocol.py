"""How a model is judged: from n_past context frames and the conditions it predicts the horizon,
free-running, with one sample from the prior, and is scored frame by frame."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from labkit.data.dataset import Batch, ClipDataset
from labkit.errors import RunError
from labkit.evaluation.metrics import psnr, ssim
from labkit.files import write_whole
from labkit.model import VideoCVAE

METHODS = ("prediction", "repeat_last", "posterior")
"""What is scored: the model's prediction; the last context frame repeated, which is the figure
to beat; and the posterior's reconstruction, which sees the target and is no prediction."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of every clip and time step, and a few clips to look at."""

    protocol: str
    """one sentence: data, context, horizon, samples, best-of-N or not, how PSNR is averaged"""
    n_past: int
    psnr: dict[str, Float[np.ndarray, "N horizon"]]
    """dB, for each of METHODS"""
    ssim: dict[str, Float[np.ndarray, "N horizon"]]
    examples: dict[str, np.ndarray]
    """"truth", "prediction" and "posterior" of the first clips, uint8 (K, T, 3, H, W), the
    context frames in front of each"""

    @property
    def clips(self) -> int:
        """Number of clips judged."""
        return len(self.psnr["prediction"])

    def summary(self) -> dict[str, Any]:
        """The figures averaged over clips: each method's mean and its value at each step."""
        return {
            "protocol": self.protocol,
            "clips": self.clips,
            "n_past": self.n_past,
            **{
                metric: {
                    method: {
                        "mean": round(float(values.mean()), digits),
                        "per_step": [round(float(v), digits) for v in values.mean(axis=0)],
                    }
                    for method, values in table.items()
                }
                for metric, table, digits in (("psnr", self.psnr, 3), ("ssim", self.ssim, 4))
            },
        }

    def save(self, file: Path | str) -> None:
        """Writes the summary as JSON, and all figures and examples beside it as .npz."""
        file = Path(file)
        arrays = {f"psnr.{name}": values for name, values in self.psnr.items()}
        arrays |= {f"ssim.{name}": values for name, values in self.ssim.items()}
        arrays |= {f"examples.{name}": values for name, values in self.examples.items()}
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        write_whole(file.with_suffix(".npz"), packed.getvalue())
        write_whole(file, json.dumps(self.summary(), indent=1) + "\n")

    @staticmethod
    def load(file: Path | str) -> Evaluation:
        """Reads what `save` wrote.

        Raises:
            RunError: there is no evaluation there, or half of one.
        """
        file = Path(file)
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            with np.load(file.with_suffix(".npz")) as arrays:
                tables: dict[str, dict[str, np.ndarray]] = {}
                for key in arrays.files:
                    kind, _, name = key.partition(".")
                    tables.setdefault(kind, {})[name] = arrays[key]
            return Evaluation(told["protocol"], told["n_past"], **tables)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"no readable evaluation: {error}", file=file, mend="run labkit evaluate"
            ) from None


def evaluate(
    model: VideoCVAE,
    dataset: ClipDataset,
    *,
    seed: int = 0,
    clips: int | None = None,
    batch_size: int = 32,
    keep: int = 4,
    progress: bool = True,
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Judges a model on the windows of a data set.

    Args:
        model: in evaluation mode.
        dataset: its windows are judged in order.
        seed: of the prior's samples.
        clips: how many windows to judge; None is all.
        batch_size: windows predicted together.
        keep: how many to keep as examples.
        progress: show a bar.
        device: where to compute.
    """
    tables: dict[str, dict[str, list[Tensor]]] = {
        "psnr": {name: [] for name in METHODS},
        "ssim": {name: [] for name in METHODS},
    }
    kept: dict[str, list[Tensor]] = {"truth": [], "prediction": [], "posterior": []}
    n_past = dataset.n_past
    generator = torch.Generator(device).manual_seed(seed)
    count = len(dataset) if clips is None else min(clips, len(dataset))
    bar = tqdm(total=count, disable=not progress, unit="clip", desc="evaluating")
    with bar, torch.inference_mode():
        for batch in _batches(dataset, count, batch_size, device):
            frames = batch.frames
            context, future = frames[:, :n_past], frames[:, n_past:]
            made = {
                "prediction": model.predict(
                    context, batch.condition, future.shape[1], generator=generator
                ),
                "repeat_last": context[:, -1:].expand_as(future),
                "posterior": model.reconstruct(
                    frames, batch.condition, n_past, generator=generator
                ),
            }
            for name, guess in made.items():
                tables["psnr"][name].append(psnr(guess, future).cpu())
                tables["ssim"][name].append(ssim(guess, future).cpu())
            missing = keep - sum(map(len, kept["truth"]))
            for name in kept:
                after = future if name == "truth" else made[name]
                kept[name].append(torch.cat([context, after], dim=1)[: max(0, missing)].cpu())
            bar.update(len(frames))
    return Evaluation(
        protocol=describe(dataset, count),
        n_past=n_past,
        **{
            metric: {name: torch.cat(parts).numpy() for name, parts in table.items()}
            for metric, table in tables.items()
        },
        examples={name: to_uint8(torch.cat(parts)) for name, parts in kept.items()},
    )


def validation_psnr(
    model: nn.Module, dataset: ClipDataset, *, clips: int, seed: int, device: torch.device
) -> float:
    """Mean PSNR in dB of predictions of the first windows: free-running, one sample from the
    prior, per frame over all pixels and channels, averaged over frames and windows."""
    generator = torch.Generator(device).manual_seed(seed)
    values = []
    for batch in _batches(dataset, min(clips, len(dataset)), 32, device):
        context, future = batch.frames.split((dataset.n_past, dataset.n_future), dim=1)
        guess = model.predict(context, batch.condition, future.shape[1], generator=generator)
        values.append(psnr(guess, future))
    return torch.cat(values).mean().item()


def describe(dataset: ClipDataset, count: int) -> str:
    """The protocol in one sentence, to stand beside every figure it gave."""
    windows = "first windows" if dataset.windows == "first" else "windows"
    return (
        f"{dataset.n_past} -> {dataset.n_future} frames, free-running, one sample from the prior "
        f"(not best of N), condition {dataset.condition}; {count} {windows} of the "
        f"{dataset.split} split of {Path(dataset.root).name}; PSNR per frame over all pixels and "
        "channels, then averaged over frames and clips"
    )


def to_uint8(frames: Float[Tensor, ...]) -> np.ndarray:
    """Frames in [0, 1] as bytes, rounded."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _batches(
    dataset: ClipDataset, count: int, batch_size: int, device: str | torch.device
) -> Iterator[Batch]:
    for first in range(0, count, batch_size):
        yield dataset.batch(range(first, min(first + batch_size, count))).to(device)
