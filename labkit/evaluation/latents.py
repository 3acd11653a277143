"""What each latent does: its KL, and how a prediction changes with it (traversal)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from labkit.data.dataset import Batch, ClipDataset
from labkit.errors import ShapeError
from labkit.frames import to_uint8
from labkit.model import VideoCVAE
from labkit.model.gaussian import Gaussian, kl_divergence

ACTIVE = 0.01
"""a latent is active where the variance of its posterior's mean over the data is above this
(Burda, Grosse & Salakhutdinov 2016, section 5.2)"""


@dataclass(frozen=True)
class Latents:
    """Posterior and prior of every latent, for N clips and S steps t = 1 .. S."""

    q_mean: Float32[np.ndarray, "N S z"]
    q_std: Float32[np.ndarray, "N S z"]
    p_mean: Float32[np.ndarray, "N S z"]
    p_std: Float32[np.ndarray, "N S z"]
    kl: Float32[np.ndarray, "N S z"]
    """KL(q || p) of each latent alone, nats: their sum over z is the KL of the ELBO, since both
    Gaussians are diagonal"""

    def by_step(self) -> Float32[np.ndarray, "S z"]:
        """Mean KL over the clips, nats."""
        return self.kl.mean(axis=0)

    def by_latent(self) -> Float32[np.ndarray, " z"]:
        """Mean KL over clips and steps, nats a frame."""
        return self.kl.mean(axis=(0, 1))

    def order(self) -> Int64[np.ndarray, " z"]:
        """Numbers of the latents, the one with the largest KL first."""
        return np.argsort(-self.by_latent(), kind="stable")

    def active(self) -> Int64[np.ndarray, " A"]:
        """Numbers of the latents whose posterior's mean depends on the clip, by falling KL.

        The variance is taken over clips at each step; the largest over the steps counts. A mean
        that changes only with time carries no information on a clip.
        """
        order = self.order()
        return order[self.q_mean.var(axis=0).max(axis=0)[order] > ACTIVE]


@dataclass(frozen=True)
class Traversal:
    """Predictions of one clip, each with one latent held at another value."""

    latents: tuple[int, ...]
    values: tuple[float, ...]
    """the values, in standard deviations of the prior from its mean, at every step after the
    context"""
    frames: UInt8[np.ndarray, "L V horizon 3 H W"]

    def effect(self) -> Float[np.ndarray, " L"]:
        """How far apart the predictions of the lowest and the highest value are: mean absolute
        difference of a pixel, in grey levels of 255."""
        ends = self.frames[:, [0, -1]].astype(np.float64)
        return np.abs(ends[:, 1] - ends[:, 0]).mean(axis=(1, 2, 3, 4))


def infer_latents(
    model: VideoCVAE,
    dataset: ClipDataset,
    *,
    clips: int | None = 64,
    seed: int = 0,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
) -> Latents:
    """Posterior and prior over the first windows of a data set's clips, free-running.

    Args:
        model: in evaluation mode.
        dataset: each clip's first window is taken.
        clips: how many clips; None is all.
        seed: of the draws of z.
        batch_size: clips in one call.
        device: where to compute.
    Raises:
        ShapeError: there are no clips.
    """
    count = dataset.n_clips if clips is None else min(clips, dataset.n_clips)
    if count < 1:
        raise ShapeError(f"{count} clips; expected 1 or more")
    parts = []
    for first in range(0, count, batch_size):
        numbers = range(first, min(first + batch_size, count))
        batch = dataset.batch(dataset.first_windows[list(numbers)].tolist()).to(device)
        generator = torch.Generator(device).manual_seed(seed + first)
        parts.append(_infer(model, batch, dataset.n_past, generator))
    kinds = zip(*parts, strict=True)
    return Latents(*(torch.cat(kind).float().cpu().numpy() for kind in kinds))


def traverse(
    model: VideoCVAE,
    context: Float[Tensor, "n_past 3 S S"],
    condition: Float[Tensor, "T C"],
    horizon: int,
    latents: Sequence[int],
    values: Sequence[float] = (-3.0, -1.5, 0.0, 1.5, 3.0),
) -> Traversal:
    """Changes one latent at a time. All others stay at their means, and so does this one within
    the context.

    Args:
        model: in evaluation mode.
        context, condition: of one clip, as for `VideoCVAE.predict`.
        horizon: number of frames to predict.
        latents: numbers of the latents to change.
        values: the values each takes, in standard deviations of the prior from its mean; with a
            fixed prior, the values of z itself.
    Raises:
        ShapeError: a latent number out of range, or no latents or values; as `VideoCVAE.predict`.
    """
    size = sum(model.latent_sizes)
    if not len(latents) or not len(values) or not all(0 <= n < size for n in latents):
        raise ShapeError(
            f"latents are {list(latents)} at {list(values)}; choose from 0..{size - 1}"
        )
    n_past = len(context)
    noise = torch.zeros(len(latents), len(values), n_past + horizon - 1, size)
    for row, latent in enumerate(latents):
        noise[row, :, n_past - 1 :, latent] = torch.tensor(values)[:, None]
    rows = len(latents) * len(values)
    with torch.inference_mode():
        predicted = model.predict(
            context[None].expand(rows, -1, -1, -1, -1),
            condition[None].expand(rows, -1, -1),
            horizon,
            noise=noise.flatten(0, 1).to(context.device),
        )
    pixels = to_uint8(predicted, clip=True)
    shape = len(latents), len(values), *pixels.shape[1:]
    return Traversal(
        tuple(int(n) for n in latents), tuple(float(v) for v in values), pixels.reshape(shape)
    )


def _infer(
    model: VideoCVAE, batch: Batch, n_past: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        rollout = model.rollout(
            batch.frames, batch.condition, n_past, teacher_forced=False, generator=generator
        )
    q, p = rollout.posterior, rollout.prior
    # Summed over a last axis of one, the KL of a Gaussian is that of each latent alone.
    alone = (Gaussian(one.mean[..., None], one.log_variance[..., None]) for one in (q, p))
    deviations = ((0.5 * one.log_variance).exp() for one in (q, p))
    (q_std, p_std), kl = deviations, kl_divergence(*alone)
    return q.mean, q_std, p.mean, p_std, kl
