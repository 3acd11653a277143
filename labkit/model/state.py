"""What goes into a rollout and what comes out: plain containers of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit.model.gaussian import Gaussian
from labkit.model.pusher import PushCandidates
from labkit.model.recurrent import State


@dataclass(frozen=True)
class Rollout:
    """What a training rollout hands to the objective; index 0 along time is t = 1."""

    frames: Float[Tensor, "B S 3 H W"]
    """predictions of x_1 .. x_{T-1}, in [0, 1]"""
    posterior: Gaussian
    """q_phi(z_t | x_{1:t}), (B, S, z), the latent maps of all levels after the vector's"""
    prior: Gaussian
    """p(z_t), (B, S, z), in the same order"""
    log_variance: Float[Tensor, ""] | None = None
    """of p(x_t | z), where the model learns it"""
    z_from_prior: Bool[Tensor, "B S"] | None = None
    """steps whose z_t came from the prior; None is no step"""
    push: PushCandidates | None = None
    """of the first steps, each of which begins at a true frame: what an output that pushes chose
    from"""


@dataclass(frozen=True)
class Features:
    """The encoder's results for S frames of each clip."""

    h: Float[Tensor, "B S g"]
    maps: Sequence[Tensor]
    """each (B, S, channels, side, side), finest first"""

    def __getitem__(self, steps: slice) -> Features:
        return Features(self.h[:, steps], [each[:, steps] for each in self.maps])

    def repeat(self, copies: int) -> Features:
        """Each clip that many times in a row."""
        return Features(
            repeat_rows(self.h, copies), [repeat_rows(each, copies) for each in self.maps]
        )


@dataclass(frozen=True)
class LSTMStates:
    """The recurrent states of a rollout; None is all zeros."""

    predictor: State | None = None
    prior: State | None = None


@dataclass(frozen=True)
class RolloutState:
    """All that a free-running rollout needs from one step to the next. `step` makes a new one and
    changes nothing in this one, so that several futures can start from one state."""

    frame: Float[Tensor, "B 3 H W"]
    """x_{t-1}: the last context frame, then the last prediction"""
    features: Features | None
    """of `frame`, (B, 1, ...), where they are known already"""
    reference_frame: Float[Tensor, "B _ H W"]
    """the last context frame, as the output prepared it"""
    skips: Sequence[Tensor]
    """prepared skip features of the frame that serves every step; empty where each frame has its
    own"""
    states: LSTMStates
    condition_origin: Float[Tensor, "B 1 _"] | None = None
    """what the next step's change of the condition is counted from
    (`ConditionInputs.change`)"""
    condition_before: Float[Tensor, "B 1 C"] | None = None
    """normalised condition of the step before; None where there was none"""

    def repeat(self, copies: int) -> RolloutState:
        """Each clip that many times in a row."""

        def lstm(state: State | None) -> State | None:
            if state is None:
                return None
            h, c = (part.repeat_interleave(copies, dim=1) for part in state)
            return h, c

        origin, before = self.condition_origin, self.condition_before
        return RolloutState(
            repeat_rows(self.frame, copies),
            None if self.features is None else self.features.repeat(copies),
            repeat_rows(self.reference_frame, copies),
            [repeat_rows(each, copies) for each in self.skips],
            LSTMStates(lstm(self.states.predictor), lstm(self.states.prior)),
            None if origin is None else repeat_rows(origin, copies),
            None if before is None else repeat_rows(before, copies),
        )


def repeat_rows(tensor: Float[Tensor, "B ..."], copies: int) -> Float[Tensor, "_ ..."]:
    """Each row of a batch that many times in a row; the tensor itself for one."""
    return tensor if copies == 1 else torch.repeat_interleave(tensor, copies, dim=0)
