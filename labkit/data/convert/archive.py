"""BAIR's records in a tar archive, which is not unpacked.

A plain tar is read in place: its members are ranges of bytes in one file, so that they can be
taken in any order and by several processes. A compressed one is a stream, read once from front to
back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from labkit.data.convert.files import RECORDS, RecordFile, split_and_trajectories, twice
from labkit.data.convert.tfrecord import Stream
from labkit.errors import DataError

_BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
"""what tarfile raises for a damaged archive"""


class _StrictInfo(tarfile.TarInfo):
    """A member's header. Where one is damaged or missing, tarfile takes it for the end of the
    archive and the rest would be lost without a word: here it is an error."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Reads the next header; the two empty blocks at the end are the one good end."""
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):
                raise
            raise tarfile.ReadError(str(error)) from None


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what tarfile raises within the block into a DataError."""
    try:
        yield
    except _BROKEN as error:
        hint = "it is incomplete or damaged: download it again"
        raise DataError(f"is not a whole tar archive: {error}", file=path, hint=hint) from None


def in_archive(path: Path) -> tuple[RecordFile, ...] | None:
    """The members of a plain tar; None for a compressed one."""
    if not path.is_file():
        raise DataError("is not a file", file=path, hint="give a file or a folder")
    with readable(path):
        if not tarfile.is_tarfile(path):
            return _no_archive(path)
        if _is_compressed(path):
            return None
        with tarfile.open(path, "r:", tarinfo=_StrictInfo) as archive:
            return tuple(_member(path, info) for info in archive if _is_records(info))


def _no_archive(path: Path) -> None:
    if re.search(r"\.(tar|tgz|tar\.(gz|bz2|xz))$", path.name, re.IGNORECASE):
        raise tarfile.ReadError("it does not begin as one")
    hint = "give a .tfrecords file, a folder or a .tar of them, or an .npz"
    raise DataError(f"is of no known kind ({path.suffix or 'no ending'})", file=path, hint=hint)


def _is_compressed(path: Path) -> bool:
    """Whether a tar archive is compressed: a plain one has no such bytes at its beginning."""
    with path.open("rb") as stream:
        return stream.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))


def _is_records(info: tarfile.TarInfo) -> bool:
    path = PurePosixPath(info.name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return info.isreg() and not hidden and bool(RECORDS.search(path.name))


def _member(path: Path, info: tarfile.TarInfo) -> RecordFile:
    label = f"{path}/{info.name}"
    if info.issparse():
        raise DataError("is a sparse member", file=label, hint="pack it with plain `tar -cf`")
    split, trajectories = split_and_trajectories(PurePosixPath(info.name))
    return RecordFile(split, trajectories, label, info.size, path, info.offset_data)


def streamed(path: Path) -> Iterator[tuple[RecordFile, Stream, int]]:
    """The record files of a compressed tar, in its order. The bytes read so far are compressed
    ones. To be read within `readable`."""
    there: dict[tuple[str, str], RecordFile] = {}
    with (
        path.open("rb") as raw,
        tarfile.open(fileobj=raw, mode="r|*", tarinfo=_StrictInfo) as archive,
    ):
        for info in archive:
            if not _is_records(info):
                continue
            file = dataclasses.replace(_member(path, info), offset=None)
            key = (file.split, file.trajectories)
            if key in there:
                raise twice(there[key], file)
            there[key] = file
            stream = archive.extractfile(info)
            assert stream is not None  # a regular member has content
            yield file, stream, raw.tell()
