"""The ways to load clips that `benchmarks/loading.py` compares."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from labkit.data.dataset import Batch, ClipDataset
from labkit.data.loader import BatchLoader
from labkit.training.data_order import UpdateSampler

N_FRAMES, BATCH, SEED = 12, 12, 0

Pair = tuple[Tensor, Tensor]
"""frames float32 (..., T, 3, H, W) in [0, 1] and condition float32 (..., T, 7)"""


def in_number_order(path: Path) -> list[str | int]:
    """Sort key under which 2.png comes before 10.png."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def clip_folders(root: Path) -> list[Path]:
    """The folders of a split that hold a clip, in order."""
    return sorted({file.parent for file in root.rglob("actions.csv")}, key=in_number_order)


class SeedReportDataset(Dataset[Pair]):
    """The data set of the report that this lab started from, in its way of working.

    When it is made it reads everything, and joins every frame and every row of a table to a
    tensor that holds all before it: to add one frame, all are copied. One thing differs: folders
    and pictures are sorted by number, so that its clips can be compared with ours.
    """

    def __init__(self, root: Path) -> None:
        frames, actions, positions = torch.tensor([]), torch.tensor([]), torch.tensor([])
        for folder in clip_folders(root):
            for picture in sorted(folder.glob("*.png"), key=in_number_order)[:N_FRAMES]:
                with Image.open(picture) as image:
                    frames = torch.cat((frames, to_tensor(image)))
        for folder in clip_folders(root):
            actions = torch.cat((actions, self._table(folder / "actions.csv")))
            positions = torch.cat((positions, self._table(folder / "endeffector_positions.csv")))
        size = frames.shape[-2:]
        self.frames = frames.reshape(-1, N_FRAMES, 3, *size)
        self.condition = torch.cat((actions, positions), dim=1).reshape(-1, N_FRAMES, 7)

    @staticmethod
    def _table(file: Path) -> Tensor:
        rows = torch.tensor([])
        with file.open(newline="") as stream:
            for row in list(csv.reader(stream))[:N_FRAMES]:
                rows = torch.cat((rows, torch.tensor([[float(cell) for cell in row]])))
        return rows

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Pair:
        return self.frames[index], self.condition[index]


class PictureDataset(Dataset[Pair]):
    """The usual lazy data set: an item opens its 12 PNGs and its two tables, when asked for."""

    def __init__(self, root: Path) -> None:
        self.folders = clip_folders(root)

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Pair:
        folder = self.folders[index]
        frames = []
        for number in range(N_FRAMES):
            with Image.open(folder / f"{number}.png") as image:
                frames.append(to_tensor(image))
        tables = [
            np.loadtxt(folder / name, np.float32, delimiter=",", max_rows=N_FRAMES)
            for name in ("actions.csv", "endeffector_positions.csv")
        ]
        return torch.stack(frames), torch.from_numpy(np.concatenate(tables, axis=1))


def of_items(dataset: Dataset[Pair], clips: int) -> Iterator[Pair]:
    """Shuffled batches of that many of its items, by the usual DataLoader."""
    some = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(SEED))  # type: ignore[arg-type]
    chosen = torch.utils.data.Subset(dataset, some[:clips].tolist())
    return iter(DataLoader(chosen, batch_size=BATCH))


def of_windows(dataset: ClipDataset, clips: int) -> Iterator[Batch]:
    """Shuffled batches of that many of its windows (as many whole batches as that makes), as in
    training."""
    updates = range(max(1, clips // BATCH))
    sampler = UpdateSampler(len(dataset), BATCH, SEED, updates)
    return iter(BatchLoader(dataset, sampler))


Opened = Callable[[int], Iterator[Pair | Batch]]
"""gives batches of so many clips of a data set that has been opened"""


def seed_way(data: Path) -> Opened:
    """The starting report's data set."""
    dataset = SeedReportDataset(data / "folders" / "train")
    return lambda clips: of_items(dataset, clips)


def png_way(data: Path) -> Opened:
    """One clip at a time from its PNGs."""
    dataset = PictureDataset(data / "folders" / "train")
    return lambda clips: of_items(dataset, clips)


def folders_way(data: Path) -> Opened:
    """ClipDataset from folders."""
    dataset = ClipDataset(data / "folders", "train", windows="first", source="folders")
    return lambda clips: of_windows(dataset, clips)


def pack_way(data: Path) -> Opened:
    """ClipDataset from a pack."""
    dataset = ClipDataset(data / "pack", "train", windows="first")
    return lambda clips: of_windows(dataset, clips)


WAYS = {
    "seed": seed_way,
    "png": png_way,
    "folders": folders_way,
    "pack": pack_way,
}
TITLES = {
    "seed": "the starting report's data set",
    "png": "one clip at a time from PNG",
    "folders": "ours from folders",
    "pack": "ours from the pack",
}
