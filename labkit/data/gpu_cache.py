"""A data set kept whole in a device's memory, where it fits: batches then cost no copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from labkit.data.dataset import Batch, ClipDataset


class GPUCache:
    """All clips of a data set on a device, frames as uint8; windows are cut out there."""

    def __init__(self, dataset: ClipDataset, device: torch.device | str) -> None:
        """Copies the clips.

        Raises:
            DataError: a clip cannot be read.
        """
        self.dataset = dataset
        lengths = torch.from_numpy(dataset.lengths)
        rows = int(lengths.sum())
        self.frames: UInt8[Tensor, "R 3 H W"] = torch.empty(
            rows, 3, *dataset.frame_size, dtype=torch.uint8, device=device
        )
        """the frames of all clips in a row"""
        self.condition: Float32[Tensor, "R C"] = torch.empty(
            rows, dataset.condition_size, device=device
        )
        self.first_rows: Int64[Tensor, " N"] = (lengths.cumsum(0) - lengths).to(device)
        """the number of frames before each clip"""
        for number, end in enumerate(lengths.cumsum(0).tolist()):
            part = slice(end - int(lengths[number]), end)
            self.frames[part] = torch.from_numpy(dataset.clip(number).frames)
            self.condition[part] = torch.from_numpy(dataset.clip_condition(number).copy())

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows of those numbers, as `ClipDataset.batch` gives them, on the device.

        Raises:
            IndexError: there is no such window.
        """
        places = [self.dataset.clip_of(index) for index in indices]
        at = torch.tensor(places, dtype=torch.int64).to(self.frames.device).T[..., None]
        steps = torch.arange(self.dataset.n_frames, device=self.frames.device)
        window = self.first_rows[at[0]] + at[1] + steps  # (B, n_frames)
        return Batch(self.frames[window], self.condition[window])

    def batches(self, order: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """The batches of that order, as a BatchLoader gives them."""
        return map(self.batch, order)


def resident_bytes(dataset: ClipDataset) -> int:
    """What the clips would take on a device."""
    height, width = dataset.frame_size
    return int(dataset.lengths.sum()) * (3 * height * width + 4 * dataset.condition_size)


def fits(dataset: ClipDataset, device: torch.device) -> bool:
    """Whether the clips take no more than half of a GPU's free memory: the other half is the
    model's."""
    return resident_bytes(dataset) <= torch.cuda.mem_get_info(device)[0] // 2
