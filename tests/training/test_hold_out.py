"""A data set without the split `validate`: the last clips of `train` are held out."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from labkit.config import Config
from labkit.data import write_split
from labkit.data.dataset import ClipDataset, with_validation
from labkit.errors import DataError
from labkit.training import train


@pytest.fixture
def without_validate(simulated: Path, tmp_path: Path) -> Path:
    """The six training clips and the test clips of a data set, in the course layout."""
    root = tmp_path / "mine"
    for split in ("train", "test"):
        clips = ClipDataset(simulated, split, n_future=28)
        write_split(root, split, [clips.clip(number) for number in range(clips.n_clips)])
    return root


def of(config: Config, root: Path, **data: object) -> Config:
    """The config on other data."""
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, root=root.as_posix(), **data)
    )


def test_the_last_recordings_are_held_out_said_and_stored(
    without_validate: Path, smoke: Config, tmp_path: Path
) -> None:
    lines: list[str] = []
    run = tmp_path / "run"
    train(of(smoke, without_validate), run, progress=False, report=lines.append)
    assert "held out to validate on: the last 1 of the 6 training clips" in "\n".join(lines)
    stored = Config.load(run / "config.json")
    assert stored.data.hold_out == 1
    learnt = ClipDataset.from_config(stored.data, "train")
    held_out = ClipDataset.from_config(stored.data, "validate")
    assert (learnt.n_clips, held_out.n_clips) == (5, 1)
    all_clips = ClipDataset(without_validate, "train")
    np.testing.assert_array_equal(held_out.clip(0).frames, all_clips.clip(5).frames)
    np.testing.assert_array_equal(learnt.clip(4).frames, all_clips.clip(4).frames)
    assert len(learnt) + len(held_out) == len(all_clips)  # no window is in both

    # A resume holds out the same clips, given the first config or the stored one.
    for config in (of(smoke, without_validate), stored):
        longer = dataclasses.replace(
            config, training=dataclasses.replace(config.training, epochs=2)
        )
        assert len(train(longer, run, resume=True, progress=False)) == 2


def test_a_validation_split_stays_what_it_is(simulated: Path, smoke: Config) -> None:
    assert with_validation(smoke) == smoke
    with pytest.raises(DataError, match="no split 'dev'"):
        train(of(smoke, simulated, validation_split="dev"), simulated / "run", progress=False)


def test_the_number_can_be_chosen_and_must_leave_clips(
    without_validate: Path, smoke: Config, tmp_path: Path
) -> None:
    chosen = of(smoke, without_validate, hold_out=2)
    assert ClipDataset.from_config(chosen.data, "train").n_clips == 4
    with pytest.raises(DataError, match="no clip of train is left"):
        train(of(smoke, without_validate, hold_out=6), tmp_path / "run", progress=False)


def test_one_recording_cannot_be_divided(
    without_validate: Path, smoke: Config, tmp_path: Path
) -> None:
    clip = ClipDataset(without_validate, "train", n_future=28).clip(0)
    shutil.rmtree(without_validate)
    write_split(without_validate, "train", [clip])
    with pytest.raises(DataError, match="where there is one recording, train with"):
        train(of(smoke, without_validate), tmp_path / "run", progress=False)
