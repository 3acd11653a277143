"""Packs: equal to their clips, whole or absent, made anew when their source changes."""

from __future__ import annotations

import dataclasses
import pickle
import weakref

import numpy as np
import pytest

from labkit.data.pack import files as pack_files
from labkit.data.pack import open_pack, write_pack
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


def test_clips_of_several_lengths_and_other_columns(tmp_path, make_clip):
    lengths = [5, 3, 9]
    clips = [
        dataclasses.replace(
            make_clip(number, frames=length, labels=True),
            actions=np.full((length, 2), number, np.float32),
            positions=np.random.default_rng(number).normal(size=(length, 7)).astype(np.float32),
            action_columns=("push", "pull"),
        )
        for number, length in enumerate(lengths)
    ]
    write_pack(tmp_path / "pack", {"train": clips, "test": [make_clip()]}, "noise")
    pack = open_pack(tmp_path / "pack")
    assert pack.manifest["version"] == 2
    split = pack.split("train")
    assert split.lengths.tolist() == lengths
    assert split.action_columns == ("push", "pull")
    assert split.position_columns == tuple(f"position_{n}" for n in range(1, 8))
    assert pack.split("test").action_columns == ("dx", "dy", "close_gripper", "lift")
    for number, clip in enumerate(clips):
        for read, part in (
            (split.clip(number), slice(None)),
            (split.clip(number, 1, 3), slice(1, 3)),
        ):
            for kind in ("frames", "actions", "positions", "labels"):
                np.testing.assert_array_equal(getattr(read, kind), getattr(clip, kind)[part])
        np.testing.assert_array_equal(split.conditions(number)[1], clip.positions)
    frames, actions, positions, labels = split.windows(np.array([2, 0]), np.array([6, 2]), 3)
    for row, (number, start) in enumerate([(2, 6), (0, 2)]):
        window = slice(start, start + 3)
        np.testing.assert_array_equal(frames[row], clips[number].frames[window])
        np.testing.assert_array_equal(actions[row], clips[number].actions[window])
        np.testing.assert_array_equal(positions[row], clips[number].positions[window])
        np.testing.assert_array_equal(labels[row], clips[number].labels[window])
    with pytest.raises(IndexError, match=r"\[\[1, 1\]\]"):
        split.windows(np.array([0, 1]), np.array([2, 1]), 3)
    pack.verify()
    (tmp_path / "pack" / "train" / "lengths.json").write_text("[5, 4, 9]")
    with pytest.raises(DataError, match="adds up to"):
        open_pack(tmp_path / "pack")


def test_a_pack_of_one_length_and_bairs_columns_is_of_version_1(tmp_path, make_clip):
    """Its bytes are those that earlier versions wrote."""
    manifest = write_pack(tmp_path / "pack", {"train": [make_clip(1), make_clip(2)]}, "n").manifest
    digests = {kind: e["blake2b"] for kind, e in manifest["splits"]["train"]["files"].items()}
    assert manifest["version"] == 1
    assert digests == DIGESTS


DIGESTS = {
    "frames": "4fe34f509dcc304a18ad1992adbeab35",
    "actions": "e360360f587d03a41cc40c1d1ff90b23",
    "positions": "06431e4605c88e82f8e82002c81bfce2",
    "names": "f8cc2c30bd5a4af398c987a99b3c605e",
}
"""of the files that the first version wrote"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"actions": np.zeros((4, 5), np.float32)}, "noise 1 have 5 columns, the first clip's 4"),
        ({"action_columns": ("dy", "dx", "a", "b")}, "called dy, dx, a, b .*called a, b, dx, dy"),
    ],
)
def test_other_columns_than_the_first_clips_are_refused(tmp_path, make_clip, change, words):
    first = dataclasses.replace(make_clip(0), action_columns=("a", "b", "dx", "dy"))
    second = dataclasses.replace(make_clip(1), **change)
    with pytest.raises(DataError, match=words):
        write_pack(tmp_path / "pack", {"train": [first, second]}, "noise")


def test_a_pack_without_actions(tmp_path, make_clip):
    clips = [
        dataclasses.replace(make_clip(n, positions=False), actions=np.zeros((4, 0), np.float32))
        for n in range(2)
    ]
    split = write_pack(tmp_path / "pack", {"train": clips}, "noise").split("train")
    assert split.clip(1).actions.shape == (4, 0)
    assert split.action_columns == ()
    assert split.windows(np.array([1]), np.array([0]), 2)[1].shape == (1, 2, 0)


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


def test_a_pack_that_does_not_fit_its_manifest_never_takes_its_place(
    tmp_path, make_clip, monkeypatch
):
    def forgetful(self, value):
        self._stream.write(value.tobytes()[1:])

    monkeypatch.setattr(pack_files.ArrayFile, "write", forgetful)
    with pytest.raises(DataError, match="bytes"):
        write_pack(tmp_path / "pack", {"train": [make_clip()]}, "noise")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "/", "manifest.json"])
def test_a_split_has_a_plain_name(tmp_path, make_clip, name):
    with pytest.raises(DataError, match="cannot be a split's name"):
        write_pack(tmp_path / "pack", {name: [make_clip()]}, "noise")
    assert list(tmp_path.iterdir()) == []
