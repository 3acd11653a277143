"""BAIR's records -> a pack or the course layout. A run that was killed goes on where it stopped
and ends in the same bytes, for any number of processes.

The records are cut into pieces of work, a few records of one file, which one process converts.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.convert.example import Camera, read_example
from labkit.data.convert.sources import (
    SPLIT_RULE,
    RecordFile,
    Source,
    no_records,
    open_at,
    readable,
)
from labkit.data.convert.tfrecord import FOOTER, Stream, read_data, read_records, scan_records
from labkit.data.pack import PackWriter
from labkit.data.workers import in_order
from labkit.errors import DataError
from labkit.files import clear_lasting, lasting, write_whole, writing

AT_ONCE = 8
"""clips in a piece: 3 MB of pictures, which may travel between processes"""

CHECKPOINT = 256
"""clips after which a pack's progress is brought to disk"""
COMPLETE = "complete.json"
"""file in the unfinished layout that says that only moving it to its place is left"""

Wanted = Callable[[RecordFile, int], bool]
"""(file, number of the record from 0) -> whether it must still be converted. It is asked once for
each record, in order."""


def records_to_pack(
    source: Source, out: Path, camera: Camera, workers: int, progress: bool
) -> dict[str, int]:
    """Writes the clips of the source as a pack and returns the number of clips of each split.

    Raises:
        DataError: a record is damaged or not of BAIR, or `out` cannot be written. What was
            converted is kept, and the next call with the same source and camera goes on there.
    """
    about = f"BAIR's records in {source.path.name}, camera {camera}"
    with PackWriter(out, about, resume_key=f"{camera}\n{source.state}") as writer:
        notes = {"camera": camera, "splits_from": SPLIT_RULE, "order": source.order}
        for key, value in notes.items():
            writer.set_note(key, value)
        left = {split: writer.done(split) for split in source.splits}

        def wanted(file: RecordFile, _: int) -> bool:
            left[file.split] -= 1
            return left[file.split] < 0

        work = functools.partial(read_piece, camera=camera)
        results = _shown(source, in_order(work, pieces(source, wanted), workers), progress)
        with contextlib.closing(_kept(writer, results)) as clips:
            for count, (split, clip) in enumerate(clips, 1):
                writer.add(split, clip)
                if count % CHECKPOINT == 0:
                    writer.checkpoint()
        pack = writer.finish()
    return {name: len(pack.split(name)) for name in pack.splits}


def _kept(
    writer: PackWriter, results: Iterator[tuple[Piece, list[Clip]]]
) -> Iterator[tuple[str, Clip]]:
    """The clips with their splits. A fault of the source, or Ctrl-C while waiting for it, first
    brings to disk what came before."""
    any_clip = False
    with contextlib.closing(results):
        try:
            for piece, clips in results:
                for clip in clips:
                    any_clip = True
                    yield piece.file.split, clip
        except (DataError, KeyboardInterrupt):
            if any_clip:
                writer.checkpoint()
            raise


def records_to_layout(
    source: Source, out: Path, camera: Camera, workers: int, progress: bool
) -> dict[str, int]:
    """Writes the clips of the source in the course layout, to `SPLIT/FILE.tfrecords/<n>`, and
    returns the number of clips of each split.

    They are gathered in a hidden folder beside `out`, and the splits take their places when all
    of them are complete; splits that `out` has besides are left alone.

    Raises:
        DataError: a record is damaged or not of BAIR; `out` has one of the splits already; or it
            cannot be written. What was converted is kept, as with a pack.
    """
    with writing(out) as place:
        work = lasting(place, f"layout\n{camera}\n{source.state}")
        if not (work / COMPLETE).is_file():
            for split in source.splits:
                _refuse_full(out / split)
            clear_lasting(place, keep=work)
            work.mkdir(exist_ok=True)
            for leftover in work.glob("*/*/.*"):  # of a killed run; this one has the lock
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            try:
                counts = _fill(source, work, camera, workers, progress)
            except BaseException:
                with contextlib.suppress(OSError):
                    work.rmdir()  # where it holds nothing to go on with
                raise
            write_whole(work / COMPLETE, json.dumps(counts))
        counts = json.loads((work / COMPLETE).read_text(encoding="utf-8"))
        place.mkdir(exist_ok=True)
        for split in counts:
            if (work / split).is_dir():  # else it was moved before a kill
                _refuse_full(out / split)
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(place / split)
                os.rename(work / split, place / split)
        shutil.rmtree(work, ignore_errors=True)
    return counts


def _refuse_full(folder: Path) -> None:
    if folder.is_dir() and layout.scan(folder):
        hint = "remove it, or choose another folder"
        raise DataError("is there already", file=folder, hint=hint)


def _fill(
    source: Source, root: Path, camera: Camera, workers: int, progress: bool
) -> dict[str, int]:
    """Writes each clip whole or not at all, those that are there already excepted."""
    counts: dict[str, int] = {}

    def wanted(file: RecordFile, number: int) -> bool:
        counts[file.split] = counts.get(file.split, 0) + 1
        return not clip_folder(root, file, number).is_dir()

    work = functools.partial(write_piece, camera=camera, root=root)
    results = in_order(work, pieces(source, wanted), workers)
    with contextlib.closing(_shown(source, results, progress)) as shown:
        for _ in shown:
            pass
    return counts


def _shown(
    source: Source, results: Iterator[tuple[Piece, Any]], progress: bool
) -> Iterator[tuple[Piece, Any]]:
    """The results behind a progress bar.

    How many clips there are is known only in the end, but records are all about as long: the
    total is the clips so far over the part of the source's bytes that they took.
    """
    with contextlib.closing(results), contextlib.ExitStack() as opened:
        bar: Any = None
        for piece, result in results:
            if bar is None:  # begun late, so that what an earlier run did is not this one's speed
                done = piece.seen - len(piece.numbers)
                shown = tqdm(desc="converting", unit="clip", initial=done, disable=not progress)
                bar = opened.enter_context(shown)
            bar.total = max(piece.seen, round(piece.seen * source.size / max(piece.position, 1)))
            bar.update(piece.seen - bar.n)
            yield piece, result
        if bar is not None:
            bar.total = bar.n
            bar.refresh()


# ------------------------------------------------------------------------------- pieces of work


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
