"""One clip of a broken data set -> a clip that can be written, and what was mended in it."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.layout.pictures import MOST_BYTES
from labkit.data.layout.plain_files import read_plain
from labkit.errors import DataError

_OTHER_PICTURES = ("JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""kinds of picture that are taken where they are called .png"""
_RGB8 = b"\x89PNG\r\n\x1a\n", bytes((8, 2))
"""the first bytes of a PNG, and bytes 24 and 25 of one with 8 bits a channel, in RGB"""
_TABLE_BYTES = frozenset(b"0123456789+-.,eE\n")
"""what a table of the course's copy is written with"""
_TABLE_NAMES = frozenset({"actions.csv", "endeffector_positions.csv"})


class Mender:
    """Reads clips and mends what can be mended. The clips' folders are only read."""

    def __init__(self, workshop: Path, size: int | None) -> None:
        """
        Args:
            workshop: a folder for copies of one clip's files.
            size: height and width to bring frames to; None leaves them as they are.
        """
        self.workshop, self.size = workshop, size

    def clip(self, folder: Path) -> tuple[Clip, set[str]]:
        """The clip of a folder, and what was mended: names, tables, pictures, size.

        Raises:
            DataError: it cannot be mended; the message names the original's file.
        """
        try:
            clip = layout.read_clip(folder)
        except DataError as fault:
            clip = self._mended_copy(folder, fault)
        mended = set(_unusual(folder, len(clip.frames)))
        if self.size is not None and clip.frames.shape[-2:] != (self.size, self.size):
            clip = resized(clip, self.size)
            mended.add("size")
        return clip, mended

    def _mended_copy(self, folder: Path, fault: DataError) -> Clip:
        """The clip read from a copy whose files are mended; `fault` is what reading it said."""
        copy = self.workshop / folder.name
        try:
            copy.mkdir()
            _copy_mended(folder, copy)
            return layout.read_clip(copy)
        except DataError as still:
            if still.file is None or not Path(still.file).is_relative_to(copy):
                raise
            file = folder / Path(still.file).relative_to(copy)
            raise DataError(still.what, file=file, row=still.row, hint=still.hint) from None
        except OSError:
            raise fault from None
        finally:
            shutil.rmtree(copy, ignore_errors=True)


def _copy_mended(folder: Path, copy: Path) -> None:
    """Copies a clip's files, mending pictures and tables; of two equal frames one is enough."""
    names = sorted(entry.name for entry in layout.scan(folder))
    pictures = layout.numbered_frames(names)
    frames = len(set(pictures.values()))
    numbered: dict[int, bytes] = {}
    for name in names:
        data = read_plain(folder / name, MOST_BYTES)
        if name in pictures:
            if numbered.setdefault(pictures[name], data) is data:
                _mend_picture(folder / name, data, copy / name)
            elif numbered[pictures[name]] != data:
                raise DataError("there is another picture of this number", file=folder / name)
        elif layout.table_kind(name) is not None:
            text = mended_table(data, frames)
            (copy / name).write_text(text, encoding="utf-8", newline="\n")
        else:
            (copy / name).write_bytes(data)


def _mend_picture(file: Path, data: bytes, target: Path) -> None:
    """Writes a still picture of another kind as PNG; anything else goes as it is."""
    if not data.startswith(_RGB8[0]):
        with (
            contextlib.suppress(Exception),
            Image.open(io.BytesIO(data), formats=_OTHER_PICTURES) as image,
        ):
            if not getattr(image, "is_animated", False):
                image.convert("RGB").save(target, format="PNG")
                return
    target.write_bytes(data)


def mended_table(data: bytes, frames: int) -> str:
    """A csv's text as `read_table` takes it, where spreadsheets or pandas have added something.

    Mended are decimal commas (where semicolons or tabs part the cells), quotes, a first line of
    column names or of pandas' numbers for them, and a first column that counts the rows. The
    numbers stay as they are: it is for `read_table` to refuse them.

    Args:
        data: the file's bytes.
        frames: pictures in the clip, which tell a line too many.
    """
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = [line for line in data.decode(coding, errors="replace").splitlines() if line.strip()]
    part = next((mark for mark in ";\t" if any(mark in line for line in lines)), None)
    if part is None:
        part = "," if any("," in line for line in lines) else None
    else:
        lines = [line.replace(",", ".") for line in lines]
    rows = [[cell.strip().strip('"') for cell in line.split(part)] for line in lines]
    if len(rows) == frames + 1 and _is_heading(rows[0]):
        rows = rows[1:]
    counted = [row[0] for row in rows]
    if len(rows) > 2 and counted in (_count_from(0, rows), _count_from(1, rows)):
        rows = [row[1:] for row in rows]
    return "".join(f"{','.join(row)}\n" for row in rows)


def _is_heading(row: list[str]) -> bool:
    """Whether a row holds names of columns, or pandas' numbers for them: no numbers of a clip."""
    if row == [str(number) for number in range(len(row))]:
        return True
    try:
        [float(cell) for cell in row]
    except ValueError:
        return True
    return False


def _count_from(first: int, rows: list[list[str]]) -> list[str]:
    return [str(number) for number in range(first, first + len(rows))]


def _unusual(folder: Path, frames: int) -> Iterator[str]:
    """What of a clip is not as in the course's copy, and so was mended."""
    names = {entry.name for entry in layout.scan(folder)}
    pictures = set(layout.numbered_frames(names))
    tables = {name for name in names if layout.table_kind(name) is not None}
    numbered = re.fullmatch(r"traj_\d+_to_\d+\.tfrecords", folder.parent.name)
    split = folder.parent.parent.name
    plain_place = numbered and folder.name.isdigit() and layout.canonical_split(split) == split
    wanted = {f"{number}.png" for number in range(frames)}
    if not plain_place or pictures != wanted or not tables <= _TABLE_NAMES:
        yield "names"
    if not all(_is_plain(folder / name, frames) for name in tables):
        yield "tables"
    if any(_head(folder / name) != _RGB8 for name in pictures):
        yield "pictures"


def _is_plain(file: Path, frames: int) -> bool:
    """Whether a table is written as in the course's copy: a row a frame and nothing else."""
    data = read_plain(file, MOST_BYTES)
    rows = data.removesuffix(b"\n").split(b"\n")
    commas = {row.count(b",") for row in rows}
    return len(rows) == frames and len(commas) == 1 and _TABLE_BYTES.issuperset(data)


def _head(file: Path) -> tuple[bytes, bytes]:
    head = read_plain(file, MOST_BYTES)[:26]
    return head[:8], head[24:26]


def resized(clip: Clip, size: int) -> Clip:
    """The largest square in the middle of each frame, scaled to `size` by `size` pixels.

    Pictures are scaled by a Lanczos filter, which averages where it makes them smaller; labels
    take the nearest pixel's.
    """
    frames = np.stack([_scaled(frame.transpose(1, 2, 0), size) for frame in clip.frames])
    labels = None
    if clip.labels is not None:
        labels = np.stack([_scaled(label, size, Image.Resampling.NEAREST) for label in clip.labels])
    frames = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    return replace(clip, frames=frames, labels=labels)


def _scaled(
    picture: np.ndarray, size: int, how: Image.Resampling = Image.Resampling.LANCZOS
) -> np.ndarray:
    """A picture (H, W) or (H, W, 3), cut to its middle square and scaled to (size, size)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    return np.asarray(Image.fromarray(square).resize((size, size), how))
