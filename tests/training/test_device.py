"""How the arithmetic is done: precision, layout, optimizer, compiling, where the clips are."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch

from labkit.config import Config, from_dict
from labkit.data.dataset import ClipDataset
from labkit.data.gpu_cache import GPUCache, resident_bytes
from labkit.errors import TrainingError
from labkit.training import load_model, train
from labkit.training.device import Acceleration, has_fast_bf16, why_not_compile
from labkit.training.distributed import Processes
from labkit.training.loop import TrainingLoop
from labkit.training.loss_step import batch_losses
from labkit.training.setup import TrainingSetup
from labkit.training.step_metrics import StepMetrics

CPU = torch.device("cpu")


def changed(config: Config, part: str, **changes: object) -> Config:
    values = config.to_dict()
    values["data"]["n_future"] = 3
    values[part] |= changes
    return from_dict(values)


def losses(config: Config) -> dict[str, torch.Tensor]:
    """Those of the first update, teacher forcing off."""
    setup = TrainingSetup(config, CPU)
    (batch,) = setup.batches(range(1))
    return batch_losses(setup, batch, 0, {"kl_weight": 1.0, "teacher_forcing_ratio": 0.0})


@pytest.mark.parametrize("predictor", ["lstm", "convlstm"])
def test_bf16_is_of_the_convolutions_alone(smoke: Config, predictor: str, monkeypatch) -> None:
    """The figures hardly move; states, latents and losses stay fp32."""
    plain = changed(smoke, "model", predictor=predictor, predictor_norm="none")
    coarse = changed(plain, "training", precision="bf16")
    seen: dict[str, set[torch.dtype]] = {"conv": set(), "state": set()}
    setup = TrainingSetup(coarse, CPU)
    for module in setup.model.encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: seen["conv"].add(out.dtype))
    setup.model.predictor.register_forward_hook(
        lambda _, __, out: seen["state"].update(part.dtype for part in out[1])
    )
    rollouts = []
    rollout = setup.model.rollout
    monkeypatch.setattr(
        setup.model, "rollout", lambda *a, **k: rollouts.append(rollout(*a, **k)) or rollouts[0]
    )
    (batch,) = setup.batches(range(1))
    found = batch_losses(setup, batch, 0, {"kl_weight": 1.0, "teacher_forcing_ratio": 0.0})
    assert seen == {"conv": {torch.bfloat16}, "state": {torch.float32}}
    assert rollouts[0].frames.dtype == rollouts[0].posterior.mean.dtype == torch.float32
    for name, value in losses(plain).items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, rtol=0.02, atol=0.01)
    found["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in setup.model.parameters())


def test_auto_takes_bf16_where_the_processor_has_it(smoke: Config, monkeypatch) -> None:
    auto = changed(smoke, "training", precision="auto").training
    for has in (True, False):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False
        )
        assert has_fast_bf16(CPU) is has
        assert Acceleration.choose(auto, CPU).bf16 is has
    always = changed(smoke, "training", precision="bf16").training
    assert Acceleration.choose(always, CPU).bf16


def test_every_choice_can_be_switched_off_and_is_reported(smoke: Config) -> None:
    training = changed(
        smoke, "training", precision="fp32", channels_last=False, fused_optimizer=False
    ).training
    chosen = Acceleration.choose(training, CPU)
    module = torch.nn.Conv2d(3, 4, 3)
    chosen.place(module)
    assert not module.weight.is_contiguous(memory_format=torch.channels_last)
    optimizer = chosen.optimizer(module, training)
    assert not optimizer.param_groups[0]["fused"]
    line = chosen.sentence(type(optimizer).__name__, "clips read as needed")
    assert line == (
        "training on cpu, 1 thread: fp32, channels first, Adam, not compiled, clips read as needed"
    )
    decaying = dataclasses.replace(training, weight_decay=0.1, fused_optimizer=True)
    optimizer = Acceleration.choose(decaying, CPU).optimizer(module, decaying)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[0]["fused"]
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_without_a_compiler_it_is_said_and_nothing_is_compiled(smoke: Config, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    training = changed(smoke, "training", compile="on").training
    chosen = Acceleration.choose(training, CPU)
    assert not chosen.compiled
    assert chosen.sentence("Adam", "clips").endswith(
        "; torch.compile does not work here (RuntimeError), so nothing is compiled"
    )
    assert not Acceleration.choose(smoke.training, CPU).refused  # it was not asked for
    assert why_not_compile(CPU)


def test_compiled_modules_keep_their_names_and_run_plainly_for_validation(monkeypatch) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    names = set(module.state_dict())
    options = []
    monkeypatch.setattr(module, "compile", lambda **given: options.append(given))
    Acceleration(CPU, compiled=True).compile(module)
    Acceleration(CPU, compiled=True, graphs=True).compile(module)
    Acceleration(CPU).compile(module)
    assert options == [{}, {"mode": "reduce-overhead", "dynamic": False}]
    assert set(module.state_dict()) == names


def test_clips_kept_on_a_device_give_the_same_batches(smoke: Config, simulated) -> None:
    dataset = ClipDataset(simulated, "train", n_future=3, labels=False)
    resident = GPUCache(dataset, "cpu")
    indices = [0, len(dataset) - 1, 30, 7, 30]
    expected = dataset.batch(indices)
    found = resident.batch(indices)
    assert torch.equal(found.frames, expected.frames)
    assert torch.equal(found.condition, expected.condition)
    assert resident_bytes(dataset) == resident.frames.nbytes + resident.condition.nbytes
    with pytest.raises(IndexError):
        resident.batch([len(dataset)])


def test_a_run_with_clips_on_the_device_is_the_same_run(smoke: Config, tmp_path) -> None:
    lines: list[str] = []
    for name in ("off", "on"):
        config = changed(smoke, "training", data_on_device=name, epochs=1)
        train(config, tmp_path / name, progress=False, report=lines.append)
    assert "clips read as needed" in lines[0]
    assert "clips in the device's memory" in lines[1]
    one, two = (load_model(tmp_path / name)[0].state_dict() for name in ("off", "on"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_figures_that_are_read_late_are_the_same_and_a_nan_is_still_named(tmp_path) -> None:
    """As on a GPU, which is waited for only now and then."""
    found = {}
    for interval in (1, 3):
        readings = StepMetrics(tmp_path, Processes(), interval)
        found[interval] = []
        for update in range(7):
            readings.add({"kl_weight": update}, torch.arange(4.0) + update)
            if readings.are_due(update + 1) or update == 6:
                found[interval] += readings.read(update + 1)
    assert found[1] == found[3]
    assert [number for number, *_ in found[1]] == list(range(7))
    readings = StepMetrics(tmp_path, Processes(), 3)
    readings.saved = 2
    for update in range(3):
        values = torch.ones(4) if update < 2 else torch.tensor([1.0, float("nan"), 1.0, 1.0])
        readings.check_at_once(update, values)  # says nothing yet
        readings.add({}, values)
    with pytest.raises(TrainingError, match=r"update 2: .*reconstruction nan.*update 2 is"):
        list(readings.read(3))


def test_figures_are_read_late_on_other_devices_than_a_cpu() -> None:
    assert Acceleration(CPU).metrics_interval == 1
    assert Acceleration(torch.device("cuda")).metrics_interval > 1


@pytest.mark.parametrize("graphs", [True, False])
def test_cuda_graphs_hear_of_every_update_once(smoke: Config, graphs, monkeypatch, tmp_path):
    """However many parts it has, and for no validation."""
    begun: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    chosen = dataclasses.replace(Acceleration.choose(smoke.training, CPU), graphs=graphs)
    config = changed(smoke, "training", accumulation_steps=2, batch_size=2)
    TrainingLoop(TrainingSetup(config, CPU, acceleration=chosen), tmp_path / "run").fit()
    updates = config.training.epochs * config.training.updates_per_epoch
    assert len(begun) == (updates if graphs else 0)


def test_training_leaves_the_choice_of_tf32_as_it_is() -> None:
    cudnn = torch.backends.cudnn
    for allowed in (True, False):
        with cudnn.flags(enabled=True, allow_tf32=allowed):
            with Acceleration(torch.device("cuda")).kernels():
                assert cudnn.allow_tf32 == allowed
                assert cudnn.benchmark
            assert cudnn.allow_tf32 == allowed


@pytest.mark.parametrize(("update", "eagerly"), [(0, True), (7, False)])
def test_short_windows_run_uncompiled(
    update: int, eagerly: bool, smoke: Config, monkeypatch
) -> None:
    """Each length of windows would compile encoder and decoder anew, and after 8 shapes torch
    compiles no more, not even for the whole windows."""
    setup = TrainingSetup(changed(smoke, "training", growing_windows=0.5), CPU)
    entered = []

    @contextlib.contextmanager
    def eager():
        entered.append(update)
        yield

    monkeypatch.setattr(Acceleration, "eager", lambda self: eager())
    (batch,) = setup.batches(range(1))
    batch_losses(setup, batch, update, {"kl_weight": 1.0, "teacher_forcing_ratio": 0.0})
    assert bool(entered) == eagerly
