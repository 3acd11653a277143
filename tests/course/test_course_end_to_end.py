"""A scripted student goes the whole way: hand-out, exercises, check, training, submit, grade.
A cheat hands in too, whose code nbgrader runs."""

from __future__ import annotations

import csv
import inspect
import io
import json
import shutil
from pathlib import Path

import nbformat
import pytest
import solutions

from labkit.cli import main
from labkit.course.handout import NOTEBOOKS, hand_out
from labkit.course.rules import DEFAULT, Rules

EXERCISES = {"kl-gaussian": "01_elbo_derivation", "reparameterize": "03_model"}
FIRST = """import torch
from labkit.course.checks import check_kl_gaussian, check_reparameterize"""
WORDS = "The model predicts the next frame from the last one and the action of the robot. " * 2
CONSTANT = "def kl_gaussian(mu_q, logvar_q, mu_p, logvar_p):\n    return torch.ones(len(mu_q))"
FROM_PACKAGE = """from labkit.model.gaussian import Gaussian

def reparameterize(mu, logvar):
    return Gaussian(mu, logvar).sample()"""


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    """One short notebook of two of the lab's exercises, with the instructor's solutions."""
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(FIRST)]
    for name, source in EXERCISES.items():
        lab = nbformat.read(NOTEBOOKS / f"{source}.ipynb", as_version=4)
        for cell in lab.cells:
            mark = cell.metadata.get("nbgrader", {}).get("grade_id")
            if mark in (name, f"check-{name}"):
                book.cells.append(cell)
    assert len(book.cells) == 5
    folder = tmp_path / "lab"
    folder.mkdir()
    nbformat.write(book, folder / "01_short.ipynb")
    return folder


def filled_in(file: Path, answers: dict[str, str]) -> None:
    """Writes a student's answers into the notebook."""
    book = nbformat.read(file, as_version=4)
    for cell in book.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            assert "YOUR CODE HERE" in cell.source
            cell.source = answers[name]
    nbformat.write(book, file)


def written(report: Path) -> None:
    """A report with the student's words in each part but the extras."""
    text = report.read_text(encoding="utf-8")
    keys = [part.key for section in Rules.load().report for part in section.parts]
    for key in keys:
        mark = f"<!-- part: {key} -->"
        assert mark in text
        text = text.replace(mark, f"{mark}\n\n{WORDS} $x = y$ ({key})\n")
    report.write_text(text, encoding="utf-8")


def test_from_the_handout_to_the_grade(
    notebooks: Path, simulated: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    # A small untrained model has about 15 dB, so this course asks for less.
    rules = tmp_path / "rules.toml"
    text = DEFAULT.read_text(encoding="utf-8")
    table = next(line for line in text.splitlines() if line.startswith("psnr = "))
    rules.write_text(text.replace(table, "psnr = [[40.0, 100], [5.0, 60]]"), encoding="utf-8")
    hand_out(tmp_path / "out", rules_file=rules, notebooks=notebooks)

    handed_in = tmp_path / "handed_in"
    handed_in.mkdir()
    right = {
        "kl-gaussian": inspect.getsource(solutions.kl_gaussian),
        "reparameterize": inspect.getsource(solutions.reparameterize),
    }
    cheats = {"kl-gaussian": CONSTANT, "reparameterize": FROM_PACKAGE}
    for name, answers in {"honest": right, "cheat": cheats}.items():
        desk = tmp_path / name
        shutil.copytree(tmp_path / "out" / "student", desk)
        filled_in(desk / "01_short.ipynb", answers)
    desk = tmp_path / "honest"
    written(desk / "report.md")
    monkeypatch.chdir(desk)
    assert main(["check"]) == 0
    assert "2 of 2 exercises pass: 4 of 4 points" in capsys.readouterr().out
    # In one epoch both schedules have the weight 0; with one seed the runs would be the same.
    common = ["--data.root", str(simulated), "--training.epochs", "1", "--device", "cpu"]
    for seed, schedule in (("1", "cyclical"), ("2", "monotonic")):
        words = ["train", "smoke", "--kl.schedule", schedule, "--out", f"runs/{schedule}"]
        assert main([*words, *common, "--seed", seed, "--no-tensorboard", "--no-progress"]) == 0
        words = ["evaluate", f"runs/{schedule}", "--protocol", "course", "--lpips", "none"]
        assert main([*words, "--samples", "1", "--device", "cpu", "--no-progress"]) == 0
    submit = ["submit", "--student-id", "s0001", "--name", "王小明", "--out", str(handed_in)]
    submit += ["--run", "runs/cyclical", "runs/monotonic", "--device", "cpu", "--no-progress"]
    assert main(submit) == 0
    monkeypatch.chdir(tmp_path / "cheat")
    submit = ["submit", "--student-id", "s0002", "--name", "Eve", "--out", str(handed_in)]
    main([*submit, "--device", "cpu", "--no-progress"])
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    grade = ["grade", "handed_in", "--data", str(simulated), "--rules", str(rules)]
    grade += ["--notebooks", str(notebooks), "--run-exercises", "--workers", "1"]
    assert main([*grade, "--device", "cpu", "--no-progress"]) == 0
    said = capsys.readouterr().out
    assert "this is no sandbox" in said
    assert "2 of 2 submissions are graded" in said
    table = (tmp_path / "grades" / "grades.csv").read_bytes().decode("utf-8-sig")
    honest, cheat = csv.DictReader(io.StringIO(table, newline=""))
    assert (honest["student_id"], honest["name"]) == ("s0001", "王小明")
    assert honest["problem"] == ""
    assert honest["findings"] == ""
    assert honest["missing"] == ""
    claimed = float(honest["psnr_claimed_db"])
    assert float(honest["psnr_measured_db"]) == pytest.approx(claimed, abs=0.02)
    assert honest["psnr_share_percent"] == "60"
    assert honest["psnr (of 20)"] == "12"
    assert honest["leak_proof"] == "no leak found"
    assert (honest["exercises_run"], honest["exercises_of"]) == ("4", "4")
    assert (cheat["exercises_run"], cheat["psnr (of 20)"]) == ("0", "0")
    (result,) = (tmp_path / "grades" / "results").glob("*s0001*.json")
    assert json.loads(result.read_bytes())["notes"] == []
