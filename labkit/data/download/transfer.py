"""Fetches one file over HTTP, going on where an earlier call stopped.

The part that has come is continued by a plain range. Whether the whole is the right file is
decided at the end, by its SHA-256 or by the checksums inside it: a file that changed meanwhile, or
that came from two addresses, does not pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
from tqdm.auto import tqdm

from labkit.errors import DataError

_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""status codes after which another try may succeed"""

_REFUSED = {
    401: "access is refused",
    403: "access is refused",
    404: "there is no such file",
    410: "the file is there no more",
}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_HEAD = 512
"""bytes by which a page is distinguished from a file of data"""

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""seconds before each further try; the count begins anew whenever something more has come"""


class BrokeOff(Exception):
    """The server or the way to it failed, in words; another try may succeed."""


@dataclasses.dataclass
class Transfer:
    """What is to be fetched, to where, and how."""

    url: str
    """its address"""
    place: Path
    """its place when it is complete; the partial file `.NAME.part` lies beside that"""
    client: httpx.Client
    """asks the server"""
    size: int | None = None
    """bytes of the whole file, where they are known"""
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
    def hint(self) -> str:
        """What a user can do where the server does not."""
        return (
            "try again later, give another address with --url, "
            f"or fetch it with a browser and put it at {self.place}"
        )

    def here(self) -> int:
        """Bytes that have come; 0 where there are none."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def discard(self) -> None:
        """Removes the partial file."""
        self.file.unlink(missing_ok=True)


def size_text(count: int) -> str:
    """A number of bytes as people say it: 32.3 GB, in powers of 1000."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.95:
            return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def fetch(job: Transfer) -> Path:
    """Fetches the whole file.

    Returns:
        The partial file, now complete: checking and renaming it is the caller's.

    Raises:
        DataError: the server cannot be reached, refuses, sends something else, or breaks off
            again and again; or the disk is full. What has come so far is kept for the next call,
            unless it is of no use.
    """
    furthest, tries = job.here(), 0
    while True:
        try:
            _receive(job)
            return job.file
        except BrokeOff as broken:
            if job.here() > furthest:
                furthest, tries = job.here(), 0
            if tries >= len(job.pauses):
                kept = "; what has come is kept, and the same command goes on from there"
                what = f"{broken}{kept if job.here() else ''}"
                raise DataError(what, file=job.url, hint=job.hint) from None
            job.say(f"{broken}; trying again in {job.pauses[tries]:g} s")
            time.sleep(job.pauses[tries])
            tries += 1
        except OSError as error:
            what = f"cannot be written: {error.strerror or error}"
            hint = "free some disk space; the same command then goes on from there"
            raise DataError(what, file=job.file, hint=hint) from None


def _receive(job: Transfer) -> None:
    """One request, and everything that comes of it."""
    start = job.here()
    if start and start == job.size:
        return  # killed between the last byte and the new name
    headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file itself
    if start:
        headers["Range"] = f"bytes={start}-"
    with _answer(job, headers) as response:
        if _is_complete(job, response, start):
            return
        _refuse_status(job, response, start)
        _refuse_other_content(job, response)
        begin, total = _extent(job, response, start)
        _refuse_size(job, total, begin)
        if not begin:
            job.file.write_bytes(b"")
        _store(job, response, begin, total or job.size)


def _is_complete(job: Transfer, response: httpx.Response, start: int) -> bool:
    """Whether the server says that all bytes had come when an earlier call was killed."""
    nothing_more = response.headers.get("content-range") == f"bytes */{start}"
    return response.status_code == 416 and nothing_more and job.size in (None, start)


def _store(job: Transfer, response: httpx.Response, begin: int, whole: int | None) -> None:
    """Writes the body behind the first `begin` bytes, and sees that it is all there."""
    at = begin
    bar = tqdm(
        desc=job.place.name,
        total=whole,
        initial=begin,
        unit="B",
        unit_scale=True,
        disable=not job.progress,
    )
    with bar, job.file.open("ab") as stream:
        for chunk in response.iter_raw():
            head = job.file.read_bytes() + chunk if at < _HEAD else b""
            at += len(chunk)
            if fault := _useless(job, head, at, whole):
                stream.close()
                job.discard()
                raise fault
            stream.write(chunk)
            stream.flush()  # a process that is killed loses nothing that has come
            bar.update(len(chunk))
    if whole is not None and at < whole:
        raise BrokeOff(f"the answer ended after {at:,} of {whole:,} bytes")


def _useless(job: Transfer, head: bytes, at: int, whole: int | None) -> DataError | None:
    """Why what has come is of no use: it is a page, whatever the server calls it, or too long.

    Records and archives can begin with any byte, but have zeros among their first bytes.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<") and b"\0" not in head[:_HEAD]:
        return _page(job)
    if whole is not None and at > whole:
        what = f"sends more than the {size_text(whole)} that the file has"
        return DataError(what, file=job.url, hint=job.hint)
    return None


# ---------------------------------------------------------------------------- the answer


@contextlib.contextmanager
def _answer(job: Transfer, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The response; whatever fails until its last byte is put in words."""
    try:
        with job.client.stream("GET", job.url, headers=headers, follow_redirects=True) as response:
            yield response
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError):
        hint = "give one that begins with https:// or http://"
        raise DataError("is no address of a file", file=job.url, hint=hint) from None
    except httpx.TooManyRedirects:
        raise DataError("redirects without end", file=job.url, hint=job.hint) from None
    except httpx.TransportError as error:
        words, passing = _in_words(error, job)
        if not passing and not job.announced:  # nothing has come in this call
            raise DataError(words, file=job.url, hint=job.hint) from None
        raise BrokeOff(words) from None


def _in_words(error: httpx.TransportError, job: Transfer) -> tuple[str, bool]:
    """What failed, and whether it may pass by itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            host = httpx.URL(job.url).host
            return f"the host {host} cannot be found: no network, or a wrong address", False
        if isinstance(cause, ssl.SSLError):
            why = getattr(cause, "verify_message", None) or cause.reason or "unknown reason"
            return f"no secure connection: {why.lower().replace('_', ' ')}", False
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "the server does not answer in time", True
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return f"no connection: {error or 'it is refused'}", True
    return f"the connection broke off after {size_text(job.here())}", True


def _refuse_status(job: Transfer, response: httpx.Response, start: int) -> None:
    code = response.status_code
    if code == 200 or (code == 206 and start):
        return
    if code == 416:  # there is no such range
        job.discard()
        why = "it announced a wrong length, or the file has changed"
        raise BrokeOff(f"the server has nothing after the first {size_text(start)}: {why}")
    answered = f"({code} {response.reason_phrase})".replace(" )", ")")
    if code in _PASSING:
        raise BrokeOff(f"the server fails {answered}")
    words = _REFUSED.get(code, "the server answers in an unexpected way")
    raise DataError(f"{words} {answered}", file=str(response.url), hint=job.hint)


def _refuse_other_content(job: Transfer, response: httpx.Response) -> None:
    """Raises DataError for a page, and for a body that is not the file's own bytes."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise _page(job, response)
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        what = f"is sent compressed ({encoding}) though it was asked for as it is"
        raise DataError(what, file=job.url, hint=job.hint)


def _page(job: Transfer, response: httpx.Response | None = None) -> DataError:
    url = job.url if response is None else str(response.url)
    return DataError("the server sends a web page instead of the file", file=url, hint=job.hint)


def _extent(job: Transfer, response: httpx.Response, start: int) -> tuple[int, int | None]:
    """Where in the file the body begins, and the bytes of the whole file where they are given."""
    if response.status_code == 200:
        if start:
            job.say("the server begins anew: it knows no ranges")
        length = response.headers.get("content-length")
        return 0, int(length) if length else None
    content_range = _RANGE.fullmatch(response.headers.get("content-range", ""))
    total = job.size if content_range is None or content_range[2] == "*" else int(content_range[2])
    if (
        content_range is None
        or int(content_range[1]) != start
        or (job.size is not None and total != job.size)
    ):
        job.discard()
        raise BrokeOff("the server sends another range than was asked for")
    return start, total


def _refuse_size(job: Transfer, total: int | None, begin: int) -> None:
    """Says how large the file is; raises DataError where it is another, or does not fit."""
    if job.size is not None and total is not None and total != job.size:
        what = f"has {total:,} bytes, but the file has {job.size:,}: this is another one"
        raise DataError(what, file=job.url, hint=job.hint)
    folder, size = job.place.parent, total or job.size
    free = shutil.disk_usage(folder).free
    if not job.announced:
        size_words = "of unknown size" if size is None else size_text(size)
        have = f", {size_text(begin)} of it here already" if begin else ""
        job.say(f"{job.place.name}: {size_words}{have}; {size_text(free)} free in {folder}")
        job.announced = True
    needed = 0 if size is None else size - job.here()
    if needed > free:
        what = f"{size_text(needed)} are still to come, and only {size_text(free)} are free"
        hint = f"free {size_text(needed - free)}, or choose another disk with --out"
        raise DataError(what, file=folder, hint=hint)
