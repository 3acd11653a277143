"""A data set kept whole in a device's memory, where it fits: batches then cost no copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from labkit.data.dataset import Batch, ClipDataset

CHUNK = 64
"""clips copied at once"""


class GPUCache:
    """All clips of a data set on a device, frames as uint8; windows are cut out there."""

    def __init__(self, dataset: ClipDataset, device: torch.device | str) -> None:
        """Copies the clips.

        Raises:
            DataError: a clip cannot be read.
        """
        self.dataset = dataset
        whole = _whole(dataset)
        shape = (len(whole), whole.n_frames)
        self.frames: UInt8[Tensor, "N T 3 H W"] = torch.empty(
            *shape, 3, *whole.frame_size, dtype=torch.uint8, device=device
        )
        self.condition: Float32[Tensor, "N T C"] = torch.empty(
            *shape, whole.condition_size, device=device
        )
        for first in range(0, len(whole), CHUNK):
            part = slice(first, min(first + CHUNK, len(whole)))
            batch = whole.batch(range(part.start, part.stop))
            self.frames[part], self.condition[part] = batch.frames, batch.condition

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows of those numbers, as `ClipDataset.batch` gives them, on the device.

        Raises:
            IndexError: there is no such window.
        """
        places = [self.dataset.clip_of(index) for index in indices]
        at = torch.tensor(places, dtype=torch.int64).to(self.frames.device).T[..., None]
        steps = torch.arange(self.dataset.n_frames, device=self.frames.device)
        window = at[0], at[1] + steps  # (B, 1), (B, n_frames)
        return Batch(self.frames[window], self.condition[window])

    def batches(self, order: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """The batches of that order, as a BatchLoader gives them."""
        return map(self.batch, order)


def _whole(dataset: ClipDataset) -> ClipDataset:
    """The same clips, each in its full length as its only window."""
    length = len(dataset.clip(0).frames)
    return ClipDataset(
        dataset.root,
        dataset.split,
        n_past=1,
        n_future=length - 1,
        condition=dataset.condition,
        windows="first",
        labels=False,
    )


def resident_bytes(dataset: ClipDataset) -> int:
    """What the clips would take on a device."""
    clip = dataset.clip(0)
    row = 4 * dataset.condition_size
    return dataset.n_clips * (clip.frames.nbytes + len(clip.frames) * row)


def fits(dataset: ClipDataset, device: torch.device) -> bool:
    """Whether the clips take no more than half of a GPU's free memory: the other half is the
    model's."""
    return resident_bytes(dataset) <= torch.cuda.mem_get_info(device)[0] // 2
