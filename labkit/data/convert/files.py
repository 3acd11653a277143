"""A file of BAIR's records: which split it is of, and how to open it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labkit.data.clip import SPLITS
from labkit.data.convert.tfrecord import Stream
from labkit.data.layout import canonical_split
from labkit.errors import DataError

SPLIT_RULE = (
    "test and validate: the files in folders of that name, or with that word in their name; "
    "validate also: traj_256_to_511 of the training files, the field's habit; train: the rest"
)
"""how the splits are made, in words, for the manifest"""

VALIDATION = "traj_256_to_511"
"""the training file that is held out to validate on"""

RECORDS = re.compile(r"\.tfrecords?$", re.IGNORECASE)
"""ending of a file of records"""


@dataclass(frozen=True)
class RecordFile:
    """A file of records, or a member of an archive."""

    split: str
    trajectories: str
    """`traj_A_to_B`, or the file's name without its ending where it has no such part"""
    label: str
    """the file's path, for messages; in an archive, the archive's and then the member's"""
    size: int
    """bytes"""
    file: Path
    """the file on disk that holds the bytes"""
    offset: int | None
    """where they begin in it; None in a compressed archive"""


def split_and_trajectories(path: PurePosixPath) -> tuple[str, str]:
    """The split of a record file and its name in it, by the rule that `open_source` states.

    Args:
        path: the file's path below and with the source's own folder.
    """
    names = [canonical_split(part.lower()) for part in reversed(path.parts[:-1])]
    stem = RECORDS.sub("", path.name)
    names += [canonical_split(word) for word in re.split(r"[^a-z]+", stem.lower())]
    split = next((name for name in names if name in SPLITS), "train")
    match = re.search(r"traj_[0-9]+_to_[0-9]+", stem)
    trajectories = match[0] if match else stem
    if split == "train" and trajectories == VALIDATION:
        split = "validate"
    return split, trajectories


def place(file: RecordFile) -> tuple[int, list[int], str]:
    """Sort key: by split, then traj_2 before traj_10."""
    numbers = [int(number) for number in re.findall(r"[0-9]+", file.trajectories)]
    return SPLITS.index(file.split), numbers, file.trajectories


def no_records(path: Path) -> DataError:
    """The error for a folder or an archive without any record file."""
    hint = "give BAIR's softmotion30_44k or its .tar; the course layout needs no conversion"
    return DataError("holds no .tfrecords files", file=path, hint=hint)


def twice(one: RecordFile, other: RecordFile) -> DataError:
    """The error for two record files that would get the same place."""
    what = f"would be {one.split}/{one.trajectories}, as would {one.label}"
    return DataError(what, file=other.label, hint="remove or rename one of them")


@contextlib.contextmanager
def open_at(file: RecordFile) -> Iterator[Stream]:
    """The record file, open at its first byte."""
    try:
        stream = file.file.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file.label) from None
    with stream:
        stream.seek(file.offset or 0)
        yield stream
