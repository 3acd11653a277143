"""`labkit demo` in small: the whole path, a second call, and one that was cut short."""

from __future__ import annotations

import dataclasses

import pytest

import labkit.demo
from labkit.demo import run_demo
from labkit.errors import DataError, LabkitError, RunError
from labkit.presets import DEMO, SMOKE
from labkit.training import read_history

SIZES = ("width", "encoding_size", "latent_size", "hidden_size", "map_size")


@pytest.fixture(autouse=True)
def _small(monkeypatch) -> None:
    """The demo's model, as small and as short as the preset `smoke`; its arm is trained first."""
    small = {name: getattr(SMOKE.model, name) for name in SIZES}
    model = dataclasses.replace(DEMO.model, **small)
    training = dataclasses.replace(SMOKE.training, arm_updates=2)
    demo = dataclasses.replace(DEMO, model=model, training=training)
    monkeypatch.setattr(labkit.demo, "DEMO", demo)
    monkeypatch.setattr(labkit.demo, "CLIPS", {"train": 4, "validate": 2, "test": 2})


def test_from_nothing_to_a_report_and_again(tmp_path, capsys) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    run_demo(run, data, progress=False)
    told = capsys.readouterr().out
    assert "training, with everything kept" in told
    assert "against repeating the last frame (protocol frame: 2 -> 10 frames" in told
    assert (run / "report.html").is_file()
    weights = (run / "model.safetensors").read_bytes()

    run_demo(run, data, progress=False)
    again = capsys.readouterr().out
    assert "trained already" in again
    assert again.splitlines()[-1] == told.splitlines()[-1]
    assert (run / "model.safetensors").read_bytes() == weights


def test_a_demo_cut_short_goes_on_where_it_stopped(tmp_path, capsys) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    run_demo(run, data, minutes=1e-9, progress=False)
    assert read_history(run)["updates"].tolist() == [1]
    run_demo(run, data, progress=False)
    assert "trained already" not in capsys.readouterr().out
    assert read_history(run)["updates"][-1] == 8


def test_what_is_there_is_never_overwritten(tmp_path) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    run_demo(run, data, progress=False)
    with pytest.raises(DataError, match="choose another folder, or delete this one"):
        run_demo(run, data, seed=2, progress=False)
    with pytest.raises(RunError, match="seed: 1 -> 2"):
        run_demo(run, tmp_path / "other", seed=2, progress=False)
    with pytest.raises(LabkitError, match="minutes is 0"):
        run_demo(run, data, minutes=0, progress=False)
