"""How many operations a training step takes, and how many a second the device can do."""

from __future__ import annotations

import contextlib
import time
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode
from training_parts.course import course_loss

from labkit.config import Config
from labkit.model import VideoCVAE
from labkit.training.objective import negative_elbo


def step_operations(config: Config, batch: int, teacher_forced: bool, course_way: bool) -> float:
    """Floating-point operations of the matrix products and convolutions of one step, forward and
    backward, two a multiply-add; warps and elementwise work are left out.

    They are counted from the shapes alone, on tensors without values.

    Args:
        config: the model and its loss.
        batch: clips in the step's batch.
        teacher_forced: what is fed after the context.
        course_way: what the course's way does, which encodes more often, instead of ours.
    """
    meta = torch.device("meta")
    model = VideoCVAE(config.model, config.data.condition_size).to(meta)
    n_frames, n_past = config.data.n_frames, config.data.n_past
    side = config.model.frame_size
    # As many operations for each clip; two, for batch norm.
    frames = torch.empty(2, n_frames, 3, side, side, device=meta)
    condition = torch.empty(2, n_frames, config.data.condition_size, device=meta)
    noise = torch.empty(2, n_frames - 1, sum(model.latent_sizes), device=meta)
    # Tensors without values have no autocast to switch off.
    nothing = contextlib.nullcontext()
    plain = mock.patch("labkit.model.recurrent.in_full", return_value=nothing)
    with plain, FlopCounterMode(display=False) as counter:
        if course_way:
            objective = course_loss(
                model,
                frames,
                condition,
                n_past,
                teacher_forced=teacher_forced,
                kl_weight=1.0,
                noise=noise,
            )
        else:
            rollout = model.rollout(
                frames,
                condition,
                n_past,
                teacher_forced=teacher_forced,
                noise=noise,
                check_values=False,
            )
            objective = negative_elbo(rollout, frames[:, 1:], 1.0, config.model.observation)
        objective.loss.backward()
    return counter.get_total_flops() * batch / 2


def arithmetic_rate(device: torch.device, bf16: bool, repeats: int = 5) -> float:
    """Floating-point operations a second of a large matrix product: the best of some runs.

    Args:
        device: where.
        bf16: the precision; otherwise fp32 as convolutions do it, which on a newer Nvidia GPU is
            TF32 by PyTorch's default.
        repeats: runs.
    """
    size = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if bf16 else torch.float32
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        best = 0.0
        for _ in range(repeats + 1):  # the first finds its kernel
            _wait(device)
            start = time.perf_counter()
            a @ b
            _wait(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
        return best
    finally:
        torch.set_float32_matmul_precision(before)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
