"""A callback that warns in words: the posterior has collapsed, a source of the frame is not in use,
or the gradients explode."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labkit.evaluation.sources import unused_sources
from labkit.training.events import EpochEnd, Update
from labkit.training.latent_use import LatentUse

EXPLODING = 10.0
"""A mean gradient norm above this many times the median of the earlier epochs is reported."""


class Advice:
    """Warns, once each, of a collapsed posterior, of sources that are not in use and of exploding
    gradients.

    A collapsed posterior and an unused source are reported when they were found at three
    validations in a row, of which the first was after 100 updates: in the first updates every
    posterior is collapsed.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """
        Args:
            say: receives each warning, such as `print`.
        """
        self.say = say
        self.collapsed_in_a_row = 0
        self.given: set[str] = set()

    def on_update(self, update: Update) -> None:
        """Does nothing: single updates vary too much."""

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        """Checks the epoch, and warns where that is due."""
        if epoch_end.latents is not None and epoch_end.row.updates >= 100:
            self.collapsed_in_a_row = (
                self.collapsed_in_a_row + 1 if epoch_end.latents.collapsed else 0
            )
            if self.collapsed_in_a_row == 3:
                self._once("collapse", collapse_in_words(epoch_end.latents))
        shares = [row.source_shares for row in epoch_end.rows if row.updates >= 100]
        last = [each for each in shares if each][-3:]
        if epoch_end.row.source_shares and len(last) == 3:
            unused = set.intersection(*(set(unused_sources(each)) for each in last))
            if "pushed" in unused:
                self._once("pushed", nothing_pushed_in_words(last[-1]["pushed"]))
            if unused - {"pushed"}:
                found = {name: last[-1][name] for name in unused - {"pushed"}}
                self._once("unused", unused_in_words(found))
        norms = [row.gradient_norm for row in epoch_end.rows if row.gradient_norm is not None]
        if len(norms) > 3 and epoch_end.row.gradient_norm is not None:
            usual = sorted(norms[:-1])[(len(norms) - 1) // 2]
            if norms[-1] > EXPLODING * usual > 0:
                self._once("explosion", explosion_in_words(norms[-1], usual))

    def close(self) -> None:
        """Does nothing."""

    def _once(self, kind: str, words: str) -> None:
        if kind not in self.given:
            self.given.add(kind)
            self.say(words)


def collapse_in_words(latents: LatentUse) -> str:
    """What a collapsed posterior is, and what to try."""
    return (
        f"the posterior has collapsed: KL {latents.kl_per_step.mean():.3f} nats per step, "
        f"{latents.active_units} of {len(latents.variance)} latent units active, and with z from "
        f"the posterior the PSNR is {latents.posterior_gain:+.2f} dB from that with z from the "
        "prior. The latent z carries no information: all samples are alike. Try a posterior whose "
        "mean keeps its variance and that starts with little noise, as the preset `free` has it: "
        "--model.posterior-norm batch --model.posterior-log-variance-start -6 --kl.schedule "
        "constant --kl.wait 0.5 (where the condition says all that z could say, z stays unused). "
        "Or try latent maps, as the preset `latent` has them: --model.observation optimal "
        "--model.latent-levels 3 "
        "--model.prior learned --kl.schedule constant --kl.max-weight 6 --kl.hybrid 0.5"
    )


def unused_in_words(shares: Mapping[str, float]) -> str:
    """What an unused source is, and what to try.

    Args:
        shares: of the unused sources, by name.
    """
    parts = " and ".join(f"`{name}` {share:.2%}" for name, share in sorted(shares.items()))
    return (
        f"the predicted frames hardly use a source of the output: {parts} of the frame, on average "
        "over some validation clips. It gets no gradient any more and cannot come into use again. "
        "Try --teacher-forcing.start 0 (while true frames are fed, the previous one is enough), "
        "another --seed, or a lower --training.learning-rate"
    )


def nothing_pushed_in_words(share: float) -> str:
    """What it means that the arm moves nothing, and what to try.

    Args:
        share: of what is pushed.
    """
    return (
        f"the arm pushes hardly anything: `pushed` is {share:.2%} of the predicted frames, on "
        "average over some validation clips. If nothing moves in the clips but the arm, that is "
        "right. Else begin with a trained run, whose arm is already placed (--init-from), and with "
        "short windows (--training.growing-windows 0.75). There must be at least 2 context frames"
    )


def explosion_in_words(norm: float, usual: float) -> str:
    """What exploding gradients are, and what to try."""
    return (
        f"the gradient's norm was {norm:.3g} on average over this epoch, {norm / usual:.0f} times "
        "the median of the epochs before: single updates may destroy what was learned. Try "
        "--training.gradient-clip 1, or a lower --training.learning-rate"
    )
