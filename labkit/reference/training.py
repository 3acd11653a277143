"""A whole training on one page: the loop of `labkit.training` without its files and its comfort.

One process, one device, no accumulation and no validation. For the same config and clips on a CPU
in fp32 the weights and their moving average are bit for bit those of `labkit.training.train`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE
from labkit.training.data_order import UpdateSampler, seed_of
from labkit.training.objective import negative_elbo
from labkit.training.schedules import kl_weight, learning_rate, position, teacher_forcing_ratio


def train(config: Config) -> tuple[VideoCVAE, AveragedModel]:
    """Trains on a CPU; returns the model and the moving average of its weights.

    Args:
        config: with training.ema_decay above 0, training.accumulation_steps 1,
            training.growing_windows 0, kl.hybrid 0, teacher_forcing.granularity batch, and Adam
            without weight decay.
    Raises:
        DataError: the data set cannot be read.
    """
    t = config.training
    total = t.epochs * t.updates_per_epoch

    # The clips, and the model with random weights
    clips = ClipDataset.from_config(config.data, "train", labels=False)
    torch.manual_seed(seed_of(config.seed, "weights", 0))
    model = VideoCVAE(config.model, config.data.condition_size, config.data.position_size)
    if config.model.normalise_condition:
        mean, std = clips.condition_statistics()
        model.set_condition_statistics(torch.from_numpy(mean), torch.from_numpy(std))
    model.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), t.learning_rate, (t.adam_beta1, 0.999), fused=True)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(t.ema_decay), use_buffers=True)

    # Data order: permutations of the windows, one after another, cut into batches
    order = UpdateSampler(len(clips), t.batch_size, config.seed, range(total))
    for update, windows in enumerate(order):
        batch = clips.batch(windows).to("cpu")  # frames (B, T, 3, 64, 64) in [0, 1]

        # Schedules: KL annealing, teacher forcing, learning rate
        epoch = position(update, t)
        beta = kl_weight(epoch, t.epochs, config.kl)
        ratio = teacher_forcing_ratio(epoch, config.teacher_forcing)
        adam.param_groups[0]["lr"] = learning_rate(update / total, t)

        # Teacher forcing is decided once for the batch: true frames with probability `ratio`
        seed = seed_of(config.seed, "draws", update)
        forced = bool(np.random.default_rng(seed).random() < ratio)

        # x^_1 .. x^_{T-1}, with z_t = mu_t + sigma_t * epsilon from q_phi(z_t | x_{1:t}, c)
        generator = torch.Generator().manual_seed(seed)
        rollout = model.rollout(
            batch.frames,
            batch.condition,
            config.data.n_past,
            teacher_forced=forced,
            generator=generator,
        )

        # -ELBO = E_q[ -log p(x_t | z, x_{<t}, c) ] + beta KL( q_phi || p ), its gradient, clipped
        targets = batch.frames[:, 1:]
        loss = negative_elbo(rollout, targets, beta, config.model.observation, config.kl).loss
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), t.gradient_clip or float("inf"))

        # theta <- Adam(theta, gradient);  average <- d average + (1 - d) theta
        adam.step()
        average.update_parameters(model)
    return model, average
