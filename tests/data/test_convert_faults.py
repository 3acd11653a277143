"""Conversion of BAIR's records that are damaged, missing or in the way."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from bair_records import features, write_records
from converting import counted, only, tarred, tree

from labkit.data import layout
from labkit.data.convert import convert
from labkit.data.pack import open_pack
from labkit.errors import DataError


@pytest.fixture
def broken(tmp_path):
    """A function (bytes of traj_512_to_767) -> a folder with one good file and that one."""

    def make(data: bytes) -> Path:
        root = tmp_path / "softmotion30_44k"
        write_records(root / "train/traj_0_to_255.tfrecords", [features(0), features(1)])
        (root / "train/traj_512_to_767.tfrecords").write_bytes(data)
        return root

    return make


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    """The bytes of a file of three records."""
    file = tmp_path_factory.mktemp("good") / "good"
    return write_records(file, [features(n) for n in range(3)]).read_bytes()


@pytest.mark.parametrize(("to", "workers"), [("pack", 1), ("layout", 1), ("pack", 2)])
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda data: data[:-1], "row 3: the file ends within record 3"),
        (lambda data: data[:800_000] + b"!" + data[800_001:], "row 3: the data of record 3"),
        (lambda data: b"", "holds no records"),
    ],
)
def test_a_fault_stops_it_and_leaves_what_was_there(
    broken, good, tmp_path, harm, words, to, workers
):
    source, out = broken(harm(good)), tmp_path / "out"
    before = {}
    if to == "pack":  # an earlier pack stays
        convert(source / "train/traj_0_to_255.tfrecords", out)
        before = tree(out)
    with pytest.raises(DataError, match=rf"traj_512_to_767\.tfrecords.*{words}") as error:
        convert(source, out, to=to, workers=workers)
    assert error.value.hint
    assert tree(out) == before
    assert not [name for name in only(tmp_path) if name.endswith((".tmp", ".lock"))]


def test_after_a_fault_the_clips_before_it_are_kept(broken, good, tmp_path, monkeypatch):
    harmed = bytearray(good)
    harmed[len(good) - 100] ^= 1
    source = broken(bytes(harmed))
    file = source / "train/traj_512_to_767.tfrecords"
    stat = file.stat()
    with pytest.raises(DataError, match="record 3"):
        convert(source, tmp_path / "out", workers=1)
    file.write_bytes(good)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    read = counted(monkeypatch)
    convert(source, tmp_path / "out", workers=1)
    assert len(open_pack(tmp_path / "out").split("train")) == 5
    assert read[0] <= 3  # the piece of work with the fault, not the two clips before


def blocks(file: Path) -> bytearray:
    return bytearray(file.read_bytes())


def a_cut_tar(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def a_tar_without_its_end(file: Path) -> None:
    data = file.read_bytes().rstrip(b"\0")
    file.write_bytes(data + bytes(-len(data) % 512))


def a_flipped_header(file: Path) -> None:
    """Of a member in the middle: tarfile itself would end there, content."""
    with tarfile.open(file) as archive:
        at = archive.getmembers()[3].offset
    data = blocks(file)
    data[at + 20] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [a_cut_tar, a_tar_without_its_end, a_flipped_header])
@pytest.mark.parametrize("packing", ["plain", "gz", "cut gz"])
def test_a_damaged_tar_is_noticed(bair, tmp_path, harm, packing):
    file = tarred(bair, tmp_path / "bair.tar", ["test/traj_0_to_255", "test/traj_256_to_511"])
    harm(file)
    if packing != "plain":
        data = gzip.compress(file.read_bytes(), 1)
        file = tmp_path / "bair.tar.gz"
        file.write_bytes(data[: len(data) // 2] if packing == "cut gz" else data)
    with pytest.raises(DataError, match=r"is not a whole tar archive|ends within record") as error:
        convert(file, tmp_path / "out")
    assert "download it again" in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("page.tar", b"<!DOCTYPE html>" * 100, "is not a whole tar archive"),
        ("page.tar.gz", b"<!DOCTYPE html>" * 100, "is not a whole tar archive"),
        ("page.tfrecords", b"<!DOCTYPE html>" * 100, "no TFRecord file"),
        ("empty.tfrecords", b"", "holds no records"),
    ],
)
def test_what_is_no_archive_or_file_of_records(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    for to in ("pack", "layout"):
        with pytest.raises(DataError, match=words):
            convert(tmp_path / name, tmp_path / "out", to=to)
        assert only(tmp_path) == [name]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_without_records(tmp_path, mode):
    with tarfile.open(tmp_path / "empty.tar", mode) as archive:
        archive.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(DataError, match=r"holds no \.tfrecords files"):
        convert(tmp_path / "empty.tar", tmp_path / "out")


def test_a_layout_adds_its_splits_and_replaces_none(bair, tmp_path):
    convert(bair / "test", tmp_path / "out", to="layout", workers=1)
    before = tree(tmp_path / "out")
    with pytest.raises(DataError, match="test: is there already"):
        convert(bair, tmp_path / "out", to="layout", workers=1)
    assert tree(tmp_path / "out") == before
    convert(bair / "train" / "traj_512_to_767.tfrecords", tmp_path / "out", to="layout", workers=1)
    assert layout.splits(tmp_path / "out") == ["train", "test"]
