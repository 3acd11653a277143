"""Packs: equal to their clips, whole or absent, made anew when their source changes."""

from __future__ import annotations

import json
import os
import pickle
import time
import weakref

import numpy as np
import pytest

from labkit.data import atomic, layout
from labkit.data.pack import ensure_pack, is_pack, open_pack, write_pack
from labkit.errors import DataError


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("labels", [True, False])
def test_a_pack_holds_its_clips(tmp_path, make_clip, positions, labels):
    clips = [make_clip(number, positions=positions, labels=labels) for number in range(3)]
    write_pack(tmp_path / "pack", {"train": iter(clips), "test": clips[:1]}, "noise")
    pack = open_pack(tmp_path / "pack")
    assert pack.splits == ["train", "test"]
    assert repr(pack) == "Pack(pack: train 3, test 1)"
    assert pack.manifest["source"] == "noise"
    split = pack.split("train")
    assert len(split) == 3
    assert split.names == ["noise 0", "noise 1", "noise 2"]
    assert split.frames.dtype == np.uint8
    for number, clip in enumerate(clips):
        np.testing.assert_array_equal(split.frames[number], clip.frames)
        np.testing.assert_array_equal(split.actions[number], clip.actions)
        assert split.clip(number).name == clip.name
    assert (split.positions is None) == (not positions)
    assert (split.labels is None) == (not labels)
    if positions:
        np.testing.assert_array_equal(split.positions[2], clips[2].positions)
    if labels:
        np.testing.assert_array_equal(split.labels[2], clips[2].labels)
    entry = pack.manifest["splits"]["train"]["files"]["frames"]
    assert entry["shape"] == [3, 4, 3, 6, 8]
    assert entry["bytes"] == 3 * 4 * 3 * 6 * 8
    pack.verify()


def test_the_same_clips_make_the_same_bytes(tmp_path, make_clip):
    manifests = [
        write_pack(tmp_path / name, {"train": [make_clip(1), make_clip(2)]}, "noise").manifest
        for name in ("a", "b")
    ]
    assert manifests[0] == manifests[1]


def test_a_split_pickles_without_its_arrays(tmp_path, make_clip):
    split = write_pack(tmp_path / "p", {"train": [make_clip(frames=50)]}, "noise").split("train")
    before = np.array(split.frames)
    data = pickle.dumps(split)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data).frames, before)


def test_clips_are_taken_one_at_a_time(tmp_path, make_clip):
    held = []

    def clips():
        alive = weakref.WeakValueDictionary()
        for number in range(20):
            alive[number] = clip = make_clip(number)
            yield clip
            held.append(len(alive))

    write_pack(tmp_path / "pack", {"train": clips()}, "noise")
    # The first clip is kept, as the model of the others, and those in the loops' own names.
    assert max(held) <= 3


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([{}, {"height": 7}], "noise 1 have shape"),
        ([{}, {}, {"frames": 5}], "noise 2 have shape"),
        ([{}, {"positions": False}], "noise 1 has no positions"),
        ([{"positions": False}, {}], "noise 1 has positions"),
        ([{"labels": True}, {}], "noise 1 has no labels"),
        ([], "no clips"),
    ],
)
def test_unlike_clips_are_refused_by_name(tmp_path, make_clip, kinds, words):
    clips = [make_clip(number, **kind) for number, kind in enumerate(kinds)]
    with pytest.raises(DataError, match=words):
        write_pack(tmp_path / "pack", {"train": clips}, "noise")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("a fault"), OSError(28, "full")])
def test_a_failed_build_leaves_the_old_pack(tmp_path, make_clip, error):
    write_pack(tmp_path / "pack", {"train": [make_clip(1)]}, "old")

    def clips():
        yield make_clip(2)
        raise error

    with pytest.raises((KeyboardInterrupt, DataError)):
        write_pack(tmp_path / "pack", {"train": clips()}, "new")
    pack = open_pack(tmp_path / "pack")
    assert pack.manifest["source"] == "old"
    pack.verify()
    assert [item.name for item in tmp_path.iterdir()] == ["pack"]


def test_a_new_pack_replaces_the_old_one_whole(tmp_path, make_clip):
    write_pack(tmp_path / "pack", {"train": [make_clip(1)], "test": [make_clip(2)]}, "old")
    write_pack(tmp_path / "pack", {"train": [make_clip(3)]}, "new")
    assert open_pack(tmp_path / "pack").splits == ["train"]
    assert [item.name for item in tmp_path.iterdir()] == ["pack"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path, make_clip):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(DataError, match="not a pack"):
        write_pack(tmp_path, {"train": [make_clip()]}, "noise")
    with pytest.raises(DataError, match="is a file"):
        write_pack(tmp_path / "thesis.txt", {"train": [make_clip()]}, "noise")
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


def test_leftovers_of_a_killed_build_go_after_a_day(tmp_path, make_clip):
    old, young = tmp_path / ".pack.1.tmp", tmp_path / ".pack.2.tmp"
    for folder in (old, young):
        folder.mkdir()
    day_before_yesterday = time.time() - 2 * atomic._STALE_SECONDS
    os.utime(old, (day_before_yesterday, day_before_yesterday))
    write_pack(tmp_path / "pack", {"train": [make_clip()]}, "noise")
    assert not old.exists()
    assert young.exists()


# ------------------------------------------------------------------------------- damage


def shorten(pack):
    file = pack / "train" / "frames.bin"
    os.truncate(file, file.stat().st_size - 1)


def edit(change):
    def do(pack):
        manifest = json.loads((pack / "manifest.json").read_text())
        change(manifest)
        (pack / "manifest.json").write_text(json.dumps(manifest))

    return do


def files(manifest):
    return manifest["splits"]["train"]["files"]


DAMAGE = {
    "a shorter file": (shorten, "has 575 of 576 bytes"),
    "a missing file": (lambda p: (p / "train" / "actions.npy").unlink(), "is missing"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "no manifest.json"),
    "a torn manifest": (lambda p: os.truncate(p / "manifest.json", 50), "not readable"),
    "another manifest": (lambda p: (p / "manifest.json").write_text("[]"), "not the manifest"),
    "another version": (edit(lambda m: m.update(version=99)), "version 99.*reads version 1"),
    "another dtype": (edit(lambda m: files(m)["frames"].update(dtype="float32")), "float32"),
    "another shape": (
        edit(lambda m: files(m)["frames"].update(shape=[1, 4, 3, 6, 9])),
        "shape .* needs 648",
    ),
    "another count": (edit(lambda m: m["splits"]["train"].update(clips=2)), "expected"),
    "no frames": (edit(lambda m: files(m).pop("frames")), "incomplete"),
    "text for a shape": (edit(lambda m: files(m)["frames"].update(shape=5)), "incomplete"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_pack_is_refused(tmp_path, make_clip, name):
    damage, words = DAMAGE[name]
    write_pack(tmp_path / "pack", {"train": [make_clip()]}, "noise")
    damage(tmp_path / "pack")
    with pytest.raises(DataError, match=words) as caught:
        open_pack(tmp_path / "pack")
    assert caught.value.mend


def test_a_flipped_bit_is_found_by_verify(tmp_path, make_clip):
    pack = write_pack(tmp_path / "pack", {"train": [make_clip()]}, "noise")
    file = tmp_path / "pack" / "train" / "frames.bin"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="has changed") as caught:
        pack.verify()
    assert caught.value.file == file


def test_an_npy_of_another_dtype_is_refused_when_it_is_mapped(tmp_path, make_clip):
    split = write_pack(tmp_path / "pack", {"train": [make_clip()]}, "noise").split("train")
    np.save(tmp_path / "pack" / "train" / "actions.npy", np.zeros((1, 4, 4), np.int32))
    with pytest.raises(DataError, match="holds int32"):
        _ = split.actions


def test_a_missing_split_is_refused_with_those_there_are(tmp_path, make_clip):
    pack = write_pack(tmp_path / "p", {"train": [make_clip()], "val": [make_clip()]}, "noise")
    assert len(pack.split("validation")) == 1
    with pytest.raises(DataError, match=r"no split 'test'.*: train, validate"):
        pack.split("test")


# -------------------------------------------------------------- packs of the course's layout


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
