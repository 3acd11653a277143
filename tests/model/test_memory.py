"""A model that cannot fit into memory is refused before it is built."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from labkit.config import ModelConfig
from labkit.errors import ConfigError
from labkit.model import VideoCVAE, memory
from labkit.model.memory import check_memory, count_parameters, free_memory
from labkit.presets import PRESETS

HUGE = ModelConfig(width=512, hidden_size=4096, encoding_size=4096, predictor_layers=8)


@pytest.mark.parametrize("name", PRESETS)
def test_weights_are_counted_without_building(name) -> None:
    preset = PRESETS[name]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    counted = count_parameters(preset.model, preset.data.condition_size)
    assert torch.equal(torch.get_rng_state(), before)  # the weights' own draws stay as they were
    built = VideoCVAE(preset.model, preset.data.condition_size)
    assert counted == sum(parameter.numel() for parameter in built.parameters())


def test_a_model_larger_than_the_free_memory_is_refused(monkeypatch) -> None:
    count = count_parameters(PRESETS["smoke"].model, 7)
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * count)
    check_memory(PRESETS["smoke"].model, 7)
    with pytest.raises(ConfigError, match=rf"{count:,} weights and needs .* \(2 times"):
        check_memory(PRESETS["smoke"].model, 7, copies=2)
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * count - 1)
    with pytest.raises(ConfigError, match=r"for its weights.*smaller sizes: model\.width"):
        check_memory(PRESETS["smoke"].model, 7)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    check_memory(HUGE, 7, copies=5)


def test_the_memory_of_this_machine_is_found() -> None:
    free = free_memory()
    assert free is None or 2**20 < free < 2**50
    assert free_memory("mps") is None


def test_a_container_s_limit_counts(tmp_path, monkeypatch) -> None:
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "used").write_text("400\n")
    files = (str(tmp_path / "max"), str(tmp_path / "used"))
    monkeypatch.setattr(memory, "CGROUPS", (files,))
    assert free_memory() == 600
    (tmp_path / "max").write_text("max\n")  # no limit
    assert free_memory() != 600


def test_every_size_the_config_allows_can_be_counted() -> None:
    assert count_parameters(dataclasses.replace(HUGE, backbone="vgg64"), 7) > 1_000_000_000
