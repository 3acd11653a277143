"""How a model is evaluated. Published figures of one model differ by 4 dB between protocols: the
horizon, one sample or the best of many, and how PSNR is averaged. Each protocol has a name with one
meaning, and a sentence that stands with every figure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from labkit.data.dataset import Batch, ClipDataset
from labkit.data.layout import canonical_split
from labkit.errors import LabkitError
from labkit.evaluation.metrics import psnr
from labkit.model import VideoCVAE

MOST_SAMPLES = 100
"""The largest N of a best-of-N: that of the published tables."""

Positions = Literal["measured", "integrated"]
"""End-effector positions in the conditions of predicted steps: as the robot measured them, which is
known only after the step; or added up from the actions."""


@dataclass(frozen=True)
class Protocol:
    """What is predicted from what, with how many samples, and how it is scored."""

    name: str
    n_past: int = 2
    """context frames"""
    n_future: int = 10
    """horizon"""
    best_of: int = 1
    """samples of each clip; with more than one, the best counts, for each metric separately"""
    averaging: Literal["frame", "channel"] = "frame"
    """PSNR over all pixels and channels of a frame; or of each channel, then averaged"""
    ssim: Literal["frame", "interior"] = "frame"
    """SSIM over the whole frame, mirrored at its border; or without the 5 pixels at the border"""
    action_free: bool = False
    """whether only models without a condition are allowed"""
    first_window: bool = False
    """whether only the first frames of a clip are scored"""
    own_window: bool = False
    """whether a run's own n_past and n_future replace those above"""


FRAME = Protocol("frame", own_window=True)
"""The default: the run's own window, one sample, PSNR of a frame over all pixels and channels."""

COURSE = Protocol("course", averaging="channel", ssim="interior", first_window=True)
"""The coursework's grading: the first 12 frames, PSNR per channel, then averaged."""

LONG = Protocol("long", n_future=28)
"""All 30 frames of a BAIR clip."""

SVG = Protocol(
    "svg", n_future=28, best_of=100, averaging="channel", ssim="interior", action_free=True
)
"""As SVG (Denton & Fergus 2018) and SRVP (Franceschi et al. 2020) are scored on BAIR."""

VIDEOGPT = Protocol("videogpt", n_past=1, n_future=15)
"""The window of VideoGPT (Yan et al. 2021), MCVD (Voleti et al. 2022) and iVideoGPT (Wu et al.
2024) on BAIR: 1 -> 15 frames. Their tables give FVD, and the best of 100 for the other metrics."""

NAMED = {each.name: each for each in (FRAME, COURSE, LONG, SVG, VIDEOGPT)}
"""The protocols by name; best-of-N is one more for each N."""


def find_protocol(name: str) -> Protocol:
    """The protocol of that name: frame, course, long, svg, videogpt or best-of-N.

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
            f"protocol {name!r}: the best of {number or 'nothing'} is not possible",
            hint=f"N is from 2 to {MOST_SAMPLES}, as in best-of-20; for one sample take frame",
        )
    return Protocol(f"best-of-{int(number)}", best_of=int(number), own_window=True)


def with_window(
    protocol: Protocol, own: tuple[int, int], n_past: int | None = None, n_future: int | None = None
) -> Protocol:
    """The protocol with the window it is to be used with.

    Args:
        protocol: as `find_protocol` gives it.
        own: n_past and n_future of the run, the default of `frame` and best-of-N.
        n_past, n_future: other numbers of frames; None takes the default.
    Raises:
        LabkitError: less than one context frame, or less than one frame to predict.
    """
    past, future = own if protocol.own_window else (protocol.n_past, protocol.n_future)
    past = past if n_past is None else n_past
    future = future if n_future is None else n_future
    for option, frames in (("--n-past", past), ("--n-future", future)):
        if frames < 1:
            raise LabkitError(f"{option} is {frames}", hint="give at least 1")
    return replace(protocol, n_past=past, n_future=future)


def fitted(protocol: Protocol, dataset: ClipDataset, model: VideoCVAE) -> Protocol:
    """The protocol with the data set's own context and horizon; `sentence` states a change.

    Raises:
        LabkitError: the protocol does not fit the model or the data set's windows.
    """
    if protocol.action_free and dataset.condition != "none":
        raise LabkitError(
            f"protocol {protocol.name} is for models without a condition, and this one uses "
            f"{dataset.condition}",
            hint="take --protocol best-of-100, or train a model with --data.condition none",
        )
    if protocol.first_window and dataset.windows != "first":
        raise LabkitError(
            f"protocol {protocol.name} scores the first frames of each clip alone",
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
            f"the frames are {height} x {width} pixels, and the model expects {side} x {side}",
            file=dataset.root,
            hint="give the data set that it was trained with, or one with frames of that size",
        )
    return replace(protocol, n_past=dataset.n_past, n_future=dataset.n_future)


def sentence(
    protocol: Protocol,
    dataset: ClipDataset,
    windows: int,
    condition_at: str,
    positions: Positions = "measured",
) -> str:
    """The protocol in one sentence, which stands with every figure.

    Args:
        protocol: with the window that was used.
        dataset: whose windows were evaluated.
        windows: how many.
        condition_at: which condition leads to a frame: "previous" or "target".
        positions: where the positions in the conditions of predicted steps come from.
    """
    condition = "no condition (action-free)"
    if dataset.condition != "none":
        frame = {"previous": "the frame before", "target": "the target frame itself"}[condition_at]
        condition = f"condition {dataset.condition} of {frame}"
    if dataset.condition == "action+position":
        condition += {
            "measured": ", measured positions also at predicted steps",
            "integrated": ", positions at predicted steps added up from the actions",
        }[positions]
    kind = "windows" if dataset.windows == "all" else "first windows"
    named = NAMED.get(protocol.name, FRAME)
    changed = (protocol.n_past, protocol.n_future) != (named.n_past, named.n_future)
    changed = changed and not named.own_window
    note = f" (not the {named.n_past} -> {named.n_future} of its name)" if changed else ""
    samples = (
        "one sample from the prior (not best of N)"
        if protocol.best_of == 1
        else f"best of {protocol.best_of} samples from the prior, chosen for each clip and metric "
        "by looking at the truth"
    )
    averaged = {
        "frame": "PSNR per frame over all pixels and channels",
        "channel": "PSNR per frame and channel, averaged over the channels",
    }[protocol.averaging]
    ssim = {"frame": "SSIM over the whole frame", "interior": "SSIM without the frame's border"}
    return (
        f"protocol {protocol.name}: {protocol.n_past} -> {protocol.n_future} frames{note}, "
        f"free-running, {samples}, {condition}; {windows} {kind} of the {dataset.split} split of "
        f"{Path(dataset.root).name}; {averaged}, {ssim[protocol.ssim]}, then averaged over frames "
        "and clips"
    )


def is_bair_test(dataset: ClipDataset) -> bool:
    """Whether the clips are BAIR's test split, by the names that the data set's authors gave them:
    traj_0_to_255.tfrecords."""
    if canonical_split(dataset.split) != "test" or dataset.has_labels:
        return False
    names = [dataset.clip(number).name for number in (0, dataset.n_clips - 1)]
    return all(re.search(r"traj_\d+_to_\d+", name) for name in names)


GRADES = ((25.0, 100), (24.0, 90), (23.0, 80), (22.0, 70), (21.0, 60), (20.0, 50))
"""The course's table, (PSNR in dB, per cent): from that PSNR of the protocol `course` on its test
set, that share of the demo's PSNR points; below the last, none."""


def grade(psnr: float) -> int:
    """Per cent of the points for a PSNR in dB of the protocol `course`. The PSNR is not rounded:
    24.99 dB is below 25."""
    return next((share for bound, share in GRADES if psnr >= bound), 0)


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
        predicted = model.predict(context, batch.condition, future.shape[1], generator=generator)
        values.append(psnr(predicted, future))
    return torch.cat(values).mean().item()


def batches(dataset: ClipDataset, count: int, size: int) -> Iterator[tuple[range, Batch]]:
    """The first `count` windows of a data set as it holds them, with their numbers."""
    for first in range(0, count, size):
        numbers = range(first, min(first + size, count))
        yield numbers, dataset.batch(numbers)
