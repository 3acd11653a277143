"""What goes into a rollout and what comes out: plain containers of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit.model.gaussian import Gaussian
from labkit.model.recurrent import State


@dataclass(frozen=True)
class Rollout:
    """What a training rollout hands to the objective; index 0 along time is t = 1."""

    frames: Float[Tensor, "B S 3 H W"]
    """predictions of x_1 .. x_{T-1}, in [0, 1]"""
    posterior: Gaussian
    """q_phi(z_t | x_{1:t}), (B, S, z), the latent maps of all levels after the vector's"""
    prior: Gaussian
    """p(z_t), (B, S, z), the same way"""
    log_variance: Float[Tensor, ""] | None = None
    """of p(x_t | z), where the model learns it"""
    blind: Bool[Tensor, "B S"] | None = None
    """steps whose z_t came from the prior, whatever the posterior says; None is none"""


@dataclass(frozen=True)
class Features:
    """What the encoder says of S frames of each clip."""

    h: Float[Tensor, "B S g"]
    maps: Sequence[Tensor]
    """each (B, S, channels, side, side), finest first"""

    def __getitem__(self, steps: slice) -> Features:
        return Features(self.h[:, steps], [each[:, steps] for each in self.maps])

    def repeat(self, copies: int) -> Features:
        """Each clip that many times in a row."""
        return Features(spread(self.h, copies), [spread(each, copies) for each in self.maps])


@dataclass(frozen=True)
class Memory:
    """The recurrent state of a rollout; None is all zeros."""

    predictor: State | None = None
    prior: State | None = None


@dataclass(frozen=True)
class RolloutState:
    """All that a free-running rollout remembers between two steps. `step` makes a new one and
    leaves this as it was, so that several futures can go out from one state."""

    frame: Float[Tensor, "B 3 H W"]
    """x_{t-1}: the last context frame, then the last prediction"""
    features: Features | None
    """of it, (B, 1, ...), where they are known already"""
    anchor: Float[Tensor, "B _ H W"]
    """what the output keeps of the last context frame, itself first"""
    skips: Sequence[Tensor]
    """prepared skip features that serve every step; empty where each frame brings its own"""
    memory: Memory
    since: Float[Tensor, "B 1 C"] | None = None
    """what the next step's change is counted from (`Core._change`); None: from itself"""

    def repeat(self, copies: int) -> RolloutState:
        """Each clip that many times in a row."""

        def cell(state: State | None) -> State | None:
            if state is None:
                return None
            h, c = (part.repeat_interleave(copies, dim=1) for part in state)
            return h, c

        return RolloutState(
            spread(self.frame, copies),
            None if self.features is None else self.features.repeat(copies),
            spread(self.anchor, copies),
            [spread(each, copies) for each in self.skips],
            Memory(cell(self.memory.predictor), cell(self.memory.prior)),
            None if self.since is None else spread(self.since, copies),
        )


def spread(tensor: Float[Tensor, "B ..."], copies: int) -> Float[Tensor, "_ ..."]:
    """Each row of a batch that many times in a row; the tensor itself for one."""
    return tensor if copies == 1 else torch.repeat_interleave(tensor, copies, dim=0)
