"""Names of the course and of earlier versions for settings and values. All readers accept them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.errors import ConfigError

COURSE_NAMES: dict[str, tuple[str, str]] = {
    "kl_anneal_type": ("kl", "schedule"),
    "kl_anneal_cycle": ("kl", "cycles"),
    "kl_anneal_ratio": ("kl", "ratio"),
    "tfr": ("teacher_forcing", "start"),
    "tfr_start_decay_epoch": ("teacher_forcing", "decay_start"),
    "tfr_sde": ("teacher_forcing", "decay_start"),
    "tfr_decay_step": ("teacher_forcing", "decay_step"),
    "tfr_d_step": ("teacher_forcing", "decay_step"),
    "tfr_lower_bound": ("teacher_forcing", "lower_bound"),
    "g_dim": ("model", "encoding_size"),
    "z_dim": ("model", "latent_size"),
    "rnn_size": ("model", "hidden_size"),
    "epoch_size": ("training", "updates_per_epoch"),
}
"""The course's name -> section and field of the config."""

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
        if name in COURSE_NAMES:
            _put(found, *COURSE_NAMES[name], value, name)
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
    `--kl_anneal_type Cyclical` is `--kl.schedule cyclical`."""
    found: list[str] = []
    target: tuple[str, str] | None = None  # of the option whose value comes next
    for word in words:
        if not word.startswith("--"):
            found.append(COURSE_VALUES.get(target, {}).get(word, word) if target else word)
            target = None
            continue
        name, equals, value = word[2:].partition("=")
        key = name.replace("-", "_")
        target = COURSE_NAMES.get(key)
        if target is not None:
            name = ".".join(target).replace("_", "-")
        else:
            section, _, field = key.partition(".")
            target = (section, field)
            if target in FORMER_NAMES:
                target = (section, FORMER_NAMES[target])
                name = ".".join(target).replace("_", "-")
        found.append(f"--{name}{equals}{COURSE_VALUES.get(target, {}).get(value, value)}")
    return found


def _put(found: dict[str, Any], section: str, field: str, value: Any, name: str) -> None:
    into = found.setdefault(section, {})
    if not isinstance(into, dict):
        raise ConfigError(f"config.{section} must be a table of fields, not {into!r}")
    if field in into:
        raise ConfigError(
            f"{section}.{field} is given twice, once as {name}", hint="leave one of them out"
        )
    known = COURSE_VALUES.get((section, field), {})
    into[field] = known.get(value, value) if isinstance(value, str | None) else value
