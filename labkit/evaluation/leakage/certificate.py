"""The result of a proof: trials, findings, and the influence matrices."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import labkit
from labkit.evaluation.leakage.checks import Trial
from labkit.evaluation.leakage.diagnosis import Finding
from labkit.files import write_whole

LIMITS = (
    "a leak in fewer than about 1 of 20 calls; a leak that acts on particular contents only; true "
    "frames that the predictor looks up by their context; weights trained on these clips"
)
"""what no trial can see"""


@dataclass(frozen=True)
class Certificate:
    """The result of `prove`."""

    trials: tuple[Trial, ...]
    findings: tuple[Finding, ...]
    """leaks and faults, named; empty if no trial failed"""
    convention: str
    """the latest condition that prediction t reads: "c_{t-1}", "c_t", "none", ..."""
    protocol: str
    """one sentence: how many frames of how many clips, of what"""
    n_past: int
    seed: int
    """of the trials but `seeds`"""
    seeds: int
    """number of seeds in the trial `seeds`; 0 if it was not possible"""
    frames: Float[np.ndarray, "T horizon"]
    """row t: largest change of each prediction when frame t alone is replaced by noise"""
    conditions: Float[np.ndarray, "T horizon"]
    """row t: the same, when the conditions of frame t alone are changed"""
    feedback: Float[np.ndarray, "horizon horizon"] | None
    """row t - n_past: the same, when predicted frame t is changed before it is used again; None
    where that cannot be done"""
    weights_sha256: str | None = None
    """SHA-256 of the file of weights"""
    versions: dict[str, str] = field(
        default_factory=lambda: {
            "labkit": labkit.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        }
    )

    @property
    def clean(self) -> bool:
        """Whether no trial failed and nothing was found."""
        failed = any(trial.verdict == "failed" for trial in self.trials)
        return not failed and not self.findings

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.clean:
            return "no leak found"
        return f"not clean: {', '.join(one.leak for one in self.findings)}"

    def text(self) -> str:
        """The certificate in lines, for a terminal."""
        width = max(len(trial.verdict) for trial in self.trials)
        lines = [f"{self.headline} ({self.protocol})"]
        lines += [f"  {one.verdict:<{width}}  {one.name}: {one.text}" for one in self.trials]
        for one in self.findings:
            lines += [f"{one.leak}: {one.says}", f"  hint: {one.hint}"]
        lines.append(f"Not covered: {LIMITS}.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The certificate as JSON types; an infinite influence is None."""
        matrices = {"frames": self.frames, "conditions": self.conditions, "feedback": self.feedback}
        return {
            "clean": self.clean,
            "verdict": self.headline,
            "protocol": self.protocol,
            "n_past": self.n_past,
            "horizon": self.frames.shape[1],
            "seed": self.seed,
            "seeds": self.seeds,
            "not_covered": LIMITS,
            "convention": self.convention,
            "trials": [asdict(trial) for trial in self.trials],
            "findings": [asdict(one) for one in self.findings],
            "influence": {
                name: None if matrix is None else [[_number(v) for v in row] for row in matrix]
                for name, matrix in matrices.items()
            },
            "weights_sha256": self.weights_sha256,
            "versions": self.versions,
        }

    def save(self, file: Path | str) -> None:
        """Writes it as JSON, whole or not at all."""
        write_whole(file, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")


def _number(value: float) -> float | None:
    """Rounded to four digits; zero stays exactly zero."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
