"""A student's runs: what of each goes into the zip, the manifest and the report."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from labkit.config import Config
from labkit.course.manifest import RunRecord, clips_digest, sha256
from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError, RunError
from labkit.evaluation import Evaluation
from labkit.evaluation.leakage import Certificate, predictor_of, prove
from labkit.evaluation.protocol import COURSE, Protocol, with_window
from labkit.reporting.certificate import certificate_png
from labkit.reporting.run_files import CERTIFICATE, CERTIFICATE_PICTURE, evaluation_file
from labkit.training import load_model, read_history
from labkit.training.checkpoint import CHECKPOINT, CONFIG, WEIGHTS, load_progress
from labkit.training.history import HISTORY
from labkit.views import (
    figure_png,
    filmstrip,
    gif_bytes,
    png_bytes,
    psnr_over_time,
    training_curves,
)

SHOWN = ("truth", "prediction")
"""Rows of a strip and of a GIF: the prediction beside the truth. The posterior's reconstruction is
no prediction."""
PROOF_CLIPS = 4
"""clips of the leak proof"""


@dataclass
class StudentRun:
    """One run as it is handed in."""

    folder: Path
    name: str
    """the run's folder in the zip is runs/NAME"""
    config: Config
    record: RunRecord
    files: dict[str, bytes]
    """by their name below runs/NAME"""
    evaluation: Evaluation | None = None
    """by the course's protocol, of these weights"""
    certificate: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)
    """what is missing, each with the command that mends it"""

    @property
    def strips(self) -> dict[str, bytes]:
        """The strips by their file's name."""
        return {name: data for name, data in self.files.items() if name.startswith("strips/")}

    @property
    def gifs(self) -> dict[str, bytes]:
        """The GIFs by their file's name."""
        return {name: data for name, data in self.files.items() if name.startswith("gifs/")}

    @property
    def has_curves(self) -> bool:
        """Whether there are curves of its training."""
        return "curves.png" in self.files


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each run's folder: letters, digits, dots and dashes, none given twice."""
    names: list[str] = []
    for folder in folders:
        plain = re.sub(r"[^\w.-]+", "-", folder.resolve().name, flags=re.ASCII).strip(".-") or "run"
        number, name = 2, plain[:60]
        while name in names:
            name, number = f"{plain[:60]}-{number}", number + 1
        names.append(name)
    return names


def student_run(
    folder: Path,
    name: str,
    *,
    protocol: Protocol = COURSE,
    device: str = "cpu",
    proof: bool = True,
    progress: bool = False,
) -> StudentRun:
    """Reads a run, draws its pictures and proves that it reads no future frame. Nothing is written
    into its folder.

    Args:
        folder: the run's folder.
        name: its name in the zip.
        protocol: the one by which the course measures the PSNR.
        device: where to compute the proof.
        proof: run the leak proof on the run's own test clips where they are there; else take the
            stored certificate.
        progress: show a bar of the proof.
    Raises:
        RunError: there is no such run, or it has no weights.
        ConfigError: its config cannot be read.
    """
    model, config = load_model(folder, device)
    protocol = with_window(protocol, (config.data.n_past, config.data.n_future))
    files = {file: (folder / file).read_bytes() for file in (CONFIG, WEIGHTS)}
    run = StudentRun(
        folder,
        name,
        config,
        RunRecord(name, sha256(files[CONFIG]), sha256(files[WEIGHTS]), config.to_dict()),
        files,
    )
    run.evaluation = _evaluation(run, protocol)
    if run.evaluation is not None:
        _draw(run, run.evaluation)
    _curves(run)
    proved = partial(_proved, run, model, protocol, device, progress) if proof else None
    run.certificate = _certificate(run, proved)
    stated = run.evaluation
    run.record = RunRecord(
        name,
        run.record.config_sha256,
        run.record.weights_sha256,
        run.record.settings,
        training=_training(folder),
        evaluation=None if stated is None else _stated(stated),
        certificate=run.certificate,
    )
    return run


def _evaluation(run: StudentRun, protocol: Protocol) -> Evaluation | None:
    """The evaluation by the course's protocol, if it is of these weights."""
    command = f"labkit evaluate {_typed(run.folder)} --protocol {protocol.name}"
    file = evaluation_file(run.folder, protocol.name)
    if not file.is_file():
        run.problems.append(f"{run.name} has no evaluation by the course's protocol: {command}")
        return None
    try:
        evaluation = Evaluation.load(file)
    except RunError as error:
        run.problems.append(f"{run.name}: {error.what}: {command}")
        return None
    if not run.record.weights_sha256.startswith(evaluation.made_with.get("weights") or "none"):
        run.problems.append(f"the evaluation of {run.name} is of other weights: {command}")
        return None
    window = (evaluation.n_past, evaluation.psnr["prediction"].shape[1])
    if window != (protocol.n_past, protocol.n_future):
        run.problems.append(f"the evaluation of {run.name} is of another window: {command}")
        return None
    run.files[file.name] = file.read_bytes()
    return evaluation


def _stated(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as the manifest states it."""
    return {
        "protocol": evaluation.protocol,
        "psnr": round(float(evaluation.mean("psnr").value), 4),
        "ssim": round(float(evaluation.mean("ssim").value), 4),
        "clips": evaluation.clips,
        "clips_sha256": clips_digest(evaluation.clip_ids),
    }


def _draw(run: StudentRun, evaluation: Evaluation) -> None:
    """Strips and GIFs of the first clips, and PSNR over time."""
    n_past = evaluation.n_past
    for number in range(len(evaluation.examples["truth"])):
        rows = {kind: evaluation.examples[kind][number] for kind in SHOWN}
        run.files[f"strips/clip_{number}.png"] = png_bytes(filmstrip(rows, n_past=n_past))
        run.files[f"gifs/clip_{number}.gif"] = gif_bytes(rows, n_past=n_past)
    shown = {name: evaluation.psnr[name] for name in ("prediction", "repeat_last")}
    figure = psnr_over_time(shown, n_past, evaluation.protocol)
    run.files["psnr.png"] = figure_png(figure)


def _curves(run: StudentRun) -> None:
    if not (run.folder / HISTORY).is_file():
        run.problems.append(f"{run.name} has no {HISTORY}, and so no curves")
        return
    try:
        run.files["curves.png"] = figure_png(training_curves(read_history(run.folder)))
        run.files[HISTORY] = (run.folder / HISTORY).read_bytes()
    except LabkitError as error:
        run.problems.append(f"{run.name}: {error.what}")


def _certificate(
    run: StudentRun, proved: Callable[[], Certificate] | None
) -> dict[str, Any] | None:
    """The certificate of these weights: proved now where the clips are there, else the stored
    one."""
    why = ""
    if proved is not None:
        try:
            made = proved()
        except LabkitError as error:
            why = f"the leak proof of {run.name} could not be run: {error.what}"
        else:
            run.files[CERTIFICATE_PICTURE] = certificate_png(made)
            run.files[CERTIFICATE] = _json(made.to_dict())
            return _short(made.to_dict())
    file = run.folder / CERTIFICATE
    try:
        data = file.read_bytes()
        stored = json.loads(data)
        if stored["weights_sha256"] == run.record.weights_sha256:
            short = _short(stored)
            run.files[CERTIFICATE] = data
            if (picture := run.folder / CERTIFICATE_PICTURE).is_file():
                run.files[CERTIFICATE_PICTURE] = picture.read_bytes()
            return short
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    why = why or f"{run.name} has no certificate"
    run.problems.append(f"{why}: labkit prove {_typed(run.folder)}")
    return None


def _proved(
    run: StudentRun, model: Any, protocol: Protocol, device: str, progress: bool
) -> Certificate:
    root = Path(run.config.data.root)
    dataset = ClipDataset(
        root,
        "test",
        n_past=protocol.n_past,
        n_future=protocol.n_future,
        condition=run.config.data.condition,
        windows="first",
    )
    return prove(
        predictor_of(model),
        dataset.batch(range(min(PROOF_CLIPS, len(dataset)))).to(device),
        protocol.n_past,
        seed=run.config.seed,
        weights=run.folder / WEIGHTS,
        data=f"the test split of {root.name}",
        progress=progress,
    )


def _typed(folder: Path) -> str:
    """A folder as it is typed in a shell."""
    return shlex.quote(folder.as_posix())


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def _short(certificate: dict[str, Any]) -> dict[str, Any]:
    """A certificate as the manifest states it: without the matrices of influences."""
    names = ("clean", "verdict", "protocol", "convention", "seed", "seeds", "weights_sha256")
    return {name: certificate[name] for name in names}


def _training(folder: Path) -> dict[str, Any]:
    """The digest of the training clips and the threads of the CPU, from the run's checkpoint."""
    if not (folder / CHECKPOINT).is_file():
        return {}
    try:
        _, progress = load_progress(folder)
    except LabkitError:
        return {}
    return {"clips": progress.clips, "threads": progress.threads, "updates": progress.update}
