"""What each cycle of the KL weight brings: read from the last validation of each cycle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from labkit.config import KLConfig
from labkit.experiments.comparison import Comparison
from labkit.experiments.cycles import cycle_sentences, cycle_table, cycles_of
from labkit.experiments.evaluated_run import EvaluatedRun
from labkit.presets import SMOKE


def some_run(gains: list[float], *, seed: int = 1, **kl: object) -> EvaluatedRun:
    """A run that is validated every second epoch."""
    epochs = 2 * len(gains)
    validated = np.full((2, epochs), np.nan)
    validated[0, 1::2] = gains
    validated[1, 1::2] = np.arange(len(gains))
    history = {
        "epoch": np.arange(1.0, epochs + 1),
        "kl": np.arange(1.0, epochs + 1),
        "posterior_gain": validated[0],
        "active_units": validated[1],
        "validation_psnr": validated[1] + 20,
    }
    training = dataclasses.replace(SMOKE.training, epochs=epochs)
    config = dataclasses.replace(SMOKE, seed=seed, kl=KLConfig(**kl), training=training)  # type: ignore[arg-type]
    return EvaluatedRun(Path("run"), config, history, None)  # type: ignore[arg-type]


def test_the_last_validation_of_each_cycle_is_read() -> None:
    """10 epochs: cycles end at 3.3, 6.7 and 10; validated are 2, 4, 6, 8, 10."""
    cycles = cycles_of([some_run([0.1, 0.2, 0.3, 0.4, 0.5], cycles=3)])
    assert cycles is not None
    assert cycles.values["posterior_gain"].tolist() == [[0.1, 0.3, 0.5]]
    assert cycles.values["kl"].tolist() == [[2, 6, 10]]
    assert cycles.steps[0] == pytest.approx([0.2, 0.2])


def test_cycles_begin_where_the_wait_ends() -> None:
    """Of 8 epochs the first 4 wait: two cycles end at 6 and 8."""
    cycles = cycles_of([some_run([0.1, 0.2, 0.3, 0.4], cycles=2, wait=0.5)])
    assert cycles is not None
    assert cycles.values["posterior_gain"].tolist() == [[0.3, 0.4]]


@pytest.mark.parametrize("kl", [{"schedule": "monotonic"}, {"cycles": 1}, {"cycles": 10}])
def test_without_cycles_or_validations_in_each_there_is_nothing_to_say(kl) -> None:
    run = some_run([0.1, 0.2, 0.3], **kl)
    assert cycles_of([run]) is None
    comparison = Comparison({"arm": [run]})
    assert cycle_sentences(comparison) == []
    assert cycle_table(comparison) is None


def test_the_sentence_has_the_mean_and_the_span_over_the_seeds() -> None:
    runs = [some_run([1.0, 3.0], cycles=2), some_run([2.0, 1.5], seed=2, cycles=2)]
    comparison = Comparison({"cyclical": runs, "none": [some_run([0.0], schedule="constant")]})
    (sentence,) = cycle_sentences(comparison)
    assert "end of its 2 cycles the posterior is +1.50, +2.25 dB above" in sentence
    assert "mean of 2 seeds" in sentence
    assert "changes by -0.50 to +2.00 dB" in sentence
    table = cycle_table(comparison)
    assert table is not None
    assert [row.label for row in table.rows] == ["cyclical, cycle 1", "cyclical, cycle 2"]
    assert table.rows[1].cells == ["4", "1.0", "+2.25", "21.00"]
