"""`labkit submit`: the zip of a student, what it lacks, and everything that can be in its way."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from labkit.cli import main
from labkit.config import Config
from labkit.course import submit as submit_module
from labkit.course.grade_zip import open_zip
from labkit.course.kernel_guard import MOST_OUTPUT
from labkit.course.manifest import read_manifest
from labkit.course.report_template import report_template
from labkit.course.rules import Rules
from labkit.course.submit import submit, zip_of
from labkit.course.submit_notebooks import execute
from labkit.errors import LabkitError
from labkit.presets import SMOKE
from labkit.reporting.evaluate_run import evaluate_run
from labkit.training import train

WORDS = "My model predicts the next frame from the last one. $\\log p(x) \\ge E_q[\\log p(x, z)]$"
CHINESE = "我們由前兩張畫面與機器手臂的動作,預測之後的十張畫面。"
CELLS = (
    "# %% a progress bar's name, the order of a set, an address: different in each execution\n"
    "import warnings\nfrom tqdm.auto import tqdm\n"
    "for i in tqdm(range(3)): pass\nwarnings.warn('careful')\n"
    "print({c for c in 'abcdefgh'}, object())",
    "def double(x):\n    return 2 * x",
)


def notebook(folder: Path, *cells: str, name: str = "01_mine.ipynb", check: str = "") -> Path:
    """A notebook of code cells; `check` is one more cell, an exercise's check of 3 points."""
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    if check:
        cell = nbformat.v4.new_code_cell(check)
        cell.metadata.nbgrader = {"grade": True, "grade_id": "check-double", "points": 3}
        book.cells.append(cell)
    folder.mkdir(exist_ok=True)
    nbformat.write(book, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def runs(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A cyclical run, trained in seconds and evaluated, and one that says it is monotonic."""
    place = tmp_path_factory.mktemp("runs")
    data = dataclasses.replace(SMOKE.data, root=simulated.as_posix())
    training = dataclasses.replace(SMOKE.training, updates_per_epoch=2)
    train(
        dataclasses.replace(SMOKE, data=data, training=training), place / "cyclical", progress=False
    )
    evaluate_run(
        place / "cyclical",
        protocol="course",
        samples=1,
        lpips=(),
        fvd=False,
        views=False,
        progress=False,
    )
    shutil.copytree(place / "cyclical", place / "monotonic")
    config = Config.load(place / "monotonic" / "config.json")
    config = dataclasses.replace(config, kl=dataclasses.replace(config.kl, schedule="monotonic"))
    config.save(place / "monotonic" / "config.json")
    return [place / "cyclical", place / "monotonic"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one notebook and a finished report with a picture of the student's."""
    folder = tmp_path_factory.mktemp("student")
    notebook(folder, *CELLS, check="assert double(4) == 8")
    report = report_template(Rules.load()).replace("<!-- write here -->", WORDS)
    report = report.replace(WORDS, f"{WORDS}\n\n![my sketch](my%20pictures/sketch.png)", 1)
    report = report.partition("## Extras")[0]
    (folder / "report.md").write_text(report, encoding="utf-8")
    (folder / "my pictures").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "my pictures" / "sketch.png")
    return folder


def hand_in(folder: Path, out: Path, **options):
    options = {"student_id": "0856123", "name": "Ming Wang", "progress": False, **options}
    return submit(notebooks=[folder], out=out, **options)


@pytest.fixture(scope="module")
def submitted(student: Path, runs: list[Path], tmp_path_factory: pytest.TempPathFactory):
    before = digests(student, *runs)
    made = hand_in(student, tmp_path_factory.mktemp("out"), runs=runs)
    assert digests(student, *runs) == before, "a file of the student's has changed"
    return made


def digests(*folders: Path) -> dict[Path, str]:
    return {
        file: hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_zip_has_everything_and_its_manifest_is_true(submitted, student: Path) -> None:
    assert submitted.missing == ()
    assert submitted.file.name == "DLP_LAB5_0856123_Ming_Wang.zip"
    assert [file.name for file in submitted.file.parent.iterdir()] == [submitted.file.name]
    opened = open_zip(submitted.file)
    assert opened.notes == []
    of_a_run = {
        "config.json",
        "model.safetensors",
        "history.csv",
        "curves.png",
        "psnr.png",
        "evaluation-course.json",
        "certificate.json",
        "certificate.png",
        *(f"strips/clip_{n}.png" for n in range(3)),
        *(f"gifs/clip_{n}.gif" for n in range(3)),
    }
    assert set(opened.entries) == {
        "manifest.json",
        "report.md",
        "report.pdf",
        "source/01_mine.ipynb",
        "source/01_mine.py",
        "html/01_mine.html",
        "report_files/own_1_sketch.png",
        *(
            f"report_files/{run}_{file}"
            for run in ("cyclical", "monotonic")
            for file in ("gif.gif", "strip.png", "curves.png", "psnr.png", "certificate.png")
        ),
        *(f"runs/{run}/{file}" for run in ("cyclical", "monotonic") for file in of_a_run),
    }
    manifest, sealed = read_manifest(opened.read("manifest.json"), submitted.file)
    assert sealed
    assert set(manifest.files) == set(opened.entries) - {"manifest.json"}
    assert opened.digests() == manifest.files
    assert (manifest.student_id, manifest.name) == ("0856123", "Ming Wang")
    assert [each.passed for each in manifest.exercises] == [True]
    assert [each.problem for each in manifest.notebooks] == [None]
    for record in manifest.runs:
        assert record.certificate["clean"] is True
        assert record.evaluation["protocol"].startswith("protocol course: 2 -> 10 frames")
        summary = json.loads(opened.read(f"runs/{record.name}/evaluation-course.json"))
        assert record.evaluation["psnr"] == pytest.approx(
            summary["psnr"]["prediction"]["mean"], abs=1e-3
        )
    assert [run.settings["kl"]["schedule"] for run in manifest.runs] == ["cyclical", "monotonic"]
    book = nbformat.reads(opened.read("source/01_mine.ipynb").decode(), as_version=4)
    assert "'a'" in "".join(each.get("text", "") for each in book.cells[0].outputs)
    assert "def double" in opened.read("source/01_mine.py").decode()
    assert b"http" not in opened.read("source/01_mine.py")


def test_the_report_of_the_zip_has_the_students_words_and_the_runs_figures(
    submitted, student
) -> None:
    with zipfile.ZipFile(submitted.file) as archive:
        report = archive.read("report.md").decode()
        names = set(archive.namelist())
        pdf = text_of(archive.read("report.pdf"))
    assert "](report_files/own_1_sketch.png)" in report
    for name in ("cyclical_gif.gif", "monotonic_strip.png", "cyclical_curves.png"):
        assert f"](report_files/{name})" in report
    assert {f"report_files/{n}" for n in ("own_1_sketch.png", "cyclical_gif.gif")} <= names
    own = submit_module.read_report(student / "report.md").text
    assert report.count(WORDS) == own.count(WORDS) == 5
    assert "| kl.schedule | cyclical | monotonic |" in report
    assert "protocol course: 2 -\\> 10 frames, free-running, one sample" in report
    for words in ("Ming Wang", "0856123", "My model predicts the next frame", "monotonic", "t=11"):
        assert words in pdf


def test_the_same_inputs_give_the_same_bytes(submitted, student, runs, tmp_path: Path) -> None:
    again = hand_in(student, tmp_path, runs=runs)
    assert again.file.read_bytes() == submitted.file.read_bytes()


def test_a_zip_has_no_times_and_keeps_its_order(tmp_path: Path) -> None:
    data = zip_of({"b.txt": b"b" * 1000, "a.png": b"a" * 1000})
    (tmp_path / "a.zip").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        first, second = archive.infolist()
    assert (first.filename, first.compress_type, first.date_time[0]) == ("b.txt", 8, 1980)
    assert (second.filename, second.compress_type) == ("a.png", 0)


def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is checked first must be refused before a notebook is executed."""

    def never(*arguments, **options):
        raise AssertionError("the long work has begun")

    monkeypatch.setattr(submit_module, "execute", never)
    monkeypatch.setattr(submit_module, "student_run", never)


def test_a_zip_is_never_overwritten_silently(student, tmp_path: Path, monkeypatch) -> None:
    there = tmp_path / "DLP_LAB5_0856123_Ming_Wang.zip"
    there.write_bytes(b"precious")
    with monkeypatch.context() as patched:
        no_work(patched)
        with pytest.raises(LabkitError, match=r"is already there \(move it away, or give --over"):
            hand_in(student, tmp_path)
    assert there.read_bytes() == b"precious"
    quick(monkeypatch)
    assert hand_in(student, tmp_path, overwrite=True).size == there.stat().st_size > 8


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks are not executed, their exercises not checked: other tests do that."""

    def read(file, **options):
        return submit_module.Notebook(file, submit_module.read_notebook(file))

    monkeypatch.setattr(submit_module, "execute", read)
    monkeypatch.setattr(submit_module, "check_notebooks", lambda *a, **k: [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"student_id": "12"}, "the student id is '12'"),
        ({"student_id": "../../etc"}, "the student id is"),
        ({"name": "Ming/Wang"}, "has the character '/'"),
        ({"name": "..\\Wang"}, r"has the character '\\\\'"),
        ({"name": " "}, "the name is empty"),
        ({"seconds": 0}, "the time limit is 0 seconds"),
        ({"language": "fr"}, "no language 'fr'"),
        ({"report": Path("none.md")}, r"none.md: there is no such report"),
        ({"rules_file": Path("none.toml")}, "none.toml"),
    ],
)
def test_bad_options_are_refused_before_any_work(student, tmp_path, monkeypatch, options, words):
    no_work(monkeypatch)
    with pytest.raises(LabkitError, match=words):
        hand_in(student, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_bad_notebooks_are_refused_before_any_work(tmp_path: Path, monkeypatch) -> None:
    no_work(monkeypatch)
    (tmp_path / "out").mkdir()
    with pytest.raises(LabkitError, match=r"has no notebooks such as 01_name.ipynb"):
        hand_in(tmp_path / "out", tmp_path / "out")
    with pytest.raises(LabkitError, match="cannot be read: No such file"):
        hand_in(tmp_path / "01_none.ipynb", tmp_path / "out")
    damaged = notebook(tmp_path, "1")
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(LabkitError, match=r"01_mine.ipynb: is not a readable notebook"):
        hand_in(tmp_path, tmp_path / "out")
    one, two = notebook(tmp_path / "a", "1"), notebook(tmp_path / "b", "1")
    with pytest.raises(LabkitError, match=r"there are two notebooks 01_mine.ipynb"):
        submit("0856123", "Ming", notebooks=[one, two], out=tmp_path / "out")


def test_check_only_lists_by_points_and_writes_nothing(tmp_path, monkeypatch, capsys) -> None:
    quick(monkeypatch)
    notebook(tmp_path, "1")
    monkeypatch.chdir(tmp_path)
    words = ["--student-id", "0856123", "--name", "Ming", "--no-progress"]
    assert main(["submit", *words]) == 2
    assert "report.md: there is no such report" in capsys.readouterr().err
    before = sorted(tmp_path.iterdir())
    assert main(["submit", *words, "--check-only"]) == 1
    said = capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before
    points = [line[:6].strip() for line in said.splitlines()[1:-1] if line[:6].strip()]
    said = " ".join(said.split())
    assert points == ["20", "15", "10", "10", "10", "5", "5", "5"]
    assert "20 PSNR on the test set: no evaluation by the course's protocol: no run is" in said
    assert "15 Discussion: there is no report" in said
    assert "no run with monotonic KL annealing and no cyclical KL annealing is handed in" in said
    assert "nothing was written" in said


def missing(made) -> dict[str, str]:
    return {each.where: each.what for each in made.missing}


def test_a_run_that_lacks_something_is_handed_in_and_named(student, runs, tmp_path, monkeypatch):
    quick(monkeypatch)
    bare = tmp_path / "my run"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(runs[0] / name, bare / name)
    config = json.loads((bare / "config.json").read_text())
    config["data"]["root"] = (tmp_path / "gone").as_posix()
    (bare / "config.json").write_text(json.dumps(config))
    made = hand_in(student, tmp_path / "out", runs=[bare])
    said = missing(made)
    assert f"labkit evaluate '{bare}' --protocol course" in said["PSNR on the test set"]
    assert f"labkit prove '{bare}'" in said["PSNR on the test set"]
    assert "has no evaluation" in said["Prediction of a test clip"]
    assert "has no history.csv, and so no curves" in said["Curves of the training"]
    assert "no run with monotonic KL annealing is handed in" in said["Discussion"]
    assert [each.points for each in made.missing] == [20, 15, 10, 5]
    assert "runs/my-run/model.safetensors" in open_zip(made.file)
    with pytest.raises(LabkitError, match=r"nothing: no such run folder"):
        hand_in(student, tmp_path / "out", runs=[tmp_path / "nothing"], overwrite=True)


def test_an_evaluation_of_other_weights_does_not_count(
    student, runs, tmp_path, monkeypatch
) -> None:
    quick(monkeypatch)
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    file = other / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    made = hand_in(student, tmp_path / "out", runs=[other, runs[1]], check_only=True)
    assert "the evaluation of other is of other weights" in missing(made)["runs"]


def test_a_failing_notebook_is_named_with_its_cell_and_still_handed_in(tmp_path: Path) -> None:
    notebook(tmp_path, "a = 1", "raise KeyError('b')", "print(a)", check="assert double(4) == 8")
    (tmp_path / "report.md").write_text("nothing yet", encoding="utf-8")
    made = hand_in(tmp_path, tmp_path / "out")
    assert missing(made)["01_mine.ipynb"] == "cell 2 raises KeyError: 'b'"
    assert missing(made)["exercise double of 01_mine.ipynb"].startswith("raises NameError")
    book = nbformat.reads(open_zip(made.file).read("source/01_mine.ipynb").decode(), as_version=4)
    assert book.cells[2].outputs[0].text == "1\n"


def test_endless_and_enormous_cells_end(tmp_path: Path) -> None:
    done = execute(
        notebook(tmp_path, "while True: print('x' * 100_000)", "print('on')"), seconds=60
    )
    assert done.problem == "cell 1 raises TooMuchOutput: more than 5,000,000 letters were printed"
    printed = "".join(each.get("text", "") for each in done.notebook.cells[0].outputs)
    assert MOST_OUTPUT < len(printed) < MOST_OUTPUT + 1000
    assert "cut off" in printed
    assert done.notebook.cells[1].outputs[0].text == "on\n"
    done = execute(notebook(tmp_path, "a = 1", "while True: pass"), seconds=2)
    assert done.problem == "cell 2 does not end within 2 seconds"


def test_a_full_disk_leaves_nothing(student, tmp_path: Path, monkeypatch) -> None:
    quick(monkeypatch)

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabkitError, match=r"cannot be written: No space left on device \(free"):
        hand_in(student, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_chinese_names_and_words_are_in_the_pdf(tmp_path, runs, monkeypatch) -> None:
    quick(monkeypatch)
    notebook(tmp_path, "1")
    report = report_template(Rules.load(), "zh-TW").replace("<!-- 請在此作答 -->", CHINESE)
    (tmp_path / "report.md").write_text(report, encoding="utf-8")
    made = hand_in(tmp_path, tmp_path / "out", name="王 小明", runs=runs)
    assert made.file.name == "DLP_LAB5_0856123_王_小明.zip"
    assert all("glyph" not in each.what for each in made.missing)
    data = open_zip(made.file).read("report.pdf")
    text = text_of(data)
    for words in ("王 小明", CHINESE[:10], "條件式變分自編碼器之影片預測", "測試影片"):
        assert words.replace(" ", "") in text.replace(" ", "")
    assert "Noto" in fonts_of(data)


def text_of(pdf: bytes) -> str:
    """The words of a PDF; a glyph that is not there has no letter."""
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf)
    try:
        pages = [page.get_textpage().get_text_bounded() for page in document]
    finally:
        document.close()
    return " ".join(" ".join(pages).split())


def fonts_of(pdf: bytes) -> str:
    """The names of embedded fonts, as they stand in the file."""
    return "Noto" if b"NotoSansCJK" in pdf else ""
