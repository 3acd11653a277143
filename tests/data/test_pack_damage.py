"""Damaged packs: each is refused in words, when it is opened or when the damage is met."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from labkit.data.pack import open_pack, write_pack
from labkit.errors import DataError


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


def empty(manifest):
    manifest["splits"]["train"]["clips"] = 0
    for entry in files(manifest).values():
        entry["shape"][0] = 0


def to_folder(file):
    file.unlink()
    file.mkdir()


def table(array):
    """Another array in the place of the actions, of the same size on disk where that may be."""

    def do(pack):
        np.save(pack / "train" / "actions.npy", array)

    return do


def scribble(name, data):
    def do(pack):
        with (pack / "train" / name).open("r+b") as stream:
            stream.write(data)

    return do


DAMAGE = {
    "a shorter file": (shorten, "has 575 of 576 bytes"),
    "a missing file": (lambda p: (p / "train" / "actions.npy").unlink(), "is missing"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "no manifest.json"),
    "a torn manifest": (lambda p: os.truncate(p / "manifest.json", 50), "not readable"),
    "another manifest": (lambda p: (p / "manifest.json").write_text("[]"), "not the manifest"),
    "another version": (edit(lambda m: m.update(version=99)), "version 99.*reads 1 and 2"),
    "another dtype": (edit(lambda m: files(m)["frames"].update(dtype="float32")), "float32"),
    "another shape": (
        edit(lambda m: files(m)["frames"].update(shape=[1, 4, 3, 6, 9])),
        "shape .* needs 648",
    ),
    "another count": (edit(lambda m: m["splits"]["train"].update(clips=2)), "expected"),
    "a json of another kind": (edit(lambda m: m.update(splits=[])), "splits"),
    "no splits": (edit(lambda m: m.update(splits={})), "lists no splits"),
    "an endless manifest": (lambda p: (p / "manifest.json").write_text("[" * 10**5), "readable"),
    "a binary manifest": (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe{}"), "readable"),
    "a missing split": (lambda p: shutil.rmtree(p / "train"), "is missing"),
    "a folder for a file": (lambda p: to_folder(p / "train" / "frames.bin"), "is missing"),
    "no version": (edit(lambda m: m.pop("version")), "version None"),
    "an unknown file": (edit(lambda m: files(m).update(depth=files(m)["frames"])), "depth"),
    "no clips": (edit(empty), "expected"),
    "a negative shape": (
        edit(lambda m: files(m)["frames"].update(shape=[1, -4, 3, 6, -8])),
        "says",
    ),
    "five axes of actions": (edit(lambda m: files(m)["actions"].update(shape=[1, 4, 5])), "says"),
    "longer actions": (edit(lambda m: files(m)["actions"].update(shape=[1, 5, 4])), "says"),
    "no names": (edit(lambda m: files(m).pop("names")), "incomplete"),
    "an .npy of another dtype": (table(np.zeros((1, 4, 4), np.int32)), "holds int32"),
    "an .npy of another shape": (table(np.zeros((1, 2, 8), np.float32)), "holds float32"),
    "an .npy of objects": (table(np.array([None] * 16)), r"actions\.npy: .*(bytes|mapped)"),
    "text for an .npy": (scribble("actions.npy", b"not a table"), "cannot be mapped"),
    "a torn .npy header": (scribble("actions.npy", b"\x93NUMPY\x01\x00\x76\x00{'dX"), "mapped"),
    "a zip for an .npy": (scribble("actions.npy", b"PK\x03\x04"), "cannot be mapped"),
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
    assert caught.value.hint


def test_a_flipped_bit_is_found_by_verify(tmp_path, make_clip):
    pack = write_pack(tmp_path / "pack", {"train": [make_clip()]}, "noise")
    file = tmp_path / "pack" / "train" / "frames.bin"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="has changed") as caught:
        pack.verify()
    assert caught.value.file == file


@pytest.mark.parametrize("text", ['["one", "two"]', "[1]", '"n"', "[", "\x00", "{}", None])
def test_wrong_names_are_refused_when_they_are_read(tmp_path, make_clip, text):
    split = write_pack(tmp_path / "pack", {"train": [make_clip()]}, "noise").split("train")
    file = tmp_path / "pack" / "train" / "names.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(DataError, match=r"names\.json: (does not hold 1 names|is not readable)"):
        _ = split.names


def test_a_missing_split_is_refused_with_those_there_are(tmp_path, make_clip):
    pack = write_pack(tmp_path / "p", {"train": [make_clip()], "val": [make_clip()]}, "noise")
    assert len(pack.split("validation")) == 1
    with pytest.raises(DataError, match=r"no split 'test'.*: train, validate"):
        pack.split("test")
