"""Reading a small file of a clip whole, with clear words for everything that is not one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from labkit.errors import DataError

# O_NONBLOCK: a pipe that nobody writes to must not make us wait for ever. Windows has no such
# flag, and must open files in binary mode.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_plain(file: Path, limit: int) -> bytes:
    """The bytes of a plain file.

    Args:
        file: the file; links are followed.
        limit: the most bytes it may have: a clip's files are small, memory is not endless.

    Raises:
        DataError: it is missing, may not be read, is too large, or is a folder, a link that leads
            nowhere or in a circle, or a device.
    """
    try:
        handle = os.open(file, _FLAGS)
        try:
            state = os.fstat(handle)
            if stat.S_ISREG(state.st_mode) and state.st_size <= limit:
                return _read_all(handle, state.st_size)
        finally:
            os.close(handle)
    except OSError as error:
        raise unreadable(file, error) from None
    _refuse_special(file, state)
    what = f"has {state.st_size:,} bytes, far more than such a file needs"
    raise DataError(what, file=file, hint=f"at most {limit:,} are read: extract it again")


def check_plain(file: Path) -> None:
    """
    Raises:
        DataError: it is missing, may not be read, or is a folder, a link that leads nowhere or in
            a circle, or a device.
    """
    try:
        handle = os.open(file, _FLAGS)
        try:
            state = os.fstat(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unreadable(file, error) from None
    _refuse_special(file, state)


def _refuse_special(file: Path, state: os.stat_result) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise DataError("is a folder, not a file", file=file, hint="remove it, extract it again")
    if not stat.S_ISREG(state.st_mode):
        raise DataError("is a pipe or a device, not a file", file=file, hint="extract it again")


def _read_all(handle: int, size: int) -> bytes:
    data = os.read(handle, size)
    while len(data) < size and (more := os.read(handle, size - len(data))):
        data += more  # a read may stop early, at a signal or on a network's disk
    return data


def unreadable(file: Path, error: OSError) -> DataError:
    """The error for a file or a folder that the system does not let us open."""
    if error.errno == errno.ELOOP:
        return DataError("is a link that leads in a circle", file=file, hint="replace it by a copy")
    if isinstance(error, FileNotFoundError):
        if file.is_symlink():
            return DataError("is a link to nothing", file=file, hint="replace it by a copy")
        return DataError("no such file", file=file, hint="extract it again")
    if isinstance(error, PermissionError):
        return DataError("may not be read", file=file, hint="change its permissions")
    what = f"cannot be read: {error.strerror or error}"
    return DataError(what, file=file, hint="look at the disk, or extract it again")
