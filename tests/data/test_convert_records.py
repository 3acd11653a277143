"""Conversion of BAIR's records: what comes out, of every source, and in how much memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from bair_records import features, write_records
from converting import COUNTS, SPLITS, killed, only, tarred, tree

from labkit.data import layout
from labkit.data.check import check
from labkit.data.convert import convert
from labkit.data.convert import records as convert_records
from labkit.data.convert.sources import open_source
from labkit.data.pack import open_pack
from labkit.errors import DataError

# ----------------------------------------------------------------------------------- what comes out


def test_a_pack_of_the_folder(bair, packed):
    pack = open_pack(packed)
    assert {name: len(pack.split(name)) for name in pack.splits} == COUNTS
    assert list(pack.splits) == ["train", "validate", "test"]
    for name, files in SPLITS.items():
        split = pack.split(name)
        expected = [(file, n, k) for file, ks in files.items() for n, k in enumerate(ks)]
        for i, (file, n, number) in enumerate(expected):
            clip, values = split.clip(i), features(number, ("aux1", "main"))
            assert clip.name == f"{name}/{file}/{n}"
            pixels = clip.frames[29].transpose(1, 2, 0).tobytes()
            assert pixels == values["29/image_aux1/encoded"][0]
            np.testing.assert_array_equal(clip.actions[5], np.float32(values["5/action"][0]))
    assert pack.manifest["camera"] == "aux1"
    assert "traj_256_to_511 of the training files" in pack.manifest["splits_from"]
    assert "trajectory number" in pack.manifest["order"]
    report = check(packed)
    assert report.ok, report.text()
    assert only(packed.parent) == ["out"]


def test_the_course_layout_has_the_same_clips(packed, folders):
    pack = open_pack(packed)
    for name, files in SPLITS.items():
        found = layout.clip_folders(folders, name)
        expected = [f"{file}.tfrecords/{n}" for file, ks in files.items() for n in range(len(ks))]
        assert [f"{f.parent.name}/{f.name}" for f in found] == expected
        for i, folder in enumerate(found):
            clip, other = layout.read_clip(folder), pack.split(name).clip(i)
            np.testing.assert_array_equal(clip.frames, other.frames)
            np.testing.assert_array_equal(clip.actions, other.actions)
            np.testing.assert_array_equal(clip.positions, other.positions)
    assert only(folders) == ["test", "train", "validate"]
    assert only(folders.parent) == ["out"]


def test_the_summary(bair, tmp_path):
    file = bair / "test" / "traj_0_to_255.tfrecords"
    assert convert(file, tmp_path / "out", workers=1) == {
        "source": str(file),
        "out": str(tmp_path / "out"),
        "format": "pack",
        "splits": {"test": 2},
        "clips": 2,
        "frames": 30,
        "height": 64,
        "width": 64,
        "positions": True,
    }


def test_the_other_camera(bair, tmp_path):
    convert(bair / "test", tmp_path / "out", camera="main", workers=1)
    pack = open_pack(tmp_path / "out")
    assert pack.manifest["camera"] == "main"
    pixels = pack.split("test").clip(1).frames[3].transpose(1, 2, 0).tobytes()
    assert pixels == features(9, ("aux1", "main"))["3/image_main/encoded"][0]


@pytest.mark.parametrize("to", ["pack", "layout"])
def test_any_number_of_processes_makes_the_same_bytes(bair, packed, folders, tmp_path, to):
    convert(bair, tmp_path / "out", to=to, workers=2)
    assert tree(tmp_path / "out") == tree(packed if to == "pack" else folders)
    assert only(tmp_path) == ["out"]


# ------------------------------------------------------------------------------------------ sources


def test_a_tar_gives_what_its_folder_gives(bair, packed, tmp_path):
    convert(tarred(bair, tmp_path / "bair.tar"), tmp_path / "out", workers=2)
    assert tree(tmp_path / "out", about=False) == tree(packed, about=False)
    assert only(tmp_path) == ["bair.tar", "out"]


def test_a_compressed_tar_keeps_the_archives_order(bair, packed, tmp_path):
    source = tarred(bair, tmp_path / "bair.tar.gz")
    convert(source, tmp_path / "out", workers=2)
    pack = open_pack(tmp_path / "out")
    assert {name: len(pack.split(name)) for name in pack.splits} == COUNTS
    train, other = pack.split("train"), open_pack(packed).split("train")
    files = ["traj_512_to_767"] * 3 + ["traj_1024_to_1279"] + ["traj_0_to_255"] * 2
    assert [name.split("/")[1] for name in train.names] == files
    assert "as in the archive" in pack.manifest["order"]
    for i, name in enumerate(train.names):
        np.testing.assert_array_equal(train.frames[i], other.frames[other.names.index(name)])
    convert(source, tmp_path / "one", workers=1)
    assert tree(tmp_path / "one") == tree(tmp_path / "out")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("softmotion30_44k/train/traj_0_to_255.tfrecords", "train traj_0_to_255"),
        ("softmotion30_44k/train/traj_256_to_511.tfrecords", "validate traj_256_to_511"),
        ("softmotion30_44k/test/traj_256_to_511.tfrecords", "test traj_256_to_511"),
        ("softmotion30_44k/val/traj_256_to_511.tfrecords", "validate traj_256_to_511"),
        ("test/softmotion30_44k/train/traj_0_to_255.tfrecords", "train traj_0_to_255"),
        ("anywhere/bair_test_traj_0_to_255.tfrecords", "test traj_0_to_255"),
        ("anywhere/latest_traj_0_to_255.tfrecords", "train traj_0_to_255"),
        ("anywhere/traj_256_to_511.tfrecord", "validate traj_256_to_511"),
        ("anywhere/mine.tfrecords", "train mine"),
    ],
)
def test_the_split_of_a_file(tmp_path, path, expected):
    write_records(tmp_path / path, [])
    (file,) = open_source((tmp_path / path).parent).files
    assert f"{file.split} {file.trajectories}" == expected
    (alone,) = open_source(tmp_path / path).files
    assert alone == file
    (below,) = open_source(tmp_path).files
    assert below.split == file.split


def test_two_files_for_one_place_are_refused(tmp_path):
    for folder in ("val", "train"):
        write_records(tmp_path / folder / "traj_256_to_511.tfrecords", [features()])
    with pytest.raises(DataError, match=r"would be validate/traj_256_to_511, as would"):
        convert(tmp_path, tmp_path / "out")


def test_a_folder_without_records_is_refused(tmp_path, folders):
    with pytest.raises(DataError, match="is an empty folder"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match=r"holds no \.tfrecords files.*softmotion30_44k"):
        convert(folders, tmp_path / "out")
    assert only(tmp_path) == []


def test_links_that_lead_nowhere_or_in_circles(tmp_path, bair):
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "train" / "loop").symlink_to(tmp_path / "in")
    with pytest.raises(DataError, match=r"holds no \.tfrecords files"):
        convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "train" / "traj_0_to_255.tfrecords").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        convert(tmp_path / "in", tmp_path / "out")


# ------------------------------------------------------------------------------- memory and the bar


PEAK = """
import sys
import psutil
from labkit.data.convert import convert
from labkit.data.pack import PackWriter

peak, add, me = 0, PackWriter.add, psutil.Process()

def measured(*args):
    global peak
    add(*args)
    peak = max(peak, me.memory_info().rss)

PackWriter.add = measured
convert(sys.argv[1], sys.argv[2], workers=1)
print(peak)
"""


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path):
    record = write_records(tmp_path / "one", [features()]).read_bytes()
    peaks = []
    for clips in (10, 200):
        file = tmp_path / f"traj_0_to_{clips}.tfrecords"
        file.write_bytes(record * clips)
        command = [sys.executable, "-c", PEAK, str(file), str(tmp_path / str(clips))]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(ended.stdout))
    # 190 clips more have 67 MiB of pictures alone.
    assert peaks[1] - peaks[0] < 20 * 2**20


def test_the_bar_knows_the_total_and_the_speed(bair, tmp_path, monkeypatch):
    made = []

    class Bar:
        def __init__(self, **options):
            self.n, self.total, self.initial = options["initial"], None, options["initial"]
            made.append(self)

        def update(self, count):
            self.n += count
            self.totals = [*getattr(self, "totals", []), self.total]

        def refresh(self):
            self.totals.append(self.total)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(convert_records, "tqdm", Bar)
    killed(bair, tmp_path / "out", "pack", 1, "add", 8)
    convert(bair, tmp_path / "out", workers=1, progress=True)
    (bar,) = made
    assert bar.initial == 6  # the last checkpoint: of 2 at a time
    assert bar.n == 11
    assert bar.totals == [11] * len(bar.totals)
