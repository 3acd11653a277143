"""Callbacks of a training: the progress bar, and TensorBoard's file read by its own reader."""

from __future__ import annotations

import dataclasses
import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labkit.errors import LabkitError, RunError
from labkit.evaluation.sources import SOURCES
from labkit.training import EpochRow, read_history
from labkit.training.callbacks import Advice
from labkit.training.events import Callback, EpochEnd, Examples, Update
from labkit.training.history import HISTORY, LATER, write_history
from labkit.training.latent_use import LatentUse
from labkit.training.progress_bar import ProgressBar, line
from labkit.training.tensorboard import EPOCH_TAGS, TensorBoard, strips
from labkit.views import LiveFigure

CLIPS = 12


def update(number: int) -> Update:
    return Update(
        number=number,
        total=40,
        epoch=(number - 1) // 10,
        epochs=4,
        values={"loss": 0.5 / number, "reconstruction": 0.01, "kl": 2.0, "gradient_norm": 3.0},
        schedule={"kl_weight": 0.25, "teacher_forcing_ratio": 0.75, "learning_rate": 0.001},
        clips=CLIPS,
    )


def row(epoch: int, psnr: float | None = 20.0) -> EpochRow:
    values = {
        "epoch": epoch,
        "updates": 10 * epoch,
        "loss": 0.5 / epoch,
        "reconstruction": 0.01,
        "kl": 2.0,
        "validation_psnr": psnr,
        "kl_weight": 0.25,
        "teacher_forcing_ratio": 0.75,
        "learning_rate": 0.001,
        "seconds": 1.0,
        "gradient_norm": 3.0 + epoch,
        "active_units": None if psnr is None else 2,
        "posterior_gain": None if psnr is None else 1.5,
    } | {f"{name}_share": None if psnr is None else 0.125 for name in SOURCES}
    return EpochRow(**{item.name: values[item.name] for item in dataclasses.fields(EpochRow)})


def examples() -> Examples:
    """Every frame of one brightness: 10, 20, .. in truth, and 5 more in the prediction."""
    levels = 10 * np.arange(1, 6, dtype=np.uint8)
    truth = np.broadcast_to(levels[None, :, None, None, None], (2, 5, 3, 8, 8))
    return Examples(truth, truth + np.uint8(5), n_past=2)


def epoch_end(epoch: int) -> EpochEnd:
    latents = LatentUse(torch.tensor([[0.5, 0.0], [1.0, 0.25]]), torch.tensor([1.0, 0.0]), 1.5)
    return EpochEnd([row(each) for each in range(1, epoch + 1)], 21.0, latents, examples())


def test_all_of_them_are_callbacks(tmp_path: Path) -> None:
    for each in (ProgressBar(), TensorBoard(tmp_path), Advice(print), LiveFigure()):
        assert isinstance(each, Callback)
        each.close()  # a training may end before its first update


# ------------------------------------------------------------------------------------ the bar


def test_the_line_says_what_there_is_to_see() -> None:
    shown = line(update(10), "21.3 dB", rate=2.5)
    assert shown == {
        "epoch": "1/4",
        "loss": "0.05",
        "MSE": "0.01",
        "KL": "2.00",
        "PSNR": "21.3 dB",
        "beta": "0.25",
        "teacher": "0.75",
        "clips/s": "30",
    }
    assert line(update(10), "-", rate=None)["clips/s"] == "-"


def test_the_bar_goes_on_where_the_training_does(capsys: pytest.CaptureFixture) -> None:
    bar = ProgressBar()
    for number in (31, 32):
        bar.on_update(update(number))
    bar.on_update(update(33))
    bar.on_epoch(EpochEnd([row(4)], 21.0))
    assert bar.bar.n == 33
    assert bar.bar.total == 40
    bar.close()
    said = capsys.readouterr().err
    assert "33/40" in said
    assert "PSNR=20.00 dB (best 21.00)" in said


def test_an_epoch_that_was_not_validated_keeps_the_last_psnr() -> None:
    bar = ProgressBar()
    bar.on_epoch(EpochEnd([row(1)], 20.0))
    bar.on_epoch(EpochEnd([row(1), row(2, psnr=None)], 20.0))
    assert bar.psnr.startswith("20.00 dB")


# -------------------------------------------------------------------------------- TensorBoard


def written(run: Path):
    """What TensorBoard itself reads of a run."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(run / "tensorboard"), size_guidance={reader.IMAGES: 0})
    return found.Reload()


def record(run: Path, first: int, last: int) -> None:
    """A training of epochs `first` .. `last` of ten updates, recorded by TensorBoard."""
    board = TensorBoard(run)
    for epoch in range(first, last + 1):
        for number in range(10 * epoch - 9, 10 * epoch + 1):
            board.on_update(update(number))
        board.on_epoch(epoch_end(epoch))
    board.close()


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    record(tmp_path, 1, 2)
    found = written(tmp_path)
    for name, tag in EPOCH_TAGS.items():
        points = found.Scalars(tag)
        assert [point.step for point in points] == [10, 20]
        assert points[1].value == pytest.approx(vars(row(2))[name])
    assert [p.value for p in found.Scalars("latent_kl_per_step/t02")] == pytest.approx([1.25] * 2)
    assert [p.step for p in found.Scalars("update/gradient_norm")] == [10, 20]
    assert "latent/kl_per_unit" in found.Tags()["histograms"]
    picture = np.asarray(
        Image.open(io.BytesIO(found.Images("validation/clip_1")[0].encoded_image_string))
    )
    assert np.array_equal(picture, strips(examples())[1])


def test_an_epoch_without_a_validation_has_no_point(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.on_update(update(1))
    board.on_epoch(EpochEnd([row(1, psnr=None)], -math.inf))
    board.close()
    tags = written(tmp_path).Tags()
    assert "train/loss" in tags["scalars"]
    assert not any(tag.startswith(("validation", "latent")) for tag in tags["scalars"])
    assert not tags["images"]


def test_a_resumed_training_removes_what_it_does_again(tmp_path: Path) -> None:
    record(tmp_path, 1, 3)
    record(tmp_path, 3, 4)  # the checkpoint was that of epoch 2
    assert [point.step for point in written(tmp_path).Scalars("train/loss")] == [10, 20, 30, 40]


def test_without_tensorboard_there_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(LabkitError, match="not installed") as caught:
        TensorBoard(tmp_path)
    assert "--no-tensorboard" in caught.value.hint


def test_a_strip_has_truth_above_and_a_gap_after_the_context() -> None:
    one = strips(examples())[0]
    assert one.shape == (8 + 2 + 8, 5 * 8 + 4 * 2 + 4, 3)
    middle, below = one[4, :, 0], one[14, :, 0]
    assert [middle[left + 4] for left in (0, 10, 24, 34, 44)] == [10, 20, 30, 40, 50]
    assert [below[left + 4] for left in (0, 10, 24, 34, 44)] == [15, 25, 35, 45, 55]
    assert (one[:, 18:24] == 255).all()  # after frame 1, the last of the context
    assert (one[8:10] == 255).all()


# -------------------------------------------------------------------------------- the history


def test_a_history_reads_back_with_its_new_columns(tmp_path: Path) -> None:
    write_history(tmp_path, [row(1), row(2, psnr=None)])
    found = read_history(tmp_path)
    assert found["gradient_norm"].tolist() == [4.0, 5.0]
    assert found["active_units"][0] == 2
    assert np.isnan(found["active_units"][1])
    assert np.isnan(found["posterior_gain"][1])
    assert found["arm_share"][0] == 0.125
    assert np.isnan(found["arm_share"][1])


def test_an_older_history_reads_with_nan_for_what_it_lacks(tmp_path: Path) -> None:
    write_history(tmp_path, [row(1), row(2)])
    file = tmp_path / HISTORY
    lines = [text.split(",") for text in file.read_text().splitlines()]
    kept = [i for i, name in enumerate(lines[0]) if name not in LATER]
    file.write_text("".join(",".join(text[i] for i in kept) + "\n" for text in lines))
    found = read_history(tmp_path)
    assert found["loss"].tolist() == [0.5, 0.25]
    for name in LATER:
        assert np.isnan(found[name]).tolist() == [True, True]


def test_a_history_without_its_loss_is_none(tmp_path: Path) -> None:
    write_history(tmp_path, [row(1)])
    file = tmp_path / HISTORY
    file.write_text(file.read_text().replace("loss", "lost", 1))
    with pytest.raises(RunError, match="not a training history"):
        read_history(tmp_path)
