"""`manifest.json` of a submission: what is in the zip, from which runs, on which machine.

The grader trusts none of it. Each statement is compared with the files, and each figure is measured
again. `seal` is a digest of the manifest itself: it shows an edit by hand, but whoever knows this
file can compute it again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import labkit
from labkit.errors import LabkitError

MANIFEST = "manifest.json"
FORMAT = 1
MOST_BYTES = 10_000_000
"""largest manifest that is read"""


@dataclass(frozen=True)
class RunRecord:
    """What the manifest says of one run."""

    name: str
    """the run's folder in the zip is runs/NAME"""
    config_sha256: str
    weights_sha256: str
    settings: dict[str, Any]
    """the run's config"""
    training: dict[str, Any] = field(default_factory=dict)
    """"clips": digest of the training clips, "threads": CPU threads; empty where the run's folder
    has no checkpoint"""
    evaluation: dict[str, Any] | None = None
    """by the course's protocol: "protocol" (a sentence), "psnr" (dB), "clips", "clips_sha256"; None
    where there is none for these weights"""
    certificate: dict[str, Any] | None = None
    """of the leak proof: "clean", "verdict", "protocol", "convention", "weights_sha256"; None where
    there is none"""


@dataclass(frozen=True)
class NotebookRecord:
    """What the manifest says of one notebook."""

    file: str
    """its name in the zip, such as source/03_model.ipynb"""
    sha256: str
    problem: str | None
    """the first cell that failed and its error; None where every cell ran"""


@dataclass(frozen=True)
class ExerciseRecord:
    """What the manifest says of one exercise: the result of its check on the student's machine."""

    exercise: str
    points: float
    passed: bool
    message: str = ""


@dataclass(frozen=True)
class Manifest:
    """The whole manifest."""

    student_id: str
    name: str
    versions: dict[str, str]
    machine: dict[str, str]
    runs: tuple[RunRecord, ...]
    notebooks: tuple[NotebookRecord, ...]
    exercises: tuple[ExerciseRecord, ...]
    missing: tuple[str, ...]
    """sentences: what the rules ask for and the submission lacks"""
    files: dict[str, str]
    """SHA-256 of every other file of the zip, by its name there"""
    rules: str = ""
    """digest of the course's rules that were used"""
    format: int = FORMAT

    def to_json(self) -> str:
        """The manifest as JSON, its seal at the end."""
        values = dataclasses.asdict(self)
        return json.dumps({**values, "seal": seal_of(values)}, indent=1, ensure_ascii=False) + "\n"


def seal_of(values: Mapping[str, Any]) -> str:
    """The digest of a manifest's values, without its seal."""
    plain = {name: value for name, value in values.items() if name != "seal"}
    # Through JSON, since a manifest that was read has lists where one that is made has tuples.
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(data: bytes, file: Path | str) -> tuple[Manifest, bool]:
    """Reads a manifest, and says whether its seal fits.

    Args:
        data: the bytes of `manifest.json`.
        file: the zip, for messages.
    Raises:
        LabkitError: it is no manifest; the message says why.
    """
    hint = "labkit submit writes it"
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError(f"a table is expected, not a {type(values).__name__}")
        if values.get("format") != FORMAT:
            raise ValueError(f"its format is {values.get('format')!r:.20}; expected {FORMAT}")
        sealed = values.pop("seal", None) == seal_of(values)
        return _built(Manifest, values, "manifest"), sealed
    except (ValueError, TypeError, RecursionError, LookupError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        what = f"{MANIFEST} cannot be used: {reason[:200]}"
        raise LabkitError(what, file=file, hint=hint) from None


_TUPLES = {"runs": RunRecord, "notebooks": NotebookRecord, "exercises": ExerciseRecord}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "points": (int, float),
    "passed": bool,
    "problem": (str, type(None)),
    "evaluation": (dict, type(None)),
    "certificate": (dict, type(None)),
    "format": int,
    **dict.fromkeys(("versions", "machine", "files", "settings", "training"), dict),
    **dict.fromkeys(("runs", "notebooks", "exercises", "missing"), (list, tuple)),
}
"""The type of each field; every other one is text."""


def _built(kind: type, values: Any, where: str) -> Any:
    """A record from a table of JSON. Raises ValueError where a field is missing or of another
    type."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} is a {type(values).__name__}, not a table")
    found = {}
    for item in dataclasses.fields(kind):
        if item.name not in values:
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                raise ValueError(f"{where}.{item.name} is missing")
            continue
        value = values[item.name]
        wanted = _KINDS.get(item.name, str)
        if not isinstance(value, wanted) or (wanted == (int, float) and isinstance(value, bool)):
            raise ValueError(f"{where}.{item.name} is a {type(value).__name__}")
        if item.name in _TUPLES:
            inner = _TUPLES[item.name]
            value = tuple(_built(inner, each, f"{where}.{item.name}") for each in value)
        elif item.name == "missing":
            value = tuple(map(str, value))
        elif item.name in ("versions", "machine", "files"):
            value = {str(key): str(each) for key, each in value.items()}
        found[item.name] = value
    return kind(**found)


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, 64 letters."""
    return hashlib.sha256(data).hexdigest()


def versions() -> dict[str, str]:
    """The versions that explain most differences between two machines."""
    return {
        "labkit": labkit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def machine() -> dict[str, str]:
    """The system, the device and the number of threads."""
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    return {
        "system": f"{platform.system()} on {platform.machine()}",
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


def clips_digest(ids: Sequence[str]) -> str:
    """A digest of the clips of an evaluation, from the digests of their frames."""
    return sha256("\n".join(map(str, ids)).encode())
