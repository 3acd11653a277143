"""What each cycle of cyclical KL annealing brings: the state of the model at the end of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from labkit.experiments.comparison import Comparison
from labkit.experiments.evaluated_run import EvaluatedRun
from labkit.views.report import Row, Table

COLUMNS = ("kl", "active_units", "posterior_gain", "validation_psnr")
"""columns of the history that are read at the end of a cycle"""


@dataclass(frozen=True)
class Cycles:
    """The runs of one arm at the end of each of the M cycles."""

    values: dict[str, Float[np.ndarray, "runs M"]]
    """by column of the history"""

    @property
    def steps(self) -> Float[np.ndarray, "runs _"]:
        """dB that the posterior's gain grows from the end of a cycle to the end of the next."""
        return np.diff(self.values["posterior_gain"], axis=1)


def cycles_of(runs: Sequence[EvaluatedRun]) -> Cycles | None:
    """The runs of an arm at the end of each cycle; None where the KL weight has no cycles, or a
    history has no validation in one of them."""
    kl, epochs = runs[0].config.kl, runs[0].config.training.epochs
    if kl.schedule != "cyclical" or kl.cycles < 2:
        return None
    waited = kl.wait * epochs
    ends = [waited + (epochs - waited) * n / kl.cycles for n in range(kl.cycles + 1)]
    found = [[_last_validated(run, *pair) for pair in itertools.pairwise(ends)] for run in runs]
    if any(None in rows for rows in found):
        return None
    values = {}
    for column in COLUMNS:
        each = [run.history[column][rows] for run, rows in zip(runs, map(list, found), strict=True)]
        values[column] = np.array(each, float)
    return Cycles(values)


def cycle_sentences(comparison: Comparison) -> list[str]:
    """For each arm with cycles: whether the posterior gains from one to the next."""
    sentences = []
    for arm, runs in comparison.arms.items():
        cycles = cycles_of(runs)
        if cycles is None:
            continue
        gains = ", ".join(f"{each:+.2f}" for each in cycles.values["posterior_gain"].mean(axis=0))
        lowest, highest = cycles.steps.min(), cycles.steps.max()
        seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
        sentences.append(
            f"Does each cycle gain? {arm}: at the end of its {cycles.steps.shape[1] + 1} cycles "
            f"the posterior is {gains} dB above the sample (mean of {seeds}, validation clips). "
            f"From one cycle to the next this changes by {lowest:+.2f} to {highest:+.2f} dB."
        )
    return sentences


def cycle_table(comparison: Comparison) -> Table | None:
    """The figures at the end of each cycle; None where no arm has cycles."""
    rows = []
    for arm, runs in comparison.arms.items():
        cycles = cycles_of(runs)
        if cycles is None:
            continue
        for number in range(cycles.steps.shape[1] + 1):
            means = [cycles.values[column][:, number].mean() for column in COLUMNS]
            cells = [form.format(mean) for form, mean in zip(FORMS, means, strict=True)]
            rows.append(Row(arm, f"{arm}, cycle {number + 1}", cells))
    if not rows:
        return None
    return Table(
        "At the end of each cycle of the KL weight, mean over the seeds: KL of that epoch's "
        "updates; the rest on validation clips",
        [
            "",
            "KL, nats a frame",
            "active units",
            "posterior over one sample, dB",
            "PSNR of one sample, dB",
        ],
        rows,
    )


FORMS = ("{:.3g}", "{:.1f}", "{:+.2f}", "{:.2f}")


def _last_validated(run: EvaluatedRun, begin: float, end: float) -> int | None:
    """The row of the last validation of a cycle, by its epochs."""
    epoch = np.asarray(run.history["epoch"], float)
    there = np.isfinite(np.asarray(run.history["posterior_gain"], float))
    rows = np.flatnonzero(there & (epoch > begin) & (epoch <= end + 1e-6))
    return int(rows[-1]) if len(rows) else None
