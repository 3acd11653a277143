"""A local server that has every fault a server can have, and what downloads from it."""

from __future__ import annotations

import http.server
import re
import struct
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from labkit.data.convert.tfrecord import masked_crc
from labkit.data.download import OFFICIAL, download
from labkit.errors import DataError

NAME = OFFICIAL["bair-test"].name
PAUSES = (0.0, 0.0, 0.0)
PAGE = b"<!DOCTYPE html><html><body>Sorry, try again later.</body></html>"


def records(count: int, length: int, seed: int = 0) -> bytes:
    """A record file of noise."""
    random, whole = np.random.default_rng(seed), b""
    for _ in range(count):
        header, data = struct.pack("<Q", length), random.bytes(length)
        whole += header + struct.pack("<I", masked_crc(header))
        whole += data + struct.pack("<I", masked_crc(data))
    return whole


BODY = records(40, 10_000)


class Server(http.server.ThreadingHTTPServer):
    """Sends `body` with ranges as it should, or with the faults that are switched on."""

    daemon_threads = True
    # Nobody waits for a request that is stalled on purpose.
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.kind = "application/octet-stream"
        self.encoding: str | None = None
        self.status: list[int] = []
        """codes with which the next requests are refused"""
        self.cuts: list[int] = []
        """bytes after which the next answers break off"""
        self.stall = False
        """break off by falling silent"""
        self.ranges = True
        self.shift = 0
        """bytes by which a range is sent beside the place asked for"""
        self.length: int | None = None
        """Content-Length told, -1 for none; the true one if None"""
        self.redirect: str | None = None
        self.asked: list[dict[str, str]] = []
        """headers of all requests"""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{NAME}"

    @property
    def started(self) -> list[int]:
        """The byte from which each request wanted the file."""
        found = [re.match(r"bytes=(\d+)-", asked.get("range", "bytes=0-")) for asked in self.asked]
        return [int(match[1]) for match in found if match]


class Handler(http.server.BaseHTTPRequestHandler):
    """One answer of a `Server`."""

    server: Server

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        s = self.server
        s.asked.append({key.lower(): value for key, value in self.headers.items()})
        if s.status:
            self.send_error(s.status.pop(0))
            return
        if s.redirect and self.path != "/moved":
            self.send_response(302)
            self.send_header("Location", s.redirect)
            self.end_headers()
            return
        self._send()

    def _send(self) -> None:
        s, start = self.server, 0
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and s.ranges:
            start = int(wanted[1]) + s.shift
            if start >= len(s.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(s.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            last = len(s.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(s.body)}")
        else:
            self.send_response(200)
        length = len(s.body) - start if s.length is None else s.length
        told = {
            "Content-Type": s.kind,
            "Content-Length": None if length < 0 else str(length),
            "Content-Encoding": s.encoding,
        }
        for key, value in told.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        cut = s.cuts.pop(0) if s.cuts else None
        try:
            self.wfile.write(s.body[start:][:cut])
            self.wfile.flush()
            while cut is not None and s.stall:
                time.sleep(0.05)
        except OSError:  # whoever asked has gone
            pass
        self.close_connection = True


class Getter:
    """`download` of a file from the server, and what it said."""

    def __init__(self, server: Server, out: Path) -> None:
        self.server, self.out, self.said = server, out, list[str]()
        self.place, self.part = out / NAME, out / f".{NAME}.part"

    def __call__(self, what: str = "bair-test", url: str | None = None, **options: object) -> Path:
        timeout = options.pop("timeout", 5.0)
        with httpx.Client(timeout=timeout, trust_env=False) as client:
            return download(
                what,
                self.out,
                url=url or self.server.url,
                client=client,
                progress=False,
                say=self.said.append,
                pauses=PAUSES,
                **options,
            )

    def fails(self, *args: object, **options: object) -> str:
        """What the error says; nothing may lie under the final name after it."""
        with pytest.raises(DataError) as caught:
            self(*args, **options)
        assert not self.place.exists()
        assert not self.place.with_name(f"{NAME}.sha256").exists()
        said = str(caught.value)
        assert "\n" not in said
        return said


def left_in(folder: Path) -> set[str]:
    """What lies in a folder, apart from the lock that a killed process leaves."""
    return {file.name for file in folder.iterdir() if file.suffix != ".lock"}
