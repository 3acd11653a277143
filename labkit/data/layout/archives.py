"""A data set that is still a zip: unpacked once, safely, into a folder beside it.

A zip comes from somebody else, so nothing in it is believed: names that lead out of the folder,
links, passwords and sizes that no disk holds are refused before anything is written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import posixpath
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from labkit.data.layout.plain_files import unreadable
from labkit.errors import DataError
from labkit.files import put, temporary, writing

TAKEN = {".png", ".jpg", ".jpeg", ".csv", ".npz", ".json", ".bin", ".npy"}
"""endings of the files of clips and of packs, which alone are unpacked"""

MOST_INFLATION = 100
"""times its own size that a zip may grow to: PNGs hardly grow, csv about 5 times"""
SMALL = 1 << 28
"""bytes that a zip may grow to in any case"""
KEPT_FREE = 1 << 28
"""bytes of the disk that unpacking leaves free"""

WAIT_SECONDS = 6 * 3600.0
"""how long to wait for another process that is unpacking the same zip"""

_STATE = ".labkit_unpacked.json"
_VERSION = 1
_BLOCK = 4096
"""bytes that the smallest file takes on a disk"""
_DRIVE = re.compile(r"[A-Za-z]:")
_NAMES = (errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""errors of the system that come from an entry's name"""
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    IndexError,
    OverflowError,
    RuntimeError,  # encrypted, or packed in a way Python does not know
)
"""what zipfile raises for a damaged zip"""


def is_zip(file: Path) -> bool:
    """Whether a file is a zip, or has the name of one. Numpy's .npz are zips too, but of arrays."""
    ending = file.suffix.lower()
    if ending in (".zip", ".npz"):
        return ending == ".zip"
    try:
        return zipfile.is_zipfile(file)
    except OSError:
        return False


def unpacked(file: Path | str, progress: bool = False) -> Path:
    """The folder that holds the pictures, tables and packs of a zip, unpacked where needed.

    It is the hidden folder `.NAME.zip.unpacked` beside the zip, or one in the user's cache folder
    where that cannot be written. It appears whole or not at all, and is made again when the
    zip's size or time of change is another.

    Args:
        file: the zip.
        progress: show a progress bar.

    Raises:
        DataError: the zip is damaged, encrypted, holds names that lead out of its folder, links or
            nothing of use, or grows beyond the free disk space or `MOST_INFLATION`.
    """
    file = Path(file)
    try:
        state = _state(file)
        file.open("rb").close()
    except OSError as error:
        raise unreadable(file, error) from None
    for place in (_beside(file), _in_cache(file)):
        if _is_current(place, state):
            return place
    place = _beside(file) if os.access(file.resolve().parent, os.W_OK) else _in_cache(file)
    # Of two processes that want the same zip, the second waits and finds it unpacked.
    with writing(place, wait=WAIT_SECONDS) as place:
        if _is_current(place, state):
            return place
        fresh = temporary(place)
        try:
            fresh.mkdir()
            _unpack(file, fresh, progress)
            (fresh / _STATE).write_text(json.dumps(state), encoding="utf-8")
            put(fresh, place)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    return place


def _beside(file: Path) -> Path:
    file = file.resolve()
    return file.with_name(f".{file.name}.unpacked")


def _in_cache(file: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = file.resolve()
    key = hashlib.blake2b(os.fsencode(file), digest_size=8).hexdigest()
    return cache / "labkit" / "unpacked" / f"{file.name}-{key}"


def _state(file: Path) -> dict[str, int]:
    found = file.stat()
    return {"version": _VERSION, "bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def _is_current(place: Path, state: dict[str, int]) -> bool:
    try:
        return json.loads((place / _STATE).read_text(encoding="utf-8")) == state
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------------------------- unpacking


def _unpack(file: Path, folder: Path, progress: bool) -> None:
    try:
        archive = zipfile.ZipFile(file)
    except BROKEN:
        hint = "download or copy it again"
        raise DataError("is not a zip, or only a part of one", file=file, hint=hint) from None
    with archive:
        entries = _entries(file, archive)
        _check_sizes(file, entries, folder)
        for entry in tqdm(entries, desc="unpacking", unit="file", disable=not progress):
            try:
                archive.extract(entry, folder)  # no more than the size that was checked
            except OSError as error:
                if error.errno not in _NAMES:
                    raise  # the disk's error
                raise _distrust(file, entry, f"cannot be written: {error.strerror}") from None
            except BROKEN:
                raise _damaged(file, entry) from None


def _entries(file: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files to unpack.

    Raises:
        DataError: an entry is not to be trusted or cannot be read, or none is of use.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if what := not_to_be_trusted(entry):
            raise _distrust(file, entry, what)
        # Some Windows programs write backslashes.
        name = posixpath.normpath(entry.orig_filename.replace("\\", "/"))
        if entry.is_dir() or not _is_taken(PurePosixPath(name)):
            continue
        _check_readable(file, entry)
        if name.casefold() in entries:  # some disks take the two for one
            raise _distrust(file, entry, "is in it twice")
        entry.filename = name
        entries[name.casefold()] = entry
    if not entries:
        zips = any(entry.filename.lower().endswith(".zip") for entry in archive.infolist())
        hint = "expected train, validate and test with their .png and .csv files"
        hint = "it holds another zip: unpack it, and give what is inside" if zips else hint
        raise DataError("holds no clips and no pack", file=file, hint=hint)
    return list(entries.values())


def not_to_be_trusted(entry: zipfile.ZipInfo) -> str | None:
    """What is wrong with an entry's name or kind, in words that follow "its entry NAME"; None where
    nothing is."""
    name, kind = entry.orig_filename.replace("\\", "/"), stat.S_IFMT(entry.external_attr >> 16)
    if ".." in name.split("/") or name.startswith("/") or _DRIVE.match(name):
        return "leads out of its folder"
    if any(ord(letter) < 32 for letter in name):
        return "has control characters in its name"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is neither a file nor a folder"
    return None


def _is_taken(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
    return not hidden and name.suffix.lower() in TAKEN


def _check_readable(file: Path, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & 0x1:
        hint = "unpack it with its password and give the folder"
        raise DataError("is encrypted", file=file, hint=hint)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile inflates the other kinds without a limit on memory.
        what = f"is compressed in an unusual way (method {entry.compress_type})"
        raise DataError(what, file=file, hint="unpack it yourself and give the folder")


def _distrust(file: Path, entry: zipfile.ZipInfo, what: str) -> DataError:
    shown = entry.orig_filename[:80].encode("unicode_escape").decode("ascii")
    hint = "do not trust it; zip the folder of the data set again"
    return DataError(f"its entry {shown!r} {what}", file=file, hint=hint)


def _check_sizes(file: Path, entries: list[zipfile.ZipInfo], folder: Path) -> None:
    """Raises DataError where the sizes that the zip declares are too large to unpack."""
    total = sum(entry.file_size for entry in entries)
    if total > SMALL and total > MOST_INFLATION * file.stat().st_size:
        what = f"would grow from {_size(file.stat().st_size)} to {_size(total)}"
        hint = "no data set does: do not trust it; zip the folder of the data set again"
        raise DataError(what, file=file, hint=hint)
    needed = sum(-(-entry.file_size // _BLOCK) * _BLOCK for entry in entries) + KEPT_FREE
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"needs {_size(needed)} to unpack; {_size(free)} are free at {folder.parent}"
        hint = "free some disk space, or unpack it elsewhere and give the folder"
        raise DataError(what, file=file, hint=hint)


def _size(count: int) -> str:
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    place = min(max(len(str(count)) - 1, 0) // 3, len(units) - 1)
    return f"{count / 1000**place:.3g} {units[place]}"


def _damaged(file: Path, entry: zipfile.ZipInfo) -> DataError:
    what = f"its entry {entry.filename} is damaged"
    return DataError(what, file=file, hint="download or copy the zip again")
