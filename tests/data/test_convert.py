"""Conversion of a clip's arrays to a pack or the course layout."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from labkit.data import layout
from labkit.data.check import check
from labkit.data.convert import convert
from labkit.data.dataset import ClipDataset
from labkit.data.pack import open_pack
from labkit.errors import DataError

SAMPLE = Path(__file__).parents[2] / "../shared/data/bair_sample.npz"


def arrays(**changes):
    random = np.random.default_rng(0)
    values = {
        "aux1_image": random.integers(0, 256, (4, 6, 8, 3)),
        "action": random.normal(size=(4, 4)),
        "endeffector_pos": random.normal(size=(4, 3)),
    } | changes
    return {key: value for key, value in values.items() if value is not None}


@pytest.mark.parametrize("key", ["endeffector_pos", "endeffector_positions", None])
def test_a_clip_arrives_unchanged(tmp_path, key):
    values = arrays()
    positions = values.pop("endeffector_pos")
    if key is not None:
        values[key] = positions
    np.savez(tmp_path / "clip.npz", **values)
    summary = convert(tmp_path / "clip.npz", tmp_path / "out", to="layout")
    assert summary["splits"] == {"train": 1}
    assert summary["positions"] == (key is not None)
    assert layout.splits(tmp_path / "out") == ["train"]
    (folder,) = layout.clip_folders(tmp_path / "out", "train")
    clip = layout.read_clip(folder)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), values["aux1_image"])
    np.testing.assert_array_equal(clip.actions, values["action"].astype(np.float32))
    if key is None:
        assert clip.positions is None
    else:
        np.testing.assert_array_equal(clip.positions, positions.astype(np.float32))
    with pytest.raises(DataError, match="is there already"):
        convert(tmp_path / "clip.npz", tmp_path / "out", to="layout")


def test_a_clip_becomes_a_pack_unless_told_otherwise(tmp_path):
    values = arrays()
    np.savez(tmp_path / "clip.npz", **values)
    summary = convert(tmp_path / "clip.npz", tmp_path / "out")
    assert summary == {
        "source": str(tmp_path / "clip.npz"),
        "out": str(tmp_path / "out"),
        "format": "pack",
        "splits": {"train": 1},
        "clips": 1,
        "frames": 4,
        "height": 6,
        "width": 8,
        "positions": True,
    }
    clip = open_pack(tmp_path / "out").split("train").clip(0)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), values["aux1_image"])
    assert clip.name == "clip"
    with pytest.raises(DataError, match="has no camera 'main'"):
        convert(tmp_path / "clip.npz", tmp_path / "out", camera="main")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aux1_image": None}, "no array of pictures.*its arrays: action"),
        ({"action": None}, "no array 'action'"),
        ({"aux1_image": np.zeros((4, 6, 8))}, r"aux1_image has shape \(4, 6, 8\)"),
        ({"aux1_image": np.zeros((4, 3, 6, 8), int)}, "aux1_image has shape"),
        ({"aux1_image": np.zeros((4, 6, 8, 3))}, "holds float64"),
        ({"aux1_image": np.full((4, 6, 8, 3), 256)}, "from 256 to 256"),
        ({"action": np.zeros((3, 4))}, r"action has shape \(3, 4\)"),
        ({"action": np.full((4, 4), np.nan)}, "not all finite"),
        ({"action": np.full((4, 4), 1e39)}, "not all finite"),
        ({"endeffector_pos": np.zeros((4, 2))}, "endeffector_pos has shape"),
        ({"action": np.array([[None] * 4] * 4)}, "not a readable"),
    ],
)
def test_faults_in_the_arrays_are_named(tmp_path, changes, words):
    np.savez(tmp_path / "clip.npz", **arrays(**changes))
    with pytest.raises(DataError, match=words):
        convert(tmp_path / "clip.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def a_torn_file(file):
    np.savez(file, **arrays())
    os.truncate(file, 900)


def an_array(file):
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("absent.npz", lambda f: None, "no such file"),
        ("absent.tar", lambda f: None, "no such file"),
        ("text.npz", lambda f: f.write_text("hello"), "not a readable .npz"),
        ("array.npz", an_array, "not a readable .npz"),
        ("torn.npz", a_torn_file, "readable"),
        ("folder.npz", lambda f: f.mkdir(), "is a folder, not an .npz file"),
        ("clip.mp4", lambda f: f.write_bytes(b"x"), "not a video that ffmpeg can read"),
        ("clip", lambda f: f.write_bytes(b""), "no known kind .no ending"),
    ],
)
def test_other_sources_are_refused_in_fitting_words(tmp_path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(DataError, match=words):
        convert(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_real_clip(tmp_path):
    if not SAMPLE.exists():
        pytest.skip("../shared/data/bair_sample.npz is not here")
    convert(SAMPLE, tmp_path / "real")
    report = check(tmp_path / "real")
    assert report.ok, report.text()
    convert(SAMPLE, tmp_path / "folders", to="layout")
    report = check(tmp_path / "folders")
    assert report.ok, report.text()
    dataset = ClipDataset(tmp_path / "real", "train", condition="action")
    assert (dataset.n_clips, len(dataset)) == (1, 19)
    clip = dataset.clip(0)
    with np.load(SAMPLE) as real:
        np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), real["aux1_image"])
        np.testing.assert_array_equal(clip.actions, real["action"].astype(np.float32))
    with pytest.raises(DataError, match=r"data\.condition=action"):
        ClipDataset(tmp_path / "real", "train")
