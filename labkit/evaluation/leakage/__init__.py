"""The proof that a predictor reads no future frame, and the name of the leak where it does.

    certificate = prove(predict, batch, n_past=2)
    print(certificate.text())

`asking` calls the predictor under one seed and guards its arguments; `trials` are the questions;
`diagnosis` names what they found; `certificate` is what is left on paper.
"""

from labkit.evaluation.leakage.certificate import Certificate
from labkit.evaluation.leakage.checks import Trial
from labkit.evaluation.leakage.diagnosis import LEAKS, Finding
from labkit.evaluation.leakage.probe import Predict, hooked
from labkit.evaluation.leakage.proof import predictor_of, prove

__all__ = [
    "LEAKS",
    "Certificate",
    "Finding",
    "Predict",
    "Trial",
    "hooked",
    "predictor_of",
    "prove",
]
