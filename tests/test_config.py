"""The config: checked as it is made, and the same after a round trip."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from labkit.config import (
    Config,
    DataConfig,
    KLConfig,
    ModelConfig,
    TeacherForcingConfig,
    TrainingConfig,
    from_dict,
)
from labkit.errors import ConfigError
from labkit.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_back_as_it_was_saved(name: str, tmp_path: Path) -> None:
    config = preset(name)
    config.save(tmp_path / "config.json")
    assert Config.load(tmp_path / "config.json") == config


def test_no_field_is_lost_on_the_way(tmp_path: Path) -> None:
    # Every value differs from its default, so one that is dropped shows.
    config = Config(
        seed=7,
        data=DataConfig(
            root="elsewhere", condition="action", n_past=3, n_future=4, windows="first"
        ),
        model=ModelConfig(backbone="vgg64", width=8, conditioning="film", output="flow"),
        kl=KLConfig(schedule="monotonic", max_weight=0.25, cycles=5, ratio=1.5),
        teacher_forcing=TeacherForcingConfig(0.9, 3, 0.125, 0.5),
        training=TrainingConfig(epochs=3, learning_rate=1e-3, ema_decay=0.5),
    )
    config.save(tmp_path / "config.json")
    assert Config.load(tmp_path / "config.json") == config
    assert json.loads((tmp_path / "config.json").read_text()) == config.to_dict()


def test_fields_left_out_keep_their_defaults() -> None:
    assert from_dict({"training": {"epochs": 3}}) == dataclasses.replace(
        Config(), training=TrainingConfig(epochs=3)
    )


@pytest.mark.parametrize(
    ("values", "unknown", "nearest"),
    [
        ({"sede": 1}, "config.sede", "seed"),
        ({"training": {"epoch": 3}}, "config.training.epoch", "epochs"),
        ({"model": {"latent": 3, "width": 8}}, "config.model.latent", "latent_size"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(
    values: dict, unknown: str, nearest: str
) -> None:
    with pytest.raises(ConfigError, match=f"unknown field {unknown} .*{nearest}"):
        from_dict(values)


@pytest.mark.parametrize(
    ("kind", "field", "value", "allowed"),
    [
        (Config, "seed", -1, r"0\.\.2147483647"),
        (TrainingConfig, "epochs", 0, r"1\.\."),
        (TrainingConfig, "adam_beta1", 1.0, r"0\.\.0\.9999"),
        (DataConfig, "n_past", 101, r"1\.\.100"),
        (KLConfig, "ratio", 0.5, r"1\.\.1000"),
        (KLConfig, "max_weight", float("nan"), r"0\.\.1000"),
        (ModelConfig, "skip", "none", "last_context, previous"),
        (TeacherForcingConfig, "lower_bound", 1.5, r"0\.\.1"),
    ],
)
def test_a_value_out_of_range_names_field_and_range(
    kind: type, field: str, value: object, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{kind.__name__}\.{field} is .*allowed: {allowed}"):
        kind(**{field: value})


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(TrainingConfig, "epochs", 2.5), (TrainingConfig, "epochs", True), (ModelConfig, "align", 1)],
)
def test_a_value_of_the_wrong_type_names_the_field(kind: type, field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{kind.__name__}\.{field} is .*must be a"):
        kind(**{field: value})


def test_the_lower_bound_of_teacher_forcing_is_not_above_its_start() -> None:
    with pytest.raises(ConfigError, match="lower_bound"):
        TeacherForcingConfig(start=0.5, lower_bound=0.6)


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"seed": "x"}', '{"data": 3}'])
def test_a_file_that_is_no_config_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        Config.load(file)


def test_a_config_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 2  # type: ignore[misc]


def test_the_course_preset_is_the_sample_code() -> None:
    course = preset("course")
    assert (course.model.backbone, course.model.norm, course.model.skip) == (
        "vgg64",
        "batch",
        "last_context",
    )
    assert (course.model.encoding_size, course.model.latent_size) == (128, 64)
    assert (course.model.hidden_size, course.model.predictor_layers) == (256, 2)
    assert course.model.posterior_layers == 1
    assert (course.data.n_past, course.data.n_future, course.data.windows) == (2, 10, "first")
    training = course.training
    assert (training.epochs, training.updates_per_epoch, training.batch_size) == (300, 600, 12)
    assert (training.learning_rate, training.adam_beta1) == (0.002, 0.9)
    assert (course.kl.cycles, course.kl.ratio, course.kl.max_weight) == (3, 2.0, 1.0)
    assert (course.teacher_forcing.start, course.teacher_forcing.decay_start) == (1.0, 0)


def test_spec_and_report_differ_from_course_in_what_they_are_named_for() -> None:
    course, spec, report = preset("course"), preset("spec"), preset("report")
    assert (spec.model.encoding_size, spec.model.latent_size) == (64, 128)
    sizes = {"encoding_size": 128, "latent_size": 64}
    assert dataclasses.replace(spec, model=dataclasses.replace(spec.model, **sizes)) == course
    assert (report.kl.cycles, report.kl.ratio) == (4, 2.0)
    assert dataclasses.replace(report, kl=course.kl) == course


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match="demo, best, layer, course, spec, report, svg, latent, free, smoke"
    ):
        preset("dmeo")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kl": {"balance": 0.8}}, "kl.balance is 0.8, but model.prior is fixed"),
        ({"kl": {"anneal_prior": False}}, "kl.anneal_prior is off, but model.prior is fixed"),
        (
            {"data": {"condition": "none"}, "model": {"conditioning": "film"}},
            "model.conditioning is film, but data.condition is none",
        ),
        ({"training": {"batch_size": 1}}, "training.batch_size is 1"),
    ],
)
def test_choices_that_do_not_fit_together(changes, words) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        from_dict(changes)
    assert caught.value.hint
