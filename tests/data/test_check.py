"""`check`: the figures of a data set, and all its faults at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from breaking import CLIP, cell, changes, half, picture, removes, writes

from labkit.data import layout
from labkit.data.check import check
from labkit.data.pack import write_pack
from labkit.errors import DataError


@pytest.fixture
def course(tmp_path, make_clip):
    """Three training clips and a test clip."""
    layout.write_split(tmp_path / "course", "train", [make_clip(n) for n in range(3)])
    layout.write_split(tmp_path / "course", "test", [make_clip(9)])
    return tmp_path / "course"


def test_figures_of_a_whole_data_set(course, make_clip):
    report = check(course)
    assert report.ok
    train = report.splits["train"]
    assert (train.clips, train.with_positions) == (3, 3)
    assert (train.sizes, train.lengths) == ({(6, 8): 3}, {4: 3})
    actions = np.concatenate([make_clip(number).actions for number in range(3)])
    table = train.conditions["action"]
    np.testing.assert_allclose(table.mean, actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(table.std, actions.std(0), atol=1e-6)
    np.testing.assert_array_equal(table.low, actions.min(0))
    np.testing.assert_array_equal(table.high, actions.max(0))
    text = report.text()
    assert "no faults" in text
    assert "train           3        3  4 x 8x6" in text
    for column in ("dx", "dy", "close_gripper", "lift", "x", "y", "z"):
        assert f"test       {column} " in text


def test_every_fault_is_found_in_one_reading(course, make_clip):
    first, second, third = layout.clip_folders(course, "train")
    (first / "2.png").unlink()
    rows = (second / "actions.csv").read_text().splitlines()
    (second / "actions.csv").write_text("\n".join([*rows[:2], "1,2,x,4", rows[3]]))
    (third / "endeffector_positions.csv").unlink()
    layout.write_clip(third.with_name("3"), make_clip(5, frames=6))
    report = check(course)
    assert not report.ok
    found = [(fault.file, fault.row) for fault in report.faults]
    assert found == [
        (first / "2.png", None),
        (second / "actions.csv", 3),
        (third.with_name("3"), None),
    ]
    assert all(fault.hint for fault in report.faults)
    assert (report.splits["train"].clips, report.splits["train"].readable) == (4, 2)
    text = report.text()
    assert text.endswith("3 faults")
    assert "actions.csv, row 3: 'x' is not a number" in text
    assert "clips of train have 4 to 6 frames" in text
    assert "has positions, unlike most clips here" in text


def test_a_pack_is_checked_against_its_digests(tmp_path, make_clip):
    clip = make_clip(positions=False)
    write_pack(tmp_path / "pack", {"train": [clip]}, "noise")
    report = check(tmp_path / "pack")
    assert report.ok
    assert "no positions" in report.text()
    file = tmp_path / "pack" / "train" / "frames.bin"
    file.write_bytes(bytes(file.stat().st_size))
    report = check(tmp_path / "pack")
    assert [fault.file for fault in report.faults] == [file]


# ------------------------------------------------------------------------------- duplicates


def test_a_test_clip_in_the_training_set_is_a_fault_with_both_names(course, make_clip):
    training, *_ = layout.clip_folders(course, "train")
    layout.write_clip(training, make_clip(9))
    report = check(course)
    (fault,) = report.faults
    assert fault.file == training
    assert "a test clip inside the training set" in str(fault)
    assert "train/traj_512_to_767.tfrecords/0 holds" in str(fault)
    assert "test/traj_0_to_255.tfrecords/0" in str(fault)
    (twins,) = report.duplicates
    assert (twins.split, twins.other_split, twins.across) == ("train", "test", True)
    assert not report.ok


def test_of_two_twins_the_one_further_from_the_test_split_is_blamed(course, make_clip):
    layout.write_split(course, "validation", [make_clip(9), make_clip(1)])
    report = check(course)
    found = {fault.file.relative_to(course).as_posix() for fault in report.faults}
    assert found == {
        "validation/traj_0_to_255.tfrecords/0",  # the test clip
        "train/traj_512_to_767.tfrecords/1",  # a clip that is validated on
    }


def test_twins_in_one_split_are_a_note(course, make_clip):
    layout.write_clip(course / "train/traj_512_to_767.tfrecords/3", make_clip(1))
    report = check(course)
    assert report.ok
    assert [(twins.across, twins.name[-2:], twins.other_name[-2:]) for twins in report.duplicates]
    assert report.duplicates[0].across is False
    (note,) = [note for note in report.notes if "repeat" in note]
    assert "tfrecords/3" in note
    assert "tfrecords/1" in note
    assert f"note: {note}" in report.text()


def test_pictures_tell_twins_and_nothing_else(course, make_clip):
    clip = make_clip(9)
    other = dataclasses.replace(clip, actions=clip.actions + 1)
    write_pack(course / "pack", {"train": [other], "test": [clip]}, "noise")
    (fault,) = check(course / "pack").faults
    assert "noise 9" in str(fault)
    changed = clip.frames.copy()
    changed[3, 2, 5, 7] ^= 1
    other = dataclasses.replace(clip, frames=changed)
    write_pack(course / "pack", {"train": [other], "test": [clip]}, "noise")
    assert check(course / "pack").ok


# ------------------------------------------------------------------------------- notes


def test_what_is_unusual_is_noted_and_stops_nothing(tmp_path, make_clip):
    clip = make_clip(1)
    actions = np.full((4, 4), 0.05, np.float32)
    actions[0] = 0
    actions[:, 2] = 3
    quiet = dataclasses.replace(clip, actions=actions)
    layout.write_split(tmp_path / "set", "train", [quiet])
    layout.write_split(tmp_path / "set", "test", [make_clip(2, height=64, width=64)])
    report = check(tmp_path / "set")
    assert report.ok
    notes = "\n".join(report.notes)
    assert "same in every frame tell the model nothing: close_gripper of train is 3" in notes
    assert "lift of train" not in notes
    assert "dx of train" not in notes
    assert "dx of test reaches from" in notes
    assert "(-0.07 .. 0.07)" in notes
    assert sum("range of BAIR" in note for note in report.notes) == 1
    assert "frames have several sizes: 8x6 in train; 64x64 in test" in notes
    assert "the presets' models take 64x64" in notes
    assert f"labkit data check {tmp_path / 'set'} --fix OUT --resize" in notes
    assert "frames are 64x64" not in notes
    write_pack(tmp_path / "pack", {"train": [quiet]}, "its frames are 8x6")
    (note,) = [each for each in check(tmp_path / "pack").notes if "presets' models" in each]
    assert "labkit data convert SOURCE OUT --resize 64" in note
    assert "--fix" not in note  # which refuses a pack


def test_a_set_like_bair_has_no_notes(good_course):
    report = check(good_course)
    assert (report.notes, report.faults, report.duplicates) == ([], [], [])


# ------------------------------------------------------------------------------- many faults


def test_every_independent_fault_of_a_clip_is_a_line(good_course):
    clip = good_course / CLIP
    for do in (
        changes("2.png", half),
        writes("5.png", "text"),
        removes("7.png"),
        removes("8.png"),
        cell("actions.csv", "nan"),
        cell("endeffector_positions.csv", "left", 9),
        picture("0.png", 63, 64),
    ):
        do(clip)
    report = check(good_course)
    assert [(fault.file.name, fault.row) for fault in report.faults] == [
        ("2.png", None),
        ("5.png", None),
        ("7.png", None),
        ("0.png", None),
        ("actions.csv", 5),
        ("endeffector_positions.csv", 9),
    ]
    assert "(and all up to 8.png)" in str(report.faults[2])
    assert "is 63x64 where most frames are 64x64" in str(report.faults[3])
    assert report.splits["train"].readable == 2


def test_no_fault_is_told_twice(good_course):
    picture("0.png", 63, 64)(good_course / CLIP)
    (fault,) = check(good_course).faults
    assert fault.file.name == "0.png"


def test_the_text_tells_fifty_faults_and_the_report_all(tmp_path, make_clip):
    clips = [make_clip(number, frames=2, height=2, width=2) for number in range(61)]
    layout.write_split(tmp_path, "train", clips)
    for folder in layout.clip_folders(tmp_path, "train")[1:]:
        (folder / "actions.csv").write_text("")
    report = check(tmp_path)
    assert len(report.faults) == 60
    assert report.text().count("fault: ") == 50
    assert report.text().endswith("\nand 10 more\n60 faults")


def test_numbers_of_a_pack_that_are_not_finite_are_a_fault(tmp_path, make_clip):
    clip = make_clip(1)
    actions = clip.actions.copy()
    actions[2, 1] = np.nan
    write_pack(tmp_path / "p", {"train": [dataclasses.replace(clip, actions=actions)]}, "noise")
    (fault,) = check(tmp_path / "p").faults
    assert "noise 1" in str(fault)
    assert fault.file == tmp_path / "p" / "train" / "actions.npy"


def test_no_data_set_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no clips"):
        check(tmp_path)
