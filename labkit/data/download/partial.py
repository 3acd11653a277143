"""A file on its way here: the part that has come, and what is remembered of its origin.

.NAME.part              the bytes that have come so far
.NAME.part.json         their address, and by what the server tells the file's version
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from labkit.files import write_whole

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""seconds before each further try; the count begins anew whenever something more has come"""


class BrokeOff(Exception):
    """The server or the way to it failed, in words; another try may succeed."""


@dataclasses.dataclass
class Partial:
    """What is to be fetched, to where, and how."""

    url: str
    """its address"""
    place: Path
    """its place when it is complete; the partial file lies beside that"""
    client: httpx.Client
    """whatever asks the server"""
    size: int | None = None
    """bytes of the whole file, where they are known beforehand"""
    verified: bool = False
    """its digest will be compared: what has come may be continued without `If-Range`"""
    progress: bool = False
    """show a progress bar in bytes"""
    say: Callable[[str], None] = print
    """takes a line on what is happening"""
    pauses: Sequence[float] = PAUSES
    """seconds before each further try"""
    announced: bool = dataclasses.field(default=False, init=False)
    """whether its size was said already"""

    @property
    def file(self) -> Path:
        """The partial file."""
        return self.place.with_name(f".{self.place.name}.part")

    @property
    def notes(self) -> Path:
        """What is remembered of the partial file's origin."""
        return self.place.with_name(f".{self.place.name}.part.json")

    @property
    def hint(self) -> str:
        """What a user can do where the server does not."""
        return (
            "try again later, give another address with --url, "
            f"or fetch it with a browser and put it at {self.place}"
        )

    def here(self) -> int:
        """Bytes that have come; 0 where there are none."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def remembered(self) -> dict[str, Any]:
        """url, size, etag and modified of the partial file's origin; nothing if they are lost."""
        try:
            known = json.loads(self.notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def can_go_on(self) -> bool:
        """Whether more can be asked for without danger of joining two different files."""
        known = self.remembered()
        return self.verified or (known.get("url") == self.url and bool(validator(known)))

    def begin(self, headers: Mapping[str, str], size: int | None) -> None:
        """Empties the partial file and notes whose beginning will be in it."""
        self.file.write_bytes(b"")
        state = {
            "url": self.url,
            "size": size,
            "etag": headers.get("etag"),
            "modified": headers.get("last-modified"),
        }
        write_whole(self.notes, json.dumps(state))

    def discard(self) -> None:
        """Removes the partial file and what is remembered of it."""
        self.file.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def validator(known: Mapping[str, Any]) -> str | None:
    """What `If-Range` takes: a strong ETag or, where there is none, the time of change."""
    etag = known.get("etag")
    return etag if etag and not etag.startswith("W/") else known.get("modified")


def size_text(count: int) -> str:
    """A number of bytes as people say it: 32.3 GB, in powers of 1000."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.95:
            return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
