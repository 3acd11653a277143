"""Folders that appear whole or not at all, and that one process writes at a time.

Beside a folder NAME, hidden: `.NAME.lock` while somebody writes it, `.NAME.<id>.tmp` what is being
written, `.NAME.<key>.part` the same where it may be gone on with, and `.NAME.earlier.tmp` the
earlier one for the instant of the change.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from labkit.errors import DataError

_log = logging.getLogger(__name__)
_ID, _KEY = "[0-9a-f]" * 32, "[0-9a-f]" * 16


@contextlib.contextmanager
def replacing(folder: Path | str) -> Iterator[Path]:
    """A new, empty folder beside `folder`, which takes its place when the block ends well.

    Where the block raises, the new folder goes and `folder` stays as it was. A process that is
    killed leaves only hidden things, which the next one to write `folder` removes.

    Raises:
        DataError: the folder cannot be written, another process is writing it, or the disk is
            full.
    """
    with writing(folder) as place:
        fresh = temporary(place)
        fresh.mkdir()
        try:
            yield fresh
            put(fresh, place)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


@contextlib.contextmanager
def writing(folder: Path | str, wait: float = 0.0) -> Iterator[Path]:
    """The right to write `folder`, which one process at a time has; yields its resolved path.

    What a killed writer left behind is removed, and where it died within the change of two
    folders the earlier one is put back.

    Args:
        folder: need not exist; the folder above it is made.
        wait: for how many seconds to wait where another process has the right.

    Raises:
        DataError: another process has the right, the folder cannot be written, or the disk is
            full (any OSError within the block).
    """
    try:
        place = Path(folder).resolve()
        if place.exists() and not place.is_dir():
            raise DataError("is a file", file=folder, hint="give the name of a folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place.with_name(f".{place.name}.lock"), wait):
            _clear(place)
            yield place
    except Timeout:
        hint = "wait until it is done, or end it"
        raise DataError("is being written by another process", file=folder, hint=hint) from None
    except OSError as error:
        hint = "free some disk space, or choose a folder that can be written"
        what = f"cannot be written: {error.strerror or error}"
        raise DataError(what, file=folder, hint=hint) from error


@contextlib.contextmanager
def locked(file: Path, wait: float = 0.0) -> Iterator[None]:
    """Holds a lock file and removes it in the end.

    Raises:
        Timeout: another process holds it, still after `wait` seconds.
    """
    lock = FileLock(file, thread_local=False)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        name = file.stem.removeprefix(".")
        _log.warning("waiting for another process that is writing %s", file.with_name(name))
        held = lock.acquire(timeout=wait)
    with held:
        try:
            yield
        finally:
            # Safe only while it is held: who opened this file before finds it without a name
            # when he gets it, and tries again with the new one. Windows refuses; it may stay.
            with contextlib.suppress(OSError):
                file.unlink()


def _clear(place: Path) -> None:
    """Removes what dead writers left. Who calls this has the lock: no other is alive."""
    old = _earlier(place)
    if old.exists() and not place.exists():
        os.rename(old, place)
    for leftover in [old, *_beside(place, _ID, "tmp")]:
        shutil.rmtree(leftover, ignore_errors=True)


def _beside(place: Path, pattern: str, ending: str) -> list[Path]:
    """The hidden things of `place` whose id has that pattern; nobody else's look like it."""
    return list(place.parent.glob(f".{glob.escape(place.name)}.{pattern}.{ending}"))


def _earlier(place: Path) -> Path:
    return place.with_name(f".{place.name}.earlier.tmp")


def temporary(place: Path) -> Path:
    """A new hidden name beside `place`; what has it goes with the next writer of `place`."""
    return place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")


def lasting(place: Path, about: str) -> Path:
    """The hidden name beside `place` of work on `about`, which stays to be gone on with."""
    key = hashlib.blake2b(about.encode(), digest_size=8).hexdigest()
    return place.with_name(f".{place.name}.{key}.part")


def clear_lasting(place: Path, keep: Path) -> None:
    """Removes the work that waits to be gone on with, but for `keep`, within `writing(place)`."""
    for leftover in _beside(place, _KEY, "part"):
        if leftover != keep:
            shutil.rmtree(leftover, ignore_errors=True)


def put(fresh: Path, place: Path) -> None:
    """Puts `fresh` in the place of `place`, within `writing(place)`.

    A folder cannot be renamed onto a full one, so the earlier one steps aside first.
    """
    old = _earlier(place)
    if place.exists():
        os.rename(place, old)
    try:
        os.rename(fresh, place)
    except BaseException:
        if old.exists():
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)
