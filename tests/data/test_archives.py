"""A zip is unpacked once, whole and safely, or refused in one sentence with nothing left behind."""

from __future__ import annotations

import os
import random
import stat
import struct
import zipfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from labkit.data import layout
from labkit.data.layout import archives
from labkit.data.pack import open_pack, write_pack
from labkit.errors import DataError


@pytest.fixture
def course(tmp_path, make_clip) -> Path:
    """A data set in the course's layout, apart from where the zips lie."""
    root = tmp_path / "elsewhere" / "processed_data"
    layout.write_split(root, "train", [make_clip(1), make_clip(2)])
    layout.write_split(root, "test", [make_clip(3)])
    return root


def zipped(file: Path, folder: Path, prefix: str = "", slash: str = "/") -> Path:
    """A zip of a folder's files, with `prefix` before their names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner in sorted(folder.rglob("*")):
            if inner.is_file():
                name = prefix + inner.relative_to(folder).as_posix()
                archive.writestr(name.replace("/", slash), inner.read_bytes())
    return file


def zip_of(file: Path, entries: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file


def hidden(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


@pytest.mark.parametrize(
    "prefix", ["", "processed_data/", "processed_data/processed_data/", "lab5/", "a/lab5/", "./"]
)
def test_a_zip_reads_as_the_folder_it_was_made_of(tmp_path, course, prefix):
    file = zipped(tmp_path / "zips" / "processed_data.zip", course, prefix)
    assert layout.splits(file) == ["train", "test"]
    for split in ("train", "test"):
        for ours, theirs in zip(
            layout.clip_folders(file, split), layout.clip_folders(course, split), strict=True
        ):
            one, other = layout.read_clip(ours), layout.read_clip(theirs)
            np.testing.assert_array_equal(one.frames, other.frames)
            np.testing.assert_array_equal(one.actions, other.actions)
    assert hidden(file.parent) == [".processed_data.zip.unpacked"]


def test_a_folder_with_nothing_but_a_zip_is_that_zip(tmp_path, course):
    root = tmp_path / "año data"
    zipped(root / "processed data.ZIP", course, "processed_data/")
    (root / ".DS_Store").touch()
    (root / "README.txt").touch()
    assert layout.splits(root) == ["train", "test"]
    zipped(root / "second.zip", course)
    with pytest.raises(
        DataError, match=r"holds only zips: processed data\.ZIP, second\.zip.*unpack all"
    ):
        layout.splits(root)
    # Beside folders a zip is only a zip.
    layout.write_split(root, "validate", [layout.read_clip(layout.clip_folders(course, "test")[0])])
    assert layout.splits(root) == ["validate"]
    assert layout.resolve(root) == root


def test_a_zipped_pack_is_resolved_to_the_pack(tmp_path, make_clip):
    write_pack(tmp_path / "packs" / "simulated", {"train": [make_clip()]}, source="a test")
    for prefix in ("", "simulated/"):
        file = zipped(tmp_path / f"{len(prefix)}.zip", tmp_path / "packs" / "simulated", prefix)
        pack = open_pack(layout.resolve(file))
        pack.verify()
        assert pack.splits == ["train"]


def test_only_the_files_of_clips_and_packs_are_unpacked(tmp_path, course):
    for name in ("train/run.exe", "train/.hidden.png", "__MACOSX/train/0/._0.png", "a.zip", "Icon"):
        (course / name).parent.mkdir(parents=True, exist_ok=True)
        (course / name).write_bytes(b"x")
    folder = archives.unpacked(zipped(tmp_path / "a.zip", course))
    endings = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert endings == {".png", ".csv", ".json"}
    assert [file.name for file in folder.rglob("*.json")] == [".labkit_unpacked.json"]
    assert not [file for file in folder.rglob("*") if file.name in ("__MACOSX", ".hidden.png")]


def test_backslashes_of_windows_programs_part_folders(tmp_path, course):
    file = zipped(tmp_path / "a.zip", course, "processed_data\\", slash="\\")
    assert layout.splits(file) == ["train", "test"]


def test_a_zip_is_unpacked_once_and_again_when_it_changed(tmp_path, course, make_clip):
    file = zipped(tmp_path / "a.zip", course)
    folder = archives.unpacked(file)
    (folder / "mine").touch()
    assert archives.unpacked(file) == folder
    assert (folder / "mine").exists()
    state = file.stat()
    layout.write_clip(layout.clip_folders(course, "test")[0], make_clip(9))
    zipped(file, course)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert archives.unpacked(file) == folder
    assert not (folder / "mine").exists()
    (clip,) = layout.clip_folders(file, "test")
    np.testing.assert_array_equal(layout.read_clip(clip).frames, make_clip(9).frames)


def test_where_nothing_can_be_written_the_cache_is_used(tmp_path, course, monkeypatch):
    file = zipped(tmp_path / "a.zip", course)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("labkit.data.layout.archives.os.access", lambda path, mode: False)
    folder = archives.unpacked(file)
    assert folder.is_relative_to(tmp_path / "cache" / "labkit" / "unpacked")
    assert layout.splits(file) == ["train", "test"]
    assert archives.unpacked(file) == folder
    assert hidden(tmp_path) == []


def test_several_at_once_unpack_it_once(tmp_path, course, monkeypatch):
    file, count = zipped(tmp_path / "a.zip", course), []
    real = archives._unpack
    monkeypatch.setattr(archives, "_unpack", lambda *args: (count.append(1), real(*args)))
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(archives.unpacked, [file] * 4))
    assert len(set(folders)) == 1
    assert len(count) == 1


# ------------------------------------------------------------------------------- refusals

ROW = b"1,2,3,4\n"


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("placeholder.csv")
    info.filename = info.orig_filename = name  # as it is: ZipInfo() would tidy it
    info.external_attr = mode << 16
    return info


def patched(file: Path, offset_in_directory: int, value: bytes, local: int | None = None) -> Path:
    """Changes a field of the first entry in the directory, and the same one in its local header."""
    data = bytearray(file.read_bytes())
    start = data.rindex(b"PK\1\2") if data.count(b"PK\1\2") == 1 else data.index(b"PK\1\2")
    data[start + offset_in_directory : start + offset_in_directory + len(value)] = value
    if local is not None:
        data[local : local + len(value)] = value
    file.write_bytes(data)
    return file


def named(*names: str):
    return lambda file: zip_of(file, {entry(name): ROW for name in names})


def one(file: Path) -> Path:
    return zip_of(file, {"train/0/actions.csv": ROW * 50})


def flipped(file: Path) -> Path:
    data = bytearray(one(file).read_bytes())
    data[60] ^= 0xFF
    file.write_bytes(data)
    return file


def inflates_more_than_it_says(file: Path) -> Path:
    """20 MB of zeros in an entry that says it has 400 bytes."""
    zip_of(file, {"train/0/actions.csv": bytes(20_000_000)})
    return patched(file, 24, struct.pack("<I", 400), local=22)


def terabytes(file: Path) -> Path:
    """A few kB that say they are 16 times 4 GB."""
    zip_of(file, {f"train/{n}/0.png": ROW for n in range(16)})
    data = bytearray(file.read_bytes())
    start = 0
    while (start := data.find(b"PK\1\2", start)) >= 0:
        data[start + 24 : start + 28] = b"\xfe\xff\xff\xff"
        start += 4
    file.write_bytes(data)
    return file


def bzipped(file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("train/0/actions.csv", ROW)
    return file


REFUSED = {
    "a name that leads out": (named("train/0.csv", "../evil.csv"), "'../evil.csv' leads out"),
    "one that leads out of sight": (named("train/0.csv", "a/../../../evil.txt"), "leads out"),
    "one that leads out by backslashes": (named("..\\evil.csv"), "leads out"),
    "an absolute name": (named("/etc/evil.csv"), "leads out"),
    "an absolute name of Windows": (named("\\\\host\\evil.csv"), "leads out"),
    "a drive": (named("C:evil.csv"), "leads out"),
    "a drive's folder": (named("c:\\evil.csv"), "leads out"),
    "a control character": (named("train/\x1b[2J.csv"), "control characters"),
    "a zero in a name": (named("train/0.csv\0.png"), "control characters"),
    "a name no disk can store": (named(f"train/{'x' * 300}.csv"), "too long"),
    "a link": (
        lambda file: zip_of(file, {entry("train/0.png", stat.S_IFLNK | 0o777): b"/etc/passwd"}),
        "is a link",
    ),
    "a link to a folder": (
        lambda file: zip_of(file, {entry("train", stat.S_IFLNK | 0o777): b"/", "train/0.csv": ROW}),
        "is a link",
    ),
    "a device": (
        lambda file: zip_of(file, {entry("train/0.png", stat.S_IFCHR | 0o666): b""}),
        "neither a file nor a folder",
    ),
    "a name twice": (named("train/0.csv", "train/./0.csv"), "is in it twice"),
    "names that some disks take for one": (named("train/0.csv", "Train/0.CSV"), "in it twice"),
    "a file that is also a folder": (
        named("train/a.csv", "train/a.csv/0.csv"),
        "cannot be written",
    ),
    "a password": (lambda file: patched(one(file), 8, b"\1\0", local=6), "is encrypted"),
    "an unusual compression": (bzipped, "method 12"),
    "terabytes": (terabytes, r"grow from 1.* kB to 68.7 GB.*do not trust it"),
    "more than it says": (inflates_more_than_it_says, "is damaged"),
    "a flipped bit": (flipped, "train/0/actions.csv is damaged"),
    "half a zip": (
        lambda file: file.write_bytes(one(file).read_bytes()[:80]),
        "not a zip, or only a part",
    ),
    "no bytes": (lambda file: file.touch(), "not a zip"),
    "a page": (lambda file: file.write_text("<!DOCTYPE html>"), "not a zip"),
    "an empty zip": (lambda file: zip_of(file, {}), "holds no clips and no pack"),
    "a zip of texts": (named("report.pdf", "train.py"), "expected train, validate and test"),
    "a zip in a zip": (named("processed_data.zip"), "holds another zip"),
    "a link in a circle": (lambda file: os.symlink(file, file), "in a circle"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_zip_that_is_not_to_be_trusted_is_refused_and_leaves_nothing(tmp_path, name):
    make, words = REFUSED[name]
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    file = folder / "data.zip"
    make(file)
    with pytest.raises(DataError, match=words) as caught:
        archives.unpacked(file)
    assert caught.value.file == file
    assert caught.value.hint
    assert str(caught.value).isprintable()
    everything = sorted(str(inner.relative_to(tmp_path)) for inner in tmp_path.rglob("*"))
    assert everything == ["a", "a/b", "a/b/c", "a/b/c/data.zip"]


def test_a_broken_newer_zip_leaves_the_earlier_folder(tmp_path, course):
    file = zipped(tmp_path / "a.zip", course)
    folder = archives.unpacked(file)
    flipped(file)
    with pytest.raises(DataError, match="is damaged"):
        archives.unpacked(file)
    assert layout.splits(folder) == ["train", "test"]


def test_a_zip_larger_than_the_disk_is_refused_beforehand(tmp_path, course, monkeypatch):
    file = zipped(tmp_path / "a.zip", course)
    disk = namedtuple("disk", "total used free")(1000, 0, archives.KEPT_FREE + 4096)
    monkeypatch.setattr("labkit.data.layout.archives.shutil.disk_usage", lambda path: disk)
    written = []
    monkeypatch.setattr(zipfile.ZipFile, "extract", lambda *args: written.append(args))
    with pytest.raises(DataError, match=r"needs 269 MB to unpack; 268 MB are free"):
        archives.unpacked(file)
    assert not written
    assert hidden(tmp_path) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, course, monkeypatch):
    file = zipped(tmp_path / "a.zip", course)
    real, count = zipfile.ZipFile.extract, []

    def full(*args):
        count.append(1)
        if len(count) == 5:
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(DataError, match="No space left on device"):
        archives.unpacked(file)
    assert hidden(tmp_path) == []


def test_damaged_zips_are_a_folder_or_our_error(tmp_path, course):
    """Flips and cuts at 150 places, more of them in the directory at the end of the file."""
    good = zipped(tmp_path / "good.zip", course).read_bytes()
    start, outcomes = good.index(b"PK\1\2"), set()
    draw = random.Random(0)
    for number in range(150):
        data = bytearray(good)
        for _ in range(draw.choice([1, 1, 4])):
            place = draw.randrange(start, len(data)) if number % 3 else draw.randrange(len(data))
            data[place] = draw.randrange(256)
        if number % 10 == 0:
            del data[draw.randrange(len(data)) :]
        file = tmp_path / "a.zip"
        file.write_bytes(data)
        os.utime(file, ns=(number, number))
        try:
            archives.unpacked(file)
            outcomes.add("folder")
        except DataError as fault:
            outcomes.add(fault.what[:20])
            continue
    assert "folder" in outcomes
    assert len(outcomes) > 3
