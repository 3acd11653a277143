"""Writing clips in the course's layout (see the package)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from labkit.data.clip import Clip
from labkit.data.layout.find import scan
from labkit.data.layout.tables import write_table
from labkit.errors import DataError
from labkit.files import replacing

CLIPS_A_FOLDER = 256
"""clips in one `traj_A_to_B.tfrecords` folder"""

FIRST_TRAJECTORY = {"test": 0, "validate": 256, "train": 512}
"""trajectory number at which each split begins, as in the course's copy"""


def write_clip(folder: Path | str, clip: Clip) -> None:
    """Writes one clip to its folder, whole or not at all; an earlier one there is replaced."""
    with replacing(folder) as fresh:
        _fill(fresh, clip)


def _fill(folder: Path, clip: Clip) -> None:
    for number, frame in enumerate(clip.frames):
        picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
        picture.save(folder / f"{number}.png")
    if clip.actions.shape[1]:
        write_table(folder / "actions.csv", clip.actions, clip.action_columns)
    if clip.positions is not None:
        names = clip.position_columns
        write_table(folder / "endeffector_positions.csv", clip.positions, names)
    if clip.labels is not None:
        np.savez_compressed(folder / "labels.npz", labels=clip.labels)


def write_split(root: Path | str, split: str, clips: Iterable[Clip], progress: bool = False) -> int:
    """Writes a whole split in the course's layout and returns the number of clips.

    256 clips go to a folder; the numbering begins at traj_0 for test, traj_256 for validate and
    traj_512 for train, as in the course's copy. The split appears whole or not at all.

    Raises:
        DataError: the split has clips already, or `clips` yields none.
    """
    target = Path(root) / split
    if target.parent.exists() and not target.parent.is_dir():
        raise DataError("is a file", file=root, hint="give the name of a folder")
    if target.is_dir() and scan(target):
        hint = "remove it, or choose another folder"
        raise DataError("is there already", file=target, hint=hint)
    offset = FIRST_TRAJECTORY.get(split, 0)
    count = 0
    with replacing(target) as fresh:
        for clip in tqdm(clips, desc=f"writing {split}", unit="clip", disable=not progress):
            start = offset + count - count % CLIPS_A_FOLDER
            trajectories = fresh / f"traj_{start}_to_{start + CLIPS_A_FOLDER - 1}.tfrecords"
            folder = trajectories / str(count % CLIPS_A_FOLDER)
            folder.mkdir(parents=True)
            _fill(folder, clip)
            count += 1
        if not count:
            raise DataError("no clips to write", file=target)
    return count
