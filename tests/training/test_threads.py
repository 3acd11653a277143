"""The number of threads is timed; the choice changes no number of the training."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
import torch

from labkit.config import Config
from labkit.training import threads, train
from labkit.training.checkpoint import load_checkpoint
from labkit.training.loop import TrainingLoop
from labkit.training.setup import TrainingSetup


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch):
    """torch with two threads, as where nobody decided their number."""
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("slow", [1, 2])
def test_the_faster_number_is_taken(slow: int, two_threads: None) -> None:
    def work() -> None:
        time.sleep(0.05 if torch.get_num_threads() == slow else 0.001)

    words = threads.choose_threads(work)
    assert torch.get_num_threads() == 3 - slow
    assert "s per update with 2 threads" in words


def test_one_thread_leaves_nothing_to_choose() -> None:
    calls = []
    assert threads.choose_threads(lambda: calls.append(1)) == ""
    assert not calls


@pytest.mark.parametrize("name", threads.VARIABLES)
def test_a_number_that_the_user_decided_stays(
    name: str, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    monkeypatch.setenv(name, "2")
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    threads.limit_to_cores()
    assert torch.get_num_threads() == 2
    assert threads.chosen_by_user()
    monkeypatch.delenv(name)
    threads.limit_to_cores()
    assert torch.get_num_threads() == 1


def test_timing_changes_no_weight_statistic_or_draw(smoke: Config, tmp_path: Path) -> None:
    model = dataclasses.replace(smoke.model, norm="batch", skip="random_context")
    config = dataclasses.replace(smoke, model=model)
    found = []
    for time_first in (False, True):
        setup = TrainingSetup(config, torch.device("cpu"))
        loop = TrainingLoop(setup, tmp_path / str(time_first))
        if time_first:
            before = torch.get_rng_state()
            torch.set_num_threads(2)
            loop.choose_threads()
            torch.set_num_threads(1)
            assert torch.equal(before, torch.get_rng_state())
        loop.fit()
        found.append(setup.model.state_dict())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_resumed_run_takes_the_number_of_its_checkpoint(
    smoke: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    monkeypatch.setattr(TrainingLoop, "choose_threads", lambda self: torch.set_num_threads(1) or "")
    train(smoke, tmp_path, minutes=1e-9, progress=False, time_threads=True)
    assert load_checkpoint(tmp_path)["threads"] == 1
    torch.set_num_threads(2)
    monkeypatch.delattr(TrainingLoop, "choose_threads")
    train(smoke, tmp_path, resume=True, progress=False, time_threads=True)
    assert torch.get_num_threads() == 1
