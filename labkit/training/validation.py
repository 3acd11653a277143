"""The validation after an epoch: PSNR of predictions, use of the latent, a few examples."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from labkit.data.dataset import Batch
from labkit.evaluation.metrics import psnr
from labkit.evaluation.protocol import validation_psnr
from labkit.evaluation.sources import predicted_sources, source_shares
from labkit.frames import to_uint8
from labkit.model import VideoCVAE
from labkit.training.events import Examples
from labkit.training.history import EpochRow
from labkit.training.latent_use import LatentUse, latent_use
from labkit.training.setup import TrainingSetup

EXAMINED = 16
"""number of validation clips on which the use of the latent is measured"""
SHOWN = 4
"""number of them whose predictions go to the callbacks"""


@dataclass(frozen=True)
class Validation:
    """What was measured on the validation split."""

    psnr: float
    """dB, free-running, one sample from the prior"""
    latents: LatentUse
    examples: Examples
    source_shares: dict[str, float]
    """share of the whole frame, by source"""

    def on(self, row: EpochRow) -> EpochRow:
        """The epoch's row of the history with these figures."""
        return dataclasses.replace(
            row,
            validation_psnr=self.psnr,
            active_units=self.latents.active_units,
            posterior_gain=self.latents.posterior_gain,
            **{f"{name}_share": share for name, share in self.source_shares.items()},
        )


@torch.no_grad()
def validate(setup: TrainingSetup) -> Validation:
    """Measures the setup's `validated_model` on the first windows of the validation clips.

    The draws depend on the seed alone, so the training's own draws do not depend on this. The
    model is in training mode before and after.
    """
    config, model, clips = setup.config, setup.validated_model, setup.validation
    count = config.training.validation_clips
    model.eval()
    with setup.acceleration.eager():
        decibels = validation_psnr(model, clips, clips=count, seed=config.seed, device=setup.device)
        batch = clips.batch(range(min(EXAMINED, count, len(clips)))).to(setup.device)
        found = examine(model, batch, clips.n_past, seed=config.seed, examples=SHOWN)
    model.train()
    return Validation(decibels, *found)


@torch.no_grad()
def examine(
    model: VideoCVAE, batch: Batch, n_past: int, *, seed: int, examples: int
) -> tuple[LatentUse, Examples, dict[str, float]]:
    """How a batch of clips uses the latent, predictions of the first few of them, and the share of
    each source in the predictions of all of them.

    The clips are predicted twice, free-running: with z from the posterior and with z from the
    prior.

    Args:
        model: in evaluation mode, on the batch's device.
        batch: whole windows.
        n_past: number of context frames.
        seed: of the draws of z.
        examples: number of clips whose predictions are returned.
    """
    frames, condition = batch.frames, batch.condition
    context, future = frames[:, :n_past], frames[:, n_past:]
    generator = torch.Generator(frames.device).manual_seed(seed)
    horizon = future.shape[1]
    predicted, weights = predicted_sources(model, context, condition, horizon, generator=generator)
    generator.manual_seed(seed)
    posterior = model.rollout(frames, condition, n_past, teacher_forced=False, generator=generator)
    gain = (psnr(posterior.frames[:, n_past - 1 :], future) - psnr(predicted, future)).mean()
    whole = torch.cat([context, predicted], dim=1)
    return (
        latent_use(posterior.posterior, posterior.prior, gain.item()),
        Examples(
            to_uint8(frames[:examples], clip=True), to_uint8(whole[:examples], clip=True), n_past
        ),
        source_shares(weights)["frame"],
    )
