"""The picture of a proof against leaks, and its place in a report."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from labkit.evaluation.leakage import Certificate
from labkit.reporting.run_files import CERTIFICATE, CERTIFICATE_PICTURE
from labkit.training.checkpoint import WEIGHTS
from labkit.views import figure_png
from labkit.views.certificate import certificate


def certificate_png(proof: Certificate) -> bytes:
    """The picture of a proof against leaks."""
    figure = certificate(
        proof.frames,
        proof.conditions,
        proof.feedback,
        n_past=proof.n_past,
        headline=proof.headline,
        trials=[(trial.name, trial.verdict, trial.text) for trial in proof.trials],
        findings=[(one.leak, f"{one.says}. Hint: {one.hint}") for one in proof.findings],
        protocol=proof.protocol,
    )
    return figure_png(figure)


def stored_certificate(run: Path) -> tuple[dict[str, bytes], str]:
    """The picture that `labkit prove` stored for the run's present weights, under its title, and a
    sentence; no picture where there is none for these weights."""
    files = (run / CERTIFICATE, run / CERTIFICATE_PICTURE, run / WEIGHTS)
    try:
        text, picture, weights = (file.read_bytes() for file in files)
        stored = json.loads(text)
        if stored["weights_sha256"] == hashlib.sha256(weights).hexdigest():
            sentence = f"Result of labkit prove for these weights: {stored['verdict']}."
            return {f"Certificate: {stored['verdict']}": picture}, sentence
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return {}, (
        "Whether predictions read future frames was not examined for these weights. To add the "
        "certificate, run labkit prove and then labkit evaluate again."
    )
