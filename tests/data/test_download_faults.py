"""Downloads from a real local server that has every fault a server can have."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_server import BODY, NAME, PAGE, Getter, left_in, records

from labkit.data import download as module
from labkit.data.download import OFFICIAL, Official, download
from labkit.errors import DataError

# ---------------------------------------------------------------------------------- what goes wrong


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


def test_an_answer_shorter_than_its_length_is_taken_if_it_is_whole(get: Getter) -> None:
    get.server.length = len(BODY) + 1000
    get()
    assert get.place.read_bytes() == BODY
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


# ------------------------------------------------------------------------- what is known beforehand


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what is known of the file."""

    def know(size: int | None = len(BODY), digest: str | None = None) -> None:
        digest = digest or hashlib.sha256(BODY).hexdigest()
        table = {"bair-test": Official(NAME, "http://nowhere.invalid", size, digest)}
        monkeypatch.setattr(module, "OFFICIAL", table)

    return know


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


# ----------------------------------------------------------------------------------------- the disk


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
    with pytest.raises(DataError, match=r"file: is a file \(give the name of a folder with --out"):
        Getter(get.server, tmp_path / "file")()
    with pytest.raises(DataError, match="below: cannot be written: Not a directory"):
        Getter(get.server, tmp_path / "file" / "below")()
    get.place.mkdir(parents=True)
    with pytest.raises(DataError, match="is there, but is not a file"):
        get()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_without_permission(get: Getter) -> None:
    get.out.mkdir(mode=0o500)
    with pytest.raises(DataError, match="choose another folder with --out"):
        get()
