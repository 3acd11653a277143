"""PackWriter: the same bytes, interrupted or not, and only its own work is gone on with."""

from __future__ import annotations

import contextlib
import os

import pytest

from labkit.data.pack import PackWriter, open_pack, write_pack
from labkit.data.pack import files as pack_files
from labkit.errors import DataError


def content(root):
    """Every file of a pack and its bytes."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def clips(make_clip):
    """Two splits' clips, in turn."""
    return [(split, make_clip(n, labels=True)) for n in range(5) for split in ("train", "val")]


@pytest.fixture
def whole(tmp_path, clips):
    """The bytes of the pack that is written in one go, split by split."""
    splits = {name: [clip for s, clip in clips if s == name] for name in ("val", "train")}
    write_pack(tmp_path / "whole", splits, "noise", fingerprint="f")
    return content(tmp_path / "whole")


def some(root, clips, until=None, every=2, key="k", **about):
    """Adds the clips that are not there yet, up to clip `until`, with a checkpoint now and then;
    finishes only if it comes to the end."""
    with PackWriter(root, "noise", fingerprint="f", resume_key=key, **about) as writer:
        skip = {split: writer.done(split) for split in ("train", "validate")}
        for number, (split, clip) in enumerate(clips):
            if number == until:
                raise KeyboardInterrupt
            name = {"val": "validate"}.get(split, split)
            if skip[name]:
                skip[name] -= 1
                continue
            writer.add(split, clip)
            if number % every == every - 1:
                writer.checkpoint()
        writer.finish()


def test_turns_of_the_splits_make_no_difference(tmp_path, clips, whole):
    some(tmp_path / "pack", clips)
    assert content(tmp_path / "pack") == whole
    assert open_pack(tmp_path / "pack").splits == ["train", "validate"]


@pytest.mark.parametrize("stops", [[0], [1], [2], [7], [9], [1, 3, 6], [3, 3, 1, 8]])
def test_going_on_makes_the_same_bytes(tmp_path, clips, whole, stops):
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            some(tmp_path / "pack", clips, until=stop)
        assert not (tmp_path / "pack").exists()
    some(tmp_path / "pack", clips)
    assert content(tmp_path / "pack") == whole
    open_pack(tmp_path / "pack").verify()
    assert {path.name for path in tmp_path.iterdir()} == {"pack", "whole"}


def test_done_counts_what_is_safely_on_disk(tmp_path, clips):
    with contextlib.suppress(KeyboardInterrupt):
        some(tmp_path / "pack", clips, until=7)  # the last checkpoint was after clip 5
    with PackWriter(tmp_path / "pack", "noise", fingerprint="f", resume_key="k") as writer:
        assert writer.done("train") == writer.done("val") == writer.done("validate") == 3
        assert writer.done("test") == 0
        writer.add("train", clips[6][1])
        assert writer.done("train") == 3
        writer.checkpoint()
        assert writer.done("train") == 4


@pytest.mark.parametrize("other", [{"key": "l"}, {"key": None}])
def test_work_under_another_key_is_not_gone_on_with(tmp_path, clips, whole, other):
    with contextlib.suppress(KeyboardInterrupt):
        some(tmp_path / "pack", clips, until=7)
    some(tmp_path / "pack", clips, **other)
    assert content(tmp_path / "pack") == whole
    # What the first one left is overtaken.
    assert {path.name for path in tmp_path.iterdir()} == {"pack", "whole"}


def test_work_of_another_source_is_not_gone_on_with(tmp_path, clips):
    with contextlib.suppress(KeyboardInterrupt):
        some(tmp_path / "pack", clips, until=7)
    for about in ({"source": "music"}, {"source": "noise", "fingerprint": "g"}):
        with PackWriter(tmp_path / "pack", resume_key="k", **about) as writer:
            assert writer.done("train") == 0
    some(tmp_path / "pack", clips)


def damaged_progress(work):
    (work / "progress.json").write_text('{"notes": {}')


def short_file(work):
    os.truncate(work / "pack" / "train" / "frames.bin", 10)


def short_table(work):
    os.truncate(work / "pack" / "validate" / "actions.npy", 130)


def no_file(work):
    (work / "pack" / "train" / "labels.bin").unlink()


@pytest.mark.parametrize("damage", [damaged_progress, short_file, short_table, no_file])
def test_damaged_work_is_begun_anew(tmp_path, clips, whole, damage):
    with contextlib.suppress(KeyboardInterrupt):
        some(tmp_path / "pack", clips, until=7)
    (work,) = tmp_path.glob(".pack.*.part")
    damage(work)
    with PackWriter(tmp_path / "pack", "noise", fingerprint="f", resume_key="k") as writer:
        assert writer.done("train") == writer.done("validate") == 0
    some(tmp_path / "pack", clips)
    assert content(tmp_path / "pack") == whole


def test_a_split_begun_after_the_last_checkpoint_leaves_nothing(tmp_path, make_clip):
    about = {"source": "noise", "resume_key": "k"}
    with PackWriter(tmp_path / "pack", **about) as writer:
        writer.add("train", make_clip())
        writer.checkpoint()
        writer.add("test", make_clip())
    with PackWriter(tmp_path / "pack", **about) as writer:
        pack = writer.finish()
    assert pack.splits == ["train"]
    assert not (tmp_path / "pack" / "test").exists()


def test_gone_on_with_clips_must_be_like_the_first(tmp_path, make_clip):
    about = {"source": "noise", "resume_key": "k"}
    with PackWriter(tmp_path / "pack", **about) as writer:
        writer.add("train", make_clip())
        writer.checkpoint()
    with PackWriter(tmp_path / "pack", **about) as writer:
        with pytest.raises(DataError, match="noise 1 have shape"):
            writer.add("train", make_clip(1, height=7))
        writer.add("train", make_clip(2))  # the refused one left nothing
        assert writer.finish().split("train").names == ["noise 0", "noise 2"]


def test_a_clip_written_in_part_is_never_recorded(tmp_path, clips, whole, monkeypatch):
    with contextlib.suppress(KeyboardInterrupt):
        some(tmp_path / "pack", clips, until=7)
    about = {"source": "noise", "fingerprint": "f", "resume_key": "k"}
    with PackWriter(tmp_path / "pack", **about) as writer:

        def interrupted(self, value):
            self._stream.write(value.tobytes()[:50])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(pack_files.ArrayFile, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.add("train", clips[6][1])
        with pytest.raises(DataError, match="only in part"):
            writer.checkpoint()
    some(tmp_path / "pack", clips)
    assert content(tmp_path / "pack") == whole


def test_a_writer_without_finish_leaves_nothing(tmp_path, make_clip):
    write_pack(tmp_path / "pack", {"train": [make_clip(1)]}, "old")
    for key in (None, "nothing recorded"):
        with PackWriter(tmp_path / "pack", "new", resume_key=key) as writer:
            writer.add("train", make_clip(2))
    assert open_pack(tmp_path / "pack").manifest["source"] == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["pack"]


def test_a_writer_without_clips_is_refused(tmp_path):
    with PackWriter(tmp_path / "pack", "new") as writer, pytest.raises(DataError, match="no clips"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_notes_are_in_the_manifest_in_one_order(tmp_path, make_clip):
    for name, keys in {"a": "xy", "b": "yx"}.items():
        with PackWriter(tmp_path / name, "noise", resume_key="k") as writer:
            writer.set_note(keys[0], {"from": [1, "traj"]})
            writer.add("train", make_clip())
            writer.checkpoint()
        with PackWriter(tmp_path / name, "noise", resume_key="k") as writer:
            writer.set_note(keys[1], {"from": [1, "traj"]})
            assert writer.finish().manifest["x"] == {"from": [1, "traj"]}
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("key", ["format", "version", "source", "fingerprint", "splits"])
def test_a_note_does_not_hide_the_manifests_own_words(tmp_path, key):
    with PackWriter(tmp_path / "pack", "new") as writer, pytest.raises(ValueError, match=key):
        writer.set_note(key, "mine")


def test_labels_are_bytes(tmp_path, make_clip):
    clip = make_clip(labels=True)
    object.__setattr__(clip, "labels", clip.labels.astype("int64"))
    with pytest.raises(DataError, match="labels of clip noise 0 are int64"):
        write_pack(tmp_path / "pack", {"train": [clip]}, "noise")
