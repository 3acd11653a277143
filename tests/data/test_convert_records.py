"""Conversion of BAIR's records: every source, both forms, faults, and runs that are killed."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from bair_records import features, write_records

from labkit.data import layout
from labkit.data.check import check
from labkit.data.convert import convert
from labkit.data.convert import pieces as convert_pieces
from labkit.data.convert import records as convert_records
from labkit.data.convert.sources import open_source
from labkit.data.convert.workers import in_order
from labkit.data.pack import open_pack
from labkit.errors import DataError

BAIR = {
    # Numeric order is not the alphabet's; both folders have a traj_256_to_511.
    "train/traj_0_to_255": [0, 1],
    "train/traj_1024_to_1279": [2],
    "train/traj_256_to_511": [3, 4],
    "train/traj_512_to_767": [5, 6, 7],
    "test/traj_0_to_255": [8, 9],
    "test/traj_256_to_511": [10],
}
SPLITS = {
    "train": {"traj_0_to_255": [0, 1], "traj_512_to_767": [5, 6, 7], "traj_1024_to_1279": [2]},
    "validate": {"traj_256_to_511": [3, 4]},
    "test": {"traj_0_to_255": [8, 9], "traj_256_to_511": [10]},
}
COUNTS = {"train": 6, "validate": 2, "test": 3}


@pytest.fixture(scope="module")
def bair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as BAIR's, of 11 clips with two cameras."""
    root = tmp_path_factory.mktemp("bair") / "softmotion30_44k"
    for name, numbers in BAIR.items():
        made = [features(number, ("aux1", "main")) for number in numbers]
        write_records(root / f"{name}.tfrecords", made)
    (root / "train" / "._traj_0_to_255.tfrecords").write_bytes(b"left by macOS")
    (root / "README.txt").write_text("about")
    return root


@pytest.fixture(scope="module")
def packed(bair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it without a break."""
    out = tmp_path_factory.mktemp("packed") / "out"
    convert(bair, out, workers=1)
    return out


@pytest.fixture(scope="module")
def folders(bair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the course layout."""
    out = tmp_path_factory.mktemp("folders") / "out"
    convert(bair, out, to="layout", workers=1)
    return out


def tree(root: Path, *, about: bool = True) -> dict[str, bytes]:
    """Every file under `root`, hidden ones too; `about` False leaves out the manifest's remarks on
    the source."""
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    if not about and "manifest.json" in files:
        manifest = json.loads(files["manifest.json"])
        files["manifest.json"] = json.dumps(manifest["splits"]).encode()
    return files


def only(root: Path) -> list[str]:
    """Names in a folder, hidden ones too."""
    return sorted(os.listdir(root))


# -------------------------------------------------------------------------- what comes out


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


# --------------------------------------------------------------------------------- sources


def tarred(bair: Path, file: Path, names: list[str] | None = None) -> Path:
    """A tar of the folder, with its files in an order that is nobody's."""
    with tarfile.open(file, "w:gz" if file.suffix == ".gz" else "w") as archive:
        archive.add(bair, bair.name, recursive=False)
        for name in names or [*BAIR][::-1]:
            archive.add(bair / f"{name}.tfrecords", f"./{bair.name}/{name}.tfrecords")
        archive.add(bair / "README.txt", f"{bair.name}/README.txt")
    return file


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
    for source in (tmp_path, folders):
        with pytest.raises(DataError, match=r"holds no \.tfrecords files.*softmotion30_44k"):
            convert(source, tmp_path / "out")
    assert only(tmp_path) == []


def test_links_that_lead_nowhere_or_in_circles(tmp_path, bair):
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "train" / "loop").symlink_to(tmp_path / "in")
    with pytest.raises(DataError, match=r"holds no \.tfrecords files"):
        convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "train" / "traj_0_to_255.tfrecords").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        convert(tmp_path / "in", tmp_path / "out")


# ---------------------------------------------------------------------------------- faults


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
    assert error.value.mend
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


def counted(monkeypatch) -> list[int]:
    """How many examples are read from now on."""
    count, inner = [0], convert_pieces.read_example

    def read(*args):
        count[0] += 1
        return inner(*args)

    monkeypatch.setattr(convert_pieces, "read_example", read)
    return count


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


# ---------------------------------------------------------------------------------- killed

RUN = """
import os, signal, sys
from pathlib import Path
from labkit.data.convert import records as convert_records
from labkit.data.convert import convert
from labkit.data.pack import PackWriter
import PIL.Image

def die_at(call, number):
    def counted(*args, **kwargs):
        counted.left -= 1
        if not counted.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    counted.left = number
    return counted

if __name__ == "__main__":
    source, out, to, workers, where, number = sys.argv[1:]
    convert_records.CHECKPOINT = 2
    if where == "add":
        PackWriter.add = die_at(PackWriter.add, int(number))
    elif where == "checkpoint":
        PackWriter.checkpoint = die_at(PackWriter.checkpoint, int(number))
    elif where == "save":
        PIL.Image.Image.save = die_at(PIL.Image.Image.save, int(number))
    elif where == "unlink":
        Path.unlink = die_at(Path.unlink, int(number))
    elif where == "rename":
        os.rename = die_at(os.rename, int(number))
    convert(source, out, to=to, workers=int(workers))
"""


def killed(*arguments: object) -> None:
    """Converts in another process, which kills itself at a given place."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    with tempfile.TemporaryFile() as errors:  # a pipe would wait for workers that live on
        ended = subprocess.run(command, stdout=errors, stderr=errors, check=False)
        errors.seek(0)
        assert ended.returncode == -signal.SIGKILL, errors.read().decode()


@pytest.mark.parametrize("suffix", ["", ".tar.gz"])
def test_a_pack_that_was_killed_again_and_again(bair, packed, tmp_path, monkeypatch, suffix):
    source = tarred(bair, tmp_path / f"bair{suffix}", [*BAIR]) if suffix else bair
    kills = [("add", 6)] if suffix else [("add", 1), ("add", 6), ("checkpoint", 2)]
    for where, number in kills:
        killed(source, tmp_path / "out", "pack", 1, where, number)
        assert not (tmp_path / "out").exists()
    read = counted(monkeypatch)
    convert(source, tmp_path / "out", workers=1)
    assert 0 < read[0] <= 7
    if suffix:
        convert(source, tmp_path / "whole", workers=1)
        packed = tmp_path / "whole"
    assert tree(tmp_path / "out") == tree(packed)
    assert not [name for name in only(tmp_path) if name.startswith(".")]


def test_a_layout_that_was_killed_again_and_again(bair, folders, tmp_path, monkeypatch):
    for where, number in (("save", 40), ("unlink", 3)):
        killed(bair, tmp_path / "out", "layout", 1, where, number)
        assert not (tmp_path / "out").exists()
    read = counted(monkeypatch)
    convert(bair, tmp_path / "out", to="layout", workers=1)
    assert 0 < read[0] < 10  # one was whole when the first run was killed, more at the second
    assert tree(tmp_path / "out") == tree(folders)
    assert only(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [12, 14])
def test_a_layout_that_was_killed_on_its_way_to_its_place(bair, folders, tmp_path, number):
    killed(bair, tmp_path / "out", "layout", 1, "rename", number)  # 11 clips, then 3 splits
    convert(bair, tmp_path / "out", to="layout", workers=1)
    assert tree(tmp_path / "out") == tree(folders)
    assert only(tmp_path) == ["out"]


def test_the_workers_of_a_killed_run_end_too(bair, packed, tmp_path):
    before = set(psutil.pids())
    killed(bair, tmp_path / "out", "pack", 2, "add", 5)
    for _ in range(100):
        left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before]
        left = [p for p in left if "multiprocessing" in " ".join(p.info["cmdline"] or [])]
        if not left:
            break
        time.sleep(0.1)
    assert not left
    convert(bair, tmp_path / "out", workers=2)
    assert tree(tmp_path / "out") == tree(packed)


@pytest.mark.parametrize("to", ["pack", "layout"])
def test_ctrl_c_keeps_what_is_done(bair, packed, folders, tmp_path, monkeypatch, to):
    read = counted(monkeypatch)
    inner = convert_pieces.read_example

    def interrupted(*args):
        if read[0] == 8:
            raise KeyboardInterrupt
        return inner(*args)

    with monkeypatch.context() as patched:
        patched.setattr(convert_pieces, "read_example", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(bair, tmp_path / "out", to=to, workers=1)
    assert not (tmp_path / "out").exists()
    read[0] = 0
    convert(bair, tmp_path / "out", to=to, workers=1)
    assert read[0] == 3
    assert tree(tmp_path / "out") == tree(packed if to == "pack" else folders)


def test_another_camera_or_a_changed_source_starts_afresh(bair, tmp_path, monkeypatch):
    killed(bair, tmp_path / "out", "pack", 1, "add", 8)
    read = counted(monkeypatch)
    convert(bair, tmp_path / "out", camera="main", workers=1)
    assert read[0] == 11
    assert only(tmp_path) == ["out"]


# ------------------------------------------------------------------------ order and memory


class Tasks:
    """Counts how many tasks have been taken."""

    taken = 0

    def __iter__(self):
        for number in range(30):
            self.taken += 1
            yield -number


def test_work_in_the_making_is_bounded_and_results_are_in_order():
    tasks = Tasks()
    for done, (task, result) in enumerate(in_order(abs, tasks, 2)):
        assert (task, result) == (-done, done)
        assert tasks.taken <= done + 2 * 2
    assert tasks.taken == 30


def test_a_worker_that_is_ended_from_outside_is_an_error_of_ours():
    with pytest.raises(DataError, match="a worker process was ended from outside"):
        list(in_order(os._exit, [1, 1], 2))


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
