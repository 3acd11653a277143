"""A run judged: its numbers, figures, GIFs and page; and one clip predicted."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from labkit.data.dataset import ClipDataset
from labkit.data.layout import write_clip
from labkit.errors import DataError, RunError
from labkit.learning import train
from labkit.results import evaluate_run, predict_clip


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory):
    import dataclasses

    from labkit.presets import SMOKE

    folder = tmp_path_factory.mktemp("runs") / "smoke"
    data = dataclasses.replace(SMOKE.data, root=simulated.as_posix())
    train(dataclasses.replace(SMOKE, data=data), folder, progress=False)
    return folder


def test_evaluate_run_writes_everything(run) -> None:
    evaluation = evaluate_run(run, clips=2, progress=False)
    assert evaluation.clips == 2
    names = {file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()}
    assert {
        "evaluation.json",
        "evaluation.npz",
        "report.html",
        "gifs/clip_0.gif",
        "figures/training.png",
        "figures/psnr.png",
        "figures/ssim.png",
        "figures/clip_1.png",
    } <= names
    assert not [name for name in names if "tmp" in name]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"{evaluation.psnr['prediction'].mean():.2f}" in page
    assert "--clips 2" in page


def test_a_missing_split_or_run_is_named(run, tmp_path) -> None:
    with pytest.raises(DataError, match="holdout"):
        evaluate_run(run, split="holdout", progress=False)
    with pytest.raises(RunError, match="no such run folder"):
        evaluate_run(tmp_path / "nothing", progress=False)


def test_predict_clip_writes_a_gif_of_all_frames(run, simulated, tmp_path) -> None:
    clip = ClipDataset(simulated, "test").clip(0)
    write_clip(tmp_path / "clip", clip)
    predict_clip(run, tmp_path / "clip", tmp_path / "out.gif")
    with Image.open(io.BytesIO((tmp_path / "out.gif").read_bytes())) as gif:
        assert gif.n_frames == 12
    (tmp_path / "clip" / "endeffector_positions.csv").unlink()
    with pytest.raises(DataError, match="no end-effector positions"):
        predict_clip(run, tmp_path / "clip", tmp_path / "out.gif")
