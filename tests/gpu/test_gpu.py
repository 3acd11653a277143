"""What only a GPU can show: each of its ways to compute gives what a CPU computes.

`python benchmarks/gpu_check.py` runs these tests and ends with a table.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from labkit.config import Config, from_dict
from labkit.data.dataset import ClipDataset
from labkit.data.gpu_cache import GPUCache
from labkit.evaluation.sampling import predicted
from labkit.model import VideoCVAE
from labkit.presets import preset
from labkit.training import load_model, train
from labkit.training.loss_step import batch_losses
from labkit.training.setup import TrainingSetup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    # The compiler and the driver have warnings of their own, which are no faults of the lab.
    pytest.mark.filterwarnings("default"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
EXACT = 1e-4
"""allowed difference of a pixel in [0, 1] between CPU and GPU, in fp32"""


@pytest.fixture(autouse=True)
def _full_fp32():
    """By default cuDNN computes fp32 convolutions in TF32, whose mantissa has 10 bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        yield
        torch.backends.cuda.matmul.allow_tf32 = before


def changed(config: Config, **training: object) -> Config:
    """The config with 3 future frames and these training settings. Of its two epochs the first is
    teacher forced and the second free-running."""
    values = config.to_dict()
    values["data"]["n_future"] = 3
    values["teacher_forcing"] |= {"start": 1.0, "decay_step": 1.0}
    values["training"] |= {"epochs": 2, **training}
    return from_dict(values)


def losses(config: Config, device: torch.device) -> dict[str, float]:
    """Those of the first update, free-running, with one seed of the posterior's noise."""
    setup = TrainingSetup(config, device)
    (batch,) = setup.batches(range(1))
    batch = batch.to(device)
    weights = {"kl_weight": 1.0, "teacher_forcing_ratio": 0.0}
    return {name: x.item() for name, x in batch_losses(setup, batch, 0, weights).items()}


@pytest.mark.parametrize("name", ["smoke", "course", "svg", "latent", "demo"])
def test_a_prediction_is_that_of_the_cpu(name: str) -> None:
    """With z at the prior's mean, so that no random number is drawn."""
    config = preset(name)
    torch.manual_seed(0)
    model = VideoCVAE(config.model, config.data.condition_size).eval()
    frames = torch.rand(2, 2, 3, 64, 64)
    condition = torch.randn(2, 6, config.data.condition_size)
    with torch.no_grad():
        expected = model.predict(frames, condition, 4, sample=False)
        on_gpu = copy.deepcopy(model).to(GPU)
        found = on_gpu.predict(frames.to(GPU), condition.to(GPU), 4, sample=False)
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, atol=EXACT, rtol=0)


def test_clips_in_the_gpus_memory_give_the_same_batches(simulated: Path) -> None:
    clips = ClipDataset(simulated, "train", n_future=3, labels=False)
    resident = GPUCache(clips, GPU)
    indices = [0, len(clips) - 1, 30, 7, 30]
    expected, found = clips.batch(indices), resident.batch(indices)
    assert found.frames.device.type == "cuda"
    assert torch.equal(found.frames.cpu(), expected.frames)
    assert torch.equal(found.condition.cpu(), expected.condition)


def test_bf16_hardly_moves_the_losses(smoke: Config) -> None:
    plain = losses(changed(smoke, precision="fp32", compile="off"), GPU)
    coarse = losses(changed(smoke, precision="bf16", compile="off"), GPU)
    assert coarse != plain
    for name, value in plain.items():
        assert coarse[name] == pytest.approx(value, rel=0.05, abs=0.05)


WAYS = {
    "plain": {"compile": "off", "data_on_device": "off"},
    "clips in memory": {"compile": "off", "data_on_device": "on"},
    "compiled": {"compile": "on", "cuda_graphs": "off", "data_on_device": "on"},
    "CUDA graphs": {"compile": "on", "cuda_graphs": "on", "data_on_device": "on"},
}


@pytest.mark.parametrize("way", list(WAYS)[1:])
def test_a_training_ends_where_the_plain_one_ends(way: str, smoke: Config, tmp_path: Path) -> None:
    lines: list[str] = []
    for name in ("plain", way):
        config = changed(smoke, precision="fp32", **WAYS[name])
        train(config, tmp_path / name, progress=False, device="cuda", report=lines.append)
    assert "does not work here" not in lines[1], lines[1]
    if way == "CUDA graphs":
        assert "compiled with CUDA graphs" in lines[1]
    one, two = (load_model(tmp_path / name, "cuda")[0] for name in ("plain", way))
    clips = ClipDataset(Path(smoke.data.root), "test", n_future=3, labels=False)
    batch = clips.batch([0, 1]).to(GPU)
    with torch.no_grad():
        first, second = (
            predicted(model, batch.frames, batch.condition, 2, sample=False) for model in (one, two)
        )
    torch.testing.assert_close(first, second, atol=1e-2, rtol=0)


def test_a_run_of_the_gpu_goes_on_on_the_cpu(smoke: Config, tmp_path: Path) -> None:
    config, run = changed(smoke, precision="fp32", compile="off"), tmp_path / "run"
    # The time is over at the end of the first epoch.
    begun = train(config, run, progress=False, device="cuda", minutes=1e-6)
    rows = train(config, run, progress=False, device="cpu", resume=True)
    assert [len(begun), len(rows)] == [1, 2]
    assert rows[0].loss == begun[0].loss
    on_gpu, on_cpu = (load_model(run, device)[0] for device in ("cuda", "cpu"))
    for name, value in on_cpu.state_dict().items():
        assert torch.equal(on_gpu.state_dict()[name].cpu(), value), name
