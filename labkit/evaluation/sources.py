"""What predicted frames are composed of: the share of each source of the output, by region.

A source is a picture that a composed output blends in: the previous frame, the last context frame,
the layer, the table, what is pushed of it, the arm, fresh pixels. A source whose share stays near
0 gets no gradient, so it cannot come into use again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from labkit.evaluation.regions import REGIONS
from labkit.model import VideoCVAE

SOURCES = ("previous", "context", "layer", "table", "arm", "fresh", "pushed")
"""Names of all sources; each output has some of them."""
UNUSED = 0.005
"""Share of the frame below which a source is not in use. An arm covers 5 % of a frame and more."""
UNUSED_PUSHED = 0.0005
"""The same for what is pushed: objects that move cover 2 % of a frame, and few move at a time."""


@torch.no_grad()
def predicted_sources(
    model: VideoCVAE,
    context: Float[Tensor, "B n_past 3 H W"],
    condition: Float[Tensor, "B T C"],
    horizon: int,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "B horizon 3 H W"], dict[str, Float[Tensor, "B horizon 1 H W"]]]:
    """The prediction of `VideoCVAE.predict`, and the weight of each source at each pixel.

    Args:
        model: in evaluation mode.
        context, condition, horizon, generator: as in `VideoCVAE.predict`.
    Raises:
        ShapeError: frames or condition do not fit the model.
    """
    steps: list[dict[str, Tensor]] = []

    def record(output: torch.nn.Module, inputs: tuple[Tensor, ...], frames: Tensor) -> None:
        steps.append(output.compose(*inputs)[1])

    hook = model.output.register_forward_hook(record)
    try:
        frames = model.predict(context, condition, horizon, generator=generator)
    finally:
        hook.remove()
    names = steps[0] if steps else ()  # none where a model predicts without its output
    return frames, {name: torch.stack([step[name] for step in steps], dim=1) for name in names}


def source_shares(
    weights: Mapping[str, Float[Tensor, "B S 1 H W"]],
    labels: UInt8[Tensor, "B S H W"] | None = None,
) -> dict[str, dict[str, float]]:
    """The mean weight of each source, by region, from 0 to 1; in each region they sum to 1.

    Args:
        weights: of `predicted_sources`.
        labels: regions of the predicted frames, where they are known.
    Returns:
        shares of the whole "frame", and of each region of `REGIONS` that the labels contain.
    """
    shares = {"frame": {name: weight.mean().item() for name, weight in weights.items()}}
    for region, label in REGIONS.items() if labels is not None else ():
        mask = labels == label  # (B, S, H, W)
        if mask.any():
            shares[region] = {
                name: weight[:, :, 0][mask].mean().item() for name, weight in weights.items()
            }
    return shares


def unused_sources(shares: Mapping[str, float]) -> list[str]:
    """Names of the sources with less than UNUSED of the frame, or UNUSED_PUSHED. Fresh pixels are
    not among them, because a frame that needs none is no fault."""
    least = {"pushed": UNUSED_PUSHED, "fresh": 0.0}
    return [name for name, share in shares.items() if share < least.get(name, UNUSED)]
