"""BAIR's records in pieces of work: a few records of one file, which one process converts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.convert.archive import readable
from labkit.data.convert.example import Camera, read_example
from labkit.data.convert.files import RecordFile, no_records, open_at
from labkit.data.convert.sources import Source
from labkit.data.convert.tfrecord import FOOTER, Stream, read_data, read_records, scan_records
from labkit.errors import DataError

AT_ONCE = 8
"""clips in a piece: 3 MB of pictures, which may travel between processes"""

Wanted = Callable[[RecordFile, int], bool]
"""(file, number of the record from 0) -> whether it must still be converted. It is asked once for
each record, in order."""


@dataclass(frozen=True)
class Piece:
    """Some records of one file, in order."""

    file: RecordFile
    numbers: tuple[int, ...]
    """of the records in their file, from 1"""
    where: tuple[tuple[int, int], ...]
    """(offset, length) of the records' data in the file on disk; empty where there is `data`"""
    data: tuple[bytes, ...]
    """the records' data, where they are of a compressed archive"""
    seen: int
    """records of the source up to the end of this piece, those not wanted included"""
    position: int
    """bytes of the source up to there"""


def pieces(source: Source, wanted: Wanted) -> Iterator[Piece]:
    """Cuts the records that are wanted into pieces of work, in the source's order.

    Raises:
        DataError: a file or the archive is damaged, or holds no records.
    """
    seen, files = 0, 0
    with readable(source.path) if source.files is None else contextlib.nullcontext():
        for file, stream, before in source.streams():
            held: list[Piece] = []
            first = seen
            for piece in _records(file, stream, before):
                seen += 1
                if wanted(file, seen - first - 1):
                    held.append(replace(piece, seen=seen))
                if len(held) == AT_ONCE:
                    yield _joined(held)
                    held = []
            if held:
                yield _joined(held)
            if seen == first:
                raise DataError("holds no records", file=file.label, hint="download it again")
            files += 1
    if not files:
        raise no_records(source.path)


def _records(file: RecordFile, stream: Stream, before: int) -> Iterator[Piece]:
    """Each record of a file as a piece of its own."""
    if file.offset is None:
        for number, data in enumerate(read_records(stream, file.label, file.size), 1):
            yield Piece(file, (number,), (), (data,), 0, before)
    else:
        for number, offset, length in scan_records(stream, file.label, file.size):
            position = before + offset + length + FOOTER - file.offset
            yield Piece(file, (number,), ((offset, length),), (), 0, position)


def _joined(parts: list[Piece]) -> Piece:
    return replace(
        parts[-1],
        numbers=tuple(number for part in parts for number in part.numbers),
        where=tuple(place for part in parts for place in part.where),
        data=tuple(data for part in parts for data in part.data),
    )


def read_piece(piece: Piece, camera: Camera) -> list[Clip]:
    """Reads the clips of a piece; both checksums of each record have then been compared.

    Raises:
        DataError: a record is damaged, or is not a clip of BAIR.
    """
    return list(_clips(piece, camera))


def write_piece(piece: Piece, camera: Camera, root: Path) -> None:
    """Reads the clips of a piece and writes each to its folder of the course layout at `root`.

    Raises:
        DataError: as `read_piece`; or the disk is full.
    """
    for number, clip in zip(piece.numbers, _clips(piece, camera), strict=True):
        layout.write_clip(clip_folder(root, piece.file, number - 1), clip)


def clip_folder(root: Path, file: RecordFile, number: int) -> Path:
    """Where record `number` (from 0) of a file goes in the course layout at `root`."""
    return root / file.split / f"{file.trajectories}.tfrecords" / str(number)


def _clips(piece: Piece, camera: Camera) -> Iterator[Clip]:
    for number, data in zip(piece.numbers, _data(piece), strict=True):
        name = f"{piece.file.split}/{piece.file.trajectories}/{number - 1}"
        yield read_example(data, piece.file.label, number, camera, name)


def _data(piece: Piece) -> Iterator[bytes]:
    if piece.data:
        yield from piece.data
        return
    with open_at(piece.file) as stream:
        for number, (offset, length) in zip(piece.numbers, piece.where, strict=True):
            stream.seek(offset)
            yield read_data(stream, length, piece.file.label, number)
