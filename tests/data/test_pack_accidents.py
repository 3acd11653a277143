"""Packing that meets an accident: the earlier pack stays whole, and the next packing succeeds."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from labkit import files
from labkit.data import layout
from labkit.data import pack as packs
from labkit.data.clip import Clip
from labkit.data.pack import PackWriter, ensure_pack, open_pack, write_pack
from labkit.errors import DataError

resource = pytest.importorskip("resource")  # Windows has none


def clip(number: int, frames: int = 4) -> Clip:
    """A clip of 12 KiB a frame, which no buffer holds back for long."""
    pictures = np.random.default_rng(number).integers(0, 256, (frames, 3, 64, 64), np.uint8)
    return Clip(pictures, np.full((frames, 4), number, np.float32), name=f"clip {number}")


@pytest.fixture
def root(tmp_path):
    """The place of a pack, with an earlier one of a single clip."""
    write_pack(tmp_path / "pack", {"train": [clip(99)]}, "earlier")
    return tmp_path / "pack"


def is_earlier(root) -> bool:
    """Whether the earlier pack is there, and whole."""
    pack = open_pack(root)
    pack.verify()
    return pack.manifest["source"] == "earlier"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


HEAD = f"""
from __future__ import annotations
import os, signal, sys
import numpy as np
from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.pack import PackWriter, ensure_pack, write_pack
{inspect.getsource(clip)}
"""


@contextlib.contextmanager
def another_process(code, *arguments):
    """A Python process that runs that code until it prints a line."""
    command = [sys.executable, "-c", HEAD + code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def killed(code, *arguments):
    """Runs code to its first line of output, or its end, and kills the process there."""
    with another_process(code, *arguments) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


# ------------------------------------------------------------------------------- killed

HANG = "print('there', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("key", [None, "k"])
def test_killed_between_clips(root, key):
    killed(
        f"""
with PackWriter(sys.argv[1], "new", resume_key={key!r}) as writer:
    for number in range(6):
        writer.add("train", clip(number))
        if number == 3:
            writer.checkpoint()
    {HANG}
""",
        root,
    )
    assert is_earlier(root)
    assert len(names(root.parent)) == 3  # the pack, a lock that nobody holds, the work
    with PackWriter(root, "new", resume_key=key) as writer:
        done = writer.done("train")
        assert done == (4 if key else 0)
        for number in range(done, 6):
            writer.add("train", clip(number))
        writer.finish()
    assert names(root.parent) == ["pack"]
    write_pack(root.parent / "other", {"train": map(clip, range(6))}, "new")
    assert open_pack(root).manifest == open_pack(root.parent / "other").manifest
    open_pack(root).verify()


def test_killed_within_the_change_of_two_packs(root):
    killed(
        """
rename = os.rename
def second_never(old, new):
    if str(new) == sys.argv[1]:
        print("there", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    rename(old, new)
os.rename = second_never
write_pack(sys.argv[1], {"train": [clip(1)]}, "new")
""",
        root,
    )
    # The next one who writes puts it back, even if he fails himself.
    with pytest.raises(DataError, match="no clips"):
        write_pack(root, {"train": []}, "newer")
    assert is_earlier(root)
    assert names(root.parent) == ["pack"]


def test_ensure_pack_killed(tmp_path):
    layout.write_split(tmp_path / "course", "train", map(clip, range(3)))
    killed(
        f"""
read = layout.read_clip
def hang_at_the_second(folder):
    if folder.name == "1":
        {HANG}
    return read(folder)
layout.read_clip = hang_at_the_second
ensure_pack(sys.argv[1])
""",
        tmp_path / "course",
    )
    assert layout.splits(tmp_path / "course") == ["train"]  # it looks past what is left
    ensure_pack(tmp_path / "course").verify()
    assert names(tmp_path / "course") == [".labkit_pack", "train"]


def test_what_killed_writers_left_goes_with_the_next(root):
    folder, some_id = root.parent, "0123456789abcdef"
    mine = [".pack.earlier.tmp", f".pack.{some_id * 2}.tmp", f".pack.{some_id}.part"]
    others = [f".packs.{some_id}.part", f".pack.{some_id}.tmp", ".pack.my.tmp", ".pack.old"]
    for name in [*mine, *others]:
        (folder / name / "pack").mkdir(parents=True)
    (folder / ".pack.lock").touch()
    write_pack(root, {"train": [clip(1)]}, "new")
    assert names(folder) == sorted([*others, "pack"])


# -------------------------------------------------------------------------- two at once


def test_two_writers_of_one_pack(root):
    code = f"""
with PackWriter(sys.argv[1], "theirs") as writer:
    writer.add("train", clip(1))
    {HANG}
    writer.add("train", clip(2))
    writer.finish()
print("done", flush=True)
"""
    with another_process(code, root) as process:
        process.stdout.readline()
        for wait in (0.0, 0.1):
            with (
                pytest.raises(DataError, match="is being written by another process") as caught,
                PackWriter(root, "mine", resume_key="k", wait=wait),
            ):
                pass
            assert caught.value.file == root
        with pytest.raises(DataError, match="another process"), files.replacing(root):
            pass
        assert is_earlier(root)
        write_pack(root.with_name("other"), {"train": [clip(1)]}, "next to it")
        process.stdin.close()
        assert process.stdout.readline() == "done\n"
    pack = open_pack(root)
    pack.verify()
    assert (pack.manifest["source"], len(pack.split("train"))) == ("theirs", 2)
    assert names(root.parent) == ["other", "pack"]


@pytest.fixture
def course(tmp_path):
    """A data set in the course's layout."""
    layout.write_split(tmp_path / "course", "train", map(clip, range(3)))
    return tmp_path / "course"


PACKING = f"""
read = layout.read_clip
def hang_at_the_second(folder):
    if folder.name == "1":
        {HANG}
    return read(folder)
layout.read_clip = hang_at_the_second
print(ensure_pack(sys.argv[1]).manifest["splits"], flush=True)
"""


def test_ensure_pack_waits_for_another_process_and_takes_its_pack(course, monkeypatch):
    with another_process(PACKING, course) as process:
        process.stdout.readline()

        class LetsThemGoOn(PackWriter):
            def __enter__(self):
                process.stdin.close()
                return super().__enter__()

        monkeypatch.setattr(packs, "PackWriter", LetsThemGoOn)
        monkeypatch.setattr(layout, "read_clip", lambda folder: pytest.fail("packed it too"))
        pack = ensure_pack(course)
        assert process.stdout.readline() == f"{pack.manifest['splits']}\n"
    pack.verify()
    assert names(course) == [".labkit_pack", "train"]


def test_ensure_pack_says_that_it_waits_and_not_for_ever(course, monkeypatch, caplog):
    monkeypatch.setattr(packs, "WAIT_SECONDS", 0.1)
    with another_process(PACKING, course) as process:
        process.stdout.readline()
        with pytest.raises(DataError, match="is being written by another process"):
            ensure_pack(course)
    assert f"waiting for another process that is writing {course / '.labkit_pack'}" in caplog.text


def test_many_at_once_make_one_pack(course):
    code = "print(os.stat(ensure_pack(sys.argv[1]).root / 'manifest.json').st_ino, flush=True)"
    with contextlib.ExitStack() as all_of_them:
        processes = [all_of_them.enter_context(another_process(code, course)) for _ in range(3)]
        made = {process.stdout.readline() for process in processes}
    assert made == {f"{(course / '.labkit_pack' / 'manifest.json').stat().st_ino}\n"}
    ensure_pack(course).verify()
    assert names(course) == [".labkit_pack", "train"]


# ---------------------------------------------------------------------------- disk full


@contextlib.contextmanager
def files_no_longer_than(size):
    """A limit of the system on the length of files; Python ignores its signal already."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


FULL = "cannot be written: .*free some disk space"


@pytest.mark.parametrize("size", [0, 1, 100, 130, 1000, 2**15, 2**17, 49_152 * 3 - 1])
def test_a_full_disk_leaves_the_earlier_pack(root, size):
    with files_no_longer_than(size), pytest.raises(DataError, match=FULL) as caught:
        write_pack(root, {"train": map(clip, range(3))}, "new")
    assert caught.value.file == root
    assert is_earlier(root)
    assert names(root.parent) == ["pack"]


def test_after_a_full_disk_the_work_goes_on(root):
    with (
        files_no_longer_than(5 * 49_152 + 7),
        pytest.raises(DataError, match=f"{FULL}.*goes on where this one stopped"),
    ):
        write(root, range(9), "k")
    assert is_earlier(root)
    assert write(root, range(9), "k") == 4
    write_pack(root.with_name("other"), {"train": map(clip, range(9))}, "new")
    assert open_pack(root).manifest == open_pack(root.with_name("other")).manifest
    open_pack(root).verify()
    assert names(root.parent) == ["other", "pack"]


def write(root, numbers, key):
    """Writes the clips that are not there yet; returns how many were there."""
    with PackWriter(root, "new", resume_key=key) as writer:
        began = writer.done("train")
        for number in numbers[began:]:
            writer.add("train", clip(number))
            if number % 2:
                writer.checkpoint()
        writer.finish()
    return began


@pytest.fixture(params=[150, 170, 250, 300, 340])
def tiny_disk(tmp_path, request):
    """A file system in memory of that many KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up(tiny_disk):
    write_pack(tiny_disk / "pack", {"train": [clip(99)]}, "earlier")  # 64 KiB
    for key in (None, "k"):
        with pytest.raises(DataError, match=FULL):
            write(tiny_disk / "pack", range(7), key)
        assert is_earlier(tiny_disk / "pack")
    assert [name for name in names(tiny_disk) if not name.endswith(".part")] == ["pack"]
    write_pack(tiny_disk / "pack", {"train": [clip(1)]}, "in the end")
    assert names(tiny_disk) == ["pack"]
