"""`repair`: a copy in the course layout with everything mended that can be, and nothing else."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from breaking import (
    CLIP,
    all_pictures,
    cell,
    copies,
    half,
    has_names_of_ffmpeg,
    has_names_of_ffmpeg_with_a_gap,
    has_names_without_numbers,
    is_a_jpeg,
    removes,
    zip_of,
)
from breaking import changes as changes_bytes
from PIL import Image

from labkit.cli import main
from labkit.data import layout
from labkit.data.check import check
from labkit.data.check.mend_clip import mended_table, resized
from labkit.data.check.repair import repair
from labkit.data.clip import Clip
from labkit.data.pack import ensure_pack
from labkit.errors import DataError


@pytest.fixture
def copied(good_course, tree_of):
    """A function that repairs the data set, having looked that the original is left alone."""

    def do(**options):
        before = tree_of(good_course)
        report = repair(good_course, good_course.parent / "copy", **options)
        assert tree_of(good_course) == before
        assert sorted(os.listdir(good_course.parent)) == ["copy", "course"]
        assert check(report.out).ok
        return report

    return do


def read(folder):
    clip = layout.read_clip(folder)
    return clip.frames, clip.actions, clip.positions


def assert_same(one, other):
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_good_data_set_is_copied_as_it_is(good_course, copied):
    report = copied()
    assert (report.kept, report.dropped, dict(report.mended)) == ({"train": 3, "test": 1}, [], {})
    for split in ("train", "test"):
        folders = layout.clip_folders(good_course, split), layout.clip_folders(report.out, split)
        for old, new in zip(*folders, strict=True):
            assert new.relative_to(report.out) == old.relative_to(good_course)
            assert_same(read(new), read(old))
    assert not (report.out / ".labkit_pack").exists()


# ------------------------------------------------------------------------------- what is mended


def other_names(folder):
    (folder / "actions.csv").rename(folder / "Action.CSV")
    for number in range(11, -1, -1):
        (folder / f"{number}.png").rename(folder / f"{number + 1:02}.PNG")
    (folder / ".DS_Store").write_bytes(b"x")


def rewritten(change):
    """Writes both tables of the clip anew, each row as `change` makes of its cells."""

    def do(folder):
        for name in ("actions.csv", "endeffector_positions.csv"):
            rows = [line.split(",") for line in (folder / name).read_text().splitlines()]
            (folder / name).write_bytes(change(rows).encode("utf-8"))

    return do


def with_index(rows):
    head = ",".join(["", *map(str, range(len(rows[0])))])
    return head + "\n" + "".join(f"{n},{','.join(row)}\n" for n, row in enumerate(rows))


def with_pandas_head(rows):
    return "\n".join(map(",".join, [[*map(str, range(len(rows[0])))], *rows]))


def in_german(rows):
    return "\r\n".join(";".join(cell.replace(".", ",") for cell in row) for row in rows)


def with_header(rows):
    head = ["a", "b", "c", "d"][: len(rows[0])]
    return "\ufeff" + "\r\n".join(map(",".join, [head, *rows]))


def as_kind(mode):
    def do(folder):
        for number in range(12):
            Image.open(folder / f"{number}.png").convert(mode).save(folder / f"{number}.png")

    return do


def in_16_bits(folder):
    grey = np.asarray(Image.open(folder / "3.png").convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "3.png")


MENDED = {
    "other names": (other_names, "names", True),
    "names as ffmpeg gives them": (has_names_of_ffmpeg, "names", True),
    "a frame that is there twice": (copies("0.png", "00.png"), "names", True),
    "a pandas index": (rewritten(with_index), "tables", True),
    "pandas' numbers of the columns": (rewritten(with_pandas_head), "tables", True),
    "semicolons and decimal commas": (rewritten(in_german), "tables", True),
    "a header, a byte-order mark, CRLF": (rewritten(with_header), "tables", True),
    "RGBA": (as_kind("RGBA"), "pictures", True),
    "a palette": (as_kind("P"), "pictures", False),
    "grey of 16 bits": (in_16_bits, "pictures", False),
    "a JPEG called .png": (is_a_jpeg, "pictures", False),
}
"""what is done to a clip; what it is reported as; whether the clip reads exactly as before"""


@pytest.mark.parametrize("name", MENDED)
def test_what_can_be_mended_is(name, good_course, copied):
    do, kind, exact = MENDED[name]
    good = read(good_course / CLIP)
    do(good_course / CLIP)
    report = copied()
    assert (report.kept["train"], report.dropped) == (3, [])
    assert dict(report.mended) == {kind: 1}
    assert f"mended {kind}: 1 clip" in report.text()
    frames, *tables = read(report.out / CLIP)
    assert_same(tables, good[1:])
    if exact:
        np.testing.assert_array_equal(frames, good[0])
    names = {path.name for path in (report.out / CLIP).iterdir()}
    assert names == {path.name for path in (report.out / CLIP).with_name("0").iterdir()}
    for number in range(12):
        with Image.open(report.out / CLIP / f"{number}.png") as image:
            assert (image.format, image.mode) == ("PNG", "RGB")


def test_the_folders_names_are_mended(good_course, copied):
    (good_course / "test").rename(good_course / "val")
    (good_course / "train").rename(good_course / "x")
    shutil.copytree(good_course / "x/traj_512_to_767.tfrecords", good_course / "train/traj_0")
    shutil.rmtree(good_course / "x")
    report = copied()
    assert (report.kept, dict(report.mended)) == ({"train": 3, "validate": 1}, {"names": 4})
    names = [str(f.relative_to(report.out)) for f in layout.clip_folders(report.out, "train")]
    assert names == [f"train/traj_512_to_767.tfrecords/{number}" for number in range(3)]


def test_a_zip_is_repaired_too(good_course, tmp_path):
    zip_of(good_course, tmp_path / "zips" / "set.zip")
    report = repair(tmp_path / "zips" / "set.zip", tmp_path / "copy")
    assert report.kept == {"train": 3, "test": 1}


def test_where_the_last_frame_is_missing_no_action_moves_to_another_frame(good_course, tmp_path):
    for folder in layout.clip_folders(good_course, "train"):
        (folder / "11.png").unlink()
    report = repair(good_course, tmp_path / "copy")
    assert report.kept == {"test": 1}
    assert "11.png: frame is missing (actions.csv has 12 rows" in report.text()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"1,2\n3,4\n", "1,2\n3,4\n"),
        ("1;2,5\r\n3;4\r\n".encode("utf-16"), "1,2.5\n3,4\n"),
        (b'"1"\t"2"\n\n"3"\t"4"\n\n', "1,2\n3,4\n"),
        (b"x,y\n1,2\n3,4\n", "1,2\n3,4\n"),
        (b",0,1\n0,1,2\n1,3,4\n", "0,1,2\n1,3,4\n"),
        (b"0,1\n1,2\n3,4\n", "1,2\n3,4\n"),
        (b"5,6\n1,2\n3,4\n", "5,6\n1,2\n3,4\n"),  # a row too many is no heading
        (b"1 2\n3  4\n", "1,2\n3,4\n"),
        (b"\xff\xff", "\ufffd\ufffd\n"),
        (b"", ""),
    ],
)
def test_the_text_of_a_mended_table(data, text):
    assert mended_table(data, frames=2) == text


# ------------------------------------------------------------------------------- sizes


def test_frames_of_another_size_are_scaled_where_that_is_asked_for(good_course, copied):
    good = read(good_course / CLIP)
    for number in range(12):
        file = good_course / CLIP / f"{number}.png"
        Image.open(file).resize((128, 128), Image.Resampling.NEAREST).save(file)
    report = copied(resize=True)
    assert (report.kept["train"], dict(report.mended)) == (3, {"size": 1})
    frames, *tables = read(report.out / CLIP)
    assert_same(tables, good[1:])
    # Squares of 8 x 8 pixels: a scaling filter blurs their edges and keeps their middles.
    middles = (slice(None), slice(None), slice(4, None, 8), slice(4, None, 8))
    difference = np.abs(frames[middles].astype(int) - good[0][middles].astype(int))
    assert difference.max() <= 16


def test_without_it_a_clip_of_another_size_is_left_out(good_course, copied):
    all_pictures(128, 128)(good_course / CLIP)
    report = copied()
    assert report.kept["train"] == 2
    (reason,) = report.dropped
    assert reason.file == good_course / CLIP
    assert "128x128" in str(reason)
    assert "--resize" in str(reason)


def test_the_middle_square_is_scaled_and_labels_stay_whole_numbers():
    frames = np.zeros((2, 3, 4, 8), np.uint8)
    frames[..., 2:6] = 200  # the square in the middle
    labels = np.where(frames[:, 0] > 0, 2, 1).astype(np.uint8)
    clip = Clip(frames, np.zeros((2, 4), np.float32), labels=labels, name="wide")
    small = resized(clip, 2)
    np.testing.assert_array_equal(small.frames, np.full((2, 3, 2, 2), 200))
    np.testing.assert_array_equal(small.labels, np.full((2, 2, 2), 2))
    tall = Clip(np.ascontiguousarray(frames.transpose(0, 1, 3, 2)), clip.actions)
    np.testing.assert_array_equal(resized(tall, 8).frames, np.full((2, 3, 8, 8), 200))


# ------------------------------------------------------------------------------- what is left out


@pytest.mark.parametrize(
    ("do", "file", "row"),
    [
        (removes("3.png"), "3.png", None),
        (has_names_of_ffmpeg_with_a_gap, "frame_0004.png", None),
        (has_names_without_numbers, "", None),
        (changes_bytes("3.png", half), "3.png", None),
        (cell("actions.csv", "nan"), "actions.csv", 5),
        (cell("actions.csv", "1;2"), "actions.csv", None),
        (removes("actions.csv"), "actions.csv", None),
        (lambda folder: shutil.copyfile(folder / "1.png", folder / "00.png"), "00.png", None),
    ],
)
def test_a_clip_that_cannot_be_mended_is_left_out_and_said(do, file, row, good_course, copied):
    do(good_course / CLIP)
    report = copied()
    assert report.kept == {"train": 2, "test": 1}
    (reason,) = report.dropped
    assert reason.file in (good_course / CLIP / file, good_course / CLIP / "0.png")
    assert row is None or reason.row == row
    assert f"left out: {good_course / CLIP}" in report.text()
    assert report.text().endswith("\n1 clip left out")
    # What comes after it moves up: the numbers have no gap.
    moved = read(report.out / CLIP)
    assert_same(moved, read(good_course / CLIP.replace("/1", "/2")))


def test_a_clip_of_the_test_split_leaves_the_others(good_course, copied):
    test = good_course / "test/traj_0_to_255.tfrecords/0"
    shutil.rmtree(good_course / CLIP)
    shutil.copytree(test, good_course / CLIP)
    shutil.copytree(test, good_course / "validate/traj_256_to_511/0")
    shutil.copytree(good_course / CLIP.replace("/1", "/2"), good_course / "validate/traj_256/1")
    report = copied()
    assert report.kept == {"train": 1, "validate": 1, "test": 1}
    assert [reason.file.parent.parent.name for reason in report.dropped] == [
        "validate",
        "train",
        "train",
    ]


def test_the_lesser_kind_of_clip_is_left_out(good_course, copied):
    (good_course / CLIP / "endeffector_positions.csv").unlink()
    report = copied()
    assert report.kept["train"] == 2
    assert "has no positions" in str(report.dropped[0])
    assert ensure_pack(report.out).split("train").has_positions


# ------------------------------------------------------------------------------- refusals


def test_a_copy_goes_to_a_new_place_alone(good_course, tree_of):
    here = good_course.parent
    (here / "full").mkdir()
    (here / "full" / "thesis.txt").write_text("the only copy")
    (here / "link").symlink_to(good_course)
    before = tree_of(here)
    for out, words in {
        "full": "is not empty",
        "full/thesis.txt": "is a file",
        "course": "not empty",
        "course/copy": "inside",
        "link/copy": "inside",
        "full/../course/train/copy": "inside",
    }.items():
        with pytest.raises(DataError, match=words) as caught:
            repair(good_course, here / out)
        assert caught.value.hint
    with pytest.raises(DataError, match=r"is a pack.*make the pack again"):
        repair(good_course / ".labkit_pack", here / "copy")
    assert tree_of(here) == before


def test_nothing_appears_where_nothing_can_be_kept(good_course, tree_of):
    shutil.rmtree(good_course / "test")
    for number in range(3):
        (good_course / CLIP).with_name(str(number)).joinpath("3.png").unlink()
    before = tree_of(good_course.parent)
    with pytest.raises(DataError, match="no clip of it can be mended"):
        repair(good_course, good_course.parent / "copy")
    assert tree_of(good_course.parent) == before


def test_a_full_disk_leaves_nothing(good_course, tree_of, monkeypatch):
    before = tree_of(good_course.parent)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"copy.*No space left.*disk space"):
        repair(good_course, good_course.parent / "copy")
    assert tree_of(good_course.parent) == before


def test_an_empty_folder_is_taken_for_the_copy(good_course):
    (good_course.parent / "copy").mkdir()
    assert repair(good_course, good_course.parent / "copy").kept == {"train": 3, "test": 1}


def test_the_command_checks_repairs_and_checks_again(good_course, capsys):
    removes("3.png")(good_course / CLIP)
    copy = good_course.parent / "copy"
    words = ["data", "check", str(good_course), "--fix", str(copy), "--no-progress"]
    assert main(words) == 0
    out = capsys.readouterr().out
    places = [out.index(text) for text in ("1 fault\n", "left out:", "no faults\n")]
    assert places == sorted(places)
