"""Submissions for the tests of the grader, made in no time: a small run that was not trained, one
notebook, a report, and whatever a test changes in them."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
import torch
from safetensors.torch import load, save

from labkit.config import Config
from labkit.course.grade_run import TestData
from labkit.course.manifest import (
    ExerciseRecord,
    Manifest,
    NotebookRecord,
    RunRecord,
    clips_digest,
    sha256,
    versions,
)
from labkit.course.rules import DEFAULT
from labkit.course.submit import zip_of
from labkit.evaluation import Evaluation, evaluate
from labkit.evaluation.protocol import COURSE
from labkit.model import VideoCVAE
from labkit.training.checkpoint import save_model

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
GIF = b"GIF89a" + bytes(20)
WORDS = "I trained both models and compared what they predict at every step of the clips. " * 3


@dataclass
class SmallRun:
    """A run as files, with its evaluation."""

    config: Config
    weights: bytes
    evaluation: Evaluation

    @staticmethod
    def make(config: Config, data: TestData, folder: Path) -> SmallRun:
        """A model with random weights, and what it predicts on the test clips."""
        torch.manual_seed(config.seed)
        model = VideoCVAE(config.model, config.data.condition_size).eval()
        save_model(model, folder / "model.safetensors")
        evaluation = evaluate(
            model,
            data.dataset(config.data),
            protocol=COURSE,
            samples=1,
            seed=config.seed,
            progress=False,
        )
        return SmallRun(config, (folder / "model.safetensors").read_bytes(), evaluation)

    @property
    def psnr(self) -> float:
        """dB, by the course's protocol."""
        return float(self.evaluation.mean("psnr").value)

    def changed(self, by: float) -> SmallRun:
        """With each weight a little larger."""
        tensors = load(self.weights)
        changed = {k: v * (1 + by) if v.is_floating_point() else v for k, v in tensors.items()}
        meta = json.loads(self.weights[8 : 8 + int.from_bytes(self.weights[:8], "little")])
        return replace(self, weights=save(changed, meta["__metadata__"]))


def scheduled(run: SmallRun, schedule: str) -> SmallRun:
    """The run with another KL schedule in its config."""
    kl = dataclasses.replace(run.config.kl, schedule=schedule)
    return replace(run, config=dataclasses.replace(run.config, kl=kl))


def notebook(cells: Mapping[str, str], *, first: str = "import torch") -> bytes:
    """A notebook with solution cells by their grade_id."""
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(first)]
    for name, source in cells.items():
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata.nbgrader = {"grade": False, "solution": True, "grade_id": name}
        book.cells.append(cell)
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number}"
    return nbformat.writes(book).encode()


def report(missing: tuple[str, ...] = ()) -> str:
    """A filled report without the text of some parts."""
    lines = ["# Report"]
    for key in ("introduction", "derivation", "model", "teacher-forcing", "discussion"):
        lines += [f"## {key}", f"<!-- part: {key} -->", ""]
        lines += [] if key in missing else [f"{key}: {WORDS} $x = y$"]
    return "\n".join(lines) + "\n"


@dataclass
class Handed:
    """A submission before it is packed."""

    student_id: str = "s0001"
    name: str = "Ming Wang"
    runs: dict[str, SmallRun] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)
    """dB by run; the run's own figure where there is none"""
    notebooks: dict[str, bytes] = field(default_factory=dict)
    report: str = field(default_factory=report)
    exercises: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """more files, or other ones in place of those"""

    def record(self, name: str) -> RunRecord:
        """What the manifest says of one run."""
        run = self.runs[name]
        config = json.dumps(run.config.to_dict()).encode()
        return RunRecord(
            name,
            sha256(config),
            sha256(run.weights),
            run.config.to_dict(),
            evaluation={
                "protocol": run.evaluation.protocol,
                "psnr": self.claims.get(name, run.psnr),
                "clips": run.evaluation.clips,
                "clips_sha256": clips_digest(run.evaluation.clip_ids),
            },
        )

    def contents(self) -> dict[str, bytes]:
        """All files but the manifest."""
        files = {"report.md": self.report.encode(), "report.pdf": b"%PDF-1.7"}
        for name, data in self.notebooks.items():
            files[f"source/{name}.ipynb"] = data
        for name, run in self.runs.items():
            files[f"runs/{name}/config.json"] = json.dumps(run.config.to_dict()).encode()
            files[f"runs/{name}/model.safetensors"] = run.weights
            files[f"runs/{name}/certificate.json"] = b"{}"
            files[f"runs/{name}/curves.png"] = files[f"runs/{name}/strips/clip_0.png"] = PNG
            files[f"runs/{name}/gifs/clip_0.gif"] = GIF
        return files

    def manifest(self) -> Manifest:
        """Its manifest, as `labkit submit` makes it."""
        files = {name: sha256(data) for name, data in self.contents().items()}
        return Manifest(
            self.student_id,
            self.name,
            versions(),
            {},
            tuple(map(self.record, self.runs)),
            tuple(
                NotebookRecord(name, files[name], None) for name in files if name.endswith(".ipynb")
            ),
            tuple(ExerciseRecord(name, 2, passed) for name, passed in self.exercises.items()),
            (),
            files,
            sha256(DEFAULT.read_bytes()),
        )

    def packed(self, edit: Callable[[dict[str, Any]], None] | None = None) -> bytes:
        """The zip. `edit` changes the manifest's values after it was sealed; `files` replaces
        files after their digests were taken."""
        text = self.manifest().to_json()
        if edit is not None:
            values = json.loads(text)
            edit(values)
            text = json.dumps(values)
        return zip_of({"manifest.json": text.encode(), **self.contents(), **self.files})

    def write(self, folder: Path, file: str | None = None, **options: Any) -> Path:
        """Writes the zip under its right name, or another."""
        file = file or f"DLP_LAB5_{self.student_id}_{self.name.replace(' ', '_')}.zip"
        (folder / file).write_bytes(self.packed(**options))
        return folder / file


def raw_zip(entries: Mapping[str | zipfile.ZipInfo, bytes]) -> bytes:
    """A zip of entries as they are given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return buffer.getvalue()
