"""`labkit import`: from an old checkpoint to a run that the other commands take."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.cli import main
from labkit.config import Config
from labkit.training import load_model

sys.path.insert(0, str(Path(__file__).parent / "model"))
from public_model import N_PAST, Reference
from test_match_weights import MODELS, Choices, record


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> tuple[Path, Path]:
    """A student's checkpoint whose inputs are joined as chz, and its recorded frames."""
    folder = tmp_path_factory.mktemp("old")
    states, frames = record(MODELS["course"], folder, Choices("last_context", "chz"))
    beside = {"args": argparse.Namespace(n_past=2, n_future=3, lr=0.1), "epoch": 9}
    torch.save({**states, **beside}, folder / "model.pth")
    return folder / "model.pth", frames


def imported(capsys, *words: object) -> tuple[int, str, str]:
    code = main(["import", *map(str, words)])
    printed = capsys.readouterr()
    return code, " ".join(printed.out.split()), printed.err


def test_guesses_are_said(course, tmp_path, capsys) -> None:
    code, out, _ = imported(capsys, course[0], "--out", tmp_path / "run")
    assert code == 0
    assert "--skip svg guessed" in out
    assert "--order hcz guessed" in out
    assert "--condition-at previous guessed" in out
    assert "What is guessed may be wrong" in out
    assert "args, epoch" in out
    config = Config.load(tmp_path / "run" / "config.json")
    assert (config.model.skip, config.data.n_past, config.data.n_future) == ("svg", 2, 3)
    note = json.loads((tmp_path / "run" / "import.json").read_text())
    assert note["settings"]["order"] == {"value": "hcz", "how": "guessed"}


def test_what_is_given_is_taken_and_not_guessed(course, tmp_path, capsys) -> None:
    words = ["--skip", "last_context", "--order", "chz", "--condition-at", "previous"]
    code, out, _ = imported(capsys, course[0], "--out", tmp_path / "run", *words)
    assert code == 0
    assert "guessed" not in out
    model, _ = load_model(tmp_path / "run")
    arrays = np.load(course[1])
    frames = torch.from_numpy(arrays["frames"])
    made = model.predict(
        frames[:, :N_PAST],
        torch.from_numpy(arrays["condition"]),
        arrays["predicted"].shape[1],
        noise=torch.from_numpy(arrays["noise"]),
    )
    expected = torch.from_numpy(arrays["predicted"]).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_check_finds_the_combination(course, tmp_path, capsys) -> None:
    code, out, _ = imported(capsys, course[0], "--out", tmp_path / "run", "--check", course[1])
    assert code == 0
    assert "--skip last_context found by --check" in out
    assert "--order chz found by --check" in out
    assert "The recorded frames agree to" in out
    assert "guessed" not in out
    assert load_model(tmp_path / "run")[1].model.skip == "last_context"


def test_check_refuses_what_agrees_with_nothing(course, tmp_path, capsys) -> None:
    words = ["--check", course[1], "--order", "zch"]
    code, _, error = imported(capsys, course[0], "--out", tmp_path / "run", *words)
    assert code == 2
    assert "no combination gives the recorded frames; the nearest, skip" in error
    assert not (tmp_path / "run").exists()


def test_recordings_that_cannot_decide_are_said(tmp_path, capsys) -> None:
    """A context of one frame: its own skip features are those of the last context frame."""
    states, frames = record(MODELS["svg"], tmp_path, Choices("previous"))
    torch.save(states, tmp_path / "model.pth")
    words = ["--check", frames, "--n-future", 1]
    arrays = dict(np.load(frames))
    np.savez(frames, **{**arrays, "predicted": arrays["predicted"][:, :1]})
    code, out, _ = imported(capsys, tmp_path / "model.pth", "--out", tmp_path / "run", *words)
    assert code == 0
    assert "--skip last_context guessed: --check does not decide it" in out


def test_options_of_the_old_program_decide_the_skip(tmp_path, capsys) -> None:
    opt = argparse.Namespace(last_frame_skip=True, n_past=5, n_future="many")
    torch.save({**Reference(*MODELS["svg"]).states(), "opt": opt}, tmp_path / "model.pth")
    code, out, _ = imported(capsys, tmp_path / "model.pth", "--out", tmp_path / "run")
    assert code == 0
    assert "--skip previous from the options in the file" in out
    config = Config.load(tmp_path / "run" / "config.json")
    assert (config.data.condition, config.data.n_past, config.data.n_future) == ("none", 5, 10)


def test_mistakes_are_sentences_and_leave_nothing(course, tmp_path, capsys) -> None:
    out, file = tmp_path / "run", course[0]
    for words, message in (
        (["--order", "hc"], "give the letters h, c and z"),
        (["--n-past", "0"], "n_past is 0"),
        (["--check", tmp_path / "none.npz"], "none.npz: no such file"),
        (["--skip", "middle"], "skip"),
    ):
        code, _, error = imported(capsys, file, "--out", out, *words)
        assert code == 2, words
        assert message in error, words
        assert not out.exists()
    assert imported(capsys, tmp_path / "no.pth", "--out", out)[0] == 2
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    code, _, error = imported(capsys, file, "--out", out)
    assert code == 2
    assert "the folder is not empty" in error


def test_the_run_works_with_the_other_commands(simulated, tmp_path, capsys) -> None:
    """No history is needed."""
    torch.save(Reference(*MODELS["course"]).states(), tmp_path / "model.pth")
    runs = [tmp_path / "one", tmp_path / "two"]
    for run, skip in zip(runs, ("svg", "last_context"), strict=True):
        words = ["--skip", skip, "--data", simulated, "--n-future", 2]
        assert imported(capsys, tmp_path / "model.pth", "--out", run, *words)[0] == 0
        evaluate = ["evaluate", run, "--samples", 1, "--lpips", "none", "--no-progress"]
        assert main([str(word) for word in evaluate]) == 0
        assert (run / "report.html").is_file()
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "comparison")]) == 0
    assert main(["prove", str(runs[0]), "--clips", "2", "--no-progress"]) == 0
    main(["data", "simulate", str(tmp_path / "course"), "--layout", "course", "--train", "1",
          "--validate", "1", "--test", "1", "--workers", "1", "--no-progress"])  # fmt: skip
    clip = next((tmp_path / "course").rglob("0.png")).parent
    gif = tmp_path / "a.gif"
    assert main(["predict", str(runs[0]), str(clip), "--out", str(gif)]) == 0
    assert gif.is_file()


def test_a_run_of_the_lab_needs_no_import(tmp_path, capsys) -> None:
    run = tmp_path / "my run"
    torch.save(Reference(*MODELS["course"]).states(), tmp_path / "model.pth")
    assert imported(capsys, tmp_path / "model.pth", "--out", run)[0] == 0
    (run / "checkpoint.pt").write_bytes(b"any")
    for given in (run, run / "model.safetensors", run / "checkpoint.pt"):
        code, _, error = imported(capsys, given, "--out", tmp_path / "new")
        assert code == 2
        assert f"{given}: " in error
        assert "it needs no import" in error
        assert f"labkit evaluate '{run}'" in error
        assert f"labkit train --init-from '{run}' --out NEW" in error
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "model.safetensors").read_bytes())
    code, _, error = imported(capsys, alone, "--out", tmp_path / "new")
    assert code == 2
    assert "beside its config.json; labkit evaluate takes that folder" in error
    (tmp_path / "empty").mkdir()
    code, _, error = imported(capsys, tmp_path / "empty", "--out", tmp_path / "new")
    assert (code, "is not a regular file" in error) == (2, True)
