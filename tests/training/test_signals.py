"""Ctrl-C and SIGTERM: the update is finished, all is saved, and it is said how to go on."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from labkit.config import Config
from labkit.training import train
from labkit.training.checkpoint import load_checkpoint
from labkit.training.events import EpochEnd, Update
from labkit.training.signals import SignalHandler, TrainingStopped


class Sends:
    """A callback that sends this process signals when it is told of an update."""

    def __init__(self, at: int, *numbers: int) -> None:
        self.at, self.numbers, self.closed = at, numbers, False

    def on_update(self, told: Update) -> None:
        if told.number == self.at:
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def on_epoch(self, epoch_end: EpochEnd) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def tiny(smoke: Config) -> Config:
    data = dataclasses.replace(smoke.data, n_future=3)
    return dataclasses.replace(smoke, data=data)


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
@pytest.mark.parametrize("at", [2, 4])
def test_a_signal_is_answered_after_the_update(
    number: int, name: str, code: int, at: int, tiny: Config, tmp_path: Path
) -> None:
    """In the middle of an epoch, and at its end, before the validation."""
    before = signal.getsignal(number)
    callback = Sends(at, number)
    with pytest.raises(TrainingStopped) as caught:
        train(tiny, tmp_path / "run", progress=False, callbacks=[callback])
    assert str(caught.value) == (
        f"stopped by {name} after update {at}, with everything saved; to go on: labkit train "
        f"--resume --out {tmp_path / 'run'}"
    )
    assert caught.value.code == code
    assert isinstance(caught.value, KeyboardInterrupt)  # as a notebook knows it
    assert callback.closed
    assert signal.getsignal(number) is before
    state = load_checkpoint(tmp_path / "run")
    assert (state["update"], state["summed"], state["rows"]) == (at, at, [])


def test_stopped_twice_it_ends_as_if_never(tiny: Config, tmp_path: Path) -> None:
    train(tiny, tmp_path / "whole", progress=False)
    for at in (3, 4, 8, 0):
        try:
            callbacks = [Sends(at, signal.SIGTERM)]
            train(tiny, tmp_path / "run", resume=True, progress=False, callbacks=callbacks)
        except TrainingStopped:
            assert at
    for name in ("model.safetensors", "history.csv"):
        files = [tmp_path / run / name for run in ("whole", "run")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_second_ctrl_c_stops_at_once() -> None:
    with SignalHandler() as stopping:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(caught.value, TrainingStopped)


def test_a_launchers_repetition_is_no_second_ctrl_c() -> None:
    with SignalHandler(alone=False) as stopping:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stopping.number == signal.SIGINT
