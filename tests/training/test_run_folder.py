"""The life of a run: nothing is overwritten, one training at a time, moved data, more epochs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.cli import main
from labkit.config import Config, SceneConfig
from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.errors import DataError, RunError
from labkit.files import locked
from labkit.training import load_model, read_history, train
from labkit.training.checkpoint import load_checkpoint
from labkit.training.run_folder import LOCK, RESULTS


@pytest.fixture
def tiny(smoke: Config) -> Config:
    """One epoch of two updates, with schedules that do not depend on the number of epochs."""
    changes = {"epochs": 1, "updates_per_epoch": 2, "learning_rate_schedule": "constant"}
    return dataclasses.replace(
        smoke,
        data=dataclasses.replace(smoke.data, n_future=3),
        kl=dataclasses.replace(smoke.kl, schedule="constant"),
        training=dataclasses.replace(smoke.training, **changes),
    )


def with_training(config: Config, **changes: object) -> Config:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


def with_root(config: Config, root: Path) -> Config:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=root.as_posix()))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder)["module"]


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("resume", [False, True])
def test_results_of_a_run_are_never_overwritten(
    name: str, resume: bool, tiny: Config, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("results")
    if resume and name == "checkpoint.pt":
        pytest.skip("a checkpoint is what a resume needs")
    with pytest.raises(RunError, match="there is a run in this folder already"):
        train(tiny, tmp_path, resume=resume, progress=False)
    assert (tmp_path / name).read_text() == "results"
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_one_training_at_a_time(tiny: Config, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder / LOCK), pytest.raises(RunError, match="another process is training"):
        train(tiny, folder, progress=False)
    train(tiny, folder, progress=False)
    assert not (folder / LOCK).exists()


def test_a_training_that_never_began_leaves_no_folder(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train(with_root(tiny, tmp_path / "absent"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_named(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=r"file: is a file \(give the name of a folder\)"):
            train(tiny, run, progress=False)


def test_moved_data_go_on_and_other_data_do_not(
    tiny: Config, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(simulated, tmp_path / "here")
    config = with_root(with_training(tiny, epochs=2), tmp_path / "here")
    train(config, tmp_path / "run", minutes=1e-9, progress=False)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    moved = with_root(config, Path("there"))
    train(moved, tmp_path / "run", resume=True, progress=False)
    assert load_checkpoint(tmp_path / "run")["update"] == 4
    saved = Config.load(tmp_path / "run" / "config.json")
    assert saved.data.root == (tmp_path / "there").as_posix()  # absolute
    simulate_pack(tmp_path / "other", 5, {"train": 6, "validate": 3}, workers=0, progress=False)
    with pytest.raises(DataError, match="not those that this run was trained on"):
        train(with_root(config, tmp_path / "other"), tmp_path / "run", resume=True, progress=False)


def test_more_epochs_end_as_if_asked_for_at_once(tiny: Config, tmp_path: Path) -> None:
    train(tiny, tmp_path / "run", progress=False)
    longer = with_training(tiny, epochs=2)
    train(longer, tmp_path / "run", resume=True, progress=False)
    train(longer, tmp_path / "whole", progress=False)
    torch.testing.assert_close(
        weights(tmp_path / "run"), weights(tmp_path / "whole"), rtol=0, atol=0
    )
    with pytest.raises(RunError, match="2 epochs are done already"):
        train(tiny, tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize(
    ("part", "changes", "named"),
    [
        ("kl", {"schedule": "monotonic"}, "kl_weight"),
        ("training", {"learning_rate_schedule": "cosine"}, "learning_rate"),
    ],
)
def test_more_epochs_are_refused_where_a_schedule_would_change(
    part: str, changes: dict, named: str, tiny: Config, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        tiny, **{part: dataclasses.replace(getattr(tiny, part), **changes)}
    )
    config = with_training(config, epochs=2)
    train(config, tmp_path / "run", progress=False)
    before = weights(tmp_path / "run")
    with pytest.raises(RunError, match=named) as caught:
        train(with_training(config, epochs=3), tmp_path / "run", resume=True, progress=False)
    assert "--init-from" in caught.value.hint
    torch.testing.assert_close(weights(tmp_path / "run"), before, rtol=0, atol=0)


def test_a_run_begins_with_the_weights_of_another(tiny: Config, tmp_path: Path) -> None:
    train(tiny, tmp_path / "first", progress=False)
    still = with_training(tiny, learning_rate=0.0)
    train(still, tmp_path / "second", init_from=tmp_path / "first", progress=False)
    first, _ = load_model(tmp_path / "first")
    second, _ = load_model(tmp_path / "second")
    torch.testing.assert_close(second.state_dict(), first.state_dict())
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, latent_size=5))
    with pytest.raises(RunError, match=r"latent_size: 4 -> 5"):
        train(other, tmp_path / "third", init_from=tmp_path / "first", progress=False)


def test_a_run_with_a_pusher_begins_with_the_weights_of_one_without(
    tiny: Config, tmp_path: Path
) -> None:
    """Only the pusher's weights are new; the other way round is refused."""

    def scene(pusher: bool) -> Config:
        parts = SceneConfig(pusher=pusher, pusher_width=4)
        return dataclasses.replace(
            with_training(tiny, growing_windows=0.5),
            model=dataclasses.replace(tiny.model, output="scene", scene=parts),
        )

    first, second = tmp_path / "first", tmp_path / "second"
    train(scene(False), first, progress=False)
    still = with_training(scene(True), learning_rate=0.0)
    train(still, second, init_from=first, progress=False)
    had, has = load_model(first)[0].state_dict(), load_model(second)[0].state_dict()
    new = [name for name in has if name not in had]
    assert new
    assert all(name.startswith("output.pusher.") for name in new)
    torch.testing.assert_close({name: has[name] for name in had}, had)
    assert read_history(second)["pushed_share"][-1] >= 0
    with pytest.raises(RunError, match=r"scene\.pusher"):
        train(scene(False), tmp_path / "third", init_from=second, progress=False)


def test_where_the_arm_started_does_not_keep_its_weights_from_being_used(
    tiny: Config, tmp_path: Path
) -> None:
    def scene(start: bool, pictures: int = 1) -> Config:
        parts = SceneConfig(motion_start=start, picture_start=start, pictures=pictures)
        model = dataclasses.replace(tiny.model, output="scene", scene=parts)
        return dataclasses.replace(with_training(tiny, learning_rate=0.0), model=model)

    train(scene(False), tmp_path / "first", progress=False)
    train(scene(True), tmp_path / "second", init_from=tmp_path / "first", progress=False)
    first, second = (load_model(tmp_path / name)[0] for name in ("first", "second"))
    torch.testing.assert_close(second.state_dict(), first.state_dict())
    with pytest.raises(RunError, match=r"pictures: 1 -> 2") as caught:
        train(scene(True, 2), tmp_path / "third", init_from=tmp_path / "first", progress=False)
    assert "_start:" not in str(caught.value)


def test_missing_best_weights_are_written_from_the_checkpoint(tiny: Config, tmp_path: Path) -> None:
    train(tiny, tmp_path, progress=False)
    best, _ = load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"a checkpoint\.pt but no model\.safetensors") as caught:
        load_model(tmp_path)
    assert "labkit train --resume --out" in caught.value.hint
    lines: list[str] = []
    train(tiny, tmp_path, resume=True, progress=False, report=lines.append)
    assert "was missing: written from the checkpoint.pt" in lines[0]
    torch.testing.assert_close(load_model(tmp_path)[0].state_dict(), best.state_dict())


def test_a_checkpoint_of_another_model_is_refused(tiny: Config, tmp_path: Path) -> None:
    train(tiny, tmp_path, progress=False)
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, width=5))
    other.save(tmp_path / "config.json")
    with pytest.raises(RunError, match=r"checkpoint\.pt: the checkpoint does not fit the config"):
        train(other, tmp_path, resume=True, progress=False)


def test_stopped_by_the_minutes_it_says_where(tiny: Config, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = tmp_path / "a run"
    train(tiny, folder, minutes=1e-9, progress=False, report=lines.append)
    assert "stopped after update 1 of 2" in lines[-2]
    assert lines[-1].endswith(f"labkit train --resume --out '{folder}'")


def test_nan_in_the_actions_is_a_fault_of_the_data(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, batch = ClipDataset.clip_condition, ClipDataset.batch

    def condition(clips: ClipDataset, number: int) -> np.ndarray:
        values = plain(clips, number).copy()
        if number == 2:
            values[7, 1] = np.nan
        return values

    def poisoned(clips: ClipDataset, indices: list[int]) -> object:
        found = batch(clips, indices)
        found.condition[:] = float("nan")
        return found

    monkeypatch.setattr(ClipDataset, "clip_condition", condition)
    monkeypatch.setattr(ClipDataset, "batch", poisoned)
    with pytest.raises(DataError, match=r"clip 2 of train: column 2 .* nan in frame 7") as caught:
        train(tiny, tmp_path / "run", progress=False)
    assert caught.value.row == 8
    assert "labkit data check" in caught.value.hint


def test_another_preset_beside_resume_is_answered(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny, tmp_path / "run", progress=False)
    words = ["--out", str(tmp_path / "run"), "--resume", "--no-progress", "--no-tensorboard"]
    assert main(["train", "course", *words]) == 0
    said = capsys.readouterr().err
    assert "goes on with its own settings, which are not those of the preset course" in said
    assert main(["train", *words]) == 0
    assert "own settings" not in capsys.readouterr().err


def test_init_from_on_the_command_line(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Model and data are those of the run that it begins with."""
    train(tiny, tmp_path / "first", progress=False)
    words = ["train", "smoke", "--init-from", str(tmp_path / "first"), "--no-progress"]
    few = ["--training.epochs", "1", "--training.updates-per-epoch", "1", "--no-tensorboard"]
    assert main([*words, *few, "--out", str(tmp_path / "second")]) == 0
    saved = Config.load(tmp_path / "second" / "config.json")
    assert saved.data == tiny.data
    assert saved.model == tiny.model
    assert main([*words, "--init-from", str(tmp_path / "absent")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_the_threads_of_a_checkpoint_are_kept(tiny: Config, tmp_path: Path) -> None:
    train(tiny, tmp_path, progress=False, time_threads=True)
    assert load_checkpoint(tmp_path)["threads"] == torch.get_num_threads() == 1
