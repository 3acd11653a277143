"""Downloads from a real local server: what goes well, and going on after a break."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from faulty_server import BODY, NAME, PAGE, Getter, left_in, records

from labkit.data import download as module
from labkit.data.download import check_file
from labkit.errors import DataError

# ----------------------------------------------------------------------------------- what goes well


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


# ----------------------------------------------------------------------------------------- going on


def test_a_broken_connection_is_gone_on_with(get: Getter) -> None:
    get.server.cuts = [100_000, 50_000, 7]
    get()
    assert get.place.read_bytes() == BODY
    assert get.server.started == [0, 100_000, 150_000, 150_007]
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


def test_a_file_that_changed_meanwhile_is_rejected_and_then_fetched_anew(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    get.server.body = records(50, 9_000, seed=1)
    assert "what came is not as expected" in get.fails()
    assert left_in(get.out) == {f"{NAME}.rejected"}
    get()
    assert get.place.read_bytes() == get.server.body


def test_another_address_goes_on(get: Getter) -> None:
    get.server.cuts = [100_000, 0, 0, 0]
    get.fails()
    get(url=get.server.url + "?mirror")
    assert get.server.started[-1] == 100_000
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
    assert left_in(get.out) == {f".{NAME}.part"}
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
    assert left_in(get.out) == {f".{NAME}.part"}
    get()
    assert get.server.started == [0, len(BODY)]
    assert get.place.read_bytes() == BODY
