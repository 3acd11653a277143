"""What does each choice of the model family cost, against the course's model in the same run?

    python benchmarks/variants.py

For each variant: parameters; multiply-adds of one predicted frame (matrix products and
convolutions, as torch.utils.flop_counter counts them; warps and elementwise work are left out);
seconds of a training step (forward, backward; half of the steps teacher forced, half
free-running) and predicted frames a second, with the ratio to `course` in brackets.

A batch is 12 clips of 12 frames, as in the course. One line of the table takes some seconds, the
course's own model about a minute.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from labkit.config import Config
from labkit.model import VideoCVAE
from labkit.presets import preset
from labkit.training.objective import negative_elbo

N_PAST, HORIZON = 2, 10
SPENT = 3.0
"""seconds of measuring, times the repeats, that a timing takes at least"""
DEMO_SCENE = preset("demo").model.scene
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "course": ("course", {}),
    "svg": ("svg", {}),
    "demo": ("demo", {}),
    "demo, no place maps": ("demo", {"places": False}),
    "demo, no picture of the arm": (
        "demo",
        {"scene": dataclasses.replace(DEMO_SCENE, arm=False)},
    ),
    "demo, no change of light": (
        "demo",
        {"scene": dataclasses.replace(DEMO_SCENE, arm_light=False, table_light=False)},
    ),
    "layer": ("layer", {}),
    "layer, vgg64": ("layer", {"backbone": "vgg64", "width": 8}),
    "layer, LSTM": ("layer", {"predictor": "lstm", "predictor_layers": 2}),
    "layer, batch norm": ("layer", {"norm": "batch"}),
    "layer, flow without a layer": ("layer", {"output": "flow"}),
    "layer, painted output": ("layer", {"output": "sigmoid"}),
    "layer, CDNA": ("layer", {"output": "cdna"}),
    "layer, condition to the predictor alone": ("layer", {"conditioning": "input"}),
    "layer, conditional convolution": ("layer", {"conditioning": "conv"}),
    "layer, skips of the last context frame": ("layer", {"skip": "last_context"}),
    "layer, aligned skips": ("layer", {"align": True}),
    "layer, learned prior": ("layer", {"prior": "learned"}),
    "layer, latent maps at 8 and 16": ("layer", {"latent_levels": 3}),
}


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    batch: int = 12
    """clips in a batch"""
    repeats: int = 3
    """of each timing, at least; the median is told"""
    threads: int = 2
    """CPU threads"""


@dataclass(frozen=True)
class Cost:
    """What one variant costs."""

    parameters: int
    multiply_adds: float
    """of one predicted frame"""
    step: float
    """seconds of a training step"""
    frames: float
    """predicted frames a second"""


def measured(config: Config, options: Options) -> Cost:
    """Builds a variant and measures it."""
    torch.manual_seed(0)
    model = VideoCVAE(config.model, config.data.condition_size)
    model.to(memory_format=torch.channels_last)
    frames = torch.rand(options.batch, N_PAST + HORIZON, 3, 64, 64)
    condition = torch.randn(options.batch, N_PAST + HORIZON, config.data.condition_size)

    def train(forced: bool) -> None:
        rollout = model.rollout(frames, condition, N_PAST, teacher_forced=forced)
        observation = config.model.observation
        negative_elbo(rollout, frames[:, 1:], 1e-4, observation).loss.backward()

    @torch.inference_mode()
    def predict(horizon: int = HORIZON) -> None:
        model.predict(frames[:, :N_PAST], condition, horizon)

    step = median(lambda: (train(True), train(False)), options.repeats) / 2
    model.eval()
    seconds = median(predict, options.repeats)
    # The difference of two horizons leaves the context's share out. Without oneDNN an LSTM is
    # made of matrix products, which are counted; its fused kernel is not.
    with warnings.catch_warnings(action="ignore"), torch.backends.mkldnn.flags(enabled=False):
        counts = [operations(lambda horizon=horizon: predict(horizon)) for horizon in (2, 1)]
    return Cost(
        sum(parameter.numel() for parameter in model.parameters()),
        (counts[0] - counts[1]) / 2 / options.batch,
        step,
        options.batch * HORIZON / seconds,
    )


def operations(work: Callable[[], Any]) -> int:
    """Floating-point operations, two a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def median(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of one call, after one that is not counted."""
    work()
    times: list[float] = []
    # What is short is disturbed more: it is measured more often.
    while len(times) < repeats or sum(times) < SPENT * repeats:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main(options: Options) -> None:
    """Measures every variant and prints the table."""
    torch.set_num_threads(options.threads)
    print(
        f"{options.threads} CPU threads, fp32, batches of {options.batch} clips, 2 -> 10 frames\n"
    )
    print("| variant | parameters | M multiply-adds a frame | s a training step | frames/s |")
    print("| --- | --: | --: | --: | --: |")
    base: Cost | None = None
    for name, (kind, changes) in VARIANTS.items():
        config = preset(kind)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))
        cost = measured(config, options)
        base = base or cost
        print(
            f"| {name} | {cost.parameters:,} | {cost.multiply_adds / 1e6:,.0f} "
            f"| {cost.step:.2f} ({cost.step / base.step:.2g} x) "
            f"| {cost.frames:,.0f} ({cost.frames / base.frames:.2g} x) |",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
