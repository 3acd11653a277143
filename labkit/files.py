"""Files and folders that appear whole or not at all, and that one process writes at a time.

Beside a folder NAME, hidden: `.NAME.lock` while a process writes it, `.NAME.<id>.tmp` the new
content, `.NAME.<key>.part` new content that a later call can continue, and `.NAME.earlier.tmp` the
earlier content while the two are exchanged.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from labkit.errors import DataError, LabkitError

_log = logging.getLogger(__name__)
_ID, _KEY = "[0-9a-f]" * 32, "[0-9a-f]" * 16
_ROOM = "free some disk space, or choose a folder that can be written"


def write_whole(file: Path | str, data: bytes | str) -> None:
    """Writes a file, making its folder where missing. The old content stays until the new one
    is on disk: a reader finds one or the other, never half of either. Text is UTF-8. Where `file`
    is a link, the file that it leads to is written and the link stays.

    Raises:
        LabkitError: the file cannot be written, its folder is a file, or `file` is a folder, a
            device, a pipe or a socket; what was there is unharmed.
    """
    file = Path(file)
    temporary = None
    try:
        target = Path(os.path.realpath(file))
        _refuse_special(file, target)
        refuse_file(file.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as stream:
            if isinstance(data, str):  # it may hold the name of a file that is not UTF-8
                data = data.encode("utf-8", "backslashreplace")
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):  # there may be no such folder
                temporary.unlink()
        raise LabkitError(
            f"cannot be written: {error.strerror or error}", file=file, hint=_ROOM
        ) from error


@contextlib.contextmanager
def reading(
    file: Path | str,
    what: str,
    *,
    error: type[LabkitError] = LabkitError,
    hint: str | None = None,
) -> Iterator[None]:
    """A guard around the code that reads a file: whatever a damaged or foreign file makes it raise
    becomes one sentence. An error that is a LabkitError already passes unchanged.

    Args:
        file: for the message.
        what: what is wrong, such as "not a readable checkpoint".
        error: the class to raise.
        hint: what the user can do.

    Raises:
        LabkitError: of that class, where the block raises an exception, or `file` is a pipe, a
            device or a socket: reading one could wait or go on for ever.
    """
    with contextlib.suppress(OSError):  # the block says why it cannot be opened
        mode = os.stat(file).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise error(f"{what}: it is a pipe, a device or a socket", file=file, hint=hint)
    try:
        yield
    except LabkitError:
        raise
    except MemoryError:
        raise error(f"{what}: it claims more than fits in memory", file=file, hint=hint) from None
    except RecursionError:
        raise error(f"{what}: it is nested too deeply", file=file, hint=hint) from None
    except Exception as fault:
        lines = [line.strip() for line in str(fault).strip().splitlines()]
        reason = getattr(fault, "strerror", None) or " ".join(lines[:2]) or type(fault).__name__
        if isinstance(fault, KeyError):
            reason = f"{reason} is missing"
        raise error(f"{what}: {reason[:300]}", file=file, hint=hint) from None


def _refuse_special(file: Path, target: Path) -> None:
    """Raises LabkitError unless `target` is a plain file or absent."""
    try:
        mode = os.stat(target).st_mode
    except OSError:  # absent; or writing it will say why not
        return
    if stat.S_ISDIR(mode):
        raise LabkitError("is a folder", file=file, hint="give the name of a file")
    if not stat.S_ISREG(mode):
        what = "is a device, a pipe or a socket, not a file"
        raise LabkitError(what, file=file, hint="give the name of a file")


def refuse_file(folder: Path, error: type[LabkitError] = LabkitError) -> None:
    """Raises `error` where the place of a folder, or one above it, is taken by a file."""
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise error("is a file", file=place, hint="give the name of a folder")
            return


@contextlib.contextmanager
def replacing(folder: Path | str) -> Iterator[Path]:
    """A new, empty folder beside `folder`, which takes its place when the block ends well.

    Where the block raises, the new folder is removed and `folder` stays as it was. A process that
    is killed leaves only hidden things, which the next process that writes `folder` removes.

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
    """A lock on `folder`, which one process at a time holds; yields its resolved path.

    What a killed process left is removed first. Where it was killed while two folders were being
    exchanged, the earlier one is put back.

    Args:
        folder: need not exist; the folder above it is made.
        wait: for how many seconds to wait where another process holds the lock.

    Raises:
        DataError: another process holds the lock, `folder` is a file, it cannot be written, or
            the disk is full (any OSError within the block).
    """
    try:
        place = Path(folder).resolve()
        refuse_file(Path(folder), DataError)
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place.with_name(f".{place.name}.lock"), wait):
            _clear(place)
            yield place
    except Timeout:
        hint = "wait until it is done, or end it"
        raise DataError("is being written by another process", file=folder, hint=hint) from None
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise DataError(what, file=folder, hint=_ROOM) from error


@contextlib.contextmanager
def locked(file: Path, wait: float = 0.0) -> Iterator[None]:
    """Holds a lock file and removes it at the end.

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
            # Safe only while it is held: a process that opened this file before finds that it has
            # no name any more, and tries again with the new one. On Windows it may stay.
            with contextlib.suppress(OSError):
                file.unlink()


def _clear(place: Path) -> None:
    """Removes what killed processes left. The caller holds the lock: no other is at work."""
    old = _earlier(place)
    if old.exists() and not place.exists():
        os.rename(old, place)
    for leftover in [old, *_beside(place, _ID, "tmp")]:
        shutil.rmtree(leftover, ignore_errors=True)


def _beside(place: Path, pattern: str, ending: str) -> list[Path]:
    """The hidden things of `place` whose id has that pattern; no other program uses such names."""
    return list(place.parent.glob(f".{glob.escape(place.name)}.{pattern}.{ending}"))


def _earlier(place: Path) -> Path:
    return place.with_name(f".{place.name}.earlier.tmp")


def temporary(place: Path) -> Path:
    """A new hidden name beside `place`; the next process that writes `place` removes it."""
    return place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")


def lasting(place: Path, about: str) -> Path:
    """The hidden name beside `place` of work on `about` that a later call can continue."""
    key = hashlib.blake2b(about.encode(), digest_size=8).hexdigest()
    return place.with_name(f".{place.name}.{key}.part")


def clear_lasting(place: Path, keep: Path) -> None:
    """Removes unfinished work beside `place`, except `keep`; called within `writing(place)`."""
    for leftover in _beside(place, _KEY, "part"):
        if leftover != keep:
            shutil.rmtree(leftover, ignore_errors=True)


def put(fresh: Path, place: Path) -> None:
    """Puts `fresh` in the place of `place`, within `writing(place)`.

    A folder cannot be renamed onto a full one, so the earlier one is renamed first. The current
    folder of a process and a mounted disk must keep their place: there the content is exchanged.
    """
    old = _earlier(place)
    if _must_stay(place):
        _exchange(fresh, place, old)
        return
    if place.exists():
        os.rename(place, old)
    try:
        os.rename(fresh, place)
    except BaseException:
        if old.exists():
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _must_stay(place: Path) -> bool:
    with contextlib.suppress(OSError):  # the current folder may be gone
        if Path.cwd().is_relative_to(place):
            return place.exists()
    return os.path.ismount(place)


def holds_things(folder: Path) -> bool:
    """Whether a folder holds more than empty files, such as the one that a shell makes for
    `command 2> errors` in it."""
    return any(not _is_empty_file(entry) for entry in folder.iterdir())


def _is_empty_file(entry: Path) -> bool:
    return entry.is_file() and entry.stat().st_size == 0


def _exchange(fresh: Path, place: Path, old: Path) -> None:
    """Moves what is in `place` to `old` and what is in `fresh` to `place`; or nothing."""
    there = [entry for entry in place.iterdir() if not _is_empty_file(entry)]
    moves = [(entry, old / entry.name) for entry in there]
    moves += [(entry, place / entry.name) for entry in fresh.iterdir()]
    old.mkdir()
    done = []
    try:
        for source, target in moves:
            shutil.move(source, target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            shutil.move(target, source)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(fresh, ignore_errors=True)
