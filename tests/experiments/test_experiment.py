"""An experiment in smoke size: it trains, compares and answers; ended, it goes on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from labkit.cli import main
from labkit.training import read_history

ARMS = ("waiting", "none", "cyclical", "monotonic", "small-weight", "free-bits")


def words(data: Path, out: Path, *more: str, question: str = "annealing") -> list[str]:
    """A small experiment's command."""
    said = ["experiment", question, "--preset", "smoke", "--data", str(data), "--out", str(out)]
    return [*said, "--threads", "1", "--no-progress", *more]


EPOCHS = 14
LONG = ("--seeds", "1", "--epochs", str(EPOCHS), "--updates", str(EPOCHS))
SMALL = ("--seeds", "2", "--updates", "4", "--jobs", "2")


@pytest.fixture(scope="module")
def done(simulated, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("experiments") / "annealing"
    assert main(words(simulated, out, *SMALL)) == 0
    return out


def weights(out: Path) -> dict[str, int]:
    """When each run's weights were written."""
    return {
        str(each.relative_to(out)): each.stat().st_mtime_ns for each in out.rglob("*.safetensors")
    }


def test_annealing_is_asked_of_every_arm_with_every_seed(done) -> None:
    for arm in ARMS:
        for seed in (1, 2):
            assert read_history(done / arm / f"seed_{seed}")["updates"].tolist() == [2, 4]
    told = json.loads((done / "comparison.json").read_text(encoding="utf-8"))
    assert list(told["arms"]) == list(ARMS)
    pairs = [(pair["first"], pair["second"]) for pair in told["pairs"]]
    assert pairs == list(itertools.combinations(ARMS, 2))
    assert all(pair["psnr"]["seeds"] == 2 for pair in told["pairs"])
    assert all(pair["psnr"]["clips"] == 3 for pair in told["pairs"])
    mean = told["arms"]["none"]
    assert mean["psnr"]["mean"] == pytest.approx(sum(mean["each_psnr"]) / 2, abs=1e-3)
    assert set(mean) >= {"last_kl", "last_active_units", "posterior_gain", "best_gain", "ssim"}
    page = (done / "comparison.html").read_text(encoding="utf-8")
    for part in (
        "protocol frame",
        "2 seeds x 3 clips",
        "kl.schedule",
        "posterior",
        *told["answer"][0].split(" (")[:1],
        "labkit experiment annealing --preset smoke",
    ):
        assert part.lower() in page.lower(), part
    assert (done / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_given_again_it_trains_nothing_anew(done, simulated, capsys) -> None:
    before = weights(done)
    assert main(words(simulated, done, *SMALL)) == 0
    assert weights(done) == before
    printed = capsys.readouterr().out
    assert "12 of which are done" in printed
    assert "significant" in printed
    assert f"Look at {done / 'comparison.html'}" in printed


def test_other_settings_in_the_same_folder_are_refused_by_name(done, simulated, capsys) -> None:
    assert main(words(simulated, done, "--seeds", "2", "--updates", "6")) == 2
    assert "training.updates_per_epoch: 2 -> 3" in capsys.readouterr().err


def test_one_that_fails_is_told_and_the_others_go_on(done, simulated, tmp_path, capsys) -> None:
    out = tmp_path / "copy"
    shutil.copytree(done, out)
    broken, missing = out / "none" / "seed_2", out / "cyclical" / "seed_2"
    (broken / "history.csv").unlink()
    (broken / "checkpoint.pt").write_bytes(b"no checkpoint")
    (missing / "evaluation.json").unlink()
    before = weights(out)
    assert main(words(simulated, out, *SMALL)) == 1
    printed = capsys.readouterr().out
    assert "none, seed 2: failed" in printed
    assert "not a readable checkpoint" in printed
    assert "cyclical, seed 2: done" in printed
    assert weights(out) == before
    told = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert told["arms"]["none"]["seeds"] == [1]
    seeds = {(pair["first"], pair["second"]): pair["psnr"]["seeds"] for pair in told["pairs"]}
    assert all(found == (1 if "none" in pair else 2) for pair, found in seeds.items())
    assert "not a readable checkpoint" in (out / "comparison.html").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_killed_it_leaves_no_process_and_goes_on(simulated, tmp_path) -> None:
    """The parent is killed outright; its trainings notice, save and end; the same command
    finishes them from where they stood."""
    out = tmp_path / "prior"
    said = words(simulated, out, *LONG, "--jobs", "2", question="prior")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    parent = subprocess.Popen([sys.executable, "-m", "labkit", *said], **quiet)
    runs = [out / arm / "seed_1" for arm in ("learned", "fixed")]
    try:
        while not all((run / "history.csv").is_file() for run in runs):
            assert parent.poll() is None, "it ended by itself"
            time.sleep(0.02)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    for run in runs:  # held by a training for as long as it lives
        with FileLock(run.with_name(".seed_1.lock"), timeout=120):
            pass
    stood = {run: (run / "history.csv").read_text().splitlines() for run in runs}
    assert all(1 < len(rows) < 1 + EPOCHS for rows in stood.values()), (
        "they went on without the parent"
    )
    assert main(said) == 0
    for run in runs:
        rows = (run / "history.csv").read_text().splitlines()
        assert rows[: len(stood[run])] == stood[run]
        assert len(rows) == 1 + EPOCHS
        assert "from the beginning" not in (run / "log.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_ctrl_c_ends_it_in_one_line_and_saves(simulated, tmp_path, capsys) -> None:
    run = tmp_path / "prior" / "learned" / "seed_1"
    over = threading.Event()

    def press() -> None:
        while not (run / "history.csv").is_file() and not over.is_set():
            time.sleep(0.02)
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    presses = threading.Thread(target=press)
    presses.start()
    try:
        code = main(words(simulated, tmp_path / "prior", *LONG, "--jobs", "1", question="prior"))
    finally:
        over.set()
        presses.join()
    assert code == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "everything saved; the same command" in error
    with FileLock(run.with_name(".seed_1.lock"), timeout=0):
        assert "stopped by SIGTERM" in (run / "log.txt").read_text(encoding="utf-8")
    assert read_history(run)["epoch"][-1] < EPOCHS


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--seeds", "0"], "--seeds is 0"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--device", "mps"], "this machine has no mps device"),
        (["--clips", "0"], "--clips is 0"),
        (["--updates", "3"], "cannot be divided evenly among 2 epochs"),
        (["--protocol", "frmae"], "did you mean frame"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_begun(
    more, told, simulated, tmp_path, capsys
) -> None:
    assert main([*words(simulated, tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_question_is_refused(capsys) -> None:
    assert main(["experiment", "anealing"]) == 2
    error = capsys.readouterr().err
    assert "annealing" in error
    assert error.count("\n") == 1
    assert main(["experiment"]) == 2


def test_a_second_experiment_in_the_folder_is_refused(done, simulated, capsys) -> None:
    with FileLock(done / ".lock"):
        assert main(words(simulated, done, *SMALL)) == 2
    assert "another experiment is running" in capsys.readouterr().err


def test_a_file_is_no_folder_of_an_experiment(simulated, tmp_path, capsys) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert main(words(simulated, file, "--epochs", str(EPOCHS))) == 2
    assert "file: is a file (give the name of a folder)" in capsys.readouterr().err
    assert file.read_text() == "mine"
