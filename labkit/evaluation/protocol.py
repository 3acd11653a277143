"""How a model is judged, by name. Published figures of one model differ by 4 dB with the protocol
alone: how far ahead, one sample or the best of many, and how PSNR is averaged. So each has a name
that means one thing, and one sentence that stands beside every figure it gave.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from labkit.data.dataset import Batch, ClipDataset
from labkit.errors import LabkitError
from labkit.evaluation.metrics import psnr
from labkit.model import VideoCVAE

MOST_SAMPLES = 100
"""The largest N of a best-of-N, which is that of the published tables."""


@dataclass(frozen=True)
class Protocol:
    """What is predicted from what, how often, and how it is scored."""

    name: str
    n_past: int = 2
    """context frames"""
    n_future: int = 10
    """horizon"""
    best_of: int = 1
    """samples of each clip; of more than one, the best is kept, for each metric by itself"""
    averaging: Literal["frame", "channel"] = "frame"
    """PSNR over all pixels and channels of a frame; or of each channel, then averaged"""
    action_free: bool = False
    """for models that are told nothing of the robot"""
    first_window: bool = False
    """whether only the first frames of a clip count"""


FRAME = Protocol("frame")
"""The default: one sample, PSNR of each frame over all pixels and channels."""

COURSE = Protocol("course", averaging="channel", first_window=True)
"""As the coursework is graded: the first 12 frames, PSNR per channel, then averaged."""

LONG = Protocol("long", n_future=28)
"""All of a BAIR clip of 30 frames."""

SVG = Protocol("svg", n_future=28, best_of=100, averaging="channel", action_free=True)
"""As SVG (Denton & Fergus 2018) and SRVP (Franceschi et al. 2020) are scored on BAIR."""

NAMED = {each.name: each for each in (FRAME, COURSE, LONG, SVG)}
"""The protocols by name; best-of-N is one more for each N."""


def find_protocol(name: str) -> Protocol:
    """The protocol of that name: frame, course, long, svg or best-of-N.

    Raises:
        LabkitError: there is no such protocol, or N is not from 2 to 100.
    """
    if name in NAMED:
        return NAMED[name]
    start, _, number = name.rpartition("-")
    if start != "best-of":
        near = difflib.get_close_matches(name, NAMED, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LabkitError(
            f"no protocol {name!r}", hint=f"{hint}there are {', '.join(NAMED)} and best-of-N"
        )
    if not (number.isascii() and number.isdigit() and 2 <= int(number) <= MOST_SAMPLES):
        raise LabkitError(
            f"protocol {name!r} keeps the best of {number or 'nothing'}",
            hint=f"N is from 2 to {MOST_SAMPLES}, as in best-of-20; one sample is frame",
        )
    return Protocol(f"best-of-{int(number)}", best_of=int(number))


def fitted(asked: Protocol, dataset: ClipDataset, model: VideoCVAE) -> Protocol:
    """The protocol with the data set's own context and horizon; `sentence` tells of a change.

    Raises:
        LabkitError: it is not made for such a model or such windows.
    """
    if asked.action_free and dataset.condition != "none":
        raise LabkitError(
            f"protocol {asked.name} is for models that are told no action, and this one is told "
            f"{dataset.condition}",
            hint="take --protocol best-of-100, or train one with --data.condition none",
        )
    if asked.first_window and dataset.windows != "first":
        raise LabkitError(
            f"protocol {asked.name} scores the first frames of each clip alone",
            hint="leave --windows out, or take --protocol frame",
        )
    if dataset.condition_size != model.condition_size:
        raise LabkitError(
            f"the condition has {dataset.condition_size} columns ({dataset.condition}), and the "
            f"model takes {model.condition_size}",
            file=dataset.root,
            hint="read the data set with the condition that the model was trained with",
        )
    side = model.config.frame_size
    if dataset.frame_size != (side, side):
        height, width = dataset.frame_size
        raise LabkitError(
            f"the frames are {height} x {width} pixels, and the model is made for {side} x {side}",
            file=dataset.root,
            hint="give the data set that it was trained with, or one of that size",
        )
    return replace(asked, n_past=dataset.n_past, n_future=dataset.n_future)


def sentence(used: Protocol, dataset: ClipDataset, windows: int, condition_at: str) -> str:
    """The protocol in one sentence, to stand beside every figure it gave.

    Args:
        used: the protocol.
        dataset: whose windows were judged.
        windows: how many.
        condition_at: which condition leads to a frame: "previous" or "target".
    """
    told = {
        "none": "no condition (action-free)",
        "previous": f"condition {dataset.condition} of the frame before",
        "target": f"condition {dataset.condition} of the target frame itself",
    }["none" if dataset.condition == "none" else condition_at]
    what = "windows" if dataset.windows == "all" else "first windows"
    named = NAMED.get(used.name, FRAME)
    changed = (used.n_past, used.n_future) != (named.n_past, named.n_future)
    own = f" (not the {named.n_past} -> {named.n_future} of its name)" if changed else ""
    samples = (
        "one sample from the prior (not best of N)"
        if used.best_of == 1
        else f"best of {used.best_of} samples from the prior, chosen for each clip and metric "
        "by looking at the truth"
    )
    averaged = {
        "frame": "PSNR per frame over all pixels and channels",
        "channel": "PSNR per frame and channel, averaged over the channels",
    }[used.averaging]
    return (
        f"protocol {used.name}: {used.n_past} -> {used.n_future} frames{own}, free-running, "
        f"{samples}, {told}; {windows} {what} of the {dataset.split} split of "
        f"{Path(dataset.root).name}; {averaged}, then averaged over frames and clips"
    )


def validation_psnr(
    model: nn.Module, dataset: ClipDataset, *, clips: int, seed: int, device: torch.device
) -> float:
    """Mean PSNR in dB of predictions of the first windows: free-running, one sample from the
    prior, per frame over all pixels and channels, averaged over frames and windows."""
    generator = torch.Generator(device).manual_seed(seed)
    values = []
    for _, read in batches(dataset, min(clips, len(dataset)), 32):
        batch = read.to(device)
        context, future = batch.frames.split((dataset.n_past, dataset.n_future), dim=1)
        guess = model.predict(context, batch.condition, future.shape[1], generator=generator)
        values.append(psnr(guess, future))
    return torch.cat(values).mean().item()


def to_uint8(frames: Float[Tensor, ...]) -> np.ndarray:
    """Frames in [0, 1] as bytes, rounded."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def batches(dataset: ClipDataset, count: int, size: int) -> Iterator[tuple[range, Batch]]:
    """The first `count` windows of a data set as it holds them, with their numbers."""
    for first in range(0, count, size):
        numbers = range(first, min(first + size, count))
        yield numbers, dataset.batch(numbers)
