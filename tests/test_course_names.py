"""The course's names and values are understood in dictionaries and on the command line."""

from __future__ import annotations

import dataclasses

import pytest

from labkit.cli import _read_train
from labkit.config import Config, from_dict
from labkit.course_names import COURSE_NAMES, OUTSIDE, SWITCHES, in_lab_words
from labkit.errors import ConfigError


def field(config: Config, section: str, name: str) -> object:
    return getattr(getattr(config, section), name)


VALUES = {"schedule": "monotonic", "start": 0.5, "lower_bound": 0.25, "ratio": 3.0, "root": "X"}
VALUES |= {"max_weight": 0.5, "adam_beta1": 0.5, "decay_step": 0.5, "cycles": 5}


@pytest.mark.parametrize("name", sorted(COURSE_NAMES.keys() - SWITCHES))
def test_every_name_reaches_its_field(name: str) -> None:
    section, own = COURSE_NAMES[name]
    value = VALUES.get(own, 3)
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


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_stand_alone_or_have_a_value(name: str) -> None:
    section, own = COURSE_NAMES[name]
    lab = f"--{section}.{own}"
    for value, meaning in SWITCHES[name].items():
        assert field(from_dict({name: value}), section, own) == meaning
        for words in ([f"--{name}", str(value)], [f"--{name}={value}"]):
            assert in_lab_words([*words, "--tfr", "1"])[0] == f"{lab}={meaning}"
    for alone in ([f"--{name}"], [f"--{name}", "--resume"], [f"--{name}", "course"]):
        assert in_lab_words(alone) == [f"{lab}={SWITCHES[name][True]}", *alone[1:]]
    with pytest.raises(ConfigError, match=f"{name} is 'maybe'; allowed: True, False"):
        in_lab_words([f"--{name}=maybe"])


def test_the_sample_codes_own_command_line_is_understood() -> None:
    line = (
        "course --niter 5 --lr 0.001 --beta 0.0001 --n_past 3 --n_future 7 --batch_size 4 "
        "--data_root X --last_frame_skip --kl_anneal_cyclical --kl_anneal_ratio 0.25 "
        "--tfr_decay_step 0 --tfr_start_decay_epoch 2 --rnn_size 32 --epoch_size 6"
    )
    config = _read_train("labkit train", line.split()).config
    assert (config.training.epochs, config.training.learning_rate) == (5, 0.001)
    assert (config.training.batch_size, config.training.updates_per_epoch) == (4, 6)
    assert (config.data.root, config.data.n_past, config.data.n_future) == ("X", 3, 7)
    assert (config.kl.max_weight, config.kl.schedule, config.kl.ratio) == (1e-4, "cyclical", 4.0)
    assert (config.model.skip, config.model.hidden_size) == ("previous", 32)
    assert (config.teacher_forcing.decay_step, config.teacher_forcing.decay_start) == (0, 2)


def test_a_ratio_is_a_divisor_or_a_share() -> None:
    assert from_dict({"kl_anneal_ratio": 2.0}).kl.ratio == 2.0
    assert from_dict({"kl_anneal_ratio": 0.5}).kl.ratio == 2.0
    for wrong in ({"kl": {"ratio": 0.25}},):
        with pytest.raises(ConfigError, match="a ramp takes 1/ratio of its cycle") as raised:
            from_dict(wrong)
        assert raised.value.hint == "for a ramp over the share 0.25 of a cycle, give 4"
    with pytest.raises(ConfigError, match="1/ratio"):
        in_lab_words(["--kl.ratio", "0.25"])


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_has_no_counterpart_is_told(name: str) -> None:
    for spoken in (f"--{name}", f"--{name.replace('_', '-')}=3"):
        with pytest.raises(ConfigError) as raised:
            in_lab_words(["course", spoken, "X"])
        assert raised.value.hint == OUTSIDE[name]
    with pytest.raises(ConfigError, match=f"{name} is no field"):
        from_dict({name: 1})


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
