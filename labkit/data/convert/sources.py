"""Where BAIR's records lie: in one file, in a folder of files, or in a tar archive."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labkit.data.clip import SPLITS
from labkit.data.convert.archive import in_archive, streamed
from labkit.data.convert.files import (
    RECORDS,
    RecordFile,
    no_records,
    open_at,
    place,
    split_and_trajectories,
    twice,
)
from labkit.data.convert.tfrecord import Stream
from labkit.errors import DataError

_DEPTH = 3
"""folders below the source in which records are looked for"""


@dataclass(frozen=True)
class Source:
    """All the record files of a source."""

    path: Path
    files: tuple[RecordFile, ...] | None
    """in the order in which they are converted; None where only reading the archive will tell"""
    size: int
    """bytes to read: the sum of the files, or the compressed archive"""
    state: str
    """changes when the source does: names, sizes and times of change"""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are, or may be."""
        return SPLITS if self.files is None else tuple(dict.fromkeys(f.split for f in self.files))

    @property
    def order(self) -> str:
        """The order of the clips in words, for the manifest."""
        if self.files is None:
            return "files as in the archive, records as in their file"
        return "files by trajectory number, records as in their file"

    def streams(self) -> Iterator[tuple[RecordFile, Stream, int]]:
        """Each record file in turn, open at its beginning, with the bytes of the source read
        before it.

        Raises:
            DataError: a file cannot be read, the archive is damaged, or two files have one name.
        """
        return streamed(self.path) if self.files is None else _inplace(self.files)


def open_source(path: Path) -> Source:
    """Finds the record files of a source.

    The split of a file is the first of: the nearest folder above it (up to the source itself,
    for a single file the one it lies in) that is named train, val, validate or test; such a word
    in the file's name (`bair_test_traj_0_to_255.tfrecords`); train. Of the training files,
    `traj_256_to_511` is then moved to validate, the field's habit; a file of that name in `test`
    stays there.

    Raises:
        DataError: there is nothing, it holds no records, is damaged or of another kind; or two
            files would get the same place.
    """
    if not path.exists():
        raise DataError("no such file", file=path, hint="look at its name and folder")
    if path.is_dir():
        files = tuple(_in_folder(path))
    elif RECORDS.search(path.name):
        files = (_on_disk(path, PurePosixPath(path.absolute().parent.name, path.name)),)
    else:
        files = in_archive(path)
    if files is None:
        stat = path.stat()
        state = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        return Source(path, None, stat.st_size, state)
    if not files:
        raise no_records(path)
    files = tuple(sorted(files, key=place))
    for one, other in itertools.pairwise(files):
        if (one.split, one.trajectories) == (other.split, other.trajectories):
            raise twice(one, other)
    lines = [f"{f.label} {f.size} {f.offset} {f.file.stat().st_mtime_ns}" for f in files]
    state = "\n".join([str(path.resolve()), *lines])
    return Source(path, files, sum(file.size for file in files), state)


# ------------------------------------------------------------------------------- on disk


def _in_folder(root: Path) -> Iterator[RecordFile]:
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_unlisted):
        inside = Path(folder).relative_to(root)
        # A depth ends loops of links; the course layout has folders that are called .tfrecords.
        deep = len(inside.parts) >= _DEPTH
        folders[:] = [] if deep else [name for name in folders if _is_folder_to_enter(name)]
        for name in names:
            if RECORDS.search(name) and not name.startswith("."):
                below = PurePosixPath(root.absolute().name, *inside.parts, name)
                yield _on_disk(Path(folder) / name, below)


def _is_folder_to_enter(name: str) -> bool:
    return not (name.startswith(".") or name == "__MACOSX" or RECORDS.search(name))


def _unlisted(error: OSError) -> None:
    raise DataError(f"cannot be listed: {error.strerror}", file=error.filename) from None


def _on_disk(file: Path, below: PurePosixPath) -> RecordFile:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file) from None
    if not file.is_file():
        raise DataError("is not a file of records", file=file, hint="remove it")
    split, trajectories = split_and_trajectories(below)
    return RecordFile(split, trajectories, str(file), size, file, 0)


def _inplace(files: tuple[RecordFile, ...]) -> Iterator[tuple[RecordFile, Stream, int]]:
    before = 0
    for file in files:
        with open_at(file) as stream:
            yield file, stream, before
        before += file.size
