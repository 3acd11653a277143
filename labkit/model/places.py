"""What the condition says of each place of a frame, as maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PlaceMaps(nn.Module):
    """A small network of x, y and the condition, the same at every place (after the spatial
    broadcast decoder, Watters et al. 2019, and CoordConv, Liu et al. 2018).

    FiLM and a bias are the same at every place, so the network must find out anew where the arm
    is. Here a position in the condition becomes a place in a map, which is added to the decoder's.
    """

    def __init__(self, conditioning_size: int, channels: Sequence[int], hidden: int = 48) -> None:
        """
        Args:
            conditioning_size: numbers of the condition and of its change.
            channels: of the decoder's maps, coarsest first; each has twice the side of the one
                before.
            hidden: units at each place.
        """
        super().__init__()
        self.from_place = nn.Linear(2, hidden)
        self.from_conditioning = nn.Linear(conditioning_size, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 1)
        self.to_maps = nn.ModuleList(nn.Conv2d(hidden, each, 1) for each in channels)

    def forward(
        self, conditioning: Float[Tensor, "N c"], side: int
    ) -> list[Float[Tensor, "N _ _ _"]]:
        """A map for each of the decoder's maps, of which the first has that side."""
        line = torch.linspace(-2, 2, side, device=conditioning.device)
        y, x = torch.meshgrid(line, line, indexing="ij")
        place = self.from_place(torch.stack([x, y], dim=-1)).permute(2, 0, 1)
        hidden = F.silu(place + self.from_conditioning(conditioning)[:, :, None, None])
        hidden = F.silu(self.mix(hidden))  # (N, hidden, side, side)
        maps = [to_map(hidden) for to_map in self.to_maps]
        return [
            F.interpolate(each, scale_factor=2**n, mode="bilinear") if n else each
            for n, each in enumerate(maps)
        ]
