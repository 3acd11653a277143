"""What the training loop has to be told of a model and its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

if TYPE_CHECKING:
    from labkit.training.events import Examples
    from labkit.training.latent_use import LatentUse


@runtime_checkable
class Task(Protocol):
    """A module, its batches, a loss with named parts, and a way to judge the result."""

    module: nn.Module

    def batches(self, updates: range) -> Iterable[Any]:
        """The batch of each of those updates, counted from the start of the training: this
        process's share of it."""

    def losses(
        self, batch: Any, update: int, weights: Mapping[str, float], part: int = 0
    ) -> dict[str, Tensor]:
        """Named scalars of one part of an update's batch (of as many as are accumulated): "loss"
        is minimised, "reconstruction" and "kl" are told."""

    def schedule(self, update: int) -> dict[str, float]:
        """The "kl_weight" and "teacher_forcing_ratio" of an update."""

    def validate(self, module: nn.Module) -> float:
        """How good the module is, in dB; the highest is kept."""

    def examine(self, module: nn.Module) -> tuple[LatentUse, Examples]:
        """How a few validation clips use the latent, and what the module makes of them."""

    def save(self, module: nn.Module, file: Path) -> None:
        """Writes the module's weights for use."""
