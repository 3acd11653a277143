"""The course's folder layout of BAIR robot pushing: find, read, check and write clips.

    ROOT/{train,validate,test}/traj_A_to_B.tfrecords/<n>/
        0.png .. 29.png               one picture a frame, 8-bit RGB
        actions.csv                   one row a frame; in BAIR 4 columns, no header
        endeffector_positions.csv     one row a frame; in BAIR 3 columns (may be absent)
        labels.npz                    key `labels`, uint8 (T, H, W) (only from a simulator)

Relatives of it are read too: folders with or without `.tfrecords`, or none between the split and
its clips; any numbers for n; frames `0.png`, `00.png`, `0.PNG`, `0.jpg`, `frame_0000.png`, or
counted from 1; a header that names the columns of a csv; T - 1 rows of actions for T frames; clips
without any csv; `action.csv` and other names of the two tables; `val` for `validate`; folders
around everything, such as `processed_data/processed_data`; a zip of it all. Leftovers of file
systems are passed over.
Every order is numeric (10.png after 2.png), and files are told apart by name, never by order.

This is the one name that the rest imports; finding, reading and writing have a file each.
"""

from __future__ import annotations

from labkit.data.layout.find import (
    FRAME,
    as_given,
    called,
    canonical_split,
    clip_folders,
    empty_splits,
    missing_split,
    resolve,
    scan,
    split_folders,
    splits,
)
from labkit.data.layout.read import (
    ClipStart,
    count_frames,
    name_like,
    numbered_frames,
    read_clip,
    read_conditions,
    read_start,
    table_kind,
)
from labkit.data.layout.write import (
    CLIPS_A_FOLDER,
    FIRST_TRAJECTORY,
    write_clip,
    write_split,
)

__all__ = [
    "CLIPS_A_FOLDER",
    "FIRST_TRAJECTORY",
    "FRAME",
    "ClipStart",
    "as_given",
    "called",
    "canonical_split",
    "clip_folders",
    "count_frames",
    "empty_splits",
    "missing_split",
    "name_like",
    "numbered_frames",
    "read_clip",
    "read_conditions",
    "read_start",
    "resolve",
    "scan",
    "split_folders",
    "splits",
    "table_kind",
    "write_clip",
    "write_split",
]
