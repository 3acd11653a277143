"""`check`: the figures of a data set, and all its faults at once."""

from __future__ import annotations

import numpy as np
import pytest

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
    assert (train.clips, train.with_positions, train.shapes) == (3, 3, {(4, 6, 8): 3})
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
        (course / "train", None),
        (course / "train", None),
    ]
    assert all(fault.mend for fault in report.faults)
    assert (report.splits["train"].clips, sum(report.splits["train"].shapes.values())) == (4, 2)
    text = report.text()
    assert text.endswith("4 faults")
    assert "actions.csv, row 3: 'x' is not a number" in text
    assert "1 of 4 frames 8x6, 1 of 6 frames 8x6" in text
    assert "1 of 2 clips have no positions" in text


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


def test_no_data_set_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no clips"):
        check(tmp_path)
