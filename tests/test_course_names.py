"""The course's names and values are understood in dictionaries and on the command line."""

from __future__ import annotations

import dataclasses

import pytest

from labkit.cli import _read_train
from labkit.config import Config, from_dict
from labkit.course_names import COURSE_NAMES, in_lab_words
from labkit.errors import ConfigError


def field(config: Config, section: str, name: str) -> object:
    return getattr(getattr(config, section), name)


VALUES = {"schedule": "monotonic", "start": 0.5, "lower_bound": 0.25, "ratio": 3.0}


@pytest.mark.parametrize("name", COURSE_NAMES)
def test_every_name_reaches_its_field(name: str) -> None:
    section, own = COURSE_NAMES[name]
    value = VALUES.get(own, 1)
    assert value != field(Config(), section, own)
    for values in ({name: value}, {section: {name: value}}, {section: {own: value}}):
        assert field(from_dict(values), section, own) == value
    lab = f"--{section}.{own}".replace("_", "-")
    for option in (f"--{name}", f"--{name.replace('_', '-')}"):
        assert in_lab_words(["course", option, str(value)]) == ["course", lab, str(value)]
        assert in_lab_words([f"{option}={value}"]) == [f"{lab}={value}"]


def test_the_command_line_reads_them() -> None:
    words = ["course", "--tfr", "0.5", "--tfr_lower_bound=0.25", "--kl_anneal_cycle", "4"]
    config = _read_train("labkit train", words).config
    assert (config.teacher_forcing.start, config.teacher_forcing.lower_bound) == (0.5, 0.25)
    assert config.kl.cycles == 4


@pytest.mark.parametrize(
    ("course", "own"),
    [
        ("Cyclical", "cyclical"),
        ("Monotonic", "monotonic"),
        ("None", "constant"),
        ("none", "constant"),
        (None, "constant"),
        ("cyclical", "cyclical"),
    ],
)
def test_kinds_of_annealing(course: str | None, own: str) -> None:
    assert from_dict({"kl_anneal_type": course}).kl.schedule == own
    assert from_dict({"kl": {"schedule": course}}).kl.schedule == own
    for option in ("--kl_anneal_type", "--kl.schedule"):
        assert in_lab_words([option, str(course)]) == ["--kl.schedule", own]


def test_without_annealing_the_weight_is_the_maximum_throughout() -> None:
    config = from_dict({"kl_anneal_type": "None", "kl": {"max_weight": 0.25}})
    assert (config.kl.schedule, config.kl.max_weight) == ("constant", 0.25)


def test_other_words_stay_as_they_are() -> None:
    words = ["None", "--out", "None", "--data.root=Cyclical", "--resume", "Cyclical", "-h"]
    assert in_lab_words(words) == words


@pytest.mark.parametrize(
    "values",
    [
        {"tfr": 0.5, "teacher_forcing": {"start": 0.5}},
        {"teacher_forcing": {"tfr": 0.5, "start": 0.5}},
        {"tfr_sde": 1, "tfr_start_decay_epoch": 1},
    ],
)
def test_a_field_given_twice_is_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match=r"teacher_forcing\.\w+ is given twice"):
        from_dict(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": {"tfr": 1.0}}, "unknown field config.model.tfr"),
        ({"model": 3, "z_dim": 4}, "config.model must be a table"),
        ({"tfr": 2.0}, "TeacherForcingConfig.start is 2.0"),
        ({"kl_anneal_type": "Linear"}, "allowed: constant, monotonic, cyclical"),
        ({"kl_anneal_type": ["Cyclical"]}, "allowed: constant"),
    ],
)
def test_what_is_wrong_stays_wrong(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(values)


def test_what_is_written_has_the_labs_own_names() -> None:
    config = from_dict({"kl_anneal_cycle": 4, "tfr": 0.5})
    assert config == dataclasses.replace(
        Config(),
        kl=dataclasses.replace(Config().kl, cycles=4),
        teacher_forcing=dataclasses.replace(Config().teacher_forcing, start=0.5),
    )
    assert "tfr" not in str(config.to_dict())
