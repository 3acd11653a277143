"""Checks of the notebooks' exercises: `check_NAME(your_function)`.

A check draws new random cases each time, compares with a computation of its own, and prints one
fixed line when all cases pass. Otherwise it raises `CheckFailed`, which names the case, what was
expected, what came, and a hint where it recognises the kind of mistake.

A check refuses a function of the package or of a library, a function that calls the package's
own solution, and a function whose result does not depend on its arguments. An endless loop ends
at a time limit. This is no sandbox: it is made for students who want to know where they stand.
Whoever wants to deceive it from inside the same Python process can.
"""

from labkit.course.checks.data import check_getitem
from labkit.course.checks.derivation import check_em, check_kl_gaussian, check_sequence_elbo
from labkit.course.checks.evaluation import check_expected_condition, check_psnr, check_test_psnr
from labkit.course.checks.exercise import CheckFailed
from labkit.course.checks.model import check_free_run, check_reparameterize
from labkit.course.checks.training import (
    check_kl_weight,
    check_teacher_forcing_ratio,
    check_training_step,
)

__all__ = [
    "CheckFailed",
    "check_em",
    "check_expected_condition",
    "check_free_run",
    "check_getitem",
    "check_kl_gaussian",
    "check_kl_weight",
    "check_psnr",
    "check_reparameterize",
    "check_sequence_elbo",
    "check_teacher_forcing_ratio",
    "check_test_psnr",
    "check_training_step",
]
