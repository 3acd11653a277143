"""The course layout: what is written reads back, any known naming is found, faults are named."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labkit.data import layout
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
    names = (".DS_Store", "._0.png", "._actions.csv", "Thumbs.db", "desktop.ini", "Desktop.ini")
    for place in (folder, folder.parent, folder.parents[1], folder.parents[2]):
        for name in names:
            (place / name).write_bytes(b"\0")
        for name in ("__MACOSX", "@eaDir", "System Volume Information"):
            (place / name / "0").mkdir(parents=True)
            (place / name / "0" / "0.png").write_bytes(b"\0")


def adds_strays(folder: Path) -> None:
    for place in (folder.parent, folder.parents[1], folder.parents[2]):
        for name in ("notes.csv", "0.png", "README.txt"):
            (place / name).write_bytes(b"\0")
    (folder / "masks").mkdir()


def rewrites(name: str, change):
    """Changes the text of a csv, which stays the same table."""

    def rewrite(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_text()).encode())

    return rewrite


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
        ("processed_data/processed_data/processed_data/train/traj_0/0", None),
        ("lab5/train/traj_512_to_767/0", None),
        ("my data/processed_data/train/traj_512_to_767/0", None),
        ("Train/TRAJ_512_to_767/0", None),
        ("training/512/1", None),
        ("train", None),
        ("train/año 机器人/clip 7", None),
        (f"train/{'long' * 60}/{'name' * 45}", None),
        ("train/traj_512_to_767.tfrecords/0", rename_frames("{:05d}.Png")),
        ("train/traj_512_to_767.tfrecords/0", renames("actions.csv", "Action.CSV")),
        (
            "train/traj_512_to_767.tfrecords/0",
            renames("endeffector_positions.csv", "end_effector_pos.csv"),
        ),
        (
            "train/traj_512_to_767.tfrecords/0",
            renames("endeffector_positions.csv", "ee position.csv"),
        ),
        (
            "train/traj_512_to_767.tfrecords/0",
            rewrites("actions.csv", lambda text: "a,b,c,d\r\n" + text.replace("\n", "\r\n")),
        ),
        (
            "train/traj_512_to_767.tfrecords/0",
            rewrites("endeffector_positions.csv", lambda text: text.replace(",", ";")),
        ),
        ("train/traj_512_to_767.tfrecords/0", adds_leftovers),
        ("train/traj_512_to_767.tfrecords/0", adds_strays),
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


@pytest.mark.parametrize("name", ["val", "validate", "validation", "Valid", "VALIDATE"])
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


def links(name: str, target: str):
    return lambda folder: ((folder / name).unlink(), os.symlink(target, folder / name))


def pickles(name: str):
    return lambda folder: np.savez(folder / name, labels=np.array([{}], dtype=object))


def two_more(folder: Path) -> None:
    for name in ("4.png", "5.png"):
        picture(name, 8, 6)(folder)


def makes_folder(folder: Path) -> None:
    (folder / "3.png").unlink()
    (folder / "3.png").mkdir()


CSV, POSITIONS = "actions.csv", "endeffector_positions.csv"
FAULTS = {
    "a missing frame": (removes("1.png"), "1.png", None, "missing"),
    "a missing first frame": (removes("0.png"), "0.png", None, "missing"),
    "a missing last frame": (removes("3.png"), "3.png", None, "missing"),
    "no frames": (
        lambda f: [file.unlink() for file in f.glob("*.png")],
        "",
        None,
        "holds no frames; its files: actions.csv, endeff",
    ),
    "two frames too many": (two_more, CSV, 5, "4 rows for 6 frames"),
    "a frame from elsewhere": (picture("77.png", 8, 6), "4.png", None, "missing"),
    "a frame of an endless number": (picture(f"{'9' * 80}.png", 8, 6), "4.png", None, "missing"),
    "a truncated picture": (truncates("2.png"), "2.png", None, "not a readable PNG"),
    "an empty picture": (writes("2.png", ""), "2.png", None, "no bytes"),
    "a folder called png": (makes_folder, "3.png", None, "is a folder"),
    "a link to nothing": (links("3.png", "nowhere"), "3.png", None, "link to nothing"),
    "a link to itself": (links("3.png", "3.png"), "3.png", None, "in a circle"),
    "a picture of another size": (picture("2.png", 7, 6), "2.png", None, "7x6 where 0.png is 8x6"),
    "one frame twice": (picture("02.png", 8, 6), "", None, "both 02.png and 2.png"),
    "no actions": (removes(CSV), CSV, None, "no such file"),
    "actions of an unknown name": (renames(CSV, "moves.csv"), CSV, None, "found.* moves.csv"),
    "two files of actions": (writes("action.csv", "1"), "", None, "two files of actions"),
    "a folder of actions": (lambda f: (removes(CSV)(f), (f / CSV).mkdir()), CSV, None, "a folder"),
    "two rows too few": (writes(CSV, "1,2,3,4\n" * 2), CSV, 3, "2 rows for 4 frames"),
    "a header and two rows too few": (
        writes(CSV, "a,b,c,d\n1,2,3,4\n5,6,7,8\n"),
        CSV,
        4,
        "below its header",
    ),
    "pandas' column numbers": (
        writes(CSV, "0,1,2,3\n" + "1,2,3,4\n" * 4),
        CSV,
        1,
        "header=False",
    ),
    "a row too few in positions": (replaces(POSITIONS, 4, ""), POSITIONS, 4, "3 rows for 4 frames"),
    "a row too many in positions": (
        writes(POSITIONS, "1,2,3\n" * 5),
        POSITIONS,
        5,
        "5 rows for 4 frames",
    ),
    "text": (replaces(CSV, 2, "1,2,three,4"), CSV, 2, "'three' is not a number"),
    "broken labels": (writes("labels.npz", "hello"), "labels.npz", None, "not a readable file"),
    "pickled labels": (pickles("labels.npz"), "labels.npz", None, "not a readable file"),
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
    assert caught.value.hint


def a_clip_in(root: Path) -> None:
    root.mkdir()
    Image.new("RGB", (4, 4)).save(root / "0.png")
    (root / "actions.csv").write_text("1,2,3,4\n")


def official_records(root: Path) -> None:
    (root / "softmotion30_44k" / "train").mkdir(parents=True)
    (root / "softmotion30_44k" / "train" / "traj_0_to_255.tfrecords").write_bytes(b"x")


NO_DATA_SETS = {
    "nothing": (lambda root: None, "no such folder"),
    "a link to nothing": (lambda root: os.symlink("nowhere", root), "link to nothing"),
    "a link to itself": (lambda root: os.symlink(root, root), "in a circle"),
    "below a file": (lambda root: root.parent.joinpath("root").write_text("x"), "is a file"),
    "records": (
        lambda root: (root.mkdir(), (root / "a.tfrecord").write_bytes(b"x")),
        r"it holds \.tfrecord files, such as a\.tfrecord: .*labkit data convert",
    ),
    "a folder of records": (official_records, r"it holds \.tfrecords files.*labkit data convert"),
    "an empty folder": (lambda root: root.mkdir(), "no clips"),
    "an empty split": (lambda root: (root / "train").mkdir(parents=True), "no clips"),
    "an empty folder of a split": (
        lambda root: (root / "train" / "traj_512_to_767.tfrecords").mkdir(parents=True),
        "no clips.*expected ROOT/train",
    ),
    "a split": (lambda root: (root / "traj_0_to_255.tfrecords" / "0").mkdir(parents=True), "split"),
    "a folder of clips": (lambda root: os.makedirs(root / "0" / "1"), "itself a split"),
    "a clip": (a_clip_in, "itself a clip"),
    "no zip": (lambda root: root.with_name("root").write_bytes(b"PK\5\6"), "is a file"),
}


@pytest.mark.parametrize("name", NO_DATA_SETS)
def test_what_is_no_data_set_is_refused(tmp_path, name):
    make, words = NO_DATA_SETS[name]
    root = tmp_path / "root"
    make(root)
    with pytest.raises(DataError, match=words) as caught:
        layout.splits(root)
    assert caught.value.file == root
    assert caught.value.hint


@pytest.mark.parametrize("ending", [".npz", ".tar", ".tfrecords", ".7z", ""])
def test_a_file_for_a_root_is_told_what_to_do_with_it(tmp_path, ending):
    (tmp_path / f"data{ending}").write_bytes(b"x")
    with pytest.raises(DataError, match="is a file") as caught:
        layout.clip_folders(tmp_path / f"data{ending}", "train")
    hint = {"": "give the folder", ".7z": "unpack"}.get(ending, "labkit data convert")
    assert hint in caught.value.hint


def test_an_array_file_is_not_taken_for_a_zip(tmp_path):
    np.savez(tmp_path / "clip.npz", aux1_image=np.zeros(3))
    with pytest.raises(DataError, match="labkit data convert"):
        layout.splits(tmp_path / "clip.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["clip.npz"]


def test_a_name_no_disk_can_have_is_no_traceback(tmp_path):
    for name in ("x" * 300, "a\0b", "file/below"):
        (tmp_path / "file").touch()
        with pytest.raises(DataError):
            layout.splits(tmp_path / name)


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch, make_clip):
    layout.write_clip(tmp_path / "train" / "traj_0" / "0", make_clip())
    real = os.scandir

    def refuse(path):
        if Path(path).name == "traj_0":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("labkit.data.layout.find.os.scandir", refuse)
    with pytest.raises(DataError, match="may not be listed") as caught:
        layout.clip_folders(tmp_path, "train")
    assert caught.value.file == tmp_path / "train" / "traj_0"
    assert caught.value.hint


def test_an_empty_split_is_named(tmp_path, make_clip):
    layout.write_split(tmp_path, "train", [make_clip()])
    (tmp_path / "val" / "traj_256_to_511.tfrecords").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert layout.splits(tmp_path) == ["train"]
    assert layout.empty_splits(tmp_path) == [tmp_path / "val"]
    with pytest.raises(DataError, match="holds no clips") as caught:
        layout.clip_folders(tmp_path, "validate")
    assert caught.value.file == tmp_path / "val"


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
    layout.write_clip(tmp_path / "test" / "traj_0" / "0", make_clip())
    for name, target in (("loop", "train"), ("up", "."), ("other", "test")):
        os.symlink(tmp_path / target, tmp_path / "train" / name)
    os.symlink(tmp_path / "train", tmp_path / "test" / "back")
    os.symlink("itself", tmp_path / "train" / "itself")
    found = [str(folder.relative_to(tmp_path)) for folder in layout.clip_folders(tmp_path, "train")]
    assert found == ["train/other/traj_0/0", "train/traj_0/0"]


def test_a_split_that_is_a_link_to_another_disk_is_read(tmp_path, make_clip):
    clip = make_clip()
    layout.write_clip(tmp_path / "disk" / "traj_0" / "0", clip)
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "root" / "train")
    (folder,) = layout.clip_folders(tmp_path / "root", "train")
    assert_equal_clips(layout.read_clip(folder), clip)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("actions.csv", "actions"),
        ("Action.CSV", "actions"),
        ("endeffector_positions.csv", "positions"),
        ("actions.txt", None),
        ("velocities.csv", None),
        ("actions", None),
    ],
)
def test_a_table_is_known_by_its_name(name, kind):
    assert layout.table_kind(name) == kind


@pytest.mark.parametrize("name", ["frame_{:04}.png", "out{:04}.jpg", "{}.jpg", "2019_{}.jpeg"])
@pytest.mark.parametrize("first", [0, 1])
def test_frames_of_other_names_are_read_in_order(tmp_path, make_clip, name, first):
    clip = make_clip(frames=12)
    folder = tmp_path / "set" / "train" / "0"
    layout.write_clip(folder, clip)
    for number in range(12):
        target = folder / name.format(number + first)
        Image.open(folder / f"{number}.png").save(target, quality=100)
        (folder / f"{number}.png").unlink()
    assert layout.clip_folders(tmp_path / "set", "train") == [folder]
    read = layout.read_clip(folder)
    for one, other in zip(read.frames, clip.frames, strict=True):
        if name.endswith(".png"):
            np.testing.assert_array_equal(one, other)
        else:  # lossy, but noise of another frame would be 85 away on average
            assert np.abs(one.astype(int) - other.astype(int)).mean() < 60
    (folder / name.format(5)).unlink()
    with pytest.raises(DataError, match=rf"{name.format(5)}: frame is missing"):
        layout.read_clip(folder)


def test_frames_of_two_names_are_refused_and_plain_numbers_come_first(tmp_path, make_clip):
    layout.write_clip(tmp_path / "0", make_clip())
    for word in ("a", "b"):
        picture(f"{word}_0.png", 8, 6)(tmp_path / "0")
    assert len(layout.read_clip(tmp_path / "0").frames) == 4
    for number in range(4):
        (tmp_path / "0" / f"{number}.png").unlink()
    with pytest.raises(DataError, match="several names: a_, b_ and a number"):
        layout.read_clip(tmp_path / "0")


def test_pictures_that_are_no_frames_are_named(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "actions.csv").write_text("1,2\n3,4\n")
    (tmp_path / "0" / "scene.bmp").touch()
    with pytest.raises(DataError, match=r"holds no frames; its files: actions\.csv, scene\.bmp"):
        layout.read_clip(tmp_path / "0")


def test_one_action_row_fewer_than_frames(tmp_path, make_clip):
    clip = make_clip()
    layout.write_clip(tmp_path / "0", clip)
    replaces(CSV, 4, "")(tmp_path / "0")
    read = layout.read_clip(tmp_path / "0")
    assert read.repeated_action
    np.testing.assert_array_equal(read.actions, clip.actions[[0, 1, 2, 2]])
    np.testing.assert_array_equal(layout.read_clip(tmp_path / "0", 1, 4).actions, read.actions[1:])
    np.testing.assert_array_equal(layout.read_conditions(tmp_path / "0")[0], read.actions)
    layout.write_clip(tmp_path / "1", clip)
    assert not layout.read_clip(tmp_path / "1").repeated_action


def test_a_clip_without_any_csv_has_no_actions(tmp_path, make_clip):
    layout.write_clip(tmp_path / "0", make_clip())
    removes(CSV)(tmp_path / "0")
    with pytest.raises(DataError, match=r"actions\.csv: no such file .*found endeffector_pos"):
        layout.read_clip(tmp_path / "0")
    removes(POSITIONS)(tmp_path / "0")
    read = layout.read_clip(tmp_path / "0")
    assert (read.actions.shape, read.positions) == ((4, 0), None)
    removes("2.png")(tmp_path / "0")
    with pytest.raises(DataError, match=r"2\.png: frame is missing"):
        layout.read_clip(tmp_path / "0")


def test_other_columns_and_their_names_survive_writing(tmp_path, make_clip):
    clip = dataclasses.replace(
        make_clip(),
        actions=np.ones((4, 7), np.float32),
        action_columns=tuple(f"joint {n}" for n in range(7)),
    )
    layout.write_clip(tmp_path / "0", clip)
    read = layout.read_clip(tmp_path / "0")
    assert read.action_columns == clip.action_columns
    assert read.position_columns is None
    np.testing.assert_array_equal(read.actions, clip.actions)


def test_the_course_whose_condition_is_pictures_is_named(tmp_path, make_clip):
    clip = dataclasses.replace(make_clip(positions=False), actions=np.zeros((4, 0), np.float32))
    for name in ("train_img", "train_label"):
        layout.write_clip(tmp_path / "LAB4" / "train" / name, clip)
    with pytest.raises(DataError, match="holds train_label: pictures that are labels"):
        layout.splits(tmp_path / "LAB4")


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
