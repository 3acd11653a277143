"""Weights and config that do not belong together are refused by name; displaced weights return."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from labkit.config import Config
from labkit.errors import RunError
from labkit.model import VideoCVAE
from labkit.presets import SMOKE
from labkit.training.checkpoint import (
    Progress,
    load_model,
    load_progress,
    save_model,
    save_progress,
)


def saved(folder: Path, config: Config = SMOKE) -> Path:
    """A run of that config, with random weights."""
    torch.manual_seed(0)
    config.save(folder / "config.json")
    model = VideoCVAE(config.model, config.data.condition_size)
    save_model(model, folder / "model.safetensors")
    return folder


VARIANTS: dict[str, dict] = {
    "learned prior": {"prior": "learned"},
    "latent maps": {"latent_levels": 3, "align": True},
    "convlstm": {"predictor": "convlstm", "output": "cdna"},
    "conditional convolution": {"conditioning": "conv", "observation": "learned"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_predicts_the_same_after_loading(name: str, tmp_path: Path) -> None:
    config = dataclasses.replace(SMOKE, model=dataclasses.replace(SMOKE.model, **VARIANTS[name]))
    run = saved(tmp_path, config)
    torch.manual_seed(0)
    model = VideoCVAE(config.model, 7).eval()
    loaded, again = load_model(run)
    assert again == config
    context, condition = torch.rand(1, 2, 3, 64, 64), torch.randn(1, 4, 7)
    with torch.no_grad():
        one, two = (
            each.predict(context, condition, 2, generator=torch.Generator().manual_seed(0))
            for each in (model, loaded)
        )
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("model", {"latent_size": 5}, "model.latent_size: 4 -> 5"),
        ("model", {"width": 8, "align": True}, "model.width: 4 -> 8; model.align: False -> True"),
        # These change no tensor's shape, and so would load without a word.
        ("model", {"skip": "first"}, "model.skip: previous -> first"),
        ("model", {"condition_at": "target"}, "model.condition_at: previous -> target"),
        ("data", {"condition": "action"}, "condition_size: 7 -> 4; position_size: 3 -> 0"),
    ],
)
def test_a_config_of_other_weights_names_the_fields(
    part: str, change: dict, told: str, tmp_path: Path
) -> None:
    run = saved(tmp_path)
    other = dataclasses.replace(
        SMOKE, **{part: dataclasses.replace(getattr(SMOKE, part), **change)}
    )
    other.save(run / "config.json")
    with pytest.raises(RunError) as caught:
        load_model(run)
    assert f"the weights do not fit config.json: {told} (take both" in str(caught.value)


def test_what_does_not_matter_to_the_weights_may_change(tmp_path: Path) -> None:
    run = saved(tmp_path)
    moved = dataclasses.replace(SMOKE, data=dataclasses.replace(SMOKE.data, root="elsewhere"))
    moved.save(run / "config.json")
    assert load_model(run)[1] == moved


def test_weights_older_than_an_option_load_with_its_default(tmp_path: Path) -> None:
    run = saved(tmp_path)
    file = run / "model.safetensors"
    shape = {"model": dataclasses.asdict(SMOKE.model), "condition_size": 7}
    del shape["model"]["align"]  # False by default
    save_file(load_file(file), file, {"shape": json.dumps(shape)})
    load_model(run)
    del shape["model"]["width"]  # not the default here
    save_file(load_file(file), file, {"shape": json.dumps(shape)})
    with pytest.raises(RunError, match=r"json: model\.width: 64 -> 4 \("):
        load_model(run)


def test_weights_of_another_program_are_judged_by_their_tensors(tmp_path: Path) -> None:
    run = saved(tmp_path)
    tensors = load_file(run / "model.safetensors")
    save_file(tensors, run / "model.safetensors")  # says nothing of the model
    load_model(run)
    tensors.pop("decoder.to_output.conv.bias")
    save_file(tensors, run / "model.safetensors")
    with pytest.raises(RunError, match=r"do not fit.*decoder\.to_output\.conv\.bias"):
        load_model(run)


def test_displaced_weights_come_back_from_the_checkpoint(tmp_path: Path) -> None:
    """The best weights are in the checkpoint while others are in their place; a resume restores
    them byte for byte."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"the best")
    progress = Progress(best_psnr=20.0)
    progress.displace(tmp_path)
    tensors = {"module": {}, "average": None, "optimizer": {}}
    save_progress(tmp_path, tensors, progress)
    file.write_bytes(b"out of time")
    _, again = load_progress(tmp_path)
    again.restore(tmp_path)
    assert file.read_bytes() == b"the best"
    assert again.displaced is None
    file.write_bytes(b"later")
    again.restore(tmp_path)  # nothing is displaced any more
    assert file.read_bytes() == b"later"


def seven_actions(condition: str) -> Config:
    """A smoke config for a robot with seven action columns and two of its position."""
    data = dataclasses.replace(
        SMOKE.data,
        condition=condition,
        action_columns=", ".join(f"joint_{n}" for n in range(1, 8)),
        position_columns="x, y",
    )
    return dataclasses.replace(SMOKE, data=data)


def test_seven_columns_of_actions_are_no_positions(tmp_path: Path) -> None:
    for condition, positions in {"action": 0, "action+position": 2}.items():
        assert seven_actions(condition).data.position_size == positions
    assert SMOKE.data.position_size == 3
    assert dataclasses.replace(SMOKE.data, condition="none").position_size == 0
    for condition in ("action", "action+position"):
        config = seven_actions(condition)
        model = VideoCVAE(config.model, config.data.condition_size, config.data.position_size)
        folder = tmp_path / condition
        folder.mkdir()
        config.save(folder / "config.json")
        save_model(model, folder / "model.safetensors", config.data.condition_columns)
        loaded, _ = load_model(folder)
        assert loaded.condition_inputs.has_positions == (condition != "action")
        assert loaded.position_size == config.data.position_size


def test_weights_know_the_names_of_their_columns(tmp_path: Path) -> None:
    config = seven_actions("action")
    model = VideoCVAE(config.model, config.data.condition_size, config.data.position_size)
    file = tmp_path / "model.safetensors"
    save_model(model, file, config.data.condition_columns)
    data = dataclasses.replace(config.data, action_columns=config.data.action_columns + "_left")
    dataclasses.replace(config, data=data).save(tmp_path / "config.json")
    with pytest.raises(RunError, match=r"columns: joint_1, .*joint_7 -> joint_1, .*joint_7_left"):
        load_model(tmp_path)


def test_weights_of_versions_without_the_number_of_positions_are_read(tmp_path: Path) -> None:
    """They took BAIR's seven columns for actions and positions, and any others for actions."""
    for config, expected in ((SMOKE, True), (seven_actions("action+position"), False)):
        model = VideoCVAE(config.model, config.data.condition_size)
        config.save(tmp_path / "config.json")
        shape = {
            "model": dataclasses.asdict(config.model),
            "condition_size": config.data.condition_size,
        }
        tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(tensors, tmp_path / "model.safetensors", {"shape": json.dumps(shape)})
        assert load_model(tmp_path)[0].has_positions == expected
