"""One submitted run, measured again: its config and weights in the lab's own model, on the course's
test clips. No code of the submission runs: a config is JSON, and weights are safetensors."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit.config import Config, DataConfig
from labkit.course.grade_zip import SubmittedZip
from labkit.course.manifest import RunRecord, clips_digest, sha256
from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError
from labkit.evaluation import evaluate
from labkit.evaluation.leakage import predictor_of, prove
from labkit.evaluation.protocol import COURSE, Protocol, with_window
from labkit.model import VideoCVAE
from labkit.model.memory import count_parameters
from labkit.training.checkpoint import CONFIG, WEIGHTS, load_model
from labkit.views import filmstrip, gif_bytes, png_bytes

MOST_CONFIG = 1_000_000
"""bytes of a config"""
SAME_CLIPS = 0.1
"""dB by which a claimed figure may differ from the measured one on the same clips: other threads
and other devices round differently"""
OTHER_CLIPS = 1.5
"""the same where the student's test clips are others"""
PROOF_CLIPS = 4
"""clips of the leak proof"""
SKETCH = 512
"""numbers of a sketch of the weights"""


@dataclass(frozen=True)
class TestData:
    """The clips that all submissions are graded on."""

    __test__ = False  # for pytest, which takes it for a test by its name
    root: Path
    split: str = "test"
    clips: int | None = None
    """the first so many; None is all"""
    device: str = "cpu"
    protocol: Protocol = COURSE

    def dataset(self, config: DataConfig) -> ClipDataset:
        """The first window of each clip, with the condition that a run was trained with.

        Raises:
            DataError: there is no such data set or split, it lacks the condition, or its clips are
                too short.
        """
        used = with_window(self.protocol, (config.n_past, config.n_future))
        return ClipDataset(
            self.root,
            self.split,
            n_past=used.n_past,
            n_future=used.n_future,
            condition=config.condition,
            windows="first",
        )


@dataclass
class RunResult:
    """What was found about one run."""

    name: str
    claimed: float | None = None
    """dB, as the manifest says"""
    measured: float | None = None
    """dB, by the course's protocol; None where the weights could not be evaluated"""
    interval: tuple[float, float] | None = None
    per_step: list[float] = field(default_factory=list)
    """dB at each predicted time step"""
    repeat_last: float | None = None
    """dB of repeating the last context frame"""
    protocol: str = ""
    proof: str = ""
    """verdict of the leak proof"""
    clean: bool | None = None
    convention: str = ""
    """the latest condition that prediction t reads"""
    problem: str = ""
    """why it could not be measured"""
    findings: list[str] = field(default_factory=list)
    """contradictions, for the instructor"""
    tensors_sha256: str = ""
    """digest of the weights alone, however they were saved"""
    sketch: list[float] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result in JSON's own types."""
        return asdict(self)


@dataclass(frozen=True)
class Pictures:
    """A run's first test clip, as predicted by its weights."""

    strip: bytes
    gif: bytes


def grade_run(
    opened: SubmittedZip, record: RunRecord, data: TestData
) -> tuple[RunResult, Pictures | None]:
    """Measures one run of a submission.

    Args:
        opened: the submission's zip.
        record: what its manifest says of the run.
        data: the course's test clips.
    Returns:
        the result, and the pictures of the first clip; None where it could not be evaluated, and
        then `problem` says why.
    """
    result = RunResult(record.name)
    stated = record.evaluation or {}
    result.claimed = _number(stated.get("psnr"))
    try:
        with tempfile.TemporaryDirectory(prefix="labkit-grade-") as folder:
            model, config = _load(opened, record, Path(folder), result, data.device)
        dataset = data.dataset(config.data)
        return result, _measure(model, config, dataset, data, stated, result)
    except LabkitError as error:
        result.problem = error.what if error.hint is None else f"{error.what} ({error.hint})"
    except (RuntimeError, MemoryError, ValueError, TypeError, LookupError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        result.problem = f"its weights cannot be evaluated: {reason or type(error).__name__}"
    return result, None


def _number(value: Any) -> float | None:
    """A finite number of a manifest; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if np.isfinite(value) else None


def _load(
    opened: SubmittedZip, record: RunRecord, folder: Path, result: RunResult, device: str
) -> tuple[VideoCVAE, Config]:
    """The run's model. Its two files are written under fixed names into a folder of our own."""
    place = f"runs/{record.name}"
    config = opened.read(f"{place}/{CONFIG}", MOST_CONFIG)
    weights = opened.read(f"{place}/{WEIGHTS}")
    if sha256(weights) != record.weights_sha256:
        result.findings.append("The weights are not those of the manifest: their digests differ.")
    if sha256(config) != record.config_sha256:
        result.findings.append("The config is not that of the manifest: their digests differ.")
    refuse_pickle(weights)
    (folder / CONFIG).write_bytes(config)
    (folder / WEIGHTS).write_bytes(weights)
    loaded = Config.load(folder / CONFIG)
    result.settings = loaded.to_dict()
    if record.settings != result.settings:
        settings = "The settings in the manifest are not those of the run's config.json."
        result.findings.append(settings)
    count = count_parameters(loaded.model, loaded.data.condition_size)
    if 2 * count > len(weights):  # weights of 16 bits would be 2 bytes each
        raise LabkitError(
            f"the config describes a model of {count:,} weights, and the file of weights has "
            f"{len(weights):,} bytes: they do not fit together"
        )
    model, config_read = load_model(folder, device)
    return model, config_read


def refuse_pickle(weights: bytes) -> None:
    """Raises LabkitError for a file of `torch.save` or `pickle`, which could run code."""
    # safetensors: the length of the header, which is JSON. That length can begin like a pickle.
    header = int.from_bytes(weights[:8], "little")
    if weights[8:9] == b"{" and header <= len(weights) - 8:
        return
    zipped = weights.startswith(b"PK\x03\x04")
    if zipped or weights[:1] == b"\x80" or weights[:2] in (b"(d", b"}q", b"cp", b"c_"):
        raise LabkitError(
            f"{WEIGHTS} is a pickle, which can run code when it is loaded; it was not opened",
            hint="ask for the weights as safetensors, as labkit train writes them",
        )


def _measure(
    model: VideoCVAE,
    config: Config,
    dataset: ClipDataset,
    data: TestData,
    stated: dict[str, Any],
    result: RunResult,
) -> Pictures:
    """Evaluates and proves a model, and fills the result."""
    result.tensors_sha256, result.sketch = fingerprint(model)
    if not np.isfinite(result.sketch).all():
        result.sketch = []
    evaluation = evaluate(
        model,
        dataset,
        protocol=data.protocol,
        samples=1,
        seed=config.seed,
        clips=data.clips,
        keep=1,
        progress=False,
        device=data.device,
    )
    mean = evaluation.mean("psnr")
    if not np.isfinite(mean.value):
        raise LabkitError("its predictions are not finite numbers")
    result.measured = float(mean.value)
    if not np.isnan(mean.low):
        result.interval = float(mean.low), float(mean.high)
    result.per_step = [float(v) for v in evaluation.per_step("psnr").value]
    result.repeat_last = float(evaluation.mean("psnr", "repeat_last").value)
    result.protocol = evaluation.protocol
    posterior = float(evaluation.mean("psnr", "posterior").value)
    same = stated.get("clips_sha256") == clips_digest(evaluation.clip_ids)
    result.findings += about_the_claim(result.claimed, result.measured, posterior, same)
    _prove(model, dataset, data.device, result)
    rows = {name: frames[0] for name, frames in evaluation.examples.items() if name != "posterior"}
    return Pictures(
        png_bytes(filmstrip(rows, n_past=evaluation.n_past)),
        gif_bytes(rows, n_past=evaluation.n_past),
    )


def _prove(model: VideoCVAE, dataset: ClipDataset, device: str, result: RunResult) -> None:
    """Runs the leak proof on the first clips, and fills the result."""
    batch = dataset.batch(range(min(PROOF_CLIPS, len(dataset)))).to(device)
    try:
        proof = prove(predictor_of(model), batch, dataset.n_past)
    except LabkitError as error:
        result.proof = f"could not be run: {error.what}"
        result.findings.append(f"The leak proof {result.proof}.")
        return
    result.proof, result.clean, result.convention = proof.headline, proof.clean, proof.convention
    if not proof.clean:
        result.findings.append(f"The leak proof, run again on the weights: {proof.headline}.")


def about_the_claim(
    claimed: float | None, measured: float, posterior: float, same: bool
) -> list[str]:
    """Whether the claimed figure is that of the weights."""
    if claimed is None:
        return []
    clips = "on the same clips" if same else "on the course's clips (the student's are others)"
    said = f"Claimed {claimed:.2f} dB, measured {measured:.2f} dB {clips}"
    bound = SAME_CLIPS if same else OTHER_CLIPS
    if abs(claimed - measured) <= bound:
        return []
    if claimed < measured:
        return [f"{said}: the claim is of other weights."]
    if same and abs(claimed - posterior) <= SAME_CLIPS:
        return [
            f"{said}. The claim equals the PSNR of the posterior's reconstruction "
            f"({posterior:.2f} dB), which sees its target frame: the claimed figure comes from a "
            "predictor that reads future frames (a leak)."
        ]
    return [
        f"{said}: these weights do not give the claimed PSNR. The figure is of other weights, "
        "edited, or from a predictor that reads future frames (a leak)."
    ]


def fingerprint(model: VideoCVAE) -> tuple[str, list[float]]:
    """A digest of all weights, and a sketch: numbers at places that depend on the count alone, in
    which nearly equal weights are nearly equal."""
    digest = hashlib.sha256()
    flat = []
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(name.encode() + array.numpy().tobytes())
        if array.is_floating_point():
            flat.append(array.flatten().float())
    joined = torch.cat(flat)
    places = torch.linspace(0, len(joined) - 1, SKETCH).long()
    return digest.hexdigest(), [round(float(v), 5) for v in joined[places]]
