"""How the condition acts on convolutions, besides joining the predictor's input.

Both start as (nearly) nothing, so that the condition comes in as far as it helps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CUE_SIZE = 64
"""Size of the embedded condition that FiLM layers read."""


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018): x' = (1 + gamma(c)) x + beta(c), with
    one gamma and one beta a channel, linear in an embedding of the condition."""

    def __init__(self, cue_size: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(cue_size, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, x: Float[Tensor, "N C H W"], cue: Float[Tensor, "N e"]
    ) -> Float[Tensor, "N C H W"]:
        """`cue` is the embedded condition of each picture."""
        gamma, beta = self.linear(cue)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * x + beta


class ConditionalScale(nn.Module):
    """Conditional convolution (Choi et al. 2019): output channel k of a convolution becomes
    softplus(u_k . c) x_k + v_k . c.

    There c is one-hot; a robot's condition is not, so a constant 1 joins it as a last entry,
    which makes the scale 1 at first. Where the convolution is normalised, x is what comes after.
    """

    def __init__(self, condition_size: int, channels: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.zeros(channels, condition_size + 1))
        self.v = nn.Parameter(torch.zeros(channels, condition_size + 1))
        with torch.no_grad():
            self.u[:, -1] = 0.5413248546  # softplus of it is 1

    def forward(
        self, x: Float[Tensor, "N C H W"], cue: Float[Tensor, "N c"]
    ) -> Float[Tensor, "N C H W"]:
        """`cue` is the condition of each picture."""
        c = F.pad(cue, (0, 1), value=1.0)
        scale, shift = F.softplus(c @ self.u.T), c @ self.v.T
        return scale[:, :, None, None] * x + shift[:, :, None, None]


def modulation(kind: str, condition_size: int, channels: int) -> FiLM | ConditionalScale | None:
    """The layer for a block of that many channels: `film`, `conv`, or None for `input`."""
    if kind == "film":
        return FiLM(CUE_SIZE, channels)
    return ConditionalScale(condition_size, channels) if kind == "conv" else None


class Cue(nn.Module):
    """What the modulating layers are told of the condition: an embedding of it for FiLM, the
    condition itself for a conditional convolution."""

    def __init__(self, kind: str, condition_size: int) -> None:
        super().__init__()
        self.embed = (
            nn.Sequential(nn.Linear(condition_size, CUE_SIZE), nn.LeakyReLU(0.2))
            if kind == "film"
            else nn.Identity()
        )

    def forward(self, condition: Float[Tensor, "N c"]) -> Float[Tensor, "N _"]:
        """The cue of each picture."""
        return self.embed(condition)
