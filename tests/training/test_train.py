"""Training end to end on a few clips: files, resume, and what happens when it goes wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from labkit.cli import main
from labkit.config import Config
from labkit.errors import ConfigError, RunError, TrainingError
from labkit.evaluation.protocol import validation_psnr
from labkit.model import VideoCVAE
from labkit.training import load_model, loop, read_history, train
from labkit.training.checkpoint import load_checkpoint, save_checkpoint
from labkit.training.events import EpochEnd, Update
from labkit.training.history import read_timing
from labkit.training.loop import TrainingLoop
from labkit.training.objective import negative_elbo
from labkit.training.setup import TrainingSetup
from labkit.training.validation import validate


def with_training(config: Config, **changes: object) -> Config:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


def test_gradient_steps_lower_the_loss(smoke) -> None:
    torch.manual_seed(0)
    model = VideoCVAE(smoke.model, 7)
    frames, condition = torch.rand(2, 6, 3, 64, 64), torch.randn(2, 6, 7)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        rollout = model.rollout(
            frames,
            condition,
            2,
            teacher_forced=False,
            generator=torch.Generator().manual_seed(0),
        )
        loss = negative_elbo(rollout, frames[:, 1:], 1e-4).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in model.parameters())


def test_a_run_leaves_its_files_and_a_history(smoke, tmp_path) -> None:
    rows = train(smoke, tmp_path / "run", progress=False)
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "config.json",
        "history.csv",
        "checkpoint.pt",
        "model.safetensors",
        "timing.csv",
    }
    assert (read_timing(tmp_path / "run") > 0).all()
    history = read_history(tmp_path / "run")
    assert history["updates"].tolist() == [4, 8]
    assert history["teacher_forcing_ratio"].tolist() == [1.0, 0.0]
    assert np.isfinite(history["loss"]).all()
    assert history["validation_psnr"][-1] == pytest.approx(rows[-1].validation_psnr, rel=1e-5)
    assert Config.load(tmp_path / "run" / "config.json") == smoke


def test_resume_equals_no_interruption(smoke, tmp_path, monkeypatch) -> None:
    """TrainingStopped after its first epoch and taken up again, a run ends in the same weights."""
    train(smoke, tmp_path / "whole", progress=False)
    save = TrainingLoop._save

    def save_and_stop(trainer: TrainingLoop) -> None:
        save(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(smoke, tmp_path / "parts", progress=False)
    assert load_checkpoint(tmp_path / "parts")["update"] == 4
    train(smoke, tmp_path / "parts", progress=False, resume=True)

    whole, parts = (load_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    for key in ("module", "average", "optimizer"):
        torch.testing.assert_close(whole[key], parts[key], rtol=0, atol=0)
    one, two = read_history(tmp_path / "whole"), read_history(tmp_path / "parts")
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_a_stopped_run_resumes_in_the_middle_of_an_epoch(smoke, tmp_path) -> None:
    """The minutes are over at once: one update is done and saved; the rest comes later."""
    train(smoke, tmp_path / "run", minutes=1e-9, progress=False)
    assert load_checkpoint(tmp_path / "run")["update"] == 1
    train(smoke, tmp_path / "run", resume=True, progress=False)
    train(smoke, tmp_path / "whole", progress=False)
    whole, parts = (load_checkpoint(tmp_path / name) for name in ("whole", "run"))
    torch.testing.assert_close(whole["module"], parts["module"], rtol=0, atol=0)


def test_out_of_time_says_how_to_go_on_and_how_to_evaluate(simulated, tmp_path, capsys) -> None:
    run = (tmp_path / "run").as_posix()
    options = ["--data.root", simulated.as_posix(), "--out", run, "--no-progress"]
    main(["train", "smoke", *options, "--no-tensorboard", "--minutes", "1e-9", "--device", "cpu"])
    said = capsys.readouterr().out
    assert f"labkit train --resume --out {run}" in said
    assert f"or evaluate it as it is: labkit evaluate {run}" in said


def test_out_of_time_is_validated_and_undone_by_a_resume(smoke, tmp_path) -> None:
    """Weights for use in the meantime; in the end all files are those of one run without a stop,
    though the last weights are not the best ones."""
    # A rate with which it soon gets worse.
    config = with_training(smoke, epochs=2, updates_per_epoch=2, learning_rate=0.05)
    train(config, tmp_path / "whole", progress=False)
    run = tmp_path / "run"
    best = (tmp_path / "whole" / "model.safetensors").read_bytes()
    for attempt in range(20):
        rows = train(config, run, minutes=1e-9, resume=attempt > 0, progress=False)
        assert rows[-1].updates == min(attempt + 1, 4)
        assert rows[-1].validation_psnr is not None
        assert read_history(run)["updates"].tolist() == [row.updates for row in rows]
        if rows[-1].updates == 4:
            break
    assert (run / "model.safetensors").read_bytes() == best
    names = ["history.csv", "config.json"]
    assert all((run / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)
    assert load_checkpoint(run)["displaced"] is None


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_kept_are_the_best_or_the_last(keep, smoke, tmp_path, monkeypatch) -> None:
    """The second epoch's predictions are said to be worse than the first one's."""
    said = iter([20.0, 10.0])
    monkeypatch.setattr(
        loop, "validate", lambda setup: dataclasses.replace(validate(setup), psnr=next(said))
    )
    config = with_training(smoke, epochs=2, updates_per_epoch=1, keep=keep)
    setup = TrainingSetup(config, torch.device("cpu"))
    config.save(tmp_path / "config.json")
    TrainingLoop(setup, tmp_path).fit()
    saved = load_model(tmp_path)[0].state_dict()
    trained = setup.validated_model.state_dict()
    assert all(torch.equal(saved[name], trained[name]) for name in saved) == (keep == "last")


def test_the_moving_average_is_what_is_validated_and_saved(smoke, tmp_path) -> None:
    """By hand: average <- d average + (1 - d) weights after each update but the first, which sets
    the average to the weights."""
    config = with_training(smoke, epochs=1, updates_per_epoch=3, ema_decay=0.5)
    weights: list[dict[str, torch.Tensor]] = []
    setup = TrainingSetup(config, torch.device("cpu"))

    class Records:
        def on_update(self, update: Update) -> None:
            weights.append({k: v.detach().clone() for k, v in setup.model.named_parameters()})

        def on_epoch(self, epoch_end: EpochEnd) -> None:
            pass

        def close(self) -> None:
            pass

    config.save(tmp_path / "config.json")
    (row,) = TrainingLoop(setup, tmp_path, callbacks=[Records()]).fit()
    average = weights[0]
    for each in weights[1:]:
        average = {name: 0.5 * average[name] + 0.5 * each[name] for name in average}
    saved, _ = load_model(tmp_path)
    torch.testing.assert_close(dict(saved.named_parameters()), average)
    assert any(not torch.equal(weights[-1][name], value) for name, value in average.items())

    def decibels(model: VideoCVAE) -> float:
        clips, seed = config.training.validation_clips, config.seed
        return validation_psnr(
            model.eval(), setup.validation, clips=clips, seed=seed, device=setup.device
        )

    assert row.validation_psnr == pytest.approx(decibels(saved), abs=1e-6)
    assert row.validation_psnr != pytest.approx(decibels(setup.model), abs=1e-6)


def test_the_saved_model_predicts_the_same(smoke, tmp_path) -> None:
    train(smoke, tmp_path / "run", progress=False)
    model, config = load_model(tmp_path / "run")
    again, _ = load_model(tmp_path / "run")
    assert config == smoke
    assert not model.training
    assert (model.condition_std != 1).any()  # the training data's own units came along
    context, condition = torch.rand(1, 2, 3, 64, 64), torch.randn(1, 12, 7)
    with torch.no_grad():
        one, two = (m.predict(context, condition, 10, sample=False) for m in (model, again))
    assert torch.equal(one, two)


@pytest.mark.parametrize("what", ["loss", "weights", "gradient"])
def test_what_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    what, smoke, tmp_path, monkeypatch
) -> None:
    losses = loop.batch_losses

    def poisoned(setup: TrainingSetup, batch: object, update: int, *rest: object) -> dict:
        if update == 6 and what == "weights":
            with torch.no_grad():
                next(setup.model.decoder.parameters()).fill_(float("nan"))
        values = losses(setup, batch, update, *rest)
        if update == 6 and what == "loss":
            values = {**values, "loss": values["loss"] * float("inf")}
        if update == 6 and what == "gradient":  # sqrt at 0: a finite value, an infinite slope
            values = {**values, "loss": values["loss"] + (values["loss"] * 0).sqrt()}
        return values

    monkeypatch.setattr(loop, "batch_losses", poisoned)
    with pytest.raises(
        TrainingError, match=r"update 6: .*checkpoint of update 4 is unchanged.*learning-rate"
    ):
        train(smoke, tmp_path / "run", progress=False)
    state = load_checkpoint(tmp_path / "run")
    assert state["update"] == 4
    assert all(torch.isfinite(value).all() for value in state["module"].values())


def test_an_existing_run_is_never_overwritten(smoke, tmp_path) -> None:
    train(smoke, tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="there is a run in this folder already"):
        train(smoke, tmp_path / "run", progress=False)
    other = with_training(smoke, batch_size=3)
    with pytest.raises(RunError, match=r"training\.batch_size: 4 -> 3"):
        train(other, tmp_path / "run", resume=True, progress=False)
    elsewhere = with_training(smoke, checkpoint_minutes=1.0)  # of the machine, not of the result
    train(elsewhere, tmp_path / "run", resume=True, progress=False)


def test_a_resume_begins_where_there_is_nothing_yet(smoke, tmp_path) -> None:
    """What a cluster's script says each time it is started."""
    lines: list[str] = []
    run = tmp_path / "run"
    train(smoke, run, resume=True, progress=False, report=lines.append)
    assert "has no checkpoint to go on from: it starts from the beginning" in lines[0]
    assert read_history(run)["updates"].tolist() == [4, 8]
    train(smoke, run, resume=True, progress=False, report=lines.append)
    assert len(lines) == 3
    for line in lines[1:]:
        assert line.startswith("training on cpu, 1 thread: ")
        assert "channels last, fused Adam, not compiled, clips read as needed" in line


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path) -> None:
    save_checkpoint(tmp_path, {"update": 1})

    class Unwritable:
        def __reduce__(self) -> object:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, {"update": Unwritable()})
    assert load_checkpoint(tmp_path) == {"update": 1}


def test_damaged_runs_are_named(smoke, tmp_path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        load_model(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"config\.json: no such file"):
        load_model(tmp_path / "empty")
    run = tmp_path / "run"
    train(smoke, run, progress=False)
    (run / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match=r"checkpoint\.pt: not a readable checkpoint"):
        train(smoke, run, resume=True, progress=False)
    (run / "model.safetensors").write_bytes(b"1234567890")
    with pytest.raises(RunError, match="the weights do not fit"):
        load_model(run)
    other = dataclasses.replace(smoke, model=dataclasses.replace(smoke.model, latent_size=5))
    other.save(run / "config.json")
    with pytest.raises(RunError, match="the weights do not fit"):
        load_model(run)
    (run / "history.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="not a training history"):
        read_history(run)


def test_actions_alone_can_be_the_condition(smoke, tmp_path) -> None:
    config = dataclasses.replace(smoke, data=dataclasses.replace(smoke.data, condition="action"))
    train(config, tmp_path / "run", progress=False)
    assert load_model(tmp_path / "run")[0].condition_size == 4
