"""The loss of one batch: teacher forcing is sampled, the model is unrolled, the loss is computed.

Every draw is made for the joint batch of all processes, and each process uses its own rows of it.
So the result does not depend on how a batch is divided among processes or parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit.config import Config, TeacherForcingConfig
from labkit.data.dataset import Batch
from labkit.training.data_order import Rows, seed_of
from labkit.training.objective import negative_elbo
from labkit.training.setup import TrainingSetup

HORIZONS = ((0.75, 1), (0.875, 2), (1.0, 4))
"""Up to which fraction of the growing windows how many frames are predicted."""


def batch_losses(
    setup: TrainingSetup,
    batch: Batch,
    update: int,
    schedule: Mapping[str, float],
    part: int = 0,
) -> dict[str, Float[Tensor, ""]]:
    """The objective on one part of this process's share of a batch.

    Args:
        setup: model, devices and settings.
        batch: this process's share, all parts of it.
        update: counted from 0 over the whole training; with the seed it decides every draw.
        schedule: "kl_weight" and "teacher_forcing_ratio" of this update.
        part: which of `training.accumulation_steps` parts.
    Returns:
        "loss", which is minimised, and its terms "reconstruction" and "kl".
    """
    config, parts = setup.config, setup.config.training.accumulation_steps
    count = len(batch) // parts
    own = slice(part * count, (part + 1) * count)
    batch = Batch(batch.frames[own], batch.condition[own]).to(setup.device)
    n_past, seed = config.data.n_past, seed_of(config.seed, "draws", update)
    horizon = growing_horizon(config, update)
    short = horizon < config.data.n_future
    if short:
        batch = shorter_windows(batch, n_past + horizon, seed)
        count = len(batch)
    world, rank = setup.processes.world, setup.processes.rank
    rows = Rows.of(count * parts * world, rank=rank, world=world, part=part, parts=parts)
    shared = slice(rows.first, rows.first + rows.count)  # this part's rows of the joint batch
    generator = torch.Generator(setup.device).manual_seed(seed)
    steps = batch.frames.shape[1] - 1
    forcing = sample_forcing(
        config.teacher_forcing, schedule["teacher_forcing_ratio"], seed, rows.total, steps
    )
    options: dict[str, Tensor | bool] = {"prior_detached": not config.kl.anneal_prior}
    if setup.device.type == "cuda":
        options["check_values"] = False  # to read values is to wait for the GPU
    if rows.count < rows.total:
        options["noise"] = joint_noise(setup, rows.total, steps, generator)[shared]
    if config.kl.hybrid:
        options["z_from_prior"] = draws_from_prior(config.kl.hybrid, rows.total)[shared]
    # Compiled for whole windows alone: each other shape would be compiled anew, and after 8 shapes
    # torch compiles no more.
    kernels = setup.acceleration.eager() if short else contextlib.nullcontext()
    with kernels, setup.acceleration.autocast():
        rollout = setup.model.rollout(
            batch.frames,
            batch.condition,
            n_past,
            teacher_forced=forcing[shared],
            generator=generator,
            **options,
        )
    objective = negative_elbo(
        rollout,
        batch.frames[:, 1:],
        schedule["kl_weight"],
        config.model.observation,
        config.kl,
        setup.processes.mean,
    )
    return vars(objective)


def growing_horizon(config: Config, update: int) -> int:
    """Predicted frames of the windows of this update, see `training.growing_windows`."""
    training = config.training
    done = update / (training.epochs * training.updates_per_epoch)
    for share, horizon in HORIZONS:
        if done < share * training.growing_windows:
            return min(horizon, config.data.n_future)
    return config.data.n_future


def shorter_windows(batch: Batch, length: int, seed: int) -> Batch:
    """Each clip of a batch cut into as many windows as fit, one after the other, from a frame that
    is the same for all clips and drawn anew for each update.

    Args:
        batch: of n clips of T frames.
        length: frames of a window, at most T.
        seed: of this update's draws.
    Returns:
        n * (T // length) windows, those of a clip in a row.
    """
    frames = batch.frames.shape[1]
    windows = frames // length
    first = int(np.random.default_rng((seed, 1)).integers(frames - windows * length + 1))
    part = slice(first, first + windows * length)

    def cut(tensor: Tensor) -> Tensor:
        return tensor[:, part].unflatten(1, (windows, length)).flatten(0, 1)

    return Batch(cut(batch.frames), cut(batch.condition))


def sample_forcing(
    config: TeacherForcingConfig, ratio: float, seed: int, clips: int, steps: int
) -> Bool[Tensor, "{clips} {steps}"]:
    """Samples which steps are fed the true frame, each with probability `ratio` (Bengio et al.
    2015): one decision for the batch, for each clip, or for each step, by `config.granularity`.

    Args:
        config: teacher forcing's settings.
        ratio: the teacher-forcing ratio, 0..1.
        seed: of this update's draws.
        clips: in the joint batch of all processes.
        steps: T - 1 predicted frames.
    """
    shape = {"batch": (1, 1), "clip": (clips, 1), "step": (clips, steps)}[config.granularity]
    forced = np.random.default_rng(seed).random(shape) < ratio
    return torch.from_numpy(forced).expand(clips, steps)


def joint_noise(
    setup: TrainingSetup, clips: int, steps: int, generator: torch.Generator
) -> Float[Tensor, "{clips} {steps} z"]:
    """epsilon of the reparameterization z = mu + sigma * epsilon for the whole joint batch. (The
    model itself draws it for the clips that it is given.)"""
    shape = (clips, steps, sum(setup.model.latent_sizes))
    return torch.empty(shape, device=setup.device).normal_(generator=generator)


def draws_from_prior(share: float, clips: int) -> Bool[Tensor, " {clips}"]:
    """Which clips of a joint batch take z_t from the prior after the context, as a prediction does
    (the hybrid objective, Sohn et al. 2015): the first `share` of them, rounded to whole clips.
    The clips of a batch are in random order, so the first are a random choice."""
    return torch.arange(clips) < round(share * clips)
