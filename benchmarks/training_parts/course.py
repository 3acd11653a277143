"""The course's way to train, frame by frame, with labkit's modules: the same weights and the same
loss as labkit's own way, computed as the course's loop (and SVG's, from which it comes) does.

At every step the frame fed and the target are each encoded anew, one step of the posterior and
of the predictor is taken, and one frame is decoded. fp32, PyTorch's default memory layout, Adam
weight by weight; clips come one at a time from PNGs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from loading_parts.ways import Pair, PictureDataset
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

from labkit.config import TrainingConfig
from labkit.model import VideoCVAE, kl_divergence
from labkit.model.backbones import Decoder
from labkit.model.gaussian import standard_normal_like
from labkit.training.objective import Objective


def course_loss(
    model: VideoCVAE,
    frames: Float[Tensor, "B T 3 S S"],
    condition: Float[Tensor, "B T C"],
    n_past: int,
    *,
    teacher_forced: bool,
    kl_weight: float,
    noise: Float[Tensor, "B T-1 z"],
) -> Objective:
    """The loss of a batch: mean squared error + kl_weight * KL, averaged over steps and clips.

    Args:
        model: of the course's kind (`check_kind`).
        frames: x_0 .. x_{T-1}, in [0, 1].
        condition: of each frame; c_{t-1} leads to x_t.
        n_past: number of context frames.
        teacher_forced: feed true frames after the context, too.
        kl_weight: beta.
        noise: epsilon of the draws of z_1 .. z_{T-1}.
    """
    check_kind(model)
    n_steps = frames.shape[1] - 1
    posterior_state = predictor_state = None
    error, kl = frames.new_zeros(()), frames.new_zeros(())
    predicted, skips = frames[:, 0], []
    for t in range(1, n_steps + 1):
        # h_{t-1} = Enc(x_{t-1}), with the skip features as long as x_{t-1} is of the context
        h, maps = model.encoder(frames[:, t - 1] if teacher_forced or t <= n_past else predicted)
        skips = maps if t <= n_past else skips
        # z_t ~ q_phi(z_t | x_{1:t})
        h_target, _ = model.encoder(frames[:, t])
        q, posterior_state = model.posterior(h_target[:, None], posterior_state)
        z = q.draw(noise[:, t - 1 : t])
        # g_t = LSTM_theta(h_{t-1}, c_{t-1}, z_t),  x^_t = Dec(g_t, skips)
        told = torch.cat([condition[:, t - 1 : t], z], dim=-1)
        g, predictor_state = model.predictor(h[:, None], told, predictor_state)
        predicted = decode(model.decoder, g[:, 0], skips).sigmoid()
        error = error + F.mse_loss(predicted, frames[:, t])
        kl = kl + kl_divergence(q, standard_normal_like(q)).mean()
    error, kl = error / n_steps, kl / n_steps
    return Objective(error + kl_weight * kl, error, kl)


def decode(
    decoder: Decoder, g: Float[Tensor, "B g"], maps: list[Float[Tensor, "B _ _ _"]]
) -> Float[Tensor, "B 3 S S"]:
    """One frame of each clip before its sigmoid, as SVG's decoders have it: features and skip
    features are copied side by side and convolved together."""
    x = decoder.from_encoding(g[:, :, None, None])
    for stage, skip in zip(decoder.stages, reversed(maps), strict=False):
        if decoder.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        first, *rest = stage
        x = first.finish(first.conv.conv(torch.cat([x, skip], dim=1)), None)
        for block in rest:
            x = block(x)
    if decoder.upsample:
        return decoder.to_output(x)
    return decoder.to_output.conv(torch.cat([x, maps[0]], dim=1))


def check_kind(model: VideoCVAE) -> None:
    """Raises ValueError for a model that the course's loop cannot train."""
    config = model.config
    kind = {
        "predictor": "lstm",
        "prior": "fixed",
        "latent_levels": 1,
        "skip": "last_context",
        "align": False,
        "conditioning": "input",
        "posterior_condition": False,
        "output": "sigmoid",
        "observation": "fixed",
        "condition_at": "previous",
        "normalise_condition": False,
    }
    wrong = [name for name, value in kind.items() if getattr(config, name) != value]
    if wrong:
        raise ValueError(f"not of the course's kind: {', '.join(wrong)}")


def course_batches(
    folder: Path, batch_size: int, seed: int, workers: int, device: torch.device
) -> Iterator[Pair]:
    """Shuffled batches without end, of the clips' first 12 frames, each clip read from its own
    PNGs.

    Args:
        folder: holds the clips in the course's layout.
        batch_size: clips in a batch.
        seed: of the order.
        workers: processes that read ahead.
        device: where the batches are wanted.
    """
    dataset = PictureDataset(folder)
    generator = torch.Generator().manual_seed(seed)
    # One epoch after another, for which no worker has to be started anew.
    endless = RandomSampler(dataset, num_samples=2**40, generator=generator)
    loader = DataLoader(
        dataset,
        batch_size,
        sampler=endless,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    for frames, condition in loader:
        yield frames.to(device), condition.to(device)


def course_optimizer(model: VideoCVAE, training: TrainingConfig) -> torch.optim.Adam:
    """Adam, weight by weight."""
    betas = (training.adam_beta1, 0.999)
    return torch.optim.Adam(
        model.parameters(), training.learning_rate, betas, foreach=False, fused=False
    )


def course_step(
    model: VideoCVAE,
    optimizer: torch.optim.Optimizer,
    batch: Pair,
    n_past: int,
    *,
    teacher_forced: bool,
    kl_weight: float,
) -> float:
    """One update of the weights; returns the loss, for which a GPU has to be waited for."""
    frames, condition = batch
    shape = (len(frames), frames.shape[1] - 1, model.config.latent_size)
    optimizer.zero_grad()
    objective = course_loss(
        model,
        frames,
        condition,
        n_past,
        teacher_forced=teacher_forced,
        kl_weight=kl_weight,
        noise=torch.randn(shape, device=frames.device),
    )
    objective.loss.backward()
    optimizer.step()
    return objective.loss.item()
