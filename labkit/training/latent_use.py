"""What a teacher would look at while a model learns: is the latent used, are gradients sane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from labkit.data.dataset import Batch, ClipDataset
from labkit.evaluation.metrics import psnr
from labkit.model import Gaussian, VideoCVAE
from labkit.training.events import EpochEnd, Examples, Update

ACTIVE_VARIANCE = 0.01
"""A latent unit is active where its posterior mean varies by more than this over the data, as in
Burda et al. (2016)."""

COLLAPSED_KL = 0.1
"""nats a step, all units together: below this the posterior says next to nothing"""

COLLAPSED_GAIN = 0.1
"""dB by which a posterior that saw the target must beat a blind sample to be of any use"""

EXPLODING = 10.0
"""times the median of the epochs before: a mean gradient norm above this is told"""


@dataclass(frozen=True)
class LatentUse:
    """How a few clips use the latent z_t."""

    kl: Float[Tensor, "S z"]
    """nats of each step t = 1 .. T-1 and each unit, averaged over the clips"""
    variance: Float[Tensor, " z"]
    """of each unit's posterior mean over clips and steps, the prior's mean taken off"""
    posterior_gain: float
    """dB: PSNR of the frames after the context with z from the posterior, which saw them, less
    PSNR with z from the prior; both free-running, one draw"""

    @property
    def kl_per_step(self) -> Float[Tensor, " S"]:
        """Nats of each step, summed over the units."""
        return self.kl.sum(dim=1)

    @property
    def active_units(self) -> int:
        """Units whose posterior mean varies by more than ACTIVE_VARIANCE."""
        return int((self.variance > ACTIVE_VARIANCE).sum())

    @property
    def collapsed(self) -> bool:
        """Whether the posterior is as good as the prior: it brings no dB, and either costs no
        nats or says the same of every clip."""
        silent = self.kl_per_step.mean().item() < COLLAPSED_KL or not self.active_units
        return silent and self.posterior_gain < COLLAPSED_GAIN


def examine(
    model: VideoCVAE,
    dataset: ClipDataset,
    *,
    clips: int,
    seed: int,
    device: torch.device,
    keep: int,
) -> tuple[LatentUse, Examples]:
    """How the first windows of a data set use the latent, and the first few of them to look at.

    The draws are of the seed alone, so that nothing else in the training depends on this.

    Args:
        model: in evaluation mode.
        dataset: the validation split.
        clips: how many windows, as one batch.
        seed: of the draws of z.
        device: where the model is.
        keep: how many clips to keep as examples.
    """
    batch = dataset.batch(range(min(clips, len(dataset)))).to(device)
    return examine_batch(model, batch, dataset.n_past, seed=seed, keep=keep)


@torch.no_grad()
def examine_batch(
    model: VideoCVAE, batch: Batch, n_past: int, *, seed: int, keep: int
) -> tuple[LatentUse, Examples]:
    """The same for a batch of clips: free-running once with z from the posterior, once with z
    from the prior."""
    frames, condition = batch.frames, batch.condition
    context, future = frames[:, :n_past], frames[:, n_past:]
    generator = torch.Generator(frames.device).manual_seed(seed)
    predicted = model.predict(context, condition, future.shape[1], generator=generator)
    generator.manual_seed(seed)
    seen = model.rollout(frames, condition, n_past, teacher_forced=False, generator=generator)
    gain = (psnr(seen.frames[:, n_past - 1 :], future) - psnr(predicted, future)).mean()
    told = torch.cat([context, predicted], dim=1)
    return (
        latent_use(seen.posterior, seen.prior, gain.item()),
        Examples(_to_uint8(frames[:keep]), _to_uint8(told[:keep]), n_past),
    )


def latent_use(q: Gaussian, p: Gaussian, posterior_gain: float) -> LatentUse:
    """KL of every step and unit, and how far each unit's posterior mean moves with the data.

    Burda et al. (2016) call a unit active where A_u = Var_x( E_q(u|x)[u] ) > 0.01. Here the data
    points are the steps of all clips. A learned prior's mean is taken off first: what it knew
    without seeing the target is no work of the posterior; that of N(0, I) is 0.

    Args:
        q: the posterior, (B, S, z).
        p: the prior, (B, S, z).
        posterior_gain: see LatentUse.
    """
    shift = (q.mean - p.mean).float()
    kl = kl_divergence(_normal(q), _normal(p))  # (B, S, z), in nats
    variance = shift.flatten(0, 1).var(dim=0, unbiased=False)
    return LatentUse(kl.mean(dim=0).cpu(), variance.cpu(), posterior_gain)


def _to_uint8(frames: Float[Tensor, "N T 3 H W"]) -> UInt8[np.ndarray, "N T 3 H W"]:
    return (frames.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean.float(), torch.exp(0.5 * gaussian.log_variance.float()))


# ------------------------------------------------------------------------------ said in words


def collapse_in_words(latents: LatentUse) -> str:
    """What a collapsed posterior is, and what to try."""
    return (
        f"the posterior has collapsed: KL {latents.kl_per_step.mean():.3f} nats a step, "
        f"{latents.active_units} of {len(latents.variance)} latent units active, and a rollout "
        f"that sees its target is {latents.posterior_gain:+.2f} dB from one that does not. The "
        "latent z carries nothing: all samples are alike. Try latent maps, as the preset `latent` "
        "has them: --model.observation optimal --model.latent-levels 3 --model.prior learned "
        "--kl.schedule constant --kl.max-weight 6 --kl.hybrid 0.5"
    )


def explosion_in_words(norm: float, usual: float) -> str:
    """What exploding gradients are, and what to try."""
    return (
        f"the gradient's norm was {norm:.3g} on average over this epoch, {norm / usual:.0f} times "
        "the median of the epochs before: single updates may undo what was learned. Try "
        "--training.gradient-clip 1, or a lower --training.learning-rate"
    )


class Advice:
    """Says in words, once each, what looks wrong: a collapsed posterior, exploding gradients.

    A posterior counts as collapsed when it was so at three validations in a row, the first of
    them after 100 updates: at the start it always is.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """
        Args:
            say: where the words go, such as `print`.
        """
        self.say = say
        self.collapsed_in_a_row = 0
        self.told: set[str] = set()

    def on_update(self, told: Update) -> None:
        """Nothing: single updates vary too much."""

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Looks at the epoch, and speaks where it must."""
        if epoch_end.latents is not None and epoch_end.row.updates >= 100:
            self.collapsed_in_a_row = (
                self.collapsed_in_a_row + 1 if epoch_end.latents.collapsed else 0
            )
            if self.collapsed_in_a_row == 3:
                self._once("collapse", collapse_in_words(epoch_end.latents))
        norms = [row.gradient_norm for row in epoch_end.rows if row.gradient_norm is not None]
        if len(norms) > 3 and epoch_end.row.gradient_norm is not None:
            usual = sorted(norms[:-1])[(len(norms) - 1) // 2]
            if norms[-1] > EXPLODING * usual > 0:
                self._once("explosion", explosion_in_words(norms[-1], usual))

    def close(self) -> None:
        """Nothing is open."""

    def _once(self, kind: str, words: str) -> None:
        if kind not in self.told:
            self.told.add(kind)
            self.say(words)
