"""The proof that a predictor reads no future frame, and the name of the leak where it does.

    certificate = prove(predict, batch, n_past=2)
    print(certificate.text())

`probe` calls the predictor under a fixed seed and guards its arguments, `module_state` restores its
modules; `checks` are the trials; `diagnosis` names what they found; `certificate` is the result.
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
