"""Where BAIR's records lie: in one file, in a folder of files, or in a tar archive.

An archive is not unpacked. A plain tar is read in place: its members are ranges of bytes in one
file, so that they can be taken in any order and by several processes. A compressed one is a
stream, read once from front to back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import lzma
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labkit.data.clip import SPLITS
from labkit.data.convert.tfrecord import Stream
from labkit.data.layout import canonical_split, scan
from labkit.errors import DataError

SPLIT_RULE = (
    "test and validate: the files in folders of that name, or with that word in their name; "
    "validate also: traj_256_to_511 of the training files, the field's habit; train: the rest"
)
"""how the splits are made, in words, for the manifest"""

VALIDATION = "traj_256_to_511"
"""the training file that is held out to validate on"""

ARCHIVES = (".zip", ".7z", ".rar")
"""endings of archives that are not read"""

_DEPTH = 3
"""folders below the source in which records are looked for"""

RECORDS = re.compile(r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$", re.IGNORECASE)
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
    shard = RECORDS.search(path.name)
    stem = RECORDS.sub("", path.name)
    names += [canonical_split(word) for word in re.split(r"[^a-z]+", stem.lower())]
    split = next((name for name in names if name in SPLITS), "train")
    match = re.search(r"traj_[0-9]+_to_[0-9]+", stem)
    trajectories = match[0] if match else stem
    if shard and shard[1]:
        trajectories += shard[1]
    if split == "train" and trajectories == VALIDATION:
        split = "validate"
    return split, trajectories


def place(file: RecordFile) -> tuple[int, list[int], str]:
    """Sort key: by split, then traj_2 before traj_10."""
    numbers = [int(number) for number in re.findall(r"[0-9]+", file.trajectories)]
    return SPLITS.index(file.split), numbers, file.trajectories


def no_records(path: Path) -> DataError:
    """The error for a folder or an archive without any record file."""
    hint = (
        "give BAIR's softmotion30_44k or its .tar, videos, arrays or records; folders of pictures "
        "in train/, validate/ and test/ need no conversion: labkit data check names what they "
        f"lack; files are looked for in {_DEPTH} folders below this one"
    )
    if path.is_dir() and not scan(path):
        return DataError("is an empty folder", file=path, hint="look at its name and place")
    archives = [
        entry.name
        for entry in (scan(path) if path.is_dir() else ())
        if os.path.splitext(entry.name)[1].lower() in ARCHIVES
    ]
    if archives:
        hint = f"unpack the archives in it, such as {min(archives)}, all of them into one folder"
    return DataError("holds no .tfrecords files, videos or .hdf5 files", file=path, hint=hint)


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


def open_source(path: Path, workshop: Callable[[], Path] | None = None) -> Source:
    """Finds the record files of a source. Those that are compressed by gzip, which their first
    bytes tell, are decompressed into the folder that `workshop` makes.

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
        files = tuple(_decompressed(file, workshop) for file in _in_folder(path))
    elif RECORDS.search(path.name):
        file = _on_disk(path, PurePosixPath(path.absolute().parent.name, path.name))
        files = (_decompressed(file, workshop),)
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


def _decompressed(file: RecordFile, workshop: Callable[[], Path] | None) -> RecordFile:
    """The file itself, or its content where it is compressed by gzip."""
    try:
        with file.file.open("rb") as stream:
            if workshop is None or stream.read(2) != b"\x1f\x8b":
                return file
        folder = workshop()
        target = folder / f"{len(list(folder.iterdir()))}.tfrecord"
        with gzip.open(file.file) as packed, target.open("xb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        hint = "it is incomplete or damaged: download it again"
        raise DataError(f"is not a whole gzip file: {error}", file=file.label, hint=hint) from None
    except OSError as error:
        hint = "free some disk space beside OUT"
        what = f"cannot be decompressed: {error.strerror or error}"
        raise DataError(what, file=file.label, hint=hint) from None
    return dataclasses.replace(file, file=target, size=target.stat().st_size)


def _inplace(files: tuple[RecordFile, ...]) -> Iterator[tuple[RecordFile, Stream, int]]:
    before = 0
    for file in files:
        with open_at(file) as stream:
            yield file, stream, before
        before += file.size


# ------------------------------------------------------------------------------- in a tar

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
    if path.suffix.lower() in ARCHIVES:
        hint = (
            "unpack it first, and give the folder; where one data set is in several archives, "
            "unpack all of them into one folder"
        )
        raise DataError(f"is an archive ({path.suffix})", file=path, hint=hint)
    hint = (
        "give videos (.mp4, .gif and so on) or a folder of them; an .npz, .npy or .hdf5; records "
        "(.tfrecord), a folder or a .tar of them; or a LeRobot data set"
    )
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
