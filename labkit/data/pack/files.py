"""The files of a pack's split while they grow, clip by clip."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit.data.clip import Clip, column_names
from labkit.data.pack.packed import file_digest, new_digest
from labkit.data.pack.split import KINDS, LENGTHS, row_shapes
from labkit.errors import DataError
from labkit.files import write_whole


class SplitFiles:
    """The files of one split while they grow."""

    def __init__(
        self,
        folder: Path,
        shapes: Mapping[str, tuple[int, ...]],
        names: list[str],
        lengths: list[int],
        columns: Mapping[str, list[str]],
    ):
        """
        Args:
            shapes: for each kind of array the clips have, the shape it has for one frame.
            names: the clips that are there already; what lies behind them in the files is removed.
            lengths: their numbers of frames.
            columns: names of the columns of actions and positions, where they are known.

        Raises:
            ValueError: the files are shorter than that.
        """
        folder.mkdir(exist_ok=True)
        self.folder, self.shapes, self.names = folder, dict(shapes), names
        self.lengths, self.columns = lengths, dict(columns)
        self._torn = False
        self._files: dict[str, ArrayFile] = {}
        try:
            for kind, shape in shapes.items():
                self._files[kind] = ArrayFile(folder, kind, shape, sum(lengths))
        except BaseException:
            self.close()
            raise

    def add(self, clip: Clip) -> None:
        """Appends a clip that is like the others."""
        who = f"clip {clip.name or len(self.names)}"
        _check_alike(shapes_of(clip, who), self.shapes, who)
        columns = columns_of(clip)
        for kind, names in columns.items():
            if names != self.columns.setdefault(kind, names):
                what = f"{kind} of {who} are called {', '.join(names)}"
                hint = f"the first clip's are called {', '.join(self.columns[kind])}"
                raise DataError(what, hint=hint)
        self._torn = True  # until all of it is written: Ctrl-C or a full disk may come between
        for kind, file in self._files.items():
            file.write(getattr(clip, kind))
        self.names.append(clip.name)
        self.lengths.append(len(clip.frames))
        self._torn = False

    def sync(self) -> None:
        """Brings the files to disk.

        Raises:
            DataError: the last clip was written only in part.
        """
        if self._torn:
            what = f"a clip of {self.folder.name} was written only in part"
            raise DataError(what, hint="run it again: it goes on from the last checkpoint")
        for file in self._files.values():
            file.sync()

    def finish(self) -> dict[str, Any]:
        """Completes the files and returns the split's part of the manifest."""
        several = len(set(self.lengths)) > 1
        rows = [sum(self.lengths)] if several else [len(self.lengths), self.lengths[0]]
        files = {kind: file.finish(rows) for kind, file in self._files.items()}
        files["names"] = self._listed("names.json", self.names)
        if several:
            files["lengths"] = self._listed(LENGTHS, self.lengths)
        entry: dict[str, Any] = {"clips": len(self.names), "files": files}
        usual = {
            kind: list(column_names(kind, *shape))
            for kind, shape in self.shapes.items()
            if kind in ("actions", "positions")
        }
        if any(self.columns.get(kind, names) != names for kind, names in usual.items()):
            entry["columns"] = {**usual, **self.columns}
        return entry

    def _listed(self, name: str, values: list[Any]) -> dict[str, Any]:
        """Writes a list with one value a clip and returns its entry in the manifest."""
        file = self.folder / name
        write_whole(file, json.dumps(values))
        return {
            "file": name,
            "shape": [len(values)],
            "dtype": "json",
            "bytes": file.stat().st_size,
            "blake2b": file_digest(file),
        }

    def close(self) -> None:
        """Closes the files, whatever they hold."""
        for file in self._files.values():
            file.close()


class ArrayFile:
    """An array's file that grows by one clip at a time and knows its digest."""

    def __init__(self, folder: Path, kind: str, shape: tuple[int, ...], rows: int) -> None:
        """
        Args:
            shape: of the array for one frame.
            rows: frames that are there already.
        """
        name, dtype = KINDS[kind]
        self._path, self._shape, self._dtype = folder / name, shape, np.dtype(dtype)
        self._path.touch()
        self._stream = self._path.open("r+b")
        try:
            if self._path.suffix == ".npy":
                self._header([rows, 1])
            self._start = self._stream.tell()
            if rows and self._path.stat().st_size < self._size(rows):
                raise ValueError(f"{self._path} is shorter than was recorded")
            self._stream.truncate(self._size(rows))
            self._stream.seek(0)
            # Of what is there already; the stream stands at its end then.
            self._digest = hashlib.file_digest(self._stream, new_digest)
        except BaseException:
            self.close()
            raise

    def _size(self, rows: int) -> int:
        return self._start + rows * math.prod(self._shape) * self._dtype.itemsize

    def _header(self, rows: Sequence[int]) -> None:
        """Writes the header of an .npy file, which has the same length for any number of rows:
        numpy pads it."""
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (*rows, *self._shape),
        }
        self._stream.seek(0)
        np.lib.format.write_array_header_1_0(self._stream, header)

    def write(self, value: np.ndarray) -> None:
        """Appends a clip's array."""
        data = np.ascontiguousarray(value, self._dtype).data
        self._stream.write(data)
        self._digest.update(data)

    def sync(self) -> None:
        """Brings the file to disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def finish(self, rows: Sequence[int]) -> dict[str, Any]:
        """Completes the file, closes it and returns its entry in the manifest.

        Args:
            rows: the axes before a frame's: clips and frames, or frames alone.
        """
        digest = self._digest.hexdigest()
        if self._path.suffix == ".npy":
            self._header(rows)
            assert self._stream.tell() == self._start, "the header has grown"
        self.sync()
        self._stream.close()
        return {
            "file": self._path.name,
            "shape": [*rows, *self._shape],
            "dtype": self._dtype.name,
            "bytes": self._size(math.prod(rows)),
            "blake2b": file_digest(self._path) if self._path.suffix == ".npy" else digest,
        }

    def close(self) -> None:
        """Closes the file, even where the disk is full."""
        with contextlib.suppress(OSError):
            self._stream.close()


def shapes_of(clip: Clip, who: str) -> dict[str, tuple[int, ...]]:
    """The shape that each array of the clip has for one frame.

    Raises:
        DataError: the clip is not whole.
    """
    frames = clip.frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or not frames.size:
        what = f"frames of {who} are {frames.dtype} {frames.shape}"
        raise DataError(what, hint="expected uint8 (T, 3, H, W)")
    length, _, height, width = frames.shape
    columns = [0 if part is None else part.shape[-1] for part in (clip.actions, clip.positions)]
    expected = row_shapes(height, width, *columns)
    there = {kind: shape for kind, shape in expected.items() if getattr(clip, kind) is not None}
    for kind, shape in there.items():
        value = getattr(clip, kind)
        if value.shape != (length, *shape):
            what = f"{kind} of {who} have shape {value.shape}"
            raise DataError(what, hint=f"expected {(length, *shape)}")
        if kind == "labels" and value.dtype != np.uint8:
            raise DataError(f"labels of {who} are {value.dtype}", hint="expected uint8")
    return there


def columns_of(clip: Clip) -> dict[str, list[str]]:
    """The names of the clip's columns, where its source gives them."""
    names = {"actions": clip.action_columns, "positions": clip.position_columns}
    there = {kind: given for kind, given in names.items() if getattr(clip, kind) is not None}
    return {kind: list(given) for kind, given in there.items() if given is not None}


def _check_alike(
    shapes: Mapping[str, tuple[int, ...]], first: Mapping[str, tuple[int, ...]], who: str
) -> None:
    """Raises DataError unless a clip has the shape and the parts of the split's first one."""
    if shapes["frames"] != first["frames"]:
        what = f"frames of {who} have shape {shapes['frames']}, the first's {first['frames']}"
        raise DataError(what, hint="all clips of a split must have one size")
    for kind in KINDS:
        if (kind in shapes) != (kind in first):
            what = f"{who} has {'' if kind in shapes else 'no '}{kind}, unlike the first clip"
            raise DataError(what, hint="give them to all clips of the split, or to none")
        if shapes.get(kind) != first.get(kind):
            count, others = shapes[kind][0], first[kind][0]
            what = f"{kind} of {who} have {count} columns, the first clip's {others}"
            raise DataError(what, hint="all clips of a split must have the same columns")
