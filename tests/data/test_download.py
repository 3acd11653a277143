"""Downloads from a real local server that has every fault a server can have."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from labkit.data import download as module
from labkit.data.convert.tfrecord import masked_crc
from labkit.data.download import OFFICIAL, Official, check_file, download
from labkit.errors import DataError, LabkitError

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


# ------------------------------------------------------------------------------ the server


class Server(http.server.ThreadingHTTPServer):
    """Sends `body` with ranges as it should, or with the faults that are switched on."""

    daemon_threads = True
    # Nobody waits for a request that is stalled on purpose.
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag: str | None = '"one"'
        self.modified: str | None = None
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
        version = self.headers.get("If-Range")
        if wanted and s.ranges and version in (None, s.etag, s.modified):
            start = int(wanted[1]) + s.shift
            if start >= len(s.body):
                self.send_error(416)
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
            "ETag": s.etag,
            "Last-Modified": s.modified,
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


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.stall = False
        running.shutdown()
        thread.join()


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


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Getter:
    """`download` from the server into a folder."""
    return Getter(server, tmp_path / "data")


def left_in(folder: Path) -> set[str]:
    """What lies in a folder, apart from locks."""
    return {file.name for file in folder.iterdir() if file.suffix != ".lock"}


# ---------------------------------------------------------------------------- what goes well


def test_a_file_comes_whole_with_its_digest(get: Getter) -> None:
    assert get() == get.place
    assert get.place.read_bytes() == BODY
    digest = hashlib.sha256(BODY).hexdigest()
    assert (get.out / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"
    assert left_in(get.out) == {NAME, f"{NAME}.sha256"}
    assert re.search(r"400\.6 kB; [0-9.]+ .B free in ", get.said[0])
    assert "its digest is in" in get.said[-1]


def test_a_file_that_is_there_is_not_fetched_again(get: Getter) -> None:
    get()
    get()
    assert len(get.server.asked) == 1
    assert "is there already (400.6 kB)" in get.said[-1]


def test_redirects_are_followed(get: Getter) -> None:
    get.server.redirect = "/moved"
    get()
    assert get.place.read_bytes() == BODY


def test_a_server_that_tells_no_length_will_do(get: Getter) -> None:
    get.server.length = -1
    get()
    assert get.place.read_bytes() == BODY
    assert "of unknown size" in get.said[0]


def test_a_file_put_there_by_hand_is_checked(get: Getter) -> None:
    get.out.mkdir()
    get.place.write_bytes(BODY)
    get()
    assert not get.server.asked
    assert (get.out / f"{NAME}.sha256").is_file()
    for bad, said in ((BODY[:-9], "ends within record 40"), (PAGE, "does not fit its checksum")):
        (get.out / f"{NAME}.sha256").unlink(missing_ok=True)
        get.place.write_bytes(bad)
        with pytest.raises(DataError, match=said):
            get()
        assert get.place.read_bytes() == bad, "what the user put there is the user's"


def test_a_whole_archive_is_taken_and_a_cut_one_is_not(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in ("a.tfrecords", "b.tfrecords"):
            member = tarfile.TarInfo(name)
            member.size = len(BODY)
            archive.addfile(member, io.BytesIO(BODY))
    file, whole = tmp_path / "x.tar", made.getvalue()
    file.write_bytes(whole)
    assert check_file(file, ".tar", None) == hashlib.sha256(whole).hexdigest()
    for bad in (whole[:1000], whole[: len(whole) // 2 + 5000], PAGE, b""):
        file.write_bytes(bad)
        with pytest.raises(DataError, match="archive"):
            check_file(file, ".tar", None)


# --------------------------------------------------------------------------------- going on


def test_a_broken_connection_is_gone_on_with(get: Getter) -> None:
    get.server.cuts = [100_000, 50_000, 7]
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started == [0, 100_000, 150_000, 150_007]
    assert [asked.get("if-range") for asked in get.server.asked] == [None] + ['"one"'] * 3
    assert any("broke off after 100.0 kB; trying again in 0 s" in said for said in get.said)


def test_tries_are_counted_from_the_last_byte_that_came(get: Getter) -> None:
    get.server.cuts = [1000] * 20  # many more than there are pauses
    get()
    assert get.place.read_bytes() == BODY


def test_the_next_call_goes_on(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    said = get.fails()
    assert "broke off after 100.0 kB; what has come is kept" in said
    assert get.part.stat().st_size == 100_000
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started[-1] == 100_000
    assert any("100.0 kB of it here already" in said for said in get.said)


def test_last_modified_serves_where_there_is_no_strong_etag(get: Getter) -> None:
    get.server.etag, get.server.modified = 'W/"weak"', "Mon, 01 Jan 2018 00:00:00 GMT"
    get.server.cuts = [100_000]
    get()
    assert get.server.asked[1]["if-range"] == get.server.modified
    assert get.server.started == [0, 100_000]


def test_a_file_that_changed_meanwhile_begins_anew(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    get.server.body, get.server.etag = records(50, 10_000, seed=1), '"two"'
    get()
    assert get.place.read_bytes() == get.server.body
    assert any("begins anew" in said for said in get.said)


def test_without_a_version_nothing_is_joined(get: Getter) -> None:
    get.server.etag = None
    get.server.cuts = [100_000]
    get()
    assert get.server.started == [0, 0]
    assert get.place.read_bytes() == BODY


def test_another_address_begins_anew(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    get(url=get.server.url + "?mirror")
    assert get.server.started[-1] == 0
    assert get.place.read_bytes() == BODY


def test_a_server_that_knows_no_ranges_begins_anew(get: Getter) -> None:
    get.server.ranges = False
    get.server.cuts = [100_000, 50_000]
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started == [0, 100_000, 50_000]


@pytest.mark.parametrize("shift", [-7, 9])
def test_another_range_than_asked_for_is_not_joined(get: Getter, shift: int) -> None:
    get.server.shift = shift
    get.server.cuts = [100_000]
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started == [0, 100_000, 0]


def test_a_part_longer_than_the_file_begins_anew(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    get.server.body = records(5, 10_000)
    get()
    assert get.place.read_bytes() == get.server.body


def test_damaged_notes_are_no_obstacle(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    (get.out / f".{NAME}.part.json").write_text('["nothing"')
    get()
    assert get.place.read_bytes() == BODY


CHILD = """
import sys, httpx
from pathlib import Path
from labkit.data.download import download
with httpx.Client(timeout=30, trust_env=False) as client:
    download("bair-test", Path(sys.argv[1]), url=sys.argv[2], client=client, progress=False)
"""


# A shell's job in the background ignores Ctrl-C, and so would its children.
COMMAND = """
import signal, sys
from labkit.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


def wait_for(part: Path, size: int, child: subprocess.Popen) -> None:
    """Waits until the child's download has that size."""
    end = time.monotonic() + 60
    while not part.is_file() or part.stat().st_size < size:
        assert time.monotonic() < end
        assert child.poll() is None, "it ended before"
        time.sleep(0.02)


def test_a_killed_process_is_gone_on_with_and_two_do_not_meet(get: Getter) -> None:
    get.server.cuts, get.server.stall = [200_000], True
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(get.out), get.server.url], stdout=subprocess.DEVNULL
    ) as child:
        wait_for(get.part, 200_000, child)
        assert "is being fetched by another process" in get.fails()
        child.send_signal(signal.SIGKILL)
    assert left_in(get.out) == {f".{NAME}.part", f".{NAME}.part.json"}
    get.server.stall = False
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started == [0, 200_000]
    assert left_in(get.out) == {NAME, f"{NAME}.sha256"}


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(get: Getter) -> None:
    get.server.cuts, get.server.stall = [200_000], True
    words = ["data", "download", "bair-test", "--out", str(get.out), "--url", get.server.url]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        wait_for(get.part, 200_000, child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    said = "labkit data download: interrupted; the same command goes on where it stopped"
    assert err.splitlines()[-1] == said
    assert "Traceback" not in err
    assert f"{NAME}: 400.6 kB; " in out
    get.server.stall = False
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started == [0, 200_000]


def test_killed_between_the_last_byte_and_the_name(
    get: Getter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_accept", dies)
        with pytest.raises(KeyboardInterrupt):
            get()
    assert left_in(get.out) == {f".{NAME}.part", f".{NAME}.part.json"}
    get()
    assert len(get.server.asked) == 1
    assert get.place.read_bytes() == BODY


# ---------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("code", "said", "asked"),
    [
        (404, "there is no such file (404 Not Found)", 1),
        (403, "access is refused (403 Forbidden)", 1),
        (418, "the server answers in an unexpected way (418", 1),
        (500, "the server fails (500 Internal Server Error)", 4),
        (503, "the server fails (503 Service Unavailable)", 4),
        (429, "the server fails (429 Too Many Requests)", 4),
    ],
)
def test_a_refusal_is_one_clear_sentence(get: Getter, code: int, said: str, asked: int) -> None:
    get.server.status = [code] * 9
    error = get.fails()
    assert error.startswith(f"{get.server.url}: {said}")
    assert (
        f"give another address with --url, or fetch it with a browser and put it at {get.place}"[
            :80
        ]
        in error
    )
    assert len(get.server.asked) == asked
    assert left_in(get.out) == set()


def test_a_server_that_fails_for_a_moment_is_asked_again(get: Getter) -> None:
    get.server.status = [503, 500]
    get()
    assert get.place.read_bytes() == BODY


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=utf-8", PAGE),
        ("TEXT/HTML", BODY),
        ("application/octet-stream", PAGE),
        ("application/octet-stream", b"\xef\xbb\xbf\r\n  " + PAGE),
    ],
)
def test_a_page_with_code_200_is_no_file(get: Getter, kind: str, body: bytes) -> None:
    get.server.kind, get.server.body = kind, body
    assert "the server sends a web page instead of the file" in get.fails()
    assert left_in(get.out) == set()


def test_records_may_begin_like_a_page(get: Getter) -> None:
    get.server.body = records(2, ord("<") + 256 * ord("p"))
    assert get.server.body.startswith(b"<p")
    get()
    assert get.place.read_bytes() == get.server.body


def test_a_page_in_the_middle_leaves_what_has_come(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    get.server.kind = "text/html"  # a login page of the network, say
    assert "web page" in get.fails()
    assert get.part.stat().st_size == 100_000


def test_an_answer_shorter_than_its_length(get: Getter) -> None:
    get.server.length = len(BODY) + 1000
    assert "the server has nothing after the first 400.6 kB: it announced" in get.fails()
    assert "the connection broke off after 400.6 kB; trying again in 0 s" in get.said


def test_an_answer_longer_than_its_length_ends_at_that(get: Getter) -> None:
    get.server.length = len(BODY) - 1000
    error = get.fails()
    assert "what came is not as expected: the file ends within record 40" in error
    assert f"it is kept as {NAME}.rejected" in error
    assert left_in(get.out) == {f"{NAME}.rejected"}


def test_an_answer_cut_short_without_any_length(get: Getter) -> None:
    get.server.length, get.server.body = -1, BODY[:-500]
    assert "the file ends within record 40" in get.fails()


@pytest.mark.parametrize("body", [b"", b"\0" * 5000, BODY[:5000] + b"!" + BODY[5001:]])
def test_something_else_than_records_is_rejected(get: Getter, body: bytes) -> None:
    get.server.body = body
    assert "what came is not as expected" in get.fails()


def test_a_compressed_body_is_not_taken_for_the_file(get: Getter) -> None:
    get.server.encoding = "gzip"
    assert "is sent compressed (gzip)" in get.fails()


def test_a_redirect_without_end(get: Getter) -> None:
    get.server.redirect = "/again"
    assert "redirects without end" in get.fails()


def test_a_server_that_falls_silent(get: Getter) -> None:
    get.server.cuts, get.server.stall = [100, 0, 0, 0, 0], True
    error = get.fails(timeout=0.1)
    assert "the server does not answer in time; what has come is kept" in error


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://nowhere.invalid/x", "the host nowhere.invalid cannot be found"),
        ("https://127.0.0.1:{port}/x", "no secure connection: "),
        ("http://127.0.0.1:1/x", "no connection: "),
        ("ftp://127.0.0.1/x", "is no address of a file"),
        ("data/x.tar", "is no address of a file"),
        ("http://[::1/x", "is no address of a file"),
        ("http://", "is no address of a file"),
    ],
)
def test_an_address_that_leads_nowhere(get: Getter, url: str, said: str) -> None:
    url = url.format(port=get.server.server_address[1])
    assert get.fails(url=url).startswith(f"{url}: {said}")


# --------------------------------------------------------------------- what is known beforehand


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what is known of the file."""

    def know(size: int | None = len(BODY), digest: str | None = None) -> None:
        digest = digest or hashlib.sha256(BODY).hexdigest()
        table = {"bair-test": Official(NAME, "http://nowhere.invalid", size, digest)}
        monkeypatch.setattr(module, "OFFICIAL", table)

    return know


def test_a_known_file_is_gone_on_with_from_another_address(
    get: Getter, known: Callable[..., None]
) -> None:
    known()
    get.server.etag = None
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    get(url=get.server.url + "?mirror")
    assert get.server.started[-1] == 100_000
    assert get.place.read_bytes() == BODY


@pytest.mark.parametrize("more", [-1, 1])
def test_another_length_than_the_known_one(
    get: Getter, known: Callable[..., None], more: int
) -> None:
    known(len(BODY) + more)
    error = get.fails()
    assert f"has {len(BODY):,} bytes, but the file has {len(BODY) + more:,}" in error
    assert left_in(get.out) == set()
    get.server.length = -1  # not told beforehand
    error = get.fails()
    if more < 0:
        assert "sends more than the 400.6 kB that the file has" in error
    else:
        assert "the server has nothing after the first 400.6 kB" in error
        said = (
            f"the answer ended after {len(BODY):,} of {len(BODY) + 1:,} bytes; trying again in 0 s"
        )
        assert said in get.said


def test_another_digest_than_the_known_one(get: Getter, known: Callable[..., None]) -> None:
    known(digest="0" * 64)
    assert f"not {'0' * 64}" in get.fails()
    assert (get.out / f"{NAME}.rejected").read_bytes() == BODY


def test_the_digest_of_an_earlier_download_is_compared(get: Getter) -> None:
    get()
    get.place.unlink()
    get.server.body = records(40, 10_000, seed=3)
    with pytest.raises(DataError, match=f"or delete {NAME}.sha256"):
        get()
    assert left_in(get.out) == {f"{NAME}.rejected", f"{NAME}.sha256"}


def test_a_file_that_is_there_with_another_length(get: Getter, known: Callable[..., None]) -> None:
    known()
    get.out.mkdir()
    get.place.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match=f"has {len(BODY) - 1:,} bytes, but the complete file has"):
        get()
    assert get.place.read_bytes() == BODY[:-1]


def test_what_is_published_is_named_and_addressed() -> None:
    assert set(OFFICIAL) == {"bair-test", "bair"}
    for official in OFFICIAL.values():
        assert official.url.startswith("https://")
        assert official.url.endswith(f"/{official.name}")
        assert official.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", official.sha256)
    with pytest.raises(DataError, match="there are: bair, bair-test"):
        download("bear", "out")


# ---------------------------------------------------------------------------------- the disk


def test_what_does_not_fit_is_not_begun(get: Getter, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 300_000))
    error = get.fails()
    assert "400.6 kB are still to come, and only 300.0 kB are free" in error
    assert "free 100.6 kB, or choose another disk with --out" in error
    assert left_in(get.out) == set()


def test_a_disk_that_fills_up_keeps_what_has_come(get: Getter) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        error = get.fails()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written: File too large (free some disk space" in error
    assert 0 < get.part.stat().st_size <= 150_000
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started[-1] > 0


def test_a_folder_that_cannot_be_used(get: Getter, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabkitError, match="cannot be written"):
        Getter(get.server, tmp_path / "file")()
    get.place.mkdir(parents=True)
    with pytest.raises(DataError, match="is there, but is not a file"):
        get()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_without_permission(get: Getter) -> None:
    get.out.mkdir(mode=0o500)
    with pytest.raises(DataError, match="choose another folder with --out"):
        get()
