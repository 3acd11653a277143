"""The course layout: what is written reads back, any known naming is found, faults are named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labkit.data import layout
from labkit.data.tables import read_table, write_table
from labkit.errors import DataError


def assert_equal_clips(one, other):
    for kind in ("frames", "actions", "positions", "labels"):
        first, second = getattr(one, kind), getattr(other, kind)
        assert (first is None) == (second is None), kind
        if first is not None:
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second, err_msg=kind)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("labels", [True, False])
def test_a_written_clip_reads_back_equal(tmp_path, make_clip, positions, labels):
    clip = make_clip(frames=12, positions=positions, labels=labels)
    layout.write_clip(tmp_path / "0", clip)
    assert_equal_clips(layout.read_clip(tmp_path / "0"), clip)
    assert (tmp_path / "0" / "endeffector_positions.csv").exists() == positions


def test_a_window_equals_that_part_of_the_clip(tmp_path, make_clip):
    clip = make_clip(frames=12, labels=True)
    layout.write_clip(tmp_path / "0", clip)
    window = layout.read_clip(tmp_path / "0", 9, 12)
    np.testing.assert_array_equal(window.frames, clip.frames[9:12])
    np.testing.assert_array_equal(window.actions, clip.actions[9:12])
    np.testing.assert_array_equal(window.labels, clip.labels[9:12])


def test_frames_and_folders_are_in_numeric_order(tmp_path, make_clip):
    clips = [make_clip(number, frames=11) for number in range(11)]
    for number, clip in enumerate(clips):
        layout.write_clip(tmp_path / "train" / "traj_1000_to_1255.tfrecords" / str(number), clip)
    early = make_clip(99, frames=11)
    layout.write_clip(tmp_path / "train" / "traj_512_to_767.tfrecords" / "0", early)
    folders = layout.clip_folders(tmp_path, "train")
    for clip, folder in zip([early, *clips], folders, strict=True):
        assert_equal_clips(layout.read_clip(folder), clip)


def test_a_split_is_numbered_as_in_the_courses_copy(tmp_path, make_clip):
    small = [make_clip(number, frames=1, height=1, width=1) for number in range(257)]
    assert layout.write_split(tmp_path, "train", iter(small)) == 257
    layout.write_split(tmp_path, "validate", small[:1])
    layout.write_split(tmp_path, "test", small[:1])
    assert layout.splits(tmp_path) == ["train", "validate", "test"]
    names = [str(folder.relative_to(tmp_path)) for folder in layout.clip_folders(tmp_path, "train")]
    assert names[0] == "train/traj_512_to_767.tfrecords/0"
    assert names[255] == "train/traj_512_to_767.tfrecords/255"
    assert names[256] == "train/traj_768_to_1023.tfrecords/0"
    (only,) = layout.clip_folders(tmp_path, "test")
    assert only.parent.name == "traj_0_to_255.tfrecords"
    (only,) = layout.clip_folders(tmp_path, "validate")
    assert only.parent.name == "traj_256_to_511.tfrecords"


def rename_frames(pattern: str, first: int = 0):
    def change(folder: Path) -> None:
        shutil.move(folder, folder.with_name("old"))
        folder.mkdir()
        for file in sorted((folder.parent / "old").iterdir()):
            name = file.name
            if file.suffix == ".png":
                name = pattern.format(int(file.stem) + first)
            shutil.move(file, folder / name)
        (folder.parent / "old").rmdir()

    return change


def renames(old: str, new: str):
    return lambda folder: (folder / old).rename(folder / new)


def adds_leftovers(folder: Path) -> None:
    for name in (".DS_Store", "._0.png", "._actions.csv"):
        (folder / name).write_bytes(b"\0")
    (folder.parent / "__MACOSX").mkdir()
    (folder.parent / "__MACOSX" / "0.png").write_bytes(b"\0")


def adds_other_tables(folder: Path) -> None:
    for name in ("a_notes.csv", "d.csv", "velocities.csv"):
        (folder / name).write_text("1,2,3\n" * 12)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("train/traj_512_to_767/0", None),
        ("train/traj_512_to_767.tfrecords/1", None),
        ("train/0", None),
        ("processed_data/train/traj_512_to_767.tfrecords/0", None),
        ("processed_data/processed_data/train/traj_512_to_767.tfrecords/0", None),
        ("train/traj_512_to_767.tfrecords/0", rename_frames("{:02d}.png")),
        ("train/traj_512_to_767.tfrecords/0", rename_frames("{}.PNG")),
        ("train/traj_512_to_767.tfrecords/0", rename_frames("{}.png", first=1)),
        ("train/traj_512_to_767.tfrecords/0", renames("actions.csv", "action.csv")),
        (
            "train/traj_512_to_767.tfrecords/0",
            renames("endeffector_positions.csv", "endeffector_pos.csv"),
        ),
        (
            "train/traj_512_to_767.tfrecords/0",
            renames("endeffector_positions.csv", "EndEffectorPositions.csv"),
        ),
        ("train/traj_512_to_767.tfrecords/0", adds_leftovers),
        ("train/traj_512_to_767.tfrecords/0", adds_other_tables),
    ],
)
def test_known_namings_read_the_same_clip(tmp_path, make_clip, place, change):
    clip = make_clip(frames=12)
    layout.write_clip(tmp_path / place, clip)
    if change is not None:
        change(tmp_path / place)
    (folder,) = layout.clip_folders(tmp_path, "train")
    assert_equal_clips(layout.read_clip(folder), clip)


@pytest.mark.parametrize("name", ["val", "validate", "validation", "Valid"])
def test_the_validation_split_has_one_name(tmp_path, make_clip, name):
    layout.write_clip(tmp_path / name / "traj_256_to_511.tfrecords" / "0", make_clip())
    layout.write_clip(tmp_path / "extra" / "traj_0_to_1" / "0", make_clip())
    assert layout.splits(tmp_path) == ["validate", "extra"]
    assert layout.clip_folders(tmp_path, "val") == layout.clip_folders(tmp_path, "validate")


def test_tables_are_told_apart_by_name_not_by_order(tmp_path, make_clip):
    clip = make_clip()
    layout.write_clip(tmp_path / "0", clip)
    # Now the positions come first by name, by creation and by the file system's order.
    (tmp_path / "0" / "endeffector_positions.csv").rename(tmp_path / "0" / "a.tmp")
    (tmp_path / "0" / "actions.csv").rename(tmp_path / "0" / "z_actions.csv.tmp")
    (tmp_path / "0" / "a.tmp").rename(tmp_path / "0" / "End-Effector-Positions.csv")
    (tmp_path / "0" / "z_actions.csv.tmp").rename(tmp_path / "0" / "action.csv")
    assert_equal_clips(layout.read_clip(tmp_path / "0"), clip)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_other_kinds_of_png_are_read_as_rgb(tmp_path, make_clip, mode):
    layout.write_clip(tmp_path / "0", make_clip())
    picture = Image.open(tmp_path / "0" / "0.png").convert(mode)
    picture.save(tmp_path / "0" / "0.png")
    frames = layout.read_clip(tmp_path / "0").frames
    np.testing.assert_array_equal(frames[0].transpose(1, 2, 0), np.asarray(picture.convert("RGB")))


# ------------------------------------------------------------------------------- faults


def writes(name: str, text: str | bytes):
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(data)


def replaces(name: str, old_row: int, text: str):
    def change(folder: Path) -> None:
        rows = (folder / name).read_text().splitlines()
        rows[old_row - 1 : old_row] = [text] if text else []
        (folder / name).write_text("\n".join(rows) + "\n")

    return change


def removes(name: str):
    return lambda folder: (folder / name).unlink()


def picture(name: str, width: int, height: int, mode: str = "RGB"):
    return lambda folder: Image.new(mode, (width, height)).save(folder / name)


def truncates(name: str):
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return change


def makes_folder(folder: Path) -> None:
    (folder / "3.png").unlink()
    (folder / "3.png").mkdir()


CSV = "actions.csv"
FAULTS = {
    "a missing frame": (removes("1.png"), "1.png", None, "missing"),
    "a missing first frame": (removes("0.png"), "0.png", None, "missing"),
    "a missing last frame": (removes("3.png"), "3.png", None, "missing"),
    "a truncated picture": (truncates("2.png"), "2.png", None, "not a readable PNG"),
    "an empty picture": (writes("2.png", ""), "2.png", None, "not a readable PNG"),
    "a text called png": (writes("2.png", "hello"), "2.png", None, "not a readable PNG"),
    "a folder called png": (makes_folder, "3.png", None, "not a readable PNG"),
    "a dangling link": (
        lambda f: ((f / "3.png").unlink(), os.symlink("nowhere", f / "3.png")),
        "3.png",
        None,
        "not a readable PNG",
    ),
    "a picture of another size": (picture("2.png", 7, 6), "2.png", None, "7x6 where 0.png is 8x6"),
    "a 16-bit picture": (picture("2.png", 8, 6, "I;16"), "2.png", None, "16 bits"),
    "one frame twice": (picture("02.png", 8, 6), "", None, "both 02.png and 2.png"),
    "no actions": (removes(CSV), CSV, None, "no such file"),
    "actions of an unknown name": (renames(CSV, "moves.csv"), CSV, None, "found.* moves.csv"),
    "two files of actions": (writes("action.csv", "1"), "", None, "two files of actions"),
    "a row too few": (replaces(CSV, 4, ""), CSV, 4, "3 rows for 4 frames"),
    "a row too few in positions": (
        replaces("endeffector_positions.csv", 4, ""),
        "endeffector_positions.csv",
        4,
        "3 rows for 4 frames",
    ),
    "a row too many in positions": (
        writes("endeffector_positions.csv", "1,2,3\n" * 5),
        "endeffector_positions.csv",
        5,
        "5 rows for 4 frames",
    ),
    "a column too many": (replaces(CSV, 2, "1,2,3,4,5"), CSV, 2, "5 columns"),
    "a column too few": (replaces(CSV, 3, "1,2,3"), CSV, 3, "3 columns"),
    "an empty row": (replaces(CSV, 2, " "), CSV, 2, "1 columns"),
    "a header": (replaces(CSV, 1, "dx,dy,close,lift"), CSV, 1, "'dx' is not a number"),
    "text": (replaces(CSV, 2, "1,2,three,4"), CSV, 2, "'three' is not a number"),
    "underscores": (replaces(CSV, 2, "1,2,3_0,4"), CSV, 2, "not a number"),
    "a missing number": (replaces(CSV, 2, "1,2,,4"), CSV, 2, "not a number"),
    "NaN": (replaces(CSV, 4, "1,2,nan,4"), CSV, 4, "not finite"),
    "infinity": (replaces(CSV, 4, "1,2,-inf,4"), CSV, 4, "not finite"),
    "beyond float32": (replaces(CSV, 4, "1,2,1e39,4"), CSV, 4, "not finite"),
    "an empty csv": (writes(CSV, ""), CSV, None, "is empty"),
    "a binary csv": (writes(CSV, b"\xff\xfe\x00"), CSV, None, "not a text file"),
    "broken labels": (writes("labels.npz", "hello"), "labels.npz", None, "not a readable file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_file_and_row(tmp_path, make_clip, name):
    change, file, row, words = FAULTS[name]
    folder = tmp_path / "train" / "traj_512_to_767.tfrecords" / "0"
    layout.write_clip(folder, make_clip())
    change(folder)
    with pytest.raises(DataError, match=words) as caught:
        layout.read_clip(folder)
    assert Path(caught.value.file) == folder / file
    assert caught.value.row == row
    assert caught.value.mend


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_text("x"), "is a file"),
        (lambda root: (root / "train").mkdir(parents=True), "no clips"),
        (lambda root: (root / "traj_0_to_255.tfrecords" / "0").mkdir(parents=True), "a split"),
        (lambda root: os.makedirs(root / "0" / "1"), "itself a split"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path, make, words):
    make(tmp_path / "root")
    with pytest.raises(DataError, match=words):
        layout.splits(tmp_path / "root")


def test_a_missing_split_is_refused_with_those_there_are(tmp_path, make_clip):
    layout.write_split(tmp_path, "train", [make_clip()])
    layout.write_split(tmp_path, "test", [make_clip()])
    with pytest.raises(DataError, match=r"no split 'validate'.*there are: train, test"):
        layout.clip_folders(tmp_path, "val")


def test_two_names_of_one_split_are_refused(tmp_path, make_clip):
    for name in ("val", "validate"):
        layout.write_clip(tmp_path / name / "traj_0" / "0", make_clip())
    with pytest.raises(DataError, match="val and validate"):
        layout.splits(tmp_path)


def test_a_loop_of_links_ends(tmp_path, make_clip):
    layout.write_clip(tmp_path / "train" / "traj_0" / "0", make_clip())
    os.symlink(tmp_path / "train", tmp_path / "train" / "loop")
    assert 1 <= len(layout.clip_folders(tmp_path, "train")) < 10


# ------------------------------------------------------------------------------- writing


def test_a_failed_split_leaves_nothing(tmp_path, make_clip):
    def clips():
        yield make_clip()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layout.write_split(tmp_path, "train", clips())
    assert list(tmp_path.iterdir()) == []


def test_a_split_is_not_overwritten(tmp_path, make_clip):
    layout.write_split(tmp_path, "train", [make_clip(1)])
    with pytest.raises(DataError, match="is there already"):
        layout.write_split(tmp_path, "train", [make_clip(2)])
    with pytest.raises(DataError, match="no clips"):
        layout.write_split(tmp_path, "test", [])
    assert layout.splits(tmp_path) == ["train"]


def test_a_clip_written_anew_replaces_the_old_one_whole(tmp_path, make_clip):
    layout.write_clip(tmp_path / "0", make_clip(1, frames=5))
    layout.write_clip(tmp_path / "0", make_clip(2, positions=False))
    assert_equal_clips(layout.read_clip(tmp_path / "0"), make_clip(2, positions=False))
    assert [item.name for item in tmp_path.iterdir()] == ["0"]


# ------------------------------------------------------------------------------- csv

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = st.lists(st.lists(finite, min_size=4, max_size=4), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(rows)
def test_any_float32_reads_back_exactly(tmp_path_factory, values):
    file = tmp_path_factory.mktemp("csv") / "actions.csv"
    write_table(file, np.array(values, np.float32))
    read = read_table(file, 4, len(values))
    assert read.tobytes() == np.array(values, np.float32).tobytes()


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text("0123456789.,-e\r\n _naif\x0c", max_size=60)))
def test_any_bytes_are_a_table_or_our_error(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("csv") / "actions.csv"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    try:
        table = read_table(file, 4)
    except DataError:
        return
    assert table.shape[1] == 4
    assert np.isfinite(table).all()


@pytest.mark.parametrize("text", ["1,2,3,4\r\n5,6,7,8\r\n", "\ufeff1,2,3,4\n5, 6,7 ,8e0"])
def test_line_ends_spaces_and_byte_order_marks_are_taken(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(
        read_table(tmp_path / "a.csv", 4, 2), np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    )
