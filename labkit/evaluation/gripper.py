"""Where the predicted gripper is: template matching with the true arm.

The arm's pixels in the true frame are the template T; the picture without the arm is the backdrop
B. At each shift, the pixels under the template fit either the arm or the backdrop. The shift at
which the arm fits best compared with the backdrop is the offset of the predicted gripper from the
true one, in pixels. The template is of the same time step, so its light, height and pose are right.
The search covers all shifts. A predicted arm far from the true one may be seen from another angle
than the template; `controllability` reports the error on true frames, where the offset is known.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from labkit.data.clip import ARM
from labkit.data.simulator.camera import Camera

FEWEST = 30
"""fewest pixels of the arm in a picture of 64 x 64 that serve as a template; an arm with fewer
counts as not visible"""


def tip_pixels(positions: Float[np.ndarray, "*batch 3"], size: int) -> Float[Tensor, "*batch 2"]:
    """Pixel (u to the right, v down) of the finger tips at those positions (m)."""
    pixels, _ = Camera(size).project(np.asarray(positions, np.float64))
    return torch.from_numpy(pixels)


def in_picture(
    tips: Float[Tensor, "*batch 2"], size: int, margin: float = 1.0
) -> Bool[Tensor, "*batch"]:
    """Whether the finger tips are inside the picture, at least `margin` pixels from its border."""
    return ((tips > margin) & (tips < size - margin)).all(dim=-1)


def arm_pixels(
    labels: UInt8[Tensor, "*batch H W"], tips: Float[Tensor, "*batch 2"]
) -> Bool[Tensor, "*batch H W"]:
    """The pixels of the arm; none where the gripper is not visible."""
    size, arm = labels.shape[-1], labels == ARM
    enough = arm.sum(dim=(-2, -1)) >= FEWEST * (size / 64) ** 2
    return arm & (enough & in_picture(tips.to(labels.device), size))[..., None, None]


def backdrop(
    frames: Float[Tensor, "*batch T 3 H W"], labels: UInt8[Tensor, "*batch T H W"]
) -> Float[Tensor, "*batch 3 H W"]:
    """Each pixel's median over the frames in which the arm does not cover it. A pixel that the arm
    always covers gets the mean colour of the other pixels."""
    uncovered = frames.where((labels != ARM)[..., None, :, :], torch.nan)
    plate = uncovered.nanmedian(dim=-4).values
    return plate.where(plate.isfinite(), plate.nanmean(dim=(-2, -1), keepdim=True))


def gripper_offset(
    frames: Float[Tensor, "*batch 3 H W"],
    truth: Float[Tensor, "*batch 3 H W"],
    arms: Bool[Tensor, "*batch H W"],
    plates: Float[Tensor, "*#batch 3 H W"],
) -> Float[Tensor, "*batch 2"]:
    """Offset (u, v) in pixels of the gripper in `frames` from that in `truth`, to a fraction of a
    pixel; NaN where there are no pixels of an arm. The lowest over all shifts s of

        sum_x m(x) (|I(x + s) - T(x)|^2 - |I(x + s) - B(x + s)|^2),

    m the arm's pixels, computed by Fourier transforms. Pixels outside of the picture count as 0.

    Args:
        frames: the pictures I in which the gripper is searched.
        truth: the true frames T, whose arm is known.
        arms: the arm's pixels (`arm_pixels`).
        plates: the pictures B without the arm (`backdrop`), one a frame or one for several frames.
    """
    batch, size = frames.shape[:-3], frames.shape[-1]
    image, template, plate = (
        each.expand_as(frames).reshape(-1, 3, size, size).float()
        for each in (frames, truth, plates)
    )
    m = arms.reshape(-1, 1, size, size).float()
    # The arm goes on above the picture, and comes in where it is moved down: as its top row does.
    template, m = (F.pad(each, (0, 0, size // 2, 0), mode="replicate") for each in (template, m))

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        # sum_x a(x + s) b(x), summed over channels; s = 0 is at (size, size). Rows of b are
        # size / 2 further down than those of a.
        wide = (3 * size, 2 * size)
        product = torch.fft.rfft2(a, wide) * torch.fft.rfft2(b, wide).conj()
        found = torch.fft.irfft2(product.sum(dim=1), wide)
        return found.roll((size + size // 2, size), (-2, -1))[:, : 2 * size]

    # |I - T|^2 - |I - B|^2 = -2 I T + T^2 + (2 I B - B^2): the square of I falls out.
    score = correlate((2 * image * plate - plate**2).sum(1, keepdim=True), m)
    score = score - 2 * correlate(image, template * m)
    score = score + correlate(
        torch.ones_like(image[:, :1]), template.square().sum(1, keepdim=True) * m
    )
    offset = _lowest(score) - size
    there = arms.flatten(-2).any(-1).reshape(-1, 1)
    return offset.where(there, torch.nan).view(*batch, 2).float()


def _lowest(score: Float[Tensor, "N S S"]) -> Float[Tensor, "N 2"]:
    """Column and row of the lowest score, refined by a parabola through its neighbours."""
    n, side = len(score), score.shape[-1]
    place = score.flatten(1).argmin(dim=1)
    row, column, each = place // side, place % side, torch.arange(n, device=score.device)

    def refined(at: Tensor, near: Tensor, far: Tensor) -> Tensor:
        middle = score[each, row, column]
        bend = near - 2 * middle + far
        usable = bend.isfinite() & (bend > 0)
        step = torch.where(usable, 0.5 * (near - far) / bend.where(usable, 1.0), 0.0)
        return at + step

    left, right = (score[each, row, (column + d).clamp(0, side - 1)] for d in (-1, 1))
    above, below = (score[each, (row + d).clamp(0, side - 1), column] for d in (-1, 1))
    return torch.stack([refined(column, left, right), refined(row, above, below)], dim=-1)
