"""What the arm pushes: a part of the table is moved along with the arm.

At each step there are two candidates for every pixel of the table: it stays, or it moves as the arm
moves at this place. The arm's own displacement is known from the placement of its picture, so no
motion has to be found. A small network only says where the table moves (the gate), and corrects the
displacement by a few pixels:

    D_still = D_{t-1}(x)                D: from a pixel to its place in the table of the clip
    D_moved = v(x) + D_{t-1}(x + v(x))  v: where the arm at x came from, plus a correction
    table_t = (1 - gate) table(x + D_still) + gate table(x + D_moved)

The table is always read from that of the clip, never from a predicted one, so nothing blurs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.model.output import warp

CORRECTION = 2.0
"""Pixels by which what is pushed may move otherwise than the arm."""
CLOSED = -3.0
"""Logit of the gate before training."""
REACH = 8
"""Pixels from the arm within which something can be pushed, in a frame of 64 pixels."""
HIDDEN = 0.3
"""Opacity of the arm above which a pixel of the table is not seen."""
SHADE = 1.25
"""Gain of the light up to which a pixel counts as the same. The arm's shadow moves as the arm
moves, so without this the gate would learn the shadow, and drag the ground along with it."""
NEIGHBOURS = 3
"""Side in pixels of the square over which the gain of moving is averaged: the middle of an object
of one colour looks the same whether it moves or not, and its edges decide."""
STAY = 0.005
"""Squared error, summed over colours, by which moving must be better than staying. Else ground
without a pattern, which looks the same either way, would move along."""


@dataclass(frozen=True)
class PushCandidates:
    """What a step chose from, so that the gate can be learned directly."""

    still: Float[Tensor, "*batch 3 H W"]
    """the table if nothing moves at this step"""
    moved: Float[Tensor, "*batch 3 H W"]
    """the table if everything moves with the arm"""
    gate: Float[Tensor, "*batch 1 H W"]
    """the share of `moved`"""
    seen: Float[Tensor, "*batch 1 H W"]
    """1 where the arm hides the table neither before nor after the step, else 0"""

    def unflatten(self, clips: int, steps: int) -> PushCandidates:
        """With a batch of clips and steps instead of the one of both."""
        parts = (self.still, self.moved, self.gate, self.seen)
        return PushCandidates(*(each.unflatten(0, (clips, steps)) for each in parts))

    def loss(self, targets: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, ""]:
        """Cross entropy of the gate with the better candidate, weighted by how much better it is,
        apart from the light.

        The squared error of the blend has no gradient where a gate is shut, and most pixels want
        it shut. This has one. Averaged over pixels, in units of a squared error.

        Args:
            targets: the true frames.
        """
        with torch.no_grad():
            better = unlit_error(self.still, targets) - unlit_error(self.moved, targets)
            gain = (better * self.seen).flatten(0, -4)
            gain = F.avg_pool2d(
                gain, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2, count_include_pad=False
            )
            gain = gain.view_as(self.gate)
        gate = self.gate.float().clamp(1e-4, 1 - 1e-4)
        opens, closes = -gain * gate.log(), (gain - STAY) * (1 - gate).log()
        return torch.where(gain > 0, opens, closes).mean()


def unlit_error(
    made: Float[Tensor, "*batch 3 H W"], target: Float[Tensor, "*batch 3 H W"]
) -> Float[Tensor, "*batch 1 H W"]:
    """The squared error of each pixel, summed over colours, in the light that fits best, which is
    between 1 / SHADE and SHADE times that of `made`."""
    light = (made * target).sum(-3, keepdim=True)
    light = light / made.square().sum(-3, keepdim=True).clamp_min(1e-4)
    light = light.detach().clamp(1 / SHADE, SHADE)
    return (light * made - target).square().sum(-3, keepdim=True)


class Pusher(nn.Module):
    """The gate and the correction of the arm's displacement, from the table, the arm and the
    condition; a small U-Net."""

    in_channels = 10
    """table, last context frame (3 each), the arm's opacity before and after, its coordinates"""

    def __init__(self, condition_size: int, width: int) -> None:
        """
        Args:
            condition_size: C.
            width: channels at full and at half resolution.
        """
        super().__init__()
        w, known = width, 2 * condition_size
        self.enter = nn.Conv2d(self.in_channels + 2, w, 4, stride=2, padding=1)
        self.film = nn.Linear(known, 2 * w)
        self.down = nn.Conv2d(w, 2 * w, 4, stride=2, padding=1)
        self.film_down = nn.Linear(known, 4 * w)
        self.near = nn.Conv2d(2 * w, 2 * w, 3, padding=1)
        self.far = nn.Conv2d(2 * w, 2 * w, 3, padding=2, dilation=2)
        self.up = nn.Conv2d(3 * w, w, 3, padding=1)
        self.fine = nn.Conv2d(w + self.in_channels, w, 3, padding=1)
        self.out = nn.Conv2d(w, 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0, 0.0, CLOSED]))

    def forward(
        self,
        table: Float[Tensor, "N 3 H W"],
        displaced: Float[Tensor, "N 2 H W"],
        now: Float[Tensor, "N 3 H W"],
        frame: Float[Tensor, "N 3 H W"],
        arm: ArmMotion,
        condition: Float[Tensor, "N c"],
    ) -> tuple[Float[Tensor, "N 2 H W"], Float[Tensor, "N 3 H W"], PushCandidates]:
        """One step.

        Args:
            table: of the clip.
            displaced: D_{t-1}, in pixels (x first).
            now: the table as it was pushed so far.
            frame: the last context frame.
            arm: where it was, is, and came from.
            condition: of this step, and its change since the step before.
        Returns:
            D_t, the pushed table, and what was chosen from.
        """
        read = torch.cat([now - 0.5, frame - 0.5, arm.before, arm.after, arm.coordinates], dim=1)
        correction, gate = self.decide(read, condition)
        reach = round(REACH * table.shape[-1] / 64)
        near = F.max_pool2d(torch.maximum(arm.before, arm.after), 2 * reach + 1, 1, reach)
        return blend(table, displaced, arm, arm.displacement + correction, gate * near)

    def decide(
        self, read: Float[Tensor, "N _ H W"], condition: Float[Tensor, "N _"]
    ) -> tuple[Float[Tensor, "N 2 H W"], Float[Tensor, "N 1 H W"]]:
        """The correction in pixels, and the gate."""
        y, x = torch.meshgrid(
            *(torch.linspace(-1, 1, side, device=read.device) for side in read.shape[-2:]),
            indexing="ij",
        )
        places = torch.stack([x, y]).expand(len(read), -1, -1, -1)
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        half = F.leaky_relu(self.enter(torch.cat([read, places], 1)) * (1 + scale) + shift, 0.2)
        scale, shift = self.film_down(condition)[:, :, None, None].chunk(2, dim=1)
        low = F.leaky_relu(self.down(half) * (1 + scale) + shift, 0.2)
        low = F.leaky_relu(self.near(low), 0.2)
        low = low + F.leaky_relu(self.far(low), 0.2)
        up = F.interpolate(low, size=half.shape[-2:], mode="bilinear")
        up = F.leaky_relu(self.up(torch.cat([up, half], dim=1)), 0.2)
        up = F.interpolate(up, size=read.shape[-2:], mode="bilinear")
        out = self.out(F.leaky_relu(self.fine(torch.cat([up, read], dim=1)), 0.2))
        return CORRECTION * out[:, :2].tanh(), out[:, 2:].sigmoid()


def blend(
    table: Float[Tensor, "N 3 H W"],
    displaced: Float[Tensor, "N 2 H W"],
    arm: ArmMotion,
    v: Float[Tensor, "N 2 H W"],
    gate: Float[Tensor, "N 1 H W"],
) -> tuple[Float[Tensor, "N 2 H W"], Float[Tensor, "N 3 H W"], PushCandidates]:
    """Moves the table by v where the gate says.

    Args:
        table: of the clip.
        displaced: D_{t-1}, in pixels (x first).
        arm: where it was and is.
        v: from each pixel to where what moves was before the step, in pixels (x first).
        gate: the share that moves.
    Returns:
        D_t, the pushed table, and what was chosen from.
    """
    displaced_moved = v + warp(displaced, v)
    moved, still = warp(table, displaced_moved), warp(table, displaced)
    seen = ((arm.before < HIDDEN) & (arm.after < HIDDEN)).to(table.dtype)
    return (
        gate * displaced_moved + (1 - gate) * displaced,
        gate * moved + (1 - gate) * still,
        PushCandidates(still, moved, gate, seen),
    )


@dataclass(frozen=True)
class ArmMotion:
    """The arm before and after a step."""

    before: Float[Tensor, "N 1 H W"]
    """opacity before the step"""
    after: Float[Tensor, "N 1 H W"]
    """and after it"""
    coordinates: Float[Tensor, "N 2 H W"]
    """where each pixel reads the arm's picture after the step: the place relative to the arm"""
    displacement: Float[Tensor, "N 2 H W"]
    """from each pixel to where this point of the arm was before the step, in pixels (x first)"""
