"""Names of the course and of earlier versions for settings and values. All readers accept them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.errors import ConfigError

COURSE_NAMES: dict[str, tuple[str, str]] = {
    "kl_anneal_type": ("kl", "schedule"),
    "kl_anneal_cyclical": ("kl", "schedule"),
    "kl_anneal_cycle": ("kl", "cycles"),
    "kl_anneal_ratio": ("kl", "ratio"),
    "beta": ("kl", "max_weight"),
    "tfr": ("teacher_forcing", "start"),
    "tfr_start_decay_epoch": ("teacher_forcing", "decay_start"),
    "tfr_sde": ("teacher_forcing", "decay_start"),
    "tfr_decay_step": ("teacher_forcing", "decay_step"),
    "tfr_d_step": ("teacher_forcing", "decay_step"),
    "tfr_lower_bound": ("teacher_forcing", "lower_bound"),
    "g_dim": ("model", "encoding_size"),
    "z_dim": ("model", "latent_size"),
    "rnn_size": ("model", "hidden_size"),
    "predictor_rnn_layers": ("model", "predictor_layers"),
    "posterior_rnn_layers": ("model", "posterior_layers"),
    "last_frame_skip": ("model", "skip"),
    "niter": ("training", "epochs"),
    "epoch_size": ("training", "updates_per_epoch"),
    "batch_size": ("training", "batch_size"),
    "lr": ("training", "learning_rate"),
    "beta1": ("training", "adam_beta1"),
    "num_workers": ("training", "loader_workers"),
    "data_root": ("data", "root"),
    "n_past": ("data", "n_past"),
    "n_future": ("data", "n_future"),
}
"""The course's name (its sample code's option) -> section and field of the config."""

SWITCHES: dict[str, dict[bool, str]] = {
    "kl_anneal_cyclical": {True: "cyclical", False: "monotonic"},
    "last_frame_skip": {True: "previous", False: "last_context"},
}
"""Options of the course without a value on the command line, and what on and off mean."""

OUTSIDE: dict[str, str] = {
    "n_eval": "a training has no n_eval. The frames of an evaluation are its protocol's: "
    "labkit evaluate RUN --protocol frame is n_eval 12, --protocol long is n_eval 30",
    "model_dir": "to go on with a run of the lab: --resume --out RUN. To use a checkpoint of the "
    "course's code: labkit import FILE --out RUN",
    "log_dir": "the folder of a run is --out RUN",
    "cuda": "give --device cuda; without it, a GPU is used if there is one",
    "optimizer": "the optimizer is Adam; its settings are --training.learning-rate and "
    "--training.adam-beta1",
}
"""Options of the course that are no fields of the config, and what to give instead."""

FORMER_NAMES: dict[tuple[str, str], str] = {
    ("teacher_forcing", "coin"): "granularity",
    ("training", "accumulate"): "accumulation_steps",
}
"""Section and name of a field in configs of earlier versions -> its name today."""

COURSE_VALUES: dict[tuple[str, str], dict[Any, str]] = {
    ("kl", "schedule"): {
        "Cyclical": "cyclical",
        "Monotonic": "monotonic",
        "Constant": "constant",
        # No annealing: the weight is at its maximum from the first epoch on.
        "None": "constant",
        "none": "constant",
        None: "constant",
    }
}
"""The course's value of a field -> the lab's."""


def in_lab_names(values: dict[str, Any]) -> dict[str, Any]:
    """A config's nested dictionaries with the lab's names and values.

    A course name can be at the top, {"tfr": 0.9}, or in its section,
    {"teacher_forcing": {"tfr": 0.9}}.

    Raises:
        ConfigError: a field is given twice, under two names.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in COURSE_NAMES and not isinstance(value, dict):
            _put(found, *COURSE_NAMES[name], value, name)
        elif name in OUTSIDE:
            raise ConfigError(f"{name} is no field of the config", hint=OUTSIDE[name])
        elif isinstance(value, dict):
            found.setdefault(name, {})
            for key, inner in value.items():
                key = FORMER_NAMES.get((name, key), key)
                section, field = COURSE_NAMES.get(key, (name, key))
                _put(found, name, field if section == name else key, inner, key)
        else:
            found[name] = value
    return found


def in_lab_words(words: Sequence[str]) -> list[str]:
    """A command line with the lab's names and values:
    `--kl_anneal_type Cyclical` is `--kl.schedule cyclical`.

    Raises:
        ConfigError: an option of the course that has no counterpart; the hint says what to give.
    """
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        section, _, field = key.partition(".")
        target = COURSE_NAMES.get(key, (section, FORMER_NAMES.get((section, field), field)))
        if not word.startswith("--") or (key not in COURSE_NAMES and not field):
            if word.startswith("--") and key in OUTSIDE:
                raise ConfigError(f"--{name} is no option here", hint=OUTSIDE[key])
            found.append(word)
            continue
        option = f"--{'.'.join(target).replace('_', '-')}"
        if key in SWITCHES and not equals:
            value = rest.pop(0) if rest and rest[0] in ("True", "False") else "True"
        elif not equals:
            found.append(option)
            if rest and not rest[0].startswith("--"):
                found.append(str(_in_lab_value(key, target, rest.pop(0))))
            continue
        found.append(f"{option}={_in_lab_value(key, target, value)}")
    return found


def _in_lab_value(name: str, target: tuple[str, str], value: Any) -> Any:
    """A value of a field in the lab's words; `name` is what the user called the field."""
    if name in SWITCHES:
        switch = {True: True, "True": True, False: False, "False": False}
        if value not in switch:
            raise ConfigError(f"{name} is {value!r}; allowed: True, False")
        return SWITCHES[name][switch[value]]
    if target == ("kl", "ratio"):
        return _divisor(name, value)
    known = COURSE_VALUES.get(target, {})
    return known.get(value, value) if isinstance(value, str | None) else value


def _divisor(name: str, value: Any) -> Any:
    """The ratio of an annealing cycle as the lab's divisor: a ramp takes 1/ratio of its cycle.

    Some programs of the course take the share instead. A share is below 1, a divisor is not.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value  # refused where its type is checked
    if not 0 < number < 1:
        return value
    if name != "kl_anneal_ratio":
        raise ConfigError(
            f"kl.ratio is {value}, but a ramp takes 1/ratio of its cycle",
            hint=f"for a ramp over the share {number:g} of a cycle, give {1 / number:g}",
        )
    return 1 / number


def _put(found: dict[str, Any], section: str, field: str, value: Any, name: str) -> None:
    into = found.setdefault(section, {})
    if not isinstance(into, dict):
        raise ConfigError(f"config.{section} must be a table of fields, not {into!r}")
    if field in into:
        raise ConfigError(
            f"{section}.{field} is given twice, once as {name}", hint="leave one of them out"
        )
    into[field] = _in_lab_value(name, (section, field), value)
