"""ClipDataset: folders and packs give the same windows, in one order, whole or by workers."""

from __future__ import annotations

import dataclasses
import os
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from labkit.config import Config, DataConfig
from labkit.data import layout
from labkit.data.dataset import Batch, ClipDataset, identity, with_columns
from labkit.data.gpu_cache import GPUCache
from labkit.data.loader import BatchLoader
from labkit.data.pack import ensure_pack, write_pack
from labkit.errors import DataError

SIZES = {"n_past": 2, "n_future": 3}


@pytest.fixture
def clips(make_clip):
    """Three clips of seven frames, so three windows of five each."""
    return [make_clip(number, frames=7) for number in range(3)]


@pytest.fixture
def course(tmp_path, clips):
    """Their data set in the course's layout."""
    layout.write_split(tmp_path / "course", "train", clips)
    return tmp_path / "course"


def test_windows_are_in_order_of_clip_then_start(course, clips):
    dataset = ClipDataset(course, "train", **SIZES)
    assert dataset.n_clips == 3
    assert len(dataset) == 9
    places = [dataset.clip_of(index) for index in range(9)]
    assert places == [(clip, start) for clip in range(3) for start in range(3)]
    frames, condition = dataset[5]
    np.testing.assert_array_equal(frames.numpy(), clips[1].frames[2:7])
    np.testing.assert_array_equal(condition[:, :4].numpy(), clips[1].actions[2:7])
    np.testing.assert_array_equal(condition[:, 4:].numpy(), clips[1].positions[2:7])


def test_first_windows_alone(course, clips):
    dataset = ClipDataset(course, "train", **SIZES, windows="first")
    assert len(dataset) == 3
    np.testing.assert_array_equal(dataset[2][0].numpy(), clips[2].frames[:5])
    with pytest.raises(IndexError):
        dataset[3]
    with pytest.raises(IndexError):
        dataset[-1]


@pytest.mark.parametrize("windows", ["all", "first"])
@pytest.mark.parametrize("condition", ["action", "action+position"])
def test_a_pack_equals_folders_item_by_item(course, windows, condition):
    settings = {**SIZES, "windows": windows, "condition": condition}
    folders = ClipDataset(course, "train", source="folders", **settings)
    pack = ClipDataset(ensure_pack(course).root, "train", source="pack", **settings)
    assert len(folders) == len(pack)
    for one, other in zip(folders, pack, strict=True):
        for first, second in zip(one, other, strict=True):
            assert first.dtype == second.dtype
            assert torch.equal(first, second)
    for first, second in zip(
        folders.condition_statistics(), pack.condition_statistics(), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_a_batch_is_its_items_stacked_in_the_order_asked(course):
    dataset = ClipDataset(course, "train", **SIZES)
    indices = [8, 0, 8, 3]
    batch = dataset.batch(indices)
    assert batch.frames.dtype == torch.uint8
    for row, index in enumerate(indices):
        frames, condition = dataset[index]
        assert torch.equal(batch.frames[row], frames)
        assert torch.equal(batch.condition[row], condition)


@pytest.mark.parametrize("source", ["folders", "pack"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_batches_with_any_workers(course, source, workers):
    dataset = ClipDataset(course, "train", source=source, **SIZES)
    dataset = pickle.loads(pickle.dumps(dataset))
    sampler = BatchSampler(SequentialSampler(dataset), batch_size=4, drop_last=False)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=identity, num_workers=workers)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 4, 1]
    expected = dataset.batch(range(9))
    assert torch.equal(torch.cat([batch.frames for batch in batches]), expected.frames)
    assert torch.equal(torch.cat([batch.condition for batch in batches]), expected.condition)


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_labels_come_along_where_there_are_any(tmp_path, make_clip, source):
    clips = [make_clip(number, frames=7, labels=True) for number in range(2)]
    layout.write_split(tmp_path, "train", clips)
    dataset = ClipDataset(tmp_path, "train", source=source, **SIZES)
    batch = dataset.batch([1, 3])
    np.testing.assert_array_equal(batch.labels[0].numpy(), clips[0].labels[1:6])
    np.testing.assert_array_equal(batch.labels[1].numpy(), clips[1].labels[:5])
    assert batch.to("cpu").labels.dtype == torch.uint8


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_labels_stay_away_where_they_are_not_asked_for(tmp_path, make_clip, source):
    layout.write_split(tmp_path, "train", [make_clip(frames=7, labels=True)])
    dataset = ClipDataset(tmp_path, "train", source=source, labels=False, **SIZES)
    assert dataset.batch([0, 2]).labels is None
    assert dataset.has_labels  # there are some nevertheless
    config = DataConfig(root=str(tmp_path), n_past=2, n_future=3)
    assert ClipDataset.from_config(config, "train", labels=False).batch([0]).labels is None
    assert ClipDataset.from_config(config, "train").batch([0]).labels is not None


@pytest.mark.parametrize("source", ["folders", "pack"])
@pytest.mark.parametrize("indices", [[], [9], [0, -1], [3, 1 << 40]])
def test_an_empty_batch_is_empty_and_a_window_that_is_not_there_is_refused(course, source, indices):
    dataset = ClipDataset(course, "train", source=source, **SIZES)
    if not indices:
        batch = dataset.batch(indices)
        assert batch.frames.shape == (0, 5, 3, 6, 8)
        assert batch.condition.shape == (0, 5, 7)
        return
    with pytest.raises(IndexError, match=f"window {indices[-1]} of 9"):
        dataset.batch(indices)


@pytest.mark.parametrize("kind", [list, tuple, range])
def test_indices_may_be_any_row_of_numbers(course, kind):
    dataset = ClipDataset(course, "train", **SIZES)
    indices = range(4, 7) if kind is range else kind([4, 5, 6])
    assert torch.equal(dataset.batch(indices).frames, dataset.batch([4, 5, 6]).frames)


def test_a_batch_of_the_pack_is_the_readers_own(course, clips):
    """Writable, and apart from the file and from other batches."""
    dataset = ClipDataset(course, "train", **SIZES)
    dataset.batch([0]).frames.zero_()
    np.testing.assert_array_equal(dataset.batch([0]).frames[0].numpy(), clips[0].frames[:5])


def test_a_used_data_set_of_a_pack_pickles_as_a_few_paths(course):
    dataset = ClipDataset(course, "train", **SIZES)
    expected = dataset.batch([0, 8])
    dataset.clip(1)  # by now its files are open and mapped
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 4000
    again = pickle.loads(pickled).batch([0, 8])
    assert torch.equal(again.frames, expected.frames)
    assert torch.equal(again.condition, expected.condition)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_worker_is_the_same_sentence(course, workers):
    """A pack that is cut short while it is being read."""
    pack = ensure_pack(course).root
    dataset = ClipDataset(pack, "train", **SIZES)
    frames = pack / "train" / "frames.bin"
    os.truncate(frames, frames.stat().st_size // 2)
    loader = BatchLoader(dataset, [[0, 1], [7, 8]], workers=workers)
    batches = iter(loader)
    assert len(next(batches)) == 2
    with pytest.raises(DataError, match=r"frames\.bin: cannot be read") as caught:
        next(batches)
    assert "\n" not in str(caught.value)
    assert caught.value.file == frames
    assert caught.value.hint


def test_a_loader_whose_workers_stay_serves_several_passes(course):
    dataset = ClipDataset(course, "train", **SIZES)
    loader = BatchLoader(dataset, [[0, 4], [8], [3, 2, 1]], workers=2)
    assert len(loader) == 3
    assert not hasattr(pickle.loads(pickle.dumps(loader.dataset)), "frames")  # as spawning does
    for _ in range(2):
        for batch, indices in zip(loader, [[0, 4], [8], [3, 2, 1]], strict=True):
            assert torch.equal(batch.frames, dataset.batch(indices).frames)


def test_frames_become_float_between_0_and_1_on_the_device():
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3, 1, 1)
    batch = Batch(frames, torch.zeros(1, 1, 4))
    moved = batch.to("cpu")
    torch.testing.assert_close(moved.frames.flatten(), torch.tensor([0.0, 0.2, 1.0]))
    assert moved.labels is None
    torch.testing.assert_close(moved.to("cpu").frames, moved.frames)
    assert frames.flatten().tolist() == [0, 51, 255]


def test_condition_statistics_are_those_of_all_frames(course, clips):
    mean, std = ClipDataset(course, "train", **SIZES, windows="first").condition_statistics()
    rows = np.concatenate([np.hstack([clip.actions, clip.positions]) for clip in clips])
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(std, rows.std(0), atol=1e-6)
    assert mean.dtype == std.dtype == np.float32
    mean, _ = ClipDataset(course, "train", **SIZES, condition="action").condition_statistics()
    assert mean.shape == (4,)


def test_a_condition_that_never_changes_has_no_deviation(tmp_path, make_clip):
    clip = make_clip(frames=7)
    still = dataclasses.replace(clip, positions=np.full((7, 3), 0.1, np.float32))
    write_pack(tmp_path / "pack", {"train": [still] * 3}, "noise")
    _, std = ClipDataset(tmp_path / "pack", "train", **SIZES).condition_statistics()
    assert (std[4:] < 1e-12).all()
    assert (std[:4] > 0.1).all()


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_a_whole_clip_is_writable_and_complete(course, clips, source):
    clip = ClipDataset(course, "train", source=source, **SIZES).clip(2)
    np.testing.assert_array_equal(clip.frames, clips[2].frames)
    np.testing.assert_array_equal(clip.positions, clips[2].positions)
    clip.frames[:] = 0  # from a pack this would fail on a view of the file


def test_a_config_makes_its_data_set(course):
    config = DataConfig(root=str(course), condition="action", n_past=1, n_future=3)
    dataset = ClipDataset.from_config(config, "train")
    assert (len(dataset), dataset.condition_size) == (12, config.condition_size)
    assert len(ClipDataset.from_config(config, "train", windows="first")) == 3
    assert "3 clips, windows of 4 frames" in repr(dataset)


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_a_window_longer_than_the_clips_is_refused(course, source):
    ClipDataset(course, "train", n_past=2, n_future=5, source=source)
    with pytest.raises(DataError, match=r"7 frames.*= 8"):
        ClipDataset(course, "train", n_past=2, n_future=6, source=source)


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_positions_that_are_not_there_are_refused(tmp_path, make_clip, source):
    layout.write_split(tmp_path, "train", [make_clip(frames=7, positions=False)])
    with pytest.raises(DataError, match=r"no positions.*data\.condition=action"):
        ClipDataset(tmp_path, "train", source=source, **SIZES)
    dataset = ClipDataset(tmp_path, "train", source=source, condition="action", **SIZES)
    assert dataset[0][1].shape == (5, 4)


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_a_missing_split_is_refused(course, source):
    with pytest.raises(DataError, match=r"no split 'test'.*there are: train"):
        ClipDataset(course, "test", source=source, **SIZES)


def test_clips_of_several_sizes_are_refused_by_folder(tmp_path, make_clip):
    layout.write_split(
        tmp_path, "train", [make_clip(1, frames=7), make_clip(2, frames=7, height=9)]
    )
    dataset = ClipDataset(tmp_path, "train", source="folders", **SIZES)
    with pytest.raises(DataError, match="unlike the split's first clip"):
        dataset.batch([0, 5])
    with pytest.raises(DataError, match="tfrecords/1 have shape"):
        ClipDataset(tmp_path, "train", **SIZES)


LENGTHS = [7, 4, 5, 9]
"""of clips of which the second is too short for a window of five"""


@pytest.fixture
def unequal(tmp_path, make_clip):
    """A data set of clips of several lengths, with 2 action columns and 5 of the state."""
    random = np.random.default_rng(0)
    clips = [
        dataclasses.replace(
            make_clip(number, frames=frames),
            actions=random.normal(size=(frames, 2)).astype(np.float32),
            positions=random.normal(size=(frames, 5)).astype(np.float32),
            action_columns=("left", "right"),
        )
        for number, frames in enumerate(LENGTHS)
    ]
    layout.write_split(tmp_path / "unequal", "train", clips)
    return tmp_path / "unequal", clips


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_windows_of_clips_of_several_lengths(unequal, caplog, source):
    root, clips = unequal
    dataset = ClipDataset(root, "train", source=source, **SIZES)
    assert "1 of 4 clips of train has fewer than 5 frames and is left out" in caplog.text
    expected = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert [dataset.clip_of(index) for index in range(len(dataset))] == expected
    assert dataset.first_windows.tolist() == [0, 3, 4]
    kept = [clips[number] for number in (0, 2, 3)]
    batch = dataset.batch(range(len(dataset)))
    for row, (number, start) in enumerate(expected):
        window = slice(start, start + 5)
        np.testing.assert_array_equal(batch.frames[row], kept[number].frames[window])
        np.testing.assert_array_equal(batch.condition[row, :, :2], kept[number].actions[window])
        np.testing.assert_array_equal(batch.condition[row, :, 2:], kept[number].positions[window])
    np.testing.assert_array_equal(dataset.clip(2).frames, kept[2].frames)
    rows = np.concatenate([np.hstack([clip.actions, clip.positions]) for clip in kept])
    np.testing.assert_allclose(dataset.condition_statistics()[0], rows.mean(0), atol=1e-6)
    firsts = ClipDataset(root, "train", source=source, **SIZES, windows="first")
    assert [firsts.clip_of(index) for index in range(len(firsts))] == [(0, 0), (1, 0), (2, 0)]
    cache = GPUCache(dataset, "cpu").batch([8, 0, 3])
    assert torch.equal(cache.frames, dataset.batch([8, 0, 3]).frames)
    assert torch.equal(cache.condition, dataset.batch([8, 0, 3]).condition)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again.batch([7]).frames, dataset.batch([7]).frames)


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_the_data_set_gives_its_columns(unequal, source):
    root, _ = unequal
    for condition, size in (("action+position", 7), ("action", 2), ("none", 0)):
        dataset = ClipDataset(root, "train", source=source, condition=condition, **SIZES)
        assert dataset.condition_size == size
        assert dataset.action_columns == ("left", "right")
        config = Config(data=DataConfig(str(root), condition, n_past=2, n_future=3))
        assert with_columns(config).data.condition_size == size
    names = with_columns(Config(data=DataConfig(str(root), n_future=3))).data.condition_columns
    assert names == ("left", "right", *(f"position_{n}" for n in range(1, 6)))


def test_a_config_keeps_the_names_of_columns_that_it_does_not_use(tmp_path, make_clip):
    """A run on clips without positions has the same config as one made by earlier versions."""
    layout.write_split(tmp_path, "train", [make_clip(frames=7, positions=False)])
    config = Config(data=DataConfig(str(tmp_path), "action", n_future=3))
    assert with_columns(config) == config


@pytest.mark.parametrize("source", ["folders", "pack"])
def test_clips_without_any_table_are_for_a_model_without_condition(tmp_path, make_clip, source):
    clip = make_clip(frames=7, positions=False)
    clip = dataclasses.replace(clip, actions=np.zeros((7, 0), np.float32))
    layout.write_split(tmp_path, "train", [clip])
    assert not list(tmp_path.rglob("*.csv"))
    dataset = ClipDataset(tmp_path, "train", source=source, condition="none", **SIZES)
    assert dataset[0][1].shape == (5, 0)
    for condition in ("action", "action+position"):
        with pytest.raises(DataError, match=r"have no actions \(set data\.condition=none: --data"):
            ClipDataset(tmp_path, "train", source=source, condition=condition, **SIZES)


@pytest.mark.parametrize("kind", ["positions", "labels"])
@pytest.mark.parametrize("first_has", [True, False])
def test_a_folder_that_has_other_things_than_the_first_is_named(
    tmp_path, make_clip, kind, first_has
):
    clips = [make_clip(n, frames=7, **{kind: (n == 0) == first_has}) for n in range(2)]
    layout.write_split(tmp_path, "train", clips)
    dataset = ClipDataset(tmp_path, "train", source="folders", condition="action", **SIZES)
    dataset.batch([0])
    with pytest.raises(DataError, match=rf"tfrecords/1: has (no )?{kind}, unlike .* first"):
        dataset.batch([0, 3])


def test_folders_of_a_pack_are_refused(tmp_path, make_clip):
    write_pack(tmp_path / "pack", {"train": [make_clip(frames=7)]}, "noise")
    with pytest.raises(DataError, match="is a pack"):
        ClipDataset(tmp_path / "pack", "train", source="folders", **SIZES)
