"""What a validation finds, and how it comes into the history."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from labkit.training.events import Examples
from labkit.training.history import EpochRow
from labkit.training.latent_use import LatentUse
from labkit.training.task import Task


@dataclass(frozen=True)
class Validation:
    """A module, judged on the validation split."""

    psnr: float
    """dB, free-running from the prior"""
    latents: LatentUse
    examples: Examples

    def on(self, row: EpochRow) -> EpochRow:
        """The epoch's row with these figures."""
        return dataclasses.replace(
            row,
            validation_psnr=self.psnr,
            active_units=self.latents.active_units,
            posterior_gain=self.latents.posterior_gain,
        )


def judge(task: Task, module: nn.Module) -> Validation:
    """Validates a module of the task, which is in training mode before and after."""
    module.eval()
    with torch.no_grad():
        judgement = Validation(task.validate(module), *task.examine(module))
    module.train()
    return judgement
