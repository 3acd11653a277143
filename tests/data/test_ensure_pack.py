"""Packs of the course's layout: made once, and made anew when their source changed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from labkit.data import layout
from labkit.data.pack import ensure_pack, is_pack, open_pack
from labkit.errors import DataError


@pytest.fixture
def course(tmp_path, make_clip):
    """A data set of three clips in the course's layout."""
    root = tmp_path / "course"
    layout.write_split(root, "train", [make_clip(1), make_clip(2)])
    layout.write_split(root, "validation", [make_clip(3)])
    return root


def stamp(pack):
    return (pack.root / "manifest.json").stat().st_mtime_ns


def test_a_pack_of_a_layout_is_made_once(course, make_clip):
    pack = ensure_pack(course)
    assert pack.root == course / ".labkit_pack"
    assert pack.splits == ["train", "validate"]
    np.testing.assert_array_equal(pack.split("train").frames[1], make_clip(2).frames)
    assert stamp(ensure_pack(course)) == stamp(pack)
    assert is_pack(ensure_pack(pack.root).root)
    assert layout.splits(course) == ["train", "validate"]


def replace_clip(root, make_clip):
    layout.write_clip(layout.clip_folders(root, "train")[0], make_clip(7))


def add_clip(root, make_clip):
    layout.write_clip(root / "train" / "traj_512_to_767.tfrecords" / "2", make_clip(7))


def edit_number(root, make_clip):
    # As many bytes as before: only the time of change tells.
    file = layout.clip_folders(root, "train")[1] / "actions.csv"
    text = file.read_text()
    place = text.index(".") - 1
    file.write_text(text[:place] + ("7" if text[place] != "7" else "6") + text[place + 1 :])


@pytest.mark.parametrize("change", [replace_clip, add_clip, edit_number])
def test_a_pack_is_made_anew_when_its_source_changed(course, make_clip, change):
    before = ensure_pack(course).manifest
    change(course, make_clip)
    pack = ensure_pack(course)
    assert pack.manifest["splits"]["train"] != before["splits"]["train"]
    read = [layout.read_clip(folder) for folder in layout.clip_folders(course, "train")]
    np.testing.assert_array_equal(pack.split("train").actions, [clip.actions for clip in read])


def test_leftovers_of_macos_do_not_make_a_pack_anew(course):
    before = stamp(ensure_pack(course))
    (layout.clip_folders(course, "train")[0] / ".DS_Store").write_bytes(b"x")
    assert stamp(ensure_pack(course)) == before


def test_a_damaged_pack_of_a_layout_is_made_anew(course):
    pack = ensure_pack(course)
    os.truncate(pack.root / "train" / "frames.bin", 3)
    ensure_pack(course).verify()


def test_a_read_only_data_set_is_packed_in_the_cache(course, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    pack = ensure_pack(course)
    assert pack.root.is_relative_to(tmp_path / "cache" / "labkit")
    assert not (course / ".labkit_pack").exists()
    assert stamp(ensure_pack(course)) == stamp(pack)


def test_a_broken_clip_stops_the_pack_and_keeps_the_old_one(course):
    before = stamp(ensure_pack(course))
    (layout.clip_folders(course, "validate")[0] / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: frame is missing"):
        ensure_pack(course)
    assert stamp(open_pack(course / ".labkit_pack")) == before


def test_errors_name_what_the_user_gave(course, tmp_path):
    """Not the hidden pack, and not the folder that a zip was unpacked to."""
    zipped = shutil.make_archive(str(tmp_path / "mine"), "zip", course)
    for given in (course, zipped):
        with pytest.raises(DataError) as error:
            ensure_pack(given).split("test")
        there = "there are: train, validate; to use another one: --split validate"
        assert str(error.value) == f"{given}: no split 'test' ({there})"
    (layout.clip_folders(course, "train")[1] / "endeffector_positions.csv").unlink()
    zipped = shutil.make_archive(str(tmp_path / "other"), "zip", course)
    for given in (course, zipped):
        with pytest.raises(DataError, match="has no positions, unlike the first clip") as error:
            ensure_pack(given)
        assert str(error.value.file) == f"{given}/train/traj_512_to_767.tfrecords/1"
