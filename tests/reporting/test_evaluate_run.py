"""A run evaluated: numbers, figures, GIFs and page; and one clip predicted."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from labkit.cli import main
from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.data.layout import write_clip
from labkit.data.pack import write_pack
from labkit.data.simulator import simulate_pack
from labkit.errors import DataError, LabkitError, RunError
from labkit.evaluation import Evaluation
from labkit.presets import SMOKE
from labkit.reporting.evaluate_run import evaluate_run
from labkit.reporting.predict_clip import predict_clip
from labkit.reporting.run_files import evaluation_file
from labkit.training import train
from labkit.views import png_bytes


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    data = dataclasses.replace(SMOKE.data, root=simulated.as_posix())
    train(dataclasses.replace(SMOKE, data=data), folder, progress=False)
    return folder


def test_evaluate_run_writes_everything(run) -> None:
    evaluation = evaluate_run(run, samples=2, progress=False)
    assert evaluation.clips == 3
    assert evaluation.report == run / "report.html"
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
    assert "labkit evaluate" in page
    assert "--samples 2" in page
    assert "moved objects" in page
    assert f"[{evaluation.mean('psnr').low:.2f}, {evaluation.mean('psnr').high:.2f}]" in page
    again = Evaluation.load(evaluation_file(run))
    assert set(again.made_with) == {"config", "weights"}
    assert again.seed == Config.load(run / "config.json").seed


def test_the_report_shows_the_certificate_of_these_weights_alone(run) -> None:
    (run / "certificate.png").write_bytes(png_bytes(np.zeros((8, 8, 3), np.uint8)))
    digest = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    for weights, shown in ((digest, True), ("of others", False)):
        told = {"weights_sha256": weights, "verdict": "no leak found"}
        (run / "certificate.json").write_text(json.dumps(told), encoding="utf-8")
        page = evaluate_run(run, clips=1, samples=1, lpips=(), progress=False).report.read_text(
            encoding="utf-8"
        )
        assert ("Certificate: no leak found" in page) == shown
        assert ("labkit prove for these weights: no leak found" in page) == shown
        assert ("not examined for these weights" in page) != shown


def test_the_command_prints_the_table_and_protocols_lie_side_by_side(run, capsys) -> None:
    (run / "evaluation.json").write_text("of frame", encoding="utf-8")
    words = ["evaluate", str(run), "--protocol", "best-of-2", "--no-progress"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Protocol best-of-2: 2 -> 10 frames, free-running, best of 2 samples")
    for part in (
        "best of 2, chosen by the truth",
        "one sample",
        "repeat last frame",
        "mean of the prior",
        "moved objects",
        "  t = 11",
        "Diversity of 2 samples",
        "positions added up from the actions",
        "report-best-of-2.html",
    ):
        assert part in printed, part
    assert "which are known only after the step" in " ".join(printed.split())
    assert "The course's table" not in printed  # it is for BAIR's test split
    assert (run / "evaluation.json").read_text(encoding="utf-8") == "of frame"
    assert Evaluation.load(evaluation_file(run, "best-of-2")).best_of == 2
    assert (run / "report-best-of-2.html").is_file()
    assert (run / "figures" / "psnr-best-of-2.png").is_file()
    assert "--protocol best-of-2" in (run / "report-best-of-2.html").read_text(encoding="utf-8")


def test_a_missing_split_or_run_is_named(run, tmp_path) -> None:
    with pytest.raises(DataError, match="holdout"):
        evaluate_run(run, split="holdout", progress=False)
    with pytest.raises(RunError, match="no such run folder"):
        evaluate_run(tmp_path / "nothing", progress=False)


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """Clips of 12 frames, of 32 x 32 pixels, and without positions, each in a pack."""
    root = tmp_path_factory.mktemp("others")
    simulate_pack(root / "whole", 0, {"test": 1}, workers=0, progress=False)
    clip = ClipDataset(root / "whole", "test").clip(0)
    first = {
        kind: getattr(clip, kind)[:12] for kind in ("frames", "actions", "positions", "labels")
    }
    packs = {
        "short": dataclasses.replace(clip, **first),
        "small": dataclasses.replace(
            clip, frames=np.ascontiguousarray(clip.frames[..., ::2, ::2]), labels=None
        ),
        "bare": dataclasses.replace(clip, positions=None),
    }
    for name, changed in packs.items():
        write_pack(root / name, {"test": [changed]}, name)
    return root


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--clips 0", "clips is 0"),
        ("--samples 0", "samples is 0"),
        ("--protocol best-of-101", "N is from 2 to 100"),
        ("--protocol frmae", "did you mean frame"),
        ("--protocol svg", "models without a condition"),
        ("--protocol course --windows all", "first frames of each clip alone"),
        ("--protocol long --data short", "needs clips of 30 frames (2 -> 28)"),
        ("--data small", "32 x 32 pixels, and the model expects 64 x 64"),
        ("--data bare", "no end-effector positions, which the run was trained with"),
        ("--data nowhere", "nowhere"),
        ("--split holdout", "holdout"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_all_as_it_was(
    run, other_data, options, words, capsys
) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    given = options.split()
    if "--data" in given:
        given[-1] = str(other_data / given[-1])
    assert main(["evaluate", str(run), *given, "--no-progress"]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_run_without_weights_is_named(run, tmp_path, capsys) -> None:
    shutil.copy(run / "config.json", tmp_path / "config.json")
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "has no model.safetensors (let it finish an epoch first)" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_predict_clip_writes_a_gif_of_all_frames(run, simulated, tmp_path) -> None:
    clip = ClipDataset(simulated, "test").clip(0)
    write_clip(tmp_path / "clip", clip)
    predict_clip(run, tmp_path / "clip", tmp_path / "out.gif")
    with Image.open(io.BytesIO((tmp_path / "out.gif").read_bytes())) as gif:
        assert gif.n_frames == 12
    with pytest.raises(DataError, match=r"nowhere: no such folder \(give the folder of a clip"):
        predict_clip(run, tmp_path / "nowhere", tmp_path / "out.gif")
    (tmp_path / "clip" / "endeffector_positions.csv").unlink()
    with pytest.raises(LabkitError, match="no end-effector positions"):
        predict_clip(run, tmp_path / "clip", tmp_path / "out.gif")
