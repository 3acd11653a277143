"""Writes a comparison: the page, its figure and its numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit.evaluation.bootstrap import Interval
from labkit.evaluation.significance import Estimate
from labkit.experiments.answer import answer, tables_of
from labkit.experiments.comparison import Comparison
from labkit.experiments.cycles import cycles_of
from labkit.experiments.evaluated_run import EvaluatedRun
from labkit.files import write_whole
from labkit.reporting.tables import METRICS
from labkit.views import figure_png
from labkit.views.comparison import comparison_figure, write_comparison

PAGE, FIGURE, NUMBERS = "comparison.html", "comparison.png", "comparison.json"

WEIGHTS = {
    "best": "Every figure is of the weights that predicted the validation clips best, chosen in "
    "the same way in every run.",
    "last": "Every figure is of the weights at the end of the training.",
}
"""which weights the figures are of, by `training.keep`"""


def write_page(
    comparison: Comparison,
    out: Path,
    *,
    title: str,
    command: str,
    notes: Sequence[str] = (),
) -> Path:
    """Writes `comparison.html`, `comparison.png` and `comparison.json` into a folder.

    Args:
        comparison: the comparison.
        out: the folder.
        title: heading of the page.
        command: the command that makes it again.
        notes: more sentences for the page.
    Returns:
        the page's path.
    """
    protocol, sentences = protocol_of(comparison), answer(comparison)
    arms = comparison.arms
    longest = max((comparison.mean(arm).over for arm in arms), key=len)
    picture = figure_png(
        comparison_figure(
            {arm: [run.history for run in runs] for arm, runs in arms.items()},
            {arm: (_bar(comparison.mean(arm).interval), comparison.each_seed(arm)) for arm in arms},
            {
                f"{pair.first} − {pair.second}": (
                    _bar(pair.differences["psnr"].interval),
                    pair.is_significant(),
                )
                for pair in comparison.pairs
            },
            protocol,
            over=longest,
        )
    )
    write_whole(out / FIGURE, picture)
    numbers = _numbers(comparison) | {"answer": sentences, "command": command, "notes": list(notes)}
    write_whole(out / NUMBERS, json.dumps(numbers, indent=1) + "\n")
    return write_comparison(
        out / PAGE,
        title=title,
        answer=sentences,
        protocol=f"{protocol[0].upper()}{protocol[1:]}.",
        tables=tables_of(comparison),
        arms=list(arms),
        picture=picture,
        caption="Losses, PSNR, KL weight and teacher-forcing ratio against the epochs, a line a "
        "run; mean PSNR of each, and paired differences, with 95 % intervals",
        command=command,
        notes=[*notes, *sorted({WEIGHTS[run.config.training.keep] for run in comparison.runs})],
    )


def protocol_of(comparison: Comparison) -> str:
    """The protocol's sentence; where the runs have different conditions, it says so."""
    protocols = {run.evaluation.protocol for run in comparison.runs}
    if len(protocols) > 1:
        protocols = {
            re.sub(r", (no )?condition [^;]*", ", each with its own condition", s)
            for s in protocols
        }
    return sorted(protocols)[0]


def _bar(interval: Interval) -> np.ndarray:
    return np.array([float(part) for part in vars(interval).values()])


def _numbers(comparison: Comparison) -> dict[str, Any]:
    """All figures as JSON types."""
    return {
        "protocol": protocol_of(comparison),
        "metrics": {name: METRICS[name][0] for name in comparison.metrics},
        "arms": {
            arm: {
                **{m: _estimate(comparison.mean(arm, m)) for m in comparison.metrics},
                "each_psnr": [round(float(v), 4) for v in comparison.each_seed(arm)],
                "seeds": [run.seed for run in runs],
                "last_kl": _finite(comparison.last(arm, "kl")),
                "last_active_units": _finite(comparison.last(arm, "active_units")),
                "posterior_gain": _estimate(comparison.posterior_gain(arm)),
                "best_gain": _best_gain(comparison, arm),
                "cycles": _cycles(runs),
            }
            for arm, runs in comparison.arms.items()
        },
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                **{
                    m: _estimate(found) | {"p_holm": round(pair.adjusted[m], 5)}
                    for m, found in pair.differences.items()
                },
            }
            for pair in comparison.pairs
        ],
    }


def _finite(values: np.ndarray) -> list[float | None]:
    """The values as JSON types; a value that is not there is null."""
    return [None if np.isnan(value) else float(value) for value in values]


def _best_gain(comparison: Comparison, arm: str) -> list[float | None] | None:
    """dB by which the best sample of a clip exceeds the mean of its samples, with its interval."""
    diversity = comparison.sample_diversity(arm)
    return None if diversity is None else _finite(_bar(diversity.best_gain).round(4))


def _cycles(runs: Sequence[EvaluatedRun]) -> dict[str, list] | None:
    """Each run's figures at the end of each cycle of the KL weight; null where it has none."""
    cycles = cycles_of(runs)
    if cycles is None:
        return None
    return {name: [_finite(run) for run in found] for name, found in cycles.values.items()}


def _estimate(found: Estimate) -> dict[str, Any]:
    bounds = [None if np.isnan(v) else round(float(v), 4) for v in _bar(found.interval)]
    return {
        "mean": bounds[0],
        "interval": bounds[1:],
        "p": round(found.p, 5),
        "seeds": found.seeds,
        "clips": found.clips,
    }
