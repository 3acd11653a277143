"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from labkit.errors import LabkitError


def write_whole(file: Path | str, data: bytes | str) -> None:
    """Writes a file, making its folder where missing. The old content stays until the new one
    is on disk: whoever reads finds one or the other, never half of either. Text is UTF-8.

    Raises:
        LabkitError: the file cannot be written; what was there is unharmed.
    """
    file = Path(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        with contextlib.suppress(OSError):  # there may be no such folder
            temporary.unlink()
        raise LabkitError(
            f"cannot be written: {error.strerror or error}",
            file=file,
            hint="free some disk space, or choose a folder that can be written",
        ) from error
