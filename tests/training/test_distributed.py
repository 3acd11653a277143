"""Two processes that train one model, started by torchrun, against one process alone."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sharing
import torch

from labkit.config import Config
from labkit.errors import ConfigError, LabkitError, RunError
from labkit.training import load_model, read_history, train
from labkit.training.checkpoint import load_checkpoint
from labkit.training.distributed import Processes
from labkit.training.setup import TrainingSetup
from labkit.training.signals import TrainingStopped


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    """Starts two processes on this machine."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*line, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def shared(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave that run `sharing`."""
    out = tmp_path_factory.mktemp("shared")
    done = torchrun(sharing.__file__, simulated, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    train(sharing.run_config(simulated.as_posix()), run, progress=False)
    return run


def assert_same_run(run: Path, other: Path) -> None:
    """But for rounding: weights to 1e-5, and the history."""
    one, two = (load_model(folder)[0].state_dict() for folder in (run, other))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    rows, others = (read_history(folder) for folder in (run, other))
    for name in rows:
        # The gain is a difference of two PSNRs, and next to nothing here.
        least = 1e-5 if name == "posterior_gain" else None
        assert others[name] == pytest.approx(rows[name], rel=1e-3, abs=least, nan_ok=True), name


def test_gradients_are_those_of_the_joint_batch(shared: Path, simulated: Path) -> None:
    gradients = torch.load(shared / "gradients.pt", weights_only=True)
    assert set(gradients) == set(sharing.CASES)
    for case, found in gradients.items():
        config = sharing.config_of(simulated.as_posix(), case)
        expected = sharing.gradient(config, Processes())
        assert found.abs().max() > 0.01
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, msg=case)


@pytest.mark.parametrize("growing", [0.0, 1.0], ids=["whole windows", "short windows"])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    growing: float, simulated: Path
) -> None:
    """With group norm, and a variance that is not of the batch."""
    case = "fixed variance, forcing per step"
    config = sharing.config_of(simulated.as_posix(), case)
    training = dataclasses.replace(config.training, growing_windows=growing)
    config = dataclasses.replace(config, training=training)
    training = dataclasses.replace(training, accumulation_steps=4)
    whole = sharing.gradient(config, Processes())
    parts = sharing.gradient(dataclasses.replace(config, training=training), Processes())
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_a_run_of_two_is_that_of_one(simulated: Path, alone: Path, tmp_path: Path) -> None:
    config = sharing.run_config(simulated.as_posix())
    config.save(tmp_path / "run" / "config.json")
    words = ["-m", "labkit", "train", "--resume", "--no-progress", "--out", tmp_path / "run"]
    done = torchrun(*words)
    assert done.returncode == 0, done.stderr
    assert "has no checkpoint to go on from: it starts from the beginning" in done.stdout
    assert done.stdout.count("training on 2 processes, each on cpu, 1 thread: ") == 1
    assert done.stdout.count("is trained; next") == 1
    assert_same_run(alone, tmp_path / "run")


def test_what_two_began_one_ends(shared: Path, simulated: Path, alone: Path) -> None:
    run = shared / "parts"
    assert load_checkpoint(run)["update"] == 1
    train(sharing.run_config(simulated.as_posix()), run, resume=True, progress=False)
    assert_same_run(alone, run)


def test_what_one_began_two_end(simulated: Path, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(sharing.run_config(simulated.as_posix()), run, minutes=1e-9, progress=False)
    assert load_checkpoint(run)["update"] == 1
    done = torchrun("-m", "labkit", "train", "--resume", "--no-progress", "--out", run)
    assert done.returncode == 0, done.stderr
    assert "starts from the beginning" not in done.stdout
    assert_same_run(alone, run)


def test_what_goes_wrong_in_one_process_ends_all_with_one_sentence(
    smoke: Config, tmp_path: Path
) -> None:
    """The second finds its data broken, which the first notices by the connection that is lost."""
    broken = Path(__file__).with_name("sharing_broken.py")
    done = torchrun(broken, smoke.data.root, tmp_path / "run")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("said: ")]
    assert said == ["said: clip 3 cannot be read"]
    assert not list(tmp_path.rglob("model.safetensors"))


class Store:
    """Stands for the store that the processes share."""

    def __init__(self, words: int) -> None:
        self.words = words

    def add(self, key: str, amount: int) -> int:
        self.words += amount
        return self.words


@pytest.mark.parametrize(
    ("error", "others", "expected"),
    [
        (LabkitError("broken"), 0, LabkitError),
        (LabkitError("broken"), 1, SystemExit),
        (TrainingStopped(15, 3, Path("run")), 0, TrainingStopped),
        (TrainingStopped(15, 3, Path("run")), 1, SystemExit),
        (RuntimeError("[gloo/transport] Connection closed by peer"), 0, RunError),
        (RuntimeError("[gloo/transport] Connection closed by peer"), 1, SystemExit),
        (RuntimeError("a mistake in the program"), 1, RuntimeError),
    ],
)
def test_one_of_them_speaks(
    error: BaseException, others: int, expected: type[BaseException]
) -> None:
    processes = Processes(1, 2)
    processes._store = Store(others)
    with pytest.raises(expected) as caught, processes:
        raise error
    if expected is SystemExit:
        assert caught.value.code == (143 if isinstance(error, TrainingStopped) else 2)


def test_batch_norm_of_a_single_clip_is_refused(smoke: Config) -> None:
    model = dataclasses.replace(smoke.model, norm="batch")
    training = dataclasses.replace(smoke.training, accumulation_steps=4)
    config = dataclasses.replace(smoke, model=model, training=training)
    with pytest.raises(ConfigError, match="gives batch norm one clip"):
        TrainingSetup(config, torch.device("cpu"))
