"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from labkit.errors import DataError

_STALE_SECONDS = 24 * 3600


@contextlib.contextmanager
def replacing(folder: Path | str) -> Iterator[Path]:
    """A new, empty folder beside `folder`, which takes its place when the block ends well.

    Where the block raises, the new folder goes and `folder` stays as it was. A process that is
    killed leaves only a hidden folder, which a later call removes after a day.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    try:
        with _fresh(Path(folder).resolve()) as fresh:
            yield fresh
    except OSError as error:
        mend = "free some disk space, or choose a folder that can be written"
        what = f"cannot be written: {error.strerror or error}"
        raise DataError(what, file=folder, mend=mend) from error


@contextlib.contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    if folder.exists() and not folder.is_dir():
        raise DataError("is a file", file=folder, mend="give the name of a folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    fresh.mkdir()
    try:
        yield fresh
        _swap(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _swap(fresh: Path, folder: Path) -> None:
    """Puts `fresh` in the place of `folder`; a folder cannot be renamed onto a full one."""
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(fresh, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
