"""`labkit grade`: what is wrong with a submission is said, the others are graded, and no code of a
submission runs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from submissions import Handed, SmallRun, notebook, raw_zip, report, scheduled

from labkit.cli import main
from labkit.course import grade_run, grade_zip
from labkit.course.grade import clips_of, grade
from labkit.course.grade_pages import feedback_page, index_page
from labkit.course.grade_run import RunResult, TestData
from labkit.course.grade_similarity import similarities
from labkit.course.grade_submission import Graded, Task, grade_submission, who_of
from labkit.course.grade_table import grades_csv
from labkit.course.handed_out import HandedOut, HandedOutNotebook, code_digest
from labkit.course.manifest import seal_of
from labkit.course.rules import Rules
from labkit.errors import LabkitError
from labkit.evaluation.protocol import find_protocol
from labkit.presets import SMOKE

RULES = Rules.load()
CODE = "def kl(mu_q, logvar_q):\n    return 0.5 * (mu_q**2 + logvar_q.exp() - logvar_q - 1).sum(-1)"
LONG_CODE = (
    CODE
    + "\n\ndef more(x):\n    squared = [value * value for value in x]\n"
    + ("    return sum(squared) / len(squared) - max(squared)")
)
HANDED = HandedOut(
    {"01_small": HandedOutNotebook({"kl": 2.0}, {"check-kl": code_digest("check(kl)")}, {"kl": ""})}
)


@pytest.fixture(scope="module")
def data(simulated: Path) -> TestData:
    return TestData(simulated)


@pytest.fixture(scope="module")
def run(simulated: Path, data: TestData, tmp_path_factory) -> SmallRun:
    config = dataclasses.replace(
        SMOKE, seed=4, data=dataclasses.replace(SMOKE.data, root=simulated.as_posix())
    )
    return SmallRun.make(config, data, tmp_path_factory.mktemp("run"))


@pytest.fixture
def graded(data: TestData, tmp_path: Path, monkeypatch) -> Callable[..., Graded]:
    """Grades one zip in this process, without the leak proof, which takes seconds and which the
    tests of the whole command run."""
    proof = SimpleNamespace(clean=True, headline="no leak found", convention="c_{t-1}")
    monkeypatch.setattr(grade_run, "prove", lambda *given: proof)

    def grade_zip_file(file: Path, handed: HandedOut = HandedOut()) -> Graded:  # noqa: B008
        task = Task(file, file.name, None, data, handed, tmp_path / "result.json", {}, "")
        return Graded.from_json(grade_submission(task).to_json().encode())

    return grade_zip_file


def runless(**options: object) -> Handed:
    return Handed(notebooks={"01_small": notebook({"kl": CODE})}, **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ an honest one


def test_an_honest_submission_is_measured_and_lacks_nothing(
    run: SmallRun, graded, tmp_path: Path
) -> None:
    check = "check(kl)  # the handed-out cell has the points here"
    book = json.loads(notebook({"kl": CODE, "check-kl": check}))
    book["cells"][-1]["metadata"]["nbgrader"].update(grade=True, solution=False)
    other = scheduled(run.changed(0.2), "monotonic")
    other = replace(other, evaluation=run.evaluation)
    handed = Handed(
        runs={"cyclical": scheduled(run, "cyclical"), "monotonic": other},
        notebooks={"01_small": json.dumps(book).encode()},
        exercises={"kl": True, "em": False},
    )
    result = graded(handed.write(tmp_path), HANDED)
    assert (result.student_id, result.name, result.problem) == ("s0001", "Ming Wang", "")
    assert result.notes == []
    assert result.missing == []
    first, second = result.runs
    assert first.measured == pytest.approx(run.psnr, abs=1e-3)
    assert first.findings == []
    assert first.clean
    assert first.convention == "c_{t-1}"
    assert len(first.per_step) == 10
    assert first.repeat_last == pytest.approx(
        float(run.evaluation.mean("psnr", "repeat_last").value), abs=1e-3
    )
    assert second.tensors_sha256 != first.tensors_sha256
    best = max(result.runs, key=lambda each: each.measured)
    assert result.best is best
    assert set(result.pictures) == {"cyclical", "monotonic"}
    assert [each.reached for each in result.claimed_exercises] == [2, 0]


def test_the_psnr_is_that_of_the_rules_protocol(run: SmallRun, data: TestData) -> None:
    frame = replace(data, protocol=find_protocol("frame")).dataset(run.config.data)
    assert (frame.n_past, frame.n_future) == (run.config.data.n_past, run.config.data.n_future)
    assert clips_of(data) != clips_of(replace(data, protocol=find_protocol("frame")))
    assert clips_of(data) != clips_of(replace(data, clips=2))


# ----------------------------------------------------------------------------- bad zips


def entry(name: str, mode: int = stat.S_IFREG) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (mode | 0o644) << 16
    return info


def bomb(declared: int) -> bytes:
    """A zip whose directory says that its one file, some zeros, has `declared` bytes."""
    data = bytearray(raw_zip({"manifest.json": bytes(1000)}))
    central = data.rindex(b"PK\x01\x02")
    data[central + 24 : central + 28] = declared.to_bytes(4, "little")
    return bytes(data)


BIG5 = raw_zip({"manifest.json": b"{}", "BIG5____.txt": b""})
BAD_ZIPS = {
    "path": (raw_zip({"../evil.py": b"x"}), "leads out of its folder"),
    "absolute": (raw_zip({"/etc/evil": b"x"}), "leads out of its folder"),
    "drive": (raw_zip({"C:\\evil": b"x"}), "leads out of its folder"),
    "link": (raw_zip({entry("link", stat.S_IFLNK): b"/etc/passwd"}), "is a link"),
    "device": (raw_zip({entry("dev", stat.S_IFCHR): b""}), "neither a file nor a folder"),
    "bomb": (bomb(4_200_000_000), "it would grow from"),
    "nested": (raw_zip({"DLP_LAB5_s1_x.zip": raw_zip({"a": b""})}), "it holds another zip"),
    "zeros": (b"", "the file is empty"),
    "empty": (raw_zip({}), "holds no files"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive with the name of a zip"),
    "half": (Handed().packed()[:300], "not a zip, or a part of one"),
    "no manifest": (raw_zip({"report.md": b"x"}), "holds no manifest.json"),
    "list": (raw_zip({"manifest.json": b"[]"}), "manifest.json cannot be used"),
    "deep": (raw_zip({"manifest.json": b"[" * 100_000}), "manifest.json cannot be used"),
    "types": (raw_zip({"manifest.json": b'{"format": 1, "name": 3}'}), "cannot be used"),
    "many": (raw_zip({f"{n}": b"" for n in range(5001)}), "5,001 entries"),
}


@pytest.mark.parametrize("case", BAD_ZIPS)
def test_a_zip_that_is_not_to_be_trusted_says_why(case: str, graded, tmp_path: Path) -> None:
    data, words = BAD_ZIPS[case]
    file = tmp_path / "DLP_LAB5_s0009_Bad_One.zip"
    file.write_bytes(data)
    result = graded(file)
    assert words in result.problem
    assert (result.student_id, result.name) == ("s0009", "Bad One")
    assert result.psnr_share(RULES) is None


def test_an_entry_that_holds_more_than_it_states_is_not_inflated(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(300_000_000))
    data = bytearray(stream.getvalue())
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = data.rindex(mark) + place
        data[start : start + 4] = (500).to_bytes(4, "little")
    file = tmp_path / "small.zip"
    file.write_bytes(data)
    opened = grade_zip.open_zip(file)
    tracemalloc.start()
    with pytest.raises(LabkitError, match="damaged"):
        opened.read("manifest.json")
    assert opened.digests() == {}
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["報告.txt", "\N{ROBOT FACE}.txt", "n" * 300, "a\u202egpj.txt"])
def test_strange_names_of_files_are_graded(name: str, graded, tmp_path: Path) -> None:
    result = graded(runless(files={name: b"x"}).write(tmp_path))
    assert result.problem == ""
    assert any("files that the manifest does not name" in note for note in result.notes)
    assert "\u202e" not in result.to_json()


def test_names_in_big5_are_read(tmp_path: Path) -> None:
    data = BIG5.replace(b"BIG5____", "報告檔案".encode("big5"))
    (tmp_path / "a.zip").write_bytes(data)
    assert "報告檔案.txt" in grade_zip.open_zip(tmp_path / "a.zip")


def test_a_folder_around_everything_does_no_harm(graded, tmp_path: Path) -> None:
    file = runless().write(tmp_path)
    with zipfile.ZipFile(file) as archive:
        inside = {f"folder/{name}": archive.read(name) for name in archive.namelist()}
    file.write_bytes(raw_zip({**inside, "__MACOSX/._x": b"junk", "folder/": b""}))
    result = graded(file)
    assert (result.problem, result.findings, result.notes) == ("", [], [])


# ----------------------------------------------------------------------------- bad weights


class Canary:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.write_text, (self.file, "code ran")


def one_run(run: SmallRun, **files: bytes) -> Handed:
    names = {"weights": "runs/a/model.safetensors", "config": "runs/a/config.json"}
    return Handed(runs={"a": run}, files={names[key]: data for key, data in files.items()})


def test_no_code_of_a_submission_runs(run: SmallRun, graded, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = pickle.dumps(Canary(canary))
    stream = io.BytesIO()
    torch.save({"x": Canary(canary)}, stream)
    line = f"open({str(canary)!r}, 'w').write('code ran')"
    book = notebook({"kl": line}, first=line)
    for number, weights in enumerate((evil, stream.getvalue())):
        handed = one_run(run, weights=weights)
        handed.notebooks["01_small"] = book
        handed.files |= {"source/conftest.py": line.encode(), "runs/a/checkpoint.pt": evil}
        result = graded(handed.write(tmp_path, f"DLP_LAB5_s0001_n{number}.zip"))
        assert "is a pickle, which can run code" in result.runs[0].problem
        assert any("checkpoint.pt, which may be a pickle" in note for note in result.notes)
    assert not canary.exists()


@pytest.mark.parametrize("first", [b"\x80", b"P", b"("])
def test_weights_whose_first_byte_is_that_of_a_pickle_are_weights(first: bytes) -> None:
    # A file of safetensors begins with the length of its header, which blanks may fill.
    data = safetensors.torch.save({"x": torch.zeros(1)})
    header = int.from_bytes(data[:8], "little")
    length = header + (first[0] - header) % 256
    padded = data[8 : 8 + header] + b" " * (length - header) + data[8 + header :]
    weights = length.to_bytes(8, "little") + padded
    assert weights[:1] == first
    assert torch.equal(safetensors.torch.load(weights)["x"], torch.zeros(1))
    grade_run.refuse_pickle(weights)
    with pytest.raises(LabkitError, match="is a pickle"):
        grade_run.refuse_pickle(pickle.dumps({"x": 1}))


def test_weights_of_another_architecture(run: SmallRun, graded, tmp_path: Path) -> None:
    model = dataclasses.replace(run.config.model, hidden_size=8)
    other = replace(run, config=dataclasses.replace(run.config, model=model))
    result = graded(Handed(runs={"a": other}).write(tmp_path))
    assert "the weights do not fit config.json" in result.runs[0].problem
    assert "runs" not in result.problem
    assert result.best is None
    assert result.psnr_share(RULES) == 0


ABSURD = {
    "field": ({"model": {"hidden_size": 10**12}}, "hidden_size"),
    "size": ({"model": {"width": 512, "hidden_size": 4096}}, "do not fit together"),
    "unknown": ({"model": {"exec": "x"}}, "exec"),
    "nan": ({"training": {"learning_rate": float("nan")}}, "learning_rate"),
}


@pytest.mark.parametrize("case", ABSURD)
def test_a_config_with_absurd_values(case: str, run: SmallRun, graded, tmp_path: Path) -> None:
    change, words = ABSURD[case]
    values = run.config.to_dict()
    for section, fields in change.items():
        values[section] |= fields
    config = json.dumps(values).encode()
    started = time.process_time()
    result = graded(one_run(run, config=config).write(tmp_path))
    assert words in result.runs[0].problem
    assert time.process_time() - started < 20
    deep = graded(one_run(run, config=b"[" * 100_000).write(tmp_path))
    assert "config" in deep.runs[0].problem


def test_damaged_weights_and_weights_that_are_not_numbers(
    run: SmallRun, graded, tmp_path: Path
) -> None:
    cut = graded(one_run(run, weights=run.weights[:-50]).write(tmp_path))
    assert "the weights do not fit" in cut.runs[0].problem
    nan = replace(run.changed(float("nan")), evaluation=run.evaluation)
    result = graded(Handed(runs={"a": nan}).write(tmp_path))
    assert result.runs[0].problem == "its predictions are not finite numbers"
    gone = Handed(runs={"a": run}, files={"runs/a/x": b""})
    file = gone.write(tmp_path)
    with zipfile.ZipFile(file) as archive:
        kept = {n: archive.read(n) for n in archive.namelist() if not n.endswith(".safetensors")}
    file.write_bytes(raw_zip(kept))
    result = graded(file)
    assert "it holds no runs/a/model.safetensors" in result.runs[0].problem
    assert any("not in the zip: runs/a/model.safetensors" in said for said in result.findings)


# ---------------------------------------------------------------------------------- cheats


def test_a_claim_above_what_the_weights_give(run: SmallRun, graded, tmp_path: Path) -> None:
    result = graded(Handed(runs={"a": run}, claims={"a": 26.0}).write(tmp_path))
    assert result.runs[0].measured == pytest.approx(run.psnr, abs=1e-3)
    (said,) = result.runs[0].findings
    assert "Claimed 26.00 dB" in said
    assert "these weights do not give the claimed PSNR" in said
    assert f"a: {said}" in result.findings


def test_a_run_whose_proof_is_not_clean_does_not_count(
    run: SmallRun, graded, tmp_path: Path, monkeypatch
) -> None:
    proof = SimpleNamespace(clean=False, headline="not clean: future frames", convention="c_t")
    monkeypatch.setattr(grade_run, "prove", lambda *given: proof)
    result = graded(Handed(runs={"a": run}).write(tmp_path))
    assert result.runs[0].measured is not None
    assert result.best is None
    (said,) = result.findings
    assert said == "a: The leak proof, run again on the weights: not clean: future frames."
    assert "No run counts" in feedback_page(result, RULES)


def test_the_posteriors_figure_claimed_is_called_a_leak() -> None:
    about = grade_run.about_the_claim
    assert about(20.05, 20.0, 24.0, True) == []
    (said,) = about(24.0, 20.0, 24.04, True)
    assert "which sees its target frame" in said
    assert "reads future frames (a leak)" in said
    (said,) = about(22.0, 20.0, 24.0, True)
    assert "do not give the claimed PSNR" in said
    assert about(21.0, 20.0, 24.0, False) == []
    (said,) = about(23.0, 20.0, 24.0, False)
    assert "the student's are others" in said
    (said,) = about(18.0, 20.0, 24.0, True)
    assert "the claim is of other weights" in said


def test_other_weights_than_those_that_were_packed(run: SmallRun, graded, tmp_path: Path) -> None:
    handed = one_run(run, weights=run.changed(0.1).weights)
    said = " ".join(graded(handed.write(tmp_path)).findings)
    assert "The weights are not those of the manifest" in said
    assert "Changed after labkit submit, by the manifest's digests: runs/a/model.safetens" in said


def test_a_manifest_edited_by_hand(graded, tmp_path: Path) -> None:
    def edit(values: dict) -> None:
        values["exercises"] = [{"exercise": "kl", "points": 1e9, "passed": True, "message": ""}]

    result = graded(runless().write(tmp_path, edit=edit))
    assert "The manifest.json was edited by hand: its seal does not fit." in result.findings
    assert result.claimed_exercises == []

    def sealed(values: dict) -> None:
        values["student_id"] = "s0777"
        values["seal"] = seal_of(values)

    result = graded(runless().write(tmp_path, edit=sealed))
    (said,) = result.findings
    assert "The file's name says student s0001, and the manifest says s0777" in said


def test_another_students_zip_under_a_new_name(tmp_path: Path, graded) -> None:
    file = runless(student_id="s0001").write(tmp_path)
    copy = tmp_path / "DLP_LAB5_s0002_Other.zip"
    copy.write_bytes(file.read_bytes())
    mine, theirs = graded(file), graded(copy)
    assert any("another student's zip under a new name" in said for said in theirs.findings)
    for result in (mine, theirs):
        result.zip_sha256 = "same"
    said = similarities([mine, theirs], HandedOut())
    assert said[copy.name] == [f"The same zip as s0001 ({file.name}): one is a copy of the other."]


def test_pictures_count_by_their_content_and_parts_by_their_text(
    run: SmallRun, graded, tmp_path: Path
) -> None:
    handed = one_run(run)
    handed.report = report(missing=("discussion", "introduction"))
    handed.files["runs/a/gifs/clip_0.gif"] = b"no GIF"
    handed.files["source/01_small.ipynb"] = b"{ not json"

    def nothing_is_missing(values: dict) -> None:
        values["missing"] = []

    result = graded(handed.write(tmp_path, edit=nothing_is_missing), HANDED)
    lacks = [(each.where, each.what, each.points) for each in result.missing]
    schedule = {"cyclical": "monotonic"}[run.config.kl.schedule]
    assert lacks == [
        ("discussion", "text", 15),
        ("discussion", schedule, 15),
        ("prediction", "gif", 10),
        ("introduction", "text", 5),
        ("notebook 01_small", "unreadable", 2),
    ]
    gone = graded(Handed(report="").write(tmp_path), HANDED)
    assert ("notebook 01_small", "notebook") in [(e.where, e.what) for e in gone.missing]
    assert ("psnr", "run") in [(e.where, e.what) for e in gone.missing]


def test_changed_checks_unwritten_code_and_the_instructors_solution(graded, tmp_path: Path) -> None:
    book = json.loads(notebook({"kl": f"# mine\n{LONG_CODE}", "check-kl": "pass"}))
    book["cells"][-1]["metadata"]["nbgrader"].update(grade=True, solution=False)
    given = HandedOutNotebook(
        {"kl": 2.0, "em": 3.0},
        {"check-kl": code_digest("check(kl)"), "check-em": ""},
        {"kl": code_digest(LONG_CODE), "em": ""},
    )
    handed = Handed(notebooks={"01_small": json.dumps(book).encode()})
    result = graded(handed.write(tmp_path), HandedOut({"01_small": given}))
    said = " ".join(result.findings)
    assert "the code of kl is the instructor's solution" in said
    assert "the check cell check-kl was changed" in said
    assert "check cells were deleted: check-em" in said
    assert ("exercise em", "unwritten", 3) in [(e.where, e.what, e.points) for e in result.missing]


# ------------------------------------------------------------------------------ similarity


def some_run(sketch: list[float], digest: str, seed: int = 1) -> RunResult:
    return RunResult(
        "a", tensors_sha256=digest, sketch=sketch, settings={"seed": seed, "model": {}}
    )


def test_similar_weights_code_and_texts_name_both_students() -> None:
    sketch = np.random.default_rng(1).normal(size=512)
    one = Graded("1.zip", "s1", runs=[some_run(list(sketch), "A")], zip_sha256="1")
    same = Graded("2.zip", "s2", runs=[some_run(list(sketch), "A")], zip_sha256="2")
    near = Graded("3.zip", "s3", runs=[some_run(list(sketch * 1.001), "B", 2)], zip_sha256="3")
    far = Graded("4.zip", "s4", runs=[some_run(list(sketch[::-1]), "C")], zip_sha256="4")
    said = similarities([one, same, near, far], HandedOut())
    assert "4.zip" not in said
    equal, nearly = said["1.zip"]
    assert equal.startswith("The same weights (a) as s2 (2.zip): the settings and the seed are the")
    assert "in honest work too" in equal
    assert nearly.startswith("Nearly the same weights (a) as s3 (3.zip): their settings or seeds")
    # What was handed out is no similarity, nor are two submissions of one student.
    assert similarities([one, same], HandedOut(runs={"A": "demo_run"})) == {}
    assert similarities([one, replace(same, student_id="s1")], HandedOut()) == {}


def test_similar_code_is_long_and_not_the_instructors() -> None:
    cells = {"book": {"em": ("D", 300), "kl": ("E", 20)}}
    one = Graded("1.zip", "s1", written=cells, texts={"model": "T"}, zip_sha256="1")
    two = Graded("2.zip", "s2", written=cells, texts={"model": "T"}, zip_sha256="2")
    code, text = similarities([one, two], HandedOut())["2.zip"]
    assert code.startswith("The same code of em in book as s1 (1.zip)")
    assert text.startswith("The same text in the report (model)")
    given = HandedOut({"book": HandedOutNotebook(solutions={"em": "D"})})
    assert len(similarities([one, two], given)["1.zip"]) == 1


# --------------------------------------------------------------------------- table and pages

EVIL = "<script>alert(1)</script>"


def evil() -> Graded:
    return Graded(
        f"{EVIL}.zip",
        "s0001",
        EVIL,
        runs=[
            RunResult(
                EVIL, 25.0, 24.999, per_step=[25.0], clean=True, proof=EVIL, protocol=EVIL,
                settings={"seed": EVIL, "kl": {"schedule": EVIL}},
            )
        ],
        findings=[EVIL],
        notes=[EVIL],
    )  # fmt: skip


def test_pages_escape_everything_and_feedback_names_nobody_else() -> None:
    result = evil()
    result.findings.append("The same weights as s0002 (other.zip)")
    counts = {result.file: True}
    page = index_page([result], counts, {result.file: "feedback/s0001.html"}, RULES, EVIL)
    feedback = [feedback_page(result, RULES, language) for language in ("en", "zh-TW")]
    for text in (page, *feedback):
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "http://" not in text
        assert "https://" not in text
    assert "s0002" in page
    assert "24.99" in page
    for text in feedback:
        assert "s0002" not in text
        assert "90 %" in text  # 24.999 dB is below 25
    assert '<html lang="zh-TW">' in feedback[1]


def test_the_table_is_read_by_spreadsheets_and_runs_no_formula() -> None:
    result = evil()
    result.name, result.problem, result.findings = "=1+1", "@SUM(A1)", ["-2 dB", "+x"]
    result.runs[0].measured = -3.149
    data = grades_csv(
        [result, Graded("小明.zip", "-5")], {result.file: True, "小明.zip": False}, RULES
    )
    assert data.startswith(b"\xef\xbb\xbf")
    head, row, other = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    cells = dict(zip(head, row, strict=True))
    assert cells["name"] == "'=1+1"
    assert cells["problem"] == "'@SUM(A1)"
    assert cells["findings"] == "'-2 dB +x"
    assert cells["psnr_measured_db"] == "-3.15"
    assert cells["introduction (of 5)"] == ""
    assert cells["counts"] == "yes"
    assert dict(zip(head, other, strict=True))["file"] == "小明.zip"


@pytest.mark.parametrize(
    ("file", "who"),
    [
        ("DLP_LAB5_s0001_Ming_Wang.zip", ("s0001", "Ming Wang")),
        ("DLP_LAB5_s0001_王小明 (2).ZIP", ("s0001", "王小明")),
        ("Ming_4711_assign_DLP_LAB5_s0001_M.zip", ("s0001", "M")),
        ("DLP_LAB5_s!_Ming.zip", None),
        ("LAB5_s0001_Ming.zip", None),
        ("DLP_LAB5_s0001_.zip", None),
        ("x.zip", None),
    ],
)
def test_whose_submission_a_files_name_says(file: str, who: tuple[str, str] | None) -> None:
    assert who_of(file, RULES) == who


# ------------------------------------------------------------------------------- the batch


def test_the_command_grades_what_it_can_and_goes_on_where_it_was(
    run: SmallRun, data: TestData, tmp_path: Path, capsys
) -> None:
    zips, out = tmp_path / "zips", tmp_path / "grades"
    (zips / "late").mkdir(parents=True)
    good = Handed("s0002", "小明", runs={"a": run}).write(zips)
    first = runless().write(zips)
    second = runless().write(zips / "late", f"{first.stem} (1).zip")
    (zips / "DLP_LAB5_s0003_Bad.zip").write_bytes(b"")
    stats = first.stat()
    os.utime(second, (stats.st_atime, stats.st_mtime + 60))
    words = ["grade", str(zips), "--data", str(data.root), "--out", str(out), "--no-progress"]
    words += ["--workers", "2", "--device", "cpu", "--clips", "2", "--language", "zh-TW"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "3 of 4 submissions are graded" in said
    assert "not graded: DLP_LAB5_s0003_Bad.zip: the file is empty" in said
    assert sorted(file.name for file in (out / "feedback").iterdir()) == [
        "s0001.html", "s0002.html", "s0003.html",
    ]  # fmt: skip
    assert "的評分回饋" in (out / "feedback" / "s0002.html").read_text(encoding="utf-8")
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "data:image/gif" in page
    assert "data:image/png" in page
    text = (out / "grades.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    by_file = {row["file"]: row for row in rows}
    assert by_file[first.name]["counts"] == "no"
    assert by_file[f"late/{second.name}"]["counts"] == "yes"
    assert "has 2 submissions" in by_file[first.name]["findings"]
    assert by_file[good.name]["psnr_measured_db"]
    assert by_file[good.name]["leak_proof"] == "no leak found"
    assert by_file["DLP_LAB5_s0003_Bad.zip"]["problem"]

    def graded_again() -> set[str]:
        before = {file: file.stat().st_mtime_ns for file in (out / "results").iterdir()}
        assert main(words) == 0
        capsys.readouterr()
        after = {file: file.stat().st_mtime_ns for file in (out / "results").iterdir()}
        return {file.name[:14] for file in after if after[file] != before.get(file)}

    table = (out / "grades.csv").read_bytes()
    assert graded_again() == set()
    assert (out / "grades.csv").read_bytes() == table
    # A damaged result and a changed zip are graded again, and nothing else.
    result = next((out / "results").glob("DLP_LAB5_s0001_Ming_Wang-[0-9a-f]*"))
    result.write_text(result.read_text(encoding="utf-8")[:100], encoding="utf-8")
    (zips / "DLP_LAB5_s0003_Bad.zip").write_bytes(b"still no zip")
    assert graded_again() == {"DLP_LAB5_s0001", "DLP_LAB5_s0003"}


def test_a_submission_that_takes_too_long_or_too_much_is_ended_and_the_rest_graded(
    run: SmallRun, data: TestData, tmp_path: Path
) -> None:
    zips = tmp_path / "zips"
    zips.mkdir()
    Handed(runs={"a": run}).write(zips)
    (zips / "DLP_LAB5_s0003_Bad.zip").write_bytes(b"")
    options = {"out": tmp_path / "out", "progress": False, "workers": 1}
    done = grade(zips, data, minutes=0.001, **options)
    assert {each.problem for each in done.results} >= {"it was not graded within 0.001 minutes"}
    # It is tried again, and the process that was ended left nothing behind.
    if sys.platform.startswith("linux"):
        done = grade(zips, data, gigabytes=0.3, **options)
        bad, small = sorted(done.results, key=lambda each: each.student_id, reverse=True)
        assert bad.problem.startswith("the file is empty")
        assert "memory" in small.problem + "".join(each.problem for each in small.runs)


def test_a_killed_grading_goes_on(data: TestData, tmp_path: Path) -> None:
    zips, out = tmp_path / "zips", tmp_path / "out"
    zips.mkdir()
    for number in range(4):
        runless(student_id=f"s000{number}").write(zips)
    code = "import sys; from labkit.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "grade", str(zips), "--data", str(data.root)]
    words += ["--out", str(out), "--workers", "1", "--device", "cpu", "--no-progress"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if len(list((out / "results").glob("[!.]*.json"))) >= 1 or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    kept = len(list((out / "results").glob("[!.]*.json")))
    assert kept >= 1
    done = grade(zips, data, out=out, progress=False)
    assert done.reused >= kept
    assert done.failed == 0
    assert len(list((out / "feedback").iterdir())) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "none"], "none"),
        (["--split", "other"], "other"),
        (["--minutes", "0"], "--minutes is 0"),
        (["--rules", "none.toml"], "none.toml: cannot be read"),
    ],
)
def test_what_the_instructor_gets_wrong_is_one_sentence(
    options: list[str], words: str, data: TestData, tmp_path: Path, capsys
) -> None:
    (tmp_path / "zips").mkdir()
    runless().write(tmp_path / "zips")
    command = ["grade", str(tmp_path / "zips"), "--data", str(data.root), "--no-progress"]
    assert main([*command, "--out", str(tmp_path / "out"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "grades.csv").exists()


def test_a_folder_without_zips(data: TestData, tmp_path: Path) -> None:
    with pytest.raises(LabkitError, match="holds no zip"):
        grade(tmp_path, data)
    with pytest.raises(LabkitError, match="no such folder"):
        grade(tmp_path / "none", data)
