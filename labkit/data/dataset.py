"""ClipDataset: windows of n_past + n_future frames, one at a time or as a Batch."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torchvision.datasets import VisionDataset

from labkit.config import Config, DataConfig
from labkit.data.clip import Clip
from labkit.data.folder_source import ClipFolders
from labkit.data.layout import missing_split
from labkit.data.pack import PackedSplit, ensure_pack, is_pack
from labkit.errors import DataError

_log = logging.getLogger(__name__)

_TOLD: set[str] = set()
"""warnings that were given: a training opens the same clips several times, and says it once"""

Anything = TypeVar("Anything")


@dataclass(frozen=True)
class Batch:
    """Windows of clips, batch first."""

    frames: UInt8[Tensor, "B T 3 H W"] | Float32[Tensor, "B T 3 H W"]
    """pictures: 0..255 from a data set, [0, 1] after `to`"""
    condition: Float32[Tensor, "B T C"]
    """c_t of each frame: the action, then the end-effector's position where asked for"""
    labels: UInt8[Tensor, "B T H W"] | None = None
    """region of each pixel (`labkit.data.clip`), where the clips have them and the data set was
    asked for them"""

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str) -> Batch:
        """The batch on that device, its frames as float32 in [0, 1].

        Frames travel as uint8 and become float where they are used: a quarter of the bytes.
        """
        frames = self.frames.to(device, non_blocking=True)
        if frames.dtype == torch.uint8:
            frames = frames.float().div_(255)
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return Batch(frames, self.condition.to(device, non_blocking=True), labels)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; DataLoader(pin_memory=True) calls this."""
        labels = None if self.labels is None else self.labels.pin_memory()
        return Batch(self.frames.pin_memory(), self.condition.pin_memory(), labels)


def identity(batch: Anything) -> Anything:
    """The `collate_fn` for a DataLoader over ClipDataset, whose batches are made whole."""
    return batch


class ClipDataset(VisionDataset):
    """Windows of `n_past + n_future` frames of a split's clips.

    An item is (frames uint8 (T, 3, H, W), condition float32 (T, C)). `batch`, or a BatchLoader
    (`labkit.data.loader`), reads whole batches by one call. Folders and a pack give the same
    items in the same order: clip by clip, and within a clip by start frame.

    Clips may have several lengths. Those that are shorter than a window are left out, with a
    warning.

    A pack is read from its file a window at a time, and nothing is kept: the memory it takes does
    not depend on its size. It pickles as a few paths and numbers, so that worker processes start
    quickly, forked or spawned.
    """

    def __init__(
        self,
        root: Path | str,
        split: str,
        *,
        n_past: int = 2,
        n_future: int = 10,
        condition: Literal["action+position", "action", "none"] = "action+position",
        windows: Literal["all", "first"] = "all",
        source: Literal["auto", "folders", "pack"] = "auto",
        labels: bool = True,
        progress: bool = False,
        numbers: slice = slice(None),
    ) -> None:
        """
        Args:
            root: a data set's folder: the course layout, or a pack.
            split: name of the split, such as `train`.
            n_past, n_future: context frames and horizon.
            condition: the columns of the action and the position, of the action alone, or none.
            windows: every window of a clip, or its first alone.
            source: `folders` reads PNGs, `pack` uses (and makes, if need be) a pack, `auto` is
                `pack`.
            labels: give the regions along where the clips have them. Training has no use for
                them, and they are a quarter of the bytes to read.
            progress: show a progress bar while a pack is made.
            numbers: which of the clips that are long enough are taken, such as slice(-8, None).

        Raises:
            DataError: no such data set or split, no clip as long as a window, or actions or
                positions asked for that are not there.
        """
        super().__init__(str(root))
        self._source: PackedSplit | ClipFolders
        if source == "folders":
            if is_pack(root):
                hint = 'use source="pack"'
                raise DataError("is a pack, which holds no folders of clips", file=root, hint=hint)
            self._source = ClipFolders(Path(root), split)
        else:
            self._source = ensure_pack(root, progress=progress).split(split)
        self.split, self.windows = split, windows
        self.n_past, self.n_future, self.n_frames = n_past, n_future, n_past + n_future
        self.has_positions = self._source.has_positions
        self.has_labels = self._source.has_labels
        self.labels = labels and self.has_labels
        self.condition = condition
        self.action_columns = self._source.action_columns
        """names of the action columns"""
        self.position_columns = self._source.position_columns
        """names of the position columns"""
        self._check_condition()
        sizes = {"action": len(self.action_columns), "none": 0}
        sizes["action+position"] = sizes["action"] + len(self.position_columns)
        self.condition_size = sizes[condition]
        """C, the columns of the condition"""
        self._clips = self._long_enough()[numbers]
        if not len(self._clips):
            raise DataError(f"no clip of {split} is left to use", file=root)
        spare = self._source.lengths[self._clips] - self.n_frames + 1
        counts = spare if windows == "all" else np.ones_like(spare)
        self._ends: Int64[np.ndarray, " N"] = np.cumsum(counts)
        self.first_windows: Int64[np.ndarray, " N"] = self._ends - counts
        """the number of each clip's first window"""

    def _check_condition(self) -> None:
        """Raises DataError where the clips lack a part of the condition."""
        there = {"actions": len(self.action_columns), "positions": len(self.position_columns)}
        wanted = {"action+position": ["actions", "positions"], "action": ["actions"], "none": []}
        for kind in wanted[self.condition]:
            if not there[kind]:
                choice = "action" if there["actions"] else "none"
                what = f"clips of {self.split} have no {kind}"
                hint = f"set data.condition={choice}: --data.condition {choice}"
                if choice == "none":
                    hint += " --model.conditioning input"
                raise DataError(what, file=self.root, hint=hint)

    def _long_enough(self) -> Int64[np.ndarray, " N"]:
        """The numbers, in the source, of the clips that are as long as a window.

        Raises:
            DataError: there are none.
        """
        lengths = self._source.lengths
        kept = np.flatnonzero(lengths >= self.n_frames)
        if not len(kept):
            have = f"{lengths.max()} frames" + (" at most" if np.ptp(lengths) else "")
            what = f"clips of {self.split} have {have}, n_past + n_future = {self.n_frames}"
            hint = "set a shorter data.n_past or data.n_future"
            if (longest := int(lengths.max())) > 1:
                past = min(self.n_past, longest - 1)
                hint += f": --data.n-past {past} --data.n-future {longest - past}"
            raise DataError(what, file=self.root, hint=hint)
        if len(kept) < len(lengths):
            short = len(lengths) - len(kept)
            words = "{}: {} of {} clips of {} {} fewer than {} frames and {} left out".format(
                self.root,
                short,
                len(lengths),
                self.split,
                "has" if short == 1 else "have",
                self.n_frames,
                "is" if short == 1 else "are",
            )
            if words not in _TOLD:
                _TOLD.add(words)
                _log.warning(words)
        return kept

    @classmethod
    def from_config(
        cls,
        config: DataConfig,
        split: str,
        windows: Literal["all", "first"] | None = None,
        labels: bool = True,
        progress: bool = False,
    ) -> ClipDataset:
        """The data set a config asks for; `windows` overrides the config's.

        With `hold_out` in the config, `train` is without the clips held out, and the validation
        split is those clips.
        """
        numbers = slice(None)
        if config.hold_out:
            if split == "train":
                numbers = slice(None, -config.hold_out)
            elif split == config.validation_split:
                split, numbers = "train", slice(-config.hold_out, None)
        return cls(
            config.root,
            split,
            numbers=numbers,
            n_past=config.n_past,
            n_future=config.n_future,
            condition=config.condition,
            windows=windows or config.windows,
            labels=labels,
            progress=progress,
        )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self._source.frame_size

    @property
    def n_clips(self) -> int:
        """Number of clips that are as long as a window."""
        return len(self._clips)

    @property
    def lengths(self) -> Int64[np.ndarray, " N"]:
        """Frames of each clip."""
        return self._source.lengths[self._clips]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def clip_of(self, index: int) -> tuple[int, int]:
        """Clip number and start frame of a window.

        Raises:
            IndexError: there is no such window.
        """
        index = int(index)
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - int(self.first_windows[number])

    def clip(self, index: int) -> Clip:
        """A whole clip by its number, as arrays of its own (a pack's are read only)."""
        clip = self._source.clip(int(self._clips[index]))
        parts = {kind: getattr(clip, kind) for kind in ("frames", "actions", "positions", "labels")}
        copied = {kind: None if part is None else part.copy() for kind, part in parts.items()}
        return dataclasses.replace(clip, **copied)

    def clip_condition(self, index: int) -> Float32[np.ndarray, "T C"]:
        """The condition of a whole clip by its number, without its pictures.

        Raises:
            DataError: the clip cannot be read.
        """
        return self._join(*self._source.conditions(int(self._clips[index])))

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "T 3 H W"], Float32[Tensor, "T C"]]:
        batch = self.batch([index])
        return batch.frames[0], batch.condition[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """What DataLoader calls with the indices of a batch."""
        return self.batch(indices)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The windows of those numbers, in that order, frames uint8.

        Raises:
            IndexError: there is no such window.
            DataError: a clip cannot be read.
        """
        places = np.asarray(indices, np.int64).reshape(-1)
        wrong = (places < 0) | (places >= len(self))
        if wrong.any():
            raise IndexError(f"window {places[wrong][0]} of {len(self)}")
        numbers = np.searchsorted(self._ends, places, side="right")
        starts = places - self.first_windows[numbers]
        frames, actions, positions, labels = self._source.windows(
            self._clips[numbers], starts, self.n_frames, labels=self.labels
        )
        return Batch(
            torch.from_numpy(frames),
            torch.from_numpy(self._join(actions, positions)),
            None if labels is None else torch.from_numpy(labels),
        )

    def condition_statistics(self) -> tuple[Float32[np.ndarray, " C"], Float32[np.ndarray, " C"]]:
        """Mean and standard deviation of each condition column over all frames of the split.

        A column that never changes has deviation 0.
        """
        rows = np.empty((int(self.lengths.sum()), self.condition_size), np.float32)
        ends = np.cumsum(self.lengths)
        for number, end in enumerate(ends):
            rows[end - self.lengths[number] : end] = self.clip_condition(number)
        # A column at a time: all of BAIR as float64, and once more squared, would be 150 MB.
        columns = rows.T
        both = [(c.mean(dtype=np.float64), c.std(dtype=np.float64)) for c in columns]
        mean, std = np.array(both, np.float32).reshape(-1, 2).T
        return mean, std

    def _join(self, actions: np.ndarray, positions: np.ndarray | None) -> np.ndarray:
        """The condition (..., T, C): actions, then positions where asked for."""
        if self.condition != "action+position":
            return actions[..., : self.condition_size]
        return np.concatenate([actions, positions], axis=-1)

    def extra_repr(self) -> str:
        """What VisionDataset adds to its own description."""
        return (
            f"Split: {self.split}, {self.n_clips} clips, windows of {self.n_frames} frames\n"
            f"Condition: {self.condition}"
        )


HELD_OUT = 0.1
"""Share of the training clips that are held out where there is no validation split."""


def with_validation(config: Config) -> Config:
    """The config with clips to validate on: where the data set has no split `validate`, the last
    tenth of the training clips is held out.

    A clip is a whole recording, and neighbouring windows of a recording look alike: so clips are
    held out, and not windows.

    Raises:
        DataError: the data set cannot be read, or there is only one training clip.
    """
    data = config.data
    if data.hold_out or data.validation_split != "validate":
        return config
    if data.validation_split in ensure_pack(data.root).splits:
        return config
    count = ClipDataset.from_config(data, "train", windows="first", labels=False).n_clips
    if count < 2:
        raise missing_split("validate", ensure_pack(data.root).splits, data.root)
    held_out = max(1, round(HELD_OUT * count))
    return dataclasses.replace(config, data=dataclasses.replace(data, hold_out=held_out))


def with_columns(config: Config) -> Config:
    """The config with the names of its training clips' columns, which give the model's size.
    Names of columns that the condition leaves out stay as they are.

    Raises:
        DataError: the data set cannot be read.
    """
    clips = ClipDataset.from_config(config.data, "train", windows="first", labels=False)
    columns = {}
    if clips.condition != "none":
        columns["action_columns"] = ", ".join(clips.action_columns)
    if clips.condition == "action+position":
        columns["position_columns"] = ", ".join(clips.position_columns)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **columns))
