"""Windows of a pack: the clips' own frames, within them, and no memory held."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from labkit.data.pack import open_pack, write_pack
from labkit.errors import DataError

NUMBERS, STARTS = np.array([2, 0, 2, 1]), np.array([0, 4, 1, 3])


@pytest.fixture
def clips(make_clip):
    return [make_clip(number, frames=7, labels=True) for number in range(3)]


@pytest.fixture
def split(tmp_path, clips):
    return write_pack(tmp_path / "pack", {"train": clips}, "noise").split("train")


@pytest.mark.parametrize("preadv", [True, False])
def test_windows_are_those_of_the_clips(split, clips, preadv, monkeypatch):
    if not preadv:  # as on Windows
        monkeypatch.delattr(os, "preadv", raising=False)
    found = split.windows(NUMBERS, STARTS, 3)
    for row, (number, start) in enumerate(zip(NUMBERS, STARTS, strict=True)):
        clip = clips[number]
        whole = (clip.frames, clip.actions, clip.positions, clip.labels)
        for part, expected in zip(found, whole, strict=True):
            np.testing.assert_array_equal(part[row], expected[start : start + 3])
    for part in found:
        part[:] = 0  # they are copies
    np.testing.assert_array_equal(split.windows(NUMBERS, STARTS, 7 - 4)[0][0], clips[2].frames[:3])


def test_labels_come_only_where_asked_for(split):
    assert split.windows(NUMBERS, STARTS, 3, labels=False)[3] is None


def test_what_clips_lack_is_none(tmp_path, make_clip):
    pack = write_pack(tmp_path / "pack", {"train": [make_clip(positions=False)]}, "noise")
    frames, actions, positions, labels = pack.split("train").windows(NUMBERS * 0, STARTS * 0, 2)
    assert frames.shape == (4, 2, 3, 6, 8)
    assert actions.shape == (4, 2, 4)
    assert positions is None
    assert labels is None


def test_no_windows_are_an_empty_batch(split):
    none = np.zeros(0, np.int64)
    assert split.windows(none, none, 3)[0].shape == (0, 3, 3, 6, 8)


@pytest.mark.parametrize(
    ("number", "start", "length"),
    [(3, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 5, 3), (0, 0, 8), (0, 0, 0)],
)
def test_a_window_outside_is_refused(split, number, start, length):
    numbers, starts = np.array([0, number]), np.array([0, start])
    with pytest.raises(IndexError, match=f"no windows of {length} frames"):
        split.windows(numbers, starts, length)


def test_an_open_split_pickles(split, clips):
    split.windows(NUMBERS, STARTS, 3)
    copy = pickle.loads(pickle.dumps(split))
    del split
    np.testing.assert_array_equal(copy.windows(NUMBERS, STARTS, 3)[0][0], clips[2].frames[:3])


@pytest.mark.parametrize("opened", [True, False])
def test_a_file_that_became_shorter_is_told(split, opened):
    if opened:
        split.windows(NUMBERS, STARTS, 3)
    file = split.root / "train" / "frames.bin"
    os.truncate(file, file.stat().st_size - 1)
    split.windows(NUMBERS[1:2], STARTS[1:2], 3)
    with pytest.raises(DataError, match="cannot be read") as caught:
        split.windows(np.array([2]), np.array([4]), 3)
    assert caught.value.file == file
    assert caught.value.hint


def test_a_file_that_went_is_told(split):
    (split.root / "train" / "frames.bin").unlink()
    with pytest.raises(DataError, match=r"frames\.bin: cannot be read: No such file"):
        split.windows(NUMBERS, STARTS, 3)


def test_files_are_closed_with_the_split(split):
    def open_files():
        links = []
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(os.readlink(entry))
        return links.count(str(split.root.resolve() / "train" / "frames.bin"))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("only Linux tells which files are open")
    again = pickle.loads(pickle.dumps(split))
    again.windows(NUMBERS, STARTS, 3)
    assert open_files() == 1
    del again
    assert open_files() == 0


def resident() -> int:
    """Resident memory of this process in bytes, mapped pages of files and all."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="only Linux tells")
def test_reading_a_large_pack_holds_no_memory(tmp_path, make_clip):
    # 1,000 clips of 30 frames of 64 x 64, a hole in a file: 369 MB that take no disk.
    first = make_clip(frames=30, height=64, width=64, positions=False)
    pack = write_pack(tmp_path / "pack", {"train": [first]}, "noise")
    entries = pack.manifest["splits"]["train"]
    entries["clips"] = clips = 1000
    folder = pack.root / "train"
    os.truncate(folder / "frames.bin", clips * first.frames.nbytes)
    np.save(folder / "actions.npy", np.zeros((clips, 30, 4), np.float32))
    (folder / "names.json").write_text(json.dumps([""] * clips))
    for entry in entries["files"].values():
        entry["shape"][0] = clips
        entry["bytes"] = (folder / entry["file"]).stat().st_size
    (pack.root / "manifest.json").write_text(json.dumps(pack.manifest))

    split = open_pack(pack.root).split("train")
    order = np.random.default_rng(0).permutation(clips)
    before = resident()
    for numbers in order.reshape(-1, 10):
        split.windows(numbers, numbers % 2 * 15, 15)
    assert resident() - before < 100e6
